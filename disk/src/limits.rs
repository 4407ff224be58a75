//! Every bound of the disk cache, with its reason. Full means refuse or evict, never grow.

use std::time::Duration;

/// Octets of a body under one checksum, and so the least that is read to serve one octet of it: large
/// enough that a checksum costs nothing, small enough to hold one in memory for each writer.
pub const BLOCK: u32 = 64 << 10;
/// Octets of a body in one record. Ranges are kept, and go, in this unit.
pub const SLICE: u32 = 1 << 20;
/// Longest key in octets: a URI of 8 KiB, and as much again for what tells variants apart.
pub const MAX_KEY: usize = 16 << 10;
/// Most octets that the caller may keep with an object: a response head of 64 KiB and what it adds.
pub const MAX_META: usize = 96 << 10;
/// Longest object in octets. Nothing published is longer, and a false length costs no more than this:
/// a million look-ups when it goes.
pub const MAX_OBJECT: u64 = 1 << 40;
/// Smallest capacity in octets: fewer segments than eight leave no room for an order among them.
pub const MIN_CAPACITY: u64 = MIN_SEGMENTS * MIN_SEGMENT as u64;
/// Records being written at once, a block of memory each; one more is refused, and its object passes
/// through without being kept.
pub const MAX_WRITERS: usize = 256;

/// Segments that make up the capacity, between the bounds of their size: each is 1.6 % of it, which is
/// how much is evicted at a time.
pub(crate) const SEGMENTS: u64 = 64;
/// See [`MIN_CAPACITY`].
pub(crate) const MIN_SEGMENTS: u64 = 8;
/// How few there may be when the disk is full before the capacity is used: one that is being filled in
/// each queue, one to evict, and one kept free.
pub(crate) const FEWEST_SEGMENTS: u64 = 4;
/// Holds one largest record, and leaves room for others.
pub(crate) const MIN_SEGMENT: u32 = 2 << 20;
/// Evicting one takes a fraction of a second on a plain disk; a thousand of them hold 64 GB.
pub(crate) const MAX_SEGMENT: u32 = 64 << 20;
/// Data octets a record in one segment, at least: bounds the index file of a segment full of tiny
/// records to a sixth of the data, with as many lines again for those that are gone.
pub(crate) const MIN_RECORD: u32 = 512;
/// What the index takes in memory for one record, in octets: an entry of a B-tree two thirds full, and
/// a place in its segment's list. `examples/measure.rs` measures it.
pub(crate) const RECORD_MEMORY: u64 = 64;
/// Fewest records that any memory is enough for: 4 MiB.
pub(crate) const MIN_RECORDS: u64 = 1 << 16;
/// Files kept open: segments are read in any order, and 80 are the warm ones of a usual cache. An open
/// costs microseconds.
pub(crate) const MAX_OPEN_FILES: usize = 80;
/// Segments that could not be deleted and are tried again; with more, the disk counts as failing.
pub(crate) const MAX_UNDELETED: usize = 64;

/// The share of the capacity for records that have not been read again, one in ten (Yang et al.,
/// "FIFO queues are all you need for cache eviction", SOSP 2023, section 4.2).
pub(crate) const PROBATION_SHARE: u64 = 10;
/// Reads that are counted of a record, as two bits hold (ibid., section 4.1).
pub(crate) const MAX_HITS: u8 = 3;
/// The share of a main segment that may be copied when it is evicted: half, so that each eviction sets
/// free at least half a segment, and an octet is copied at most once for each that is written.
pub(crate) const COPY_SHARE: u32 = 2;
/// Keys remembered after they were evicted unread, at four octets each: as many as a cache of 10 GB
/// holds objects of 40 KB.
pub(crate) const GHOSTS: usize = 1 << 18;

/// What is read of a record at first: its head and, of a small object, its body.
pub(crate) const READ_AHEAD: u32 = BLOCK + (4 << 10);
/// How long nothing is written after the disk was full or failed, at first: space may come back soon.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long at most, as the pause doubles: a disk that was repaired is used again within minutes.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often a record may move while it is looked for, before it counts as missing.
pub(crate) const MAX_MOVES: usize = 4;

const _: () = assert!(SLICE.is_multiple_of(BLOCK), "a slice is whole blocks");
const _: () = assert!(
    SLICE as usize + MAX_KEY + MAX_META + 256 + 8 * (SLICE / BLOCK) as usize
        <= MIN_SEGMENT as usize,
    "any record fits the smallest segment"
);
const _: () =
    assert!(MAX_OBJECT / SLICE as u64 <= u32::MAX as u64, "slices are counted in 32 bits");
const _: () = assert!(FIRST_PAUSE.as_secs() <= LONGEST_PAUSE.as_secs());
const _: () = assert!(MAX_SEGMENT / MIN_RECORD <= 1 << 17, "an index file stays within ten MB");
