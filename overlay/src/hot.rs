//! What this node has lately learnt of the keys that it asks for itself, so that it does not ask the
//! same again and again: in a crowd each node is the first to hold back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::Key;
use crate::limits::{HOT_FOR, MAX_HOT_KEYS, REPEAT_AFTER};
use crate::output::Outcome;
use crate::pointer::Pointer;
use crate::time::Instant;
use crate::wire::Note;

/// Keys of this node's own queries.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    keys: BTreeMap<Key, Memory>,
}

#[derive(Debug)]
struct Memory {
    noted: Instant,
    /// When a node was met that is loaded with this key.
    loaded: Option<Instant>,
    /// When a put last ended because enough nodes said so.
    crowd: Option<Instant>,
    /// Who had it, and until when that may be said again.
    found: Option<(Instant, Outcome)>,
    /// What was put, until when it would only be repeated, and how many took it.
    put: Option<(Note, Instant, u8)>,
}

impl Hot {
    /// Whether nodes near the key are loaded with it.
    pub(crate) fn is_hot(&self, now: Instant, key: &Key) -> bool {
        let loaded = self.keys.get(key).and_then(|memory| memory.loaded);
        loaded.is_some_and(|at| now.since(at) < HOT_FOR)
    }

    /// Whether a put has lately met a crowd, so that the next one need not ask as many.
    pub(crate) fn is_crowded(&self, now: Instant, key: &Key) -> bool {
        let crowd = self.keys.get(key).and_then(|memory| memory.crowd);
        crowd.is_some_and(|at| now.since(at) < HOT_FOR)
    }

    /// The answer of less than [`HOT_FOR`] ago about a hot key, if all it names are still to be had.
    pub(crate) fn found(&self, now: Instant, key: &Key) -> Option<Outcome> {
        let (until, outcome) = self.keys.get(key)?.found.as_ref()?;
        (self.is_hot(now, key) && now < *until).then(|| outcome.clone())
    }

    /// How many nodes took the same put a moment ago.
    pub(crate) fn repeats(&self, now: Instant, key: &Key, pointer: &Pointer) -> Option<u8> {
        let (note, until, copies) = self.keys.get(key)?.put?;
        (note == Note::of(pointer) && now < until).then_some(copies)
    }

    /// A query about the key has met a loaded node.
    pub(crate) fn note_loaded(&mut self, now: Instant, key: &Key) {
        self.memory(now, key).loaded = Some(now);
    }

    /// A put has ended at loaded nodes.
    pub(crate) fn note_crowd(&mut self, now: Instant, key: &Key) {
        self.memory(now, key).crowd = Some(now);
    }

    /// A get or a claim has found holders, the first of which ends after `ttl`. Remembered for hot
    /// keys alone: of others the next query may know better.
    pub(crate) fn note_found(&mut self, now: Instant, key: &Key, outcome: &Outcome, ttl: Duration) {
        if self.is_hot(now, key) {
            self.memory(now, key).found = Some((now + HOT_FOR.min(ttl), outcome.clone()));
        }
    }

    pub(crate) fn note_put(
        &mut self,
        now: Instant,
        key: &Key,
        pointer: &Pointer,
        ttl: Duration,
        copies: u8,
    ) {
        // A renewal is due at half of its time, counted from when the put began.
        let until = now + REPEAT_AFTER.min(ttl / 4);
        self.memory(now, key).put = Some((Note::of(pointer), until, copies));
    }

    /// The answer was of no use.
    pub(crate) fn forget_found(&mut self, key: &Key) {
        if let Some(memory) = self.keys.get_mut(key) {
            memory.found = None;
        }
    }

    /// What was put is taken back.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.keys.remove(key);
    }

    fn memory(&mut self, now: Instant, key: &Key) -> &mut Memory {
        if self.keys.len() >= MAX_HOT_KEYS && !self.keys.contains_key(key) {
            self.keys.retain(|_, memory| now.since(memory.noted) < HOT_FOR);
        }
        if self.keys.len() >= MAX_HOT_KEYS && !self.keys.contains_key(key) {
            self.keys.pop_first();
        }
        let new = || Memory { noted: now, loaded: None, crowd: None, found: None, put: None };
        let memory = self.keys.entry(*key).or_insert_with(new);
        memory.noted = now;
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::{Contact, Identity, Services};
    use crate::id::Id;
    use crate::level::Level;
    use crate::pointer::State;

    const KEY: Key = Id([1; 20]);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn pointer(state: State) -> Pointer {
        let holder = Contact {
            identity: Identity([1; 32]),
            addr: "192.0.2.1:1".parse().unwrap(),
            slot: 0,
            peer_port: 1,
            services: Services::PROXY,
        };
        Pointer { holder, state, length: None, root: None }
    }

    #[test]
    fn only_hot_keys_live_on_old_answers() {
        let mut hot = Hot::default();
        let pointers = vec![pointer(State::Whole)];
        let found = Outcome::Found { pointers, level: Level::GLOBAL, hops: 1, by: None };
        let hour = Duration::from_secs(3_600);
        hot.note_found(at(0), &KEY, &found, hour);
        assert_eq!(hot.found(at(1), &KEY), None);
        hot.note_loaded(at(1), &KEY);
        hot.note_found(at(2), &KEY, &found, hour);
        assert_eq!(hot.found(at(60), &KEY), Some(found.clone()));
        assert_eq!(hot.found(at(61), &KEY), None, "it is no longer hot");
        assert!(!hot.is_hot(at(61), &KEY));
        hot.note_loaded(at(62), &KEY);
        hot.note_found(at(62), &KEY, &found, Duration::from_secs(20));
        assert_eq!(hot.found(at(81), &KEY), Some(found));
        assert_eq!(hot.found(at(82), &KEY), None, "its time to live has ended");
    }

    #[test]
    fn only_the_same_put_is_a_repeat() {
        let mut hot = Hot::default();
        hot.note_put(at(0), &KEY, &pointer(State::Receiving), Duration::from_secs(20), 3);
        assert_eq!(hot.repeats(at(4), &KEY, &pointer(State::Receiving)), Some(3));
        assert_eq!(hot.repeats(at(4), &KEY, &pointer(State::Whole)), None);
        assert_eq!(hot.repeats(at(5), &KEY, &pointer(State::Receiving)), None, "it is a renewal");
        hot.note_put(at(10), &KEY, &pointer(State::Whole), Duration::from_secs(3_600), 1);
        assert_eq!(hot.repeats(at(41), &KEY, &pointer(State::Whole)), None);
        hot.forget(&KEY);
        assert_eq!(hot.repeats(at(11), &KEY, &pointer(State::Whole)), None);
    }

    #[test]
    fn it_is_bounded() {
        let mut hot = Hot::default();
        for name in 0..2 * MAX_HOT_KEYS {
            hot.note_loaded(at(0), &Key::of_name(&name.to_be_bytes()));
        }
        assert_eq!(hot.keys.len(), MAX_HOT_KEYS);
    }
}
