//! What a core is told: at its start, and of each datagram.

use std::net::SocketAddr;
use std::time::Duration;

use coralline_config::Rules;

use crate::contact::{Contact, Identity};

/// What a core is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Own identity, public address, slot, peer port and services.
    pub local: Contact,
    /// Whether it leaves hints for those near it and follows theirs, if its address is public.
    pub hints: bool,
    /// The autonomous system of its address, if that is known.
    pub as_number: Option<u32>,
    /// Nodes to join by, resolved by the driver; their identities are not known.
    pub seeds: Vec<SocketAddr>,
    /// Contacts of an earlier run.
    pub saved: Vec<Contact>,
    /// Round-trip bounds of the clusters, nearest first: `config.overlay.levels`. The global level
    /// works without them.
    pub levels: Vec<Duration>,
    /// The constants of the index: `config.overlay.rules`.
    pub rules: Rules,
}

/// Who sent a datagram, as the transport has proved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The key that the transport has authenticated.
    pub identity: Identity,
    /// The address that the datagram came from.
    pub addr: SocketAddr,
    /// Whether it has answered a datagram of ours at this address, so that the address is no
    /// forgery.
    pub proven: bool,
}
