//! Plain counts of what a core has done and holds.

/// Counts since the start, then sizes as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Datagrams received, dropped ones included.
    pub datagrams_in: u64,
    /// Datagrams sent, repeated ones included.
    pub datagrams_out: u64,
    /// Octets of plaintext received.
    pub bytes_in: u64,
    /// Octets of plaintext sent.
    pub bytes_out: u64,
    /// Datagrams dropped, by reason.
    pub dropped: Dropped,
    /// Queries that the application started.
    pub queries_started: u64,
    /// Queries that ended with an answer.
    pub queries_finished: u64,
    /// Queries that ended without one.
    pub queries_timed_out: u64,
    /// Queries refused because too many were in flight.
    pub queries_refused: u64,
    /// Requests sent a second time.
    pub calls_repeated: u64,
    /// Requests that were never answered.
    pub calls_failed: u64,
    /// Stores and claims refused to others.
    pub stores_refused: u64,
    /// Finds of others that looked for values, claims included.
    pub gets_in: u64,
    /// Finds of others that looked for room: the forward phases of their puts.
    pub puts_in: u64,
    /// Stores of others, refused ones included.
    pub stores_in: u64,
    /// Values handed to newcomers that are nearer to their keys.
    pub handed_over: u64,
    /// Messages to the whole network that were heard.
    pub broadcasts: u64,
    /// Times that this node has told another of one, repeats apart.
    pub broadcasts_out: u64,
    /// Those for which there was no room, or which one node told too many of.
    pub broadcasts_refused: u64,
    /// Moves from one cluster to another, over all levels.
    pub moves: u64,
    /// Keys in this node's part of the index.
    pub keys: usize,
    /// Values under these keys.
    pub values: usize,
    /// Contacts in the routing table.
    pub contacts: usize,
    /// Live neighbours in the directory.
    pub alive: usize,
}

/// What came of messages to the whole network, as the driver has them signed and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BroadcastStats {
    /// Sent by this node itself.
    pub sent: u64,
    /// Those of others: verified, passed on and shown to the application.
    pub delivered: u64,
    /// Not of this form.
    pub malformed: u64,
    /// Not signed by whom they name.
    pub forged: u64,
    /// From another time than this node's clock has it.
    pub stale: u64,
    /// Known already.
    pub repeated: u64,
    /// Too many of one sender, or in all.
    pub limited: u64,
    /// Delivered, but the application took others first for too long.
    pub lost: u64,
}

/// Why datagrams were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Not a message of this version.
    pub malformed: u64,
    /// The sender's address, slot or scope breaks the rules of [`crate::NodeId`]s.
    pub address: u64,
    /// An answer that nothing waits for.
    pub unsolicited: u64,
    /// It asks at a level that this node does not share with the sender.
    pub level: u64,
    /// It came from this node itself.
    pub own: u64,
}

impl Dropped {
    /// All of them together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.malformed + self.address + self.unsolicited + self.level + self.own
    }
}
