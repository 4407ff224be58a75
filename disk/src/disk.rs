//! The face of the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::directory::{Directory, OpenError};
use crate::ghosts::Ghosts;
use crate::hash::Seed;
use crate::health::Trouble;
use crate::index::Index;
use crate::layout::{Geometry, Layout};
use crate::limits::{GHOSTS, MIN_CAPACITY, MIN_RECORDS, RECORD_MEMORY};
use crate::object::Object;
use crate::recover::{MAX_INDEX_FILE, Recovered, Recovery};
use crate::shared::{Evicted, Shared, Sizes, Writing, files};
use crate::stats::{Counts, Stats};
use crate::storage::{Part, Storage, read_full};
use crate::writer::{Refused, SliceWriter, Writer, put_head};

/// How much a disk cache may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Octets on disk; at least [`MIN_CAPACITY`].
    pub capacity: u64,
    /// Octets of memory for the index. With more records than fit, the oldest segment is evicted as if
    /// the disk were full.
    pub memory: u64,
}

/// A disk cache. Cheap to clone; the last clone, or object or writer, that goes unlocks the directory.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

impl Disk {
    /// Opens the cache in a directory, or makes one there. Reads the index files, not the data.
    ///
    /// What is beyond a capacity that has become less goes with the first [`tidy`](Self::tidy), or as
    /// something is written.
    ///
    /// `evicted` is told of each object that had to go: its key, and the caller's octets. It is called
    /// while others wait to write: it must be quick, and must not call back.
    ///
    /// # Errors
    /// [`OpenError`] says the remedy.
    pub fn open(
        path: &Path,
        options: Options,
        evicted: impl Fn(&[u8], &[u8]) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Io(path.to_owned(), error);
        let directory = Directory::open(path)?;
        let seed = directory.seed();
        let nonce = getrandom::u64().map_err(|error| failed(error.into()))?;
        let options = Options { capacity: options.capacity.max(MIN_CAPACITY), ..options };
        let geometry = Geometry::of(options.capacity);
        let evicted = Box::new(evicted);
        Self::start(Box::new(directory), options, geometry, seed, nonce, evicted).map_err(failed)
    }

    pub(crate) fn start(
        storage: Box<dyn Storage>,
        options: Options,
        mut geometry: Geometry,
        seed: Seed,
        nonce: u64,
        evicted: Evicted,
    ) -> std::io::Result<Self> {
        let max_records = (options.memory / RECORD_MEMORY).max(MIN_RECORDS);
        let share = u32::try_from(max_records / crate::limits::MIN_SEGMENTS).unwrap_or(u32::MAX);
        geometry.records = geometry.records.min(share);
        let counts = Counts::default();
        let (recovered, next, useless) = recover(&*storage, seed, &counts)?;
        let Recovered { records, replaced, segments, sequence } = recovered;
        let layout = Layout::new(geometry, options.capacity, segments, next);
        let shared = Shared {
            storage,
            seed,
            block: geometry.block,
            slice: geometry.slice,
            max_records,
            evicted,
            counts,
            nonce,
            versions: Default::default(),
            index: Mutex::new(Index::of(records)),
            sizes: Mutex::new(layout.sizes()),
            writing: Mutex::new(Writing {
                layout,
                sequence,
                undeleted: Vec::new(),
                unsynced: BTreeSet::new(),
            }),
            trouble: Mutex::new(Trouble::none()),
            ghosts: Mutex::new(Ghosts::new(GHOSTS)),
            readers: Default::default(),
            shrink: AtomicBool::new(false),
        };
        let mut writing = shared.writing();
        for segment in useless {
            shared.delete(&mut writing, segment);
        }
        for (id, entry) in replaced.into_iter().filter(|(_, entry)| entry.kind().is_head()) {
            // What fails here is counted, and tried again at the next start.
            let _ = shared.bury(&mut writing, id, entry);
        }
        drop(writing);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The object under a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Object> {
        Object::find(&self.shared, key)
    }

    /// Whether there seems to be one: a look into memory.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.shared.index().get(self.shared.seed.head_id(key)).is_some()
    }

    /// Begins to write an object, whose body has `expected` octets if that is known. Nothing is written
    /// yet.
    ///
    /// # Errors
    /// [`Refused`]: go on without the disk.
    pub fn begin(&self, key: &[u8], meta: &[u8], expected: Option<u64>) -> Result<Writer, Refused> {
        Writer::new(&self.shared, key, meta, expected)
    }

    /// Puts an object of `length` octets under a key, of which nothing is there yet: its slices come by
    /// [`begin_slice`](Self::begin_slice), those that are asked for.
    ///
    /// # Errors
    /// [`Refused`]; what was stored stays.
    pub fn put_head(&self, key: &[u8], meta: &[u8], length: u64) -> Result<Object, Refused> {
        put_head(&self.shared, key, meta, length)
    }

    /// Begins to write the slice of this object that holds the octet at `offset`: all of it has to
    /// follow.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::WrongLength`] beyond the end, or if the object is kept whole.
    pub fn begin_slice(&self, object: &Object, offset: u64) -> Result<SliceWriter, Refused> {
        let slice = offset / u64::from(self.shared.slice);
        SliceWriter::new(object, u32::try_from(slice).map_err(|_| Refused::WrongLength)?)
    }

    /// Octets of a slice.
    #[must_use]
    pub fn slice(&self) -> u64 {
        u64::from(self.shared.slice)
    }

    /// Removes what is under a key; returns whether there was something. It will not be back after the
    /// process was killed; [`sync`](Self::sync) makes sure of that for a loss of power as well.
    ///
    /// # Errors
    /// [`Refused`]: it is gone now, but may be back after a restart.
    pub fn remove(&self, key: &[u8]) -> Result<bool, Refused> {
        let id = self.shared.seed.head_id(key);
        let mut writing = self.shared.writing();
        // What cannot be deleted may hold an earlier copy.
        let deleted = self.shared.delete_again(&mut writing);
        let removed = self.shared.index().remove(id, None);
        let buried = removed.map(|entry| self.shared.bury(&mut writing, id, entry));
        drop(writing);
        self.shared.drop_slices_of(removed);
        buried.transpose()?;
        deleted?;
        Ok(removed.is_some())
    }

    /// Returns when all removals so far would survive a loss of power. One call does for many.
    ///
    /// # Errors
    /// [`Refused::Failed`] if the disk does not say so.
    pub fn sync(&self) -> Result<(), Refused> {
        let segments = std::mem::take(&mut self.shared.writing().unsynced);
        let sync = |segment| match self.shared.storage.sync(files(segment).1) {
            // What was deleted since needs no mark.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            synced => synced,
        };
        let synced = segments.iter().try_for_each(|segment| sync(*segment));
        synced.and_then(|()| self.shared.storage.sync_names()).map_err(|error| {
            self.shared.writing().unsynced.extend(segments);
            self.shared.write_failed(&error)
        })
    }

    /// Calls `each` with key and meta of every object, until it returns false: after a restart, or to
    /// find what has a tag. It reads every head, a segment after the other; what comes or goes
    /// meanwhile may be left out.
    pub fn for_each(&self, mut each: impl FnMut(&[u8], &[u8]) -> bool) {
        let segments = self.shared.index().segments();
        for segment in segments {
            let members = self.shared.index().members(segment);
            for (_, entry) in members.into_iter().filter(|(_, entry)| entry.kind().is_head()) {
                let Ok((head, ..)) = self.shared.read_head(entry.place(), false) else { continue };
                if !each(&head.key, &head.meta) {
                    return;
                }
            }
        }
    }

    /// Evicts ahead, so that writers need not wait for it; to be called now and then.
    pub fn tidy(&self) {
        let mut writing = self.shared.writing();
        if self.shared.shrink.swap(false, Ordering::Relaxed) {
            writing.layout.shrink();
        }
        if self.shared.trouble().may_write(self.shared.storage.now()) {
            // Where it fails the next writer is told.
            let _ = self.shared.make_room(&mut writing);
        }
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Sizes { used, capacity, segments } = self.shared.sizes();
        let index = self.shared.index();
        let (objects, records, octets) = (index.heads(), index.len(), index.octets());
        drop(index);
        let (health, counts) = (self.shared.trouble().health(), &self.shared.counts);
        Stats {
            objects,
            records,
            octets,
            used,
            capacity,
            segments,
            health,
            writers: counts.writers.get(),
            written: counts.written.get(),
            copied: counts.copied.get(),
            evicted: counts.evicted.get(),
            damaged: counts.damaged.get(),
            given_up: counts.given_up.get(),
            read_errors: counts.read_errors.get(),
            write_errors: counts.write_errors.get(),
            refused: counts.refused.get(),
        }
    }
}

/// Reads all index files. Returns what they say, the next segment's number, and segments of no use.
fn recover(
    storage: &dyn Storage,
    seed: Seed,
    counts: &Counts,
) -> std::io::Result<(Recovered, u32, Vec<u32>)> {
    let mut lengths: BTreeMap<u32, [Option<u64>; 2]> = BTreeMap::new();
    for (file, length) in storage.list()? {
        lengths.entry(file.segment).or_default()[usize::from(file.part == Part::Index)] =
            Some(length);
    }
    let next = lengths.keys().last().map_or(0, |number| number.saturating_add(1));
    let (mut recovery, mut useless) = (Recovery::new(seed), Vec::new());
    let mut lines = Vec::new();
    for (number, lengths) in lengths {
        // One without the other, or without a line, is what a stop in the middle leaves.
        let [Some(data), Some(length @ crate::line::LINE_U64..)] = lengths else {
            useless.push(number);
            continue;
        };
        lines.clear();
        lines.resize(usize::try_from(length.min(MAX_INDEX_FILE)).unwrap_or_default(), 0);
        let read = read_full(storage, files(number).1, &mut lines, 0);
        if let Err(error) = &read {
            counts.read_errors.add(1);
            tracing::warn!("disk cache: segment {number} is given up: {error}");
            useless.push(number);
        } else if length > MAX_INDEX_FILE || recovery.read(number, &lines, data).is_err() {
            counts.given_up.add(1);
            tracing::warn!("disk cache: segment {number} is given up: its index is damaged");
            useless.push(number);
        }
    }
    Ok((recovery.finish(), next, useless))
}
