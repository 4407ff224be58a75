//! Nodes, the wire between them, one event queue, one clock.

mod troubles;
mod view;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use coralline_overlay::{
    Busy, Contact, Except, Instant, Key, Outcome, Overlay, Pointer, QueryId, Rules, Settings, State,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::geography::{Geography, below};
use crate::ledger::Ledger;
use crate::matrix::Matrix;
use crate::node::Node;
use crate::queue::Queue;
use crate::trace::Trace;
use crate::trail::Trails;
use crate::trouble::{Churn, Trouble, Wires};
use crate::watch::Watch;
use wire::Arrival;

/// Everything that is decided before the world starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: usize,
    /// What all chance is drawn from.
    pub seed: u64,
    /// The share of datagrams that is lost, 0 to 1.
    pub loss: f64,
    /// Time between the starts of one node and the next.
    pub join_every: Duration,
    /// Round-trip bounds of the clusters, nearest first; none for the global level alone.
    pub levels: Vec<Duration>,
    /// Whether nodes leave hints, and know the number of their autonomous system: here, their
    /// metropolitan area.
    pub systems: bool,
    /// The constants of the index.
    pub rules: Rules,
}

impl Default for Plan {
    fn default() -> Self {
        let join_every = Duration::from_millis(20);
        let (levels, systems, rules) = (Vec::new(), false, Rules::default());
        Self { nodes: 100, seed: 1, loss: 0.0, join_every, levels, systems, rules }
    }
}

/// A query that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What a workload is told by [`World::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A query of this node has ended.
    Finished(usize, QueryId, Finished),
    /// The time of an alarm with this number has come.
    Alarm(usize),
}

/// The world.
#[derive(Debug)]
pub struct World {
    now: Instant,
    rng: ChaCha8Rng,
    geography: Geography,
    wires: Wires,
    churn: Option<Churn>,
    levels: Vec<Duration>,
    systems: bool,
    rules: Rules,
    nodes: Vec<Node>,
    queue: Queue<Happening>,
    trace: Trace,
    open: BTreeMap<(usize, QueryId), Open>,
    finished: BTreeMap<(usize, QueryId), Finished>,
    notices: VecDeque<Told>,
    ledger: Ledger,
    watch: Option<Watch>,
    trails: Option<Trails>,
    /// Liars' inventions; with any, junk is no violation.
    junk: Vec<Contact>,
    /// Messages to the whole network, as they were heard.
    heard: Vec<(Instant, usize, Key)>,
    buf: Vec<u8>,
    /// Payloads that may be filled again.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Happening {
    Start(usize),
    Wake(usize),
    Arrival(Arrival),
    Trouble(Trouble),
    /// By churn, if it is still in this life.
    Death(usize, u32),
    Return(usize, u32),
    Alarm(usize),
}

#[derive(Debug, Clone, Copy)]
enum Told {
    Finished(usize, QueryId),
    Alarm(usize),
}

#[derive(Debug, Clone, Copy)]
struct Open {
    start: Instant,
    key: Key,
}

impl World {
    /// A synthetic world at its beginning: the first node starts at once, each further one joins by
    /// two earlier.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self::on(plan, None)
    }

    /// The same on the hosts of a matrix, if one is given.
    #[must_use]
    pub fn on(plan: Plan, matrix: Option<Matrix>) -> Self {
        let Plan { nodes: count, seed, loss, join_every, levels, systems, rules } = plan;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let geography = match matrix {
            None => Geography::new(count, &mut rng),
            Some(matrix) => Geography::of_matrix(matrix, count, &mut rng),
        };
        let nodes: Vec<_> = (0..count).map(|at| Node::new(at, &mut rng)).collect();
        let mut world = Self {
            now: Instant::default(),
            rng,
            geography,
            wires: Wires { loss, seed, ..Wires::default() },
            churn: None,
            levels,
            systems,
            rules,
            nodes,
            queue: Queue::default(),
            trace: Trace::default(),
            open: BTreeMap::new(),
            finished: BTreeMap::new(),
            notices: VecDeque::new(),
            ledger: Ledger::default(),
            watch: None,
            trails: None,
            junk: Vec::new(),
            heard: Vec::new(),
            buf: Vec::new(),
            spare: Vec::new(),
        };
        let mut at = world.now;
        for node in 0..count {
            world.queue.push(at, Happening::Start(node));
            at = at + join_every;
        }
        world
    }

    /// Lets `time` pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.notices.clear();
    }

    /// Lets time pass until a query ends or an alarm is due; none once `until` has come.
    pub fn next(&mut self, until: Instant) -> Option<Notice> {
        loop {
            match self.notices.pop_front() {
                Some(Told::Alarm(number)) => return Some(Notice::Alarm(number)),
                Some(Told::Finished(node, query)) => {
                    if let Some(finished) = self.finished(node, query) {
                        return Some(Notice::Finished(node, query, finished));
                    }
                }
                None if self.step(until) => {}
                None => return None,
            }
        }
    }

    /// Lets time pass until every query has ended.
    pub fn settle(&mut self) {
        while !self.open.is_empty() {
            self.run(Duration::from_millis(100));
        }
    }

    /// Wakes the workload by [`Notice::Alarm`] after `time`.
    pub fn alarm(&mut self, time: Duration, number: usize) {
        self.queue.push(self.now + time, Happening::Alarm(number));
    }

    /// Lets a trouble begin after `time`.
    pub fn trouble(&mut self, time: Duration, trouble: Trouble) {
        self.queue.push(self.now + time, Happening::Trouble(trouble));
    }

    /// Starts a get at a living node.
    ///
    /// # Errors
    /// [`Busy`], here and below, when that node has too many queries in flight.
    pub fn get(&mut self, node: usize, key: Key) -> Result<QueryId, Busy> {
        self.query(node, key, |core, now, _| core.get(now, key))
    }

    /// Starts a get past answers that led nowhere.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn get_except(&mut self, node: usize, key: Key, except: Except) -> Result<QueryId, Busy> {
        self.query(node, key, |core, now, _| core.get_except(now, key, except))
    }

    /// Starts a put of a pointer to that node.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn put(&mut self, node: usize, key: Key, ttl: Duration) -> Result<QueryId, Busy> {
        self.announce(node, key, ttl);
        self.query(node, key, |core, now, pointer| core.put(now, key, pointer, ttl))
    }

    /// Starts a claim by that node.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn claim(&mut self, node: usize, key: Key, ttl: Duration) -> Result<QueryId, Busy> {
        self.announce(node, key, ttl);
        self.query(node, key, |core, now, pointer| core.claim(now, key, pointer, ttl))
    }

    /// Starts a claim past answers that led nowhere.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn claim_except(
        &mut self,
        node: usize,
        key: Key,
        ttl: Duration,
        except: Except,
    ) -> Result<QueryId, Busy> {
        self.announce(node, key, ttl);
        self.query(node, key, |core, now, pointer| {
            core.claim_except(now, key, pointer, ttl, except)
        })
    }

    /// Starts a withdrawal of that node's pointer.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn withdraw(&mut self, node: usize, key: Key) -> Result<QueryId, Busy> {
        self.ledger.withdrawn(key, node);
        self.query(node, key, |core, now, _| core.withdraw(now, key))
    }

    /// Lets a living node send a message to the whole network, which everybody passes on.
    ///
    /// # Panics
    /// If it has sent too many of late.
    pub fn broadcast(&mut self, node: usize, payload: &[u8]) {
        let core = self.nodes[node].core.as_mut().expect("only a living node is asked");
        core.broadcast(self.now, payload).expect("few are under way");
        self.drain(node);
    }

    /// When which node has heard which message to the whole network, since the last call.
    pub fn take_heard(&mut self) -> Vec<(Instant, usize, Key)> {
        std::mem::take(&mut self.heard)
    }

    /// Takes what came of a query, if it has ended.
    pub fn finished(&mut self, node: usize, query: QueryId) -> Option<Finished> {
        self.finished.remove(&(node, query))
    }

    /// A living node other than `except`, drawn by chance.
    ///
    /// # Panics
    /// If there is none.
    pub fn any_node(&mut self, except: Option<usize>) -> usize {
        let fits = |world: &Self, at: usize| world.is_alive(at) && Some(at) != except;
        assert!((0..self.nodes.len()).any(|at| fits(self, at)), "somebody is alive");
        loop {
            let at = self.draw(self.nodes.len());
            if fits(self, at) {
                return at;
            }
        }
    }

    /// A number below `bound`, drawn by chance.
    pub fn draw(&mut self, bound: usize) -> usize {
        below(&mut self.rng, bound)
    }

    fn announce(&mut self, node: usize, key: Key, ttl: Duration) {
        let until = self.now + ttl.min(self.rules.max_ttl);
        self.ledger.announced(key, node, self.nodes[node].life, until);
    }

    fn query(
        &mut self,
        node: usize,
        key: Key,
        ask: impl FnOnce(&mut Overlay, Instant, Pointer) -> Result<QueryId, Busy>,
    ) -> Result<QueryId, Busy> {
        let Node { contact, core, .. } = &mut self.nodes[node];
        let holder = *contact;
        let core = core.as_mut().expect("only a living node is asked");
        let pointer = Pointer { holder, state: State::Whole, length: Some(1), root: None };
        let id = ask(core, self.now, pointer)?;
        self.open.insert((node, id), Open { start: self.now, key });
        self.drain(node);
        Ok(id)
    }

    /// The next happening. False, and the clock set, if there is none until then.
    fn step(&mut self, until: Instant) -> bool {
        let Some((at, happening)) = self.queue.pop(until) else {
            self.now = until;
            return false;
        };
        self.now = at;
        match happening {
            Happening::Start(node) => {
                let seeds = [0, below(&mut self.rng, node.max(1))];
                let seeds = seeds.map(|seed| self.nodes[seed].contact.addr).to_vec();
                self.start(node, seeds);
            }
            Happening::Wake(node) => self.wake(node),
            Happening::Arrival(arrival) => self.arrive(arrival),
            Happening::Trouble(trouble) => self.apply(trouble),
            Happening::Death(node, life) => self.die(node, life),
            Happening::Return(node, life) => self.come_back(node, life),
            Happening::Alarm(number) => self.notices.push_back(Told::Alarm(number)),
        }
        true
    }

    fn start(&mut self, at: usize, seeds: Vec<SocketAddr>) {
        let seed = self.rng.next_u64();
        self.trace.note(self.now, at, b's', &[]);
        let node = &mut self.nodes[at];
        let saved = std::mem::take(&mut node.saved);
        let (levels, rules) = (self.levels.clone(), self.rules);
        // Without systems there is nobody to find: each node has a /24 of its own.
        let (hints, as_number) = (self.systems, self.geography.metro(at).filter(|_| self.systems));
        let settings =
            Settings { local: node.contact, hints, as_number, seeds, saved, levels, rules };
        node.core = Some(Overlay::new(settings, seed, self.now));
        node.life += 1;
        node.peers.clear();
        (node.wake, node.queued) = (None, None);
        self.drain(at);
        self.fate(at);
    }
}
