//! A record in a data file: its head, then blocks, each followed by its checksum.
//!
//! The head: magic (32 bits), length of the key (16), zero (16), length of the caller's octets, number
//! of the slice (32 each), version, length of the object if it is kept in slices, else all ones (64
//! each); key; the caller's octets; checksum (64). Numbers are little-endian.

use crate::hash::{Seed, block_sum};
use crate::limits::{MAX_KEY, MAX_META, MAX_OBJECT};

const MAGIC: u32 = 0x3152_4c43;
/// Octets of a head that say how long it is, and more.
pub(crate) const FIXED: usize = 32;
const WHOLE: u64 = u64::MAX;
/// Octets of a checksum.
pub(crate) const SUM: u32 = 8;

/// What a record says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) key: Box<[u8]>,
    pub(crate) meta: Box<[u8]>,
    pub(crate) version: u64,
    pub(crate) slice: u32,
    /// Octets of the whole object, if this is the head of one that is kept in slices.
    pub(crate) length: Option<u64>,
}

impl Head {
    /// The octets. Key and meta are within their limits.
    pub(crate) fn encode(&self, seed: Seed) -> Vec<u8> {
        let mut octets = Vec::with_capacity(FIXED + self.key.len() + self.meta.len() + 8);
        let key = u16::try_from(self.key.len()).expect("MAX_KEY is less than 2^16");
        let meta = u32::try_from(self.meta.len()).expect("MAX_META is less than 2^32");
        octets.extend_from_slice(&MAGIC.to_le_bytes());
        octets.extend_from_slice(&key.to_le_bytes());
        octets.extend_from_slice(&[0; 2]);
        octets.extend_from_slice(&meta.to_le_bytes());
        octets.extend_from_slice(&self.slice.to_le_bytes());
        octets.extend_from_slice(&self.version.to_le_bytes());
        octets.extend_from_slice(&self.length.unwrap_or(WHOLE).to_le_bytes());
        octets.extend_from_slice(&self.key);
        octets.extend_from_slice(&self.meta);
        octets.extend_from_slice(&seed.head_sum(&octets).to_le_bytes());
        octets
    }

    /// How many octets the head takes that begins with these; `None` if it is none.
    pub(crate) fn needs(octets: &[u8]) -> Option<usize> {
        let magic = u32::from_le_bytes(octets.first_chunk().copied()?);
        let key = u16::from_le_bytes(octets.get(4..6)?.try_into().ok()?);
        let zero = u16::from_le_bytes(octets.get(6..8)?.try_into().ok()?);
        let meta = u32::from_le_bytes(octets.get(8..12)?.try_into().ok()?);
        let (key, meta) = (usize::from(key), usize::try_from(meta).ok()?);
        let good = magic == MAGIC && zero == 0 && key <= MAX_KEY && meta <= MAX_META;
        good.then_some(FIXED + key + meta + SUM as usize)
    }

    /// The head at the beginning of `octets`, if all of it is there and as it was written.
    pub(crate) fn decode(seed: Seed, octets: &[u8]) -> Option<Self> {
        let (said, sum) = octets.get(..Self::needs(octets)?)?.split_last_chunk::<8>()?;
        if seed.head_sum(said) != u64::from_le_bytes(*sum) {
            return None;
        }
        let key = usize::from(u16::from_le_bytes(said.get(4..6)?.try_into().ok()?));
        let (key, meta) = said.get(FIXED..)?.split_at_checked(key)?;
        let length = u64::from_le_bytes(said.get(24..32)?.try_into().ok()?);
        Some(Self {
            key: key.into(),
            meta: meta.into(),
            version: u64::from_le_bytes(said.get(16..24)?.try_into().ok()?),
            slice: u32::from_le_bytes(said.get(12..16)?.try_into().ok()?),
            length: match length {
                WHOLE => None,
                length if length <= MAX_OBJECT => Some(length),
                _ => return None,
            },
        })
    }
}

/// Octets on disk of a body of `body` octets in blocks of `block`.
pub(crate) fn framed(body: u32, block: u32) -> u32 {
    body + body.div_ceil(block) * SUM
}

/// Octets of the body which takes `framed` octets on disk; `None` if no body does.
pub(crate) fn unframed(framed: u32, block: u32) -> Option<u32> {
    let (full, rest) = (framed / (block + SUM), framed % (block + SUM));
    match rest {
        0 => Some(full * block),
        rest if rest > SUM => Some(full * block + rest - SUM),
        _ => None,
    }
}

/// Takes the checksum off a block, if it is right.
pub(crate) fn check_block(seed: u64, number: u32, mut octets: Vec<u8>) -> Option<Vec<u8>> {
    let (block, sum) = octets.split_last_chunk::<8>()?;
    let right = block_sum(seed, number, block) == u64::from_le_bytes(*sum);
    octets.truncate(octets.len() - SUM as usize);
    right.then_some(octets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_head() -> impl Strategy<Value = Head> {
        let octets = || prop::collection::vec(any::<u8>(), 0..300);
        (octets(), octets(), any::<u64>(), any::<u32>(), prop::option::of(0..=MAX_OBJECT)).prop_map(
            |(key, meta, version, slice, length)| {
                let (key, meta) = (key.into(), meta.into());
                Head { key, meta, version, slice, length }
            },
        )
    }

    proptest! {
        #[test]
        fn heads_come_back(head in any_head(), more in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut octets = head.encode(Seed(7));
            prop_assert_eq!(Head::needs(&octets), Some(octets.len()));
            octets.extend_from_slice(&more);
            prop_assert_eq!(Head::decode(Seed(7), &octets), Some(head));
            prop_assert_eq!(Head::decode(Seed(8), &octets), None);
        }

        #[test]
        fn a_flipped_bit_is_found(head in any_head(), at: prop::sample::Index, bit in 0..8) {
            let mut octets = head.encode(Seed(7));
            let at = at.index(octets.len());
            octets[at] ^= 1u8 << bit;
            prop_assert_eq!(Head::decode(Seed(7), &octets), None);
        }

        #[test]
        fn any_octets_are_read_or_refused(
            mut octets in prop::collection::vec(any::<u8>(), 0..200), magic: bool,
        ) {
            if magic && octets.len() >= 8 {
                octets[..4].copy_from_slice(&MAGIC.to_le_bytes());
                octets[6..8].fill(0);
            }
            prop_assert_eq!(Head::decode(Seed(7), &octets), None);
        }

        #[test]
        fn frames_come_back(body in 0..100_000u32, block in 1..5000u32) {
            prop_assert_eq!(unframed(framed(body, block), block), Some(body));
            // A length that no body leads to is refused.
            if let Some(shorter) = unframed(body, block) {
                prop_assert_eq!(framed(shorter, block), body);
            }
        }
    }

    #[test]
    fn a_torn_head_is_none() {
        let (key, meta) = (b"key"[..].into(), b"meta"[..].into());
        let octets = Head { key, meta, version: 1, slice: 0, length: Some(9) }.encode(Seed(1));
        for length in 0..octets.len() {
            assert_eq!(Head::decode(Seed(1), &octets[..length]), None);
        }
    }

    #[test]
    fn a_misplaced_block_does_not_verify() {
        let seed = |key: &[u8], version, slice| Seed(5).block_seed(key, version, slice);
        let mut written = b"a block".to_vec();
        written.extend_from_slice(&block_sum(seed(b"k", 1, 2), 3, b"a block").to_le_bytes());
        let check = |seed, number, good: bool| {
            let expect = good.then(|| b"a block".to_vec());
            assert_eq!(check_block(seed, number, written.clone()), expect);
        };
        check(seed(b"k", 1, 2), 3, true);
        check(seed(b"k", 1, 2), 4, false);
        check(seed(b"k", 1, 3), 3, false);
        check(seed(b"k", 2, 2), 3, false);
        check(seed(b"l", 1, 2), 3, false);
        for length in 0..8 {
            assert_eq!(check_block(0, 0, vec![0; length]), None);
        }
    }
}
