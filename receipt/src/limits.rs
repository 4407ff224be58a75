//! Every bound of receipts and of the streams that carry them, with its reason.

/// Octets of content under one leaf of the tree, and so the most that a receiver holds back: a fresh
/// AVX-512 machine hashes 16 chunks of BLAKE3 at once, and a proof costs 64 octets for each group.
pub const GROUP: u64 = 16 << 10;
/// Most octets of content under one running signature, which is what a receiver holds back until it is
/// there: checking an Ed25519 signature costs three times what hashing 64 KiB does, and one core still
/// verifies more than 1 GB a second.
pub const MAX_RUN: u64 = 64 << 10;
/// Octets after which a proof begins anew at the root. A range that begins and ends at a multiple of it is
/// proved alone; the path to the root costs 0.1 % of a slice at the most.
pub const SLICE: u64 = 1 << 20;
/// Longest content in octets: nothing published is longer, and a tree of it has 26 levels.
pub const MAX_SIZE: u64 = 1 << 40;
/// Longest target URI in a receipt, in octets: as long as one that is served.
pub const MAX_URI: usize = 8 << 10;
/// Longest receipt in octets: the URI, and what has a fixed length.
pub const MAX_RECEIPT: usize = MAX_URI + 256;

const _: () = assert!(MAX_RUN.is_multiple_of(GROUP) && SLICE.is_multiple_of(MAX_RUN));
const _: () = assert!(GROUP.is_power_of_two() && GROUP >= blake3::CHUNK_LEN as u64);
const _: () = assert!(MAX_URI <= u16::MAX as usize);
