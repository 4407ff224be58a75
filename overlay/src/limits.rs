//! Every bound of the index, with its reason.

use std::time::Duration;

use coralline_config::COPIES;

/// Octets of plaintext in one datagram: 1,200 octets pass every path (RFC 8200 requires 1,280), and
/// the Noise handshake with its framing takes less than 100 of them.
pub const MAX_PLAINTEXT: usize = 1_100;

/// Ids that one public address may have: with eight tries an address cannot choose its place.
pub const PUBLIC_SLOTS: u16 = 8;
/// Contacts that a lookup starts from, and that an answer names (BEP 5): all eight must fail within
/// seconds for a way to be lost.
pub const BUCKET: usize = 8;
/// Places that each bucket has in any case: a hop of a search takes off four to five bits then.
pub const MIN_BUCKET: usize = 24;
/// Contacts in all buckets together, 60 KB of memory. They go where the nodes are: among 490 nodes
/// two searches in three go straight to the nearest node, among 10,000 each bucket has what is due.
pub const MAX_CONTACTS: usize = 352;
/// Levels beside the global one, as the configuration allows.
pub const MAX_LEVELS: usize = 4;
/// Places in a bucket that members of a nearer cluster, and others as near, have in any case: their
/// clusters' own routing tables.
pub const LEVEL_BUCKET: usize = 16;
/// Members that a node must have measured before it joins, if there are as many.
pub const SAMPLES: u32 = 3;
/// A cluster counts for at most so many times the members that were met: liars are few there.
pub const TRUST_FACTOR: u32 = 8;
/// Clusters of others whose size and age are remembered.
pub const MAX_CLAIMS: usize = 64;
/// The first review, and later ones after half a node's age, until they come as the rules have it.
pub const MIN_REVIEW_WAIT: Duration = Duration::from_secs(20);
/// Age from which a cluster is left only for one twice as large.
pub const MATURE_AGE: Duration = Duration::from_secs(1_800);
/// Nodes that store a put in each nearer cluster: it is held wider as well.
pub const LEVEL_COPIES: usize = 1;
/// Nearest nodes of a nearer cluster that must have answered before a search goes on wider.
pub const LEVEL_WIDTH: usize = 1;
/// Near contacts whose clusters are looked at in a review.
pub const EXPLORED: usize = 2;
/// Longest wait for the first measured round trip of a new contact: all are drawn from within it, so
/// that the hundreds that a newcomer meets are not measured at once.
pub const MEASURE_WITHIN: Duration = Duration::from_secs(15);
/// Contacts that wait for a place in a full bucket: for those that fail at once.
pub const REPLACEMENTS: usize = 4;
/// Contacts in an answer: a bucket of them.
pub const MAX_CLOSER: usize = BUCKET;
/// Values of a key in one message, whatever the rules: with a few contacts they fill a datagram.
pub const MAX_VALUES_PER_KEY: usize = coralline_config::VALUES_PER_KEY.1;

/// Holders, and nodes that named them, that a repeated get passes by: four answers of junk. One liar
/// in five gives that many in a row to one get in six hundred.
pub const MAX_EXCEPT: usize = 4 * MAX_VALUES_PER_KEY;

/// Holders of them that a claim names to those it asks, in 8 octets each: four answers of the usual
/// size.
pub const MAX_PASSED: usize = 16;
/// Requests of one lookup that wait for an answer in time (alpha, Kademlia, section 2.3).
pub const ALPHA: usize = 3;
/// Requests of one lookup under way, late ones included: a dead contact must not stop the others.
pub const MAX_OUTSTANDING: usize = 2 * ALPHA;
/// Nearest nodes that must have answered before a lookup for a key ends: a bucket. With one liar in
/// five, fewer are now and then all liars, who have nothing and know nobody. A get ends at the first
/// value: only what is nowhere is looked for so widely.
pub const LOOKUP_WIDTH: usize = BUCKET;
/// The same of a claim, whose decision is the nearest one's: a dead node among them is waited for as
/// long as [`CLAIM_ATTEMPTS`] take, which is most of a query's time.
pub const CLAIM_WIDTH: usize = 4;
/// The same of a lookup that refreshes a bucket of the table: it finds as many as it needs.
pub const REFRESH_WIDTH: usize = 4;
/// Candidates of a lookup: the nearest of what some six answers name.
pub const MAX_CANDIDATES: usize = 48;
/// Requests of one lookup in all: liars who always name somebody nearer end here. An honest lookup
/// among a million nodes takes fewer than twenty.
pub const MAX_STEPS: usize = 40;
/// Steps from the start to a node: one bit a hop would take 20 among a million.
pub const MAX_HOPS: u8 = 24;

/// Queries in flight: at 100 ms each they are more than a thousand a second.
pub const MAX_QUERIES: usize = 128;
/// Requests of this node itself in flight, for liveness, joining and replication.
pub const MAX_UPKEEP_CALLS: usize = 256;
/// Requests in flight over all.
pub const MAX_CALLS: usize = 1_024;
/// Time of one query. Two steps that lose both their datagrams still fit.
pub const QUERY_TIME: Duration = Duration::from_secs(5);

/// Shortest wait for an answer. Distance would allow 50 ms among neighbours, but a loaded small
/// machine may leave a thread unscheduled for 100 ms, and a repeat for nothing loads it further.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(200);
/// Wait where no round trip is known: the planet's longest is some 400 ms, a handshake takes time.
pub const FIRST_TIMEOUT: Duration = Duration::from_millis(750);
/// Longest wait: a node slower than this is as good as gone.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(1);
/// Times that a request is sent: one repeat brings 2 % loss down to 0.2 % failures.
pub const MAX_ATTEMPTS: u8 = 2;
/// Times that a claim is sent: whoever gives the root up wrongly may claim what another has claimed
/// there. At 2 % loss that is one claim in 400,000.
pub const CLAIM_ATTEMPTS: u8 = 4;
/// Times that a way into the network is tried before the next: the only seed may be far and slow, and
/// a late answer still counts.
pub const JOIN_ATTEMPTS: u8 = 4;

/// Neighbours in the directory, all kept alive: a ping each 13 s to 64 is 5 small datagrams a
/// second.
pub const MAX_NEIGHBOURS: usize = 64;
/// Longest silence of a neighbour before it is pinged; the actual one is drawn from the last fifth.
pub const PING_AFTER: Duration = Duration::from_secs(15);
/// Longest silence of a contact that is no neighbour (BEP 5 would allow 15 minutes).
pub const FAR_PING_AFTER: Duration = Duration::from_secs(240);
/// Wait before a contact that failed once is pinged again: longer than a short outage of a path.
pub const PING_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Failures in a row after which a contact is dropped.
pub const MAX_FAILURES: u8 = 2;
/// Age of the last answer up to which a neighbour may be given to clients.
pub const VERIFIED_WITHIN: Duration = Duration::from_secs(60);
/// Wait for more contacts that are due, so that they are pinged together.
pub const PING_SLACK: Duration = Duration::from_secs(1);
/// Newcomers checked at once after a lookup for our own id.
pub const MAX_GREETINGS: usize = 16;

/// Contacts remembered for joining again, the unanswered ones of an earlier run included.
pub const MAX_REMEMBERED: usize = 64;
/// Seeds in use; more names than this are a mistake of the operator.
pub const MAX_SEEDS: usize = 32;
/// Remembered contacts tried in the first round of joining: after a mass restart all are there.
pub const MIN_JOIN_BATCH: usize = 3;
/// Remembered contacts tried in one round of joining; each tries twice as many as the one before.
pub const JOIN_BATCH: usize = 16;
/// Wait after the first round of joining: more than an answer takes from anywhere. A request that fails
/// takes nearly four seconds ([`JOIN_ATTEMPTS`]), and its late answer still counts.
pub const MIN_JOIN_WAIT: Duration = Duration::from_secs(2);
/// Longest wait between rounds: a network that comes back is found within half a minute.
pub const MAX_JOIN_WAIT: Duration = Duration::from_secs(30);
/// From the loss of a contact to the next try of a lost one while joined: one that was restarted
/// and remembers nobody depends on being found.
pub const MIN_RECALL_WAIT: Duration = Duration::from_secs(8);
/// Longest wait between such tries, without end, so that halves of a parted network meet again.
pub const MAX_RECALL_WAIT: Duration = Duration::from_secs(60);
/// Time among others after which a node decides claims when it is met. Its first lookups have ended by
/// then; and what is being fetched (Coral: 20 s, renewed each 10 s) has been put again since it came,
/// so that it knows of claims that another has granted before. Until then a claimant hears the nodes
/// around it first.
pub const SETTLED_AFTER: Duration = Duration::from_secs(30);
/// Contacts that a newcomer asks for more, after its first lookup: half of them may bring a bucket's
/// worth each, and all fill a table.
pub const MAX_SAMPLES: u32 = 96;
/// Remembered contacts greeted beside each.
pub const SAMPLE_GREETINGS: usize = 2;
/// The first of them, which follow each other twice as fast and ask for those near us alone.
pub const HASTY_SAMPLES: u32 = 4;
/// How many of them one that brings nobody new counts for: a small network is soon known.
pub const IDLE_SAMPLE: u32 = 4;
/// Between these: with the greetings that follow it is some 1 KB a second, twice what a node sends
/// in normal times.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Age up to which a node makes its puts once more.
pub const YOUNG_FOR: Duration = Duration::from_secs(20);
/// Wait until the first of them, by when the tables of those who came with it are filled.
pub const AGAIN_AFTER: Duration = Duration::from_secs(25);
/// Time over which all of them are spread.
pub const AGAIN_WITHIN: Duration = Duration::from_secs(15);
/// Puts that are made once more; the application renews them all later.
pub const MAX_AGAIN: usize = 256;
/// From joining to the look at the hints: after the first lookups, and early enough that those named are
/// measured before the first review.
pub const HINT_ASKED_AFTER: Duration = Duration::from_secs(4);
/// From there to this node's own hints: none for a node that is gone at once.
pub const HINT_PUT_AFTER: Duration = Duration::from_secs(16);
/// Time to live of a hint, renewed after two thirds of it: two puts an hour are nothing beside the pings,
/// and a dead node named by one costs a ping.
pub const HINT_TTL: Duration = Duration::from_secs(3_600);
/// Contacts of one hint that a newcomer measures: an answer of the usual size.
pub const MAX_HINTED: usize = 4;
/// Newcomers whose share of this node's values has yet to be handed over.
pub const MAX_NEWCOMERS: usize = 64;
/// How long a node counts as one after it came: those who came together are all handed their share.
pub const NEWCOMER_FOR: Duration = Duration::from_secs(60);
/// From the first of them to the first value: until then the newcomer itself has much to do.
pub const HANDOVER_AFTER: Duration = Duration::from_secs(10);
/// Between the values of one key and those of the next: 200 keys have gone over before the newcomer
/// decides claims, at some 2 KB a second.
pub const HANDOVER_EVERY: Duration = Duration::from_millis(100);
/// Keys looked at in one step, a millisecond's work.
pub const HANDOVER_SCAN: usize = 1_024;
/// Between lookups that refresh a bucket of the table.
pub const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// Between such lookups in a node's first seconds; later a quarter of its age.
pub const MIN_REFRESH_WAIT: Duration = Duration::from_secs(10);

/// Nodes that must say that they are loaded for a put to end before the key: with one liar in five,
/// 1 % of those that meet one end there.
pub const LOADED_WITNESSES: usize = 3;
/// Time to live up to which a put is one of what is being fetched, renewed more often than a node
/// may be passed.
pub const BRIEF_TTL: Duration = Duration::from_secs(60);
/// Keys whose requests are counted, some 2 MB at the most; further ones are not seen to be hot.
pub const MAX_COUNTED_KEYS: usize = 8_192;
/// Keys whose last answer is remembered.
pub const MAX_HOT_KEYS: usize = 1_024;
/// How long a node that has met a loaded one keeps away from the nearest nodes and lives on the
/// answer that it has: a minute, since that is what loaded counts in.
pub const HOT_FOR: Duration = Duration::from_secs(60);
/// A put that repeats one younger than this tells nobody anything new.
pub const REPEAT_AFTER: Duration = Duration::from_secs(30);
/// How long a claim counts whose sender's address may be forged. The sender confirms it when it hears
/// of it: time for a slow round trip and one repeat.
pub const PROVISIONAL_TTL: Duration = Duration::from_secs(3);
/// Such claims within [`PROVISIONAL_TTL`]; whoever sends more must first prove its address, which
/// costs a round trip. A network that misses 100 pages a second at one root does not come here.
pub const MAX_PROVISIONAL: usize = 256;
/// Share of all values that holders of one neighbourhood may have, as a divisor: it cannot fill the
/// index, however many identities it draws.
pub const SOURCE_SHARE: usize = 4;
/// Nodes that a withdrawal is sent to.
pub const MAX_WITHDRAWALS: usize = BUCKET;

/// Octets of a message to the whole network: with what every message says, a datagram.
pub const MAX_BROADCAST: usize = 1_000;
/// Such messages remembered, a minute at least: 256 KB. A network that purges four pages a second.
pub const MAX_BROADCASTS: usize = 256;
/// New ones that one node may tell another of in a minute: a node hears those of all others from few.
pub const BROADCASTS_PER_MINUTE: usize = 120;
/// Messages that one node may send to the whole network in a minute, of which all nodes see to it: a
/// purge a second.
pub const BROADCASTS_PER_ORIGIN: usize = 60;
/// How far the clock of a sender may be from that of a receiver (RFC 4120 has it so too); what is older is
/// dropped, and what is younger is known if it comes again.
pub const BROADCAST_WINDOW: Duration = Duration::from_secs(300);
/// Messages known by their time and sender: what comes in a window before and one after now, at the pace
/// of [`MAX_BROADCASTS`] a minute.
pub const MAX_OPENED: usize = 4_096;
/// Messages that wait for whoever listens; the oldest goes first, and is counted.
pub const MAX_HEARD: usize = 256;
/// Contacts of a bucket that are told until one answers: one in twenty dead leaves 1 in 8,000.
pub const BROADCAST_TRIES: u8 = 3;
/// Buckets of a table at the most, by the bits that are compared.
pub const MAX_DEPTH: u8 = 64;

/// Transmissions and events between two drains: a request to each node that one change can reach.
pub const MAX_OUTBOX: usize = MAX_CALLS + MAX_QUERIES;

/// Calls that wait for the driver: it takes one between two datagrams, so that more than a few wait
/// only on a machine that is overloaded.
pub const MAX_COMMANDS: usize = 256;
/// A call of a [`crate::Overlay`] through its driver ends by then whatever happens: the query's own
/// bound, and time to be scheduled.
pub const CALL_DEADLINE: Duration = QUERY_TIME.saturating_add(Duration::from_secs(1));
/// Addresses of one seed's name that are tried: a name may stand for many seeds.
pub const MAX_SEED_ADDRESSES: usize = 8;
/// Time to resolve one name; a resolver that is not there must not hold up the start.
pub const MAX_RESOLUTION: Duration = Duration::from_secs(5);
/// First pause before names are resolved again while not joined: a network may be just coming up.
pub const MIN_RESOLVE_WAIT: Duration = Duration::from_secs(2);
/// Longest pause before names are resolved again: spares the name servers.
pub const MAX_RESOLVE_WAIT: Duration = Duration::from_secs(60);
/// First pause before contacts are saved: a young node that is killed should not be lost.
pub const MIN_SAVE_WAIT: Duration = Duration::from_millis(250);
/// Longest pause before contacts are saved, if they have changed: they are a way back, not a
/// record.
pub const MAX_SAVE_WAIT: Duration = Duration::from_secs(60);
/// Octets read of the file of saved contacts: three times what [`MAX_REMEMBERED`] and all
/// [`MAX_NEIGHBOURS`] take.
pub const MAX_SAVED: u64 = 64 << 10;
/// Octets of the kernel's receive buffer, if it grants them: a burst of 800 of the longest
/// datagrams waits there while the driver is not scheduled.
pub const RECEIVE_BUFFER: usize = 1 << 20;

const _: () =
    assert!(MAX_OPENED as u64 >= 2 * BROADCAST_WINDOW.as_secs() / 60 * MAX_BROADCASTS as u64);
const _: () = assert!(MAX_CALLS >= MAX_QUERIES * MAX_OUTSTANDING + MAX_UPKEEP_CALLS);
const _: () = assert!(COPIES.1 <= LOOKUP_WIDTH && LOOKUP_WIDTH <= BUCKET);
const _: () = assert!(COPIES.1 <= MAX_OUTSTANDING);
const _: () = assert!(COPIES.1 <= MAX_WITHDRAWALS);
const _: () = assert!(MAX_CANDIDATES >= 2 * MAX_CLOSER && MAX_STEPS <= MAX_CANDIDATES);
const _: () = assert!(MAX_GREETINGS + MAX_NEIGHBOURS + JOIN_BATCH + MAX_SEEDS <= MAX_UPKEEP_CALLS);
const _: () = assert!(PROVISIONAL_TTL.as_millis() > 2 * MAX_TIMEOUT.as_millis());
const _: () = assert!(MIN_TIMEOUT.as_millis() < FIRST_TIMEOUT.as_millis());
const _: () = assert!(FIRST_TIMEOUT.as_millis() < MAX_TIMEOUT.as_millis());
// A killed node leaves the directory long before DNS would have to distrust it.
const _: () = assert!(
    PING_AFTER.as_secs()
        + PING_AGAIN_AFTER.as_secs()
        + 2 * MAX_ATTEMPTS as u64 * MAX_TIMEOUT.as_secs()
        < VERIFIED_WITHIN.as_secs()
);
