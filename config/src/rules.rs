//! The constants of the index: those of Coral and ours, which the nodes of a network had better share.

use std::time::Duration;

/// What decides how the index behaves, as part of `[overlay]`. The defaults are Coral's (NSDI 2004,
/// sections 3 to 5) but where another reason is given; limits on the wire and of tables are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Values of a key that make a node full (l).
    pub values_per_key: usize,
    /// Gets of one key in a minute that do not yet make a node loaded (beta).
    pub beta: usize,
    /// Puts of one key that pass a node in a minute.
    pub passes: usize,
    /// Bits of the distance that one hop of a halving search takes off (b).
    pub hop_bits: usize,
    /// Nodes that store a put.
    pub copies: usize,
    /// Values stored here for the network, of all keys.
    pub max_values: usize,
    /// Longest time to live of a value.
    pub max_ttl: Duration,
    /// Share of a cluster's members, in percent, that must be near for a node to join.
    pub accept_percent: u32,
    /// Share up to which a node leaves; between the two it stays.
    pub abandon_percent: u32,
    /// Between two reviews of the own clusters.
    pub review_every: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            // Enough to choose among, few enough for a datagram.
            values_per_key: 4,
            beta: 12,
            // Coral let beta of them pass, which holds the load at the root to beta * ceil(log2 n) if
            // one node in each of log2 n places leads there; ids are not so even, and up to twice as
            // many do.
            passes: 5,
            // More would make ways shorter, and the load at the root (2^b - 1) / b times as large.
            hop_bits: 1,
            // With one liar in five, who says that it stores and does not, one key in three thousand is
            // nowhere; of three copies one key in 125 was.
            copies: 5,
            // Some 25 MB of a 512 MB machine.
            max_values: 65_536,
            // NSDI 2010: a wrong pointer must not live for days.
            max_ttl: Duration::from_secs(2 * 3600),
            accept_percent: 80,
            abandon_percent: 50,
            review_every: Duration::from_secs(300),
        }
    }
}
