//! The state behind a disk, and the steps that change it.
//!
//! Two locks, taken in this order: `writing` by whoever changes anything, for as long as it writes to
//! an index file or evicts; `index` for a moment, also by readers, and never during I/O.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::ghosts::Ghosts;
use crate::hash::{Seed, nth};
use crate::health::{Health, Trouble};
use crate::index::{Entry, Index, Place};
use crate::layout::Layout;
use crate::limits::{MAX_UNDELETED, MAX_WRITERS, READ_AHEAD};
use crate::line::{Kind, LINE, Line, Queue};
use crate::readers::Readers;
use crate::record::{FIXED, Head};
use crate::stats::{Count, Counts};
use crate::storage::{File, Part, Storage, read_full, write_full};
use crate::writer::Refused;

/// Told of each object that is evicted: its key, and the caller's octets.
pub(crate) type Evicted = Box<dyn Fn(&[u8], &[u8]) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) seed: Seed,
    /// Octets of a block, and of a slice.
    pub(crate) block: u32,
    pub(crate) slice: u32,
    pub(crate) max_records: u64,
    pub(crate) evicted: Evicted,
    pub(crate) counts: Counts,
    /// Random for each opening, so that no version is ever there twice.
    pub(crate) nonce: u64,
    pub(crate) versions: Count,
    pub(crate) index: Mutex<Index>,
    pub(crate) writing: Mutex<Writing>,
    pub(crate) trouble: Mutex<Trouble>,
    pub(crate) ghosts: Mutex<Ghosts>,
    pub(crate) readers: Readers,
    /// As they were when nobody was writing.
    pub(crate) sizes: Mutex<Sizes>,
    /// The disk was found full: less is to be used.
    pub(crate) shrink: AtomicBool,
}

/// What changes as something is written.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) layout: Layout,
    pub(crate) sequence: u64,
    /// Segments whose files could not be deleted.
    pub(crate) undeleted: Vec<u32>,
    /// Segments with marks that a loss of power may undo.
    pub(crate) unsynced: BTreeSet<u32>,
}

/// How much is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) used: u64,
    pub(crate) capacity: u64,
    pub(crate) segments: u64,
}

/// Why a record could not be read.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// Its segment is gone: it has moved, or was evicted.
    Gone,
    /// It is not as it was written.
    Damaged,
    Io(io::Error),
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Gone,
            ErrorKind::UnexpectedEof => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}

impl Shared {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn ghosts(&self) -> MutexGuard<'_, Ghosts> {
        self.ghosts.lock().expect("no holder of this lock panics")
    }

    /// How much is used; while somebody writes, how much was used a moment ago: whoever looks after a
    /// disk that hangs must not hang with it.
    pub(crate) fn sizes(&self) -> Sizes {
        let mut sizes = self.sizes.lock().expect("no holder of this lock panics");
        if let Ok(writing) = self.writing.try_lock() {
            *sizes = writing.layout.sizes();
        }
        *sizes
    }

    pub(crate) fn new_version(&self) -> u64 {
        nth(self.nonce, self.versions.next())
    }

    /// Lets a writer begin, unless there are too many or the disk is in trouble.
    pub(crate) fn enter(&self) -> Result<(), Refused> {
        let may_write = self.trouble().may_write(self.storage.now());
        let refused = if !may_write {
            Refused::Paused
        } else if !self.counts.writers.enter(MAX_WRITERS as u64) {
            Refused::Busy
        } else {
            return Ok(());
        };
        self.counts.refused.add(1);
        Err(refused)
    }

    /// A write failed.
    pub(crate) fn write_failed(&self, error: &io::Error) -> Refused {
        self.counts.write_errors.add(1);
        let health = Health::of(error);
        if self.trouble().failed(self.storage.now(), health) {
            tracing::warn!("disk cache {}: {error}; nothing is kept for a while", health.word());
        }
        if health == Health::Full {
            self.shrink.store(true, Ordering::Relaxed);
        }
        Refused::Failed
    }

    /// A place for a record of `length` octets.
    pub(crate) fn reserve(&self, queue: Queue, length: u32) -> Result<Place, Refused> {
        let mut writing = self.writing();
        if self.shrink.swap(false, Ordering::Relaxed) {
            writing.layout.shrink();
            self.make_room(&mut writing)?;
        }
        if let Some(place) = writing.layout.reserve(queue, length) {
            return Ok(place);
        }
        self.make_room(&mut writing)?;
        // Evicting may have opened another segment of the main queue.
        if let Some(place) = writing.layout.reserve(queue, length) {
            return Ok(place);
        }
        self.open_segment(&mut writing, queue)?;
        writing.layout.reserve(queue, length).ok_or(Refused::TooLarge)
    }

    pub(crate) fn open_segment(&self, writing: &mut Writing, queue: Queue) -> Result<(), Refused> {
        let number = writing.layout.next_number().ok_or(Refused::Failed)?;
        let (data, index) = files(number);
        let line = Line::Segment(queue).encode(self.seed, number, 0);
        let made = self.storage.create(data).and_then(|()| self.storage.create(index));
        let made = made.and_then(|()| write_full(&*self.storage, index, &line, 0));
        if let Err(error) = made {
            self.delete(writing, number);
            return Err(self.write_failed(&error));
        }
        if let Some(sealed) = writing.layout.opened(number, queue) {
            self.index().seal(sealed);
            if self.trouble().over(self.storage.now()) {
                writing.layout.grow();
            }
        }
        Ok(())
    }

    /// Makes a record visible; returns the head that it replaces, whose end is marked: the new one counts
    /// from the moment its line is written, the old one goes after that.
    pub(crate) fn commit(
        &self,
        writing: &mut Writing,
        id: u64,
        entry: Entry,
    ) -> Result<Option<Entry>, Refused> {
        if !writing.undeleted.is_empty() {
            // There may be an earlier record of this id, which nothing but this one keeps down.
            self.delete_again(writing)?;
        }
        // Slices need no mark: one of the same version holds the same.
        let old = self.publish(writing, id, entry)?.filter(|old| old.kind().is_head());
        old.map(|old| self.bury(writing, id, old)).transpose()?;
        Ok(old)
    }

    /// Makes a record visible; returns what it replaces.
    pub(crate) fn publish(
        &self,
        writing: &mut Writing,
        id: u64,
        entry: Entry,
    ) -> Result<Option<Entry>, Refused> {
        let (Place { segment, offset, length }, kind) = (entry.place(), entry.kind());
        // An eviction may have overtaken a slow writer.
        writing.layout.segment(segment).ok_or(Refused::Evicted)?;
        let sequence = writing.sequence;
        writing.sequence += 1;
        let line = Line::Record { kind, id, offset, length, sequence };
        if let Err(error) = self.append(writing, segment, line) {
            if error.kind() == ErrorKind::NotFound {
                self.give_up(writing, segment);
            }
            return Err(self.write_failed(&error));
        }
        self.counts.written.add(u64::from(length));
        self.trouble().wrote(self.storage.now());
        Ok(self.index().insert(id, entry))
    }

    /// Marks a record as gone, so that no restart brings it back. Where that cannot be written its
    /// segment is given up: deleting takes no space.
    pub(crate) fn bury(&self, writing: &mut Writing, id: u64, old: Entry) -> Result<(), Refused> {
        let Place { segment, offset, .. } = old.place();
        if writing.layout.segment(segment).is_none() {
            return Ok(());
        }
        let Err(error) = self.append(writing, segment, Line::Gone { id, offset }) else {
            writing.unsynced.insert(segment);
            return Ok(());
        };
        let refused = self.write_failed(&error);
        if self.give_up(writing, segment) { Ok(()) } else { Err(refused) }
    }

    fn append(&self, writing: &mut Writing, segment: u32, line: Line) -> io::Result<()> {
        let Some(lines) = writing.layout.segment(segment).map(|segment| segment.lines) else {
            return Err(ErrorKind::NotFound.into());
        };
        let octets = line.encode(self.seed, segment, lines);
        let offset = u64::from(lines) * LINE as u64;
        write_full(&*self.storage, files(segment).1, &octets, offset)?;
        writing.layout.line_added(segment);
        Ok(())
    }

    /// Deletes a segment's files, the index first: without it the data is nothing. False: it has to be
    /// tried again.
    pub(crate) fn delete(&self, writing: &mut Writing, segment: u32) -> bool {
        let (data, index) = files(segment);
        let deleted = self.storage.delete(index).and_then(|()| self.storage.delete(data));
        let Err(error) = deleted else { return true };
        self.write_failed(&error);
        if writing.undeleted.len() < MAX_UNDELETED {
            writing.undeleted.push(segment);
        }
        false
    }

    /// Tries once more to delete what could not be deleted.
    pub(crate) fn delete_again(&self, writing: &mut Writing) -> Result<(), Refused> {
        for segment in std::mem::take(&mut writing.undeleted) {
            self.delete(writing, segment);
        }
        if writing.undeleted.is_empty() { Ok(()) } else { Err(Refused::Failed) }
    }

    /// Reads the head of a record, and what came with it: (head, its octets, octets that follow).
    pub(crate) fn read_head(
        &self,
        place: Place,
        ahead: bool,
    ) -> Result<(Head, u32, Vec<u8>), ReadFailure> {
        let (file, offset) = (files(place.segment).0, u64::from(place.offset));
        let first = place.length.min(if ahead { READ_AHEAD } else { 4096 });
        let mut octets = vec![0; first as usize];
        read_full(&*self.storage, file, &mut octets, offset)?;
        let needs = octets.get(..FIXED).and_then(Head::needs).ok_or(ReadFailure::Damaged)?;
        if needs > place.length as usize {
            return Err(ReadFailure::Damaged);
        }
        if needs > octets.len() {
            let had = octets.len();
            octets.resize(needs, 0);
            let more = octets.get_mut(had..).unwrap_or_default();
            read_full(&*self.storage, file, more, offset + had as u64)?;
        }
        let head = Head::decode(self.seed, &octets).ok_or(ReadFailure::Damaged)?;
        let rest = octets.split_off(needs);
        Ok((head, u32::try_from(needs).map_err(|_| ReadFailure::Damaged)?, rest))
    }

    /// Drops a record that cannot be read, if it is still there. One that cannot be marked stays, and
    /// leads here again: were it only forgotten, it might be back when what replaces it has gone.
    pub(crate) fn drop_record(&self, id: u64, place: Place, failure: &ReadFailure) {
        match failure {
            ReadFailure::Gone => return,
            ReadFailure::Damaged => self.counts.damaged.add(1),
            ReadFailure::Io(error) => {
                self.counts.read_errors.add(1);
                if self.trouble().unreadable(self.storage.now()) {
                    tracing::warn!("disk cache: reading fails: {error}; it is fetched again");
                }
            }
        }
        let mut writing = self.writing();
        let entry = self.index().get(id).filter(|entry| entry.place() == place);
        let Some(entry) = entry else { return };
        let line = Line::Gone { id, offset: place.offset };
        let marked =
            !entry.kind().is_head() || self.append(&mut writing, place.segment, line).is_ok();
        if marked {
            self.index().remove(id, Some(place));
        }
    }

    /// A file of a segment is not there, and not because we deleted it: somebody else has.
    pub(crate) fn lost(&self, segment: u32) -> Refused {
        let mut writing = self.writing();
        if writing.layout.segment(segment).is_some() {
            tracing::warn!("disk cache: segment {segment} is given up: a file was taken away");
            self.give_up(&mut writing, segment);
        }
        Refused::Evicted
    }

    /// Forgets a segment and deletes it. False: deleting has to be tried again.
    fn give_up(&self, writing: &mut Writing, segment: u32) -> bool {
        self.counts.given_up.add(1);
        self.index().remove_segment(segment);
        writing.layout.remove(segment);
        self.delete(writing, segment)
    }

    /// Drops the slices of a version that is gone, unless somebody still reads it: who goes last will do it.
    /// No mark is needed, since no version comes twice.
    pub(crate) fn drop_slices(&self, key: &[u8], version: u64, slices: u32) {
        if !self.readers.replace(version) {
            return;
        }
        for n in 0..slices {
            // Readers get their turn in between.
            self.index().remove(self.seed.slice_id(key, version, n), None);
        }
    }

    /// Drops the slices of a head that is gone, which is still to be read where it was.
    pub(crate) fn drop_slices_of(&self, old: Option<Entry>) {
        if let Some(old) = old.filter(|old| old.kind() == Kind::Sliced)
            && let Ok((head, ..)) = self.read_head(old.place(), false)
        {
            let slices = slices(head.length.unwrap_or_default(), self.slice);
            self.drop_slices(&head.key, head.version, slices);
        }
    }
}

/// The data file and the index file.
pub(crate) fn files(segment: u32) -> (File, File) {
    (File { segment, part: Part::Data }, File { segment, part: Part::Index })
}

/// How many slices an object of `length` octets has.
pub(crate) fn slices(length: u64, slice: u32) -> u32 {
    u32::try_from(length.div_ceil(u64::from(slice))).unwrap_or(u32::MAX)
}
