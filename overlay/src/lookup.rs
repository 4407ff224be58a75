//! The iterative search for the nodes nearest to a key (Kademlia, section 2.3), alone and without
//! I/O.
//!
//! It has two courses. Greedy, it asks the nearest known nodes for nearer ones, [`ALPHA`] at a time,
//! until the nearest `width` have all answered: two steps among a thousand, but everybody who asks
//! for one key meets at the same few nodes. Halving (Coral, NSDI 2004, section 4.1), it takes off
//! a bit of the distance a step (`overlay.hop_bits`), one node at a time, so that a crowd comes in through ever
//! more nodes the farther it is from the key, which answer for it or stop it; where no known node is
//! nearer, it becomes greedy and looks around. One that is late no longer holds up the others; one
//! that fails makes room for the next.

mod half;

use crate::address::{Prefix, prefix};
use crate::contact::Contact;
use crate::id::{Distance, Id, Key, NodeId};
use crate::limits::{
    ALPHA, LOADED_WITNESSES, MAX_CANDIDATES, MAX_HOPS, MAX_OUTSTANDING, MAX_STEPS,
};

use half::half;
pub(crate) use half::halfway;

/// One search.
#[derive(Debug)]
pub(crate) struct Lookup {
    target: Key,
    local: NodeId,
    width: usize,
    /// Nearest first.
    candidates: Vec<Candidate>,
    steps: usize,
    stopped: bool,
    course: Course,
    /// What a halving search takes off a step.
    hop_bits: usize,
    /// Where a halving search stands.
    at: Distance,
    /// Where it stood before the last answer.
    before: Distance,
    /// The nodes asked last say that they are loaded.
    loaded: Option<Loaded>,
    /// How many must say so to be believed.
    witnesses: usize,
}

/// Nodes in a row that say that they are loaded.
#[derive(Debug, Clone, Copy)]
struct Loaded {
    count: usize,
    /// The farthest of them.
    farthest: Distance,
    /// Where the search stood before the first of them.
    before: Distance,
}

/// Which way a search takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    Greedy,
    Halving,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask this node.
    Ask(Contact),
    /// Answers must come first.
    Wait,
    /// The nearest have answered, or nobody is left.
    Done,
}

#[derive(Debug)]
struct Candidate {
    distance: Distance,
    contact: Contact,
    prefix: Option<Prefix>,
    hop: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Waiting,
    Late,
    Answered,
    Failed,
}

impl Lookup {
    /// A search from `start` by the node `local` that ends when the nearest `width` have answered.
    pub(crate) fn new(target: Key, local: NodeId, width: usize, start: &[Contact]) -> Self {
        let (candidates, steps, stopped) = (Vec::new(), 0, false);
        let (course, at) = (Course::Greedy, local.distance(&target));
        let mut lookup = Self {
            target,
            local,
            width,
            candidates,
            steps,
            stopped,
            course,
            hop_bits: 1,
            at,
            before: at,
            loaded: None,
            witnesses: LOADED_WITNESSES,
        };
        lookup.extend(start);
        lookup
    }

    /// The same where a crowd was met before: the next loaded node is believed at once.
    pub(crate) const fn in_a_crowd(mut self) -> Self {
        self.witnesses = 1;
        self
    }

    /// The same with hops of so many bits (b of Coral).
    pub(crate) const fn of_bits(mut self, hop_bits: usize) -> Self {
        self.hop_bits = hop_bits;
        self
    }

    /// The same on the halving course; `start` had better hold the nearest to [`halfway`].
    pub(crate) fn halving(mut self) -> Self {
        self.course = Course::Halving;
        self
    }

    /// Goes on from where a search in a nearer cluster stood.
    pub(crate) fn from(mut self, at: Distance) -> Self {
        self.at = self.at.min(at);
        self
    }

    pub(crate) const fn at(&self) -> Distance {
        self.at
    }

    /// The nearest nodes are loaded: it goes on by halves, from where it began.
    pub(crate) fn fall_back(&mut self) {
        self.course = Course::Halving;
    }

    pub(crate) const fn course(&self) -> Course {
        self.course
    }

    /// Adds nodes known from elsewhere, one step away.
    pub(crate) fn extend(&mut self, known: &[Contact]) {
        known.iter().for_each(|contact| self.add(*contact, 1));
    }

    /// A node that has answered already, in a nearer cluster.
    pub(crate) fn credit(&mut self, contact: Contact) {
        self.set(contact, State::Answered);
    }

    /// A node that has been asked already and may answer this search.
    pub(crate) fn adopt(&mut self, contact: Contact, is_late: bool) {
        self.set(contact, if is_late { State::Late } else { State::Waiting });
    }

    fn set(&mut self, contact: Contact, state: State) {
        self.add(contact, 0);
        if let Some(at) = self.position(&contact.id()) {
            self.candidates[at].state = state;
        }
    }

    pub(crate) const fn target(&self) -> &Key {
        &self.target
    }

    pub(crate) fn next(&mut self) -> Next {
        if self.stopped {
            return Next::Done;
        }
        if let Some(loaded) = self.loaded {
            match self.next_beside(&loaded) {
                // It is alone, and nobody is there to ask whether it is right.
                Next::Done if !self.stopped => self.loaded = None,
                next => return next,
            }
        }
        if self.course == Course::Halving {
            match self.next_half() {
                Next::Done => self.course = Course::Greedy,
                next => return next,
            }
        }
        let is = |state| self.candidates.iter().filter(move |c| c.state == state).count();
        let (waiting, late) = (is(State::Waiting), is(State::Late));
        let may_ask = waiting < ALPHA && waiting + late < MAX_OUTSTANDING && self.steps < MAX_STEPS;
        let mut pending = false;
        let mut seen = 0;
        for at in 0..self.candidates.len() {
            if seen == self.width {
                break;
            }
            match self.candidates[at].state {
                State::Failed => continue,
                State::New if self.is_shadowed(at) => continue,
                State::New if may_ask => {
                    self.steps += 1;
                    self.candidates[at].state = State::Waiting;
                    return Next::Ask(self.candidates[at].contact);
                }
                // Past the last step a candidate will never be asked.
                State::New => pending |= self.steps < MAX_STEPS,
                State::Waiting | State::Late => pending = true,
                State::Answered => {}
            }
            seen += 1;
        }
        if pending { Next::Wait } else { Next::Done }
    }

    /// Asks the one that would have been next in the place of a loaded node, but is no nearer.
    fn next_beside(&mut self, loaded: &Loaded) -> Next {
        if self.candidates.iter().any(|c| c.state == State::Waiting) {
            return Next::Wait;
        }
        let half = Id(half(&loaded.before, self.hop_bits).0);
        let is_beside = |c: &Candidate| c.state == State::New && c.distance > loaded.farthest;
        let beside = (0..self.candidates.len())
            .filter(|at| is_beside(&self.candidates[*at]) && !self.is_shadowed(*at))
            .min_by_key(|at| Id(self.candidates[*at].distance.0).distance(&half));
        // Two agree, and nobody else could be asked.
        self.stopped |= beside.is_none() && loaded.count > 1;
        self.ask(beside)
    }

    /// Asks the one nearest to half the way, if any is nearer than where it stands.
    fn next_half(&mut self) -> Next {
        let is = |state| self.candidates.iter().filter(|c| c.state == state).count();
        if is(State::Waiting) > 0 {
            return Next::Wait;
        }
        let (at, half) = (self.at, half(&self.at, self.hop_bits));
        let best = (0..self.candidates.len())
            .filter(|i| {
                self.candidates[*i].state == State::New && self.candidates[*i].distance < at
            })
            .filter(|i| !self.is_shadowed(*i))
            .min_by_key(|i| Id(self.candidates[*i].distance.0).distance(&Id(half.0)));
        if is(State::Late) < MAX_OUTSTANDING { self.ask(best) } else { Next::Done }
    }

    fn ask(&mut self, candidate: Option<usize>) -> Next {
        let Some(at) = candidate.filter(|_| self.steps < MAX_STEPS) else { return Next::Done };
        self.steps += 1;
        self.candidates[at].state = State::Waiting;
        Next::Ask(self.candidates[at].contact)
    }

    /// The node has answered and named `closer` ones. False if it was not asked.
    pub(crate) fn on_answer(&mut self, id: &NodeId, closer: &[Contact]) -> bool {
        let Some(candidate) = self.asked(id) else { return false };
        candidate.state = State::Answered;
        let hop = candidate.hop.saturating_add(1);
        self.before = self.at;
        self.at = self.at.min(id.distance(&self.target));
        if hop <= MAX_HOPS {
            closer.iter().for_each(|contact| self.add(*contact, hop));
        }
        true
    }

    /// A put has asked a node whether it is loaded. One alone is not believed: in a crowd, those who
    /// are a little farther from the key are loaded too. So they are asked, until one is not, from
    /// where the search goes on, or [`LOADED_WITNESSES`] agree.
    pub(crate) fn weigh(&mut self, id: &NodeId, loaded: bool) {
        let distance = id.distance(&self.target);
        match (loaded && self.witnesses < usize::MAX, self.loaded) {
            (false, None) => {}
            (false, Some(_)) => {
                self.at = distance;
                self.loaded = None;
            }
            (true, first) => {
                let (count, farthest, before) = first.map_or_else(
                    || (0, distance, self.before),
                    |loaded| (loaded.count, loaded.farthest.max(distance), loaded.before),
                );
                self.loaded = Some(Loaded { count: count + 1, farthest, before });
                self.stopped |= count + 1 >= self.witnesses;
            }
        }
    }

    /// The node is late: somebody else may be asked meanwhile.
    pub(crate) fn on_delay(&mut self, id: &NodeId) {
        if let Some(candidate) = self.asked(id) {
            candidate.state = State::Late;
        }
    }

    /// The node will not answer.
    pub(crate) fn on_failure(&mut self, id: &NodeId) {
        if let Some(candidate) = self.asked(id) {
            candidate.state = State::Failed;
        }
    }

    /// The node did not believe our address, and by now it does: it may be asked again.
    pub(crate) fn again(&mut self, id: &NodeId) {
        if let Some(candidate) = self.asked(id) {
            candidate.state = State::New;
        }
    }

    /// It goes on after all, and believes nobody's load any more.
    pub(crate) const fn doubt(&mut self) {
        self.stopped = false;
        self.loaded = None;
        self.witnesses = usize::MAX;
    }

    /// This node itself is loaded.
    pub(crate) const fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether it ended at loaded nodes.
    pub(crate) const fn has_met_a_crowd(&self) -> bool {
        self.stopped
    }

    /// Those who answered, nearest first.
    pub(crate) fn answered(&self) -> impl Iterator<Item = &Contact> {
        self.in_state(State::Answered)
    }

    /// Those who have not failed to answer, nearest first.
    pub(crate) fn hopeful(&self) -> impl Iterator<Item = &Contact> {
        let is = |c: &&Candidate| !matches!(c.state, State::Late | State::Failed);
        self.candidates.iter().filter(is).map(|c| &c.contact)
    }

    /// Those who were named but not asked, nearest first.
    pub(crate) fn unasked(&self) -> impl Iterator<Item = &Contact> {
        self.in_state(State::New)
    }

    /// How many steps away a candidate is.
    pub(crate) fn hop(&self, id: &NodeId) -> Option<u8> {
        self.position(id).map(|at| self.candidates[at].hop)
    }

    /// Whether nobody nearer than this one, this node included, may still answer in time.
    pub(crate) fn is_nearest(&self, id: &NodeId) -> bool {
        let distance = id.distance(&self.target);
        let nearer = self.candidates.iter().take_while(|c| c.distance < distance);
        let may_answer = |(at, c): (usize, &Candidate)| match c.state {
            State::New => self.steps < MAX_STEPS && !self.is_shadowed(at),
            State::Waiting | State::Answered => true,
            State::Late | State::Failed => false,
        };
        distance < self.local.distance(&self.target) && !nearer.enumerate().any(may_answer)
    }

    fn position(&self, id: &NodeId) -> Option<usize> {
        let distance = id.distance(&self.target);
        self.candidates.binary_search_by_key(&distance, |c| c.distance).ok()
    }

    fn in_state(&self, state: State) -> impl Iterator<Item = &Contact> {
        self.candidates.iter().filter(move |c| c.state == state).map(|c| &c.contact)
    }

    fn asked(&mut self, id: &NodeId) -> Option<&mut Candidate> {
        let at = self.position(id)?;
        let candidate = &mut self.candidates[at];
        matches!(candidate.state, State::Waiting | State::Late).then_some(candidate)
    }

    /// Whether another from the same neighbourhood has its one step already.
    fn is_shadowed(&self, at: usize) -> bool {
        let own = self.candidates[at].prefix;
        let took = |c: &Candidate| {
            c.prefix == own && matches!(c.state, State::Waiting | State::Late | State::Answered)
        };
        own.is_some() && self.candidates.iter().any(took)
    }

    fn add(&mut self, contact: Contact, hop: u8) {
        let id = contact.id();
        if id == self.local {
            return;
        }
        let distance = id.distance(&self.target);
        let Err(at) = self.candidates.binary_search_by_key(&distance, |c| c.distance) else {
            return;
        };
        let prefix = prefix(contact.addr.ip());
        let candidate = Candidate { distance, contact, prefix, hop, state: State::New };
        self.candidates.insert(at, candidate);
        if self.candidates.len() > MAX_CANDIDATES {
            let drop = |c: &Candidate| matches!(c.state, State::New | State::Failed);
            if let Some(farthest) = self.candidates.iter().rposition(drop) {
                self.candidates.remove(farthest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::contact::{Identity, Services};
    use crate::id::Id;

    fn contact(ip: [u8; 4], slot: u16) -> Contact {
        Contact {
            identity: Identity([0; 32]),
            addr: SocketAddr::from((ip, 7400)),
            slot,
            peer_port: 7400,
            services: Services::PROXY,
        }
    }

    fn own() -> Contact {
        contact([127, 0, 0, 1], 60_000)
    }

    fn world(n: u16) -> Vec<Contact> {
        (0..n).map(|slot| contact([127, 0, 0, 1], slot)).collect()
    }

    fn nearest(world: &[Contact], key: &Key, count: usize) -> Vec<Contact> {
        let mut sorted = world.to_vec();
        sorted.sort_by_key(|c| c.id().distance(key));
        sorted.truncate(count);
        sorted
    }

    /// What a node with full buckets would name: per bucket of its own, up to eight.
    fn table_of(world: &[Contact], node: &Contact, key: &Key) -> Vec<Contact> {
        let mut counts = [0; 161];
        let mut known = Vec::new();
        for other in world {
            let bucket = node.id().distance(&other.id()).common_bits();
            if bucket < 160 && counts[bucket] < 8 {
                counts[bucket] += 1;
                known.push(*other);
            }
        }
        nearest(&known, key, 8)
    }

    fn run(world: &[Contact], key: Key, fails: impl Fn(&Contact) -> bool) -> Lookup {
        let start = table_of(world, &own(), &key);
        let mut lookup = Lookup::new(key, own().id(), LOOKUP, &start);
        let mut open = Vec::new();
        loop {
            match lookup.next() {
                Next::Ask(c) => open.push(c),
                Next::Wait => {
                    assert!(open.len() <= ALPHA && !open.is_empty());
                    let c = open.remove(0);
                    if fails(&c) {
                        lookup.on_failure(&c.id());
                    } else {
                        assert!(lookup.on_answer(&c.id(), &table_of(world, &c, &key)));
                    }
                }
                Next::Done => return lookup,
            }
        }
    }

    const LOOKUP: usize = 8;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn finds_the_nearest_of_all(n in 1_u16..400, key: [u8; 20]) {
            let (world, key) = (world(n), Id(key));
            let lookup = run(&world, key, |_| false);
            let found: Vec<_> = lookup.answered().take(3).copied().collect();
            prop_assert_eq!(found, nearest(&world, &key, 3));
            prop_assert!(lookup.steps <= 30, "{} steps", lookup.steps);
        }

        #[test]
        fn goes_around_the_dead(n in 50_u16..300, key: [u8; 20]) {
            let (world, key) = (world(n), Id(key));
            let dead = |c: &Contact| c.slot % 4 == 1;
            let lookup = run(&world, key, dead);
            let alive: Vec<_> = world.iter().filter(|c| !dead(c)).copied().collect();
            prop_assert_eq!(lookup.answered().next().copied(), nearest(&alive, &key, 1).pop());
        }
    }

    /// The example of Coral's paper: ids of four bits, from 14 to 4 by way of 0 and 5.
    #[test]
    fn half_of_the_way_as_in_the_paper() {
        let id = |nibble: u8| Id(std::array::from_fn(|i| if i == 0 { nibble << 4 } else { 0 }));
        let ids = [4, 5, 7, 0, 2, 3, 13, 14].map(id);
        let (key, mut at, mut path) = (id(4), id(14), Vec::new());
        while at != key {
            let aim = halfway(&key, &at, 1);
            let nearer = ids.iter().filter(|i| i.distance(&key) < at.distance(&key));
            at = *nearer.min_by_key(|i| i.distance(&aim)).unwrap();
            path.push(at.0[0] >> 4);
        }
        // 14 differs in its first bit, which makes 14 - 8 = 6, or 7 where 6 is not there.
        assert_eq!(path, [7, 5, 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn halving_never_turns_away_and_ends_at_the_nearest(n in 2_u16..400, key: [u8; 20]) {
            let (world, key) = (world(n), Id(key));
            let start = table_of(&world, &own(), &halfway(&key, &own().id(), 1));
            let mut lookup = Lookup::new(key, own().id(), 3, &start).halving();
            let mut at = own().id().distance(&key);
            while let Next::Ask(c) = lookup.next() {
                if lookup.course() == Course::Halving {
                    prop_assert!(c.id().distance(&key) < at);
                    at = c.id().distance(&key);
                }
                let mut named = table_of(&world, &c, &halfway(&key, &c.id(), 1));
                named.truncate(8);
                named.extend(table_of(&world, &c, &key).into_iter().take(4));
                lookup.on_answer(&c.id(), &named);
            }
            let found: Vec<_> = lookup.answered().take(1).copied().collect();
            prop_assert_eq!(found, nearest(&world, &key, 1));
        }
    }

    #[test]
    fn one_loaded_node_ends_nothing_where_all_others_are_nearer() {
        let key = Id([7; 20]);
        let nearest = nearest(&world(9), &key, 9);
        let (first, nearer) = nearest.split_last().unwrap();
        let mut lookup = Lookup::new(key, own().id(), 8, &[*first]).halving();
        assert_eq!(lookup.next(), Next::Ask(*first));
        lookup.on_answer(&first.id(), nearer);
        lookup.weigh(&first.id(), true);
        assert!(matches!(lookup.next(), Next::Ask(_)));
    }

    #[test]
    fn liars_who_always_name_nearer_ones_come_to_an_end() {
        let key = Id([7; 20]);
        let mut slot = 0;
        let mut lookup = Lookup::new(key, own().id(), 8, &world(1));
        let mut asked = 0;
        while let Next::Ask(c) = lookup.next() {
            asked += 1;
            let named: Vec<_> = (0..8).map(|i| contact([127, 2, 0, 1], slot + i)).collect();
            slot += 8;
            lookup.on_answer(&c.id(), &named);
        }
        assert_eq!(lookup.next(), Next::Done);
        assert!(asked <= MAX_STEPS && lookup.candidates.len() <= MAX_CANDIDATES);
    }

    #[test]
    fn one_step_a_neighbourhood() {
        let crowd: Vec<_> = (1..=200).map(|last| contact([192, 0, 2, last], 0)).collect();
        let mut lookup = Lookup::new(Id([9; 20]), own().id(), 8, &crowd);
        let Next::Ask(first) = lookup.next() else { panic!("somebody is asked") };
        assert_eq!(lookup.next(), Next::Wait);
        lookup.on_failure(&first.id());
        let Next::Ask(second) = lookup.next() else { panic!("a failure frees the step") };
        lookup.on_answer(&second.id(), &[]);
        assert_eq!(lookup.next(), Next::Done);
    }

    #[test]
    fn a_late_one_lets_the_next_be_asked_and_may_still_answer() {
        let mut lookup = Lookup::new(Id([3; 20]), own().id(), 8, &world(8));
        let asked: Vec<_> = (0..ALPHA)
            .map(|_| match lookup.next() {
                Next::Ask(c) => c,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lookup.next(), Next::Wait);
        lookup.on_delay(&asked[0].id());
        assert!(matches!(lookup.next(), Next::Ask(_)));
        assert!(lookup.on_answer(&asked[0].id(), &[]));
        assert!(!lookup.on_answer(&asked[0].id(), &[]), "once");
    }
}
