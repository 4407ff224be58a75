//! Step 5: a peer that is said to have it. It answers from what it holds or is receiving, or not at all.

mod identity;
mod pool;
mod receive;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coralline_overlay::{Except, Handle, Level, Pointer, State};
use coralline_receipt::{Decoder, FORM, Span, Subject};
use coralline_sources::{Answer, Dealing, Next, PeerKey, key};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri, response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::fields::{CACHE_STATUS, remove_hop_by_hop};
use crate::guard::is_public;
use crate::limits::CLOCK_SLACK;
use crate::message::Source;
use crate::metrics::PeerOutcomes;
use crate::policy::Times;
use crate::proving::{PROOF, Proving};
use crate::reason::{Failure, Reason};
use crate::standing::Known;
use crate::target::Target;
use crate::trailers;
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
    pool: Arc<Pool>,
    standings: Known,
    index: Handle,
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
    /// What has been proved so far of what is to go on.
    pub(crate) rest: Option<&'a Proving>,
}

/// What an answer is to who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Good,
    /// Of no use here, and nobody's fault: what was purged here, another version, more than is kept.
    Useless,
    /// Not what its signer has signed, or not what was asked for: no honest node sends it.
    Wrong,
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
            pool: Arc::new(Pool::new(index.clone())),
            standings: Known::new(index),
            index: index.clone(),
            local: key(&index.local()).0,
            outcomes,
        }
    }

    /// Asks the holders for an answer that fits, the one first of which it is expected soonest. Another
    /// is asked as well when one has nothing, or takes longer than usual. Those of no use are added to
    /// `tried`.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
        search: Search<'_>,
        tried: &mut Except,
        fits: impl Fn(&Upstream) -> Fit,
    ) -> Given {
        let rest = search.rest.is_some();
        let Some(request) = request(method, target, headers, rest) else { return Given::Nothing };
        let left = search.deadline.saturating_duration_since(Instant::now());
        let may = |addr| self.may_be_asked(addr);
        let (mut asking, useless) = self.standings.choose(search.holders, search.level, left, may);
        tried.add(&useless, None);
        let mut asked = FuturesUnordered::new();
        loop {
            let wake = match asking.poll(self.index.now()) {
                Next::Ask(pointer, patience) => {
                    let answer = self.ask_one(request.clone(), pointer, patience, search);
                    asked.push(async move { (pointer, answer.await) });
                    continue;
                }
                Next::Wait(wake) => wake,
                Next::End { later: true } => return Given::Later,
                Next::End { later: false } => return Given::Nothing,
            };
            let until_wake = wake.map(|wake| wake.since(self.index.now())).unwrap_or_default();
            let answered = tokio::select! {
                answered = asked.next() => answered,
                () = sleep(until_wake), if wake.is_some() => continue,
            };
            let mut answer = Answer::Nothing;
            match answered {
                None => {}
                Some((pointer, Given::Good(upstream))) => match fits(&upstream) {
                    Fit::Good => {
                        self.outcomes.served.inc();
                        return Given::Good(upstream);
                    }
                    Fit::Useless => {
                        self.outcomes.missed.inc();
                        tried.add(&[pointer], None);
                    }
                    Fit::Wrong => {
                        self.outcomes.failed.inc();
                        self.learn(&pointer, Dealing::Wrong);
                        tried.add(&[pointer], None);
                        let peer = key(&pointer.holder);
                        tracing::info!(?peer, %target, "a peer answered what no cache may give");
                    }
                },
                Some((pointer, Given::Nothing)) => tried.add(&[pointer], None),
                Some((_, Given::Later)) => answer = Answer::Later,
            }
            asking.handle_answer(self.index.now(), answer);
        }
    }

    /// Pointers are hearsay: nobody's mail server is asked, nor a private network by a public node.
    fn may_be_asked(&self, addr: SocketAddr) -> bool {
        let reachable = is_public(addr.ip()) || !is_public(self.local.ip());
        addr.port() >= 1024 && reachable && addr != self.local
    }

    async fn ask_one(
        &self,
        request: Request<NoBody>,
        pointer: Pointer,
        patience: Duration,
        search: Search<'_>,
    ) -> Given {
        let is_head = request.method() == Method::HEAD;
        let peer = key(&pointer.holder);
        let begin = Instant::now();
        let sent = clock::now();
        let (pool, standings) = (self.pool.clone(), self.standings.clone());
        let answer = tokio::spawn(async move {
            let answer = timeout(patience, pool.request(peer, request)).await;
            match answer {
                Ok(Ok(response)) => return Some(response),
                Ok(Err(unreachable)) => {
                    standings.blame(&pointer, patience, true);
                    tracing::debug!(?peer, %unreachable, "a peer could not be asked");
                }
                Err(_) => standings.blame(&pointer, patience, false),
            }
            None
        });
        // Who is outrun by another is judged all the same: else silence would cost a liar nothing.
        let Some(response) = answer.await.ok().flatten() else {
            self.outcomes.failed.inc();
            return Given::Nothing;
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
        let read = match is_head {
            true => Ok(UpstreamBody::Plain(body)),
            false => self.read(&mut head, body, peer, search.rest, left).await,
        };
        let body = match read {
            Ok(body) => body,
            Err(failure) => {
                self.outcomes.failed.inc();
                match failure.reason {
                    // It is known as a liar by now.
                    Reason::HttpProtocolError => {}
                    Reason::HttpResponseTimeout => self.standings.blame(&pointer, patience, false),
                    _ => self.standings.blame(&pointer, patience, true),
                }
                tracing::info!(?peer, "{failure}");
                return Given::Nothing;
            }
        };
        if pointer.state == State::Whole {
            self.learn(&pointer, Dealing::Answered(begin.elapsed()));
        }
        let source = Source::Peer(search.level);
        Given::Good(Box::new(Upstream { head, body, times, source, peer: Some(pointer) }))
    }

    /// The body of a peer's answer, read up to the receipt. Of a part, and where there is none, nothing is
    /// proved, unless it is the rest of what has been proved so far.
    async fn read(
        &self,
        head: &mut response::Parts,
        body: Incoming,
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
            self.standings.learn(peer, Dealing::Wrong);
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
        self.standings.learn(key(&peer.holder), dealing);
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
