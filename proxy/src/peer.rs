//! Step 5: a peer that is said to have it. It answers from what it holds or is receiving, or not at all.

mod identity;
mod pool;
mod receive;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coralline_overlay::{Contact, Except, Handle, Level, Pointer, State};
use coralline_receipt::{Decoder, FORM, Span, Subject};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri, response};
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::fields::{CACHE_STATUS, remove_hop_by_hop};
use crate::guard::is_public;
use crate::limits::{
    CLOCK_SLACK, HEDGE_AFTER, MAX_PEER_TRIES, MAX_PEERS_AT_ONCE, PEER_HEAD_TIMEOUT, USUAL_FAR,
    USUAL_NEAR,
};
use crate::message::Source;
use crate::metrics::{PeerOutcomes, Received};
use crate::policy::Times;
use crate::proving::{PROOF, Proving};
use crate::reason::{Failure, Reason};
use crate::standing::{Dealing, PeerKey, Standings};
use crate::target::Target;
use crate::trailers;
use crate::upstream::{Counted, NoBody, Upstream, UpstreamBody};
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
    received: Received,
}

/// Whom the index has named.
#[derive(Clone, Copy)]
pub(crate) struct Search<'a> {
    pub(crate) holders: &'a [Pointer],
    pub(crate) level: Level,
    /// By when one of them is to have begun its answer.
    pub(crate) deadline: Instant,
    /// What has been proved so far of what is to go on.
    pub(crate) rest: Option<&'a Proving>,
}

/// What peers have given.
pub(crate) enum Given {
    Good(Box<Upstream>),
    /// Nothing now; one of them is worth asking again.
    Later,
    Nothing,
}

impl Peers {
    pub(crate) fn new(index: &Handle, outcomes: PeerOutcomes, received: Received) -> Self {
        Self {
            pool: Pool::new(index.clone()),
            standings: Arc::new(Standings::new()),
            index: index.clone(),
            local: content_addr(&index.local()),
            outcomes,
            received,
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
        let Search { holders, level, .. } = search;
        let (order, useless) = self.order(holders, level);
        tried.add(&useless, None);
        let mut order = order.into_iter();
        let (mut asked, mut later) = (FuturesUnordered::new(), false);
        loop {
            if let Some(pointer) = order.next() {
                let rest = search.rest.is_some();
                let Some(request) = request(method, target, headers, rest) else { break };
                let asking = self.ask_one(request, pointer, search);
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
        search: Search<'_>,
    ) -> Given {
        let is_head = request.method() == Method::HEAD;
        let peer = key(&pointer.holder);
        let begin = Instant::now();
        let left = search.deadline.saturating_duration_since(begin);
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
        let left = patience.saturating_sub(begin.elapsed());
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
        let source = Source::Peer(search.level);
        let body = Counted::new(body, self.received.from(source));
        let read = match is_head {
            true => Ok(UpstreamBody::Plain(body)),
            false => self.read(&mut head, body, peer, search.rest, left).await,
        };
        let body = match read {
            Ok(body) => body,
            Err(failure) => {
                self.outcomes.failed.inc();
                tracing::info!(?peer, "{failure}");
                return Given::Nothing;
            }
        };
        if pointer.state == State::Whole {
            self.learn(&pointer, Dealing::Answered(begin.elapsed()));
        }
        Given::Good(Box::new(Upstream { head, body, times, source, peer: Some(pointer) }))
    }

    /// The body of a peer's answer, read up to the receipt. Of a part, and where there is none, nothing is
    /// proved, unless it is the rest of what has been proved so far.
    async fn read(
        &self,
        head: &mut response::Parts,
        body: Counted,
        peer: PeerKey,
        rest: Option<&Proving>,
        patience: Duration,
    ) -> Result<UpstreamBody, Failure> {
        let proof = head.headers.remove(PROOF);
        let partial = is_part(head.status);
        if partial && rest.is_none() {
            return Ok(UpstreamBody::Plain(body));
        }
        if proof.is_none_or(|form| form != FORM) {
            self.standings.learn(Instant::now(), peer, Dealing::Wrong);
            let detail = "the peer answered without a proof";
            return Err(Failure::new(Reason::HttpProtocolError, detail));
        }
        let resumed = rest.filter(|_| partial).and_then(Proving::resumed);
        let proving =
            resumed.unwrap_or_else(|| Proving::receiving(&self.index, Decoder::new(Span::Rest(0))));
        let mut body = ProvedBody::new(body, proving, peer, self.standings.clone());
        let receipt = body.receipt(patience).await?;
        set_age(&mut head.headers, &receipt.subject, clock::now());
        Ok(UpstreamBody::Proved(Box::new(body)))
    }

    /// What came of a transfer.
    pub(crate) fn learn(&self, peer: &Pointer, dealing: Dealing) {
        self.standings.learn(Instant::now(), key(&peer.holder), dealing);
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

/// What a peer is asked; where it is for a `rest`, with the proof of that.
fn request(
    method: &Method,
    target: &Target,
    headers: &HeaderMap,
    rest: bool,
) -> Option<Request<NoBody>> {
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
    fields.remove(PROOF);
    if rest {
        fields.insert(PROOF, HeaderValue::from_static(FORM));
    }
    trailers::ask_for(&mut request);
    Some(request)
}
