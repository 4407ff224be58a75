//! How much work strangers may cause: token buckets in the form of GCRA (ITU-T I.371).

use std::net::IpAddr;
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::address::{Prefix, prefix};
use crate::time::Instant;
use crate::transport::limits::{
    HANDSHAKE_BURST, HANDSHAKES_PER_SECOND, PREFIX_COUNTERS, PREFIX_HANDSHAKE_BURST,
    PREFIX_HANDSHAKES_PER_SECOND, RESET_BURST, RESETS_PER_SECOND,
};

/// Admits handshakes and resets at bounded rates, in constant memory.
#[derive(Debug)]
pub(crate) struct Gate {
    secret: [u8; 16],
    handshakes: Bucket,
    prefixes: Vec<Bucket>,
    resets: Bucket,
}

impl Gate {
    /// A gate at rest; the secret keeps attackers from choosing prefixes that share a counter.
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self {
            secret,
            handshakes: Bucket::default(),
            prefixes: vec![Bucket::default(); PREFIX_COUNTERS],
            resets: Bucket::default(),
        }
    }

    /// Whether a handshake of `from`, or a question who we are, may be answered. Private and loopback
    /// addresses have no prefix: their owner can answer for them, and many nodes of a test share one.
    pub(crate) fn admit_handshake(&mut self, now: Instant, from: IpAddr) -> bool {
        // The prefix is asked first: a flooder over its share takes nothing of the common one.
        let counter = prefix(from).map(|prefix| self.counter(prefix));
        let own = counter.is_none_or(|counter| {
            self.prefixes[counter].admit(now, PREFIX_HANDSHAKES_PER_SECOND, PREFIX_HANDSHAKE_BURST)
        });
        own && self.handshakes.admit(now, HANDSHAKES_PER_SECOND, HANDSHAKE_BURST)
    }

    /// Whether a Reset may be sent.
    pub(crate) fn admit_reset(&mut self, now: Instant) -> bool {
        self.resets.admit(now, RESETS_PER_SECOND, RESET_BURST)
    }

    fn counter(&self, prefix: Prefix) -> usize {
        let hash = Sha1::new().chain_update(self.secret);
        let hash = match prefix {
            Prefix::V4(octets) => hash.chain_update(octets),
            Prefix::V6(octets) => hash.chain_update(octets),
        };
        let hash = hash.finalize();
        usize::from(u16::from_be_bytes([hash[0], hash[1]])) % PREFIX_COUNTERS
    }
}

/// The instant at which the bucket will be full again (GCRA's theoretical arrival time).
#[derive(Debug, Clone, Copy, Default)]
struct Bucket(Instant);

impl Bucket {
    fn admit(&mut self, now: Instant, per_second: u64, burst: u64) -> bool {
        let interval = Duration::from_micros(1_000_000 / per_second);
        let full = self.0.max(now);
        let room = interval.saturating_mul(u32::try_from(burst - 1).unwrap_or(u32::MAX));
        let admitted = full.since(now) <= room;
        if admitted {
            self.0 = full + interval;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(gate: &mut Gate, at_ms: u64, from: &str, tries: usize) -> u64 {
        let now = Instant::from_micros(at_ms * 1_000);
        let from = from.parse().unwrap();
        (0..tries).map(|_| u64::from(gate.admit_handshake(now, from))).sum()
    }

    #[test]
    fn a_prefix_has_its_share_and_no_more() {
        let mut gate = Gate::new([7; 16]);
        assert_eq!(admitted(&mut gate, 0, "192.0.2.1", 500), PREFIX_HANDSHAKE_BURST);
        assert_eq!(admitted(&mut gate, 0, "192.0.2.200", 500), 0, "same /24");
        assert_eq!(admitted(&mut gate, 1_000, "192.0.2.1", 500), PREFIX_HANDSHAKES_PER_SECOND);
        assert_eq!(admitted(&mut gate, 0, "2001:db8::1", 500), PREFIX_HANDSHAKE_BURST);
        assert_eq!(admitted(&mut gate, 0, "2001:db8:0:9::1", 500), 0, "same /48");
    }

    #[test]
    fn all_together_have_a_bound() {
        let mut gate = Gate::new([7; 16]);
        assert_eq!(admitted(&mut gate, 0, "127.0.0.1", 5_000), HANDSHAKE_BURST);
        assert_eq!(admitted(&mut gate, 0, "192.0.2.1", 1), 0);
        assert_eq!(admitted(&mut gate, 1_000, "127.0.0.1", 5_000), HANDSHAKES_PER_SECOND);
    }

    #[test]
    fn resets_have_a_bound() {
        let mut gate = Gate::new([7; 16]);
        let now = Instant::from_micros(1);
        let sent: u64 = (0..1_000).map(|_| u64::from(gate.admit_reset(now))).sum();
        assert_eq!(sent, RESET_BURST);
    }
}
