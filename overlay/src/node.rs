//! The index as one machine without I/O: what comes in, what goes out, and who owns which state.

mod again;
mod answer;
mod ask;
mod broadcast;
mod explore;
mod handover;
mod hints;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use coralline_config::Rules;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::address::{admissible, canonical};
use crate::calls::{Calls, Late};
use crate::clusters::{Clusters, Memberships, Rings};
use crate::contact::Contact;
use crate::directory::{Directory, Neighbour};
use crate::except::Except;
use crate::hot::Hot;
use crate::id::{Key, NodeId};
use crate::limits::{MAX_QUERIES, MAX_REMEMBERED, VERIFIED_WITHIN};
use crate::output::{Busy, Event, Output, QueryId, Transmit};
use crate::pointer::Pointer;
use crate::query::{Kind, Query};
use crate::settings::{Sender, Settings};
use crate::stats::Stats;
use crate::store::Store;
use crate::table::{Entry, Table};
use crate::time::Instant;
use crate::wire::{Body, Message};
use again::Again;
use broadcast::Broadcasts;
use handover::Handover;
use hints::Hints;
use upkeep::Upkeep;

/// The core. One change (`new`, `set_seeds`, `handle_*` or a verb), then drain by
/// [`Overlay::poll_output`].
#[derive(Debug)]
pub struct Overlay {
    local: Contact,
    id: NodeId,
    rules: Rules,
    rng: ChaCha8Rng,
    table: Table,
    clusters: Clusters,
    store: Store,
    hot: Hot,
    calls: Calls,
    /// Boxed: a map keeps room for eleven even when it is empty.
    queries: BTreeMap<QueryId, Box<Query>>,
    started: u64,
    upkeep: Upkeep,
    again: Again,
    broadcasts: Broadcasts,
    handover: Handover,
    hints: Hints,
    joined: bool,
    published: Published,
    outbox: VecDeque<Out>,
    stats: Stats,
}

/// Whose message it is, and which clusters it says that it is in.
#[derive(Debug, Clone, Copy)]
struct Heard {
    sender: Contact,
    rings: Rings,
    proven: bool,
}

impl Heard {
    fn memberships(&self) -> Memberships {
        self.rings.map(|ring| ring.id)
    }
}

/// What the application was last told to read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Published {
    /// [`Table::changes`] at that time.
    changes: u64,
    joined: bool,
}

/// Places of the outbox that are kept while it is empty: most drains need fewer.
const KEPT_OUTBOX: usize = 4;

#[derive(Debug)]
enum Out {
    Datagram(Transmit, Vec<u8>),
    Event(Event),
}

impl Overlay {
    /// A core at `now`; equal settings, seeds and inputs give equal outputs.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let Settings { mut local, hints, as_number, seeds, mut saved, levels, rules } = settings;
        local.addr = canonical(local.addr);
        saved.retain(|contact| admissible(contact, local.addr.ip()) && contact.id() != local.id());
        saved.truncate(MAX_REMEMBERED);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let clusters = Clusters::new(now, &levels, rules, || rng.next_u32());
        let (own, near) = (clusters.memberships(), clusters.nearest_bound());
        let table = Table::new(local.id(), own, near, ChaCha8Rng::seed_from_u64(rng.next_u64()));
        let mut overlay = Self {
            local,
            id: local.id(),
            rules,
            rng,
            table,
            clusters,
            store: Store::new(rules),
            hot: Hot::default(),
            calls: Calls::default(),
            queries: BTreeMap::new(),
            started: 0,
            upkeep: Upkeep::new(saved),
            again: Again::default(),
            broadcasts: Broadcasts::default(),
            handover: Handover::default(),
            hints: Hints::new(&local, hints, as_number),
            joined: false,
            published: Published::default(),
            outbox: VecDeque::new(),
            stats: Stats::default(),
        };
        overlay.take_seeds(now, seeds);
        overlay.joined = overlay.upkeep.knows_nobody();
        overlay.published.joined = overlay.joined;
        overlay
    }

    /// Takes in what the transport has decrypted. Noise is counted and dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: Sender, plaintext: &[u8]) {
        self.assert_drained();
        self.stats.datagrams_in += 1;
        self.stats.bytes_in += plaintext.len() as u64;
        let addr = canonical(from.addr);
        if from.identity == self.local.identity {
            self.stats.dropped.own += 1;
            self.upkeep.forget_seed(addr);
            return;
        }
        let Ok(message) = Message::decode(plaintext, from.identity) else {
            self.stats.dropped.malformed += 1;
            return;
        };
        let Message { number, sender, rings, body } = message;
        if sender.addr != addr || !admissible(&sender, self.local.addr.ip()) {
            self.stats.dropped.address += 1;
            return;
        }
        match body {
            Body::Request(request) => {
                let from = Heard { sender, rings, proven: from.proven };
                self.on_request(now, from, number, &request);
            }
            Body::Broadcast { reach, payload } => {
                let from = Heard { sender, rings, proven: from.proven };
                let answer = self.on_broadcast(now, &from, reach, payload);
                self.reply(now, &from, number, answer);
            }
            Body::Answer(answer) => {
                let from = Heard { sender, rings, proven: true };
                self.on_answer(now, from, number, answer);
            }
        }
        self.publish();
    }

    /// The transport could not reach `addr` (no handshake, ICMP unreachable): a timeout, only
    /// sooner.
    pub fn handle_unreachable(&mut self, now: Instant, addr: SocketAddr) {
        self.assert_drained();
        while let Some(call) = self.calls.unreachable(canonical(addr)) {
            // What fails before this instant is over; a query's next step goes to another address.
            self.on_failure(now, &call);
        }
        self.publish();
    }

    /// Replaces the seeds, whose names the driver resolves again while the network is not joined.
    pub fn set_seeds(&mut self, now: Instant, seeds: Vec<SocketAddr>) {
        self.assert_drained();
        self.take_seeds(now, seeds);
    }

    /// Asks who has `key`. This node's own pointer counts only if nobody else has one.
    ///
    /// # Errors
    /// [`Busy`] when too many queries are in flight; here and below.
    pub fn get(&mut self, now: Instant, key: Key) -> Result<QueryId, Busy> {
        self.admit(now, key, Kind::Get, Except::default())
    }

    /// The same after answers whose pointers have all led nowhere: the search passes them by.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn get_except(&mut self, now: Instant, key: Key, except: Except) -> Result<QueryId, Busy> {
        self.hot.forget_found(&key);
        self.admit(now, key, Kind::Get, except)
    }

    /// Says that this node has `key`, for `ttl` ([`Rules::max_ttl`] at most). The holder is always this
    /// node, whatever `pointer` names.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn put(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
    ) -> Result<QueryId, Busy> {
        let pointer = Pointer { holder: self.local, ..pointer };
        self.admit(now, key, Kind::Put(pointer, ttl.min(self.rules.max_ttl)), Except::default())
    }

    /// A put that is decided at the closest node: claimed when nobody else holds the key, else
    /// held.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn claim(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
    ) -> Result<QueryId, Busy> {
        self.claim_except(now, key, pointer, ttl, Except::default())
    }

    /// The same after answers whose pointers have all led nowhere: the claim passes those holders by.
    /// Of those who pass the same holders by, one is told to go to the origin, the others find it.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn claim_except(
        &mut self,
        now: Instant,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
        except: Except,
    ) -> Result<QueryId, Busy> {
        let pointer = Pointer { holder: self.local, ..pointer };
        if !except.is_empty() {
            self.hot.forget_found(&key);
        }
        let claim = Kind::Claim(pointer, ttl.min(self.rules.max_ttl));
        self.admit(now, key, claim, except.of_holders())
    }

    /// Takes back what this node has put for `key`: best effort, the time to live does the rest.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn withdraw(&mut self, now: Instant, key: Key) -> Result<QueryId, Busy> {
        self.admit(now, key, Kind::Withdraw, Except::default())
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.assert_drained();
        while let Some(late) = self.calls.late(now) {
            match late {
                Late::Repeat(call) => self.repeat(now, call),
                Late::Failed(call) => self.on_failure(now, &call),
            }
        }
        // Each query has the same time, so the oldest ends first.
        while let Some(oldest) = self.queries.first_entry().filter(|q| q.get().deadline <= now) {
            let (id, query) = oldest.remove_entry();
            let outcome = query.give_up();
            self.end(now, id, None, outcome);
        }
        self.store.expire(now);
        self.do_upkeep(now);
        self.publish();
    }

    /// The next thing for the driver to do. For a transmission the payload is in `buf`, which is
    /// cleared first.
    pub fn poll_output(&mut self, buf: &mut Vec<u8>) -> Output {
        buf.clear();
        match self.outbox.pop_front() {
            Some(Out::Datagram(transmit, payload)) => {
                buf.extend_from_slice(&payload);
                Output::Transmit(transmit)
            }
            Some(Out::Event(event)) => Output::Event(event),
            None => {
                self.outbox.shrink_to(KEPT_OUTBOX);
                Output::Idle { wake: self.wake() }
            }
        }
    }

    /// This node and its live neighbours, nearest first. Made when it is asked for: an
    /// [`Event::DirectoryChanged`] tells when that is worth it.
    #[must_use]
    pub fn directory(&self, now: Instant) -> Directory {
        let live = self.table.neighbours().into_iter();
        let neighbours = live
            .filter(|entry| now.since(entry.verified) <= VERIFIED_WITHIN)
            .map(|entry| Neighbour {
                contact: entry.contact(),
                verified: entry.verified,
                rtt: entry.rtt.min(),
                level: entry.level,
            })
            .collect();
        Directory { local: self.local, neighbours, joined: self.joined }
    }

    /// Contacts worth saving for the next start, best first, bounded: the live ones, nearest first,
    /// then those of earlier times that have not been met again.
    #[must_use]
    pub fn contacts(&self) -> Vec<Contact> {
        let live = self.table.neighbours().into_iter().map(Entry::contact);
        live.chain(self.upkeep.remembered().copied()).take(MAX_REMEMBERED).collect()
    }

    /// The numbers of this node's clusters, that of level 1 first.
    #[must_use]
    pub fn clusters(&self) -> Vec<u32> {
        self.clusters.memberships().into_iter().filter(|number| *number != 0).collect()
    }

    /// What it has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            keys: self.store.keys(),
            values: self.store.len(),
            contacts: self.table.len(),
            alive: self.table.live(),
            ..self.stats
        }
    }

    fn assert_drained(&self) {
        debug_assert!(self.outbox.is_empty(), "one change, then drain to Idle");
    }

    fn wake(&self) -> Option<Instant> {
        let query = self.queries.values().next().map(|query| query.deadline);
        let (calls, expiry) = (self.calls.next_deadline(), self.store.next_expiry());
        [calls, query, expiry, self.upkeep.wake(), self.again.at, self.handover.at, self.hints.at]
            .into_iter()
            .flatten()
            .min()
    }

    fn admit(
        &mut self,
        now: Instant,
        key: Key,
        kind: Kind,
        except: Except,
    ) -> Result<QueryId, Busy> {
        self.assert_drained();
        let of_application = self.queries.values().filter(|q| q.kind != Kind::Refresh).count();
        if of_application >= MAX_QUERIES {
            self.stats.queries_refused += 1;
            return Err(Busy);
        }
        self.stats.queries_started += 1;
        self.note_put(now, key, &kind);
        if let Some(outcome) = self.recalled(now, &key, &kind) {
            self.started += 1;
            let query = QueryId(self.started);
            self.end(now, query, None, Some(outcome));
            return Ok(query);
        }
        let id = self.ask(now, key, kind, except);
        self.publish();
        Ok(id)
    }

    /// Tells the application once the set of live neighbours has changed.
    fn publish(&mut self) {
        let fresh = Published { changes: self.table.changes(), joined: self.joined };
        if self.published != fresh {
            self.published = fresh;
            self.outbox.push_back(Out::Event(Event::DirectoryChanged));
        }
    }
}

#[cfg(test)]
mod tests;
