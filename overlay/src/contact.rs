//! How a node is known to others.

use std::fmt;
use std::net::SocketAddr;

use crate::id::NodeId;

/// An Ed25519 public key: who a node is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub [u8; 32]);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// What a node does for clients: a set of flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Services(pub u8);

impl Services {
    /// Serves HTTP to clients, so that DNS may name it.
    pub const PROXY: Self = Self(1);
    /// Answers DNS for the suffix.
    pub const DNS: Self = Self(2);

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A node as others reach it. Small: 32 + 18 + 2 + 2 + 1 octets on the wire at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Contact {
    /// Its key.
    pub identity: Identity,
    /// Its UDP address for the index; content and clients find it at the same IP address.
    pub addr: SocketAddr,
    /// Which of the ids that its address allows.
    pub slot: u16,
    /// Its TCP port for content among nodes.
    pub peer_port: u16,
    /// What it does for clients.
    pub services: Services,
}

impl Contact {
    /// Its id: `SHA-1(ip || slot)`, never taken from what it claims.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId::of_node(self.addr.ip(), self.slot)
    }
}
