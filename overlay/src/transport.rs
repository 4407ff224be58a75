//! Plaintext in, datagrams out, and back: Noise sessions as a machine without I/O.
//!
//! A message to a stranger rides in the first packet of the handshake (Noise IK) and its answer in the
//! second, so that a lookup through strangers takes no extra round trip; later messages reuse the
//! session. Nothing is retransmitted here: the core sends again what was not answered, and that makes
//! a new attempt at the handshake too. Anybody may send anything: what is not understood is counted
//! and dropped, work and memory for strangers are bounded, no answer is longer than its cause.
//!
//! The contract is that of the core: one change, then [`Transport::poll_output`] until `Idle`. It
//! hands out what was received before what is to be sent, so that the core's answer to an Init finds
//! the Response still unsent.

mod datagram;
mod gate;
mod limits;
mod noise;
mod peer;
mod peers;
mod replay;
mod seeking;
mod session;
mod stats;

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::contact::Identity;
use crate::keys::{Keys, verify_i_am};
use crate::limits::MAX_PLAINTEXT;
use crate::settings::Sender;
use crate::time::Instant;
use datagram::{Datagram, INIT_ROOM, SessionId};
use gate::Gate;
use limits::{MAX_OUTGOING, SWEEP_INTERVAL};
use noise::Noise;
use peer::{Answering, Initiation, Peer};
use peers::{PeerKey, Peers};
use seeking::Seeking;
use session::{Fault, Session};

pub use stats::{TransportDropped, TransportStats};

/// The sessions of one node with all others.
#[derive(Debug)]
pub(crate) struct Transport {
    noise: Noise,
    rng: ChaCha20Rng,
    gate: Gate,
    peers: Peers,
    seeking: Seeking,
    received: Option<(Sender, Vec<u8>)>,
    outgoing: VecDeque<Outgoing>,
    now: Instant,
    sweep_at: Instant,
    stats: TransportStats,
}

/// One step of the drain.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// The buffer holds a message for the core.
    Deliver(Sender),
    /// The buffer holds a datagram for this address.
    Transmit(SocketAddr),
    /// Drained; call [`Transport::handle_timeout`] at `wake`.
    Idle { wake: Option<Instant> },
}

#[derive(Debug)]
enum Outgoing {
    Datagram(SocketAddr, Vec<u8>),
    /// Written when it is polled, with the core's answer if there is one by then.
    Response(PeerKey),
}

impl Transport {
    /// The transport of the node with these keys; equal seeds and inputs give equal outputs. The seed
    /// makes ephemeral keys, so a real one comes from the system's randomness.
    pub(crate) fn new(keys: Keys, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let gate = Gate::new(random(&mut rng));
        Self {
            noise: Noise::new(keys),
            rng,
            gate,
            peers: Peers::default(),
            seeking: Seeking::default(),
            received: None,
            outgoing: VecDeque::new(),
            now,
            sweep_at: now + SWEEP_INTERVAL,
            stats: TransportStats::default(),
        }
    }

    /// Takes in a datagram.
    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        debug_assert!(self.received.is_none(), "drained before the next change");
        self.now = now;
        self.stats.datagrams_in += 1;
        self.stats.bytes_in += bytes.len() as u64;
        match Datagram::parse(bytes) {
            Some(Datagram::Init { noise }) => self.on_init(from, noise),
            Some(Datagram::Response { receiver, noise }) => self.on_response(from, receiver, noise),
            Some(Datagram::Data { receiver, nonce, ciphertext }) => {
                self.on_data(from, receiver, nonce, ciphertext);
            }
            Some(Datagram::Reset { receiver, nonce }) => self.on_reset(from, receiver, nonce),
            Some(Datagram::WhoAreYou { nonce }) => self.on_who_are_you(from, nonce),
            Some(Datagram::IAm { nonce, identity, signature }) => {
                self.on_i_am(from, &nonce, identity, signature);
            }
            None => self.stats.dropped.malformed += 1,
        }
    }

    /// Sends a message of at most [`MAX_PLAINTEXT`] octets; without an identity, to whoever is there.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        to: SocketAddr,
        identity: Option<Identity>,
        plaintext: &[u8],
    ) {
        debug_assert!(plaintext.len() <= MAX_PLAINTEXT, "the core bounds its messages");
        self.now = now;
        match identity.or_else(|| self.peers.identity_at(now, to)) {
            Some(identity) => self.send_to((to, identity), plaintext),
            None => self.seek(to, plaintext),
        }
    }

    /// Drops what has expired.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP_INTERVAL;
        self.peers.sweep(now);
        self.seeking.sweep(now);
    }

    /// The next thing to do; its octets are in `buf`, which is cleared first.
    pub(crate) fn poll_output(&mut self, buf: &mut Vec<u8>) -> Output {
        buf.clear();
        if let Some((from, plaintext)) = self.received.take() {
            buf.extend_from_slice(&plaintext);
            return Output::Deliver(from);
        }
        while let Some(outgoing) = self.outgoing.pop_front() {
            let (to, datagram) = match outgoing {
                Outgoing::Datagram(to, datagram) => (to, datagram),
                Outgoing::Response(key) => match self.respond(key) {
                    Some(datagram) => (key.0, datagram),
                    None => continue,
                },
            };
            buf.extend_from_slice(&datagram);
            self.stats.datagrams_out += 1;
            self.stats.bytes_out += datagram.len() as u64;
            return Output::Transmit(to);
        }
        let idle = self.peers.len() == 0 && self.seeking.is_empty();
        Output::Idle { wake: (!idle).then_some(self.sweep_at) }
    }

    /// What it has done and holds.
    pub(crate) fn stats(&self) -> TransportStats {
        TransportStats { peers: self.peers.len(), evicted: self.peers.evicted(), ..self.stats }
    }

    fn on_init(&mut self, from: SocketAddr, noise: &[u8]) {
        if !self.gate.admit_handshake(self.now, from.ip()) {
            self.stats.dropped.limited += 1;
            return;
        }
        let Some(mut handshake) = self.noise.accept(random(&mut self.rng), noise) else {
            self.stats.dropped.forged += 1;
            return;
        };
        let key = (from, handshake.identity);
        let plaintext = std::mem::take(&mut handshake.plaintext);
        let peer = self.peers.entry(self.now, key);
        if peer.has_met(handshake.remote) {
            self.stats.dropped.replayed += 1;
            return;
        }
        peer.answering = Some(Answering { handshake, plaintext: None });
        self.push(Outgoing::Response(key));
        // The address may be forged and the datagram an old one sent again: not proven.
        self.deliver(key, false, plaintext);
    }

    fn on_response(&mut self, from: SocketAddr, receiver: SessionId, noise: &[u8]) {
        let now = self.now;
        let Some((key, peer)) = self.peers.owner(from, receiver) else {
            self.stats.dropped.unsolicited += 1;
            return;
        };
        let Some(initiation) = peer.initiation(receiver) else {
            self.stats.dropped.replayed += 1;
            return;
        };
        let Some((remote, plaintext)) = initiation.handshake.read(noise) else {
            self.stats.dropped.forged += 1;
            return;
        };
        let keys = peer.take_initiation(receiver).and_then(|i| i.handshake.finish());
        let keys = keys.expect("the handshake is there and has read its last message");
        self.peers.add_session(key, Session::new(receiver, remote, keys, true, now));
        self.stats.handshakes += 1;
        self.flush(key);
        self.deliver(key, true, plaintext);
    }

    fn on_data(&mut self, from: SocketAddr, receiver: SessionId, nonce: u64, ciphertext: &[u8]) {
        let now = self.now;
        let owner = self.peers.owner(from, receiver);
        let Some((key, session)) =
            owner.and_then(|(key, peer)| Some((key, peer.session(receiver)?)))
        else {
            self.stats.dropped.unknown_session += 1;
            // One that lives, but elsewhere, is no cause to make anybody give it up.
            if !self.peers.knows(receiver) && self.gate.admit_reset(now) {
                self.push_datagram(from, Datagram::Reset { receiver, nonce });
            }
            return;
        };
        match session.open(now, nonce, ciphertext) {
            Ok(plaintext) => {
                self.flush(key);
                self.deliver(key, true, plaintext);
            }
            Err(Fault::Replayed) => self.stats.dropped.replayed += 1,
            Err(Fault::Forged) => self.stats.dropped.forged += 1,
        }
    }

    fn on_reset(&mut self, from: SocketAddr, remote: SessionId, nonce: u64) {
        let now = self.now;
        let Some(key) = self.peers.reset(from, remote, nonce) else {
            self.stats.dropped.unsolicited += 1;
            return;
        };
        let peer = self.peers.entry(now, key);
        if peer.outbound(now).is_none() && !peer.is_initiating(now) {
            // The core's next attempt then finds a session that proves its address.
            self.initiate(key, &[]);
        }
    }

    fn on_who_are_you(&mut self, from: SocketAddr, nonce: [u8; 16]) {
        if !self.gate.admit_handshake(self.now, from.ip()) {
            self.stats.dropped.limited += 1;
            return;
        }
        let keys = self.noise.keys();
        let (identity, signature) = (keys.identity(), keys.sign_i_am(&nonce));
        self.push_datagram(from, Datagram::IAm { nonce, identity, signature: &signature });
    }

    fn on_i_am(
        &mut self,
        from: SocketAddr,
        nonce: &[u8; 16],
        identity: Identity,
        signature: &[u8; 64],
    ) {
        if !self.seeking.has_asked(from, nonce) {
            self.stats.dropped.unsolicited += 1;
            return;
        }
        if !verify_i_am(&identity, nonce, signature) {
            self.stats.dropped.forged += 1;
            return;
        }
        for plaintext in self.seeking.finish(from) {
            self.send_to((from, identity), &plaintext);
        }
    }

    fn send_to(&mut self, key: PeerKey, plaintext: &[u8]) {
        let now = self.now;
        let peer = self.peers.entry(now, key);
        let dropped = match &mut peer.answering {
            Some(Answering { plaintext: answer @ None, .. }) => {
                *answer = Some(plaintext.to_vec());
                false
            }
            Some(_) => peer.enqueue(plaintext.to_vec()),
            None => {
                if let Some(session) = peer.outbound(now) {
                    let datagram = session.seal(now, plaintext);
                    self.push(Outgoing::Datagram(key.0, datagram));
                    return;
                }
                if !peer.is_initiating(now) {
                    self.initiate(key, plaintext);
                    return;
                }
                peer.enqueue(plaintext.to_vec())
            }
        };
        self.stats.dropped.queue_full += u64::from(dropped);
    }

    /// Begins a handshake that carries the message, or lets it wait if it has no room.
    fn initiate(&mut self, key: PeerKey, plaintext: &[u8]) {
        let id = SessionId(self.rng.next_u64());
        let (carried, waiting) = if plaintext.len() <= INIT_ROOM {
            (plaintext, None)
        } else {
            (&[][..], Some(plaintext))
        };
        let seed = random(&mut self.rng);
        let Some((handshake, noise)) = self.noise.initiate(seed, &key.1, id, carried) else {
            self.stats.dropped.no_identity += 1;
            return;
        };
        let sent = self.now;
        let peer = self.peers.entry(sent, key);
        let dropped = waiting.is_some_and(|plaintext| peer.enqueue(plaintext.to_vec()));
        self.stats.dropped.queue_full += u64::from(dropped);
        self.peers.add_initiation(key, Initiation { id, handshake, sent });
        self.push_datagram(key.0, Datagram::Init { noise: &noise });
    }

    /// Writes the Response that is due, and what waited for it.
    fn respond(&mut self, key: PeerKey) -> Option<Vec<u8>> {
        let now = self.now;
        let Answering { handshake, plaintext } = self.peers.find(key)?.answering.take()?;
        let (receiver, id) = (handshake.remote, SessionId(self.rng.next_u64()));
        let (keys, noise) = handshake.respond(id, &plaintext.unwrap_or_default())?;
        self.peers.add_session(key, Session::new(id, receiver, keys, false, now));
        self.stats.handshakes += 1;
        self.flush(key);
        Some(Datagram::Response { receiver, noise: &noise }.encode())
    }

    /// Sends what waited for a session with this peer.
    fn flush(&mut self, key: PeerKey) {
        let queue = self.peers.find(key).map(Peer::take_queue);
        for plaintext in queue.into_iter().flatten() {
            self.send_to(key, &plaintext);
        }
    }

    /// Asks who is at `to`; the message waits for the answer.
    fn seek(&mut self, to: SocketAddr, plaintext: &[u8]) {
        let nonce = random(&mut self.rng);
        let room = self.seeking.enqueue(self.now, to, nonce, plaintext);
        self.stats.dropped.queue_full += u64::from(!room);
        if let Some(nonce) = self.seeking.ask(self.now, to) {
            self.push_datagram(to, Datagram::WhoAreYou { nonce });
        }
    }

    fn deliver(&mut self, key: PeerKey, proven: bool, plaintext: Vec<u8>) {
        if let Some(peer) = self.peers.find(key) {
            peer.used = self.now;
        }
        if !plaintext.is_empty() {
            self.received = Some((Sender { addr: key.0, identity: key.1, proven }, plaintext));
        }
    }

    fn push_datagram(&mut self, to: SocketAddr, datagram: Datagram<'_>) {
        self.push(Outgoing::Datagram(to, datagram.encode()));
    }

    fn push(&mut self, outgoing: Outgoing) {
        if self.outgoing.len() >= MAX_OUTGOING {
            self.stats.dropped.queue_full += 1;
        } else {
            self.outgoing.push_back(outgoing);
        }
    }
}

fn random<const N: usize>(rng: &mut ChaCha20Rng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
