//! 160-bit ids in the XOR metric (Kademlia, section 2.1), for nodes and keys alike.

use std::fmt;
use std::net::IpAddr;

use sha1::{Digest, Sha1};

use crate::address::prefix;

/// A point of the 160-bit id space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 20]);

/// The id of a node: `SHA-1(ip || slot)`.
pub type NodeId = Id;
/// The id of a thing that is looked up: SHA-1 of its name.
pub type Key = Id;

/// How far two ids are apart: their XOR, read as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(pub [u8; 20]);

impl Id {
    /// The id of the node at `ip` in `slot`. Several nodes may share an address; a public address
    /// has few slots, so that ids cannot be ground without owning addresses.
    #[must_use]
    pub fn of_node(ip: IpAddr, slot: u16) -> Self {
        let mut hash = Sha1::new();
        match ip {
            IpAddr::V4(v4) => hash.update(v4.octets()),
            // Whoever has one public address has the 2^64 of its network: they count as one.
            IpAddr::V6(v6) if prefix(ip).is_some() => hash.update(&v6.octets()[..8]),
            IpAddr::V6(v6) => hash.update(v6.octets()),
        }
        hash.update(slot.to_be_bytes());
        Self(hash.finalize().into())
    }

    /// The key of a name, such as a target URI.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        Self(Sha1::digest(name).into())
    }

    /// The XOR of the two ids.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Distance {
        Distance(std::array::from_fn(|i| self.0[i] ^ other.0[i]))
    }
}

impl Distance {
    /// The number of leading bits in which the two ids agree, 0 to 160; 160 only for equal ids.
    #[must_use]
    pub fn common_bits(&self) -> usize {
        let zeros = self.0.iter().take_while(|b| **b == 0).count();
        self.0.get(zeros).map_or(160, |b| zeros * 8 + b.leading_zeros() as usize)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_of_ipv6_gives_no_more_ids_than_one_address() {
        let id = |ip: &str, slot| Id::of_node(ip.parse().unwrap(), slot);
        assert_eq!(id("2001:4860:1:2::1", 0), id("2001:4860:1:2:ffff::9", 0));
        assert_ne!(id("2001:4860:1:2::1", 0), id("2001:4860:1:3::1", 0));
        assert_ne!(id("2001:4860:1:2::1", 0), id("2001:4860:1:2::1", 1));
        // Hosts of a private network are told apart, as those of IPv4 are.
        assert_ne!(id("fd00::1", 0), id("fd00::2", 0));
        assert_ne!(id("8.8.8.8", 0), id("8.8.8.9", 0));
    }
}
