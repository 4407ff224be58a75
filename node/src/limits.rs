//! Every bound of the program, with its reason.

use std::time::Duration;

/// How long requests in flight may take to end after SIGTERM. Service managers wait 10 s (Docker) to
/// 90 s (systemd) before they kill; whoever is still reading then resumes with a Range elsewhere.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long the last farewells of the overlay may take once the drain is over.
pub(crate) const FAREWELL_DEADLINE: Duration = Duration::from_secs(2);

/// Connections to the admin listener at once: a few scrapers, a few people.
pub(crate) const ADMIN_CONNECTIONS: usize = 64;

/// How long an admin client may take to send a request head; a scraper needs milliseconds.
pub(crate) const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an admin connection may live; a scraper opens another, a forgotten one ends.
pub(crate) const ADMIN_CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// Octets of a body at the admin listener: a thousand URLs of a hundred octets.
pub(crate) const MAX_ADMIN_BODY: usize = 256 << 10;

/// Octets of an answer that `coralline purge` reads.
pub(crate) const MAX_ADMIN_ANSWER: usize = 64 << 10;

/// How long `coralline purge` waits for the node; the purge itself takes no time.
pub(crate) const PURGE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a listener rests when accepting fails, as it does when no file descriptor is left.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long the three nodes of the demo may take to find each other; on loopback it is milliseconds.
pub(crate) const DEMO_JOIN_DEADLINE: Duration = Duration::from_secs(15);

/// Connections to the demo's origin at once: three nodes and a curious browser.
pub(crate) const ORIGIN_CONNECTIONS: usize = 256;

/// Octets a second that the demo's origin can send, over all its connections: 4 Mbit/s, a home's
/// uplink, so that the difference which the network makes can be seen.
pub(crate) const UPLINK_RATE: u64 = 4_000_000 / 8;

/// Octets that a connection takes from the uplink at a time: 8 ms of it, so that all of them move.
pub(crate) const UPLINK_CHUNK: usize = 4096;

/// The large file of the demo: half a minute of the uplink.
pub(crate) const LARGE_FILE: usize = 16 << 20;

/// Paths that the demo's origin counts one by one; further ones are counted together.
pub(crate) const COUNTED_PATHS: usize = 64;

const _: () = assert!(UPLINK_CHUNK as u64 * 100 < UPLINK_RATE * 2, "a chunk is a moment's worth");
