//! Who has it, and who is near: ids, routing, lookups and the index of pointers.
//!
//! # Map
//! | module | what it is |
//! |---|---|
//! | `node` | [`Overlay`], the core: in and out (`ask`, `answer`, `upkeep`, `explore`, `again`, `handover`, `hints` and `broadcast` are its parts) |
//! | `query` | one get, put, claim or withdrawal from start to outcome |
//! | `lookup` | the iterative search for the nodes nearest to a key |
//! | `table` | the routing table, and who in it is alive |
//! | `settings` | what a core is told at its start |
//! | `except` | answers that led nowhere, so that a get goes on past them |
//! | `store`, `load`, `sources` | this node's part of the index: full, loaded, claimed; from whom |
//! | `hot` | what this node remembers of the keys that it asks for in a crowd |
//! | `clusters` | which clusters this node is in, by measured round trips |
//! | `calls`, `rtt` | requests in flight, and how long to wait for their answers |
//! | `wire`, `octets` | the messages and their octets |
//! | `address` | which addresses may be nodes, and what counts as one neighbourhood |
//! | [`limits`] | every bound, with its reason; what a network may choose is in [`Rules`] |
//! | `inspect` | feature `inspect`: datagrams seen from outside, for the simulator |
//! | `system` | feature `driver`: the AS number of the own address, from a database |
//! | `signed` | messages to the whole network as they are signed and opened |
//! | `driver`, `transport`, `handle` | feature `driver`: UDP, Noise, the face to other crates |
//!
//! # Contract
//! The core does no I/O. It is given the time, decrypted datagrams with the [`Sender`] that the
//! transport has proved, and a seed; equal inputs give equal outputs. After each change it is
//! drained by [`Overlay::poll_output`] until [`Output::Idle`], which carries the next deadline;
//! debug builds assert the drain. It builds without the feature `driver`, and so without tokio: the
//! simulator uses it that way.
//!
//! # Invariants
//! - Each query ends in exactly one [`Event::Finished`], within [`limits::QUERY_TIME`].
//! - A contact is in the table only if it was heard at an address that it has proved to be its own.
//! - A pointer is stored only for the node that sent it, unless a node around its key hands it over to
//!   one that has become nearer; that counts among the values of who hands it over.
//! - A node's id is computed from its address and slot, never taken from a message; the address in
//!   a message equals the one that the datagram came from.
//! - Whoever has not proved its address changes nothing here, but that its claim of a key that nobody
//!   has counts for [`limits::PROVISIONAL_TTL`]; its answer is no longer than what it sent, since the
//!   transport pads first packets.
//! - A public node sends nothing to private or loopback addresses, whoever names them.
//! - No plaintext exceeds [`limits::MAX_PLAINTEXT`].
//!
//! # Decisions and their reasons
//! - **A claim is decided by one node**: the nearest to the key that answers. It is sent there
//!   alone; only after its word do the next nearest get copies. In a stable network two claims meet
//!   at the same node, so one wins. While nodes are dying or datagrams are lost, two nodes may
//!   decide, and an origin is asked twice.
//! - **A put is kept by [`Rules::copies`] nodes.** Coral kept one, so that each dead node took its
//!   keys with it.
//! - **A newcomer is handed what it is now the nearest node for**, by the one that was so far, and within
//!   the half minute after which it decides claims; else it would send to the origin whom the others
//!   would send to a holder. It trusts a neighbour's word for pointers no further than a get does.
//!   What is put for a minute or less is left to its holder.
//! - **Puts take the wide way, gets and claims the short one.** A put halves its distance with each
//!   hop as in Coral and so meets the nodes that can stop it; it has the time. A get or a claim of a
//!   cold key asks the nearest known node at once: two steps among 1,000 nodes in place of 5. A get
//!   that is told *loaded* goes on by halves, and for a minute this node lives on its answer.
//! - **A put ends at the first loaded node**, full or not. Coral's went on past a node that was not
//!   full yet, so that a crowd that starts at once reached the root as one. The root gets no more
//!   than beta * ceil(log2 n) puts a minute from 494 nodes that do nothing else.
//! - **A claim is decided in one step** by a node that has been there for a while and knows nobody
//!   nearer. If none feels entitled to, the nearest that answered is told to. Mostly that node is a
//!   stranger: it grants the claim for a moment, and the claimant confirms it with the first datagram
//!   that proves its address. A round trip less for every third claim among 490 nodes, for nearly
//!   all among 10,000; a forger keeps a key that nobody has from others for three seconds.
//! - **A table is filled by samples**, not by a lookup for each bucket: a lookup's dozen steps all
//!   name the same nodes near its end, a single find names eight. With one sample a second a mass
//!   restart costs 5 times the normal traffic for seconds, where it was 20.
//! - **A put of a node's first seconds is made once more** half a minute later: those near its key may
//!   have come at the same time, and not known each other yet.
//! - **A message to the whole network is told to one contact a bucket**, who must say that it has it:
//!   1.1 messages a node. Two contacts each without answers would cost log2 n times as many.
//! - **The sender signs what it tells the whole network**, and says when; each node verifies that before
//!   it passes a message on, so that a forged one ends at the first honest node, and one that is told
//!   again does so as well. Time and sequence are one number; a clock that is five minutes wrong
//!   makes a node deaf, which a metric shows, and not a door for old purges.
//! - **One table holds all levels.** A contact that shares a nearer cluster, or is as near, has a
//!   place besides those that its bucket has in any case, so liveness and round trips are known once.
//!   A search runs in the nearest cluster first and goes on wider from where it stood; a put leaves a
//!   copy in each cluster on its way. A get asks a member of the next wider cluster in the same moment,
//!   and nobody twice, as a node has one store for all levels: a miss costs less than a hop more on
//!   three levels than on one. A claim is decided at L0, unless a nearer cluster answers.
//! - **A cluster's size is what one has met of it**, times a small factor at the most, and within
//!   that about the median of what its members claim, so that a few liars move nobody. Coral's wave
//!   of delta is left out: nodes between two clusters moved with each of its turns. Instead the lower
//!   number wins among equals while a cluster is young, and what is old is left only for one twice as
//!   large.
//! - **A newcomer finds those near it by hints**: each public node puts itself at L0 under its /24 (/48)
//!   and, where it knows it, its AS number. It looks there when it comes, and pings those named, so that
//!   its first review sees them; nothing but the round trip counts. All holders of a /24 share their
//!   source, so one of them is named: any is near enough. An AS names as many as other keys do.
//! - **The place in a bucket goes by an order of its own in each node**, not by age as in Kademlia:
//!   else the first hundred nodes would be in all tables and take all requests.
//! - **A get takes the first answer, and goes on where that fails.** Only who follows a pointer can
//!   tell whether it is stale or invented, and waiting for a second answer would cost every get the
//!   time that the nearest cluster saves. So a caller who was led nowhere asks again with
//!   [`Overlay::get_except`], which believes neither those holders nor who named them.
//! - **A claim may pass holders by** that its sender has found useless ([`Overlay::claim_except`]): the
//!   node that decides it grants it beside them, and sends the next such claimant to this one. So of
//!   all who are led to dead holders, one goes to the origin. A liar gains no more by it than a
//!   pointer of its own, which a put gives it as well.
//! - **One node's word that it is loaded ends no put**: those a little farther from the key must say
//!   so too, and one of them take the value or show four others.
//! - **A node's own pointer counts for little**: a get names it only if nobody else has the key,
//!   and a claim ignores it, so that a repeated claim is no conflict.
//! - **A claim that finds nobody able to store is granted.** An index without room must not keep a
//!   page from its reader. In the same way a node whose contacts all fail decides alone.
//! - **The late are not the failed.** A request is repeated once; meanwhile the lookup asks
//!   somebody else, and a late answer still counts. A contact goes only after two failures that do
//!   not overlap in time.
//! - **Joining has no end state** to fall out of: with an empty table, seeds and remembered
//!   contacts are tried without end; with a full one, a lost contact is tried now and then, so that
//!   a parted network heals.

mod address;
mod calls;
#[cfg(feature = "driver")]
mod clock;
mod clusters;
mod contact;
mod directory;
#[cfg(feature = "driver")]
mod driver;
mod except;
#[cfg(feature = "driver")]
mod handle;
mod hot;
mod id;
#[cfg(feature = "inspect")]
pub mod inspect;
#[cfg(feature = "driver")]
mod keys;
mod level;
pub mod limits;
mod load;
mod lookup;
mod node;
mod octets;
mod output;
mod pointer;
mod query;
mod rtt;
#[cfg(feature = "driver")]
mod saved;
#[cfg(feature = "driver")]
mod seeds;
mod settings;
#[cfg(feature = "driver")]
mod signed;
mod sources;
#[cfg(feature = "driver")]
mod start;
mod stats;
mod store;
#[cfg(feature = "driver")]
mod system;
mod table;
mod time;
#[cfg(feature = "driver")]
mod transport;
mod wire;

pub use coralline_config::Rules;

pub use contact::{Contact, Identity, Services};
pub use directory::{Directory, Neighbour};
pub use except::Except;
#[cfg(feature = "driver")]
pub use handle::{Broadcasts, Claim, Found, Handle, IndexError};
pub use id::{Distance, Id, Key, NodeId};
#[cfg(feature = "driver")]
pub use keys::KeyError;
pub use level::Level;
pub use node::Overlay;
pub use output::{Busy, Event, Outcome, Output, QueryId, Transmit};
pub use pointer::{Pointer, State};
pub use settings::{Sender, Settings};
#[cfg(feature = "driver")]
pub use signed::{Broadcast, MAX_CONTENT};
#[cfg(feature = "driver")]
pub use start::{StartError, start};
pub use stats::{BroadcastStats, Dropped, Stats};
pub use time::Instant;
#[cfg(feature = "driver")]
pub use transport::{TransportDropped, TransportStats};
