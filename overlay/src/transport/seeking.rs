//! Seeds that were asked who they are, and what waits for their answers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::time::Instant;
use crate::transport::limits::{INITIATION_RETRY, INITIATION_TIMEOUT, MAX_QUEUED, MAX_SEEKING};

/// The questions that are open, by address.
#[derive(Debug, Default)]
pub(crate) struct Seeking(BTreeMap<SocketAddr, Question>);

#[derive(Debug)]
struct Question {
    nonce: [u8; 16],
    since: Instant,
    asked: Option<Instant>,
    queue: VecDeque<Vec<u8>>,
}

impl Seeking {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets a message wait for the answer of `addr`, to whom `nonce` is sent if nobody was asked yet.
    /// Returns whether all found room; an older message, or this one, may be dropped.
    pub(crate) fn enqueue(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        nonce: [u8; 16],
        plaintext: &[u8],
    ) -> bool {
        if !self.0.contains_key(&addr) && self.0.len() >= MAX_SEEKING {
            return false;
        }
        let new = || Question { nonce, since: now, asked: None, queue: VecDeque::new() };
        let question = self.0.entry(addr).or_insert_with(new);
        question.queue.push_back(plaintext.to_vec());
        let room = question.queue.len() <= MAX_QUEUED;
        if !room {
            question.queue.pop_front();
        }
        room
    }

    /// The nonce to ask `addr` with, if it is time to ask, or to ask again.
    pub(crate) fn ask(&mut self, now: Instant, addr: SocketAddr) -> Option<[u8; 16]> {
        let question = self.0.get_mut(&addr)?;
        let due = question.asked.is_none_or(|asked| now.since(asked) >= INITIATION_RETRY);
        question.asked = if due { Some(now) } else { question.asked };
        due.then_some(question.nonce)
    }

    /// Whether `addr` was asked with this nonce.
    pub(crate) fn has_asked(&self, addr: SocketAddr, nonce: &[u8; 16]) -> bool {
        self.0.get(&addr).is_some_and(|question| question.nonce == *nonce)
    }

    /// Ends the question; returns what waited for its answer.
    pub(crate) fn finish(&mut self, addr: SocketAddr) -> VecDeque<Vec<u8>> {
        self.0.remove(&addr).map(|question| question.queue).unwrap_or_default()
    }

    /// Drops questions that stay unanswered.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, question| now.since(question.since) < INITIATION_TIMEOUT);
    }
}
