//! What a node does unasked: it joins, stays joined, and knows who is alive.
//!
//! There is no "joined" state to fall out of. Whenever the table is empty the node tries its seeds
//! and its remembered contacts, ever more slowly but without end; while it is not, it tries one of
//! those that it has lost now and then, so that the halves of a parted network meet again.

use std::net::SocketAddr;
use std::time::Duration;

use rand_core::Rng;

use crate::address::{canonical, scope};
use crate::calls::Purpose;
use crate::contact::Contact;
use crate::id::Id;
use crate::level::Level;
use crate::limits::{
    BUCKET, EXPLORED, JOIN_BATCH, MAX_GREETINGS, MAX_JOIN_WAIT, MAX_RECALL_WAIT, MAX_REMEMBERED,
    MAX_SAMPLES, MAX_SEEDS, MIN_JOIN_BATCH, MIN_JOIN_WAIT, MIN_RECALL_WAIT, MIN_REFRESH_WAIT,
    MIN_REVIEW_WAIT, PING_AGAIN_AFTER, PING_SLACK, REFRESH_EVERY, REFRESH_WIDTH, SAMPLE_EVERY,
    SETTLED_AFTER,
};
use crate::lookup::Course;
use crate::node::{Heard, Overlay};
use crate::output::QueryId;
use crate::query::{Kind, Query};
use crate::table::Entry;
use crate::time::Instant;
use crate::wire::{Answer, Request, Want};

/// Timers, and the ways into the network.
#[derive(Debug)]
pub(super) struct Upkeep {
    seeds: Vec<SocketAddr>,
    /// Contacts that once were good and have no place in the table now.
    remembered: Vec<Contact>,
    /// How many of the remembered have been tried since the start.
    tried: usize,
    /// How many of them the next round tries.
    batch: usize,
    join_wait: Duration,
    join: Option<Instant>,
    ping: Option<Instant>,
    refresh: Option<Instant>,
    recall: Option<Instant>,
    recall_wait: Duration,
    review: Option<Instant>,
    /// The lookup for our own id, while it runs.
    self_lookup: Option<QueryId>,
    /// The next look at a bucket of a table that is still to be filled, and how many more follow.
    pub(super) sample: Option<Instant>,
    pub(super) samples: u32,
    /// When the first contact was met, after which this node begins to know its surroundings.
    met: Option<Instant>,
}

impl Upkeep {
    pub(super) const fn new(remembered: Vec<Contact>) -> Self {
        Self {
            seeds: Vec::new(),
            remembered,
            tried: 0,
            batch: MIN_JOIN_BATCH,
            join_wait: MIN_JOIN_WAIT,
            join: None,
            ping: None,
            refresh: None,
            recall: None,
            recall_wait: MIN_RECALL_WAIT,
            review: None,
            self_lookup: None,
            sample: None,
            samples: 0,
            met: None,
        }
    }

    pub(super) const fn knows_nobody(&self) -> bool {
        self.seeds.is_empty() && self.remembered.is_empty()
    }

    pub(super) fn remembered(&self) -> impl Iterator<Item = &Contact> {
        self.remembered.iter().rev()
    }

    /// Whether it once was good and then was lost.
    pub(super) fn has_lost(&self, contact: &Contact) -> bool {
        self.remembered.contains(contact)
    }

    pub(super) fn forget_seed(&mut self, addr: SocketAddr) {
        self.seeds.retain(|seed| *seed != addr);
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        [self.join, self.ping, self.refresh, self.sample, self.recall, self.review]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether it has been among others long enough to tell who is nearest to a key.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.is_older(now, SETTLED_AFTER)
    }

    /// Whether it has been among others for so long.
    pub(super) fn is_older(&self, now: Instant, age: Duration) -> bool {
        self.met.is_some_and(|met| now.since(met) >= age)
    }

    fn remember(&mut self, contact: Contact) {
        self.remembered.retain(|known| known.addr != contact.addr);
        if self.remembered.len() == MAX_REMEMBERED {
            self.remembered.remove(0);
        }
        self.remembered.push(contact);
    }

    fn ping_by(&mut self, at: Instant) {
        self.ping = Some(self.ping.map_or(at, |ping| ping.min(at)));
    }
}

impl Overlay {
    pub(super) fn take_seeds(&mut self, now: Instant, mut seeds: Vec<SocketAddr>) {
        seeds.iter_mut().for_each(|seed| *seed = canonical(*seed));
        seeds.retain(|seed| *seed != self.local.addr && scope(seed.ip()).is_some());
        seeds.sort_unstable();
        seeds.dedup();
        seeds.truncate(MAX_SEEDS);
        let changed = seeds != self.upkeep.seeds;
        self.upkeep.seeds = seeds;
        if self.table.is_empty() && (changed || self.upkeep.join.is_none()) {
            self.upkeep.join_wait = MIN_JOIN_WAIT;
            self.upkeep.join = (!self.upkeep.knows_nobody()).then_some(now);
        }
    }

    /// A contact was heard from at its proven address.
    pub(super) fn meet(&mut self, now: Instant, from: &Heard, rtt: Option<Duration>) {
        let was_empty = self.table.is_empty();
        let contact = from.sender;
        if !self.table.heard(now, contact, from.memberships(), rtt) {
            return;
        }
        self.upkeep.remembered.retain(|known| known.addr != contact.addr);
        self.upkeep.ping_by(now + PING_SLACK);
        self.note_newcomer(now, contact);
        if was_empty {
            self.joined = true;
            self.upkeep.met = Some(now);
            self.upkeep.join = None;
            self.upkeep.join_wait = MIN_JOIN_WAIT;
            self.upkeep.batch = MIN_JOIN_BATCH;
            self.recall_within(now, MIN_RECALL_WAIT);
            self.upkeep.refresh = Some(now + self.jittered(MIN_REFRESH_WAIT));
            self.upkeep.review = Some(now + self.jittered(MIN_REVIEW_WAIT));
            self.plan_hints(now);
            self.look_around(now, &[]);
        }
    }

    /// Pings a contact that the table would take, if its address were proven or it were heard.
    pub(super) fn greet(&mut self, now: Instant, contact: Contact) {
        if self.table.wants(&contact) && !self.calls.is_asking(contact.addr) {
            self.call(now, contact.addr, Some(contact), &Request::Ping, Purpose::Upkeep);
        }
    }

    /// A way in has answered: meet those near us, whom it named. If we know those already, then we
    /// are where it is.
    pub(super) fn on_joined(&mut self, now: Instant, sender: Contact, answer: Answer) {
        let mut named = vec![sender];
        if let Answer::Nodes(nodes) = answer {
            named.extend(nodes.closer);
        }
        let known = self.table.closest(Level::GLOBAL, &self.id, BUCKET);
        let reach = known.get(BUCKET - 1).map(|last| last.id().distance(&self.id));
        let is_new = |contact: &Contact| {
            !known.contains(contact)
                && reach.is_none_or(|reach| contact.id().distance(&self.id) < reach)
        };
        if self.upkeep.self_lookup.is_some() || named.iter().any(is_new) {
            self.look_around(now, &named);
        }
    }

    pub(super) fn note_failure(&mut self, now: Instant, contact: &Contact, sent: Instant) {
        if let Some(gone) = self.table.failed(now, &contact.id(), sent) {
            self.upkeep.remember(gone);
            // It may be back in a moment, and know nobody.
            self.recall_within(now, MIN_RECALL_WAIT);
            // Its place may have gone to one that has not been heard of for long.
            self.upkeep.ping_by(now);
            if self.table.is_empty() {
                self.upkeep.join = Some(now + self.jittered(MIN_JOIN_WAIT));
            }
        } else {
            self.upkeep.ping_by(now + PING_AGAIN_AFTER);
        }
    }

    /// A lookup of ours has ended.
    pub(super) fn on_refreshed(&mut self, now: Instant, id: QueryId, query: Option<&Query>) {
        if self.upkeep.self_lookup == Some(id) {
            self.upkeep.self_lookup = None;
            self.upkeep.samples = MAX_SAMPLES;
            self.upkeep.sample = Some(now + self.jittered(SAMPLE_EVERY));
        }
        let unasked = query.into_iter().flat_map(|query| query.lookup.unasked());
        let is_nearer = query.is_some_and(|query| query.level != Level::GLOBAL);
        for contact in unasked.take(MAX_GREETINGS).copied().collect::<Vec<_>>() {
            if is_nearer {
                self.sound(now, contact);
            } else {
                self.greet(now, contact);
            }
        }
    }

    /// Everything whose time has come.
    pub(super) fn do_upkeep(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.upkeep.join) {
            self.join(now);
        }
        if is_due(self.upkeep.ping) {
            self.ping(now);
        }
        if is_due(self.upkeep.refresh) {
            self.refresh(now);
        }
        if is_due(self.upkeep.sample) {
            self.sample(now);
        }
        if is_due(self.again.at) {
            self.put_again(now);
        }
        if is_due(self.handover.at) {
            self.hand_over(now);
        }
        if is_due(self.hints.at) {
            self.hint(now);
        }
        if is_due(self.upkeep.review) {
            self.review(now);
        }
        if is_due(self.upkeep.recall) {
            self.upkeep.recall = None;
            self.recall_within(now, (self.upkeep.recall_wait * 2).min(MAX_RECALL_WAIT));
            self.recall(now);
        }
    }

    /// One round over all seeds and some of the remembered.
    fn join(&mut self, now: Instant) {
        self.upkeep.join = None;
        if !self.table.is_empty() {
            return;
        }
        let count = self.upkeep.remembered.len();
        if self.upkeep.seeds.is_empty() && self.upkeep.tried >= count {
            // Everybody was tried and nobody is there: this is the first node, until one answers.
            self.joined = true;
        }
        let first = self.upkeep.tried;
        for at in first..first + self.upkeep.batch.min(count) {
            let contact = self.upkeep.remembered[at % count];
            self.upkeep.tried += 1;
            self.ask_in(now, contact.addr, Some(contact));
        }
        for seed in self.upkeep.seeds.clone() {
            self.ask_in(now, seed, None);
        }
        if !self.upkeep.knows_nobody() {
            self.upkeep.join = Some(now + self.jittered(self.upkeep.join_wait));
            // Once a round tries all of them, seeds alone included, the rounds become rarer.
            if self.upkeep.batch < JOIN_BATCH.min(count) {
                self.upkeep.batch = (self.upkeep.batch * 2).min(JOIN_BATCH);
            } else {
                self.upkeep.join_wait = (self.upkeep.join_wait * 2).min(MAX_JOIN_WAIT);
            }
        }
    }

    fn ping(&mut self, now: Instant) {
        let (due, next) = self.table.due(now);
        for contact in due {
            self.call(now, contact.addr, Some(contact), &Request::Ping, Purpose::Upkeep);
        }
        self.upkeep.ping = next.map(|next| next.max(now + PING_SLACK));
    }

    fn recall_within(&mut self, now: Instant, wait: Duration) {
        let at = now + self.jittered(wait);
        self.upkeep.recall_wait = wait;
        self.upkeep.recall = Some(self.upkeep.recall.map_or(at, |recall| recall.min(at)));
    }

    /// Tries one of those who are not in the table.
    fn recall(&mut self, now: Instant) {
        let absent = |addr: &SocketAddr| self.table.at_addr(*addr).is_none();
        let mut ways: Vec<_> = self.upkeep.remembered.iter().map(|c| (c.addr, Some(*c))).collect();
        ways.extend(self.upkeep.seeds.iter().filter(|seed| absent(seed)).map(|seed| (*seed, None)));
        if !ways.is_empty() {
            let (to, contact) = ways[self.below(ways.len())];
            self.ask_in(now, to, contact);
        }
    }

    fn ask_in(&mut self, now: Instant, to: SocketAddr, contact: Option<Contact>) {
        let find = Request::Find {
            key: self.id,
            level: Level::GLOBAL,
            want: Want::Nodes,
            course: Course::Greedy,
        };
        self.call(now, to, contact, &find, Purpose::Join);
    }

    /// Looks for our own id: meets those near us, and lets them meet us. What is learnt while it
    /// runs goes in: it may have started from a newcomer who knows nobody.
    fn look_around(&mut self, now: Instant, named: &[Contact]) {
        let running = self.upkeep.self_lookup.and_then(|id| Some((id, self.queries.get_mut(&id)?)));
        if let Some((id, query)) = running {
            query.lookup.extend(named);
            self.advance(now, id);
        } else {
            // Named before it starts, since a lookup that nobody can answer ends at once.
            self.upkeep.self_lookup = Some(QueryId(self.started + 1));
            self.start(now, self.id, Kind::Refresh, Level::GLOBAL, BUCKET, named);
        }
    }

    /// Looks for a random id of a bucket, at any level.
    fn refresh(&mut self, now: Instant) {
        let age = self.upkeep.met.map_or(REFRESH_EVERY, |met| now.since(met));
        // A young node has much to learn, an old one little.
        let wait = (age / 4).clamp(MIN_REFRESH_WAIT, REFRESH_EVERY);
        self.upkeep.refresh = Some(now + self.jittered(wait));
        let buckets = self.table.depth() + 1;
        // The far buckets are the largest.
        let bucket = self.below(buckets).min(self.below(buckets));
        let level = self.below(usize::from(self.clusters.nearest().0) + 1);
        let level = Level(u8::try_from(level).expect("levels are few"));
        let point = self.point(bucket);
        self.start(now, point, Kind::Refresh, level, REFRESH_WIDTH, &[]);
    }

    /// Reconsiders the clusters that this node is in, and looks at the one of its nearest contact.
    fn review(&mut self, now: Instant) {
        let age = self.upkeep.met.map_or(self.rules.review_every, |met| now.since(met));
        let wait = (age / 2).max(MIN_REVIEW_WAIT).min(self.rules.review_every);
        self.upkeep.review = Some(now + self.jittered(wait));
        let known: Vec<_> =
            self.table.entries().map(|entry| (entry.clusters, entry.rtt.min())).collect();
        let moved = self.clusters.review(now, &known, || self.rng.next_u32());
        if !moved.is_empty() {
            self.stats.moves += moved.len() as u64;
            self.table.set_clusters(self.clusters.memberships());
        }
        for level in moved {
            self.start(now, self.id, Kind::Refresh, level, BUCKET, &[]);
        }
        let near: Vec<_> =
            self.table.neighbours().into_iter().take(EXPLORED).map(Entry::contact).collect();
        let mut random = [0; 20];
        self.rng.fill_bytes(&mut random);
        for contact in near {
            let find = Request::Find {
                key: Id(random),
                level: self.clusters.nearest(),
                want: Want::Nodes,
                course: Course::Greedy,
            };
            self.call(now, contact.addr, Some(contact), &find, Purpose::Explore);
        }
    }

    pub(super) fn jittered(&mut self, wait: Duration) -> Duration {
        wait * 3 / 4 + wait / 2 * (self.rng.next_u32() >> 16) / (1 << 16)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.next_u64() % bound as u64).expect("it is below a usize")
    }
}
