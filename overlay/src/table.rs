//! The routing table: buckets by distance (Kademlia, section 2.2) of contacts met first-hand.

mod entry;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::address::prefix;
use crate::clusters::Memberships;
use crate::contact::Contact;
use crate::id::{Distance, Id, Key, NodeId};
use crate::level::Level;
use crate::limits::{
    FAR_PING_AFTER, LEVEL_BUCKET, MAX_CONTACTS, MAX_FAILURES, MAX_NEIGHBOURS, MAX_TIMEOUT,
    MIN_BUCKET, PING_AFTER, REPLACEMENTS,
};
use crate::time::Instant;
use entry::Card;
pub(crate) use entry::Entry;

/// Contacts by the number of bits that their ids share with ours: a bucket each.
#[derive(Debug)]
pub(crate) struct Table {
    local: NodeId,
    /// Nearest first, so that each bucket, and each half of one, is a run. A bucket holds those of
    /// the best [`Entry::rank`] among all that were met. Were the oldest kept, as in Kademlia, then
    /// the first hundred nodes of a network would be in everybody's table and take everybody's
    /// requests.
    entries: Vec<Entry>,
    /// The first 64 bits of their distances, which is all that is looked at in most cases.
    order: Vec<u64>,
    /// Met, but without a place; the last one was heard most recently.
    waiting: Vec<Waiting>,
    /// Counts the changes of the set of live neighbours.
    changes: u64,
    /// Whether the set of neighbours may have changed.
    is_stale: bool,
    /// Round trip of the farthest neighbour; the longest while everybody is one.
    reach: Duration,
    /// Of the order of preference.
    salt: u64,
    /// This node's own clusters.
    own: Memberships,
    /// Round trips up to which a contact counts as near.
    near: Duration,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
struct Waiting {
    bucket: u8,
    card: Card,
    heard: Instant,
}

/// Entries allocated at first. After them come all: growth by steps would leave holes of odd sizes.
const FEW: usize = 16;

impl Table {
    pub(crate) fn new(
        local: NodeId,
        own: Memberships,
        near: Duration,
        mut rng: ChaCha8Rng,
    ) -> Self {
        Self {
            local,
            entries: Vec::new(),
            order: Vec::new(),
            waiting: Vec::new(),
            changes: 0,
            is_stale: false,
            reach: MAX_TIMEOUT,
            salt: rng.next_u64(),
            own,
            near,
            rng,
        }
    }

    /// Differs from an earlier count if the set of live neighbours does.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn entry(&self, id: &NodeId) -> Option<&Entry> {
        self.place(id).ok().map(|at| &self.entries[at])
    }

    /// Whether it has a place, but did not answer last.
    pub(crate) fn is_failing(&self, id: &NodeId) -> bool {
        self.entry(id).is_some_and(|entry| entry.failures > 0)
    }

    pub(crate) fn at_addr(&self, addr: SocketAddr) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.addr() == addr)
    }

    /// Whether the contact, were it heard first-hand, would have a place at once.
    pub(crate) fn wants(&self, contact: &Contact) -> bool {
        let id = contact.id();
        let bucket = self.bucket(self.index(&id));
        id != self.local
            && self.place(&id).is_err()
            && (self.has_room() || bucket.len() < MIN_BUCKET)
            && !self.has_neighbour(bucket, contact)
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
        if let Ok(at) = self.place(&id) {
            let entry = &mut self.entries[at];
            // Another node with the same id, at another port, waits until this one fails.
            if entry.failures == 0 && entry.addr() != contact.addr {
                return false;
            }
            let changed = entry.heard(now, &contact);
            (entry.clusters, entry.level) = (clusters, level);
            rtt.into_iter().for_each(|rtt| entry.rtt.sample(rtt));
            if entry.is_neighbour {
                self.changes += u64::from(changed || !entry.is_live);
                entry.is_live = true;
            } else {
                self.is_stale |= entry.rtt.min().is_some_and(|rtt| rtt < self.reach);
            }
            return false;
        }
        let mut newcomer = Entry::new(id, &contact, now, self.rng.next_u32());
        (newcomer.clusters, newcomer.level) = (clusters, level);
        rtt.into_iter().for_each(|rtt| newcomer.rtt.sample(rtt));
        let index = self.index(&id);
        self.waiting.retain(|w| usize::from(w.bucket) != index || w.card.addr() != contact.addr);
        self.admit(index, newcomer)
    }

    /// Takes it in if it may come in.
    fn admit(&mut self, index: usize, newcomer: Entry) -> bool {
        let bucket = self.bucket(index);
        if self.has_neighbour(bucket.clone(), &newcomer.contact()) {
            self.keep_waiting(index, &newcomer);
            return false;
        }
        let kept = self.entries[bucket.clone()].iter().filter(|entry| entry.is_kept(self.near));
        let is_due = newcomer.is_kept(self.near) && kept.count() < LEVEL_BUCKET;
        if is_due || self.has_room() || bucket.len() < MIN_BUCKET {
            self.insert(newcomer);
            if self.entries.len() > MAX_CONTACTS {
                self.make_room();
            }
            return true;
        }
        let rank = newcomer.rank(self.salt);
        let Some(last) = self.last(bucket).filter(|at| self.entries[*at].rank(self.salt) > rank)
        else {
            self.keep_waiting(index, &newcomer);
            return false;
        };
        let entry = self.remove(last);
        self.keep_waiting(index, &entry);
        self.insert(newcomer);
        true
    }

    /// This node has moved to other clusters.
    pub(crate) fn set_clusters(&mut self, own: Memberships) {
        self.own = own;
        for entry in &mut self.entries {
            entry.level = shared(&own, &entry.clusters);
        }
    }

    /// A request that was sent at `sent` was never answered. Gives the contact that lost its place.
    pub(crate) fn failed(&mut self, now: Instant, id: &NodeId, sent: Instant) -> Option<Contact> {
        let spread = self.rng.next_u32();
        let at = self.place(id).ok()?;
        if !self.entries[at].failed(now, sent) || self.entries[at].failures < MAX_FAILURES {
            return None;
        }
        let gone = self.remove(at).contact();
        self.promote(self.index(id), spread);
        Some(gone)
    }

    /// The `count` contacts nearest to `key` that share this level with us and are not failing,
    /// nearest first.
    pub(crate) fn closest(&self, level: Level, key: &Key, count: usize) -> Vec<Contact> {
        let mut found = Vec::with_capacity(count);
        let way = self.distance(key);
        visit(&self.order, 0, way, &mut |at| {
            let entry = &self.entries[at];
            if entry.failures == 0 && shares(&self.own, &entry.clusters, level) {
                found.push(entry.contact());
            }
            found.len() < count
        });
        found
    }

    /// Whether a contact that has not been given up is nearer to `key` than `distance`.
    pub(crate) fn knows_nearer(&self, key: &Key, distance: &Distance) -> bool {
        let mut is_nearer = false;
        visit(&self.order, 0, self.distance(key), &mut |at| {
            is_nearer = self.entries[at].id.distance(key) < *distance;
            false
        });
        is_nearer
    }

    /// The contacts of a bucket that are not failing.
    pub(crate) fn members(&self, index: usize) -> Vec<Contact> {
        let all = self.entries[self.bucket(index)].iter();
        all.filter(|entry| entry.failures == 0).map(Entry::contact).collect()
    }

    /// The entries nearest by round trip, as of the last [`Self::due`]: those that are kept alive.
    pub(crate) fn neighbours(&self) -> Vec<&Entry> {
        let mut all: Vec<_> = self.entries.iter().filter(|entry| entry.is_neighbour).collect();
        all.sort_unstable_by_key(|entry| entry.nearness());
        all
    }

    /// How many neighbours the directory names.
    pub(crate) fn live(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_live).count()
    }

    /// Marks those that are due for a ping as asked, and tells when the next will be.
    pub(crate) fn due(&mut self, now: Instant) -> (Vec<Contact>, Option<Instant>) {
        if self.is_stale {
            self.choose_neighbours();
        }
        let (mut due, mut next) = (Vec::new(), None::<Instant>);
        for entry in &mut self.entries {
            let is_live = entry.is_neighbour && entry.is_fresh(now);
            self.changes += u64::from(entry.is_live != is_live);
            entry.is_live = is_live;
            let mut at =
                entry.ping_at(if entry.is_neighbour { PING_AFTER } else { FAR_PING_AFTER });
            if at <= now {
                due.push(entry.contact());
                entry.ask(now);
                at = now + MAX_TIMEOUT * 3;
            }
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        (due, next)
    }

    /// How many bits the nearest contact shares with us: deeper buckets are empty.
    pub(crate) fn depth(&self) -> usize {
        self.entries.first().map_or(0, |entry| self.index(&entry.id))
    }

    fn choose_neighbours(&mut self) {
        self.is_stale = false;
        let mut order: Vec<_> = self.entries.iter().map(Entry::nearness).collect();
        let last = (order.len() > MAX_NEIGHBOURS)
            .then(|| *order.select_nth_unstable(MAX_NEIGHBOURS - 1).1);
        self.reach = last.map_or(MAX_TIMEOUT, |(rtt, _)| rtt);
        for entry in &mut self.entries {
            entry.is_neighbour = last.is_none_or(|last| entry.nearness() <= last);
        }
    }

    const fn has_room(&self) -> bool {
        self.entries.len() < MAX_CONTACTS
    }

    /// Takes a place from the largest bucket for one that has not had its due.
    fn make_room(&mut self) {
        let largest = (0..=self.depth()).max_by_key(|index| self.bucket(*index).len()).unwrap_or(0);
        let bucket = self.bucket(largest);
        if bucket.len() > MIN_BUCKET
            && let Some(last) = self.last(bucket)
        {
            let entry = self.remove(last);
            self.keep_waiting(largest, &entry);
        }
    }

    /// Where the least preferred is.
    fn last(&self, bucket: Range<usize>) -> Option<usize> {
        let order =
            |at: &usize| (!self.entries[*at].is_kept(self.near), self.entries[*at].rank(self.salt));
        bucket.max_by_key(order)
    }

    fn insert(&mut self, mut entry: Entry) {
        let at = self.place(&entry.id).unwrap_or_else(|at| at);
        // The first few are neighbours at once: the directory of a small network is never late.
        entry.is_neighbour = self.entries.len() < MAX_NEIGHBOURS;
        entry.is_live = entry.is_neighbour;
        self.changes += u64::from(entry.is_live);
        self.is_stale = true;
        if self.entries.len() == self.entries.capacity() {
            let all = if self.is_empty() { FEW } else { MAX_CONTACTS + 1 };
            let more = all.saturating_sub(self.len()).max(FEW);
            self.entries.reserve_exact(more);
            self.order.reserve_exact(more);
        }
        self.order.insert(at, self.distance(&entry.id));
        self.entries.insert(at, entry);
    }

    fn remove(&mut self, at: usize) -> Entry {
        let entry = self.entries.remove(at);
        self.order.remove(at);
        self.changes += u64::from(entry.is_live);
        self.is_stale |= entry.is_neighbour;
        entry
    }

    fn keep_waiting(&mut self, index: usize, entry: &Entry) {
        let Ok(bucket) = u8::try_from(index) else { return };
        let of_bucket = self.waiting.iter().filter(|waiting| waiting.bucket == bucket);
        if of_bucket.count() == REPLACEMENTS
            && let Some(first) = self.waiting.iter().position(|waiting| waiting.bucket == bucket)
        {
            self.waiting.remove(first);
        }
        let card = Card::of(&entry.contact());
        self.waiting.push(Waiting { bucket, card, heard: entry.verified });
    }

    /// Gives the free place to who was heard last among those that may have it.
    fn promote(&mut self, index: usize, spread: u32) {
        let bucket = self.bucket(index);
        let fits = self.waiting.iter().rposition(|waiting| {
            usize::from(waiting.bucket) == index
                && !self.has_neighbour(bucket.clone(), &waiting.card.contact())
        });
        if let Some(at) = fits {
            let Waiting { card, heard, .. } = self.waiting.remove(at);
            let contact = card.contact();
            self.insert(Entry::new(contact.id(), &contact, heard, spread));
        }
    }

    fn has_neighbour(&self, bucket: Range<usize>, contact: &Contact) -> bool {
        let own = prefix(contact.addr.ip());
        own.is_some() && self.entries[bucket].iter().any(|e| prefix(e.addr().ip()) == own)
    }

    /// Where it is, or would be. Ids that agree with it in 64 bits have its place, which none will
    /// by chance.
    fn place(&self, id: &NodeId) -> Result<usize, usize> {
        self.order.binary_search(&self.distance(id))
    }

    /// Where those are who share exactly `index` bits with us.
    fn bucket(&self, index: usize) -> Range<usize> {
        let shares = |bits: usize| {
            self.order.partition_point(|distance| distance.leading_zeros() as usize >= bits)
        };
        shares(index + 1)..shares(index)
    }

    fn distance(&self, id: &Id) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.local.distance(id).0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn index(&self, id: &NodeId) -> usize {
        self.distance(id).leading_zeros() as usize
    }
}

/// Shows `take` the places from the nearest to a key at distance `way` from us on, until it has had
/// enough. `run` is sorted and begins at `first`: where its members differ first they part into two
/// runs, one of which is wholly nearer. False if `take` has had enough.
fn visit(run: &[u64], first: usize, way: u64, take: &mut impl FnMut(usize) -> bool) -> bool {
    let [least, .., most] = run else { return run.is_empty() || take(first) };
    let bit = (least ^ most).leading_zeros();
    let has_bit = |distance: u64| distance << bit >> 63 == 1;
    let middle = run.partition_point(|distance| !has_bit(*distance));
    let halves = [(&run[..middle], first), (&run[middle..], first + middle)];
    let (one, other) = if has_bit(way) { (halves[1], halves[0]) } else { (halves[0], halves[1]) };
    visit(one.0, one.1, way, take) && visit(other.0, other.1, way, take)
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
            let mut held: Vec<_> = table.entries().map(Entry::contact).collect();
            held.sort_unstable();
            held
        };
        let mut other = self::table();
        far.iter().rev().for_each(|c| _ = met(&mut other, at(0), *c));
        assert_eq!(held(&table), held(&other));
        assert_eq!(table.len(), MAX_CONTACTS);
        assert_eq!(table.waiting.len(), REPLACEMENTS);
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
        for bucket in (0..6).map(|index| table.bucket(index)) {
            assert!(bucket.len() >= MIN_BUCKET, "{}", bucket.len());
        }
    }

    #[test]
    fn one_contact_of_a_public_neighbourhood_in_a_bucket() {
        let mut table = table();
        for last in 1..=255 {
            met(&mut table, at(0), contact([192, 0, 2, last], 0));
        }
        assert!((0..=table.depth()).all(|index| table.bucket(index).len() <= 1), "one in each");
        for last in 2..=255 {
            met(&mut table, at(0), contact([10, 0, 2, last], 0));
        }
        assert!(table.bucket(0).len() > 100, "private ones are exempt");
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
            let mut all: Vec<_> = table.entries().map(Entry::contact).collect();
            all.sort_by_key(|c| c.id().distance(&key));
            all.truncate(8);
            prop_assert_eq!(table.closest(Level::GLOBAL, &key, 8), all);
            prop_assert!(table.entries.is_sorted_by_key(|e| table.local.distance(&e.id)));
            prop_assert!(table.entries.iter().map(|e| table.distance(&e.id)).eq(table.order.clone()));
            for index in 0..=table.depth() {
                let mut bucket = table.entries[table.bucket(index)].iter();
                prop_assert!(bucket.all(|e| table.index(&e.contact().id()) == index));
            }
        }
    }
}
