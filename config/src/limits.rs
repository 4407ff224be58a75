//! The bounds of what an operator may say, each with its reason.

use std::time::Duration;

use crate::value::ByteSize;

/// A configuration file is some hundred lines; whatever is larger is another file given by mistake.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;

/// Entries in one list: addresses, seeds, networks. One node has no use for more.
pub(crate) const MAX_LIST: usize = 256;

/// Each level is a routing table of its own and a step of every lookup; Coral had three in all.
pub(crate) const MAX_LEVELS: usize = 4;

/// Below a millisecond is noise of the scheduler; above ten seconds no cluster is near.
pub(crate) const LEVEL_RTT: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_secs(10));

/// Half of it is for bodies that are arriving: a few large ones at once, each with its window.
pub(crate) const MIN_MEMORY: ByteSize = ByteSize(8 << 20);
/// Eight segments of the smallest size: fewer leave no order among what is kept.
pub(crate) const MIN_DISK: ByteSize = ByteSize(16 << 20);

/// One value a key is no choice; eight with a few contacts fill a datagram.
pub const VALUES_PER_KEY: (usize, usize) = (1, 8);
/// A put waits for as many nodes at once.
pub const COPIES: (usize, usize) = (1, 6);
/// Zero would let nobody through; each request counted is a time that is kept for a minute.
pub(crate) const A_MINUTE: (usize, usize) = (1, 120);
/// Eight bits a hop are a greedy search already.
pub(crate) const HOP_BITS: (usize, usize) = (1, 8);
/// Fewer are no index; more take over 400 MB.
pub(crate) const VALUES: (usize, usize) = (1_024, 1 << 20);
/// Shorter than the renewals of what is being fetched, values would be lost; Coral's own pointers were
/// gone within a day.
pub(crate) const VALUE_TTL: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// Shares in percent.
pub(crate) const PERCENT: (u32, u32) = (1, 100);
/// Sooner, round trips are not measured yet; later, clusters would not follow the day.
pub(crate) const REVIEW: (Duration, Duration) =
    (Duration::from_secs(30), Duration::from_secs(24 * 3600));

/// Client connections: one address has no more ports, and descriptors end sooner.
pub(crate) const CONNECTIONS: (usize, usize) = (1, 65_536);

/// None, or one in so many: beyond a million it is as good as none.
pub(crate) const AUDITS: (u32, u32) = (0, 1_000_000);

/// Eight AAAA records fit well within 512 octets; clients try two or three.
pub(crate) const DNS_ANSWERS: (usize, usize) = (1, 8);

/// Zero defeats resolvers' caches; over an hour a dead node would be named for too long.
pub(crate) const DNS_TTL: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(3600));

/// A timeout of zero fails everything; over an hour it protects nothing.
pub(crate) const TIMEOUT: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_secs(3600));

/// RFC 9111 section 1.2.2 and common practice: nothing is fresh for more than a year.
pub(crate) const FRESHNESS: (Duration, Duration) =
    (Duration::ZERO, Duration::from_secs(365 * 24 * 3600));

/// A name of the form `site.SUFFIX` needs room in the 253 octets that DNS allows.
pub(crate) const MAX_SUFFIX: usize = 120;

/// A mail address has at most 254 octets (RFC 5321, erratum 1690).
pub(crate) const MAX_CONTACT: usize = 254;

/// RFC 1035 section 2.3.4, as text without the trailing dot.
pub(crate) const MAX_NAME: usize = 253;

/// RFC 1035 section 2.3.4.
pub(crate) const MAX_LABEL: usize = 63;
