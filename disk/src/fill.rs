//! One record as it is written: a block of memory, whatever its length.

use std::sync::Arc;

use crate::hash::block_sum;
use crate::index::Place;
use crate::line::Queue;
use crate::record::{Head, SUM, framed};
use crate::shared::{Shared, files};
use crate::storage::write_full;
use crate::writer::Refused;

pub(crate) struct Fill {
    shared: Arc<Shared>,
    queue: Queue,
    /// The seed of the blocks' checksums.
    seed: u64,
    /// Octets of the body that it is going to have, at most.
    expected: u32,
    /// Reserved once the first block is full, or the body has ended.
    place: Option<Place>,
    /// Octets that were written to the place.
    flushed: u32,
    /// What was not: the head, at first, and a block.
    waiting: Vec<u8>,
    /// Where the unfinished block begins in `waiting`.
    block_at: usize,
    /// Octets of the body so far.
    body: u32,
    failed: Option<Refused>,
}

impl Fill {
    /// A record with this head and at most `expected` octets of body, no more than a slice.
    pub(crate) fn new(shared: &Arc<Shared>, head: &Head, queue: Queue, expected: u32) -> Self {
        let mut waiting = head.encode(shared.seed);
        let block_at = waiting.len();
        waiting.reserve_exact(expected.min(shared.block) as usize + SUM as usize);
        let seed = shared.seed.block_seed(&head.key, head.version, head.slice);
        let (shared, place, flushed, body, failed) = (shared.clone(), None, 0, 0, None);
        Self { shared, queue, seed, expected, place, flushed, waiting, block_at, body, failed }
    }

    /// Octets of the body so far.
    pub(crate) fn body(&self) -> u32 {
        self.body
    }

    /// Takes as much of `octets` as fits; returns the rest.
    pub(crate) fn push<'a>(&mut self, mut octets: &'a [u8]) -> Result<&'a [u8], Refused> {
        let block = self.shared.block;
        while !octets.is_empty() && self.body < self.expected {
            if self.body > 0 && self.body.is_multiple_of(block) {
                self.flush()?;
            }
            let room = (block - self.body % block).min(self.expected - self.body);
            let (taken, rest) = octets.split_at(octets.len().min(room as usize));
            self.waiting.extend_from_slice(taken);
            self.body += u32::try_from(taken.len()).expect("less than a block");
            if self.body.is_multiple_of(block) {
                self.close_block();
            }
            octets = rest;
        }
        Ok(octets)
    }

    /// Ends the body. Returns where the record lies, all of it written, not yet visible.
    pub(crate) fn finish(&mut self) -> Result<Place, Refused> {
        if !self.body.is_multiple_of(self.shared.block) {
            self.close_block();
        }
        if self.place.is_none() {
            // The body has ended within its first block: its length is known.
            let length = u32::try_from(self.waiting.len()).expect("a head and a block");
            self.reserve(length)?;
        }
        self.flush()?;
        let place = self.place.ok_or(Refused::Failed)?;
        if self.flushed < place.length {
            self.shared.writing().layout.give_back(place, self.flushed);
        }
        self.place = None;
        Ok(Place { length: self.flushed, ..place })
    }

    fn close_block(&mut self) {
        let number = (self.body - 1) / self.shared.block;
        let block = self.waiting.get(self.block_at..).unwrap_or_default();
        let sum = block_sum(self.seed, number, block);
        self.waiting.extend_from_slice(&sum.to_le_bytes());
        self.block_at = self.waiting.len();
    }

    fn flush(&mut self) -> Result<(), Refused> {
        let place = match self.place {
            Some(place) => place,
            None => {
                let head = u32::try_from(self.waiting.len()).expect("a head and a block")
                    - framed(self.body, self.shared.block);
                self.reserve(head + framed(self.expected, self.shared.block))?
            }
        };
        self.failed.map_or(Ok(()), Err)?;
        let offset = u64::from(place.offset) + u64::from(self.flushed);
        let file = files(place.segment).0;
        if let Err(error) = write_full(&*self.shared.storage, file, &self.waiting, offset) {
            // A deleted file is no trouble of the disk: an eviction was faster.
            let refused = match error.kind() {
                std::io::ErrorKind::NotFound => self.shared.lost(place.segment),
                _ => self.shared.write_failed(&error),
            };
            self.failed = Some(refused);
            return Err(refused);
        }
        self.flushed += u32::try_from(self.waiting.len()).expect("a head and a block");
        self.waiting.clear();
        self.block_at = 0;
        Ok(())
    }

    /// After a failure there is no going on: some of what was to be written may be missing.
    fn reserve(&mut self, length: u32) -> Result<Place, Refused> {
        self.failed.map_or(Ok(()), Err)?;
        match self.shared.reserve(self.queue, length) {
            Ok(place) => Ok(*self.place.insert(place)),
            Err(refused) => {
                self.failed = Some(refused);
                Err(refused)
            }
        }
    }
}

/// What was reserved and not used is given back, if nothing lies behind it.
impl Drop for Fill {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.writing().layout.give_back(place, 0);
        }
    }
}
