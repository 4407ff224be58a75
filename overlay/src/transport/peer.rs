//! What the transport holds of one peer: handshakes under way, sessions, messages that wait.

use std::collections::VecDeque;

use crate::time::Instant;
use crate::transport::datagram::SessionId;
use crate::transport::limits::{
    INITIATION_RETRY, INITIATION_TIMEOUT, MAX_INITIATIONS, MAX_QUEUED, MAX_SESSIONS,
};
use crate::transport::noise::{Accepted, Initiated};
use crate::transport::session::Session;

/// One identity at one address. The newest of each list is last.
#[derive(Debug)]
pub(crate) struct Peer {
    initiations: Vec<Initiation>,
    sessions: Vec<Session>,
    queue: VecDeque<Vec<u8>>,
    /// A handshake whose Response waits for the core's answer, which it carries.
    pub(crate) answering: Option<Answering>,
    /// When something was last sent to or received from it.
    pub(crate) used: Instant,
}

/// An Init that was sent.
#[derive(Debug)]
pub(crate) struct Initiation {
    pub(crate) id: SessionId,
    pub(crate) handshake: Initiated,
    pub(crate) sent: Instant,
}

/// An Init that was read.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) handshake: Accepted,
    pub(crate) plaintext: Option<Vec<u8>>,
}

impl Peer {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            initiations: Vec::new(),
            sessions: Vec::new(),
            queue: VecDeque::new(),
            answering: None,
            used: now,
        }
    }

    /// The session to send by: the newest proven one, else the newest.
    pub(crate) fn outbound(&mut self, now: Instant) -> Option<&mut Session> {
        let usable = |proven: bool| {
            self.sessions.iter().rposition(|s| s.proven >= proven && s.is_usable(now))
        };
        let index = usable(true).or_else(|| usable(false))?;
        self.sessions.get_mut(index)
    }

    /// Whether a session serves whose peer has proved its address.
    pub(crate) fn is_reached(&self, now: Instant) -> bool {
        self.sessions.iter().any(|s| s.proven && s.is_usable(now))
    }

    /// Whether it may be dropped for another first: nobody there has shown to be real, and it was
    /// not this node that began.
    pub(crate) fn is_stranger(&self) -> bool {
        self.initiations.is_empty() && !self.sessions.iter().any(|s| s.proven)
    }

    /// Whether a handshake of ours is so young that its answer is to be waited for.
    pub(crate) fn is_initiating(&self, now: Instant) -> bool {
        self.initiations.last().is_some_and(|i| now.since(i.sent) < INITIATION_RETRY)
    }

    /// Whether an Init that names this session has been here before.
    pub(crate) fn has_met(&self, remote: SessionId) -> bool {
        self.answering.as_ref().is_some_and(|a| a.handshake.remote == remote)
            || self.sessions.iter().any(|s| s.is_named(remote))
    }

    /// Adds a handshake; returns the session of one that had to go.
    pub(crate) fn add_initiation(&mut self, initiation: Initiation) -> Option<SessionId> {
        self.initiations.push(initiation);
        (self.initiations.len() > MAX_INITIATIONS).then(|| self.initiations.remove(0).id)
    }

    /// The handshake that a Response names.
    pub(crate) fn initiation(&mut self, id: SessionId) -> Option<&mut Initiation> {
        self.initiations.iter_mut().find(|i| i.id == id)
    }

    /// Takes a handshake out, as it has ended.
    pub(crate) fn take_initiation(&mut self, id: SessionId) -> Option<Initiation> {
        let index = self.initiations.iter().position(|i| i.id == id)?;
        Some(self.initiations.remove(index))
    }

    /// Adds a session; returns one that had to go, unproven ones first.
    pub(crate) fn add_session(&mut self, session: Session) -> Option<SessionId> {
        let full = self.sessions.len() >= MAX_SESSIONS;
        let gone = full.then(|| {
            let stranger = self.sessions.iter().position(|s| !s.proven);
            self.sessions.remove(stranger.unwrap_or(0)).id
        });
        self.sessions.push(session);
        gone
    }

    /// The session with this name of ours.
    pub(crate) fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|s| s.id == id)
    }

    /// Drops the session that the peer says it does not have, if it names a datagram of ours.
    pub(crate) fn reset(&mut self, remote: SessionId, nonce: u64) -> Option<SessionId> {
        let index = self.sessions.iter().position(|s| s.has_sent(remote, nonce))?;
        Some(self.sessions.remove(index).id)
    }

    /// Lets a message wait for the handshake. Returns whether an older one was dropped for it.
    pub(crate) fn enqueue(&mut self, plaintext: Vec<u8>) -> bool {
        let full = self.queue.len() >= MAX_QUEUED;
        if full {
            self.queue.pop_front();
        }
        self.queue.push_back(plaintext);
        full
    }

    /// Takes all messages that wait.
    pub(crate) fn take_queue(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.queue)
    }

    /// Drops what has expired; the names of its sessions go to `gone`.
    pub(crate) fn sweep(&mut self, now: Instant, gone: &mut Vec<SessionId>) {
        for i in self.initiations.extract_if(.., |i| now.since(i.sent) >= INITIATION_TIMEOUT) {
            gone.push(i.id);
        }
        gone.extend(self.sessions.extract_if(.., |s| s.is_over(now)).map(|s| s.id));
        // A Response that found no room in the transport's queue is not sent late.
        self.answering = None;
        if self.initiations.is_empty() {
            self.queue.clear();
        }
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.initiations.is_empty() && self.sessions.is_empty() && self.answering.is_none()
    }

    /// The names of all its sessions and handshakes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionId> {
        let initiations = self.initiations.iter().map(|i| i.id);
        initiations.chain(self.sessions.iter().map(|s| s.id))
    }
}
