//! Name to nearby proxy: the authoritative server of the suffix zone.
//!
//! | file | holds |
//! |---|---|
//! | `query` | octets to a question, or to what is wrong with them |
//! | `zone` | the names of the suffix: apex, sites, name servers |
//! | `living` | which nodes may be named, from the index's [`Directory`] |
//! | `responder` | [`Responder`]: a query to its answer, without any I/O |
//! | `reply` | an answer to its octets, within what the client allows |
//! | `verdict` | the words for what became of a query |
//! | `server`, `udp`, `tcp` | sockets: [`bind`], then [`Bound::serve`] over UDP and TCP |
//! | `metrics` | what is counted, by RCODE and by reason |
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use coralline_dns::{Metrics, Responder};
//! # async fn run(
//! #     config: coralline_config::Config,
//! #     registry: prometheus::Registry,
//! #     directory: impl Fn() -> Arc<coralline_overlay::Directory> + Send + Sync + 'static,
//! #     shutdown: impl Future<Output = ()> + Send,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let bound = coralline_dns::bind(&config.dns.listen)?;
//! let metrics = Metrics::register(&registry)?;
//! bound.serve(Responder::new(&config), metrics, directory, shutdown).await;
//! # Ok(())
//! # }
//! ```
//!
//! **Contract.** An answer is made at once from the directory of the moment: it never waits for the
//! index. Only nodes in the directory are ever named, and the directory holds none that has been
//! silent for a minute; with none left the answer is this node itself.
//!
//! **Bounds.** A UDP response is at most 1,232 octets, 512 without EDNS; a refused or unreadable
//! query costs no more octets than it brought, and a response is never answered. TCP connections,
//! their idle time and their queries are bounded in `limits`.
//!
//! **Decisions.** The UDP loop is our own: one task a socket that reads, answers and writes without
//! a queue, so that overload is shed by the kernel. Answers leave from the address that was asked
//! when `dns.listen` names each address; on `0.0.0.0` the kernel chooses the source.
//!
//! A fuzz target calls [`Responder::answer`] with any octets.
//!
//! [`Directory`]: coralline_overlay::Directory

mod limits;
mod living;
mod metrics;
mod query;
mod reply;
mod responder;
mod server;
mod tcp;
mod udp;
mod verdict;
mod zone;

pub use metrics::Metrics;
pub use responder::Responder;
pub use server::{BindError, Bound, bind};
pub use verdict::{Dropped, Rcode, Transport, Verdict};
