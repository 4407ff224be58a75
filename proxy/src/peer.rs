//! Step 5: a peer that is said to have it. It answers from what it holds or is receiving, or not at all.

mod identity;
mod pool;

use std::net::SocketAddr;

use coralline_overlay::{Contact, Except, Handle, Level, Pointer, State};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::fields::{CACHE_STATUS, remove_hop_by_hop};
use crate::guard::is_public;
use crate::limits::{
    HEDGE_AFTER, MAX_PEER_TRIES, MAX_PEERS_AT_ONCE, PEER_HEAD_TIMEOUT, USUAL_FAR, USUAL_NEAR,
};
use crate::message::Source;
use crate::metrics::PeerOutcomes;
use crate::policy::Times;
use crate::standing::{Dealing, PeerKey, Standings};
use crate::target::Target;
use crate::trailers;
use crate::upstream::{NoBody, Upstream};
use pool::Pool;

pub(crate) use identity::peer_acceptor;
pub use identity::peer_connector;

/// How a peer is told the scheme of a target: `http`, `https` or `any`.
pub(crate) const SCHEME: HeaderName = HeaderName::from_static("coralline-scheme");

/// Asks peers.
pub(crate) struct Peers {
    pool: Pool,
    standings: Standings,
    /// Where this node itself serves peers.
    local: SocketAddr,
    outcomes: PeerOutcomes,
}

/// Whom the index has named.
#[derive(Clone, Copy)]
pub(crate) struct Search<'a> {
    pub(crate) holders: &'a [Pointer],
    pub(crate) level: Level,
    /// By when one of them is to have begun its answer.
    pub(crate) deadline: Instant,
}

/// What peers have given.
pub(crate) enum Given {
    Good(Box<Upstream>),
    /// Nothing now; one of them is worth asking again.
    Later,
    Nothing,
}

impl Peers {
    pub(crate) fn new(index: &Handle, outcomes: PeerOutcomes) -> Self {
        Self {
            pool: Pool::new(index.clone()),
            standings: Standings::new(),
            local: content_addr(&index.local()),
            outcomes,
        }
    }

    /// Asks the holders for an answer that is `good`, the one first of which it is expected soonest. Another
    /// is asked as well when one has nothing, or takes longer than usual. Those of no use are added to
    /// `tried`.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
        search: Search<'_>,
        tried: &mut Except,
        good: impl Fn(&Upstream) -> bool,
    ) -> Given {
        let Search { holders, level, deadline } = search;
        let (order, useless) = self.order(holders, level);
        tried.add(&useless, None);
        let mut order = order.into_iter();
        let (mut asked, mut later) = (FuturesUnordered::new(), false);
        loop {
            if let Some(pointer) = order.next() {
                let Some(request) = request(method, target, headers) else { break };
                let asking = self.ask_one(request, pointer, level, deadline);
                asked.push(async move { (pointer, asking.await) });
            }
            let more = order.len() > 0 && asked.len() < MAX_PEERS_AT_ONCE;
            let answered = tokio::select! {
                answered = asked.next() => answered,
                () = sleep(HEDGE_AFTER), if more => continue,
            };
            match answered {
                None => break,
                Some((_, Given::Good(upstream))) if good(&upstream) => {
                    self.outcomes.served.inc();
                    return Given::Good(upstream);
                }
                Some((pointer, Given::Good(_))) => {
                    self.outcomes.failed.inc();
                    self.learn(&pointer, Dealing::Wrong);
                    tried.add(&[pointer], None);
                    let peer = key(&pointer.holder);
                    tracing::info!(?peer, %target, "a peer answered what no cache may give");
                }
                Some((pointer, Given::Nothing)) => tried.add(&[pointer], None),
                Some((_, Given::Later)) => later = true,
            }
        }
        if later { Given::Later } else { Given::Nothing }
    }

    /// Whom to ask, in order: those that have all of it, then those that are soonest expected to answer;
    /// and whom not at all.
    fn order(&self, holders: &[Pointer], level: Level) -> (Vec<Pointer>, Vec<Pointer>) {
        let now = Instant::now();
        let (mut order, useless): (Vec<Pointer>, Vec<_>) =
            holders.iter().copied().partition(|pointer| self.may_be_asked(now, &pointer.holder));
        order.sort_by_cached_key(|pointer| {
            let usual = if level == Level::GLOBAL { USUAL_FAR } else { USUAL_NEAR };
            let cost = self.standings.cost(now, key(&pointer.holder), usual);
            (pointer.state != State::Whole, cost)
        });
        order.truncate(MAX_PEER_TRIES);
        (order, useless)
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
        pointer: Pointer,
        level: Level,
        deadline: Instant,
    ) -> Given {
        let peer = key(&pointer.holder);
        let begin = Instant::now();
        let left = deadline.saturating_duration_since(begin);
        let patience = match pointer.state {
            State::Whole => left.min(PEER_HEAD_TIMEOUT),
            // It may be waiting for the origin's first byte itself.
            State::Receiving => left,
        };
        let sent = clock::now();
        let response = match timeout(patience, self.pool.request(peer, request)).await {
            Ok(Ok(response)) => response,
            failed => {
                self.outcomes.failed.inc();
                // A peer that waits for a slow origin is not at fault.
                if failed.is_ok() || pointer.state == State::Whole {
                    self.learn(&pointer, Dealing::Failed);
                }
                if let Ok(Err(unreachable)) = failed {
                    tracing::debug!(?peer, %unreachable, "a peer could not be asked");
                }
                return Given::Nothing;
            }
        };
        let times = Times { request: sent, response: clock::now() };
        let (mut head, body) = response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        // Without Cache-Status it is the peer's own word, a miss or an error, and not the object.
        if head.status.is_server_error() || !head.headers.contains_key(CACHE_STATUS) {
            self.outcomes.missed.inc();
            let later = head.status == StatusCode::SERVICE_UNAVAILABLE
                && head.headers.contains_key(RETRY_AFTER);
            return if later { Given::Later } else { Given::Nothing };
        }
        if pointer.state == State::Whole {
            self.learn(&pointer, Dealing::Answered(begin.elapsed()));
        }
        let source = Source::Peer(level);
        Given::Good(Box::new(Upstream { head, body, times, source, peer: Some(pointer) }))
    }

    /// What came of a transfer.
    pub(crate) fn learn(&self, peer: &Pointer, dealing: Dealing) {
        self.standings.learn(Instant::now(), key(&peer.holder), dealing);
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
    trailers::ask_for(&mut request);
    Some(request)
}
