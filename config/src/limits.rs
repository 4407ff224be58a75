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

/// Client connections: one address has no more ports, and descriptors end sooner.
pub(crate) const CONNECTIONS: (usize, usize) = (1, 65_536);

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
