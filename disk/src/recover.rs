//! What the index files say after a restart. Data files are not read.

use std::collections::{BTreeMap, BTreeSet};

use crate::hash::Seed;
use crate::index::{Entry, LENGTH_BITS, Place};
use crate::layout::Segment;
use crate::limits::{MAX_SEGMENT, MIN_RECORD};
use crate::line::{LINE, Line};

/// The longest index file, in octets: each record, and its end.
pub(crate) const MAX_INDEX_FILE: u64 = (2 * (MAX_SEGMENT / MIN_RECORD) as u64 + 1) * LINE as u64;

/// An index file is not as it was written: something in it may be missing, such as that a record was
/// removed. Nothing of the segment is used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// Reads one index file after the other.
#[derive(Debug)]
pub(crate) struct Recovery {
    seed: Seed,
    /// Id, sequence, entry.
    records: Vec<(u64, u64, Entry)>,
    /// Records of which only the line is there.
    torn: Vec<(u64, Entry)>,
    segments: BTreeMap<u32, Segment>,
}

/// The state to go on with.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// In the order of ids, each once.
    pub(crate) records: Vec<(u64, Entry)>,
    /// Torn records, and earlier records of an id, which have to be marked as gone: else they would be back after a
    /// restart once the later record is evicted.
    pub(crate) replaced: Vec<(u64, Entry)>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    /// The next sequence number.
    pub(crate) sequence: u64,
}

impl Recovery {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { seed, records: Vec::new(), torn: Vec::new(), segments: BTreeMap::new() }
    }

    /// Reads the index file of a segment whose data file has `data` octets. What is torn at its end is
    /// overlooked: whoever wrote it had not been told that it was done.
    pub(crate) fn read(&mut self, number: u32, lines: &[u8], data: u64) -> Result<(), Damaged> {
        let data = u32::try_from(data).map_err(|_| Damaged)?;
        let (mut chunks, mut count) = (lines.chunks_exact(LINE), 0u32);
        let mut next = || {
            let line = chunks
                .next()
                .map(|octets| (Line::decode(self.seed, number, count, octets), octets));
            count += 1;
            line
        };
        let Some((Some(Line::Segment(queue)), _)) = next() else { return Err(Damaged) };
        let (mut records, mut gone, mut lines) = (Vec::new(), BTreeSet::new(), 1);
        let (mut end, mut seen) = (data, 0);
        while let Some((line, octets)) = next() {
            match line {
                Some(Line::Record { kind, id, offset, length, sequence }) => {
                    seen += 1;
                    let past = offset.checked_add(length).ok_or(Damaged)?;
                    if length >= 1 << LENGTH_BITS {
                        return Err(Damaged);
                    }
                    let entry = Entry::new(Place { segment: number, offset, length }, kind);
                    records.push((id, sequence, entry));
                    end = end.max(past);
                }
                Some(Line::Gone { offset, .. }) => drop(gone.insert(offset)),
                // A loss of power may leave zeros at the end, where a line was not yet written.
                None if octets.iter().all(|octet| *octet == 0) => {
                    while let Some((_, octets)) = next() {
                        if octets.iter().any(|octet| *octet != 0) {
                            return Err(Damaged);
                        }
                    }
                    break;
                }
                Some(Line::Segment(_)) | None => return Err(Damaged),
            }
            lines += 1;
        }
        records.retain(|(_, _, entry)| !gone.contains(&entry.place().offset));
        for (id, sequence, entry) in records {
            // After a loss of power a line may be there and its record not.
            match entry.place() {
                place if place.offset + place.length > data => self.torn.push((id, entry)),
                _ => self.records.push((id, sequence, entry)),
            }
        }
        self.segments.insert(number, Segment { queue, end, lines, records: seen });
        Ok(())
    }

    /// Decides between records of the same id.
    pub(crate) fn finish(mut self) -> Recovered {
        let sequence = self
            .records
            .iter()
            .map(|(_, sequence, _)| sequence.saturating_add(1))
            .max()
            .unwrap_or(0);
        self.records.sort_unstable_by_key(|(id, sequence, _)| (*id, std::cmp::Reverse(*sequence)));
        let mut records: Vec<(u64, Entry)> = Vec::with_capacity(self.records.len());
        let mut replaced = self.torn;
        for (id, _, entry) in self.records {
            match records.last() {
                Some((last, _)) if *last == id => replaced.push((id, entry)),
                _ => records.push((id, entry)),
            }
        }
        Recovered { records, replaced, segments: self.segments, sequence }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::line::{Kind, Queue};

    const SEED: Seed = Seed(11);

    fn record(id: u64, offset: u32, sequence: u64) -> Line {
        Line::Record { kind: Kind::Whole, id, offset, length: 10, sequence }
    }

    fn file(number: u32, lines: &[Line]) -> Vec<u8> {
        let lines = [&[Line::Segment(Queue::Main)], lines].concat();
        (0..).zip(lines).flat_map(|(n, line)| line.encode(SEED, number, n)).collect()
    }

    /// The ids and offsets that are found, or that the file is damaged.
    fn read(lines: &[u8], data: u64) -> Result<Vec<(u64, u32)>, Damaged> {
        let mut recovery = Recovery::new(SEED);
        recovery.read(1, lines, data)?;
        let found = recovery.finish().records;
        Ok(found.iter().map(|(id, entry)| (*id, entry.place().offset)).collect())
    }

    #[test]
    fn what_was_written_is_found_up_to_a_torn_end() {
        let lines = [record(1, 0, 0), record(2, 10, 1), Line::Gone { id: 1, offset: 0 }];
        let whole = file(1, &lines);
        assert_eq!(read(&whole, 20), Ok(vec![(2, 10)]));
        for length in 0..whole.len() {
            let expect = match length / LINE {
                0 => Err(Damaged),
                1 => Ok(vec![]),
                2 => Ok(vec![(1, 0)]),
                _ => Ok(vec![(1, 0), (2, 10)]),
            };
            assert_eq!(read(&whole[..length], 20), expect, "torn at {length}");
        }
        assert_eq!(read(&whole, 19), Ok(vec![]), "the data is torn");
        let mut recovery = Recovery::new(SEED);
        recovery.read(1, &whole, 19).unwrap();
        let torn: Vec<_> = recovery.finish().replaced.iter().map(|(id, _)| *id).collect();
        assert_eq!(torn, [2], "it will be marked, before the file grows over it");
        assert_eq!(read(&whole, u64::MAX), Err(Damaged));
        assert_eq!(read(&file(2, &lines), 20), Err(Damaged), "of another segment");
    }

    #[test]
    fn zeros_are_lines_that_never_came() {
        let mut lines = file(1, &[record(1, 0, 0)]);
        lines.extend_from_slice(&[0; 3 * LINE + 7]);
        assert_eq!(read(&lines, 20), Ok(vec![(1, 0)]));
        let later = record(2, 10, 1).encode(SEED, 1, 4);
        lines[4 * LINE..5 * LINE].copy_from_slice(&later);
        assert_eq!(read(&lines, 20), Err(Damaged), "what came between may have been a removal");
    }

    #[test]
    fn the_later_record_of_an_id_counts() {
        let mut recovery = Recovery::new(SEED);
        recovery.read(5, &file(5, &[record(7, 0, 3)]), 10).unwrap();
        recovery.read(2, &file(2, &[record(7, 0, 8), record(9, 10, 2)]), 20).unwrap();
        let recovered = recovery.finish();
        let at = |(id, entry): &(u64, Entry)| (*id, entry.place().segment);
        assert_eq!(recovered.records.iter().map(at).collect::<Vec<_>>(), [(7, 2), (9, 2)]);
        assert_eq!(recovered.replaced.iter().map(at).collect::<Vec<_>>(), [(7, 5)]);
        assert_eq!(recovered.sequence, 9);
        let expect = Segment { queue: Queue::Main, end: 20, lines: 3, records: 2 };
        assert_eq!(recovered.segments[&2], expect);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_brings_anything_back(at in 0..4 * LINE, bit in 0..8) {
            let lines = [record(1, 0, 0), Line::Gone { id: 1, offset: 0 }, record(2, 10, 1)];
            let mut lines = file(1, &lines);
            lines[at] ^= 1u8 << bit;
            prop_assert_eq!(read(&lines, 20), Err(Damaged));
        }

        #[test]
        fn any_octets_are_read_or_refused(
            octets in prop::collection::vec(any::<u8>(), 0..300), data: u64,
        ) {
            let _ = read(&octets, data);
            let _ = read(&[file(1, &[record(1, 0, 0)]), octets].concat(), data);
        }
    }
}
