//! One simulated node: the real core, and what the transport of a real one would know.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use coralline_overlay::inspect::Lie;
use coralline_overlay::{Contact, Identity, Instant, Overlay, Services};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

/// A node and its side of the wire.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) contact: Contact,
    /// None while it is dead.
    pub(crate) core: Option<Overlay>,
    /// Counts its lives: what was sent by an earlier one proves nothing.
    pub(crate) life: u32,
    /// When its core wants to be woken.
    pub(crate) wake: Option<Instant>,
    /// The one wake in the queue that counts; it may come early.
    pub(crate) queued: Option<Instant>,
    /// Who has been heard in this life.
    pub(crate) peers: BTreeMap<usize, Peer>,
    pub(crate) saved: Vec<Contact>,
    pub(crate) lie: Option<Lie>,
}

/// What a session would tell.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peer {
    /// In which of its lives it was heard.
    pub(crate) life: u32,
    /// Whether it was heard after one of our datagrams had reached it.
    pub(crate) proven: bool,
}

impl Node {
    /// The `at`th node of a world, not yet alive.
    pub(crate) fn new(at: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut identity = [0; 32];
        rng.fill_bytes(&mut identity);
        let [.., a, b, c] = at.to_be_bytes();
        // From 20.0.0.0 on: public, and each node in its own /24.
        let last = 1 + (rng.next_u32() % 250).to_be_bytes()[3];
        let contact = Contact {
            identity: Identity(identity),
            addr: SocketAddr::from(([20 + a, b, c, last], 7400)),
            slot: 0,
            peer_port: 7400,
            services: Services::PROXY,
        };
        Self {
            contact,
            core: None,
            life: 0,
            wake: None,
            queued: None,
            peers: BTreeMap::new(),
            saved: Vec::new(),
            lie: None,
        }
    }
}
