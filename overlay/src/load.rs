//! How often each key was asked for in the last minute: whether this node is loaded (Coral, NSDI
//! 2004, section 4.2).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::id::Key;
use crate::limits::MAX_COUNTED_KEYS;
use crate::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// Requests by key. Exact over any minute, so that no burst gets past.
#[derive(Debug)]
pub(crate) struct Load {
    most: usize,
    keys: BTreeMap<Key, VecDeque<Instant>>,
    swept: Instant,
}

impl Load {
    /// Lets `most` pass for each key in any minute.
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, keys: BTreeMap::new(), swept: Instant::from_micros(0) }
    }

    /// Whether a request would pass now; it is not counted.
    pub(crate) fn would_pass(&self, now: Instant, key: &Key) -> bool {
        let recent = |at: &&Instant| now.since(**at) < MINUTE;
        self.keys.get(key).is_none_or(|times| times.iter().filter(recent).count() < self.most)
    }

    /// Counts a request that may pass, unless the most have passed within the last
    /// minute.
    pub(crate) fn passes(&mut self, now: Instant, key: &Key) -> bool {
        self.sweep(now);
        if self.keys.len() >= MAX_COUNTED_KEYS && !self.keys.contains_key(key) {
            return true;
        }
        let times = self.keys.entry(*key).or_default();
        while times.front().is_some_and(|first| now.since(*first) >= MINUTE) {
            times.pop_front();
        }
        let passes = times.len() < self.most;
        if passes {
            times.push_back(now);
        }
        passes
    }

    /// Drops what no longer counts, each minute.
    fn sweep(&mut self, now: Instant) {
        if now.since(self.swept) >= MINUTE {
            self.swept = now;
            self.keys.retain(|_, times| times.back().is_some_and(|at| now.since(*at) < MINUTE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    const MOST: usize = 12;

    #[test]
    fn twelve_pass_in_any_minute() {
        let (mut load, key) = (Load::new(MOST), Id([1; 20]));
        let mut passed = Vec::new();
        for tenth in 0..3_000 {
            let now = Instant::from_micros(tenth * 100_000);
            if load.passes(now, &key) {
                passed.push(now);
            }
        }
        assert_eq!(passed.len(), 5 * MOST);
        assert!(!load.would_pass(Instant::from_micros(299_900_000), &key));
        assert!(load.would_pass(Instant::from_micros(400_000_000), &key));
        for (at, first) in passed.iter().enumerate() {
            let within = passed[at..].iter().filter(|t| t.since(*first) < MINUTE).count();
            assert!(within <= MOST);
        }
        assert!(load.passes(Instant::from_micros(299_900_000), &Id([2; 20])), "keys are apart");
    }

    #[test]
    fn the_past_is_forgotten() {
        let mut load = Load::new(MOST);
        for name in 0..MAX_COUNTED_KEYS + 9 {
            assert!(load.passes(Instant::default(), &Key::of_name(&name.to_be_bytes())));
        }
        assert_eq!(load.keys.len(), MAX_COUNTED_KEYS);
        load.passes(Instant::from_micros(61_000_000), &Id([1; 20]));
        assert_eq!(load.keys.len(), 1);
    }
}
