//! Every bound of the proxy, with its reason. Full means refuse, never grow.

use std::time::Duration;

/// Longest request target in octets (RFC 9110, section 4.1, asks for at least 8,000).
pub(crate) const MAX_URI: usize = 8 * 1024;
/// Most octets of a request's header section; common servers allow 8 to 32 KiB.
pub(crate) const MAX_REQUEST_HEAD: usize = 32 * 1024;
/// Most octets of content that one request brings to a site. It is passed on as it comes and takes no memory;
/// the bound is for the origin's sake.
pub(crate) const MAX_REQUEST_BODY: u64 = 4 << 30;
/// Read buffer of a client connection: room for a URL beyond what HTTP libraries can hold, so that it
/// is told 414 and not 431.
pub(crate) const REQUEST_BUFFER: usize = 96 * 1024;
/// Most header fields of a request or a response.
pub(crate) const MAX_FIELDS: usize = 128;
/// Most octets of a response's header section from an origin or a peer.
pub(crate) const MAX_RESPONSE_HEAD: usize = 64 * 1024;
/// A client whose content is waited for has to send this much in [`UPLOAD_PERIOD`] of waiting, or is told 408:
/// slow content must not hold the places of [`MAX_PASSING`]. Below the slowest modem.
pub(crate) const MIN_UPLOAD: u64 = 8 << 10;
/// See [`MIN_UPLOAD`].
pub(crate) const UPLOAD_PERIOD: Duration = Duration::from_secs(30);
/// Longest host name in octets (RFC 1035, section 2.3.4).
pub(crate) const MAX_NAME: usize = 253;
/// Longest label in octets (RFC 1035, section 2.3.4).
pub(crate) const MAX_LABEL: usize = 63;

/// Fetches in flight at once. Each is a task, a socket and a window of memory; a request that would
/// start one more is told 503.
pub(crate) const MAX_FLIGHTS: usize = 512;
/// Fetches in flight from one origin: an origin that drips does not take all of them.
pub(crate) const MAX_FLIGHTS_PER_ORIGIN: usize = MAX_FLIGHTS / 4;
/// A flight that nobody reads any more has to bring this much in [`RATE_PERIOD`], or is given up.
pub(crate) const MIN_PROGRESS: u64 = 256 << 10;
/// See [`MIN_PROGRESS`].
pub(crate) const RATE_PERIOD: Duration = Duration::from_secs(30);
/// What a flight may hold once it can no longer be kept whole: enough to bridge readers of uneven
/// speed, little enough that `MAX_FLIGHTS` of them still fit a small machine.
pub(crate) const OVERFLOW_WINDOW: u64 = 256 << 10;
/// What a piece of a body costs beside its octets: an allocation and an entry.
pub(crate) const PIECE_OVERHEAD: u64 = 96;
/// Pieces smaller than this are copied and joined, lest each pin a whole read buffer.
pub(crate) const SMALL_PIECE: usize = 16 * 1024;
/// Bodies up to this length may use the last eighth of the memory for arriving bodies, of which larger
/// ones have [`LARGE_SHARE`] eighths.
pub(crate) const SMALL_BODY: u64 = 1 << 20;
/// See [`SMALL_BODY`].
pub(crate) const LARGE_SHARE: u64 = 7;
/// How long octets from the origin wait for more before they are signed: a slow origin's reach the peers as
/// they come, and few are signed twice.
pub(crate) const SEAL_DELAY: Duration = Duration::from_millis(20);
/// Most octets of the nodes of a proof that is kept on disk beside the fields of a response, which leave room
/// for those of 6 MiB. Longer ones stand by themselves.
pub(crate) const MAX_KEPT_PROOF: usize = 23 << 10;
/// Memory for proofs that are read from disk while peers are shown them, in KiB: two of the longest, or four
/// hundred of 20 MiB. All who are shown the same share it. Who comes beyond may come again.
pub(crate) const PROOFS_READ: usize = 33 << 10;
/// How often in a row one transfer that broke may go on from where it stood.
pub(crate) const MAX_RESUMES: u32 = 3;
/// Octets of one body that are proved to peers: a proof takes 64 for each 16 KiB, 16 MiB for all of this.
/// Whoever follows a longer one goes on at the origin.
pub(crate) const MAX_PROVED: u64 = 4 << 30;
/// How long another source is looked for where one has broken, before the origin is asked: the index needs
/// some seconds to find out which of its nodes have died with it, and who asks the origin too soon asks for
/// what another is asking for. Readers have waited less than their own patience then.
pub(crate) const RESUME_BUDGET: Duration = Duration::from_secs(20);
/// Octets after which a transfer that goes on counts as well again.
pub(crate) const RESUME_PROGRESS: u64 = 1 << 20;
/// How long a peer that has all of it may be silent midway, before another is asked.
pub(crate) const PEER_STALL: Duration = Duration::from_secs(3);
/// The same of one that is receiving it: whom it has it from may be slow, or just lost, and it may be looking for
/// another. That its host is dead shows much sooner, by [`PEER_PING`].
pub(crate) const RECEIVING_STALL: Duration = Duration::from_secs(25);
/// Octets a second below which a peer that has all of it is left for another: half of a thin home uplink.
pub(crate) const MIN_PEER_RATE: u64 = 32 << 10;
/// How long one waits for a peer's octets, all waits together, before its rate is judged.
pub(crate) const PEER_RATE_PERIOD: Duration = Duration::from_secs(5);
/// How long a reader may hold up others in a flight that can no longer be kept whole, before it is cut.
pub(crate) const READER_LAG: Duration = Duration::from_secs(1);
/// How long it may hold up the flight if it holds up nobody else.
pub(crate) const READER_STALL: Duration = Duration::from_secs(30);
/// How long a client may neither take anything of a response nor ask for anything before its connection
/// is closed. At its end a connection has at most half a megabyte still to write.
pub(crate) const STALL: Duration = Duration::from_secs(120);

/// Connections of peers held at once; more are closed at once.
pub(crate) const MAX_PEER_CONNECTIONS: usize = 1024;
/// Of these, connections of one public IPv4 address or IPv6 /56: eight nodes may be at an address, which have
/// one each, and another while they replace that. With [`MAX_PEER_STREAMS`] each, nobody is asked more.
pub(crate) const MAX_PEER_CONNECTIONS_PER_PREFIX: usize = 16;
/// Of these, such that have not yet shown who they are: a handshake costs the one who asks for it nothing.
pub(crate) const MAX_PEER_HANDSHAKES_PER_PREFIX: usize = 8;
/// Streams of one HTTP/2 connection.
pub(crate) const MAX_H2_STREAMS: u32 = 100;
/// A client that has sent no complete head for this long is closed: slow heads and idle keep-alive.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest TLS handshake of a client.
pub(crate) const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is held for one HTTP/2 stream whose client does not take it.
pub(crate) const H2_SEND_BUFFER: usize = 64 * 1024;
/// How often an idle HTTP/2 connection is asked whether it still lives.
pub(crate) const H2_PING: Duration = Duration::from_secs(20);

/// How long the index may take to locate. A cold claim across the planet takes half a second, one in a
/// hundred twice that; one that meets a dead node takes four, and so does one on a machine that is overloaded:
/// whoever goes to the origin then without having been told does so with all the others.
pub(crate) const LOCATE_BUDGET: Duration = Duration::from_secs(5);
/// Connections to origins, idle ones included; a request that would open one more is told 503.
pub(crate) const MAX_ORIGIN_CONNECTIONS: usize = 1024;
/// Most octets of an origin's response that are read although nobody wants them, so that the connection can
/// be used again: an error page. A new connection costs less than more would.
pub(crate) const MAX_DISCARDED: u64 = 64 << 10;
/// How long that may take. It holds a place of [`MAX_ORIGIN_CONNECTIONS`].
pub(crate) const DISCARD_PATIENCE: Duration = Duration::from_secs(5);
/// How long the peers of one answer of the index may take to begin theirs. A peer that is receiving may be
/// waiting for the origin itself.
pub(crate) const PEER_BUDGET: Duration = Duration::from_secs(10);
/// How long peers are asked in all before the origin is asked without the index having said so: as long as
/// an origin itself may take to begin. Where it is slow, a crowd of nodes that loses patience would finish it.
pub(crate) const PEERS_PATIENCE: Duration = Duration::from_secs(30);
/// Peers that a node feeds of a body that is arriving, in any case. A tree of four reaches some 5,000 nodes
/// in six steps; and a node at home sends four copies, not hundreds.
pub(crate) const MIN_FOLLOWERS: usize = 4;
/// And at the most, of short bodies.
pub(crate) const MAX_FOLLOWERS: usize = 64;
/// Octets that it may send to all of them, where that makes for more than [`MIN_FOLLOWERS`]: a second of
/// 8 Mbit/s.
pub(crate) const FED_AT_ONCE: u64 = 1 << 20;
/// Nodes between one that feeds others and the origin: each adds a round trip, and a death midway.
pub(crate) const MAX_CHAIN: u8 = 8;
/// Peers that a refused one is sent to.
pub(crate) const MAX_NAMED: usize = 2;
/// Addresses to which others may send one search in all: the way down a tree, several times. A liar who names
/// strangers costs each of them one connection that fails.
pub(crate) const MAX_SENT_TO: usize = 48;
/// Places that one peer may have: the one that it has lost and the one that it wants instead.
pub(crate) const MAX_PLACES_OF_ONE: usize = 2;
/// And all that come from one public address: strangers cannot take all places by many keys.
pub(crate) const MAX_PLACES_OF_ADDRESS: usize = 2;
/// How long one that was sent there waits for the head: it is on its way from who sent it.
pub(crate) const SENT_PATIENCE: Duration = Duration::from_secs(1);
/// Times that the index is asked again past holders that had nothing to give, before the origin is asked:
/// each may take [`LOCATE_BUDGET`]. Peers have [`PEERS_PATIENCE`] in all.
pub(crate) const MAX_RELOCATIONS: usize = 8;
/// Wait before a peer is asked again that looks for a source itself: time for the index to decide whose turn
/// it is, with a few hundred milliseconds to the node that does.
pub(crate) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Longest freshness that is taken on a peer's word.
pub(crate) const MAX_PEER_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longest connection set-up to a peer, TCP and TLS: four times the two round trips around the world, and two
/// packets that are lost on the way. In a crowd who gives up too soon takes a living claimant for dead, and goes to
/// the origin itself.
pub(crate) const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a peer that is to send something is asked whether it still lives: a claimant without power is
/// replaced within seconds, while one whose origin is slow is waited for.
pub(crate) const PEER_PING: Duration = Duration::from_secs(3);
/// How long it may take to say so: a small machine with much to do is not dead.
pub(crate) const PEER_PING_TIMEOUT: Duration = Duration::from_secs(6);
/// Peers to which a connection is kept open while it is used, and for [`IDLE_TIMEOUT`] after.
pub(crate) const MAX_PEERS: u64 = 1024;
/// Requests to one peer under way at once; others wait for their turn. A crowd of large objects that all lie
/// with one peer is better off elsewhere.
pub(crate) const MAX_PEER_STREAMS: u32 = 256;
/// Octets of one response that a peer may send before they are taken: a long line of 100 Mbit/s and 80 ms.
pub(crate) const PEER_STREAM_WINDOW: u32 = 1 << 20;
/// And of all responses of one connection.
pub(crate) const PEER_CONNECTION_WINDOW: u32 = 4 << 20;
/// Idle connections kept to one peer or origin.
pub(crate) const MAX_IDLE_PER_HOST: usize = 16;
/// How long such a connection is kept.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections on which a request is tried in all, as the origin closes one after the other that was kept: an
/// origin that was restarted has closed them all, and they are few.
pub(crate) const STALE_TRIES: u32 = 4;
/// How long an origin that could not be connected to is left alone, at first; doubled with each failure after.
pub(crate) const FAILING_MIN: Duration = Duration::from_secs(1);
/// And at the longest: a dead origin costs its visitors one attempt in this time.
pub(crate) const FAILING_MAX: Duration = Duration::from_secs(60);
/// Failing origins remembered.
pub(crate) const MAX_FAILING: u64 = 4096;
/// How long an upgraded connection may be silent in both directions: above the minute at which chats ping.
pub(crate) const TUNNEL_IDLE: Duration = Duration::from_secs(300);
/// Buffer of an upgraded connection, for each direction.
pub(crate) const TUNNEL_BUFFER: usize = 16 * 1024;

/// Addresses of one name that are tried.
pub(crate) const MAX_ADDRESSES: usize = 4;
/// How long https is given when a plain http client named no port and https is tried first.
pub(crate) const HTTPS_FIRST_TIMEOUT: Duration = Duration::from_secs(2);
/// Origins whose scheme is remembered, and for how long.
pub(crate) const MAX_SCHEMES: u64 = 16 * 1024;
/// See [`MAX_SCHEMES`].
pub(crate) const SCHEME_MEMORY: Duration = Duration::from_secs(600);

/// Ranges of one request that are served in one response; a request for more gets the whole.
pub(crate) const MAX_RANGES: usize = 16;
/// Fields that a response may name in Vary and still be kept; more are a sign of one for each asker.
pub(crate) const MAX_VARY_FIELDS: usize = 8;
/// Variants of one resource that are kept; the one that came first goes when there are more.
pub(crate) const MAX_VARIANTS: usize = 16;
/// Cache groups of one response that are heeded (RFC 9875, section 2.1, asks for 32 at least).
pub(crate) const MAX_GROUPS: usize = 64;
/// Longest name of a cache group in octets (RFC 9875, section 2.1, asks for 32 at least).
pub(crate) const MAX_GROUP_NAME: usize = 128;
/// How soon after its last validation a suffixed page is validated again because a client reloads: a crowd
/// that reloads costs its origin one request in this time.
pub(crate) const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// How long a request waits for the end of a fetch whose response may not answer it, so as to have that
/// validated; then it goes alone.
pub(crate) const INSIST_PATIENCE: Duration = Duration::from_millis(100);
/// Validations in the background at once, for copies that are used meanwhile; a copy for which there is no
/// place is validated when the next client asks.
pub(crate) const MAX_BACKGROUND: usize = 64;
/// Most octets of interim responses that wait for one client; what is beyond is left out. A page's early
/// hints take one or two KiB, and a socket's buffer has room for this.
pub(crate) const MAX_INTERIM: usize = 16 * 1024;
/// Requests that are passed to origins for one client each, at once; one more is told 503.
pub(crate) const MAX_PASSING: usize = 512;
/// URLs remembered as not for all, so that requests for them need not wait for each other, and how long.
pub(crate) const MAX_UNSHARED: u64 = 16 * 1024;
/// See [`MAX_UNSHARED`].
pub(crate) const UNSHARED_MEMORY: Duration = Duration::from_secs(120);

/// How long a pointer to something still arriving lives (Coral: 20 s, renewed).
pub(crate) const RECEIVING_TTL: Duration = Duration::from_secs(20);
/// How often it is renewed.
pub(crate) const RECEIVING_RENEWAL: Duration = Duration::from_secs(10);
/// Longest life of a pointer to something whole (Coral: one to two hours).
pub(crate) const WHOLE_TTL: Duration = Duration::from_secs(3600);
/// How soon an announcement that failed may be tried again.
pub(crate) const ANNOUNCE_RETRY: Duration = Duration::from_secs(10);
/// Anything fresh for less than this is not worth a pointer.
pub(crate) const MIN_ANNOUNCED_TTL: Duration = Duration::from_secs(5);
/// Keys that are withdrawn when the node leaves, beside those in memory: what has left memory for the disk
/// since [`WHOLE_TTL`]. Their withdrawals would take longer than the end may.
pub(crate) const MAX_LAST_WITHDRAWALS: u64 = 1 << 16;
/// Keys waiting to be withdrawn from the index after an eviction or a purge; what does not fit expires by itself.
pub(crate) const MAX_WITHDRAWALS: usize = 1024;

/// How often evictions that are due happen and gauges are set.
pub(crate) const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// Withdrawals under way at once.
pub(crate) const WITHDRAW_PARALLEL: usize = 32;
/// Pause after a failed accept.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest detail that is shown or sent, in characters.
pub(crate) const MAX_DETAIL: usize = 300;
/// Delta seconds beyond what can be told are as good as for ever (RFC 9111, section 1.2.2).
pub(crate) const MAX_DELTA: u64 = 1 << 31;

/// Share of `cache.memory` that the index of what is on disk may take beside it: two million responses with
/// the usual 256 MiB, of which a million are held with ease; what is not used is not taken.
pub(crate) const DISK_INDEX_SHARE: u64 = 2;
/// Share of `cache.disk` that one response may take: an image of a DVD in the usual 10 GiB.
pub(crate) const DISK_LARGEST_SHARE: u64 = 2;
/// Share of `cache.memory` that may wait to be written: what the disk is behind is not to crowd out what
/// arrives.
pub(crate) const DISK_QUEUE_SHARE: u64 = 8;
/// Responses that wait to be written.
pub(crate) const DISK_JOBS: usize = 1_024;
/// Threads that read at once: more than a disk has heads, fewer than disturb the others.
pub(crate) const DISK_READERS: usize = 32;
/// Large responses written at once, each by a thread; more pass without being kept.
pub(crate) const DISK_STREAMS: usize = 64;
/// Share of `cache.memory` for the windows of those that are written.
pub(crate) const DISK_WINDOWS_SHARE: u64 = 8;
/// How long a transfer waits for the disk before it goes on without: a plain disk writes what it lags behind
/// in a tenth of that.
pub(crate) const DISK_PATIENCE: Duration = Duration::from_secs(10);
/// How far ahead of our clock a stored response may seem to have come: a clock that was wrong once is not
/// believed for ever.
pub(crate) const CLOCK_SLACK: Duration = Duration::from_secs(60);
/// Pieces of one of them that wait for the disk, before the transfer does.
pub(crate) const STREAM_PIECES: usize = 4;
/// Octets read from disk at a time, for one client: a few blocks, so that a thread is worth its while.
pub(crate) const DISK_READ: usize = 256 << 10;
/// What a flight holds in memory that is written to disk as it arrives, and the longest body of that kind
/// that stays in memory: more than the disk may be behind, which is a slice and [`STREAM_PIECES`] of the
/// largest pieces that a connection reads at once.
pub(crate) const DISK_WINDOW: u64 = 4 << 20;

/// Slices that one request to an origin brings at most: enough that its round trip does not count, and little
/// enough that a client who leaves has not cost much.
pub(crate) const MAX_RUN: u32 = 16;
/// How many slices ahead of a reader the next run is begun, with the one in which it stands: so that it does
/// not wait for a round trip between two.
pub(crate) const SLICES_AHEAD: u32 = 2;
/// Length in octets from which what several peers hold whole is fetched from them in slices: below, one stream is
/// over before a second connection is worth it.
pub(crate) const MIN_SHARED: u64 = 8 << 20;
/// Peers of which one run is fetched: as many as the index names at two levels.
pub(crate) const MAX_SOURCES: usize = 8;
/// Slices of one run under way from peers: 8 MiB of memory, and enough that each of four sources has its next
/// before the last has ended. Each beyond the first takes a place of [`MAX_RUNS`], if one is free.
pub(crate) const MAX_SHARED: usize = 8;
/// How long those whom the index named as holders of the whole are asked for slices before it is asked again.
pub(crate) const HOLDERS_MEMORY: Duration = Duration::from_secs(10);
/// Claims of slices under way: a quarter of what the index has in flight for one node, lest those who want other
/// things wait.
pub(crate) const MAX_CLAIMS: usize = 32;
/// Slices of something unknown that are claimed before it is known how long it is: most ranges are shorter, and
/// what is beyond the end is claimed in vain.
pub(crate) const MAX_OPENING: u32 = 4;
/// How often a slice is claimed past those who had nothing to give, before the origin is asked all the same.
pub(crate) const CLAIM_ROUNDS: usize = 4;
/// Slices whose receipts are remembered, with the fields of their responses, half a KiB each: 16 GiB of slices.
/// What is held beyond is for this node's clients.
pub(crate) const MAX_VOUCHED: u64 = 16_384;
/// Objects of which it is remembered who holds them whole.
pub(crate) const MAX_HOLDERS: u64 = 1024;
/// Slices that are arriving or waiting to be asked for, in all; a reader who needs one more fails.
pub(crate) const MAX_SLICES: usize = 512 * MAX_RUN as usize;
/// The same of one origin: one that drips does not take all of them.
pub(crate) const MAX_SLICES_PER_ORIGIN: usize = MAX_SLICES / 4;
/// Runs under way at once, each with a slice in memory, half of them of one origin; others wait for their turn.
pub(crate) const MAX_RUNS: usize = 64;
/// Share of `cache.memory` for the slices that are arriving.
pub(crate) const SLICES_SHARE: u64 = 8;
/// How long a run waits for its turn before it fails: as long as a client may be left waiting.
pub(crate) const RUN_PATIENCE: Duration = STALL;
/// Octets of an arriving slice that a reader is given at a time, as a copy: what a slow client has not taken
/// keeps no slice in memory.
pub(crate) const SLICE_PIECE: usize = 64 << 10;
/// How often a reader tries to get the same octets before it gives up: once more, after what others fetched
/// for themselves has failed.
pub(crate) const SLICE_TRIES: u32 = 2;
/// How often a request is begun again because what was held of its resource turned out to have changed.
pub(crate) const MAX_AGAIN: u32 = 2;
/// Longest object of which a part is asked for that is fetched whole all the same, in slices: the rest is
/// cheaper now than by another request.
pub(crate) const SMALL_SLICED: u32 = 4;
/// Versions of which it is remembered what was signed to be the whole of them, some hundred octets each: more than
/// are fetched from peers at a time.
pub(crate) const MAX_ROOTS: u64 = 4096;
/// Versions remembered that are known to have changed: their readers need not find out one by one.
pub(crate) const MAX_OUTDATED: u64 = 4096;

/// Share of `cache.memory` for what is stored; the rest is for what is arriving.
pub(crate) const STORED_SHARE: u64 = 2;
/// What a stored object weighs beside its body and header fields: map entries, reference counts.
pub(crate) const ENTRY_OVERHEAD: u64 = 512;
/// What its proof weighs beside the nodes: a receipt with its URI.
pub(crate) const PROOF_OVERHEAD: u64 = 384;

const _: () = assert!(RECEIVING_RENEWAL.as_secs() * 2 <= RECEIVING_TTL.as_secs());
const _: () = assert!(MIN_ANNOUNCED_TTL.as_secs() < RECEIVING_TTL.as_secs());
const _: () = assert!(MAX_URI < MAX_REQUEST_HEAD && MAX_REQUEST_HEAD < REQUEST_BUFFER);

/// Connections that were upgraded and go through: they stay for hours, and must not take the places of others.
pub(crate) const MAX_TUNNELS: usize = 512;

/// Purges remembered: each site of a small node may purge some hundred URLs before the first of them has
/// run out; whoever has more purges a prefix.
pub(crate) const MAX_PURGES: usize = 65_536;
/// Octets of what they name: few URLs are longer than a hundred.
pub(crate) const MAX_PURGE_OCTETS: usize = 8 << 20;

/// Purges that wait to be written down; with more of them all rules are written instead.
pub(crate) const MAX_PURGE_NOTES: usize = 1_024;
/// Lines that the file of purges may have beyond two for each rule, before it is written anew.
pub(crate) const PURGE_LOG_SLACK: usize = 1_024;

/// Tags of one response that a purge may name; what a page is made of, and no more.
pub(crate) const MAX_TAGS: usize = 256;

/// Octets of a tag: Cloudflare allows 1,024 in all, nobody needs one half as long.
pub(crate) const MAX_TAG: usize = 256;
const _: () = assert!(RESUME_BUDGET.as_secs() > PEER_BUDGET.as_secs());
const _: () = assert!(RECEIVING_STALL.as_secs() > RESUME_BUDGET.as_secs());
const _: () = assert!(
    PROOFS_READ as u64 * 1024 >= 2 * (MAX_PROVED / coralline_receipt::limits::GROUP * 64 + 1024),
    "two of the longest proofs are read at a time"
);
const _: () = assert!(coralline_sources::limits::MAX_SENT == MAX_NAMED * MAX_CHAIN as usize);

/// Longest response in octets that is fetched again to be audited: an origin is not burdened by what is for its
/// relief.
pub(crate) const MAX_AUDITED: u64 = 8 << 20;
/// Audits that wait for their turn; more are not made.
pub(crate) const MAX_AUDITS: usize = 4;
/// Between two audits: six a minute, each of two requests to an origin at the most.
pub(crate) const AUDIT_PAUSE: Duration = Duration::from_secs(10);
/// How long one request of an audit may take.
pub(crate) const AUDIT_PATIENCE: Duration = Duration::from_secs(60);
/// Contradictions that are kept, the latest, at two receipts each.
pub(crate) const MAX_EVIDENCE: usize = 64;
/// Signers of whom others have said that they lie.
pub(crate) const MAX_SUSPECTS: u64 = 1_024;
/// And how long that is remembered.
pub(crate) const SUSPECT_MEMORY: Duration = Duration::from_secs(3_600);
/// Of what they have signed, one in so many is audited: ten times as often as by default. Of a crowd of nodes that
/// all have one response from a node that somebody has accused, one in a hundred asks the origin again, and no more.
pub(crate) const SUSPECT_SHARE: u32 = 100;
