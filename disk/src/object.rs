//! Reading an object, a block at a time.

use std::sync::Arc;

use crate::fill::Fill;
use crate::index::{Entry, Place};
use crate::limits::MAX_MOVES;
use crate::line::Kind;
use crate::readers::Reading;
use crate::record::{Head, SUM, check_block, unframed};
use crate::shared::{ReadFailure, Shared, files, slices};
use crate::storage::read_full;
use crate::writer::{Permit, Refused, check_sizes, still_there, write_head};

/// These octets of the object are not there (any more): never fetched, evicted, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("octets {start} to {end} are not on disk")]
pub struct Missing {
    /// The first of them.
    pub start: u64,
    /// The one after the last.
    pub end: u64,
}

/// One version of an object. What is read through it is of that version, or missing.
#[derive(Clone)]
pub struct Object {
    shared: Arc<Shared>,
    key: Arc<[u8]>,
    meta: Arc<[u8]>,
    version: u64,
    length: u64,
    sliced: bool,
    /// Keeps the slices of this version.
    _reading: Option<Arc<Reading>>,
    current: Option<Current>,
    /// The first block of the current record, as it was read along with the head.
    ahead: Option<Vec<u8>>,
}

/// The record that was read last.
#[derive(Debug, Clone, Copy)]
struct Current {
    slice: u32,
    id: u64,
    place: Place,
    /// Octets of its head, and of its body.
    head: u32,
    body: u32,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, length, sliced, current, .. } = self;
        let key = String::from_utf8_lossy(&self.key);
        write!(f, "Object {{ {key:?} {version:x} {length} {sliced} {current:?} }}")
    }
}

impl Object {
    pub(crate) fn new(shared: &Arc<Shared>, head: &Head, length: u64, sliced: bool) -> Self {
        let (key, meta) = (Arc::from(&*head.key), Arc::from(&*head.meta));
        let (version, current, ahead) = (head.version, None, None);
        let count = slices(length, shared.slice);
        let reading = || Arc::new(Reading::new(shared, &key, version, count));
        let (_reading, shared) = (sliced.then(reading), shared.clone());
        Self { shared, key, meta, version, length, sliced, _reading, current, ahead }
    }

    /// The object under `key`.
    pub(crate) fn find(shared: &Arc<Shared>, key: &[u8]) -> Option<Self> {
        let id = shared.seed.head_id(key);
        let mut entry = shared.index().hit(id)?;
        for _ in 0..MAX_MOVES {
            match Self::load(shared, id, entry, key) {
                Ok(object) => return object,
                Err(ReadFailure::Gone) => entry = shared.index().get(id)?,
                Err(failure) => {
                    shared.drop_record(id, entry.place(), &failure);
                    return None;
                }
            }
        }
        None
    }

    /// `None` if the record is of another key, with the same id.
    fn load(
        shared: &Arc<Shared>,
        id: u64,
        entry: Entry,
        key: &[u8],
    ) -> Result<Option<Self>, ReadFailure> {
        let (place, sliced) = (entry.place(), entry.kind() == Kind::Sliced);
        let (head, octets, rest) = shared.read_head(place, !sliced)?;
        if *head.key != *key {
            return Ok(None);
        }
        let body = unframed(place.length.saturating_sub(octets), shared.block);
        let body = body.ok_or(ReadFailure::Damaged)?;
        if sliced {
            let length = head.length.ok_or(ReadFailure::Damaged)?;
            return Ok(Some(Self::new(shared, &head, length, true)));
        }
        let mut object = Self::new(shared, &head, u64::from(body), false);
        let current = Current { slice: 0, id, place, head: octets, body };
        object.look_ahead(current, rest)?;
        object.current = Some(current);
        Ok(Some(object))
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// What the caller keeps with it.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// Which writing it comes from. Two objects of the same version are the same.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Octets of the whole body, be they here or not.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// It is kept in slices, some of which may be missing.
    #[must_use]
    pub fn is_sliced(&self) -> bool {
        self.sliced
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether the slice that holds the octet at `offset` is there. A look into memory: reading it may
    /// still find it damaged.
    #[must_use]
    pub fn has(&self, offset: u64) -> bool {
        self.shared.index().get(self.id(self.slice_at(offset))).is_some()
    }

    /// Octets from `offset` to the end of the block in which it lies, or of the body; none from there on.
    /// Each octet was checked. It blocks: see the crate.
    ///
    /// # Errors
    /// [`Missing`] names the slice that has to be fetched elsewhere.
    pub fn read(&mut self, offset: u64) -> Result<Vec<u8>, Missing> {
        if offset >= self.length {
            return Ok(Vec::new());
        }
        let slice = self.slice_at(offset);
        let start = u64::from(slice) * u64::from(self.slice_length());
        let within = u32::try_from(offset - start).expect("less than a slice");
        for _ in 0..MAX_MOVES {
            let Some(current) = self.locate(slice, within < self.shared.block) else { break };
            match self.read_block(current, within / self.shared.block) {
                Ok(mut octets) => {
                    octets.drain(..(within % self.shared.block) as usize);
                    return Ok(octets);
                }
                Err(failure) => {
                    (self.current, self.ahead) = (None, None);
                    self.shared.drop_record(current.id, current.place, &failure);
                }
            }
        }
        let end = (start + u64::from(self.slice_length())).min(self.length);
        Err(Missing { start, end })
    }

    /// What is kept whole counts as one slice, as long as it is: no longer than any other.
    fn slice_length(&self) -> u32 {
        self.shared.slice
    }

    fn slice_at(&self, offset: u64) -> u32 {
        u32::try_from(offset / u64::from(self.slice_length())).unwrap_or(u32::MAX)
    }

    fn id(&self, slice: u32) -> u64 {
        if self.sliced {
            self.shared.seed.slice_id(&self.key, self.version, slice)
        } else {
            self.shared.seed.head_id(&self.key)
        }
    }

    /// The record of a slice of this version.
    fn locate(&mut self, slice: u32, ahead: bool) -> Option<Current> {
        if let Some(current) = self.current.filter(|current| current.slice == slice) {
            return Some(current);
        }
        (self.current, self.ahead) = (None, None);
        let id = self.id(slice);
        let mut place = self.shared.index().hit(id)?.place();
        for _ in 0..MAX_MOVES {
            match self.check(id, slice, place, ahead) {
                Ok(current) => {
                    self.current = current;
                    return current;
                }
                Err(ReadFailure::Gone) => place = self.shared.index().get(id)?.place(),
                Err(failure) => {
                    self.shared.drop_record(id, place, &failure);
                    return None;
                }
            }
        }
        None
    }

    /// `None` if it is a record of another version, or key.
    fn check(
        &mut self,
        id: u64,
        slice: u32,
        place: Place,
        ahead: bool,
    ) -> Result<Option<Current>, ReadFailure> {
        let (head, octets, rest) = self.shared.read_head(place, ahead)?;
        if (&*head.key, head.version, head.slice) != (&*self.key, self.version, slice) {
            return Ok(None);
        }
        let body = unframed(place.length.saturating_sub(octets), self.shared.block);
        let left = self.length - u64::from(slice) * u64::from(self.slice_length());
        let expected = left.min(u64::from(self.slice_length()));
        let body = body.filter(|body| u64::from(*body) == expected).ok_or(ReadFailure::Damaged)?;
        let current = Current { slice, id, place, head: octets, body };
        self.look_ahead(current, rest)?;
        Ok(Some(current))
    }

    /// Keeps the first block, if all of it was read along with the head.
    fn look_ahead(&mut self, current: Current, mut rest: Vec<u8>) -> Result<(), ReadFailure> {
        let first = current.body.min(self.shared.block) + SUM;
        self.ahead = None;
        if current.body > 0 && rest.len() >= first as usize {
            rest.truncate(first as usize);
            let seed = self.shared.seed.block_seed(&self.key, self.version, current.slice);
            self.ahead = Some(check_block(seed, 0, rest).ok_or(ReadFailure::Damaged)?);
        }
        Ok(())
    }

    fn read_block(&mut self, current: Current, number: u32) -> Result<Vec<u8>, ReadFailure> {
        if let Some(ahead) = self.ahead.take_if(|_| number == 0) {
            return Ok(ahead);
        }
        let block = self.shared.block;
        let length = (current.body - number * block).min(block) + SUM;
        let offset = current.place.offset + current.head + number * (block + SUM);
        let mut octets = vec![0; length as usize];
        let file = files(current.place.segment).0;
        read_full(&*self.shared.storage, file, &mut octets, u64::from(offset))?;
        let seed = self.shared.seed.block_seed(&self.key, self.version, current.slice);
        check_block(seed, number, octets).ok_or(ReadFailure::Damaged)
    }

    /// The same object with other octets of the caller's, as when a response was validated. The body
    /// stays; one that is kept whole is copied.
    ///
    /// # Errors
    /// [`Refused::Replaced`] if this version is not the one under its key any more.
    pub fn with_meta(&self, meta: &[u8]) -> Result<Self, Refused> {
        check_sizes(&self.key, meta, 0)?;
        let id = self.shared.seed.head_id(&self.key);
        let entry = self.shared.index().get(id).ok_or(Refused::Replaced)?;
        let (head, ..) =
            self.shared.read_head(entry.place(), false).map_err(|_| Refused::Replaced)?;
        if (&*head.key, head.version) != (&*self.key, self.version) {
            return Err(Refused::Replaced);
        }
        let head = Head { meta: meta.into(), ..head };
        if entry.kind() == Kind::Sliced {
            return write_head(&self.shared, &head, Some(entry));
        }
        let _permit = Permit::new(&self.shared)?;
        let length = u32::try_from(self.length).map_err(|_| Refused::Replaced)?;
        let queue = self.shared.writing().layout.queue_of(entry.place());
        let mut fill = Fill::new(&self.shared, &head, queue, length);
        let mut source = Self { current: None, ahead: None, ..self.clone() };
        while fill.body() < length {
            let block = source.read(u64::from(fill.body())).map_err(|_| Refused::Replaced)?;
            fill.push(&block)?;
        }
        let copy = Entry::new(fill.finish()?, Kind::Whole).with_hits(entry.hits());
        let mut writing = self.shared.writing();
        if !still_there(&self.shared, id, Some(entry)) {
            return Err(Refused::Replaced);
        }
        self.shared.commit(&mut writing, id, copy)?;
        Ok(Self::new(&self.shared, &head, self.length, false))
    }
}
