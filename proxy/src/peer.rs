//! Step 5: a peer that is said to have it. It answers from what it holds or is receiving, or not at all.

use std::net::SocketAddr;

use coralline_overlay::{Contact, Level, Pointer, State};
use http::header::{CACHE_CONTROL, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use moka::sync::Cache;
use tokio::time::{Instant, timeout};

use crate::clock;
use crate::fields::{CACHE_STATUS, remove_hop_by_hop};
use crate::guard::is_public;
use crate::limits::{
    MAX_PEER_TRIES, MAX_PENALTIES, PEER_BUDGET, PEER_CONNECT_TIMEOUT, PEER_HEAD_TIMEOUT,
    PEER_PENALTY,
};
use crate::message::Source;
use crate::metrics::PeerOutcomes;
use crate::policy::Times;
use crate::target::Target;
use crate::trailers;
use crate::upstream::{NoBody, Upstream, client_builder};

/// How a peer is told the scheme of a target: `http`, `https` or `any`.
pub(crate) const SCHEME: HeaderName = HeaderName::from_static("coralline-scheme");

/// Asks peers.
pub(crate) struct Peers {
    client: Client<HttpConnector, NoBody>,
    /// Those that failed a moment ago.
    penalties: Cache<SocketAddr, ()>,
    /// Where this node itself serves peers.
    local: SocketAddr,
    outcomes: PeerOutcomes,
}

impl Peers {
    pub(crate) fn new(local: &Contact, outcomes: PeerOutcomes) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PEER_CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        Self {
            client: client_builder().build(connector),
            penalties: Cache::builder()
                .max_capacity(MAX_PENALTIES)
                .time_to_live(PEER_PENALTY)
                .build(),
            local: content_addr(local),
            outcomes,
        }
    }

    /// Asks the holders in turn, those that have all of it first, for an answer that is `good`. Nothing:
    /// none of them has it.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
        holders: &[Pointer],
        level: Level,
        good: impl Fn(&Upstream) -> bool,
    ) -> Option<Upstream> {
        let mut holders: Vec<_> =
            holders.iter().filter(|pointer| self.may_be_asked(&pointer.holder)).collect();
        holders.sort_by_key(|pointer| pointer.state != State::Whole);
        let deadline = Instant::now() + PEER_BUDGET;
        for pointer in holders.into_iter().take(MAX_PEER_TRIES) {
            let addr = content_addr(&pointer.holder);
            let request = request(addr, method, target, headers)?;
            match self.ask_one(request, pointer, level, deadline).await {
                Some(upstream) if good(&upstream) => {
                    self.outcomes.served.inc();
                    return Some(upstream);
                }
                Some(_) => {
                    self.outcomes.failed.inc();
                    self.penalties.insert(addr, ());
                    tracing::info!(%addr, %target, "a peer answered what no cache may give");
                }
                None => {}
            }
        }
        None
    }

    /// Pointers are hearsay: nobody's mail server is asked, nor a private network by a public node.
    fn may_be_asked(&self, holder: &Contact) -> bool {
        let addr = content_addr(holder);
        let reachable = is_public(addr.ip()) || !is_public(self.local.ip());
        addr.port() >= 1024
            && reachable
            && addr != self.local
            && !self.penalties.contains_key(&addr)
    }

    async fn ask_one(
        &self,
        request: Request<NoBody>,
        pointer: &Pointer,
        level: Level,
        deadline: Instant,
    ) -> Option<Upstream> {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = match pointer.state {
            State::Whole => left.min(PEER_HEAD_TIMEOUT),
            // It may be waiting for the origin's first byte itself.
            State::Receiving => left,
        };
        let sent = clock::now();
        let response = match timeout(patience, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            failed => {
                self.outcomes.failed.inc();
                // A peer that waits for a slow origin is not at fault.
                if failed.is_ok() || pointer.state == State::Whole {
                    self.penalties.insert(content_addr(&pointer.holder), ());
                }
                return None;
            }
        };
        let times = Times { request: sent, response: clock::now() };
        let (mut head, body) = response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        // Without Cache-Status it is the peer's own word, a miss or an error, and not the object.
        if head.status.is_server_error() || !head.headers.contains_key(CACHE_STATUS) {
            self.outcomes.missed.inc();
            return None;
        }
        Some(Upstream { head, body, times, source: Source::Peer(level) })
    }
}

fn content_addr(contact: &Contact) -> SocketAddr {
    SocketAddr::new(contact.addr.ip(), contact.peer_port)
}

fn request(
    addr: SocketAddr,
    method: &Method,
    target: &Target,
    headers: &HeaderMap,
) -> Option<Request<NoBody>> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(addr.to_string())
        .path_and_query(target.path.clone())
        .build()
        .ok()?;
    let mut request = Request::new(NoBody::new());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    let fields = request.headers_mut();
    fields.clone_from(headers);
    fields.insert(HOST, HeaderValue::from_str(&target.authority()).ok()?);
    fields.insert(SCHEME, HeaderValue::from_static(target.scheme.word()));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("only-if-cached"));
    trailers::ask_for(&mut request);
    Some(request)
}
