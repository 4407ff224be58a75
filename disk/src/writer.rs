//! Writing an object, or a slice of one.

use std::sync::Arc;

use crate::fill::Fill;
use crate::index::Entry;
use crate::limits::{MAX_KEY, MAX_META, MAX_OBJECT};
use crate::line::{Kind, Queue};
use crate::object::Object;
use crate::record::Head;
use crate::shared::{Shared, slices};

/// Why something is not kept. Whoever was to be served is served without the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Beyond [`MAX_KEY`], [`MAX_META`] or [`MAX_OBJECT`].
    #[error("too large to be kept")]
    TooLarge,
    /// [`MAX_WRITERS`](crate::limits::MAX_WRITERS) are at work.
    #[error("too much is being written")]
    Busy,
    /// The disk is full or failing; nothing is written for a while.
    #[error("writing pauses")]
    Paused,
    /// Writing failed just now.
    #[error("writing failed")]
    Failed,
    /// More or less came than was said at the beginning.
    #[error("not of the length that was said")]
    WrongLength,
    /// It took so long that the segment it was written to was evicted.
    #[error("evicted while it was written")]
    Evicted,
    /// What it belongs to was replaced or removed meanwhile.
    #[error("replaced meanwhile")]
    Replaced,
}

/// One of the writers that may be at work at once.
pub(crate) struct Permit(Arc<Shared>);

impl Permit {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self, Refused> {
        shared.enter()?;
        Ok(Self(shared.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.counts.writers.leave();
    }
}

/// Writes an object from its first octet to its last. Nothing replaces what is stored under the key
/// until [`commit`](Self::commit); dropped without it, nothing remains. It blocks: see the crate.
pub struct Writer {
    shared: Arc<Shared>,
    /// What the head will be; its slice is the one being filled.
    head: Head,
    expected: Option<u64>,
    written: u64,
    fill: Fill,
    /// Slices that are on disk.
    slices: u32,
    failed: Option<Refused>,
    committed: bool,
    _permit: Permit,
}

impl Writer {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        key: &[u8],
        meta: &[u8],
        expected: Option<u64>,
    ) -> Result<Self, Refused> {
        check_sizes(key, meta, expected.unwrap_or(0))?;
        let permit = Permit::new(shared)?;
        let version = shared.new_version();
        let head = Head { key: key.into(), meta: meta.into(), version, slice: 0, length: None };
        let large = expected.is_some_and(|length| length > u64::from(shared.slice));
        // What was evicted unread a while ago was evicted too early.
        let returns = !large && shared.ghosts().remove(shared.seed.head_id(key));
        let queue = if returns { Queue::Main } else { Queue::Probation };
        let first = if large { &without_meta(&head) } else { &head };
        let room = expected.map_or(shared.slice, |length| clamp(length, shared.slice));
        let fill = Fill::new(shared, first, queue, room);
        let (shared, failed, committed) = (shared.clone(), None, false);
        let (written, slices, _permit) = (0, 0, permit);
        Ok(Self { shared, head, expected, written, fill, slices, failed, committed, _permit })
    }

    /// The version that is being written. It has never been one of another object.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.head.version
    }

    /// Takes the next octets of the body. After an error all that can be done is to drop the writer.
    ///
    /// # Errors
    /// [`Refused`], the same one ever after.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), Refused> {
        if let Some(refused) = self.failed {
            return Err(refused);
        }
        let written = self.try_write(octets);
        self.failed = written.err();
        written
    }

    fn try_write(&mut self, octets: &[u8]) -> Result<(), Refused> {
        self.written += octets.len() as u64;
        if self.expected.is_some_and(|expected| self.written > expected) {
            return Err(Refused::WrongLength);
        }
        if self.written > MAX_OBJECT {
            return Err(Refused::TooLarge);
        }
        let mut rest = self.fill.push(octets)?;
        while !rest.is_empty() {
            self.end_slice()?;
            self.head.slice += 1;
            let left = self.expected.map_or(u64::MAX, |all| all - self.offset());
            let room = clamp(left, self.shared.slice);
            // What is large has to be read again before it displaces anything.
            let head = without_meta(&self.head);
            self.fill = Fill::new(&self.shared, &head, Queue::Probation, room);
            rest = self.fill.push(rest)?;
        }
        Ok(())
    }

    /// The object as it stands, if its length is known: slices that are on disk can be read.
    #[must_use]
    pub fn object(&self) -> Option<Object> {
        let length = self.expected.filter(|length| *length > u64::from(self.shared.slice))?;
        Some(Object::new(&self.shared, &self.head, length, true))
    }

    /// Ends the object, and puts it in the place of what was stored under its key.
    ///
    /// # Errors
    /// [`Refused`]; what was stored stays. [`Refused::WrongLength`] if the body is shorter than was said.
    pub fn commit(mut self) -> Result<Object, Refused> {
        if let Some(refused) = self.failed {
            return Err(refused);
        }
        if self.expected.is_some_and(|expected| self.written != expected) {
            return Err(Refused::WrongLength);
        }
        let id = self.shared.seed.head_id(&self.head.key);
        let sliced = self.slices > 0;
        let entry = if sliced {
            self.end_slice()?;
            self.head.slice = 0;
            self.head.length = Some(self.written);
            let mut head = Fill::new(&self.shared, &self.head, Queue::Probation, 0);
            Entry::new(head.finish()?, Kind::Sliced)
        } else {
            Entry::new(self.fill.finish()?, Kind::Whole)
        };
        let old = self.shared.commit(&mut self.shared.writing(), id, entry)?;
        self.committed = true;
        self.shared.drop_slices_of(old);
        Ok(Object::new(&self.shared, &self.head, self.written, sliced))
    }

    /// Where the slice begins that is being filled.
    fn offset(&self) -> u64 {
        u64::from(self.head.slice) * u64::from(self.shared.slice)
    }

    fn end_slice(&mut self) -> Result<(), Refused> {
        let place = self.fill.finish()?;
        let Head { key, version, slice, .. } = &self.head;
        let id = self.shared.seed.slice_id(key, *version, *slice);
        self.shared.commit(&mut self.shared.writing(), id, Entry::new(place, Kind::Slice))?;
        self.slices += 1;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.committed {
            self.shared.drop_slices(&self.head.key, self.head.version, self.slices);
        }
    }
}

/// Writes one slice of an object that is there.
pub struct SliceWriter {
    shared: Arc<Shared>,
    id: u64,
    expected: u32,
    fill: Fill,
    too_long: bool,
    _permit: Permit,
}

impl SliceWriter {
    pub(crate) fn new(object: &Object, slice: u32) -> Result<Self, Refused> {
        let shared = object.shared();
        if !object.is_sliced() || slice >= slices(object.length(), shared.slice) {
            return Err(Refused::WrongLength);
        }
        let permit = Permit::new(shared)?;
        let left = object.length() - u64::from(slice) * u64::from(shared.slice);
        let expected = clamp(left, shared.slice);
        let (key, version) = (object.key(), object.version());
        let head = Head { key: key.into(), meta: [].into(), version, slice, length: None };
        let fill = Fill::new(shared, &head, Queue::Probation, expected);
        let id = shared.seed.slice_id(key, version, slice);
        let (shared, too_long, _permit) = (shared.clone(), false, permit);
        Ok(Self { shared, id, expected, fill, too_long, _permit })
    }

    /// Takes the next octets of the slice.
    ///
    /// # Errors
    /// [`Refused`], after which the writer is of no use.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), Refused> {
        let rest = self.fill.push(octets)?;
        self.too_long |= !rest.is_empty();
        if self.too_long { Err(Refused::WrongLength) } else { Ok(()) }
    }

    /// Makes the slice part of the object.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::WrongLength`] if it is not whole.
    pub fn commit(mut self) -> Result<(), Refused> {
        if self.too_long || self.fill.body() != self.expected {
            return Err(Refused::WrongLength);
        }
        let entry = Entry::new(self.fill.finish()?, Kind::Slice);
        self.shared.commit(&mut self.shared.writing(), self.id, entry).map(drop)
    }
}

/// Writes the head of an object of which slices come one by one.
pub(crate) fn put_head(
    shared: &Arc<Shared>,
    key: &[u8],
    meta: &[u8],
    length: u64,
) -> Result<Object, Refused> {
    let version = shared.new_version();
    let length = Some(length);
    let head = Head { key: key.into(), meta: meta.into(), version, slice: 0, length };
    write_head(shared, &head, None)
}

/// Writes a head, on condition that another is there if one is named.
pub(crate) fn write_head(
    shared: &Arc<Shared>,
    head: &Head,
    expected: Option<Entry>,
) -> Result<Object, Refused> {
    let length = head.length.unwrap_or_default();
    check_sizes(&head.key, &head.meta, length)?;
    let _permit = Permit::new(shared)?;
    let place = expected.map(Entry::place);
    let queue = place.map_or(Queue::Probation, |place| shared.writing().layout.queue_of(place));
    let place = Fill::new(shared, head, queue, 0).finish()?;
    let id = shared.seed.head_id(&head.key);
    let mut writing = shared.writing();
    if !still_there(shared, id, expected) {
        return Err(Refused::Replaced);
    }
    let hits = expected.map_or(0, Entry::hits);
    let entry = Entry::new(place, Kind::Sliced).with_hits(hits);
    let old = shared.commit(&mut writing, id, entry)?;
    drop(writing);
    if expected.is_none() {
        shared.drop_slices_of(old);
    }
    Ok(Object::new(shared, head, length, true))
}

/// Nothing is expected, or it is there, where it was.
pub(crate) fn still_there(shared: &Shared, id: u64, expected: Option<Entry>) -> bool {
    let place = shared.index().get(id).map(Entry::place);
    expected.is_none_or(|expected| place == Some(expected.place()))
}

pub(crate) fn check_sizes(key: &[u8], meta: &[u8], length: u64) -> Result<(), Refused> {
    let fits = key.len() <= MAX_KEY && meta.len() <= MAX_META && length <= MAX_OBJECT;
    if fits { Ok(()) } else { Err(Refused::TooLarge) }
}

/// A slice carries the caller's octets only if it may turn out to be the whole object.
fn without_meta(head: &Head) -> Head {
    Head { meta: [].into(), ..head.clone() }
}

fn clamp(length: u64, most: u32) -> u32 {
    u32::try_from(length).map_or(most, |length| length.min(most))
}
