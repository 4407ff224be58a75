//! Plain counts of what the transport has done and holds.

/// Counts since the start, then sizes as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    /// UDP datagrams received, dropped ones included.
    pub datagrams_in: u64,
    /// UDP datagrams sent.
    pub datagrams_out: u64,
    /// Octets of UDP payload received.
    pub bytes_in: u64,
    /// Octets of UDP payload sent.
    pub bytes_out: u64,
    /// Sessions made, on either side's initiative.
    pub handshakes: u64,
    /// Peers dropped from a full table.
    pub evicted: u64,
    /// Datagrams and messages dropped, by reason.
    pub dropped: TransportDropped,
    /// Peers with a session or a handshake under way.
    pub peers: usize,
}

/// Why datagrams from outside, or messages to be sent, were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportDropped {
    /// Not a datagram of this version.
    pub malformed: u64,
    /// Not made with the key that it should be made with.
    pub forged: u64,
    /// It has been here before.
    pub replayed: u64,
    /// More handshakes than the rate limits allow.
    pub limited: u64,
    /// For a session that is not, or not any more.
    pub unknown_session: u64,
    /// An answer that nothing waits for.
    pub unsolicited: u64,
    /// Too many messages wait for one handshake, or to be sent.
    pub queue_full: u64,
    /// To an identity that is no public key.
    pub no_identity: u64,
}

impl TransportDropped {
    /// Each reason's name and count.
    #[must_use]
    pub const fn by_reason(&self) -> [(&'static str, u64); 8] {
        [
            ("malformed", self.malformed),
            ("forged", self.forged),
            ("replayed", self.replayed),
            ("limited", self.limited),
            ("unknown_session", self.unknown_session),
            ("unsolicited", self.unsolicited),
            ("queue_full", self.queue_full),
            ("no_identity", self.no_identity),
        ]
    }
}
