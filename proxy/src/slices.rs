//! Large objects of which only some slices are held: what is asked for is fetched, and no more.
//!
//! A range of something that is not held begins an object on disk: its head, and the slices that the range
//! touches. From then on whoever reads it, a range or all of it, reads slice by slice: from disk, from a run
//! that is bringing the slice, or by beginning one. A *run* is one request to the origin for slices in a row, with
//! If-Range, so that what it brings is of the same version or does not come at all. A slice that was evicted
//! is fetched again like one that was never there.
//!
//! | module | what it is |
//! |---|---|
//! | `plan` | what to ask for, and what answers mean; no I/O |
//! | here | the slices under way, each once |
//! | `slice` | one of them |
//! | `run` | brings them |
//! | `claim` | whose it is to fetch them from the origin |
//! | `vouched` | shows them to peers, each by itself |
//! | `share` | brings them from several peers at once, as `coralline_sources` schedules it |
//! | `many` | brings all of what several peers hold whole |
//! | `read` | reads a body in slices |
//! | `begin` | the first request, which learns what there is |
//!
//! What a run brings is of one version: that under which the disk keeps the head. When it has changed, all
//! slices of the version end at once, and it is forgotten: who has had a part of it is cut, who has had
//! nothing begins again.

mod begin;
mod claim;
mod many;
mod plan;
mod read;
mod run;
mod share;
mod slice;
mod vouched;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use coralline_disk::Object;
use coralline_overlay::Key;
use coralline_receipt::{Receipt, TreeHead};
use prometheus::IntGauge;
use tokio::sync::{OnceCell, Semaphore};

use crate::budget::Budget;
use crate::limits::{
    HOLDERS_MEMORY, MAX_CLAIMS, MAX_HOLDERS, MAX_OUTDATED, MAX_ROOTS, MAX_RUNS, MAX_SLICES,
    MAX_SLICES_PER_ORIGIN, MAX_VOUCHED, SLICES_SHARE,
};
use crate::reason::{Failure, Reason};
use crate::slices::plan::octets;
use crate::slices::share::Holder;
use crate::slices::slice::End;
use crate::slices::vouched::Vouched;

pub(crate) use begin::{Begun, Wanted};
pub(crate) use plan::{First, Part, bytes};
pub(crate) use read::{Sliced, lacks};
pub(crate) use slice::Slice;
pub(crate) use vouched::ForPeer;

/// The slices under way.
pub(crate) struct Slices {
    table: Arc<Mutex<Table>>,
    budget: Budget,
    /// A place for each run that is asking or receiving.
    places: Semaphore,
    most_places: usize,
    /// Versions that have changed at their origin.
    outdated: moka::sync::Cache<u64, ()>,
    /// What is signed to be the whole of a version: the first that was said of it.
    roots: moka::sync::Cache<u64, [u8; 32]>,
    /// Who holds the whole, by URI, once the index has said so.
    holders: moka::sync::Cache<Arc<str>, LookUp>,
    /// Slices that have a receipt of their own, by version and number.
    vouched: moka::sync::Cache<(u64, u32), Arc<Vouched>>,
    /// Places for claims under way.
    claims: Semaphore,
}

#[derive(Debug)]
struct Table {
    /// By version and number.
    slices: BTreeMap<(u64, u32), Arc<Slice>>,
    /// What each origin has of them.
    origins: BTreeMap<Arc<str>, OfOrigin>,
    /// How many read each version: in all, and of these such as somebody waits for.
    readers: BTreeMap<u64, (usize, usize)>,
    /// Always as many as there are slices.
    count: IntGauge,
}

/// What one origin has under way.
#[derive(Debug)]
struct OfOrigin {
    slices: usize,
    /// Places for its runs: half of all, so that one that drips leaves some to others.
    places: Arc<Semaphore>,
}

/// What the index says of who holds the whole; nothing until it has answered.
type LookUp = Arc<OnceCell<Arc<[Holder]>>>;

/// Where a slice is to be had.
pub(crate) enum Place {
    Disk,
    Arriving(Arc<Slice>),
    Nowhere,
}

impl Slices {
    /// `memory` is that of the whole cache, in octets.
    pub(crate) fn new(memory: u64, budget: Budget, count: IntGauge) -> Self {
        let places = memory / SLICES_SHARE / u64::from(coralline_disk::limits::SLICE);
        let most_places = usize::try_from(places).unwrap_or(usize::MAX).clamp(2, MAX_RUNS);
        let (slices, origins, readers) = Default::default();
        Self {
            table: Arc::new(Mutex::new(Table { slices, origins, readers, count })),
            budget,
            places: Semaphore::new(most_places),
            most_places,
            outdated: moka::sync::Cache::builder().max_capacity(MAX_OUTDATED).build(),
            roots: moka::sync::Cache::builder().max_capacity(MAX_ROOTS).build(),
            holders: moka::sync::Cache::builder()
                .max_capacity(MAX_HOLDERS)
                .time_to_live(HOLDERS_MEMORY)
                .build(),
            vouched: moka::sync::Cache::builder().max_capacity(MAX_VOUCHED).build(),
            claims: Semaphore::new(MAX_CLAIMS),
        }
    }

    /// Where this slice is. A slice is on disk before it is no longer arriving, so it is never overlooked.
    pub(crate) fn find(&self, object: &Object, slice: u32) -> Place {
        let arriving = lock(&self.table).slices.get(&(object.version(), slice)).cloned();
        match arriving {
            Some(slice) => Place::Arriving(slice),
            None if object.has(octets(slice, object.length()).start) => Place::Disk,
            None => Place::Nowhere,
        }
    }

    /// The next run for one who stands in the first of these slices and wants all of them; nothing if none
    /// is needed yet. The caller sees to it that it is flown.
    ///
    /// # Errors
    /// There are as many slices under way as there may be, in all or of this origin.
    pub(crate) fn board(
        &self,
        object: &Object,
        wanted: Range<u32>,
        origin: &Arc<str>,
    ) -> Result<Option<Run>, Failure> {
        let version = object.version();
        let mut table = lock(&self.table);
        let lacks = |slice| {
            !table.slices.contains_key(&(version, slice))
                && !object.has(octets(slice, object.length()).start)
        };
        let Some(run) = plan::next_run(wanted, lacks) else { return Ok(None) };
        let of_origin = table.origins.get(origin).map_or(0, |of| of.slices) + run.len();
        if table.slices.len() + run.len() > MAX_SLICES || of_origin > MAX_SLICES_PER_ORIGIN {
            let detail = "this node fetches as many slices as it may; try again soon";
            return Err(Failure::new(Reason::ConnectionLimitReached, detail));
        }
        let mut slices = VecDeque::new();
        for number in run {
            let octets = octets(number, object.length());
            let length = usize::try_from(octets.end - octets.start).expect("a slice fits memory");
            let slice = Arc::new(Slice::new(length, &self.budget));
            table.slices.insert((version, number), slice.clone());
            slices.push_back((octets, number, slice));
        }
        table.count.add(i64::try_from(slices.len()).unwrap_or(i64::MAX));
        let of = table.origins.entry(origin.clone()).or_insert_with(|| OfOrigin {
            slices: 0,
            places: Arc::new(Semaphore::new(self.most_places / 2)),
        });
        of.slices = of_origin;
        let places = of.places.clone();
        let (table, origin) = (self.table.clone(), origin.clone());
        Ok(Some(Run { table, version, origin, places, slices }))
    }

    /// The keys in the index of slices that others were told of.
    pub(crate) fn index_keys(&self) -> Vec<Key> {
        self.vouched.iter().map(|(_, vouched)| vouched.key).collect()
    }

    /// One more reads this version, until what is returned is dropped.
    pub(crate) fn reader(&self, version: u64) -> Reading {
        self.reading(version, true)
    }

    /// One more wants all of this version to come, and nobody waits for that.
    fn keeper(&self, version: u64) -> Reading {
        self.reading(version, false)
    }

    fn reading(&self, version: u64, awaited: bool) -> Reading {
        let mut table = lock(&self.table);
        let (all, waiting) = table.readers.entry(version).or_default();
        *all += 1;
        *waiting += usize::from(awaited);
        drop(table);
        Reading { table: self.table.clone(), version, awaited }
    }

    fn is_read(&self, version: u64) -> bool {
        lock(&self.table).readers.contains_key(&version)
    }

    /// Somebody waits for it.
    fn is_awaited(&self, version: u64) -> bool {
        lock(&self.table).readers.get(&version).is_some_and(|(_, waiting)| *waiting > 0)
    }

    /// Whether this version is known to have changed.
    pub(crate) fn is_outdated(&self, version: u64) -> bool {
        self.outdated.contains_key(&version)
    }

    /// Whether this receipt is of the same whole as the first that came with a slice of this version: what two have
    /// signed differently is never joined.
    fn is_of(&self, version: u64, receipt: &Receipt) -> bool {
        let TreeHead { root, whole, .. } = receipt.head;
        whole && *self.roots.entry(version).or_insert(root).value() == root
    }

    /// It has changed: whoever reads it is told.
    fn outdate(&self, version: u64) {
        self.outdated.insert(version, ());
        let arriving: Vec<_> = lock(&self.table)
            .slices
            .range((version, 0)..=(version, u32::MAX))
            .map(|(_, slice)| slice.clone())
            .collect();
        arriving.iter().for_each(|slice| slice.end(End::Failed(changed())));
    }
}

/// Somebody reads a version.
#[derive(Debug)]
pub(crate) struct Reading {
    table: Arc<Mutex<Table>>,
    version: u64,
    awaited: bool,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let readers = &mut lock(&self.table).readers;
        if let Some((all, waiting)) = readers.get_mut(&self.version) {
            *all -= 1;
            *waiting -= usize::from(self.awaited);
            if *all == 0 {
                readers.remove(&self.version);
            }
        }
    }
}

/// The duty to bring some slices in a row. Whoever holds it may panic or be aborted: nobody is left waiting.
pub(crate) struct Run {
    table: Arc<Mutex<Table>>,
    version: u64,
    origin: Arc<str>,
    /// Those of its origin.
    places: Arc<Semaphore>,
    /// Those that are still to come, with the octets of each.
    slices: VecDeque<Numbered>,
}

/// Octets and number of a slice, and what is here of it.
type Numbered = (Range<u64>, u32, Arc<Slice>);

impl Run {
    /// The first octet that has not come; nothing at the end.
    fn at(&self) -> Option<u64> {
        self.slices.front().map(|(octets, _, slice)| octets.start + slice.received() as u64)
    }

    /// Its first slice.
    fn first(&self) -> Option<u32> {
        self.slices.front().map(|(_, number, _)| *number)
    }

    /// Each slice by itself.
    fn split(mut self) -> Vec<(u32, Self)> {
        let slices = std::mem::take(&mut self.slices);
        let alone = |slice: Numbered| (slice.1, self.with(VecDeque::from([slice])));
        slices.into_iter().map(alone).collect()
    }

    /// Those that are in a row as one.
    fn join(runs: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for mut run in runs {
            match joined.last_mut() {
                Some(last) if Some(last.until()) == run.slices.front().map(|of| of.0.start) => {
                    last.slices.append(&mut run.slices);
                }
                _ => joined.push(run),
            }
        }
        joined
    }

    fn with(&self, slices: VecDeque<Numbered>) -> Self {
        let (table, places) = (self.table.clone(), self.places.clone());
        Self { table, version: self.version, origin: self.origin.clone(), places, slices }
    }

    /// The end of its last slice.
    fn until(&self) -> u64 {
        self.slices.back().map_or(0, |(octets, ..)| octets.end)
    }

    /// The first slice has ended.
    fn ended(&mut self, end: End) {
        if let Some((_, number, slice)) = self.slices.pop_front() {
            slice.end(end);
            self.leave(number, &slice);
        }
    }

    /// None of the others will come.
    fn fail(&mut self, failure: &Failure) {
        while !self.slices.is_empty() {
            self.ended(End::Failed(failure.clone()));
        }
    }

    fn leave(&self, number: u32, slice: &Arc<Slice>) {
        let mut table = lock(&self.table);
        let key = (self.version, number);
        if table.slices.get(&key).is_some_and(|other| Arc::ptr_eq(other, slice)) {
            table.slices.remove(&key);
            table.count.dec();
            if let Some(of) = table.origins.get_mut(&self.origin) {
                of.slices -= 1;
                if of.slices == 0 {
                    table.origins.remove(&self.origin);
                }
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.fail(&Failure::new(Reason::ProxyInternalError, "the fetch was given up"));
    }
}

/// Where the index knows a slice. No URI holds a line feed. Versions share it: who has another than is wanted is
/// passed by.
fn slice_key(uri: &str, number: u32) -> Key {
    Key::of_name(format!("{uri}\nslice {number}").as_bytes())
}

fn nobody_reads() -> Failure {
    Failure::new(Reason::HttpResponseIncomplete, "nobody reads on")
}

fn changed() -> Failure {
    let detail = "what is asked for has changed at its origin";
    Failure { again: true, ..Failure::new(Reason::HttpResponseIncomplete, detail) }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().expect("no holder of this lock panics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_keeps_it_is_not_waited_for() {
        let count = IntGauge::new("slices", "slices").unwrap();
        let slices = Slices::new(1 << 30, Budget::new(1 << 20), count);
        let check = |read, awaited| {
            assert_eq!((slices.is_read(7), slices.is_awaited(7)), (read, awaited));
        };
        let keeper = slices.keeper(7);
        check(true, false);
        let reader = slices.reader(7);
        check(true, true);
        drop(keeper);
        check(true, true);
        let keeper = slices.keeper(7);
        drop(reader);
        check(true, false);
        drop(keeper);
        check(false, false);
    }
}
