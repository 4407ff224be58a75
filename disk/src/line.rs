//! The lines of an index file, 40 octets each, so that a torn one is overwritten by the next.
//!
//! Kind (8 bits), queue (8), zero (16), offset, length, zero (32 each), id, sequence, checksum (64
//! each), little-endian. The checksum covers the place as well: segment and number of the line.

use crate::hash::Seed;

/// Octets of a line.
pub(crate) const LINE: usize = 40;
/// The same, as the length of a file.
pub(crate) const LINE_U64: u64 = LINE as u64;

/// Which of the two queues a segment is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    /// What is new.
    Probation,
    /// What was read again.
    Main,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object, whole.
    Whole,
    /// The head of an object that is kept in slices.
    Sliced,
    /// A slice.
    Slice,
}

impl Kind {
    /// It is found under a key.
    pub(crate) fn is_head(self) -> bool {
        self != Self::Slice
    }
}

/// Says something of the data file beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// The first line.
    Segment(Queue),
    /// A record lies there, complete. Of two with the same id the later sequence counts.
    Record { kind: Kind, id: u64, offset: u32, length: u32, sequence: u64 },
    /// The record there was removed or replaced.
    Gone { id: u64, offset: u32 },
}

impl Line {
    pub(crate) fn encode(self, seed: Seed, segment: u32, number: u32) -> [u8; LINE] {
        let (kind, queue, offset, length, id, sequence) = match self {
            Self::Segment(Queue::Probation) => (1, 0, 0, 0, 0, 0),
            Self::Segment(Queue::Main) => (1, 1, 0, 0, 0, 0),
            Self::Record { kind, id, offset, length, sequence } => {
                let kind = match kind {
                    Kind::Whole => 2,
                    Kind::Sliced => 3,
                    Kind::Slice => 4,
                };
                (kind, 0, offset, length, id, sequence)
            }
            Self::Gone { id, offset } => (5, 0, offset, 0, id, 0),
        };
        let mut line = [0; LINE];
        line[0] = kind;
        line[1] = queue;
        line[4..8].copy_from_slice(&u32::to_le_bytes(offset));
        line[8..12].copy_from_slice(&u32::to_le_bytes(length));
        line[16..24].copy_from_slice(&u64::to_le_bytes(id));
        line[24..32].copy_from_slice(&u64::to_le_bytes(sequence));
        let sum = seed.line_sum(segment, number, &line[..32]);
        line[32..].copy_from_slice(&sum.to_le_bytes());
        line
    }

    pub(crate) fn decode(seed: Seed, segment: u32, number: u32, octets: &[u8]) -> Option<Self> {
        let line: &[u8; LINE] = octets.try_into().ok()?;
        let (said, sum) = line.split_last_chunk::<8>()?;
        if seed.line_sum(segment, number, said) != u64::from_le_bytes(*sum) {
            return None;
        }
        let short = |at: usize| Some(u32::from_le_bytes(said.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(said.get(at..at + 8)?.try_into().ok()?));
        let record = |kind| {
            let (offset, length) = (short(4)?, short(8)?);
            Some(Self::Record { kind, id: long(16)?, offset, length, sequence: long(24)? })
        };
        match (said[0], said[1]) {
            (1, 0) => Some(Self::Segment(Queue::Probation)),
            (1, 1) => Some(Self::Segment(Queue::Main)),
            (2, _) => record(Kind::Whole),
            (3, _) => record(Kind::Sliced),
            (4, _) => record(Kind::Slice),
            (5, _) => Some(Self::Gone { id: long(16)?, offset: short(4)? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_line() -> impl Strategy<Value = Line> {
        let queue = prop_oneof![Just(Queue::Probation), Just(Queue::Main)];
        let kind = prop_oneof![Just(Kind::Whole), Just(Kind::Sliced), Just(Kind::Slice)];
        let record = (kind, any::<(u64, u32, u32, u64)>()).prop_map(|(kind, said)| {
            let (id, offset, length, sequence) = said;
            Line::Record { kind, id, offset, length, sequence }
        });
        let gone = any::<(u64, u32)>().prop_map(|(id, offset)| Line::Gone { id, offset });
        prop_oneof![queue.prop_map(Line::Segment), record, gone]
    }

    proptest! {
        #[test]
        fn lines_come_back(line in any_line(), segment: u32, number in 0..u32::MAX) {
            let octets = line.encode(Seed(3), segment, number);
            let read = |segment, number| Line::decode(Seed(3), segment, number, &octets);
            prop_assert_eq!(read(segment, number), Some(line));
            prop_assert_eq!(read(segment, number + 1), None, "misplaced");
            prop_assert_eq!(read(segment ^ 1, number), None, "misplaced");
        }

        #[test]
        fn damage_is_found(line in any_line(), at in 0..LINE, bit in 0..8, short in 0..LINE) {
            let mut octets = line.encode(Seed(3), 1, 2);
            prop_assert_eq!(Line::decode(Seed(3), 1, 2, &octets[..short]), None);
            octets[at] ^= 1u8 << bit;
            prop_assert_eq!(Line::decode(Seed(3), 1, 2, &octets), None);
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(Line::decode(Seed(3), 1, 2, &octets), None);
        }
    }
}
