//! This node's part of the index: Coral's sloppy storage (NSDI 2004, section 3.2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use coralline_config::Rules;

use crate::address::prefix;
use crate::contact::{Contact, Identity};
use crate::except::Passed;
use crate::id::Key;
use crate::limits::{BRIEF_TTL, MAX_PROVISIONAL, PROVISIONAL_TTL, SOURCE_SHARE};
use crate::load::Load;
use crate::pointer::Pointer;
use crate::sources::{Source, Sources};
use crate::time::Instant;
use crate::wire::{Refusal, Value};

/// Pointers by key, each until its time to live ends.
#[derive(Debug)]
pub(crate) struct Store {
    rules: Rules,
    shelves: BTreeMap<Key, Shelf>,
    expiries: BTreeSet<(Instant, Key, Identity)>,
    sources: Sources,
    /// Puts that passed, and gets, of late.
    puts: Load,
    gets: Load,
    /// When the latest provisional claims were granted.
    provisional: VecDeque<Instant>,
}

/// What a put meets at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) full: bool,
    pub(crate) loaded: bool,
}

/// How a claim was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Claimed,
    Held(Vec<Value>),
    Refused(Refusal),
}

#[derive(Debug)]
struct Shelf {
    values: Vec<Kept>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    pointer: Pointer,
    expires: Instant,
    /// Whose it is counted as.
    source: Source,
}

impl Store {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            shelves: BTreeMap::new(),
            expiries: BTreeSet::new(),
            sources: Sources::default(),
            puts: Load::new(rules.passes),
            gets: Load::new(rules.beta),
            provisional: VecDeque::new(),
        }
    }

    /// What lives under `key`, the longest-lived first.
    pub(crate) fn values(&self, now: Instant, key: &Key) -> Vec<Value> {
        let Some(shelf) = self.shelves.get(key) else { return Vec::new() };
        let mut values: Vec<_> = shelf.alive(now).map(|kept| kept.value(now)).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.ttl));
        values
    }

    /// A put of `holder` passes by: whether there is room, and whether too many have passed. What
    /// this node itself puts for [`BRIEF_TTL`] or less does not count: it may renew as often as it
    /// must, but holds back where others crowd.
    pub(crate) fn room(
        &mut self,
        now: Instant,
        key: &Key,
        holder: &Identity,
        ttl: Duration,
        is_own: bool,
    ) -> Room {
        let ttl = ttl.min(self.rules.max_ttl);
        let shelf = self.shelves.get(key);
        let full =
            shelf.is_some_and(|shelf| shelf.is_full(now, holder, ttl, self.rules.values_per_key));
        let is_renewal = is_own && ttl <= BRIEF_TTL;
        let passes =
            if is_renewal { self.puts.would_pass(now, key) } else { self.puts.passes(now, key) };
        Room { full, loaded: !passes }
    }

    /// A get passes by: whether too many have of late.
    pub(crate) fn is_loaded_by_get(&mut self, now: Instant, key: &Key) -> bool {
        !self.gets.passes(now, key)
    }

    /// Stores a pointer for at most [`Rules::max_ttl`], in place of the same holder's earlier one.
    pub(crate) fn put(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
    ) -> Result<(), Refusal> {
        let (holder, ttl) = (pointer.holder.identity, ttl.min(self.rules.max_ttl));
        self.expire(now);
        let Some(shelf) = self.shelves.get_mut(&key) else {
            self.make_room(Source::of(&pointer.holder))?;
            self.insert(now, key, pointer, ttl);
            return Ok(());
        };
        if shelf.values.iter().any(|kept| kept.is_by(&holder)) {
            self.remove(&key, &holder);
            self.insert(now, key, pointer, ttl);
            return Ok(());
        }
        if shelf.is_full(now, &holder, ttl, self.rules.values_per_key)
            || shelf.has_neighbour(&pointer.holder)
        {
            return Err(Refusal::Full);
        }
        if shelf.values.len() >= self.rules.values_per_key {
            self.remove_first(&key);
        }
        self.make_room(Source::of(&pointer.holder))?;
        self.insert(now, key, pointer, ttl);
        Ok(())
    }

    /// The same for a pointer whose sender has found these holders useless: if they alone leave no room
    /// for it, it has one place beside them, from which the next such pointer takes it.
    pub(crate) fn put_beside(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
        passed: &Passed,
    ) -> Result<(), Refusal> {
        let stored = self.put(now, key, pointer, ttl);
        let kept = self.shelves.get(&key).map_or(&[][..], |shelf| &shelf.values);
        let is_passed = |kept: &Kept| passed.contains(&kept.pointer.holder.identity);
        if stored != Err(Refusal::Full) || !kept.iter().all(is_passed) {
            return stored;
        }
        if kept.len() > self.rules.values_per_key {
            self.remove_first(&key);
        }
        self.make_room(Source::of(&pointer.holder))?;
        self.insert(now, key, pointer, ttl.min(self.rules.max_ttl));
        Ok(())
    }

    /// Stores a pointer only if nobody else has one here: the one decision about a key. From an
    /// address that is not proven it counts for [`PROVISIONAL_TTL`], and changes nothing of the
    /// holder's own.
    pub(crate) fn claim(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
        proven: bool,
        passed: &Passed,
    ) -> Decision {
        let is_own = |value: &Value| value.pointer.holder.identity == pointer.holder.identity;
        let (own, others): (Vec<_>, Vec<_>) = self.values(now, &key).into_iter().partition(is_own);
        let useless = |value: &Value| passed.contains(&value.pointer.holder.identity);
        let others: Vec<_> = others.into_iter().filter(|value| !useless(value)).collect();
        if !others.is_empty() {
            return Decision::Held(others);
        }
        if !proven {
            return self.claim_provisionally(now, key, pointer, ttl, !own.is_empty(), passed);
        }
        let put = self.put_beside(now, key, pointer, ttl, passed);
        put.map_or_else(Decision::Refused, |()| Decision::Claimed)
    }

    fn claim_provisionally(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
        has_own: bool,
        passed: &Passed,
    ) -> Decision {
        if has_own {
            return Decision::Claimed;
        }
        while self.provisional.front().is_some_and(|at| now.since(*at) >= PROVISIONAL_TTL) {
            self.provisional.pop_front();
        }
        if self.provisional.len() >= MAX_PROVISIONAL {
            return Decision::Refused(Refusal::Unproven);
        }
        self.provisional.push_back(now);
        let put = self.put_beside(now, key, pointer, ttl.min(PROVISIONAL_TTL), passed);
        put.map_or_else(Decision::Refused, |()| Decision::Claimed)
    }

    /// Keeps what another node hands over, counted as its `source`'s: in no other's place, and never in
    /// that of what the holder itself has said.
    pub(crate) fn keep(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
        source: Source,
    ) -> Result<(), Refusal> {
        let ttl = ttl.min(self.rules.max_ttl);
        if let Some(shelf) = self.shelves.get(&key) {
            let is_known = shelf.values.iter().any(|kept| kept.is_by(&pointer.holder.identity));
            let is_full = shelf.values.len() >= self.rules.values_per_key;
            if is_known || is_full || shelf.has_neighbour(&pointer.holder) {
                return Err(Refusal::Full);
            }
        }
        self.make_room(source)?;
        self.insert_of(now, key, pointer, ttl, source);
        Ok(())
    }

    /// The first key after this one, or of all.
    pub(crate) fn key_after(&self, key: Option<&Key>) -> Option<Key> {
        let after = key.map_or(Bound::Unbounded, |key| Bound::Excluded(*key));
        self.shelves.range((after, Bound::Unbounded)).next().map(|(key, _)| *key)
    }

    /// Takes back what `holder` has stored under `key`.
    pub(crate) fn remove(&mut self, key: &Key, holder: &Identity) {
        let Some(shelf) = self.shelves.get_mut(key) else { return };
        let Some(at) = shelf.values.iter().position(|kept| kept.is_by(holder)) else { return };
        let kept = shelf.values.remove(at);
        if shelf.values.is_empty() {
            self.shelves.remove(key);
        }
        self.expiries.remove(&(kept.expires, *key, *holder));
        self.sources.remove(kept.source, &(kept.expires, *key, *holder));
    }

    /// Removes the value of a key that ends first.
    fn remove_first(&mut self, key: &Key) {
        let shelf = self.shelves.get(key);
        let first = shelf.and_then(|shelf| shelf.values.iter().min_by_key(|kept| kept.expires));
        if let Some(holder) = first.map(|kept| kept.pointer.holder.identity) {
            self.remove(key, &holder);
        }
    }

    /// Drops what has outlived its time.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((expires, key, holder)) = self.expiries.first().copied() {
            if expires > now {
                break;
            }
            self.remove(&key, &holder);
        }
    }

    /// When something expires next.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(expires, ..)| *expires)
    }

    pub(crate) fn keys(&self) -> usize {
        self.shelves.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.expiries.len()
    }

    /// Makes room for one more value of this source. When all is full, the source that has most gives
    /// up the value that ends first, unless it is this one, or no larger.
    fn make_room(&mut self, source: Source) -> Result<(), Refusal> {
        let own = self.sources.count(&source);
        if own >= self.rules.max_values / SOURCE_SHARE {
            return Err(Refusal::Capacity);
        }
        if self.len() < self.rules.max_values {
            return Ok(());
        }
        match self.sources.largest() {
            Some((most, (_, key, identity))) if most > own + 1 => {
                self.remove(&key, &identity);
                Ok(())
            }
            _ => Err(Refusal::Capacity),
        }
    }

    fn insert(&mut self, now: Instant, key: Key, pointer: Pointer, ttl: Duration) {
        self.insert_of(now, key, pointer, ttl, Source::of(&pointer.holder));
    }

    fn insert_of(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
        source: Source,
    ) {
        let (expires, holder) = (now + ttl, pointer.holder.identity);
        let shelf = self.shelves.entry(key).or_insert(Shelf { values: Vec::new() });
        shelf.values.push(Kept { pointer, expires, source });
        self.expiries.insert((expires, key, holder));
        self.sources.insert(source, (expires, key, holder));
    }
}

impl Shelf {
    fn alive(&self, now: Instant) -> impl Iterator<Item = &Kept> {
        self.values.iter().filter(move |kept| kept.expires > now)
    }

    /// Enough others, each of which will last at least half as long as the new one.
    fn is_full(&self, now: Instant, holder: &Identity, ttl: Duration, most: usize) -> bool {
        let lasting = |kept: &&Kept| !kept.is_by(holder) && kept.expires.since(now) >= ttl / 2;
        self.alive(now).filter(lasting).count() >= most
    }

    fn has_neighbour(&self, holder: &Contact) -> bool {
        let own = prefix(holder.addr.ip());
        let shared = |kept: &Kept| prefix(kept.pointer.holder.addr.ip()) == own;
        own.is_some() && self.values.iter().any(shared)
    }
}

impl Kept {
    fn is_by(&self, holder: &Identity) -> bool {
        self.pointer.holder.identity == *holder
    }

    const fn value(&self, now: Instant) -> Value {
        Value { pointer: self.pointer, ttl: self.expires.since(now) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::contact::Services;
    use crate::except::Except;
    use crate::id::Id;
    use crate::pointer::State;

    const KEY: Key = Id([5; 20]);

    fn pointer(by: u8) -> Pointer {
        let holder = Contact {
            identity: Identity([by; 32]),
            addr: SocketAddr::from(([127, 0, 0, by], 7400)),
            slot: 0,
            peer_port: 7400,
            services: Services::PROXY,
        };
        Pointer { holder, state: State::Whole, length: None, root: None }
    }

    fn public(ip: [u8; 4]) -> Pointer {
        let mut pointer = pointer(ip[3]);
        pointer.holder.addr = SocketAddr::from((ip, 7400));
        pointer
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn holders(store: &Store, now: Instant) -> Vec<u8> {
        let mut by: Vec<_> =
            store.values(now, &KEY).iter().map(|v| v.pointer.holder.identity.0[0]).collect();
        by.sort_unstable();
        by
    }

    #[test]
    fn four_lasting_values_are_full() {
        let mut store = Store::new(Rules::default());
        for by in 1..=4 {
            assert_eq!(store.put(at(0), KEY, pointer(by), secs(3_600)), Ok(()));
        }
        assert_eq!(store.put(at(1), KEY, pointer(5), secs(3_600)), Err(Refusal::Full));
        assert!(store.room(at(1), &KEY, &Identity([5; 32]), secs(3_600), false).full);
        assert_eq!(store.put(at(1), KEY, pointer(2), secs(3_600)), Ok(()), "its own is replaced");
        assert_eq!(holders(&store, at(1)), [1, 2, 3, 4]);
    }

    #[test]
    fn a_long_reference_displaces_the_shortest() {
        let mut store = Store::new(Rules::default());
        for by in 1..=4 {
            assert_eq!(store.put(at(0), KEY, pointer(by), secs(18 + u64::from(by))), Ok(()));
        }
        assert_eq!(store.put(at(1), KEY, pointer(5), secs(7_200)), Ok(()));
        assert_eq!(holders(&store, at(1)), [2, 3, 4, 5]);
    }

    #[test]
    fn values_end_and_never_outlive_the_cap() {
        let mut store = Store::new(Rules::default());
        store.put(at(0), KEY, pointer(1), secs(20)).unwrap();
        store.put(at(0), KEY, pointer(2), secs(100_000)).unwrap();
        assert_eq!(store.values(at(20), &KEY).len(), 1);
        store.expire(at(7_199));
        assert_eq!((store.keys(), store.len(), store.next_expiry()), (1, 1, Some(at(7_200))));
        store.expire(at(7_200));
        assert_eq!((store.keys(), store.len(), store.next_expiry()), (0, 0, None));
        assert_eq!(store.sources.len(), 0);
    }

    #[test]
    fn loaded_by_puts_even_where_nothing_is_stored() {
        let mut store = Store::new(Rules::default());
        let mut passes = |now| !store.room(now, &KEY, &Identity([9; 32]), secs(60), false).loaded;
        assert_eq!((0..50).filter(|_| passes(at(0))).count(), 5);
        assert_eq!((1..=60).filter(|second| passes(at(*second))).count(), 1, "a minute later");
    }

    #[test]
    fn a_claim_is_decided_once() {
        let mut store = Store::new(Rules::default());
        assert_eq!(
            store.claim(at(0), KEY, pointer(1), secs(20), true, &Passed::default()),
            Decision::Claimed
        );
        assert_eq!(
            store.claim(at(1), KEY, pointer(1), secs(20), true, &Passed::default()),
            Decision::Claimed,
            "a repeat"
        );
        let Decision::Held(by) =
            store.claim(at(2), KEY, pointer(2), secs(20), true, &Passed::default())
        else {
            panic!()
        };
        assert_eq!(by[0].pointer, pointer(1));
        store.remove(&KEY, &Identity([1; 32]));
        assert_eq!(
            store.claim(at(3), KEY, pointer(2), secs(20), true, &Passed::default()),
            Decision::Claimed
        );
        assert_eq!(
            store.claim(at(23), KEY, pointer(3), secs(20), true, &Passed::default()),
            Decision::Claimed,
            "it ended"
        );
    }

    #[test]
    fn a_claim_that_passes_holders_by_is_decided_once_as_well() {
        let mut store = Store::new(Rules::default());
        for by in 1..=4 {
            store.put(at(0), KEY, pointer(by), secs(3_600)).unwrap();
        }
        let passing = |some: &[u8]| {
            let mut except = Except::default();
            some.iter().for_each(|by| except.add(&[pointer(*by)], None));
            except.passed()
        };
        let mut claim = |by, passed: &[u8]| match store.claim(
            at(1),
            KEY,
            pointer(by),
            secs(20),
            true,
            &passing(passed),
        ) {
            Decision::Claimed => vec![by],
            Decision::Held(v) => v.iter().map(|v| v.pointer.holder.identity.0[0]).collect(),
            Decision::Refused(_) => Vec::new(),
        };
        assert_eq!(claim(5, &[1, 2, 3]), [4], "one may be alive");
        assert_eq!(claim(5, &[1, 2, 3, 4]), [5]);
        assert_eq!(claim(6, &[1, 2, 3, 4]), [5]);
        assert_eq!(claim(5, &[1, 2, 3, 4]), [5], "a repeat");
        assert_eq!(claim(6, &[1, 2, 3, 4, 5]), [6], "it takes the one place beside them");
        assert_eq!(holders(&store, at(1)), [1, 2, 3, 4, 6]);
    }

    #[test]
    fn one_value_of_a_public_neighbourhood() {
        let mut store = Store::new(Rules::default());
        assert_eq!(store.put(at(0), KEY, public([192, 0, 2, 1]), secs(60)), Ok(()));
        let refused = store.put(at(0), KEY, public([192, 0, 2, 2]), secs(60));
        assert_eq!(refused, Err(Refusal::Full));
        assert_eq!(store.put(at(0), KEY, public([192, 0, 3, 2]), secs(60)), Ok(()));
    }

    #[test]
    fn one_neighbourhood_cannot_fill_the_index_whatever_its_identities() {
        let mut store = Store::new(Rules::default());
        let (most, each) = (65_536, 65_536 / SOURCE_SHARE);
        let key = |i: usize| Key::of_name(&i.to_be_bytes());
        let by = |net: u8, i: usize| {
            let mut pointer = public([192, 0, net, 1 + i.to_be_bytes()[7] % 200]);
            pointer.holder.identity.0[..8].copy_from_slice(&i.to_be_bytes());
            pointer
        };
        let fill = |store: &mut Store, net: u8, from: usize| {
            let keys = from..from + each + 10;
            keys.filter(|i| store.put(at(0), key(*i), by(net, *i), secs(60)).is_ok()).count()
        };
        assert_eq!(fill(&mut store, 1, 0), each);
        assert_eq!(store.put(at(0), KEY, pointer(2), secs(60)), Ok(()));
        for net in 2..=4 {
            fill(&mut store, net, usize::from(net) << 32);
        }
        assert_eq!(store.len(), most);
        assert_eq!(store.put(at(0), key(usize::MAX), public([192, 0, 9, 9]), secs(60)), Ok(()));
        assert_eq!(store.len(), most, "one of the largest has made room");
        let refused = store.put(at(0), key(usize::MAX), by(1, usize::MAX), secs(60));
        assert!(refused.is_err());
        assert_eq!(store.values(at(1), &KEY).len(), 1, "the small one is left alone");
    }

    proptest! {
        /// Against a plain list of what was put.
        #[test]
        fn books_balance(
            ops in prop::collection::vec((1_u8..9, 0_u64..90, 0_u64..5, 0_u8..3), 0..200),
        ) {
            let none = Passed::default();
            let (mut store, mut now) = (Store::new(Rules::default()), 0);
            for (by, ttl, step, op) in ops {
                now += step;
                match op {
                    0 => _ = store.put(at(now), KEY, pointer(by), secs(ttl)),
                    1 => {
                        _ = store.claim(at(now), KEY, pointer(by), secs(ttl), true, &none);
                    }
                    _ => store.remove(&KEY, &Identity([by; 32])),
                }
                let held: usize = store.shelves.values().map(|s| s.values.len()).sum();
                prop_assert_eq!(held, store.len());
                prop_assert_eq!(held, store.sources.len());
                prop_assert!(store.shelves.values().all(|s| (1..=4).contains(&s.values.len())));
                let mut unique = holders(&store, at(now));
                unique.dedup();
                prop_assert_eq!(unique, holders(&store, at(now)));
            }
        }
    }
}
