//! Step 5: a peer that is said to have it. It answers from what it holds or is receiving, or not at all.

mod identity;
mod part;
mod pool;
mod receive;
mod referral;
mod serve;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coralline_overlay::{Contact, Except, Handle, Level, Pointer, Services, State};
use coralline_receipt::{Decoder, FORM, Span, Subject};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, response};
use prometheus::IntCounter;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::fields::{CACHE_STATUS, remove_hop_by_hop};
use crate::guard::is_public;
use crate::limits::{
    CLOCK_SLACK, HEDGE_AFTER, MAX_PEER_TRIES, MAX_PEERS_AT_ONCE, MAX_SENT, PEER_HEAD_TIMEOUT,
    USUAL_FAR, USUAL_NEAR,
};
use crate::message::Source;
use crate::metrics::{PeerOutcomes, Received};
use crate::policy::Times;
use crate::proving::{FORM_ALONE, PARTIAL, PROOF, Proving};
use crate::reason::{Failure, Reason};
use crate::standing::{Dealing, PeerKey, Standings};
use crate::target::Target;
use crate::trailers;
use crate::upstream::{Counted, NoBody, Sender, Upstream, UpstreamBody};
use pool::Pool;
use referral::{referred, take_depth};

pub use identity::peer_connector;
pub(crate) use identity::{identity_of, peer_acceptor};
pub(crate) use part::span_for_peer;
pub(crate) use receive::ProvedBody;
pub(crate) use referral::{Asker, Way, refer, write_depth};
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
    /// Those to whom a holder has sent this node were of no use.
    pub(crate) misled: bool,
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
    Later {
        /// Those to whom it has sent this node were of no use.
        misled: bool,
    },
    Nothing,
}

/// What one of them has.
enum Said {
    Good(Box<Upstream>),
    /// Nothing now, but it may have later; whom it names meanwhile.
    Later(Vec<PeerKey>),
    /// Nothing; and whom it names.
    Nothing(Vec<PeerKey>),
}

impl Peers {
    pub(crate) fn new(
        index: &Handle,
        outcomes: PeerOutcomes,
        received: Received,
        wrong: IntCounter,
    ) -> Self {
        Self {
            pool: Pool::new(index.clone()),
            standings: Arc::new(Standings::new(wrong)),
            index: index.clone(),
            local: content_addr(&index.local()),
            outcomes,
            received,
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
        let Search { holders, level, .. } = search;
        let (order, useless) = self.order(holders, level);
        tried.add(&useless, None);
        let way = if search.misled { Way::Misled } else { Way::Named };
        let mut order: VecDeque<_> = order.into_iter().map(|pointer| (pointer, way)).collect();
        let (mut asked, mut seen, mut sent) = (FuturesUnordered::new(), BTreeSet::new(), 0);
        let (mut later, mut misled) = (false, false);
        loop {
            if let Some((pointer, way)) = order.pop_front() {
                seen.insert(key(&pointer.holder));
                let port = self.index.local().peer_port;
                let request = request(method, target, headers, search.rest.is_some(), port, way);
                let Some(request) = request else { break };
                let asking = self.ask_one(request, pointer, search);
                asked.push(async move { (pointer, way, asking.await) });
            }
            let more = !order.is_empty() && asked.len() < MAX_PEERS_AT_ONCE;
            let answered = tokio::select! {
                answered = asked.next() => answered,
                () = sleep(HEDGE_AFTER), if more => {
                    self.outcomes.hedged.inc();
                    continue;
                }
            };
            let named = match answered {
                None => break,
                Some((pointer, way, Said::Good(upstream))) => {
                    match fits(&upstream) {
                        Fit::Good => {
                            self.outcomes.served.inc();
                            return Given::Good(upstream);
                        }
                        Fit::Useless => self.outcomes.missed.inc(),
                        Fit::Wrong => {
                            self.outcomes.failed.inc();
                            self.learn(&pointer, Dealing::Wrong);
                            let peer = key(&pointer.holder);
                            tracing::info!(?peer, %target, "a peer answered what no cache may give");
                        }
                    }
                    tried.add(&[pointer], None);
                    misled |= way == Way::Sent;
                    continue;
                }
                Some((pointer, way, Said::Nothing(named))) => {
                    tried.add(&[pointer], None);
                    misled |= way == Way::Sent;
                    named
                }
                Some((_, _, Said::Later(named))) => {
                    later = true;
                    named
                }
            };
            // Down the tree of those that it is passed on to, or up to where it comes from.
            for peer in named {
                let pointer = receiving(peer);
                let may = sent < MAX_SENT && self.may_be_asked(Instant::now(), &pointer.holder);
                if may && seen.insert(peer) {
                    sent += 1;
                    order.push_back((pointer, Way::Sent));
                }
            }
        }
        if later { Given::Later { misled } } else { Given::Nothing }
    }

    /// Whom to ask, in order: those that have all of it, then those that are soonest expected to answer;
    /// and whom not at all.
    fn order(&self, holders: &[Pointer], level: Level) -> (Vec<Pointer>, Vec<Pointer>) {
        let now = Instant::now();
        let (mut order, useless): (Vec<Pointer>, Vec<_>) =
            holders.iter().copied().partition(|pointer| self.may_be_asked(now, &pointer.holder));
        order.sort_by_cached_key(|pointer| {
            (pointer.state != State::Whole, self.expects(pointer, level))
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
    ) -> Said {
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
                self.blame(&pointer, patience, failed.is_ok());
                if let Ok(Err(unreachable)) = failed {
                    tracing::debug!(?peer, %unreachable, "a peer could not be asked");
                }
                return Said::Nothing(Vec::new());
            }
        };
        let left = patience.saturating_sub(begin.elapsed());
        let times = Times { request: sent, response: clock::now() };
        let (mut head, body) = response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        // Without Cache-Status it is the peer's own word, a miss or an error, and not the object.
        if head.status.is_server_error() || !head.headers.contains_key(CACHE_STATUS) {
            self.outcomes.missed.inc();
            let (again, named) = referred(&head);
            return if again { Said::Later(named) } else { Said::Nothing(named) };
        }
        let depth = take_depth(&mut head.headers);
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
                match failure.reason {
                    // It is known as a liar by now.
                    Reason::HttpProtocolError => {}
                    Reason::HttpResponseTimeout => self.blame(&pointer, patience, false),
                    _ => self.blame(&pointer, patience, true),
                }
                tracing::info!(?peer, "{failure}");
                return Said::Nothing(Vec::new());
            }
        };
        if pointer.state == State::Whole {
            self.learn(&pointer, Dealing::Answered(begin.elapsed()));
        }
        let peer = Some(Sender { pointer, depth });
        Said::Good(Box::new(Upstream { head, body, times, source, peer }))
    }

    /// It has not answered: broken off, or waited for in vain. Who had no time left is not at fault; who waits
    /// for a slow origin hardly is.
    fn blame(&self, pointer: &Pointer, patience: Duration, broken: bool) {
        match pointer.state {
            _ if broken => self.learn(pointer, Dealing::Failed),
            _ if patience < PEER_HEAD_TIMEOUT => {}
            State::Whole => self.learn(pointer, Dealing::Failed),
            State::Receiving => self.learn(pointer, Dealing::Late),
        }
    }

    /// The body of a peer's answer, read up to the receipt: of the whole, of the `rest` of what has been proved
    /// so far, or of a part alone, as Content-Range has it.
    async fn read(
        &self,
        head: &mut response::Parts,
        body: Counted,
        peer: PeerKey,
        rest: Option<&Proving>,
        patience: Duration,
    ) -> Result<UpstreamBody, Failure> {
        let proof = head.headers.remove(PROOF);
        let alone = proof.as_ref().is_some_and(|form| form == FORM_ALONE);
        let partial = head.status == StatusCode::PARTIAL_CONTENT;
        let known = proof.is_some_and(|form| form == FORM) || alone && partial && rest.is_none();
        if !known {
            self.standings.learn(Instant::now(), peer, Dealing::Wrong);
            let detail = "the peer answered without a proof";
            return Err(Failure::new(Reason::HttpProtocolError, detail));
        }
        let span = match (partial, rest) {
            (true, None) if !alone => part::proved_alone(&head.headers).ok_or_else(|| {
                self.standings.learn(Instant::now(), peer, Dealing::Wrong);
                Failure::new(
                    Reason::HttpProtocolError,
                    "the peer sent a part that none has asked for",
                )
            })?,
            _ => Span::Rest(0),
        };
        let resumed = rest.filter(|_| partial).and_then(Proving::resumed);
        let proving =
            resumed.unwrap_or_else(|| Proving::receiving(&self.index, Decoder::new(span)));
        let mut body = ProvedBody::new(body, proving, peer, self.standings.clone());
        let receipt = body.receipt(patience).await?;
        // What is a content by itself is not a part of one that is whole, nor the other way round.
        if alone != (receipt.subject.status == PARTIAL) {
            self.standings.learn(Instant::now(), peer, Dealing::Wrong);
            let detail = "the peer's receipt is of something else than it says";
            return Err(Failure::new(Reason::HttpProtocolError, detail));
        }
        set_age(&mut head.headers, &receipt.subject, clock::now());
        Ok(UpstreamBody::Proved(Box::new(body)))
    }

    /// How long a peer, found at this level, is expected to take for a little.
    pub(crate) fn expects(&self, pointer: &Pointer, level: Level) -> Duration {
        let usual = if level == Level::GLOBAL { USUAL_FAR } else { USUAL_NEAR };
        self.standings.cost(Instant::now(), key(&pointer.holder), usual)
    }

    /// The peer is left alone for a while.
    pub(crate) fn shuns(&self, pointer: &Pointer) -> bool {
        self.standings.shuns(Instant::now(), key(&pointer.holder))
    }

    /// What came of a transfer.
    pub(crate) fn learn(&self, peer: &Pointer, dealing: Dealing) {
        self.standings.learn(Instant::now(), key(&peer.holder), dealing);
    }
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

pub(crate) fn key(contact: &Contact) -> PeerKey {
    (content_addr(contact), contact.identity)
}

/// One of whom another has said that it is getting it.
pub(crate) fn receiving((addr, identity): PeerKey) -> Pointer {
    let (peer_port, services) = (addr.port(), Services::default());
    let holder = Contact { identity, addr, slot: 0, peer_port, services };
    Pointer { holder, state: State::Receiving, length: None, root: None }
}

/// What a peer is asked; where it is for a `rest`, with the proof of that.
fn request(
    method: &Method,
    target: &Target,
    headers: &HeaderMap,
    rest: bool,
    port: u16,
    way: Way,
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
    Asker::write(fields, port, way);
    trailers::ask_for(&mut request);
    Some(request)
}
