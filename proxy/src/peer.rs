//! Step 5: a peer that is said to have it. It answers from what it holds or is receiving, or not at all.

mod identity;
mod pool;
mod receive;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coralline_overlay::{Contact, Handle, Level, Pointer, State};
use coralline_receipt::{FORM, Subject};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::fields::{CACHE_STATUS, remove_hop_by_hop};
use crate::guard::is_public;
use crate::limits::{
    CLOCK_SLACK, HEDGE_AFTER, MAX_PEER_TRIES, MAX_PEERS_AT_ONCE, PEER_BUDGET, PEER_HEAD_TIMEOUT,
    USUAL_FAR, USUAL_NEAR,
};
use crate::message::Source;
use crate::metrics::PeerOutcomes;
use crate::policy::Times;
use crate::proving::PROOF;
use crate::standing::{Dealing, PeerKey, Standings};
use crate::target::Target;
use crate::upstream::{NoBody, Upstream, UpstreamBody};
use pool::Pool;

pub(crate) use identity::peer_acceptor;
pub use identity::peer_connector;
pub(crate) use receive::ProvedBody;
pub(crate) use serve::{Proved, prove};

/// How a peer is told the scheme of a target: `http`, `https` or `any`.
pub(crate) const SCHEME: HeaderName = HeaderName::from_static("coralline-scheme");

/// Asks peers.
pub(crate) struct Peers {
    pool: Pool,
    standings: Arc<Standings>,
    index: Handle,
    /// Where this node itself serves peers.
    local: SocketAddr,
    outcomes: PeerOutcomes,
}

impl Peers {
    pub(crate) fn new(index: &Handle, outcomes: PeerOutcomes) -> Self {
        Self {
            pool: Pool::new(index.clone()),
            standings: Arc::new(Standings::new()),
            index: index.clone(),
            local: content_addr(&index.local()),
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
                let request = request(method, target, headers)?;
                asked.push(self.ask_one(request, pointer, level, deadline));
            }
            let more = order.len() > 0 && asked.len() < MAX_PEERS_AT_ONCE;
            let answered = tokio::select! {
                answered = asked.next() => answered?,
                () = sleep(HEDGE_AFTER), if more => continue,
            };
            let (peer, upstream) = answered;
            match upstream {
                Some(upstream) if good(&upstream) => {
                    self.outcomes.served.inc();
                    return Some(upstream);
                }
                Some(_) => {
                    self.outcomes.failed.inc();
                    self.standings.learn(Instant::now(), peer, Dealing::Wrong);
                    tracing::info!(?peer, %target, "a peer answered what no cache may give");
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
            let cost = self.standings.cost(now, key(&pointer.holder), usual);
            (pointer.state != State::Whole, cost)
        });
        order.truncate(MAX_PEER_TRIES);
        order
    }

    /// Pointers are hearsay: nobody's mail server is asked, nor a private network by a public node.
    fn may_be_asked(&self, now: Instant, holder: &Contact) -> bool {
        let addr = content_addr(holder);
        let reachable = is_public(addr.ip()) || !is_public(self.local.ip());
        let known = key(holder);
        addr.port() >= 1024 && reachable && addr != self.local && !self.standings.shuns(now, known)
    }

    async fn ask_one(
        &self,
        request: Request<NoBody>,
        pointer: &Pointer,
        level: Level,
        deadline: Instant,
    ) -> (PeerKey, Option<Upstream>) {
        let peer = key(&pointer.holder);
        let begin = Instant::now();
        let left = deadline.saturating_duration_since(begin);
        let patience = match pointer.state {
            State::Whole => left.min(PEER_HEAD_TIMEOUT),
            // It may be waiting for the origin's first byte itself.
            State::Receiving => left,
        };
        let sent = clock::now();
        let learn = |dealing| self.standings.learn(Instant::now(), peer, dealing);
        let response = match timeout(patience, self.pool.request(peer, request)).await {
            Ok(Ok(response)) => response,
            failed => {
                self.outcomes.failed.inc();
                // A peer that waits for a slow origin is not at fault.
                if failed.is_ok() || pointer.state == State::Whole {
                    learn(Dealing::Failed);
                }
                if let Ok(Err(unreachable)) = failed {
                    tracing::debug!(?peer, %unreachable, "a peer could not be asked");
                }
                return (peer, None);
            }
        };
        let left = patience.saturating_sub(begin.elapsed());
        let Some((head, body)) = self.read(peer, response, left).await else {
            return (peer, None);
        };
        let times = Times { request: sent, response: clock::now() };
        let holder = (pointer.state == State::Whole).then_some(peer);
        if holder.is_some() {
            learn(Dealing::Answered(begin.elapsed()));
        }
        (peer, Some(Upstream { head, body, times, source: Source::Peer(level), holder }))
    }

    /// What a peer answers, up to the receipt. A part, and that there is none, is taken without one.
    async fn read(
        &self,
        peer: PeerKey,
        response: Response<Incoming>,
        patience: Duration,
    ) -> Option<(response::Parts, UpstreamBody)> {
        let (mut head, body) = response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        // Without Cache-Status it is the peer's own word, a miss or an error, and not the object.
        if head.status.is_server_error() || !head.headers.contains_key(CACHE_STATUS) {
            self.outcomes.missed.inc();
            return None;
        }
        if is_part(head.status) {
            return Some((head, UpstreamBody::Plain(body)));
        }
        if head.headers.remove(PROOF).is_none_or(|form| form != FORM) {
            self.outcomes.failed.inc();
            self.standings.learn(Instant::now(), peer, Dealing::Wrong);
            return None;
        }
        let mut body = ProvedBody::new(body, &self.index, peer, self.standings.clone());
        match body.receipt(patience).await {
            Ok(receipt) => {
                set_age(&mut head.headers, &receipt.subject, clock::now());
                Some((head, UpstreamBody::Proved(Box::new(body))))
            }
            Err(failure) => {
                self.outcomes.failed.inc();
                tracing::info!(?peer, "{failure}");
                None
            }
        }
    }

    /// A holder has sent so many octets in this time.
    pub(crate) fn sent(&self, holder: PeerKey, octets: u64, time: Duration) {
        self.standings.learn(Instant::now(), holder, Dealing::Sent(octets, time));
    }
}

/// An answer about a part: it carries no proof.
pub(crate) fn is_part(status: StatusCode) -> bool {
    matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE)
}

/// No response is younger than its signer says, give or take what clocks differ by: whoever passes it on can
/// make it older, and no more.
fn set_age(headers: &mut HeaderMap, subject: &Subject, now: SystemTime) {
    let made = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(subject.time));
    let since = made.and_then(|made| now.duration_since(made).ok()).unwrap_or_default();
    let least = since.saturating_sub(CLOCK_SLACK).as_secs();
    let said = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse::<u64>().ok());
    if said.is_none_or(|said| said < least) && least > 0 {
        headers.insert(AGE, least.into());
    }
}

fn content_addr(contact: &Contact) -> SocketAddr {
    SocketAddr::new(contact.addr.ip(), contact.peer_port)
}

fn key(contact: &Contact) -> PeerKey {
    (content_addr(contact), contact.identity)
}

fn request(method: &Method, target: &Target, headers: &HeaderMap) -> Option<Request<NoBody>> {
    let uri = Uri::builder()
        .scheme("https")
        .authority(target.authority())
        .path_and_query(target.path.clone())
        .build()
        .ok()?;
    let mut request = Request::new(NoBody::new());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    let fields = request.headers_mut();
    fields.clone_from(headers);
    fields.insert(SCHEME, HeaderValue::from_static(target.scheme.word()));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("only-if-cached"));
    Some(request)
}
