//! Whom to fetch from: what is known of peers, and whom of several to ask next.
//!
//! # Map
//! | module | what it is |
//! |---|---|
//! | `standing` | [`Standings`]: how soon peers answer, how fast they send, how often they fail or lie |
//! | `asking` | [`Asking`]: one round of asking those whom the index names: in which order, and when a second one |
//! | `schedule` | [`Schedule`]: which slice of something large is asked of which of several sources, and when of another |
//! | [`limits`] | every bound, with its reason |
//!
//! # Contract
//! - No I/O, no clock, no randomness: time is given, and equal calls give equal answers. The proxy drives it, and so
//!   does the simulator, which is why it is a crate of its own: the proxy cannot be built without a runtime.
//! - A peer that was wrong once is not asked again for minutes, by whatever address; one that keeps others waiting
//!   is asked three times at the most. Both are forgiven in time.
//! - Whoever says of another what is not true gets nobody into disrepute: failures count for a key at an address,
//!   and only what somebody with that key has sent counts for the key.
//!
//! # Decisions
//! - *Requests under way are not bounded by what is known of a peer.* Many that meet a liar in the same moment are
//!   all lied to, once; to hold back all but a few from every newcomer would send the others of a crowd to
//!   the origin.
//! - *What is wrong counts for the key, not for the network of its address*: behind one address there may be
//!   many. A liar that makes a new key must join with it, by an address whose ids are few, and is found
//!   out by its first answer.

mod asking;
pub mod limits;
mod schedule;
mod standing;

pub use asking::{Answer, Asking, Next, receiving, usual};
pub use schedule::{Fault, Schedule, Step};
pub use standing::{Dealing, PeerKey, Standings, key};
