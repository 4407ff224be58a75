//! Content that proves itself: receipts, and bodies that are verified while they arrive.
//!
//! The node that fetched a response from its origin signs what it got. The receipt travels with the content
//! from node to node, and each of them checks every octet before it uses it or passes it on. Who sends a
//! wrong octet is found out at once, and by whose word the right ones are taken is known for good.
//!
//! # Map
//! | module | what it is |
//! |---|---|
//! | `receipt` | [`Receipt`]: a [`Subject`] and a signed [`TreeHead`], as octets |
//! | `digest` | [`fields_digest`]: header fields in the form that is signed |
//! | `tree` | BLAKE3's tree over a body that grows at its end |
//! | `proof` | [`PartialProof`] while a body arrives, [`Proof`] once it is whole: receipt and tree |
//! | `rebuild` | [`Rebuild`]: the proof of a whole that came in slices |
//! | `encoder` | [`Encoder`]: from content and proof to the stream that a peer sends |
//! | `decoder` | [`Decoder`]: from the stream to content that is verified |
//! | `frame`, `span` | the form of the stream, and which part of a content it carries |
//! | [`limits`] | every bound, with its reason |
//!
//! # Contract
//! - No I/O, no clock, no randomness, no key: who signs gives a function that does.
//! - The decoder gives out no octet that is not verified: under a signed tree head, and that under the key
//!   that the receipt names. Whether this key is to be believed is for the caller, at [`Event::Receipt`].
//! - A wrong octet is an error when its group of 16 KiB is complete; while the signer itself still receives,
//!   when the next running signature comes, after 64 KiB at the most.
//! - Encoder and decoder hold no more than one such group, and the path from the root to it. A proof takes
//!   64 octets for each 16 KiB of content.
//! - What was proved to a node it can prove to the next at once: a chain of nodes passes content on, and
//!   none of them has to have all of it.
//!
//! # What it costs
//! On one core of a Xeon with AVX-512 (`examples/measure.rs`): 5 GB a second are verified under one signed
//! root, 1.2 GB a second under running signatures; a small object takes a tenth of a millisecond, most of it
//! for its one signature. A stream is 372 octets longer than a small object, 0.46 % longer than a large one, 0.11 %
//! while the signer still receives.
//!
//! # Decisions and their reasons
//! - **What is signed is always a tree head**: so many octets have this BLAKE3 root, and they are, or are
//!   not, all. A running signature is one over the octets so far. So a node keeps the last one alone,
//!   whatever came before; and who comes late, or lags, takes what is there with a proof under that head.
//!   Ouinet signs a chain of blocks, of which a receiver needs every signature.
//! - **BLAKE3 and `blake3::hazmat`, not bao-tree**: its decoders draw from a `Read` or from a future and lose
//!   their place when there is nothing to read yet; nor does it know a tree that is still growing. What is
//!   needed of it is what `tree` has. The form within a tree frame is Bao's.
//! - **A tree frame carries a slice of 1 MiB at the most** and begins at the root again: 0.06 % more for
//!   1 GiB than the bare tree takes, and any slice stands alone.
//! - **The nodes stand in one list that only grows**, in post-order: a body that arrives never moves them, and
//!   it is written to disk as it is.
//! - **The receipt has the whole URI**, not its digest, so that it is evidence for who has nothing else.

mod decoder;
mod digest;
mod encoder;
mod frame;
pub mod limits;
mod proof;
mod rebuild;
mod receipt;
mod span;
mod tree;
mod wrong;

pub use decoder::{Decoder, Event};
pub use digest::fields_digest;
pub use encoder::{Encoder, Step};
pub use frame::FORM;
pub use proof::{PartialProof, Proof, Provable};
pub use rebuild::Rebuild;
pub use receipt::{Receipt, Subject, TreeHead};
pub use span::Span;
pub use wrong::Wrong;
