//! Every bound of the transport, with its reason.

use std::time::Duration;

use crate::limits::{FAR_PING_AFTER, MAX_OUTBOX, MAX_PLAINTEXT, MIN_TIMEOUT};
use crate::transport::datagram::{DATA_OVERHEAD, RESPONSE_OVERHEAD};

/// Octets of a datagram: they pass every path (RFC 8200 requires 1,280 with the headers). An Init is
/// always as long as this, so that a forged source address gains no amplification.
pub(crate) const MAX_DATAGRAM: usize = 1_200;

/// Addresses with sessions or handshakes. Coral's largest deployment had some 500 nodes; a lookup in
/// a network of a million meets some 20 strangers. At 1 KiB each these take 4 MiB.
pub(crate) const MAX_PEERS: usize = 4_096;

/// Sessions with one peer: two of handshakes that crossed on their way, and the one before.
pub(crate) const MAX_SESSIONS: usize = 3;

/// Unanswered handshakes to one peer: a second is tried while the first may yet be answered late.
pub(crate) const MAX_INITIATIONS: usize = 2;

/// Messages waiting for one handshake: the core has few requests to one peer in flight.
pub(crate) const MAX_QUEUED: usize = 8;

/// Seeds being asked who they are; a configuration names a handful.
pub(crate) const MAX_SEEKING: usize = 64;

/// Datagrams waiting to be sent: what the core may say at once, and what waited for a handshake.
pub(crate) const MAX_OUTGOING: usize = MAX_OUTBOX + MAX_QUEUED + 1;

/// A handshake is tried anew when the core sends again after this silence; the core's own timeouts
/// are longer, so each of its repeats makes a new attempt.
pub(crate) const INITIATION_RETRY: Duration = Duration::from_millis(50);

/// An unanswered handshake is forgotten after this; no round trip on Earth takes as long.
pub(crate) const INITIATION_TIMEOUT: Duration = Duration::from_secs(5);

/// A session is not used for sending after this (WireGuard: two minutes; here a handshake costs more
/// beside the small traffic, and an hour bounds what a stolen session key reveals).
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(3_600);

/// A session that nothing came by for so long is dropped: longer than between liveness pings.
pub(crate) const SESSION_IDLE: Duration = Duration::from_secs(300);

/// A session that the peer has not confirmed is dropped after this, as it may be a forger's.
pub(crate) const UNPROVEN_IDLE: Duration = Duration::from_secs(5);

/// After this silence and [`SUSPECT_SENDS`] a session is taken for lost on the other side.
pub(crate) const SUSPECT_AFTER: Duration = Duration::from_secs(1);

/// Messages without an answer before a session is suspected: an answer of ours, and a request.
pub(crate) const SUSPECT_SENDS: u32 = 2;

/// How often tables are swept of what has expired.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Handshakes answered a second, of all peers: each takes some 0.3 ms, so they take a sixth of a core.
pub(crate) const HANDSHAKES_PER_SECOND: u64 = 500;

/// Handshakes answered at once after a silence: a mass restart is let in within seconds.
pub(crate) const HANDSHAKE_BURST: u64 = 1_000;

/// Handshakes answered a second of one prefix (v4 /24, v6 /48): no flooder takes the share of others.
pub(crate) const PREFIX_HANDSHAKES_PER_SECOND: u64 = 10;

/// Handshakes of one prefix answered at once after a silence.
pub(crate) const PREFIX_HANDSHAKE_BURST: u64 = 40;

/// Counters of prefixes; prefixes share them by a keyed hash, so that no flood can make them grow.
pub(crate) const PREFIX_COUNTERS: usize = 1_024;

/// Resets a second: they only speed up what a handshake after a timeout does as well.
pub(crate) const RESETS_PER_SECOND: u64 = 100;

/// Resets sent at once after a silence: a restarted node tells all its neighbours.
pub(crate) const RESET_BURST: u64 = 200;

const _: () = assert!(MAX_PLAINTEXT + RESPONSE_OVERHEAD <= MAX_DATAGRAM);
const _: () = assert!(MAX_PLAINTEXT + DATA_OVERHEAD <= MAX_DATAGRAM);
const _: () = assert!(INITIATION_RETRY.as_millis() < MIN_TIMEOUT.as_millis());
const _: () = assert!(SESSION_IDLE.as_secs() > FAR_PING_AFTER.as_secs());
// Forged handshakes at the full rate expire before they fill the table.
const _: () = assert!(
    HANDSHAKES_PER_SECOND * (UNPROVEN_IDLE.as_secs() + SWEEP_INTERVAL.as_secs()) + HANDSHAKE_BURST
        <= MAX_PEERS as u64
);
