//! What is kept on disk: responses in append-only segments, checked octet by octet.
//!
//! # Map
//! | module | what it is |
//! |---|---|
//! | `disk` | [`Disk`], the face: open, get, begin, remove, stats |
//! | `writer`, `fill` | writing an object or a slice; one record as it is written |
//! | `object`, `readers` | reading an object, a block at a time; who reads which version |
//! | `shared`, `evict` | the state and the steps that change it; making room |
//! | `index` | where each record lies, in memory |
//! | `layout`, `ghosts` | the segments, and which one goes next: S3-FIFO |
//! | `recover` | what the index files say after a restart |
//! | `health` | when to write again after trouble |
//! | `record`, `line`, `hash` | the octets of both files, and their checksums |
//! | `storage`, `directory` | files as the rest sees them; the real ones |
//! | [`limits`] | every bound, with its reason |
//!
//! # On disk
//! A directory holds a `format` file, a `lock`, and segments: `N.data` with records one after the other,
//! and `N.idx` with a line of 40 octets for each record that is complete, and for each that is gone. A
//! record is a head (key, the caller's octets, version, number of the slice) and at most one slice of a
//! body, in blocks of 64 KiB, each followed by its checksum.
//!
//! An **object** of up to one slice is one record. A larger one is a head, and a record for each slice,
//! found under key, version and number; a slice may be missing, and the reader is told which octets to
//! fetch. A small one is found and read with one read.
//!
//! # Contract
//! - Calls block on the disk: make them where blocking is allowed, never on a thread that serves many.
//!   [`Disk::contains`], [`Object::has`] and [`Writer`] up to the first full block only touch memory.
//! - A [`Writer`] takes a block of memory, whatever the length; a reader one block at a time.
//! - Writing may always be [`Refused`]. Whoever is being served is then served without the disk.
//! - Who reads a version goes on with it when it is replaced or removed: its octets stay as long as an
//!   [`Object`] of it does, unless they are evicted.
//! - Nothing is replaced before [`Writer::commit`]. A late commit replaces what is there: whether it is
//!   outdated, as after a purge, is for the caller to know.
//! - What leaves by eviction is told to the caller once. What leaves because it is damaged is not: the
//!   next look-up misses.
//!
//! # Invariants
//! - No octet is given out whose block was not checked, under a seed made of the directory's secret
//!   number, key, version, slice and number of the block: a block in the wrong place never verifies, and
//!   versions never mix, as no version is used twice.
//! - A record counts once its line is written, and its line is written after all of it. A process that is
//!   killed at any instant leaves the object before or the object after.
//! - What was removed or replaced is marked as gone in the index file of the segment in which it lies, so
//!   the mark lives as long as the record. Where a mark cannot be written the whole segment is deleted,
//!   and where that fails nothing more is committed, and [`Disk::remove`] says so.
//! - Files take no more than the capacity, the index no more than its memory, by segments: room for one
//!   is made before it is opened.
//! - The lock of the index is never held during I/O: readers wait for no writer and no eviction.
//! - Damage, failure and strange files lead to misses and counts, never to a panic.
//!
//! # Decisions and their reasons
//! - **Segments, not a file for each object**: a million files cost a million inodes, directory reads at
//!   the start and random writes. Not a block engine such as foyer's either: it holds whole values in
//!   memory and drops those beyond a block's size.
//! - **Marks lie with the record**, not in the newest segment as in a log: segments are evicted out of
//!   order, and a mark must not go before what it keeps down.
//! - **Lines of one length**: a torn one is overwritten by the next. A damaged line within an index file
//!   gives the segment up, since it may have been a mark.
//! - **No fsync** while writing. After a loss of power some records fail their checksums and count as
//!   missing, as they would be after any loss of a cache. Only [`Disk::sync`] waits for the device, for
//!   those who purge.
//! - **XXH3 of 64 bits**, not a cryptographic hash: it guards against the disk, not against peers, whose
//!   content is checked before it is stored. The seed is secret, so that nobody chooses URLs that collide;
//!   a look-up compares the whole key in any case.
//! - **S3-FIFO by segments**: what is new lives in a tenth of the capacity unless it is read again; what
//!   was read is copied on, the rest of the segment goes at once. So one huge object, or a scan, takes a
//!   tenth and not all. One hit is enough to stay, where the paper wants two: memory above this cache
//!   takes the first repeats. Only small heads come back by the ghosts; a large object has to earn its
//!   place slice by slice, or a second visit would flush the rest.
//! - **Hits are not kept over a restart.** They are two bits in memory; a restarted cache relearns them
//!   before the order reaches most segments.
//! - **A B-tree and 12 octets for each record**: 43 octets of memory in all, measured, with an order that
//!   is the same in each run. `cargo run --release -p coralline-disk --example measure DIR` prints it, and
//!   the time to open a million records.
//! - **A full disk shrinks the capacity** to what was there, less one segment, and segments with it; it
//!   grows again once nothing has failed for five minutes. Failed writes lead to a pause that doubles.

mod directory;
mod disk;
mod evict;
#[cfg(test)]
mod faulty;
mod fill;
mod ghosts;
mod hash;
mod health;
mod index;
mod layout;
pub mod limits;
mod line;
mod object;
mod readers;
mod record;
mod recover;
mod shared;
mod stats;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

pub use directory::OpenError;
pub use disk::{Disk, Options};
pub use health::Health;
pub use object::{Missing, Object};
pub use stats::Stats;
pub use writer::{Refused, SliceWriter, Writer};
