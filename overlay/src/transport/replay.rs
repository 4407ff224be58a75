//! Which nonces of a session have been seen (RFC 4303, section 3.4.3).

/// Nonces up to this far below the highest are still told apart; lower ones count as seen. A path
/// that reorders by more than 128 datagrams of one session is no better than one that loses them.
const WIDTH: u64 = u128::BITS as u64;

/// A sliding window over the nonces of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReplayWindow {
    /// One more than the highest nonce seen; 0 before the first.
    next: u64,
    /// Bit i stands for the nonce `next - 1 - i`.
    seen: u128,
}

impl ReplayWindow {
    /// Whether `nonce` may be new. Asked before the costly decryption.
    pub(crate) fn is_fresh(&self, nonce: u64) -> bool {
        if nonce >= self.next {
            return true;
        }
        let age = self.next - 1 - nonce;
        age < WIDTH && self.seen & (1 << age) == 0
    }

    /// Marks `nonce` as seen; only for authenticated datagrams. Nonces stay below `u64::MAX`.
    pub(crate) fn mark(&mut self, nonce: u64) {
        if nonce >= self.next {
            let shift = nonce + 1 - self.next;
            self.seen = if shift < WIDTH { self.seen << shift } else { 0 };
            self.seen |= 1;
            self.next = nonce + 1;
        } else if self.next - 1 - nonce < WIDTH {
            self.seen |= 1 << (self.next - 1 - nonce);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn check(nonces: &[u64], expect: &[bool]) {
        let mut window = ReplayWindow::default();
        let fresh: Vec<bool> = nonces
            .iter()
            .map(|&nonce| {
                let fresh = window.is_fresh(nonce);
                window.mark(nonce);
                fresh
            })
            .collect();
        assert_eq!(fresh, expect, "{nonces:?}");
    }

    #[test]
    fn each_nonce_passes_once_in_any_order() {
        check(&[0, 0], &[true, false]);
        check(&[1, 0, 1, 0], &[true, true, false, false]);
        check(&[5, 132, 5, 4], &[true, true, false, false]);
        check(&[0, 128, 1, 0], &[true, true, true, false]);
        check(&[u64::MAX - 1, 0, u64::MAX - 2], &[true, false, true]);
    }

    proptest! {
        #[test]
        fn nothing_passes_twice(nonces in prop::collection::vec(0_u64..400, 0..400)) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            for nonce in nonces {
                let near = seen.last().is_none_or(|&top| nonce + WIDTH > top);
                prop_assert_eq!(window.is_fresh(nonce), near && !seen.contains(&nonce));
                window.mark(nonce);
                seen.insert(nonce);
            }
        }
    }
}
