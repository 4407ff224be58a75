//! URL to response: the HTTP cache that asks the index, then peers, then the origin.
//!
//! # Map
//! | step of a request | decided in | done in |
//! |---|---|---|
//! | 1 decode the host, refuse | `target`, `fields` | `admit` |
//! | 2 look in the cache | `policy`, `purge` | `keep`: `store` in memory, `tier` on disk |
//! | 3 join a fetch in flight | | `flight`, `flights`, `budget` |
//! | 4 locate, claim | | `announce` |
//! | 5 ask a peer | `coralline_sources` | `peer`, over connections of its `pool` to nodes of a known `identity` |
//! | 6 ask the origin | `guard`, `rewrite` | `origin`, `connect` |
//! | 7 store, announce | `policy` | `fetch`, `pump`, `keep`, `announce` |
//! | 8 respond | `conditional`, `reason` | `respond`, `body`, `page` |
//!
//! What no cache answers goes to the origin for one client alone: `pass`, with its content through `upload`;
//! `tunnel` for connections that are upgraded; `interim` for what comes before a response, `trailers` for what
//! comes after.
//! `slices` brings parts of large objects, and joins them.
//! `serve` has the doors, `activity` closes those who only stand in them. `purging` forgets on demand, by names
//! that `scope` reads; `proving` has the receipts, `digests` what origins say of theirs, `audit` asks them again; `record` is a response as it stands on disk; `setup` makes it all from the configuration.
//!
//! `RFC9111.md` lists every rule for a shared cache with its test; `tests/proxy/model.rs` is the same law as
//! a plain model, with which random histories are compared.
//!
//! # Contract
//! - A response that is not for all is never stored, and never given to a second client.
//! - A part is never taken for the whole: a body that breaks off breaks the client's connection, and is not stored.
//! - An origin is connected to only at an address that was checked, whatever its name says a moment later.
//! - Memory: half of `cache.memory` for what is stored, half for what is arriving and for what was evicted and
//!   is still read. A body beyond is read from disk by who lags; without a disk it is passed through a window,
//!   in which a reader who holds others up is cut. The index of what is on disk takes up to a quarter more.
//!   Every other bound stands in `limits`.
//! - The cache judges by what the origin sees: a client's fields are cleaned before anything is decided.
//! - Of what a peer sends, all of it or a part, no octet and no field is used that is not as its signer, who
//!   fetched it from the origin, has signed it for this URI; a peer whose octets are not is left alone. Each node
//!   passes the receipt on. Via, Cache-Status and Age are each node's own; Age is no less than the receipt allows.
//! - What is not of the digest that its origin names for it (RFC 9530) is not kept, and no client gets its end.
//! - What was purged is not given out again, whoever brings it and whenever.
//! - Who has received the whole of a stored response finds it stored: the last octets wait for that.
//! - What an unsafe request has changed is not given out again, also not by a fetch that began before it.
//! - A purge or a change is answered when it would survive a kill and a loss of power.
//! - Who reads a body goes on with it when it is replaced or purged, as far as none of it is evicted from disk.
//!
//! # Decisions
//! - *A peer's answer is a stream that proves itself* (`coralline_receipt`) in place of the content; the length of
//!   the content is in the receipt. What comes from the origin is signed every 64 KiB, or when
//!   nothing more has come for 20 ms, so that peers have the octets as they come.
//! - *Who goes on at the origin where a peer broke off signs all of it anew*; those who follow, and those who
//!   ask it for the rest, go on under its word, which has to be about the octets that they have.
//! - *Who signs lies is found out by audits*, a few and not too fast; what others have found is no reason to believe
//!   them, but one to look more often: an accusation must not be a weapon.
//! - *Peers are not asked to validate*: a 304 has no receipt. They are asked for the whole, and the origin alone
//!   whether a copy is still good.
//! - *A purge is a rule with a time*, not a search: it takes as long whatever the cache holds. A response is as
//!   old as the request that brought it, or as Age says: an origin whose Date lags would seem purged for ever.
//! - *Everything stored goes to disk, and bodies of more than 4 MiB stay there alone*: the page cache of the
//!   system is as good for them as our memory, and survives our restart.
//! - *The key of a request by plain HTTP that names no port has no scheme* (`//host/path`): whether the
//!   origin is asked by https or http is the fetching node's finding, and the object is the same.
//! - *A wrong certificate is no https* for such a request: the name's site is the one on http, as for
//!   the many that share an address with somebody else's https. Who asks by https gets an error instead.
//! - *HEAD is asked as HEAD* and not turned into a GET, so that a cheap request stays cheap upstream.
//! - *Of a name's addresses, those that may be reached are tried*, and a name with none of them is refused:
//!   what is checked is what is connected to, so that a mixed answer opens nothing.
//! - *A crowd of nodes hangs as a tree on the one that asks the origin*: who is fed by nobody yet is sent to those
//!   who are, four of a large body. A node feeds only who is behind it, and keeps nobody waiting for another node
//!   for longer than a second: no circle can form. Who has lost its source and is ahead of whom it asks is sent
//!   up, to where that one has it from: so all find the one that asks the origin, and no second one does.
//! - *The pointer to what was purged is taken back when somebody comes for it*: a purge is a rule, and does not
//!   search. The first who comes in vain is the last.
//! - *A pointer is put again by whoever asks for what it points to*, in the last quarter of its time: what nobody
//!   asks for is pointed to for an hour.
//! - *A flight goes on when its clients leave*, as long as it can be stored: the crowd is coming.
//! - *A site under its own name is the node's alone*: the index and peers are not asked, as nobody tells them
//!   yet of a change. Its origin sees the name that clients ask for, and may be at a private address, since
//!   the operator has named it. Its keys begin with `site:`, so that no suffixed name shares them.
//! - *An origin that cannot be connected to is left alone* for a second, then for twice as long each time up
//!   to a minute: a restart is not an outage, and a dead origin is not asked by every visitor.
//! - *Behind the suffix, who has waited for a response has it*, also where it is stale from the start or must
//!   be validated: it came from the origin after the request, as Varnish has it too. One fetch at a time
//!   reaches the origin of a page that forbids caching by `no-cache`. At a site each client has its own.
//! - *A connection to an origin on which NTLM or Negotiate was spoken is not used again*: it belongs to who
//!   logged in. NTLM itself, which needs one connection for three requests, does not work through a node.
//! - *A reload of a suffixed page validates it at most every five seconds*: request directives are advice
//!   (RFC 9111, section 5.2.1), and a crowd that reloads must not reach the origin. A site heeds them all.
//! - *A range of something not held fetches the slices that it touches*, if there is a disk to keep them and a
//!   strong validator to join them by; else the whole. So does a range of all from the start, which is how
//!   players begin: as a whole it is told to the network, and fetched once for all nodes.
//! - *Each slice has a key of its own in the index*, under which it is claimed before the origin is asked, and
//!   found while it arrives and after. One key for a run of slices would take fewer claims, but nodes want different
//!   slices of it, and the index names four holders of a key. A megabyte is worth a claim.
//! - *A slice from the origin has a receipt of its own*, whose status is 206: it says that these octets are that
//!   range of this version, as the origin's Content-Range and validator have it. That slices belong together is
//!   the validator's word, as for any client that joins parts.
//! - *What several peers hold whole comes from all of them*, in slices: the next that the reader comes to first,
//!   then the rarest. Once all are here, their proof is made again from the octets, and the node is one more that
//!   has it.
//! - *The slices of one response need not fit the disk together*: how long it is does not matter, what is
//!   asked of it does.

mod activity;
mod admit;
mod announce;
#[cfg(test)]
mod any_octets;
mod audit;
mod body;
mod budget;
mod clock;
mod conditional;
mod connect;
mod digests;
mod disk_metrics;
mod fetch;
mod fields;
mod flight;
mod flights;
mod followers;
mod guard;
mod interim;
mod keep;
mod limits;
mod message;
mod metrics;
mod origin;
mod page;
mod pass;
mod peer;
mod policy;
mod prefixes;
mod proving;
mod pump;
mod purge;
mod purge_log;
mod purging;
mod reason;
mod record;
mod request;
mod respond;
mod revalidate;
mod rewrite;
mod scope;
mod search;
mod serve;
mod serve_peer;
mod setup;
mod slices;
mod standing;
mod store;
mod target;
mod tier;
mod trailers;
mod tunnel;
mod upload;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use coralline_config::{Cache, Config, Suffix};
use coralline_overlay::{Handle, Key, Level};
use futures_util::stream::{self, StreamExt};
use ipnet::IpNet;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use audit::Evidence;
pub use message::Source;
pub use peer::peer_connector;
pub use purging::PurgeError;
pub use scope::{BadName, Purge};
pub use serve::Door;
pub use setup::StartError;

use crate::audit::Audits;
use crate::budget::Budget;
use crate::connect::{Connector, resolver};
use crate::fields::Signature;
use crate::flights::Flights;
use crate::guard::Guard;
use crate::limits::{
    MAX_BACKGROUND, MAX_LAST_WITHDRAWALS, MAX_ORIGIN_CONNECTIONS, MAX_PASSING,
    MAX_PEER_CONNECTIONS, MAX_PEER_CONNECTIONS_PER_PREFIX, MAX_PEER_HANDSHAKES_PER_PREFIX,
    MAX_TUNNELS, MAX_UNSHARED, MAX_WITHDRAWALS, STORED_SHARE, TIDY_INTERVAL, UNSHARED_MEMORY,
    WHOLE_TTL, WITHDRAW_PARALLEL,
};
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::peer::Peers;
use crate::policy::NoStore;
use crate::prefixes::Prefixes;
use crate::purge::Purges;
use crate::purge_log::Log;
use crate::setup::{origin_tls, own_addresses, user_agent};
use crate::slices::Slices;
use crate::store::Store;
use crate::target::{Scheme, Site};
use crate::tier::Tier;

/// Requests and octets by source, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sources {
    /// Requests served from this node's cache.
    pub local: u64,
    /// Requests served from peers.
    pub peer: u64,
    /// Requests served from origins.
    pub origin: u64,
    /// Own pages and failures.
    pub none: u64,
    /// Octets served from this node's cache.
    pub local_bytes: u64,
    /// Octets served from peers.
    pub peer_bytes: u64,
    /// Octets served from origins.
    pub origin_bytes: u64,
    /// Responses stored.
    pub cache_objects: u64,
    /// Octets of stored responses.
    pub cache_bytes: u64,
}

/// The proxy of one node.
pub struct Proxy {
    suffix: Suffix,
    signature: Signature,
    contact: Option<String>,
    cache: Cache,
    stall_timeout: Duration,
    store: Store,
    /// Held while memory and what waits for the disk change together.
    keeping: Mutex<()>,
    tier: Option<Tier>,
    purges: Arc<Purges>,
    /// What is here no longer, for who takes its pointer back.
    gone: mpsc::Sender<(String, Key)>,
    /// What has left memory, lately, and may be on disk and in the index.
    elsewhere: moka::sync::Cache<Key, ()>,
    /// There is one where something is on disk.
    purge_log: Option<Arc<Log>>,
    token: String,
    flights: Flights,
    slices: Slices,
    /// URLs whose response was not for all, lately.
    unshared: moka::sync::Cache<Arc<str>, NoStore>,
    origin: Origin,
    /// What is served under its own name, by host.
    sites: BTreeMap<String, Arc<Site>>,
    /// Places for validations that nobody waits for.
    background: Arc<Semaphore>,
    peers: Peers,
    audits: Audits,
    index: Handle,
    metrics: Metrics,
    /// The node is leaving: what it announces is taken back.
    closing: CancellationToken,
    passing: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    client_slots: Arc<Semaphore>,
    peer_slots: Arc<Semaphore>,
    /// Connections of peers, and those of them that have yet to show who they are.
    peer_prefixes: Prefixes,
    handshake_prefixes: Prefixes,
}

impl Proxy {
    /// Sets the proxy up; nothing listens yet. Whoever shows `token` may purge. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(
        config: &Config,
        index: Handle,
        registry: &prometheus::Registry,
        token: String,
    ) -> Result<Arc<Self>, StartError> {
        let levels = u8::try_from(config.overlay.levels.len()).unwrap_or(u8::MAX);
        let mut sources = vec![Source::None, Source::Local, Source::Origin];
        sources.extend((0..=levels).map(|level| Source::Peer(Level(level))));
        let metrics = Metrics::new(registry, &sources)?;
        let connector = Connector {
            resolver: resolver(&config.origin.nameservers)
                .map_err(|error| StartError::Resolver(error.to_string()))?,
            guard: Guard::new(config.origin.allow_private.clone(), own_addresses(config)),
            tls: origin_tls(config)?,
            timeout: config.origin.connect_timeout,
            places: Arc::new(Semaphore::new(MAX_ORIGIN_CONNECTIONS)),
        };
        let named = Guard::new(EVERYWHERE.into(), own_addresses(config));
        let site_connector = Connector { guard: named, ..connector.clone() };
        let response_timeout = config.origin.response_timeout;
        let (evicted, evictions) = mpsc::channel(MAX_WITHDRAWALS);
        let stored = config.cache.memory.0 / STORED_SHARE;
        let (gone, counter) = (evicted.clone(), metrics.evictions.clone());
        let elsewhere = moka::sync::Cache::builder()
            .max_capacity(MAX_LAST_WITHDRAWALS)
            .time_to_live(WHOLE_TTL)
            .build();
        let left = elsewhere.clone();
        let budget = Budget::new(config.cache.memory.0 - stored);
        let store = Store::new(stored, budget.clone(), move |uri, key| {
            counter.inc();
            left.insert(key, ());
            // What does not fit runs out by itself.
            let _ = evicted.try_send((uri.to_owned(), key));
        });
        let withdrawn = gone.clone();
        let tier = Tier::open(config, metrics.disk.skipped.clone(), move |uri| {
            let _ = withdrawn.try_send((uri.to_owned(), Key::of_name(uri.as_bytes())));
        })?;
        let (purge_log, purges) = match &tier {
            Some(_) => {
                let path = config.state_dir.join("purges");
                let opened = Log::open(&path);
                let (log, purges) = opened.map_err(|error| StartError::Purges { path, error })?;
                (Some(Arc::new(log)), purges)
            }
            None => (None, Purges::default()),
        };
        let name = format!("coralline-{:.8}", index.local().id().to_string());
        let (audits, waiting) = Audits::new(config.peer.audit_one_in);
        let proxy = Arc::new(Self {
            suffix: config.suffix.clone(),
            signature: Signature {
                name,
                cdn_id: config.suffix.as_str().to_owned(),
                user_agent: user_agent(config),
            },
            contact: config.contact.clone(),
            cache: config.cache.clone(),
            stall_timeout: config.origin.stall_timeout,
            store,
            keeping: Mutex::new(()),
            gone,
            elsewhere,
            tier,
            purges: Arc::new(purges),
            purge_log,
            token,
            slices: Slices::new(
                config.cache.memory.0,
                budget.clone(),
                metrics.slices_arriving.clone(),
            ),
            flights: Flights::new(budget, metrics.flights.clone()),
            unshared: moka::sync::Cache::builder()
                .max_capacity(MAX_UNSHARED)
                .time_to_live(UNSHARED_MEMORY)
                .build(),
            origin: Origin::new(
                connector,
                site_connector,
                response_timeout,
                [metrics.origin_requests.clone(), metrics.origin_retries.clone()],
                metrics.received.from(Source::Origin),
            ),
            sites: config.sites.iter().map(site).collect(),
            background: Arc::new(Semaphore::new(MAX_BACKGROUND)),
            peers: Peers::new(
                &index,
                metrics.peers.clone(),
                metrics.received.clone(),
                metrics.wrong_peers.clone(),
            ),
            audits,
            index,
            metrics,
            closing: CancellationToken::new(),
            passing: Arc::new(Semaphore::new(MAX_PASSING)),
            tunnels: Arc::new(Semaphore::new(MAX_TUNNELS)),
            client_slots: Arc::new(Semaphore::new(config.http.max_connections)),
            peer_slots: Arc::new(Semaphore::new(MAX_PEER_CONNECTIONS)),
            peer_prefixes: Prefixes::new(MAX_PEER_CONNECTIONS_PER_PREFIX),
            handshake_prefixes: Prefixes::new(MAX_PEER_HANDSHAKES_PER_PREFIX),
        });
        tokio::spawn(audit::run(Arc::downgrade(&proxy), waiting));
        tokio::spawn(keep_house(Arc::downgrade(&proxy)));
        tokio::spawn(withdraw_evicted(Arc::downgrade(&proxy), evictions));
        Ok(proxy)
    }

    /// What was served, and from where.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let mut sum = Sources::default();
        for (source, counters) in self.metrics.sources() {
            let (requests, bytes) = match source {
                Source::Local => (&mut sum.local, &mut sum.local_bytes),
                Source::Peer(_) => (&mut sum.peer, &mut sum.peer_bytes),
                Source::Origin => (&mut sum.origin, &mut sum.origin_bytes),
                Source::None => {
                    sum.none += counters.requests.get();
                    continue;
                }
            };
            *requests += counters.requests.get();
            *bytes += counters.bytes.get();
        }
        self.store.tidy();
        (sum.cache_objects, sum.cache_bytes) = self.store.size();
        sum
    }

    /// What audits have found against other nodes, the latest first.
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        self.audits.evidence()
    }

    /// Ends what is being written, and takes back what this node has announced, as far as the caller's patience goes. What lands or is
    /// asked for from now on is announced no more.
    pub async fn close(&self) {
        self.closing.cancel();
        if let Some(tier) = &self.tier {
            tier.settle().await;
        }
        let elsewhere = self.elsewhere.iter().map(|(key, ())| *key);
        let slices = self.slices.index_keys();
        let keys = self.store.index_keys().into_iter().chain(elsewhere).chain(slices);
        let keys: BTreeSet<_> = keys.collect();
        stream::iter(keys)
            .for_each_concurrent(WITHDRAW_PARALLEL, |key| async move {
                let _ = self.index.withdraw(key).await;
            })
            .await;
    }

    /// What was here under this URI is here no longer: nobody is to be sent for it. A site's was never told.
    fn withdraw(&self, uri: &str) {
        if !uri.starts_with("site:") {
            // What does not fit runs out by itself.
            let _ = self.gone.try_send((uri.to_owned(), Key::of_name(uri.as_bytes())));
        }
    }

    fn refresh_gauges(&self) {
        self.store.tidy();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let (objects, bytes) = self.store.size();
        self.metrics.cache_objects.set(gauge(objects));
        self.metrics.cache_bytes.set(gauge(bytes));
        if let Some(tier) = &self.tier {
            tier.tidy();
            self.metrics.disk.show(&tier.stats());
        }
        self.metrics.purges.set(gauge(self.purges.len() as u64));
        self.metrics.flight_bytes.set(gauge(self.flights.bytes()));
    }
}

/// Keeps gauges and evictions current. Ends with the proxy.
async fn keep_house(proxy: Weak<Proxy>) {
    let mut tick = tokio::time::interval(TIDY_INTERVAL);
    while let Some(proxy) = proxy.upgrade() {
        proxy.refresh_gauges();
        // Some were made where nobody waits for the disk.
        if proxy.purge_log.as_ref().is_some_and(|log| log.is_behind()) {
            proxy.purges_written().await;
        }
        drop(proxy);
        tick.tick().await;
    }
}

/// Withdraws what was evicted and has not come back meanwhile. Ends with the proxy, whose store has the
/// other end of the channel.
async fn withdraw_evicted(proxy: Weak<Proxy>, evictions: mpsc::Receiver<(String, Key)>) {
    let evictions = stream::unfold(evictions, |mut evictions| async move {
        evictions.recv().await.map(|evicted| (evicted, evictions))
    });
    let withdraw = |(uri, key): (String, Key)| {
        let gone = |proxy: &Arc<Proxy>| !proxy.keeps(&uri) && proxy.flights.find(&uri).is_none();
        let index = proxy.upgrade().filter(gone).map(|proxy| proxy.index.clone());
        async move {
            if let Some(index) = index {
                let _ = index.withdraw(key).await;
            }
        }
    };
    evictions.for_each_concurrent(WITHDRAW_PARALLEL, withdraw).await;
}

/// The operator has named a site's origin: it may be anywhere but here.
const EVERYWHERE: [IpNet; 2] = [
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
];

fn site(site: &coralline_config::Site) -> (String, Arc<Site>) {
    let (scheme, authority) = site.origin.split_once("://").unwrap_or(("http", &site.origin));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    (site.host.clone(), Arc::new(Site { scheme, authority: authority.to_owned() }))
}
