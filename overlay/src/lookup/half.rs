//! Half of the way to a key (Coral, NSDI 2004, section 4.1).

use crate::id::{Distance, Id, Key, NodeId};

/// The point at which a halving search of `node` aims: its own id with the first `bits` in which it
/// differs from the key set right (Coral's splice).
pub(crate) fn halfway(key: &Key, node: &NodeId, bits: usize) -> Id {
    Id(key.distance(&Id(half(&node.distance(key), bits).0)).0)
}

/// The distance without its first digit of so many bits that is not zero.
pub(super) fn half(distance: &Distance, bits: usize) -> Distance {
    let bits = bits.max(1);
    let mut half = *distance;
    let digit = distance.common_bits() / bits * bits;
    for bit in digit..(digit + bits).min(160) {
        half.0[bit / 8] &= !(0x80 >> (bit % 8));
    }
    half
}
