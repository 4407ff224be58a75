//! The proxy as others meet it: real sockets, real nodes, an origin that does what a test says.
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::disallowed_methods
)]

mod audits;
mod bad_input;
mod cold;
mod crowd;
mod digests;
mod disk;
mod history;
mod liar;
mod model;
mod parts;
mod peers;
mod pointers;
mod purge;
mod rules;
mod serving;
mod site;
mod slices;
mod smuggling;
mod sources;
mod trailers;
mod trouble;
mod world;
