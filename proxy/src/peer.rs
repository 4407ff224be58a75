//! Step 5: a peer that is said to have it. It answers from what it holds or is receiving, or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use coralline_overlay::{Contact, Level, Pointer, State};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{CACHE_CONTROL, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::fields::{CACHE_STATUS, remove_hop_by_hop};
use crate::guard::is_public;
use crate::limits::{
    HEDGE_AFTER, MAX_PEER_TRIES, MAX_PEERS_AT_ONCE, PEER_BUDGET, PEER_CONNECT_TIMEOUT,
    PEER_HEAD_TIMEOUT, USUAL_FAR, USUAL_NEAR,
};
use crate::message::Source;
use crate::metrics::PeerOutcomes;
use crate::policy::Times;
use crate::standing::{Dealing, Standings};
use crate::target::Target;
use crate::upstream::{NoBody, Upstream, client_builder};

/// How a peer is told the scheme of a target: `http`, `https` or `any`.
pub(crate) const SCHEME: HeaderName = HeaderName::from_static("coralline-scheme");

/// Asks peers.
pub(crate) struct Peers {
    client: Client<HttpConnector, NoBody>,
    standings: Standings,
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
            standings: Standings::new(),
            local: content_addr(local),
            outcomes,
        }
    }

    /// Asks the holders for an answer that is `good`, the one first of which it is expected soonest. Another
    /// is asked as well when one has nothing, or takes longer than usual. Nothing: none of them has it.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
        holders: &[Pointer],
        level: Level,
        good: impl Fn(&Upstream) -> bool,
    ) -> Option<Upstream> {
        let mut order = self.order(holders, level).into_iter();
        let deadline = Instant::now() + PEER_BUDGET;
        let mut asked = FuturesUnordered::new();
        loop {
            if let Some(pointer) = order.next() {
                let request = request(content_addr(&pointer.holder), method, target, headers)?;
                asked.push(self.ask_one(request, pointer, level, deadline));
            }
            let more = order.len() > 0 && asked.len() < MAX_PEERS_AT_ONCE;
            let answered = tokio::select! {
                answered = asked.next() => answered?,
                () = sleep(HEDGE_AFTER), if more => continue,
            };
            let (addr, upstream) = answered;
            match upstream {
                Some(upstream) if good(&upstream) => {
                    self.outcomes.served.inc();
                    return Some(upstream);
                }
                Some(_) => {
                    self.outcomes.failed.inc();
                    self.standings.learn(Instant::now(), addr, Dealing::Wrong);
                    tracing::info!(%addr, %target, "a peer answered what no cache may give");
                }
                None => {}
            }
        }
    }

    /// Whom to ask, in order: those that have all of it, then those that are soonest expected to answer.
    fn order<'a>(&self, holders: &'a [Pointer], level: Level) -> Vec<&'a Pointer> {
        let now = Instant::now();
        let mut order: Vec<_> =
            holders.iter().filter(|pointer| self.may_be_asked(now, &pointer.holder)).collect();
        order.sort_by_cached_key(|pointer| {
            let usual = if level == Level::GLOBAL { USUAL_FAR } else { USUAL_NEAR };
            let cost = self.standings.cost(now, content_addr(&pointer.holder), usual);
            (pointer.state != State::Whole, cost)
        });
        order.truncate(MAX_PEER_TRIES);
        order
    }

    /// Pointers are hearsay: nobody's mail server is asked, nor a private network by a public node.
    fn may_be_asked(&self, now: Instant, holder: &Contact) -> bool {
        let addr = content_addr(holder);
        let reachable = is_public(addr.ip()) || !is_public(self.local.ip());
        addr.port() >= 1024 && reachable && addr != self.local && !self.standings.shuns(now, addr)
    }

    async fn ask_one(
        &self,
        request: Request<NoBody>,
        pointer: &Pointer,
        level: Level,
        deadline: Instant,
    ) -> (SocketAddr, Option<Upstream>) {
        let addr = content_addr(&pointer.holder);
        let begin = Instant::now();
        let left = deadline.saturating_duration_since(begin);
        let patience = match pointer.state {
            State::Whole => left.min(PEER_HEAD_TIMEOUT),
            // It may be waiting for the origin's first byte itself.
            State::Receiving => left,
        };
        let sent = clock::now();
        let learn = |dealing| self.standings.learn(Instant::now(), addr, dealing);
        let response = match timeout(patience, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            failed => {
                self.outcomes.failed.inc();
                // A peer that waits for a slow origin is not at fault.
                if failed.is_ok() || pointer.state == State::Whole {
                    learn(Dealing::Failed);
                }
                return (addr, None);
            }
        };
        let times = Times { request: sent, response: clock::now() };
        let (mut head, body) = response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        // Without Cache-Status it is the peer's own word, a miss or an error, and not the object.
        if head.status.is_server_error() || !head.headers.contains_key(CACHE_STATUS) {
            self.outcomes.missed.inc();
            return (addr, None);
        }
        let holder = (pointer.state == State::Whole).then_some(addr);
        if holder.is_some() {
            learn(Dealing::Answered(begin.elapsed()));
        }
        (addr, Some(Upstream { head, body, times, source: Source::Peer(level), holder }))
    }

    /// A holder has sent so many octets in this time.
    pub(crate) fn sent(&self, holder: SocketAddr, octets: u64, time: Duration) {
        self.standings.learn(Instant::now(), holder, Dealing::Sent(octets, time));
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
    Some(request)
}
