//! The memory for bodies that are arriving, and for those that had to leave the store while they are still
//! read: reserved before it is used, given back when it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{LARGE_SHARE, SMALL_BODY};

/// A number of octets that all flights share.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    used: Arc<AtomicU64>,
    limit: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: Arc::default(), limit }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Octets that are in use whether there is room for them or not: others get less.
    pub(crate) fn pin(&self, octets: u64) -> Reservation {
        self.used.fetch_add(octets, Ordering::Relaxed);
        Reservation { budget: self.clone(), held: octets }
    }

    /// An empty reservation, to be grown.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), held: 0 }
    }
}

/// What one flight holds of the budget; given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    held: u64,
}

impl Reservation {
    /// Makes sure that `total` octets are held; false, and nothing changed, if there is no room.
    /// Some room is left to small bodies, so that no large one turns all others away.
    pub(crate) fn grow_to(&mut self, total: u64) -> bool {
        let Some(more) = total.checked_sub(self.held).filter(|more| *more > 0) else { return true };
        let small = total <= SMALL_BODY;
        let limit = if small { self.budget.limit } else { self.budget.limit / 8 * LARGE_SHARE };
        let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= limit);
        let grown = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if grown.is_ok() {
            self.held = total;
        }
        grown.is_ok()
    }

    /// Gives back all above `total`.
    pub(crate) fn shrink_to(&mut self, total: u64) {
        let less = self.held.saturating_sub(total);
        self.budget.used.fetch_sub(less, Ordering::Relaxed);
        self.held -= less;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_never_exceeds_the_limit_and_comes_back() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.reservation(), budget.reservation());
        assert!(a.grow_to(60) && a.grow_to(10));
        assert!(!b.grow_to(41) && b.grow_to(40));
        assert!(!a.grow_to(u64::MAX));
        a.shrink_to(20);
        assert_eq!(budget.used(), 60);
        assert!(b.grow_to(80));
        drop((a, b));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let budget = Budget::new(16 * SMALL_BODY);
        let (mut large, mut small) = (budget.reservation(), budget.reservation());
        assert!(!large.grow_to(15 * SMALL_BODY));
        assert!(large.grow_to(14 * SMALL_BODY));
        assert!(small.grow_to(SMALL_BODY));
        assert!(!small.grow_to(SMALL_BODY + 1));
        let pinned = budget.pin(100 * SMALL_BODY);
        assert!(!budget.reservation().grow_to(1));
        drop(pinned);
        assert!(budget.reservation().grow_to(1));
    }
}
