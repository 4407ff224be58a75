//! What is known of peers, shared by all that deal with them: the core of `coralline_sources` with a clock.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coralline_overlay::{Handle, Identity, Level, Pointer};
use coralline_sources::{Asking, Dealing, PeerKey, Standings, usual};
use prometheus::IntCounter;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Known {
    standings: Arc<Mutex<Standings>>,
    index: Handle,
    /// How often one was wrong.
    wrong: IntCounter,
}

impl Known {
    pub(crate) fn new(index: &Handle, wrong: IntCounter) -> Self {
        Self { standings: Arc::default(), index: index.clone(), wrong }
    }

    fn standings(&self) -> MutexGuard<'_, Standings> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from a dealing.
    pub(crate) fn learn(&self, peer: PeerKey, dealing: Dealing) {
        if dealing == Dealing::Wrong {
            self.wrong.inc();
        }
        self.standings().learn(self.index.now(), peer, dealing);
    }

    /// How long this peer, found at this level, is expected to take for a little.
    pub(crate) fn cost(&self, peer: PeerKey, level: Level) -> Duration {
        self.standings().cost(self.index.now(), peer, usual(level))
    }

    /// Nobody asks it now.
    pub(crate) fn shuns(&self, peer: PeerKey) -> bool {
        self.standings().shuns(self.index.now(), peer)
    }

    /// Something that this key has signed is not true.
    pub(crate) fn learn_lie(&self, signer: Identity) {
        self.standings().learn_lie(self.index.now(), signer);
    }

    /// What this key has signed is not believed now.
    pub(crate) fn distrusts(&self, signer: Identity) -> bool {
        self.standings().distrusts(self.index.now(), signer)
    }

    /// It has not answered within this time, or has broken off.
    pub(crate) fn blame(&self, pointer: &Pointer, patience: Duration, broken: bool) {
        self.standings().blame(self.index.now(), pointer, patience, broken);
    }

    /// Whom of these to ask, within `left`, and whom not at all.
    pub(crate) fn choose(
        &self,
        holders: &[Pointer],
        level: Level,
        left: Duration,
        may: impl Fn(SocketAddr) -> bool,
    ) -> (Asking, Vec<Pointer>) {
        let now = self.index.now();
        Asking::new(now, now + left, (holders, level), &self.standings(), may)
    }

    /// One of those asked has named these.
    pub(crate) fn go_on(
        &self,
        asking: &mut Asking,
        named: &[PeerKey],
        may: impl Fn(SocketAddr) -> bool,
    ) {
        asking.handle_named(self.index.now(), named, &self.standings(), may);
    }
}
