//! Requests about one key, counted at each node that they reach.

use coralline_overlay::Key;
use coralline_overlay::inspect::{Seen, Verb, seen};

/// The counts.
#[derive(Debug, Clone)]
pub struct Watch {
    /// What is watched.
    pub key: Key,
    /// By node.
    pub nodes: Vec<Requests>,
}

/// What has reached one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    /// Steps of gets.
    pub gets: u64,
    /// Steps of the forward phases of puts.
    pub rooms: u64,
    /// Values to store, claims included.
    pub stores: u64,
}

impl Requests {
    /// Puts that have reached it: most ask for room and then store, some do only one.
    #[must_use]
    pub fn puts(&self) -> u64 {
        self.rooms.max(self.stores)
    }
}

impl Watch {
    pub(crate) fn new(key: Key, nodes: usize) -> Self {
        Self { key, nodes: vec![Requests::default(); nodes] }
    }

    pub(crate) fn see(&mut self, node: usize, payload: &[u8]) {
        let Some(Seen { request: Some((verb, Some(key))), .. }) = seen(payload) else { return };
        if key != self.key {
            return;
        }
        let requests = &mut self.nodes[node];
        match verb {
            Verb::Get => requests.gets += 1,
            Verb::Room => requests.rooms += 1,
            Verb::Store | Verb::Claim => requests.stores += 1,
            Verb::Other => {}
        }
    }
}
