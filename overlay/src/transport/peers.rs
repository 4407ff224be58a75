//! All peers, and whose each session is: a bounded table.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::contact::Identity;
use crate::time::Instant;
use crate::transport::datagram::SessionId;
use crate::transport::limits::MAX_PEERS;
use crate::transport::peer::{Initiation, Peer};
use crate::transport::session::Session;

/// By address and identity together: who forges an address meets no session of its owner.
pub(crate) type PeerKey = (SocketAddr, Identity);

/// The peers of one node, and an index of their sessions by the names that this node gave them.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<PeerKey, Peer>,
    sessions: BTreeMap<SessionId, PeerKey>,
    evicted: u64,
}

impl Peers {
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// How many were dropped for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn find(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.peers.get_mut(&key)
    }

    /// The peer's entry, made if need be. In a full table it takes the place of a stranger, else of
    /// the peer that was silent for longest.
    pub(crate) fn entry(&mut self, now: Instant, key: PeerKey) -> &mut Peer {
        if !self.peers.contains_key(&key) && self.peers.len() >= MAX_PEERS {
            self.evict();
        }
        let peer = self.peers.entry(key).or_insert_with(|| Peer::new(now));
        peer.used = now;
        peer
    }

    /// The peer whose session or handshake `id` names, if that is at `from`.
    pub(crate) fn owner(
        &mut self,
        from: SocketAddr,
        id: SessionId,
    ) -> Option<(PeerKey, &mut Peer)> {
        let key = *self.sessions.get(&id)?;
        let peer = self.peers.get_mut(&key).filter(|_| key.0 == from)?;
        Some((key, peer))
    }

    /// Whether `id` names a session or handshake, wherever that is.
    pub(crate) fn knows(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Who is known to be at an address.
    pub(crate) fn identity_at(&self, now: Instant, addr: SocketAddr) -> Option<Identity> {
        let mut at = self.peers.range(all_at(addr));
        at.find(|(_, peer)| peer.is_reached(now)).map(|(key, _)| key.1)
    }

    /// Adds a handshake to a peer that is in the table.
    pub(crate) fn add_initiation(&mut self, key: PeerKey, initiation: Initiation) {
        let id = initiation.id;
        if let Some(peer) = self.peers.get_mut(&key) {
            let gone = peer.add_initiation(initiation);
            self.replace(key, id, gone);
        }
    }

    /// Adds a session to a peer that is in the table.
    pub(crate) fn add_session(&mut self, key: PeerKey, session: Session) {
        let id = session.id;
        if let Some(peer) = self.peers.get_mut(&key) {
            let gone = peer.add_session(session);
            self.replace(key, id, gone);
        }
    }

    /// Drops the session at `from` that its peer says it does not have. Returns whose it was.
    pub(crate) fn reset(
        &mut self,
        from: SocketAddr,
        remote: SessionId,
        nonce: u64,
    ) -> Option<PeerKey> {
        let mut at = self.peers.range_mut(all_at(from));
        let (key, id) = at.find_map(|(key, peer)| Some((*key, peer.reset(remote, nonce)?)))?;
        self.sessions.remove(&id);
        Some(key)
    }

    /// Drops what has expired.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let mut gone = Vec::new();
        self.peers.retain(|_, peer| {
            peer.sweep(now, &mut gone);
            !peer.is_empty()
        });
        for id in gone {
            self.sessions.remove(&id);
        }
    }

    fn replace(&mut self, key: PeerKey, id: SessionId, gone: Option<SessionId>) {
        self.sessions.insert(id, key);
        if let Some(gone) = gone {
            self.sessions.remove(&gone);
        }
    }

    fn evict(&mut self) {
        let least = self.peers.iter().min_by_key(|(_, peer)| (!peer.is_stranger(), peer.used));
        let least = least.map(|(key, _)| *key);
        if let Some(peer) = least.and_then(|key| self.peers.remove(&key)) {
            for id in peer.ids() {
                self.sessions.remove(&id);
            }
            self.evicted += 1;
        }
    }
}

fn all_at(addr: SocketAddr) -> std::ops::RangeInclusive<PeerKey> {
    (addr, Identity([0; 32]))..=(addr, Identity([255; 32]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_drops_the_one_silent_for_longest() {
        let mut peers = Peers::default();
        let addr = "192.0.2.1:7400".parse().unwrap();
        let key = |n: usize| {
            let mut identity = [0; 32];
            identity[..8].copy_from_slice(&n.to_be_bytes());
            (addr, Identity(identity))
        };
        for n in 0..MAX_PEERS {
            peers.entry(Instant::from_micros(n as u64), key(n));
        }
        let late = Instant::from_micros(MAX_PEERS as u64);
        peers.entry(late, key(0));
        peers.entry(late, key(MAX_PEERS));
        assert_eq!((peers.len(), peers.evicted()), (MAX_PEERS, 1));
        assert!(peers.find(key(0)).is_some(), "used lately");
        assert!(peers.find(key(1)).is_none(), "silent for longest");
    }
}
