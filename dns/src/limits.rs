//! The bounds of the name server, each with its reason.

use std::time::Duration;

/// The largest UDP response, and what we tell clients that we take: it passes any path of IPv6's
/// least MTU without fragments (DNS Flag Day 2020).
pub(crate) const MAX_UDP_RESPONSE: u16 = 1232;

/// RFC 1035 section 4.2.1: the largest UDP response for a client without EDNS.
pub(crate) const MIN_UDP_RESPONSE: u16 = 512;

/// RFC 1035 section 4.2.2: a TCP message has a length of two octets.
pub(crate) const MAX_TCP_MESSAGE: u16 = u16::MAX;

/// A query is a name and an OPT record. A longer datagram is cut and so unreadable; a longer TCP
/// message ends its connection.
pub(crate) const MAX_QUERY: usize = 4096;

/// An OPT, a TSIG, the SOA of an IXFR: no query needs more records beside its question.
pub(crate) const MAX_QUERY_RECORDS: usize = 16;

/// RFC 7871 section 6: family, two prefix lengths, and at most an IPv6 address.
pub(crate) const MAX_SUBNET: usize = 4 + 16;

/// Name servers in one answer: one may be dead and another far, and three keep the answer small.
pub(crate) const NAME_SERVERS: usize = 3;

/// Nearest nodes that take turns in the answers, as a multiple of the addresses in one answer: a
/// crowd behind one resolver is spread over more nodes than one answer names.
pub(crate) const POOL_FACTOR: usize = 2;

/// The address of a name server is in its name, so only its life can change: long enough that the
/// delegation is not asked for at each turn, short enough that a dead server is forgotten.
pub(crate) const NS_TTL: u32 = 600;

/// RFC 2308: for how long "no such data" is kept. A family that no node has may come at any time.
pub(crate) const NEGATIVE_TTL: u32 = 30;

/// What RFC 8482 answers to ANY never changes.
pub(crate) const ANY_TTL: u32 = 3600;

/// UDP queries answered before the other tasks of the thread get their turn.
pub(crate) const UDP_BATCH: usize = 64;

/// Room for a burst of some thousand queries while the thread is busy.
pub(crate) const UDP_RECEIVE_BUFFER: usize = 1 << 20;

/// After an error of a socket other than "nothing there": keeps a lasting one from spinning.
pub(crate) const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// TCP is for the rare truncated answer: connections per listener, each of a few KiB.
pub(crate) const TCP_CONNECTIONS: usize = 512;

/// Connections that the kernel holds before we take them.
pub(crate) const TCP_BACKLOG: i32 = 256;

/// RFC 7766 section 6.2.3 asks for seconds: time for a query to come and for its answer to go.
pub(crate) const TCP_IDLE: Duration = Duration::from_secs(10);

/// Queries of one connection, so that a busy client gives way to others now and then.
pub(crate) const TCP_QUERIES: usize = 1000;

/// Tries to find a port that is free for both UDP and TCP when the kernel chooses (port 0).
pub(crate) const PORT_TRIES: usize = 16;

const _: () = assert!(MIN_UDP_RESPONSE <= MAX_UDP_RESPONSE);
const _: () = assert!(MAX_UDP_RESPONSE as usize <= MAX_QUERY);
