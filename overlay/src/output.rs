//! What the core hands to its driver, and how a query is named and ends.

use std::fmt;
use std::net::SocketAddr;

use crate::contact::Identity;
use crate::id::{Key, NodeId};
use crate::level::Level;
use crate::pointer::Pointer;
use crate::time::Instant;

/// One step of the drain. Call [`crate::Overlay::poll_output`] until it is `Idle`.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send the payload that now fills the buffer.
    Transmit(Transmit),
    /// Tell the application.
    Event(Event),
    /// Drained. Call [`crate::Overlay::handle_timeout`] at `wake`, unless something comes in
    /// before.
    Idle {
        /// The next deadline; none means that only input can wake this core.
        wake: Option<Instant>,
    },
}

/// Where a payload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The address to send to.
    pub to: SocketAddr,
    /// Who must be there; none for a seed, whose identity the transport has yet to learn.
    pub identity: Option<Identity>,
}

/// What the application hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A query has ended; each ends exactly once.
    Finished {
        /// Which one.
        query: QueryId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A message to the whole network, once. It is passed on only by [`crate::Overlay::accept`]:
    /// whoever may send one must sign it, and say when, in the payload, as the driver has it.
    Broadcast {
        /// SHA-1 of the payload.
        message: Key,
        /// What the sender gave.
        payload: Vec<u8>,
    },
    /// The set of live neighbours, or `joined`, has changed: read [`crate::Overlay::directory`].
    DirectoryChanged,
}

/// How a query ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of a get. No pointers: nobody has it.
    Found {
        /// Those who have it, most remaining time to live first.
        pointers: Vec<Pointer>,
        /// The level at which they were found.
        level: Level,
        /// How many nodes away they were found; 0 is this node's own store.
        hops: u8,
        /// The node that named them, for [`crate::Except::add`]; none if nobody did.
        by: Option<NodeId>,
    },
    /// Of a put.
    Stored {
        /// How many nodes took it; 0 when all of them know enough other holders.
        copies: u8,
    },
    /// Of a claim: nobody else holds it, so go to the origin.
    Claimed,
    /// Of a claim: fetch from one of these.
    Held {
        /// The other holders, never empty.
        pointers: Vec<Pointer>,
        /// The level at which they were found.
        level: Level,
        /// The node that named them.
        by: Option<NodeId>,
    },
    /// Of a withdrawal.
    Withdrawn,
    /// Nobody answered in time.
    TimedOut,
}

/// Names a query from its start to its one [`Event::Finished`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub(crate) u64);

impl fmt::Debug for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q{}", self.0)
    }
}

/// Too many queries are in flight; try again when one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many index queries in flight")]
pub struct Busy;
