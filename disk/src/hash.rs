//! Checksums and ids: XXH3 with 64 bits, seeded so that what lies in the wrong place never verifies.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Keeps slices apart from heads, whatever their versions are.
const SLICE_SALT: u64 = 0x9e37_79b9_7f4a_7c15;
/// Keeps the checksums of heads, lines and blocks apart from each other.
const HEAD_SALT: u64 = 0xd6e8_feb8_6659_fd93;
const LINE_SALT: u64 = 0xa076_1d64_78bd_642f;

/// The secret number of a cache directory. Somebody who chooses URLs does not know it, and so cannot
/// choose ones that collide. Were two keys to collide all the same, one would displace the other: a
/// read compares the whole key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// Under which the head of `key` is found.
    pub(crate) fn head_id(self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.0)
    }

    /// Under which a slice of a version of `key` is found.
    pub(crate) fn slice_id(self, key: &[u8], version: u64, slice: u32) -> u64 {
        self.block_seed(key, version, slice) ^ SLICE_SALT
    }

    /// The seed of the checksums of this slice's blocks.
    pub(crate) fn block_seed(self, key: &[u8], version: u64, slice: u32) -> u64 {
        let mut name = [0; 12];
        name[..8].copy_from_slice(&version.to_le_bytes());
        name[8..].copy_from_slice(&slice.to_le_bytes());
        xxh3_64_with_seed(&name, self.head_id(key))
    }

    /// The checksum of a record's head.
    pub(crate) fn head_sum(self, octets: &[u8]) -> u64 {
        xxh3_64_with_seed(octets, self.0 ^ HEAD_SALT)
    }

    /// The checksum of a line in an index file.
    pub(crate) fn line_sum(self, segment: u32, number: u32, octets: &[u8]) -> u64 {
        let place = u64::from(segment) << 32 | u64::from(number);
        xxh3_64_with_seed(octets, self.0 ^ LINE_SALT ^ place)
    }
}

/// The checksum of block `number` of a record.
pub(crate) fn block_sum(seed: u64, number: u32, octets: &[u8]) -> u64 {
    xxh3_64_with_seed(octets, seed.wrapping_add(u64::from(number)))
}

/// The n-th of a row of numbers that never repeats: SplitMix64, which is a bijection.
pub(crate) fn nth(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
