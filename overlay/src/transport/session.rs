//! One session: keys, nonces, and what is known of whether the other side still has it.

use snow::StatelessTransportState;

use crate::time::Instant;
use crate::transport::datagram::{Datagram, SessionId, TAG};
use crate::transport::limits::{
    SESSION_IDLE, SESSION_LIFETIME, SUSPECT_AFTER, SUSPECT_SENDS, UNPROVEN_IDLE,
};
use crate::transport::replay::ReplayWindow;

/// The keys that a handshake gave, used with explicit nonces so that datagrams may be lost or
/// overtake one another.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    remote: SessionId,
    keys: StatelessTransportState,
    /// Whether the peer has shown that it gets what is sent to its address.
    pub(crate) proven: bool,
    next_nonce: u64,
    window: ReplayWindow,
    made: Instant,
    heard: Instant,
    /// Messages sent since the peer was heard, and when the first of them was.
    unanswered: u32,
    unanswered_since: Instant,
}

/// Why Data was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has been here before, or is too old to tell.
    Replayed,
    /// It was not made with the session's key.
    Forged,
}

impl Session {
    /// A session whose peer names it `remote`. It is proven from the start if the peer has answered.
    pub(crate) fn new(
        id: SessionId,
        remote: SessionId,
        keys: StatelessTransportState,
        proven: bool,
        now: Instant,
    ) -> Self {
        Self {
            id,
            remote,
            keys,
            proven,
            next_nonce: 0,
            window: ReplayWindow::default(),
            made: now,
            heard: now,
            unanswered: 0,
            unanswered_since: now,
        }
    }

    /// The Data datagram for a message.
    pub(crate) fn seal(&mut self, now: Instant, plaintext: &[u8]) -> Vec<u8> {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        if self.unanswered == 0 {
            self.unanswered_since = now;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        let mut ciphertext = vec![0; plaintext.len() + TAG];
        let length = self
            .keys
            .write_message(nonce, plaintext, &mut ciphertext)
            .expect("the buffer has room, and an hour is too short to use up 2^64 nonces");
        let ciphertext = &ciphertext[..length];
        Datagram::Data { receiver: self.remote, nonce, ciphertext }.encode()
    }

    /// The message in a Data datagram, which also proves the peer's address.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        nonce: u64,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        if !self.window.is_fresh(nonce) {
            return Err(Fault::Replayed);
        }
        let mut plaintext = vec![0; ciphertext.len()];
        let length =
            self.keys.read_message(nonce, ciphertext, &mut plaintext).map_err(|_| Fault::Forged)?;
        plaintext.truncate(length);
        self.window.mark(nonce);
        self.proven = true;
        self.heard = now;
        self.unanswered = 0;
        Ok(plaintext)
    }

    /// Whether it is worth sending by: young, and not suspected to be lost on the other side.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        let suspect =
            self.unanswered >= SUSPECT_SENDS && now.since(self.unanswered_since) >= SUSPECT_AFTER;
        !suspect && now.since(self.made) < SESSION_LIFETIME
    }

    /// Whether nothing is to be expected of it any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let idle = if self.proven { SESSION_IDLE } else { UNPROVEN_IDLE };
        now.since(self.heard) >= idle || now.since(self.made) >= SESSION_LIFETIME + SESSION_IDLE
    }

    /// Whether the session is the one that `remote` names there.
    pub(crate) fn is_named(&self, remote: SessionId) -> bool {
        self.remote == remote
    }

    /// Whether the datagram of which a Reset speaks was ours.
    pub(crate) fn has_sent(&self, remote: SessionId, nonce: u64) -> bool {
        self.remote == remote && nonce < self.next_nonce
    }
}
