//! What a workload may see of a world.

use std::net::SocketAddr;

use coralline_overlay::{Contact, Directory, Instant, Key, Level, Overlay, Stats};

use crate::geography::Geography;
use crate::ledger::Shown;
use crate::node::{self, Node};
use crate::trail::Trails;
use crate::watch::Watch;
use crate::world::World;

impl World {
    /// How many nodes there are, dead ones included.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Whether a node is alive.
    #[must_use]
    pub fn is_alive(&self, node: usize) -> bool {
        self.nodes[node].core.is_some()
    }

    /// Which of its lives a node is in; none if it is dead.
    #[must_use]
    pub fn life(&self, node: usize) -> Option<u32> {
        let Node { core, life, .. } = &self.nodes[node];
        core.is_some().then_some(*life)
    }

    /// Whether a node has begun to lie.
    #[must_use]
    pub fn is_liar(&self, node: usize) -> bool {
        self.nodes[node].lie.is_some()
    }

    /// What a living node knows of the others.
    #[must_use]
    pub fn directory(&self, node: usize) -> Option<Directory> {
        Some(self.core(node)?.directory(self.now))
    }

    /// What a living node has counted.
    #[must_use]
    pub fn stats(&self, node: usize) -> Option<Stats> {
        Some(self.core(node)?.stats())
    }

    /// The core of a living node.
    #[must_use]
    pub fn core(&self, node: usize) -> Option<&Overlay> {
        self.nodes[node].core.as_ref()
    }

    /// The number of a living node's cluster at a level above the global one.
    #[must_use]
    pub fn cluster(&self, node: usize, level: Level) -> Option<u32> {
        let at = usize::from(level.0).checked_sub(1)?;
        self.core(node)?.clusters().get(at).copied()
    }

    /// How a node is known.
    #[must_use]
    pub fn contact(&self, node: usize) -> Contact {
        self.nodes[node].contact
    }

    /// Which node has this address.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Option<usize> {
        let at = node::at(addr)?;
        (self.nodes.get(at)?.contact.addr == addr).then_some(at)
    }

    /// Where the nodes are.
    #[must_use]
    pub const fn geography(&self) -> &Geography {
        &self.geography
    }

    /// The world's time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// SHA-1 of all that has happened.
    #[must_use]
    pub fn digest(&self) -> String {
        self.trace.digest()
    }

    /// How much has happened.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.trace.events()
    }

    /// Pointers shown so far.
    #[must_use]
    pub const fn shown(&self) -> Shown {
        self.ledger.shown
    }

    /// Claims that were won while another winner lived.
    #[must_use]
    pub const fn double_claims(&self) -> u64 {
        self.ledger.double_claims
    }

    /// Invariants that were broken, the first ones in words. They are looked at at every step:
    /// each query ends once and in time; each pointer shown was announced by its holder, and has
    /// not outlived its time.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        self.ledger.violations()
    }

    /// Counts the requests about `key` that reach each node, from now on.
    pub fn watch(&mut self, key: Key) {
        self.watch = Some(Watch::new(key, self.nodes.len()));
    }

    /// The counts so far, which start again.
    pub fn watched(&mut self) -> Option<Watch> {
        let watch = self.watch.as_mut()?;
        let fresh = Watch::new(watch.key, self.nodes.len());
        Some(std::mem::replace(watch, fresh))
    }

    /// Follows all gets and claims from now on, to count their hops.
    pub fn follow(&mut self) {
        self.trails = Some(Trails::default());
    }

    /// Hops from the start to the nearest node that was asked, an entry a lookup followed.
    #[must_use]
    pub fn hops(&self) -> Vec<u8> {
        self.trails.as_ref().map(Trails::hops).unwrap_or_default()
    }
}
