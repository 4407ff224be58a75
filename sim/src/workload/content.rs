//! Nodes fetch objects from each other while some lie about content: what do clients get, how often is a liar
//! asked, and what is left for the origin?
//!
//! The choice of sources and the proofs are those of the proxy; the steps around them are its steps in short:
//! claim, ask those who hold it, go on elsewhere past those of no use, then the origin.

use std::collections::BTreeMap;
use std::time::Duration;

use coralline_overlay::{Except, Instant, Level, Outcome, Pointer, QueryId};

use coralline_sources::{Answer, Asking, Dealing, Next, Standings, key as peer_key};

use crate::content::{ContentLie, Ended, Library, Received};
use crate::report::Report;
use crate::workload::{float, key, ms, number, percent, percentile};
use crate::world::{Finished, Notice, World};

/// Of a claim while its fetch runs, and of a pointer to what is whole.
const RECEIVING: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_secs(3_600);
/// As in the proxy: how long peers may take in all, how often the index is asked again, and how long a
/// peer may be silent midway.
const PEER_BUDGET: Duration = Duration::from_secs(10);
const MAX_RELOCATIONS: usize = 8;
const PEER_STALL: Duration = Duration::from_secs(3);
/// What the octets of an object take from one to another, beside the round trips; and the origin's.
const TRANSFER: Duration = Duration::from_millis(50);
const ORIGIN: Duration = Duration::from_millis(300);

/// One fetch, from a client's request to the last octet.
struct Fetch {
    node: usize,
    at: usize,
    since: Instant,
    /// An honest node held it all when it began.
    held: bool,
    deadline: Instant,
    relocations: usize,
    except: Except,
    asking: Option<Asking>,
    /// Requests under way, and in which round each was made.
    asked: BTreeMap<usize, (Pointer, usize)>,
    /// Who has begun to answer.
    sending: Option<Pointer>,
    received: Received,
}

enum Due {
    /// A client asks.
    Client,
    /// The round is to be polled again.
    Poll(usize),
    /// An answer begins, or there is none.
    Head(usize, usize),
    /// It has been waited for long enough.
    Patience(usize, usize, Duration),
    /// All has come that will.
    Body(usize, Vec<u8>, bool),
    /// The origin's answer is here.
    Origin(usize),
}

struct Market<'a> {
    world: &'a mut World,
    library: Library,
    length: usize,
    keys: usize,
    lies: BTreeMap<usize, ContentLie>,
    /// Who has which object, and by whose word.
    holds: BTreeMap<(usize, usize), usize>,
    standings: BTreeMap<usize, Standings>,
    fetches: Vec<Fetch>,
    due: Vec<Option<Due>>,
    open: BTreeMap<(usize, QueryId), usize>,
    requests: usize,
    /// What nodes have suffered from liars.
    to_liars: BTreeMap<(usize, usize), Suffered>,
    tally: Tally,
}

/// By one node from one liar.
#[derive(Default)]
struct Suffered {
    requests: usize,
    /// Lies that it has found out, or silence that it has waited for, until it first left the liar alone.
    lies: usize,
    is_left_alone: bool,
}

#[derive(Default)]
struct Tally {
    ended: usize,
    wrong_octets: u64,
    held: usize,
    without_origin: usize,
    origin: usize,
    took: Vec<f64>,
}

pub(super) fn run(
    world: &mut World,
    report: &mut Report,
    (liars, keys): (f64, usize),
    minutes: u64,
    gets_a_second: u64,
    length: usize,
) {
    let mut market = Market::open(world, liars, keys, length);
    let pause = Duration::from_secs(1) / u32::try_from(gets_a_second.max(1)).unwrap_or(u32::MAX);
    market.later(Duration::ZERO, Due::Client);
    let end = market.world.now() + Duration::from_secs(60 * minutes);
    let until = end + Duration::from_secs(60);
    while let Some(notice) = market.world.next(until) {
        match notice {
            Notice::Alarm(at) => match market.due[at].take() {
                Some(Due::Client) if market.world.now() < end => {
                    market.begin();
                    market.later(pause, Due::Client);
                }
                Some(due) => market.happen(due),
                None => {}
            },
            Notice::Finished(node, query, finished) => market.located(node, query, finished),
        }
    }
    market.report(report);
}

impl<'a> Market<'a> {
    /// Liars say at once that they hold everything.
    fn open(world: &'a mut World, share: f64, keys: usize, length: usize) -> Self {
        let nodes = world.nodes();
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a share")]
        let count = (number(nodes) * share).round() as usize;
        let mut lies = BTreeMap::new();
        while lies.len() < count {
            let node = world.any_node(None);
            let next = ContentLie::ALL[lies.len() % ContentLie::ALL.len()];
            lies.entry(node).or_insert(next);
        }
        for node in lies.keys() {
            for at in 0..keys {
                while world.put(*node, key("content", at), WHOLE).is_err() {
                    world.run(Duration::from_millis(100));
                }
            }
        }
        world.settle();
        Self {
            world,
            library: Library::new(length),
            length,
            keys,
            lies,
            holds: BTreeMap::new(),
            standings: BTreeMap::new(),
            fetches: Vec::new(),
            due: Vec::new(),
            open: BTreeMap::new(),
            requests: 0,
            to_liars: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    fn later(&mut self, time: Duration, due: Due) {
        self.world.alarm(time, self.due.len());
        self.due.push(Some(due));
    }

    /// An honest node is asked for something that it does not hold.
    fn begin(&mut self) {
        let (node, at) = (self.world.any_node(None), self.world.draw(self.keys));
        if self.lies.contains_key(&node) || self.holds.contains_key(&(node, at)) {
            return;
        }
        let held = self.holds.keys().any(|(_, held)| *held == at);
        let since = self.world.now();
        self.fetches.push(Fetch {
            node,
            at,
            since,
            held,
            deadline: since + PEER_BUDGET,
            relocations: 0,
            except: Except::default(),
            asking: None,
            asked: BTreeMap::new(),
            sending: None,
            received: Received::nothing(),
        });
        self.locate(self.fetches.len() - 1);
    }

    fn locate(&mut self, id: usize) {
        let Fetch { node, at, except, .. } = &self.fetches[id];
        let (node, key) = (*node, key("content", *at));
        match self.world.claim_except(node, key, RECEIVING, except.clone()) {
            Ok(query) => _ = self.open.insert((node, query), id),
            Err(_) => self.later(ORIGIN, Due::Origin(id)),
        }
    }

    fn located(&mut self, node: usize, query: QueryId, finished: Finished) {
        let Some(id) = self.open.remove(&(node, query)) else { return };
        let Outcome::Held { pointers, level, .. } = finished.outcome else {
            return self.later(ORIGIN, Due::Origin(id));
        };
        self.ask(id, &pointers, level);
    }

    fn ask(&mut self, id: usize, pointers: &[Pointer], level: Level) {
        let now = self.world.now();
        let fetch = &mut self.fetches[id];
        let standings = self.standings.entry(fetch.node).or_default();
        let (asking, useless) =
            Asking::new(now, fetch.deadline, (pointers, level), standings, |_| true);
        fetch.except.add(&useless, None);
        fetch.asking = Some(asking);
        self.poll(id);
    }

    fn poll(&mut self, id: usize) {
        loop {
            let now = self.world.now();
            let Some(asking) = &mut self.fetches[id].asking else { return };
            match asking.poll(now) {
                Next::Ask { pointer, patience, .. } => self.send(id, pointer, patience),
                Next::Wait(Some(wake)) => return self.later(wake.since(now), Due::Poll(id)),
                Next::Wait(None) => return,
                Next::End { .. } => {
                    self.fetches[id].asking = None;
                    return self.elsewhere(id);
                }
            }
        }
    }

    /// Those of the last round were of no use: others, or the origin.
    fn elsewhere(&mut self, id: usize) {
        let fetch = &mut self.fetches[id];
        fetch.relocations += 1;
        let may = fetch.relocations <= MAX_RELOCATIONS && self.world.now() < fetch.deadline;
        if may { self.locate(id) } else { self.later(ORIGIN, Due::Origin(id)) }
    }

    /// A connection, and the request over it.
    fn send(&mut self, id: usize, pointer: Pointer, patience: Duration) {
        self.requests += 1;
        let (request, fetch) = (self.requests, &mut self.fetches[id]);
        let node = fetch.node;
        fetch.asked.insert(request, (pointer, fetch.relocations));
        self.later(patience, Due::Patience(id, request, patience));
        let Some(peer) = self.world.at(pointer.holder.addr) else { return };
        if self.lies.contains_key(&peer) {
            self.to_liars.entry((node, peer)).or_default().requests += 1;
        }
        if self.lies.get(&peer) != Some(&ContentLie::Silent) {
            let rtt = self.world.geography().rtt(node, peer);
            self.later(3 * rtt, Due::Head(id, request));
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Client => {}
            Due::Poll(id) => self.poll(id),
            Due::Head(id, request) => self.head(id, request),
            Due::Patience(id, request, patience) => {
                let Some(asked) = self.fetches[id].asked.remove(&request) else { return };
                // Who was outrun by another is judged all the same.
                self.change(id, &asked.0, true, |standings, now| {
                    standings.blame(now, &asked.0, patience, false);
                });
                self.useless(id, asked);
            }
            Due::Body(id, octets, ends) => self.body(id, octets, ends),
            Due::Origin(id) => {
                self.tally.origin += 1;
                self.whole(id, None);
            }
        }
    }

    /// An answer begins; those of the others are not taken.
    fn head(&mut self, id: usize, request: usize) {
        let fetch = &mut self.fetches[id];
        let Some((pointer, round)) = fetch.asked.remove(&request) else { return };
        if fetch.asking.is_none() || round != fetch.relocations {
            return;
        }
        let (node, at) = (fetch.node, fetch.at);
        let Some(peer) = self.world.at(pointer.holder.addr) else { return };
        let from = fetch.received.proof.as_ref().map_or(0, |_| fetch.received.delivered);
        let (octets, ends) = match (self.lies.get(&peer), self.holds.get(&(peer, at))) {
            (Some(lie), _) => {
                let draw = self.world.draw(usize::MAX);
                self.library.lie(peer, *lie, (at, from), draw)
            }
            (None, Some(signer)) => {
                let proof = self.library.signed(*signer, at);
                (self.library.stream(at, &proof, from), true)
            }
            (None, None) => {
                // It is on its way there.
                return self.useless(id, (pointer, round));
            }
        };
        (fetch.asking, fetch.sending) = (None, Some(pointer));
        let after = 3 * self.world.geography().rtt(node, peer);
        self.learn(id, &pointer, Dealing::Answered(after));
        let wait = if ends { TRANSFER } else { PEER_STALL };
        self.later(wait, Due::Body(id, octets, ends));
    }

    fn body(&mut self, id: usize, octets: Vec<u8>, ends: bool) {
        let fetch = &mut self.fetches[id];
        let Some(pointer) = fetch.sending.take() else { return };
        let (at, count) = (fetch.at, octets.len() as u64);
        let ended = fetch.received.read(at, self.length, octets, ends);
        let dealing = match ended {
            Ended::Whole => Dealing::Sent(count, TRANSFER),
            Ended::NotAsked => Dealing::Wrong,
            Ended::Stalled => Dealing::Failed,
            Ended::Wrong(coralline_receipt::Wrong::Truncated) => Dealing::Failed,
            Ended::Wrong(_) => Dealing::Wrong,
        };
        self.learn(id, &pointer, dealing);
        if ended == Ended::Whole {
            let peer = self.world.at(pointer.holder.addr).expect("it has answered");
            return self.whole(id, Some(peer));
        }
        self.fetches[id].except.add(&[pointer], None);
        self.elsewhere(id);
    }

    /// One of those asked has nothing to give: the next.
    fn useless(&mut self, id: usize, (pointer, round): (Pointer, usize)) {
        let now = self.world.now();
        let fetch = &mut self.fetches[id];
        fetch.except.add(&[pointer], None);
        if let Some(asking) = fetch.asking.as_mut().filter(|_| round == fetch.relocations) {
            asking.handle_answer(now, Answer::Nothing);
            self.poll(id);
        }
    }

    fn learn(&mut self, id: usize, pointer: &Pointer, dealing: Dealing) {
        let peer = peer_key(&pointer.holder);
        let is_fault = !matches!(dealing, Dealing::Answered(_) | Dealing::Sent(..));
        self.change(id, pointer, is_fault, |standings, now| standings.learn(now, peer, dealing));
    }

    /// Changes what a node knows of a peer, and notes when it first leaves a liar alone.
    fn change(
        &mut self,
        id: usize,
        pointer: &Pointer,
        is_fault: bool,
        change: impl FnOnce(&mut Standings, Instant),
    ) {
        let (node, now) = (self.fetches[id].node, self.world.now());
        let standings = self.standings.entry(node).or_default();
        change(standings, now);
        let peer = self.world.at(pointer.holder.addr);
        let Some(known) = peer.and_then(|peer| self.to_liars.get_mut(&(node, peer))) else {
            return;
        };
        known.lies += usize::from(is_fault && !known.is_left_alone);
        known.is_left_alone |= standings.shuns(now, peer_key(&pointer.holder));
    }

    /// All of it is here, from a peer or from the origin.
    fn whole(&mut self, id: usize, from: Option<usize>) {
        let Fetch { node, at, since, held, received, .. } = &self.fetches[id];
        let (node, at) = (*node, *at);
        self.tally.ended += 1;
        self.tally.wrong_octets += received.wrong;
        self.tally.held += usize::from(*held);
        self.tally.without_origin += usize::from(*held && from.is_some());
        self.tally.took.push(ms(self.world.now().since(*since)));
        let signer = from.and_then(|peer| self.holds.get(&(peer, at)).copied()).unwrap_or(node);
        self.holds.insert((node, at), signer);
        let _ = self.world.put(node, key("content", at), WHOLE);
    }

    fn report(self, report: &mut Report) {
        let Tally { ended, wrong_octets, held, without_origin, origin, took } = self.tally;
        let lies: Vec<_> = self.to_liars.values().map(|suffered| suffered.lies).collect();
        let asked: Vec<_> = self.to_liars.values().map(|suffered| suffered.requests).collect();
        report.figure("fetches", number(self.fetches.len()));
        report.figure("fetches that end, %", percent(ended, self.fetches.len()));
        report.figure("wrong octets delivered", float(wrong_octets));
        report.figure("liars that were asked by somebody", number(self.to_liars.len()));
        let most = |all: &[usize]| number(all.iter().copied().max().unwrap_or(0));
        report.figure("lies until a liar is left alone, at most", most(&lies));
        report.figure("requests to a liar by one node, at most", most(&asked));
        report.figure("requests to liars, %", percent(asked.iter().sum(), self.requests));
        report.figure("of what others hold, from them, %", percent(without_origin, held));
        report.figure("origin fetches an object", number(origin) / number(self.keys));
        report.figure("fetch: median, ms", percentile(&took, 50));
        report.figure("fetch: 99th percentile, ms", percentile(&took, 99));
    }
}
