//! One query from its start to its outcome: a lookup, and for those that store a way back (NSDI
//! 2004, section 3.2). Without I/O: [`Query::next`] says what to do, the `on_*` say what came of
//! it.

mod ahead;
mod claim;
mod put;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use coralline_config::Rules;

use crate::contact::Contact;
use crate::except::Except;
use crate::id::NodeId;
use crate::level::Level;
use crate::limits::{LEVEL_COPIES, MAX_WITHDRAWALS};
use crate::lookup::{Course, Lookup, Next};
use crate::output::Outcome;
use crate::pointer::Pointer;
use crate::time::Instant;
use crate::wire::{Answer, Nodes, Note, Refusal, Request, Value, Want};
use ahead::Peek;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Put(Pointer, Duration),
    Claim(Pointer, Duration),
    Withdraw,
    /// Upkeep: meets the nodes near a point of the id space.
    Refresh,
}

/// A query under way.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) kind: Kind,
    pub(crate) deadline: Instant,
    /// The search in the cluster of the present level.
    pub(crate) lookup: Lookup,
    pub(crate) level: Level,
    /// Members of nearer clusters that a claim asks on its way, the nearest cluster first; of wider
    /// ones, that a get asks before it comes there.
    peeks: VecDeque<(Contact, Level)>,
    /// Those of them who have not answered.
    peeking: BTreeMap<NodeId, Peek>,
    /// Those of them who have answered, and whom they named.
    peeked: Vec<(Contact, Level, Vec<Contact>)>,
    /// The one of them that is waited for.
    awaited: Option<NodeId>,
    /// Steps taken in nearer clusters.
    hops: u8,
    /// Copies made in nearer clusters.
    nearer_copies: usize,
    local: Contact,
    rules: Rules,
    /// Pointers of this node itself, met on the way: given only if nobody else has any.
    own: Vec<Pointer>,
    /// What is no answer.
    except: Except,
    /// Nodes that say that they are loaded.
    crowded: BTreeSet<NodeId>,
    /// Nodes that are full and loaded, which no put tries.
    closed: BTreeSet<NodeId>,
    /// The nodes to store at or to withdraw from, nearest first, once the way there is known.
    targets: Option<VecDeque<Contact>>,
    waiting: BTreeSet<NodeId>,
    /// Nodes that have been told again after they doubted our address.
    retold: BTreeSet<NodeId>,
    copies: usize,
    /// Whether there is more than one node's word for a crowd at the present level.
    is_crowd: bool,
    /// Nodes that took themselves for the nearest and granted a claim; true for a moment only.
    granted: BTreeMap<NodeId, bool>,
    /// Who of them is to be told that our address is proven.
    confirm: Option<Contact>,
    outcome: Option<Outcome>,
    /// How long all pointers of the outcome will last.
    pub(crate) lasts: Duration,
    /// Whether a node was met that is loaded with the key.
    pub(crate) loaded: bool,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Action {
    /// Ask a node, which may be this one, and report its answer.
    Ask(Contact, Request),
    /// Tell a node; nothing waits for its answer.
    Tell(Contact, Request),
    /// The cluster of this level has been searched: [`Query::widen`].
    Widen,
    /// Answers must come first.
    Wait,
    /// It is over.
    End(Option<Outcome>),
}

impl Query {
    pub(crate) const fn new(
        kind: Kind,
        local: Contact,
        level: Level,
        lookup: Lookup,
        deadline: Instant,
        rules: Rules,
    ) -> Self {
        Self {
            kind,
            deadline,
            lookup,
            level,
            peeks: VecDeque::new(),
            peeking: BTreeMap::new(),
            peeked: Vec::new(),
            awaited: None,
            hops: 0,
            nearer_copies: 0,
            local,
            rules,
            own: Vec::new(),
            except: Except::NONE,
            crowded: BTreeSet::new(),
            closed: BTreeSet::new(),
            targets: None,
            waiting: BTreeSet::new(),
            retold: BTreeSet::new(),
            copies: 0,
            is_crowd: false,
            granted: BTreeMap::new(),
            confirm: None,
            outcome: None,
            lasts: Duration::ZERO,
            loaded: false,
        }
    }

    /// Lets a get or a claim go on past these answers.
    pub(crate) fn pass_by(&mut self, except: Except) {
        self.except = except;
    }

    pub(crate) fn next(&mut self) -> Action {
        if self.outcome.is_none()
            && let Some((contact, level)) = self.peeks.pop_front()
        {
            self.peeking.insert(contact.id(), Peek { contact, level, is_late: false });
            let (key, want, course) = (*self.lookup.target(), Want::Values, Course::Greedy);
            return Action::Ask(contact, Request::Find { key, level, want, course });
        }
        if self.awaited.is_some_and(|id| self.outcome.is_none() && self.peeking.contains_key(&id)) {
            return Action::Wait;
        }
        if self.outcome.is_none()
            && let Some(decider) = self.decider()
        {
            self.claimed_at(&decider);
        }
        if self.outcome.is_none() && self.targets.is_none() {
            match self.lookup.next() {
                Next::Ask(contact) => return Action::Ask(contact, self.find()),
                Next::Wait => return Action::Wait,
                Next::Done if self.level != Level::GLOBAL && self.kind == Kind::Get => {
                    return Action::Widen;
                }
                Next::Done => self.turn(),
            }
        }
        match self.kind {
            Kind::Get | Kind::Refresh => Action::End(self.outcome.take()),
            Kind::Put(pointer, ttl) => self.next_of_put(&pointer, ttl),
            Kind::Claim(pointer, ttl) => self.next_of_claim(&pointer, ttl),
            Kind::Withdraw => self.next_of_withdrawal(),
        }
    }

    /// Goes on in the cluster of a wider level.
    pub(crate) fn widen(&mut self, level: Level, lookup: Lookup) {
        let hop = self.lookup.answered().next().and_then(|c| self.lookup.hop(&c.id()));
        self.hops = self.hops.saturating_add(hop.unwrap_or(0));
        self.nearer_copies += std::mem::take(&mut self.copies);
        self.is_crowd = false;
        let before = std::mem::replace(&mut self.lookup, lookup);
        self.level = level;
        self.targets = None;
        self.waiting.clear();
        if self.kind == Kind::Get {
            self.go_on_from(&before);
        }
    }

    /// How many nodes are to store or to withdraw at this level.
    fn enough(&self, in_all: usize) -> usize {
        if self.level == Level::GLOBAL { in_all } else { LEVEL_COPIES }
    }

    /// A node, or this one for itself, has answered. `Nodes` come with inadmissible contacts
    /// removed.
    pub(crate) fn on_answer(&mut self, from: &NodeId, answer: Answer) {
        let Some(answer) = self.on_peeked(from, answer) else { return };
        match answer {
            Answer::Nodes(nodes) => self.on_nodes(from, nodes),
            answer if self.waiting.remove(from) => self.told(from, answer),
            Answer::Held(values) => {
                let hop = self.lookup.hop(from).unwrap_or(0);
                self.lookup.on_answer(from, &[]);
                self.met(from, values, hop);
            }
            Answer::Claimed { nearest, provisional } if matches!(self.kind, Kind::Claim(..)) => {
                if self.lookup.on_answer(from, &nearest) && self.outcome.is_none() {
                    self.granted.insert(*from, provisional);
                }
            }
            Answer::Refused(Refusal::Unproven) if self.retold.insert(*from) => {
                self.lookup.again(from);
            }
            _ => self.lookup.on_failure(from),
        }
    }

    fn on_nodes(&mut self, from: &NodeId, nodes: Nodes) {
        let hop = self.lookup.hop(from).unwrap_or(0);
        self.loaded |= nodes.loaded;
        let is_storing = matches!(self.kind, Kind::Put(..));
        // A crowd is there: who asks for values takes the wide way, and learns no short one. A claim
        // goes on, since only the root can decide it.
        let turns = nodes.loaded && nodes.values.is_empty() && self.kind == Kind::Get;
        self.lookup.on_answer(from, if turns { &[] } else { &nodes.closer });
        if turns {
            self.lookup.fall_back();
        }
        // Who says that it is full shows with what; else it is tried all the same.
        let is_full = nodes.full && nodes.values.len() >= self.rules.values_per_key;
        self.met(from, nodes.values, hop);
        if is_storing && nodes.loaded && *from == self.local.id() {
            self.lookup.stop();
            self.is_crowd = true;
        } else if is_storing {
            self.lookup.weigh(from, nodes.loaded);
            if nodes.loaded {
                self.crowded.insert(*from);
            }
            if nodes.loaded && is_full {
                self.closed.insert(*from);
            }
        }
    }

    pub(crate) fn on_delay(&mut self, from: &NodeId) {
        self.awaited = self.awaited.filter(|id| id != from);
        if let Some(peek) = self.peeking.get_mut(from) {
            peek.is_late = true;
        }
        self.lookup.on_delay(from);
    }

    pub(crate) fn on_failure(&mut self, from: &NodeId) {
        if self.peeking.remove(from).is_none() {
            self.lookup.on_failure(from);
        }
        self.waiting.remove(from);
    }

    /// Its time is up.
    pub(crate) fn give_up(self) -> Option<Outcome> {
        match self.kind {
            Kind::Refresh => None,
            Kind::Put(..) if self.copies + self.nearer_copies > 0 => Some(self.stored()),
            _ => Some(self.outcome.unwrap_or(Outcome::TimedOut)),
        }
    }

    /// Values were met, here (hop 0) or at another node.
    fn met(&mut self, from: &NodeId, values: Vec<Value>, hop: u8) {
        self.met_at(from, self.level, values, hop.saturating_add(self.hops));
    }

    fn met_at(&mut self, from: &NodeId, level: Level, mut values: Vec<Value>, hop: u8) {
        let is_doubted = self.except.is_doubted(from);
        let useless = |v: &Value| is_doubted || self.except.is_useless(&v.pointer.holder.identity);
        values.retain(|value| !useless(value));
        let by = Some(*from);
        if self.outcome.is_none() {
            self.lasts = values.iter().map(|value| value.ttl).min().unwrap_or_default();
        }
        let (mut pointers, own): (Vec<_>, Vec<_>) = values
            .into_iter()
            .map(|value| value.pointer)
            .partition(|pointer| pointer.holder.identity != self.local.identity);
        match self.kind {
            _ if self.outcome.is_some() => {}
            Kind::Get if !pointers.is_empty() => {
                self.outcome = Some(Outcome::Found { pointers, level, hops: hop, by });
            }
            Kind::Get if self.own.is_empty() => self.own = own,
            Kind::Claim(..) if !pointers.is_empty() => {
                pointers.dedup();
                self.outcome = Some(Outcome::Held { pointers, level, by });
            }
            _ => {}
        }
    }

    fn find(&self) -> Request {
        let want = match self.kind {
            Kind::Get => Want::Values,
            Kind::Claim(pointer, ttl) => Want::Claim(Note::of(&pointer), ttl, self.except.passed()),
            Kind::Put(_, ttl) => Want::Room(ttl),
            Kind::Withdraw | Kind::Refresh => Want::Nodes,
        };
        let (key, course) = (*self.lookup.target(), self.lookup.course());
        Request::Find { key, level: self.level, want, course }
    }

    /// The forward phase has ended: the way back starts at the nearest, this node in its place.
    fn turn(&mut self) {
        if self.kind == Kind::Get {
            let pointers = std::mem::take(&mut self.own);
            let (level, hops, by) = (Level::GLOBAL, 0, None);
            self.outcome = Some(Outcome::Found { pointers, level, hops, by });
            return;
        }
        let target = self.lookup.target();
        let mut targets: Vec<_> = self.lookup.answered().copied().chain([self.local]).collect();
        targets.sort_by_key(|contact| contact.id().distance(target));
        targets.retain(|contact| !self.closed.contains(&contact.id()));
        self.targets = Some(targets.into());
    }

    fn next_target(&mut self) -> Option<Contact> {
        self.targets.as_mut()?.pop_front()
    }

    fn next_of_withdrawal(&mut self) -> Action {
        let key = *self.lookup.target();
        if self.copies < self.enough(MAX_WITHDRAWALS)
            && let Some(to) = self.next_target()
        {
            self.copies += 1;
            self.waiting.insert(to.id());
            return Action::Ask(to, Request::Withdraw { key, level: self.level });
        }
        if !self.waiting.is_empty() {
            return Action::Wait;
        }
        if self.level != Level::GLOBAL {
            return Action::Widen;
        }
        Action::End(Some(Outcome::Withdrawn))
    }

    fn store(&self, pointer: &Pointer, ttl: Duration, claim: bool) -> Request {
        let (key, level) = (*self.lookup.target(), self.level);
        let passed = self.except.passed();
        Request::Store { key, level, note: Note::of(pointer), ttl, claim, passed }
    }

    /// What a node said to a store, a claim or a withdrawal.
    fn told(&mut self, from: &NodeId, answer: Answer) {
        let is_claim = matches!(self.kind, Kind::Claim(..));
        match answer {
            Answer::Stored => {
                self.copies += 1;
                self.is_crowd |= self.crowded.contains(from);
                if is_claim && self.outcome.is_none() {
                    self.outcome = Some(Outcome::Claimed);
                }
            }
            Answer::Held(values) => {
                if values.len() >= self.rules.values_per_key {
                    self.closed.insert(*from);
                }
                self.met(from, values, 0);
            }
            Answer::Refused(Refusal::Unproven) if self.retold.insert(*from) => {
                let again = self.lookup.answered().find(|contact| contact.id() == *from);
                if let (Some(contact), Some(targets)) = (again.copied(), &mut self.targets) {
                    targets.push_front(contact);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::SocketAddr;

    use super::*;
    use crate::contact::{Identity, Services};
    use crate::id::Key;
    use crate::pointer::State;

    const TTL: Duration = Duration::from_secs(60);

    fn contact(last: u8) -> Contact {
        Contact {
            identity: Identity([last; 32]),
            addr: SocketAddr::from(([127, 0, 0, last], 7400)),
            slot: 0,
            peer_port: 7400,
            services: Services::PROXY,
        }
    }

    fn pointer(last: u8) -> Pointer {
        Pointer { holder: contact(last), state: State::Whole, length: None, root: None }
    }

    fn lookup(width: usize, start: &[Contact]) -> Lookup {
        Lookup::new(Key::of_name(b"x"), contact(1).id(), width, start)
    }

    fn query(kind: Kind) -> Query {
        let start: Vec<_> = (2..=6).map(contact).collect();
        let at = Instant::default();
        Query::new(kind, contact(1), Level::GLOBAL, lookup(8, &start), at, Rules::default())
    }

    /// Runs a query against answers; gives whom it asked and how it ended.
    fn run(
        mut query: Query,
        answer: impl Fn(&Contact, &Request) -> Answer,
    ) -> (Vec<Contact>, Outcome) {
        let (mut told, mut open) = (Vec::new(), Vec::new());
        loop {
            match query.next() {
                Action::Ask(to, request) => {
                    if !matches!(request, Request::Find { .. }) {
                        told.push(to);
                    }
                    open.push((to, request));
                }
                Action::Tell(to, _) => told.push(to),
                Action::Widen => panic!("it is as wide as can be"),
                Action::Wait => {
                    let (to, request) = open.remove(0);
                    query.on_answer(&to.id(), answer(&to, &request));
                }
                Action::End(outcome) => return (told, outcome.unwrap()),
            }
        }
    }

    fn nearest_first() -> Vec<Contact> {
        let mut all: Vec<_> = (1..=6).map(contact).collect();
        all.sort_by_key(|c| c.id().distance(&Key::of_name(b"x")));
        all
    }

    fn empty() -> Answer {
        Answer::Nodes(Nodes::default())
    }

    fn held(last: u8, level: Level, by: &Contact) -> Outcome {
        Outcome::Held { pointers: vec![pointer(last)], level, by: Some(by.id()) }
    }

    fn is_find(request: &Request) -> bool {
        matches!(request, Request::Find { .. })
    }

    #[test]
    fn a_put_goes_to_the_nearest_that_accept() {
        let nearest = nearest_first();
        let refuses = nearest[0];
        let (told, outcome) = run(query(Kind::Put(pointer(1), TTL)), |to, request| {
            match (is_find(request), *to == refuses) {
                (true, _) => empty(),
                (false, true) => Answer::Refused(Refusal::Full),
                (false, false) => Answer::Stored,
            }
        });
        let copies = Rules::default().copies;
        assert_eq!(outcome, Outcome::Stored { copies: u8::try_from(copies).unwrap() });
        assert_eq!(told, nearest[..=copies]);
    }

    #[test]
    fn a_put_stops_at_a_full_and_loaded_node_and_passes_it_by() {
        let (told, outcome) = run(query(Kind::Put(pointer(1), TTL)), |_, request| {
            let values =
                vec![Value { pointer: pointer(9), ttl: TTL }; Rules::default().values_per_key];
            let nodes = Nodes { full: true, loaded: true, values, ..Nodes::default() };
            if is_find(request) { Answer::Nodes(nodes) } else { Answer::Stored }
        });
        assert_eq!(told, [contact(1)], "only this node itself is left");
        assert_eq!(outcome, Outcome::Stored { copies: 1 });
    }

    /// Three call themselves loaded and take nothing; that one who is not takes it proves nothing.
    #[test]
    fn a_put_goes_on_past_a_crowd_that_nobody_of_it_proves() {
        let liars = RefCell::new(Vec::new());
        let (told, outcome) = run(query(Kind::Put(pointer(1), TTL)), |to, request| {
            let mut liars = liars.borrow_mut();
            let is_lying = liars.contains(to) || (liars.len() < 3 && *to != nearest_first()[0]);
            if is_lying && !liars.contains(to) {
                liars.push(*to);
            }
            match (is_find(request), is_lying) {
                (true, true) => {
                    Answer::Nodes(Nodes { full: true, loaded: true, ..Nodes::default() })
                }
                (true, false) => empty(),
                (false, true) => Answer::Refused(Refusal::Full),
                (false, false) => Answer::Stored,
            }
        });
        let liars = liars.into_inner();
        assert_eq!(liars.len(), 3);
        let honest: BTreeSet<_> =
            nearest_first().into_iter().filter(|c| !liars.contains(c)).map(|c| c.id()).collect();
        let told: BTreeSet<_> = told.into_iter().map(|c| c.id()).collect();
        assert!(honest.is_subset(&told), "{outcome:?}");
    }

    #[test]
    fn the_nearest_node_decides_a_claim_and_the_next_get_copies() {
        let nearest = nearest_first();
        let (told, outcome) = run(query(Kind::Claim(pointer(1), TTL)), |_, request| {
            if is_find(request) { empty() } else { Answer::Stored }
        });
        assert_eq!(outcome, Outcome::Claimed);
        assert_eq!(told, nearest[..Rules::default().copies]);
    }

    #[test]
    fn a_node_that_knows_itself_to_be_the_nearest_decides_when_it_is_met() {
        let nearest = nearest_first();
        let root = nearest[0];
        let (told, outcome) = run(query(Kind::Claim(pointer(1), TTL)), |to, _| match *to == root {
            true => Answer::Claimed { nearest: nearest[1..].to_vec(), provisional: true },
            false => empty(),
        });
        assert_eq!(outcome, Outcome::Claimed);
        let mut copies = nearest[1..].to_vec();
        copies.retain(|contact| contact.identity != self::contact(1).identity);
        assert_eq!(told[0], root, "it was not sure of our address, so it is told again");
        assert_eq!(told[1..], copies[..Rules::default().copies - 1], "these get copies");
    }

    /// Two nodes grant; only the nearer one counts, whoever is heard first.
    #[test]
    fn a_claim_is_not_decided_by_one_who_has_not_heard_of_a_nearer_node() {
        let nearest: Vec<_> = nearest_first().into_iter().filter(|c| *c != contact(1)).collect();
        let grant = || Answer::Claimed { nearest: Vec::new(), provisional: false };
        let check = |at_root: Option<Answer>, expect: Option<Outcome>| {
            let mut claim = query(Kind::Claim(pointer(9), TTL));
            claim.local = contact(99);
            while let Action::Ask(..) = claim.next() {}
            claim.on_answer(&nearest[1].id(), grant());
            while let Action::Ask(..) = claim.next() {}
            assert!(matches!(claim.next(), Action::Wait), "the root may still answer");
            match at_root {
                Some(answer) => claim.on_answer(&nearest[0].id(), answer),
                None => claim.on_delay(&nearest[0].id()),
            }
            let ended = std::iter::repeat_with(|| claim.next())
                .find_map(|action| if let Action::End(end) = action { Some(end) } else { None });
            assert_eq!(ended, Some(expect));
        };
        check(Some(grant()), Some(Outcome::Claimed));
        check(None, Some(Outcome::Claimed));
        let values = vec![Value { pointer: pointer(8), ttl: TTL }];
        let held = held(8, Level::GLOBAL, &nearest[0]);
        let nodes = Nodes { values, ..Nodes::default() };
        check(Some(Answer::Nodes(nodes)), Some(held));
    }

    #[test]
    fn a_claim_is_answered_by_a_nearer_cluster_and_waits_for_the_nearest() {
        let mut claim = query(Kind::Claim(pointer(1), TTL));
        claim.peek(vec![(contact(20), Level(2)), (contact(21), Level(1))]);
        for (last, near) in [(20, Level(2)), (21, Level(1))] {
            let Action::Ask(to, Request::Find { level, want: Want::Values, .. }) = claim.next()
            else {
                panic!("the members come first")
            };
            assert_eq!((to, level), (contact(last), near));
        }
        assert!(matches!(claim.next(), Action::Wait));
        claim.on_answer(&contact(20).id(), empty());
        assert!(matches!(claim.next(), Action::Ask(_, Request::Find { .. })));
        let values = vec![Value { pointer: pointer(9), ttl: TTL }];
        let nodes = Nodes { values, ..Nodes::default() };
        claim.on_answer(&contact(21).id(), Answer::Nodes(nodes));
        let held = held(9, Level(1), &contact(21));
        assert!(matches!(claim.next(), Action::End(Some(outcome)) if outcome == held));
    }

    #[test]
    fn a_get_asks_ahead_in_wider_clusters_and_nobody_twice() {
        let mut get = query(Kind::Get);
        (get.level, get.lookup) = (Level(2), lookup(1, &[contact(20)]));
        get.peek(vec![(contact(21), Level(1))]);
        let mut asked = Vec::new();
        while let Action::Ask(to, _) = get.next() {
            asked.push(to);
        }
        assert_eq!(asked, [contact(21), contact(20)], "both at once");
        get.on_answer(&contact(20).id(), empty());
        assert!(matches!(get.next(), Action::Widen));
        get.widen(Level(1), lookup(1, &[contact(20), contact(21)]));
        assert!(!matches!(get.next(), Action::Ask(..)));
        let named = Answer::Nodes(Nodes { closer: vec![contact(22)], ..Nodes::default() });
        get.on_answer(&contact(21).id(), named);
        let all = [20, 21, 22, 23].map(contact);
        if let Action::Ask(to, _) = get.next() {
            assert_eq!(to, contact(22), "it may be nearer");
            get.on_answer(&to.id(), empty());
        }
        get.widen(Level::GLOBAL, lookup(4, &all));
        let mut last = Vec::new();
        while let Action::Ask(to, _) = get.next() {
            last.push(to);
        }
        assert!(last.contains(&contact(23)));
        assert!(!last.contains(&contact(20)) && !last.contains(&contact(21)));
    }

    #[test]
    fn a_get_that_meets_a_loaded_node_goes_by_halves() {
        let mut get = query(Kind::Get);
        let Action::Ask(first, Request::Find { course: Course::Greedy, .. }) = get.next() else {
            panic!("greedy at first")
        };
        let closer = vec![contact(77)];
        let nodes = Nodes { loaded: true, closer, ..Nodes::default() };
        get.on_answer(&first.id(), Answer::Nodes(nodes));
        assert!(get.loaded && get.lookup.course() == Course::Halving);
        assert_eq!(get.lookup.hop(&contact(77).id()), None, "its short way is not taken");
    }

    #[test]
    fn a_claim_that_comes_second_learns_who_was_first() {
        let value = Value { pointer: pointer(9), ttl: TTL };
        let (told, outcome) = run(query(Kind::Claim(pointer(1), TTL)), |_, request| {
            if is_find(request) { empty() } else { Answer::Held(vec![value]) }
        });
        assert_eq!(outcome, held(9, Level::GLOBAL, &told[0]));
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn a_get_prefers_others_to_itself() {
        let value = |by| Value { pointer: pointer(by), ttl: TTL };
        let check = |holders: &[u8], expect: &[u8]| {
            let (_, outcome) = run(query(Kind::Get), |to, _| {
                let at = usize::from(to.identity.0[0]) - 2;
                let values = holders.get(at).map(|by| value(*by)).into_iter().collect();
                Answer::Nodes(Nodes { values, ..Nodes::default() })
            });
            let Outcome::Found { pointers, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(pointers, expect.iter().map(|by| pointer(*by)).collect::<Vec<_>>());
        };
        check(&[], &[]);
        check(&[1], &[1]);
        check(&[1, 1, 1, 9, 1], &[9]);
    }

    #[test]
    fn a_get_goes_on_past_answers_that_led_nowhere() {
        let value = |by| Value { pointer: pointer(by), ttl: TTL };
        let answer = |to: &Contact, _: &Request| {
            let values = match to.identity.0[0] {
                2 => vec![value(66), value(67)],
                3 => vec![value(68)],
                4 => vec![value(66), value(9)],
                _ => Vec::new(),
            };
            Answer::Nodes(Nodes { values, ..Nodes::default() })
        };
        let (mut except, mut shown) = (Except::default(), Vec::new());
        for _ in 0..4 {
            let mut get = query(Kind::Get);
            get.except = except.clone();
            let Outcome::Found { pointers, by, .. } = run(get, answer).1 else { panic!() };
            shown.extend(pointers.iter().map(|pointer| pointer.holder.identity.0[0]));
            except.add(&pointers, by);
        }
        shown.sort_unstable();
        shown.dedup();
        assert_eq!(shown, [9, 66, 67, 68], "each once, and then none");
        let junk = Except { holders: Vec::new(), givers: vec![contact(2).id()] };
        let mut get = query(Kind::Get);
        get.except = junk;
        get.on_answer(&contact(2).id(), answer(&contact(2), &get.find()));
        assert!(get.outcome.is_none(), "whoever has misled is not believed about others");
    }

    #[test]
    fn a_doubted_store_is_told_once_more() {
        let (told, outcome) = run(query(Kind::Put(pointer(1), TTL)), |to, request| {
            match (is_find(request), to.identity == contact(1).identity) {
                (true, _) => empty(),
                (false, true) => Answer::Stored,
                (false, false) => Answer::Refused(Refusal::Unproven),
            }
        });
        assert_eq!(outcome, Outcome::Stored { copies: 1 });
        assert_eq!(told.len(), 5 * 2 + 1);
    }
}
