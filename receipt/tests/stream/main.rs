//! Streams from one node to the next: what arrives is right, and what is not right does not arrive.
#![allow(missing_docs, clippy::cast_possible_truncation, clippy::unwrap_used)]

mod chain;
mod forged;
mod parts;
mod world;
