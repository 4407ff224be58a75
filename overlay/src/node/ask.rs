//! What a node asks of others: it carries its queries on, and pairs requests with answers.

use std::net::SocketAddr;

use rand_core::Rng;

use crate::calls::{Call, Opening, Purpose};
use crate::contact::{Contact, Identity};
use crate::except::Except;
use crate::id::Key;
use crate::level::Level;
use crate::limits::{
    BUCKET, CLAIM_ATTEMPTS, CLAIM_WIDTH, FIRST_TIMEOUT, JOIN_ATTEMPTS, LEVEL_WIDTH, LOOKUP_WIDTH,
    MAX_ATTEMPTS, MAX_OUTBOX, QUERY_TIME,
};
use crate::lookup::{Lookup, halfway};
use crate::node::{Heard, Out, Overlay};
use crate::output::{Event, Outcome, QueryId, Transmit};
use crate::query::{Action, Kind, Query};
use crate::time::Instant;
use crate::wire::{Answer, Body, Message, Refusal, Request, Want};

impl Overlay {
    /// Starts a query of the application at the nearest level, a claim at the global one.
    pub(super) fn ask(&mut self, now: Instant, key: Key, kind: Kind, except: Except) -> QueryId {
        let is_claim = matches!(kind, Kind::Claim(..));
        let from = if is_claim { Level::GLOBAL } else { self.clusters.nearest() };
        self.ask_from(now, key, kind, from, except)
    }

    /// The same at a level of the caller's choice.
    pub(super) fn ask_from(
        &mut self,
        now: Instant,
        key: Key,
        kind: Kind,
        from: Level,
        except: Except,
    ) -> QueryId {
        let is_claim = matches!(kind, Kind::Claim(..));
        let width = if is_claim { CLAIM_WIDTH } else { LOOKUP_WIDTH };
        let (level, lookup) = self.search(now, key, &kind, from, width);
        let mut query = Query::new(kind, self.local, level, lookup, now + QUERY_TIME, self.rules);
        query.pass_by(except);
        let mut members = self.members(&key);
        if is_claim {
            query.peek(members);
        } else if kind == Kind::Get && level != Level::GLOBAL && !self.hot.is_hot(now, &key) {
            members.remove(0);
            query.peek(members);
        }
        // This node is the first on the way.
        if let Some(nodes) = self.first_step(now, &key, &kind) {
            query.on_answer(&self.id, Answer::Nodes(nodes));
        }
        self.begin(now, query)
    }

    /// Starts a lookup of upkeep from the nearest known contacts and `more`, at the nearest level of
    /// `level` and wider ones at which anybody is known.
    pub(super) fn start(
        &mut self,
        now: Instant,
        key: Key,
        kind: Kind,
        level: Level,
        width: usize,
        more: &[Contact],
    ) -> QueryId {
        let (level, mut lookup) = self.search(now, key, &kind, level, width);
        lookup.extend(more);
        self.begin(now, Query::new(kind, self.local, level, lookup, now + QUERY_TIME, self.rules))
    }

    fn begin(&mut self, now: Instant, query: Query) -> QueryId {
        self.started += 1;
        let id = QueryId(self.started);
        self.queries.insert(id, Box::new(query));
        self.advance(now, id);
        id
    }

    /// Of each cluster, the nearest first, the member nearest to the key.
    fn members(&self, key: &Key) -> Vec<(Contact, Level)> {
        let mut members = Vec::<(Contact, Level)>::new();
        for level in (1..=self.clusters.nearest().0).rev().map(Level) {
            let member = self.table.closest(level, key, 1).pop();
            let is_new = |c: &Contact| members.iter().all(|(other, _)| other != c);
            members.extend(member.filter(is_new).map(|contact| (contact, level)));
        }
        members
    }

    /// A search in the cluster of `level`, or of the next wider one that has members.
    fn search(
        &self,
        now: Instant,
        key: Key,
        kind: &Kind,
        level: Level,
        width: usize,
    ) -> (Level, Lookup) {
        let members = |level| self.table.closest(level, &key, BUCKET);
        let inhabited = (1..=level.0).rev().map(Level).find(|level| !members(*level).is_empty());
        let level = inhabited.unwrap_or(Level::GLOBAL);
        let mut from = members(level);
        let width =
            if level == Level::GLOBAL || *kind == Kind::Refresh { width } else { LEVEL_WIDTH };
        // A put has time, and is what a crowd repeats; the others go straight while they may.
        let is_wide = matches!(kind, Kind::Put(..)) || self.hot.is_hot(now, &key);
        if is_wide {
            from.extend(self.table.closest(
                level,
                &halfway(&key, &self.id, self.rules.hop_bits),
                BUCKET,
            ));
        }
        let mut lookup = Lookup::new(key, self.id, width, &from).of_bits(self.rules.hop_bits);
        if self.hot.is_crowded(now, &key) {
            lookup = lookup.in_a_crowd();
        }
        (level, if is_wide { lookup.halving() } else { lookup })
    }

    /// Takes a query to the next wider level.
    fn widen(&mut self, now: Instant, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        let (key, kind, at) = (*query.lookup.target(), query.kind, query.lookup.at());
        let wider = Level(query.level.0.saturating_sub(1));
        let (level, lookup) = self.search(now, key, &kind, wider, LOOKUP_WIDTH);
        if let Some(query) = self.queries.get_mut(&id) {
            query.widen(level, lookup.from(at));
        }
    }

    /// Carries a query on as far as it goes without further answers.
    pub(super) fn advance(&mut self, now: Instant, id: QueryId) {
        loop {
            let Some(query) = self.queries.get_mut(&id) else { return };
            match query.next() {
                Action::Wait => return,
                Action::Widen => self.widen(now, id),
                Action::Ask(to, request) if to.id() == self.id => {
                    let answer = self.serve(now, self.local, true, &request);
                    if let Some(query) = self.queries.get_mut(&id) {
                        query.on_answer(&self.id, answer);
                    }
                }
                Action::Ask(to, request) => {
                    if !self.call(now, to.addr, Some(to), &request, Purpose::Query(id))
                        && let Some(query) = self.queries.get_mut(&id)
                    {
                        query.on_failure(&to.id());
                    }
                }
                Action::Tell(to, request) if to.id() == self.id => {
                    let _ = self.serve(now, self.local, true, &request);
                }
                Action::Tell(to, request) => {
                    self.call(now, to.addr, Some(to), &request, Purpose::Tell);
                }
                Action::End(outcome) => {
                    let query = self.queries.remove(&id);
                    self.end(now, id, query.as_deref(), outcome);
                    return;
                }
            }
        }
    }

    pub(super) fn end(
        &mut self,
        now: Instant,
        id: QueryId,
        query: Option<&Query>,
        outcome: Option<Outcome>,
    ) {
        let Some(outcome) = outcome else {
            self.on_refreshed(now, id, query);
            return;
        };
        if let Some(query) = query {
            self.remember(now, query, &outcome);
        }
        if self.again.ended(id) {
            return;
        }
        if self.hints.ended(id) {
            self.on_hinted(now, &outcome);
            return;
        }
        if outcome == Outcome::TimedOut {
            self.stats.queries_timed_out += 1;
        } else {
            self.stats.queries_finished += 1;
        }
        self.outbox.push_back(Out::Event(Event::Finished { query: id, outcome }));
    }

    /// Notes what the next query about the same key may make use of.
    fn remember(&mut self, now: Instant, query: &Query, outcome: &Outcome) {
        let key = query.lookup.target();
        if query.loaded {
            self.hot.note_loaded(now, key);
        }
        if query.is_in_a_crowd() {
            self.hot.note_crowd(now, key);
        }
        match (&query.kind, outcome) {
            (_, Outcome::Found { pointers, .. } | Outcome::Held { pointers, .. })
                if pointers.iter().any(|p| p.holder.identity != self.local.identity) =>
            {
                self.hot.note_found(now, key, outcome, query.lasts);
            }
            (Kind::Put(pointer, ttl), Outcome::Stored { copies: copies @ 1.. }) => {
                self.hot.note_put(now, key, pointer, *ttl, *copies);
            }
            (Kind::Withdraw, _) => self.hot.forget(key),
            _ => {}
        }
    }

    /// The outcome of a query that would only repeat an earlier one.
    pub(super) fn recalled(&self, now: Instant, key: &Key, kind: &Kind) -> Option<Outcome> {
        let found = || match self.hot.found(now, key)? {
            Outcome::Found { pointers, level, by, .. } | Outcome::Held { pointers, level, by } => {
                Some((pointers, level, by))
            }
            _ => None,
        };
        match kind {
            Kind::Get => {
                found().map(|(pointers, level, by)| Outcome::Found { pointers, level, hops: 0, by })
            }
            Kind::Claim(..) => {
                found().map(|(pointers, level, by)| Outcome::Held { pointers, level, by })
            }
            Kind::Put(pointer, _) => {
                self.hot.repeats(now, key, pointer).map(|copies| Outcome::Stored { copies })
            }
            Kind::Withdraw | Kind::Refresh => None,
        }
    }

    /// Sends a request. False if too many are in flight.
    pub(super) fn call(
        &mut self,
        now: Instant,
        to: SocketAddr,
        contact: Option<Contact>,
        request: &Request,
        purpose: Purpose,
    ) -> bool {
        let is_claim = matches!(
            request,
            Request::Find { want: Want::Claim(..), .. } | Request::Store { claim: true, .. }
        );
        let most = match purpose {
            Purpose::Join => JOIN_ATTEMPTS,
            _ if is_claim => CLAIM_ATTEMPTS,
            _ => MAX_ATTEMPTS,
        };
        self.call_body(now, to, contact, Body::Request(*request), most, purpose)
    }

    /// Sends what is to be answered, up to `most` times.
    pub(super) fn call_body(
        &mut self,
        now: Instant,
        to: SocketAddr,
        contact: Option<Contact>,
        body: Body,
        most: u8,
        purpose: Purpose,
    ) -> bool {
        if !self.calls.has_room(purpose) {
            return false;
        }
        let mut number = self.rng.next_u64();
        while self.calls.contains(number) {
            number = self.rng.next_u64();
        }
        let rings = self.clusters.rings(now);
        let payload = Message { number, sender: self.local, rings, body }.encode();
        let known = contact.and_then(|contact| self.table.entry(&contact.id()));
        let timeout = known.map_or(FIRST_TIMEOUT, |entry| entry.rtt.timeout());
        self.send(to, contact.map(|c| c.identity), payload.clone());
        self.calls.open(now, number, timeout, Opening { to, contact, payload, purpose, most });
        true
    }

    pub(super) fn send(&mut self, to: SocketAddr, identity: Option<Identity>, payload: Vec<u8>) {
        if self.outbox.len() >= MAX_OUTBOX {
            return;
        }
        self.stats.datagrams_out += 1;
        self.stats.bytes_out += payload.len() as u64;
        self.outbox.push_back(Out::Datagram(Transmit { to, identity }, payload));
    }

    pub(super) fn repeat(&mut self, now: Instant, call: Call) {
        self.stats.calls_repeated += 1;
        self.send(call.to, call.contact.map(|c| c.identity), call.payload);
        if let (Purpose::Query(id), Some(contact)) = (call.purpose, call.contact)
            && let Some(query) = self.queries.get_mut(&id)
        {
            query.on_delay(&contact.id());
            self.advance(now, id);
        }
    }

    /// The node doubted our address; by its answer it knows better.
    fn tell_again(&mut self, now: Instant, number: u64, call: Call) {
        let Call { to, contact, payload, most, .. } = call;
        self.send(to, contact.map(|c| c.identity), payload.clone());
        let opening = Opening { to, contact, payload, purpose: Purpose::Upkeep, most };
        self.calls.open(now, number, FIRST_TIMEOUT, opening);
    }

    pub(super) fn on_failure(&mut self, now: Instant, call: &Call) {
        self.stats.calls_failed += 1;
        let Some(contact) = call.contact else { return };
        self.note_failure(now, &contact, call.sent);
        match call.purpose {
            Purpose::Query(id) => {
                let Some(query) = self.queries.get_mut(&id) else { return };
                query.on_failure(&contact.id());
                self.advance(now, id);
            }
            Purpose::Broadcast { message, bucket, tries } => {
                self.tell_another(now, message, bucket, tries);
            }
            _ => {}
        }
    }

    pub(super) fn on_answer(&mut self, now: Instant, from: Heard, number: u64, mut answer: Answer) {
        let sender = from.sender;
        let Some(call) = self.calls.answered(number, sender.addr, &sender.identity) else {
            self.stats.dropped.unsolicited += 1;
            return;
        };
        self.clusters.heard(&from.rings);
        let rtt = (call.attempts == 1).then(|| now.since(call.sent));
        self.meet(now, &from, rtt);
        self.sift(&mut answer);
        match call.purpose {
            Purpose::Tell if answer == Answer::Refused(Refusal::Unproven) => {
                self.tell_again(now, number, call);
            }
            Purpose::Upkeep | Purpose::Tell => {}
            Purpose::Join => self.on_joined(now, sender, answer),
            Purpose::Explore => self.on_explored(now, answer),
            Purpose::Sample => self.on_sampled(now, answer),
            Purpose::Broadcast { message, bucket, tries } => {
                self.on_told(now, call.contact, &answer, (message, bucket, tries));
            }
            Purpose::Query(id) => {
                let Some(query) = self.queries.get_mut(&id) else { return };
                let asked = call.contact.map_or(sender.id(), |contact| contact.id());
                // One that calls itself by another slot than we know it by has another place.
                if asked == sender.id() {
                    query.on_answer(&asked, answer);
                } else {
                    query.on_failure(&asked);
                }
                self.advance(now, id);
            }
        }
    }
}
