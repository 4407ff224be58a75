//! Counts of what happened, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::health::Health;

/// What is kept, and what happened since the disk was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Objects: heads.
    pub objects: u64,
    /// Records: heads and slices.
    pub records: u64,
    /// Octets of records that are alive.
    pub octets: u64,
    /// Octets on disk; a segment that is being filled counts as if it were full.
    pub used: u64,
    /// Octets that may be used now: less than configured after the disk was found full.
    pub capacity: u64,
    /// Segments.
    pub segments: u64,
    /// How the disk does.
    pub health: Health,
    /// Records being written.
    pub writers: u64,
    /// Octets written for records, copies included.
    pub written: u64,
    /// Of them octets of records that were copied when their segment was evicted.
    pub copied: u64,
    /// Objects that were evicted.
    pub evicted: u64,
    /// Heads and blocks whose checksum was wrong.
    pub damaged: u64,
    /// Segments that were given up, as they were damaged or what was in them could not be marked.
    pub given_up: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes, creations and deletions that failed.
    pub write_errors: u64,
    /// Writers that were refused: too many, or in a pause.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) writers: Count,
    pub(crate) written: Count,
    pub(crate) copied: Count,
    pub(crate) evicted: Count,
    pub(crate) damaged: Count,
    pub(crate) given_up: Count,
    pub(crate) read_errors: Count,
    pub(crate) write_errors: Count,
    pub(crate) refused: Count,
}

/// A number that only says how often; nothing is decided by the order of its changes.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one; returns what it was before, to no one else.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds one, unless there are `most` already.
    pub(crate) fn enter(&self, most: u64) -> bool {
        let more = |count| (count < most).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
