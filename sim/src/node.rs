//! One simulated node: the real core, and what the transport of a real one would know.

use std::net::{IpAddr, SocketAddr};

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
    pub(crate) peers: Peers,
    pub(crate) saved: Vec<Contact>,
    pub(crate) lie: Option<Lie>,
}

/// What sessions would tell, by node. In a list, since ten thousand nodes have many of these.
#[derive(Debug, Default)]
pub(crate) struct Peers(Vec<Peer>);

#[derive(Debug, Clone, Copy)]
struct Peer {
    node: u32,
    /// In which of its lives it was heard, twice, and one more if it was heard after one of our
    /// datagrams had reached it.
    life_and_proven: u32,
}

impl Peers {
    /// It was heard in this life; `proven` if that shows that ours have reached it. True if they
    /// ever did.
    pub(crate) fn heard(&mut self, node: usize, life: u32, proven: bool) -> bool {
        let at = self.place(node);
        let proven = proven || at.is_ok_and(|at| self.0[at].life_and_proven & 1 == 1);
        let node = u32::try_from(node).expect("nodes are counted in 24 bits");
        let peer = Peer { node, life_and_proven: life << 1 | u32::from(proven) };
        match at {
            Ok(at) => self.0[at] = peer,
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(self.0.len() / 8 + 16);
                }
                self.0.insert(at, peer);
            }
        }
        proven
    }

    /// In which of its lives a node was heard last.
    pub(crate) fn life(&self, node: usize) -> Option<u32> {
        self.place(node).ok().map(|at| self.0[at].life_and_proven >> 1)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn place(&self, node: usize) -> Result<usize, usize> {
        self.0.binary_search_by_key(&node, |peer| peer.node as usize)
    }
}

/// Which node would be at this address.
pub(crate) fn at(addr: SocketAddr) -> Option<usize> {
    let IpAddr::V4(v4) = addr.ip() else { return None };
    let [a, b, c, _] = v4.octets();
    Some(usize::from_be_bytes([0, 0, 0, 0, 0, a.checked_sub(FIRST_OCTET)?, b, c]))
}

/// Nodes are at 20.0.0.0 and on: public, and each in its own /24.
const FIRST_OCTET: u8 = 20;

impl Node {
    /// The `at`th node of a world, not yet alive.
    pub(crate) fn new(at: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut identity = [0; 32];
        rng.fill_bytes(&mut identity);
        let [.., a, b, c] = at.to_be_bytes();
        let last = 1 + (rng.next_u32() % 250).to_be_bytes()[3];
        let contact = Contact {
            identity: Identity(identity),
            addr: SocketAddr::from(([FIRST_OCTET + a, b, c, last], 7400)),
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
            peers: Peers::default(),
            saved: Vec::new(),
            lie: None,
        }
    }
}
