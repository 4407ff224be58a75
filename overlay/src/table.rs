//! The routing table: buckets by distance (Kademlia, section 2.2) of contacts met first-hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::address::prefix;
use crate::clusters::Memberships;
use crate::contact::Contact;
use crate::id::{Distance, Key, NodeId};
use crate::level::Level;
use crate::limits::{
    FAR_PING_AFTER, LEVEL_BUCKET, MAX_CONTACTS, MAX_FAILURES, MAX_NEIGHBOURS, MAX_TIMEOUT,
    MEASURE_WITHIN, MIN_BUCKET, PING_AFTER, PING_AGAIN_AFTER, REPLACEMENTS,
};
use crate::rtt::Rtt;
use crate::time::Instant;

/// Contacts by the number of bits that their ids share with ours.
#[derive(Debug)]
pub(crate) struct Table {
    local: NodeId,
    buckets: BTreeMap<usize, Bucket>,
    /// Counts the changes of the set of contacts.
    revision: u64,
    /// Makes this node's order of preference one that nobody else has or can foresee.
    salt: u64,
    /// This node's own clusters.
    own: Memberships,
    /// Round trips up to which a contact counts as near.
    near: Duration,
    rng: ChaCha8Rng,
}

#[derive(Debug, Default)]
struct Bucket {
    /// Those of the best [`Entry::rank`] among all that were met. Were the oldest kept, as in
    /// Kademlia, then the first hundred nodes of a network would be in everybody's table and take
    /// everybody's requests.
    entries: Vec<Entry>,
    /// Met, but without a place; the last one was heard most recently.
    waiting: Vec<(Contact, Instant)>,
}

/// A contact with a place, and how it has been doing.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: NodeId,
    pub(crate) contact: Contact,
    /// When it was last heard from.
    pub(crate) verified: Instant,
    pub(crate) rtt: Rtt,
    failures: u8,
    failed: Instant,
    /// When it was last pinged, while no answer has come.
    asked: Option<Instant>,
    /// How much of its interval is left out, so that pings spread: 0 to 1/5 of it.
    spread: u32,
    /// Its place in the order of preference: lower is better.
    rank: u64,
    /// Its clusters, as it said last.
    pub(crate) clusters: Memberships,
    /// The nearest level that it shares with us.
    pub(crate) level: Level,
}

impl Table {
    pub(crate) fn new(
        local: NodeId,
        own: Memberships,
        near: Duration,
        mut rng: ChaCha8Rng,
    ) -> Self {
        let salt = rng.next_u64();
        Self { local, buckets: BTreeMap::new(), revision: 0, salt, own, near, rng }
    }

    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.values().flat_map(|bucket| &bucket.entries)
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.entries.len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn entry(&self, id: &NodeId) -> Option<&Entry> {
        let bucket = self.buckets.get(&self.index(id))?;
        bucket.entries.iter().find(|entry| entry.id == *id)
    }

    /// Whether it has a place, but did not answer last.
    pub(crate) fn is_failing(&self, id: &NodeId) -> bool {
        self.entry(id).is_some_and(|entry| entry.failures > 0)
    }

    fn entry_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        let index = self.index(id);
        let bucket = self.buckets.get_mut(&index)?;
        bucket.entries.iter_mut().find(|entry| entry.id == *id)
    }

    pub(crate) fn at_addr(&self, addr: SocketAddr) -> Option<&Entry> {
        self.entries().find(|entry| entry.contact.addr == addr)
    }

    /// Whether the contact, were it heard first-hand, would have a place at once.
    pub(crate) fn wants(&self, contact: &Contact) -> bool {
        let id = contact.id();
        id != self.local
            && self.entry(&id).is_none()
            && self.buckets.get(&self.index(&id)).is_none_or(|bucket| {
                bucket.has_place(self.has_room()) && !bucket.has_neighbour(contact)
            })
    }

    /// A contact was heard from at an address that is proven to be its own. True if it is new.
    pub(crate) fn heard(
        &mut self,
        now: Instant,
        contact: Contact,
        clusters: Memberships,
        rtt: Option<Duration>,
    ) -> bool {
        let id = contact.id();
        if id == self.local {
            return false;
        }
        let level = shared(&self.own, &clusters);
        if let Some(entry) = self.entry_mut(&id) {
            let changed = entry.contact != contact || entry.level != level;
            // Another node with the same id, at another port, waits until this one fails.
            if entry.contact.addr != contact.addr && entry.failures == 0 {
                return false;
            }
            (entry.contact, entry.clusters, entry.level) = (contact, clusters, level);
            rtt.into_iter().for_each(|rtt| entry.rtt.sample(rtt));
            entry.verified = now;
            entry.failures = 0;
            entry.asked = None;
            self.revision += u64::from(changed);
            return false;
        }
        let index = self.index(&id);
        let spread = self.rng.next_u32();
        let mut newcomer = Entry::new(id, contact, now, spread, rank(self.salt, &id));
        (newcomer.clusters, newcomer.level) = (clusters, level);
        rtt.into_iter().for_each(|rtt| newcomer.rtt.sample(rtt));
        let has_room = self.has_room();
        let bucket = self.buckets.entry(index).or_default();
        bucket.waiting.retain(|(waiting, _)| waiting.addr != contact.addr);
        let turned_away = bucket.insert(newcomer, has_room, self.near);
        let is_in = turned_away.as_ref().is_none_or(|entry| entry.id != id);
        if let Some(entry) = turned_away {
            bucket.keep_waiting(&entry);
        } else if !has_room {
            self.make_room();
        }
        self.revision += u64::from(is_in);
        is_in
    }

    /// This node has moved to other clusters.
    pub(crate) fn set_clusters(&mut self, own: Memberships) {
        self.own = own;
        self.revision += 1;
        for entry in self.buckets.values_mut().flat_map(|bucket| &mut bucket.entries) {
            entry.level = shared(&own, &entry.clusters);
        }
    }

    /// A request that was sent at `sent` was never answered. Gives the contact that lost its place.
    pub(crate) fn failed(&mut self, now: Instant, id: &NodeId, sent: Instant) -> Option<Contact> {
        let spread = self.rng.next_u32();
        let index = self.index(id);
        let bucket = self.buckets.get_mut(&index)?;
        let at = bucket.entries.iter().position(|entry| entry.id == *id)?;
        let entry = &mut bucket.entries[at];
        entry.asked = None;
        // What was under way at the last failure, or before the last answer, tells nothing new.
        if sent < entry.verified || (entry.failures > 0 && sent < entry.failed) {
            return None;
        }
        entry.failures += 1;
        entry.failed = now;
        if entry.failures < MAX_FAILURES {
            return None;
        }
        let gone = bucket.entries.remove(at).contact;
        bucket.promote(spread, self.salt);
        if bucket.entries.is_empty() {
            self.buckets.remove(&index);
        }
        self.revision += 1;
        Some(gone)
    }

    /// The `count` contacts nearest to `key` that share this level with us and are not failing,
    /// nearest first.
    pub(crate) fn closest(&self, level: Level, key: &Key, count: usize) -> Vec<Contact> {
        let mut found: Vec<_> = self
            .entries()
            .filter(|entry| entry.failures == 0 && shares(&self.own, &entry.clusters, level))
            .map(|entry| (entry.id.distance(key), &entry.contact))
            .collect();
        if found.len() > count && count > 0 {
            found.select_nth_unstable(count - 1);
        }
        found.truncate(count);
        found.sort_unstable();
        found.into_iter().map(|(_, contact)| *contact).collect()
    }

    /// Whether a contact that has not been given up is nearer to `key` than `distance`.
    pub(crate) fn knows_nearer(&self, key: &Key, distance: &Distance) -> bool {
        self.entries().any(|entry| entry.id.distance(key) < *distance)
    }

    /// The entries nearest by round trip: the neighbours that are kept alive.
    pub(crate) fn neighbours(&self) -> Vec<&Entry> {
        let mut all: Vec<_> = self.entries().collect();
        let nearness = |entry: &&Entry| (entry.rtt.min().unwrap_or(MAX_TIMEOUT), entry.id);
        if all.len() > MAX_NEIGHBOURS {
            all.select_nth_unstable_by_key(MAX_NEIGHBOURS - 1, nearness);
            all.truncate(MAX_NEIGHBOURS);
        }
        all.sort_unstable_by_key(nearness);
        all
    }

    /// Marks those that are due for a ping as asked, and tells when the next will be.
    pub(crate) fn due(&mut self, now: Instant) -> (Vec<Contact>, Option<Instant>) {
        let mut near: Vec<_> = self.neighbours().iter().map(|entry| entry.id).collect();
        near.sort_unstable();
        let (mut due, mut next) = (Vec::new(), None::<Instant>);
        for entry in self.buckets.values_mut().flat_map(|bucket| &mut bucket.entries) {
            let is_near = near.binary_search(&entry.id).is_ok();
            let mut at = entry.ping_at(if is_near { PING_AFTER } else { FAR_PING_AFTER });
            if at <= now {
                due.push(entry.contact);
                entry.asked = Some(now);
                at = now + MAX_TIMEOUT * 3;
            }
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        (due, next)
    }

    /// How many bits the nearest contact shares with us: deeper buckets are empty.
    pub(crate) fn depth(&self) -> usize {
        self.buckets.keys().next_back().copied().unwrap_or(0)
    }

    fn has_room(&self) -> bool {
        self.len() < MAX_CONTACTS
    }

    /// Takes a place from the largest bucket for one that has not had its due.
    fn make_room(&mut self) {
        let largest = self.buckets.values_mut().max_by_key(|bucket| bucket.entries.len());
        let largest = largest.filter(|bucket| bucket.entries.len() > MIN_BUCKET);
        if let Some(bucket) = largest
            && let Some(last) = bucket.last(self.near)
        {
            let entry = bucket.entries.swap_remove(last);
            bucket.keep_waiting(&entry);
        }
    }

    fn index(&self, id: &NodeId) -> usize {
        self.local.distance(id).common_bits()
    }
}

impl Bucket {
    const fn has_place(&self, table_has_room: bool) -> bool {
        table_has_room || self.entries.len() < MIN_BUCKET
    }

    /// Where the least preferred is.
    fn last(&self, near: Duration) -> Option<usize> {
        let order = |at: &usize| (!self.entries[*at].is_kept(near), self.entries[*at].rank);
        (0..self.entries.len()).max_by_key(order)
    }

    fn keep_waiting(&mut self, entry: &Entry) {
        if self.waiting.len() == REPLACEMENTS {
            self.waiting.remove(0);
        }
        self.waiting.push((entry.contact, entry.verified));
    }

    fn has_neighbour(&self, contact: &Contact) -> bool {
        let own = prefix(contact.addr.ip());
        own.is_some() && self.entries.iter().any(|e| prefix(e.contact.addr.ip()) == own)
    }

    /// Takes it in if it may come in; gives back who has no place then, if anybody.
    fn insert(&mut self, newcomer: Entry, has_room: bool, near: Duration) -> Option<Entry> {
        if self.has_neighbour(&newcomer.contact) {
            return Some(newcomer);
        }
        let is_due = newcomer.is_kept(near)
            && self.entries.iter().filter(|entry| entry.is_kept(near)).count() < LEVEL_BUCKET;
        if is_due || self.has_place(has_room) {
            self.entries.reserve_exact(1);
            self.entries.push(newcomer);
            return None;
        }
        match self.last(near).filter(|last| self.entries[*last].rank > newcomer.rank) {
            Some(last) => Some(std::mem::replace(&mut self.entries[last], newcomer)),
            None => Some(newcomer),
        }
    }

    /// Gives the free place to who was heard last among those that may have it.
    fn promote(&mut self, spread: u32, salt: u64) {
        let fits = self.waiting.iter().rposition(|(contact, _)| !self.has_neighbour(contact));
        if let Some(at) = fits {
            let (contact, heard) = self.waiting.remove(at);
            let id = contact.id();
            self.entries.push(Entry::new(id, contact, heard, spread, rank(salt, &id)));
        }
    }
}

/// The nearest level at which both are in one cluster.
fn shared(own: &Memberships, other: &Memberships) -> Level {
    let nearest = (0..own.len()).rfind(|at| own[*at] != 0 && own[*at] == other[*at]);
    nearest.map_or(Level::GLOBAL, |at| Level(u8::try_from(at + 1).expect("levels are few")))
}

/// Whether both are in one cluster of this level.
pub(crate) fn shares(own: &Memberships, other: &Memberships, level: Level) -> bool {
    match usize::from(level.0).checked_sub(1) {
        None => true,
        Some(at) => own.get(at).is_some_and(|id| *id != 0 && Some(id) == other.get(at)),
    }
}

/// A node's own order of preference among ids: a mix of its salt and the id (`SplitMix64`).
fn rank(salt: u64, id: &NodeId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    let mut mixed = u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ salt;
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 31)
}

impl Entry {
    fn new(id: NodeId, contact: Contact, verified: Instant, spread: u32, rank: u64) -> Self {
        Self {
            id,
            contact,
            verified,
            rtt: Rtt::default(),
            failures: 0,
            failed: verified,
            asked: None,
            spread,
            rank,
            clusters: Memberships::default(),
            level: Level::GLOBAL,
        }
    }

    /// Whether it has a place for being near, whatever its rank.
    fn is_kept(&self, near: Duration) -> bool {
        self.level != Level::GLOBAL || self.rtt.min().is_some_and(|rtt| rtt <= near)
    }

    fn ping_at(&self, after: Duration) -> Instant {
        if let Some(asked) = self.asked {
            return asked + MAX_TIMEOUT * 3;
        }
        if self.failures > 0 {
            return self.failed + PING_AGAIN_AFTER;
        }
        let after = if self.rtt.min().is_some() { after } else { MEASURE_WITHIN };
        self.verified + (after - after / 5 * (self.spread >> 16) / (1 << 16))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_core::SeedableRng;

    use super::*;
    use crate::contact::{Identity, Services};
    use crate::id::Id;

    fn contact(ip: [u8; 4], slot: u16) -> Contact {
        Contact {
            identity: Identity([ip[3]; 32]),
            addr: SocketAddr::from((ip, 7400 + slot)),
            slot,
            peer_port: 7400,
            services: Services::PROXY,
        }
    }

    fn table() -> Table {
        let near = Duration::from_millis(20);
        let rng = ChaCha8Rng::seed_from_u64(1);
        Table::new(contact([127, 0, 0, 1], 0).id(), Memberships::default(), near, rng)
    }

    fn met(table: &mut Table, now: Instant, contact: Contact) -> bool {
        table.heard(now, contact, Memberships::default(), Some(Duration::from_millis(50)))
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn itself_has_no_place() {
        let mut table = table();
        assert!(!met(&mut table, at(0), contact([127, 0, 0, 1], 0)));
        assert!(table.is_empty());
    }

    #[test]
    fn one_failure_is_forgiven_and_two_are_not() {
        let mut table = table();
        let other = contact([127, 0, 0, 2], 0);
        assert!(met(&mut table, at(0), other));
        assert_eq!(table.failed(at(2), &other.id(), at(1)), None);
        assert_eq!(table.failed(at(2), &other.id(), at(1)), None, "the same outage counts once");
        assert!(!met(&mut table, at(3), other), "it is known");
        assert_eq!(table.failed(at(5), &other.id(), at(4)), None, "an answer clears the count");
        assert_eq!(
            table.closest(Level::GLOBAL, &Id([0; 20]), 8),
            Vec::new(),
            "a failing one is not passed on"
        );
        assert_eq!(table.failed(at(7), &other.id(), at(6)), Some(other));
        assert!(table.is_empty());
    }

    #[test]
    fn the_order_of_coming_does_not_matter_and_a_newcomer_replaces_a_dead_one() {
        let mut table = table();
        let far: Vec<_> = (0..1_000)
            .map(|slot| contact([127, 0, 0, 9], slot))
            .filter(|c| table.index(&c.id()) == 0)
            .collect();
        assert!(far.len() > MAX_CONTACTS);
        far.iter().for_each(|c| _ = met(&mut table, at(0), *c));
        let held = |table: &Table| {
            let mut held: Vec<_> = table.entries().map(|e| e.contact).collect();
            held.sort_unstable();
            held
        };
        let mut other = self::table();
        far.iter().rev().for_each(|c| _ = met(&mut other, at(0), *c));
        assert_eq!(held(&table), held(&other));
        assert_eq!(table.len(), MAX_CONTACTS);
        assert_eq!(table.buckets[&0].waiting.len(), REPLACEMENTS);
        let dead = held(&table)[3];
        table.failed(at(2), &dead.id(), at(1));
        table.failed(at(4), &dead.id(), at(3));
        assert!(!held(&table).contains(&dead));
        assert_eq!(table.len(), MAX_CONTACTS, "somebody has its place");
    }

    #[test]
    fn a_full_table_makes_room_for_the_near() {
        let mut table = table();
        let all: Vec<_> = (0..3_000).map(|slot| contact([127, 0, 0, 9], slot)).collect();
        let far = |c: &&Contact| table.index(&c.id()) == 0;
        let (far, near): (Vec<&Contact>, Vec<&Contact>) = all.iter().partition(far);
        far.iter().chain(&near).for_each(|c| _ = met(&mut table, at(0), **c));
        assert_eq!(table.len(), MAX_CONTACTS);
        for bucket in table.buckets.values().take(6) {
            assert!(bucket.entries.len() >= MIN_BUCKET, "{}", bucket.entries.len());
        }
    }

    #[test]
    fn one_contact_of_a_public_neighbourhood_in_a_bucket() {
        let mut table = table();
        for last in 1..=255 {
            met(&mut table, at(0), contact([192, 0, 2, last], 0));
        }
        assert!(table.buckets.values().all(|b| b.entries.len() == 1), "one in each");
        for last in 2..=255 {
            met(&mut table, at(0), contact([10, 0, 2, last], 0));
        }
        assert!(table.buckets[&0].entries.len() > 100, "private ones are exempt");
    }

    #[test]
    fn the_silent_are_due_once() {
        let mut table = table();
        met(&mut table, at(0), contact([127, 0, 0, 2], 0));
        let (due, next) = table.due(at(11));
        assert!(due.is_empty() && next > Some(at(11)) && next <= Some(at(15)));
        assert_eq!(table.due(at(15)).0.len(), 1);
        assert_eq!(table.due(at(15)).0.len(), 0, "its answer is awaited");
    }

    proptest! {
        #[test]
        fn closest_agrees_with_sorting(ips in prop::collection::vec(any::<[u8; 2]>(), 0..200),
                                       key: [u8; 20]) {
            let mut table = table();
            for [a, b] in ips {
                met(&mut table, at(0), contact([127, 1, a, b], 0));
            }
            let key = Id(key);
            let mut all: Vec<_> = table.entries().map(|e| e.contact).collect();
            all.sort_by_key(|c| c.id().distance(&key));
            all.truncate(8);
            prop_assert_eq!(table.closest(Level::GLOBAL, &key, 8), all);
            for (index, bucket) in &table.buckets {
                prop_assert!(!bucket.entries.is_empty());
                prop_assert!(bucket.entries.iter().all(|e| table.index(&e.contact.id()) == *index));
            }
        }
    }
}
