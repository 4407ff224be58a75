//! How many hops lookups take, seen from the wire: a request that follows an answer is one hop
//! farther than that.

use std::collections::BTreeMap;

use coralline_overlay::inspect::{Seen, Verb, seen};
use coralline_overlay::{Distance, Key, NodeId};

/// The gets and claims of all nodes, by node and key.
#[derive(Debug, Default)]
pub(crate) struct Trails {
    open: BTreeMap<(usize, u64), (Key, u8)>,
    /// Hops to whoever answered last.
    answered: BTreeMap<(usize, Key), u8>,
    /// The nearest node asked so far, and the hops to it.
    nearest: BTreeMap<(usize, Key), (Distance, u8)>,
}

impl Trails {
    pub(crate) fn sent(&mut self, from: usize, to: &NodeId, payload: &[u8]) {
        let Some(Seen { number, request: Some((Verb::Get, Some(key))) }) = seen(payload) else {
            return;
        };
        if self.open.contains_key(&(from, number)) {
            return;
        }
        let hops = self.answered.get(&(from, key)).map_or(1, |hops| hops.saturating_add(1));
        self.open.insert((from, number), (key, hops));
        let asked = (to.distance(&key), hops);
        let nearest = self.nearest.entry((from, key)).or_insert(asked);
        *nearest = (*nearest).min(asked);
    }

    pub(crate) fn heard(&mut self, node: usize, payload: &[u8]) {
        let Some(Seen { number, request: None }) = seen(payload) else { return };
        if let Some((key, hops)) = self.open.remove(&(node, number)) {
            self.answered.insert((node, key), hops);
        }
    }

    /// Hops to the nearest node asked, an entry a lookup.
    pub(crate) fn hops(&self) -> Vec<u8> {
        self.nearest.values().map(|(_, hops)| *hops).collect()
    }
}
