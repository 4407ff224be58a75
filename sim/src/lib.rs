//! The world: thousands of nodes in one thread, the same cores, from one seed.
//!
//! # Map
//! | module | what it is |
//! |---|---|
//! | [`Scenario`] | a file: world, workload, troubles over time, checks |
//! | [`Workload`] | the experiments, one module each below `workload` |
//! | [`World`] | nodes, the wire between them, one event queue, one clock |
//! | [`Trouble`] | loss, blocked pairs, partitions, crashes, churn, liars |
//! | `content` | objects with their proofs as nodes send them, and what liars make of them |
//! | `ledger` | what is true; every answer is held against it at every step |
//! | [`Geography`], [`Matrix`] | where nodes are, and so how long a datagram takes |
//! | [`greedy`] | clusters as somebody would draw them who knew all round trips |
//! | [`Watch`], `trail` | requests counted on the wire, and hops |
//! | [`Trace`] | a digest of all that happened |
//! | [`measure`] | puts, gets and races in batches |
//! | [`Report`], [`Table`] | figures, and whether they are what a scenario demands |
//!
//! # Contract
//! A [`Plan`] decides everything: the same plan and the same calls give the same [`World::digest`],
//! whatever the machine. The nodes are the very cores that run on real sockets
//! ([`coralline_overlay::Overlay`], built without its driver, so the build proves that the core
//! needs no runtime, no clock and no cryptography). Whom they fetch content from is chosen by
//! `coralline_sources`, and what they send is proved by `coralline_receipt`, as in the proxy.
//!
//! # Decisions
//! - The transport is modelled by what it tells the core: an identity, an address, and whether that
//!   address is proven. It is proven once a datagram has come back that was sent after one of ours
//!   had arrived, which is what a Noise session shows. A datagram for an identity that is not there
//!   is lost.
//! - Node addresses are public and each in its own /24, so that the rules against neighbourhoods
//!   are in force.
//! - A node that dies loses all but its contacts, which is what its disk would hold. What its
//!   application holds is the workload's business.
//! - Liars run the honest core; their answers are changed on the wire. So they stay in everybody's
//!   tables, which is the worst that they can do.
//! - Which pairs are blocked is computed from the seed, not kept: ten thousand nodes have fifty
//!   million pairs.
//! - Checks carry what is to be reached. A scenario whose check fails exits with 1 and says how to
//!   replay it; that is not a failure of the simulator.

mod content;
mod geography;
mod greedy;
mod ledger;
mod matrix;
pub mod measure;
mod node;
mod queue;
mod report;
mod scenario;
mod trace;
mod trail;
mod trouble;
mod watch;
mod workload;
mod world;

pub use geography::Geography;
pub use greedy::greedy;
pub use ledger::Shown;
pub use matrix::{MAX_ROWS, Matrix, MatrixError};
pub use report::{Check, Figure, Point, Report, Table};
pub use scenario::{Scenario, Scheduled, Setting};
pub use trace::Trace;
pub use trouble::{Falsehood, Trouble};
pub use watch::{Requests, Watch};
pub use workload::Workload;
pub use world::{Finished, Notice, Plan, World};
