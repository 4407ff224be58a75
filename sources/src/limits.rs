//! Every bound of the choice of sources, with its reason.

use std::time::Duration;

/// Peers that are asked for one object before the origin is.
pub const MAX_PEER_TRIES: usize = 3;
/// Peers that are being asked for the same thing at a time: a second one where the first is late.
pub const MAX_PEERS_AT_ONCE: usize = 2;
/// How long one peer is waited for before a second is asked as well: twice what most take who are far.
pub const HEDGE_AFTER: Duration = Duration::from_millis(400);
/// What an answer is expected to take of a peer of a nearer cluster that nobody has dealt with: a
/// connection and a request within the usual levels.
pub const USUAL_NEAR: Duration = Duration::from_millis(60);
/// The same of one that is anywhere: two round trips of the planet's median.
pub const USUAL_FAR: Duration = Duration::from_millis(250);
/// How long a peer that says it has all of it may take to its first octets, connection set-up included.
pub const PEER_HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// Peers whose speed and failures are remembered, and liars: some 150 octets each.
pub const MAX_STANDINGS: usize = 16_384;
/// How long a peer that nobody deals with is remembered, and the longest that one is left alone.
pub const STANDING_MEMORY: Duration = Duration::from_secs(1_800);
/// A failure counts half after this time: a node that was restarted is used as before within minutes.
pub const FORGIVEN_BY_HALF: Duration = Duration::from_secs(60);
/// How long a peer that failed to connect or to answer is left alone.
pub const PEER_PENALTY: Duration = Duration::from_secs(30);
/// Silence of one that says it has all of it that counts as a fault: three round trips around the world. Less,
/// where no more time was left, counts for less.
pub const SILENCE: Duration = Duration::from_secs(1);
/// The same of one that is receiving: twice as long as peers have in all, so that one with a slow origin may be
/// late twice in a row, and is left alone when it is so three times.
pub const SLOW_ORIGIN: Duration = Duration::from_secs(20);
/// Nobody is asked who would have less time than this: few who are far could answer.
pub const LEAST_PATIENCE: Duration = HEDGE_AFTER;
/// Peers that are asked because others named them, for one answer of the index: two a step, down a tree of eight.
pub const MAX_SENT: usize = 16;
/// Slices under way from one peer: one arrives while the next is asked for, and two more where there are few
/// peers. What a peer that turns out wrong has cost.
pub const MAX_OF_SOURCE: usize = 4;
/// How long a slice may take of a peer before another is asked, at least: 4 Mbit/s.
pub const SLICE_LATE: Duration = Duration::from_secs(2);
/// How many times longer than usual it may take, for each that the peer may have under way.
pub const LATE_FACTOR: u32 = 3;
