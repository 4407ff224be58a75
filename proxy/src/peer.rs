//! Step 5: a peer that is said to have it. It answers from what it holds or is receiving, or not at all.

mod identity;
mod part;
mod pool;
mod receive;
mod referral;
mod serve;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coralline_overlay::{Except, Handle, Identity, Level, Pointer, State};
use coralline_receipt::{Decoder, FORM, Span, Subject};
use coralline_sources::{Answer, Dealing, Next, PeerKey, key};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, response};
use prometheus::IntCounter;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::fields::{CACHE_STATUS, remove_hop_by_hop};
use crate::guard::is_public;
use crate::limits::{CLOCK_SLACK, MAX_SENT_TO};
use crate::message::Source;
use crate::metrics::{PeerOutcomes, Received};
use crate::policy::Times;
use crate::proving::{FORM_ALONE, PARTIAL, PROOF, Proving};
use crate::reason::{Failure, Reason};
use crate::standing::Known;
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
    pool: Arc<Pool>,
    standings: Known,
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
        by: Vec<Pointer>,
    },
    Nothing,
}

/// What one search has learnt.
#[derive(Default)]
pub(crate) struct Tried {
    /// Holders that were of no use.
    pub(crate) holders: Except,
    /// Where this node has gone because others sent it.
    sent_to: BTreeSet<SocketAddr>,
}

impl Tried {
    /// Nobody can send this node round the world: it goes to [`MAX_SENT_TO`] addresses and no more.
    fn may_be_sent_to(&mut self, addr: SocketAddr) -> bool {
        self.sent_to.contains(&addr)
            || self.sent_to.len() < MAX_SENT_TO && self.sent_to.insert(addr)
    }
}

/// What one of them has.
enum Said {
    Good(Box<Upstream>),
    /// Nothing now, but it may have later; whom it names meanwhile.
    Later(Vec<PeerKey>),
    /// Nothing; and whom it names.
    Nothing(Vec<PeerKey>),
    /// It is not there, or too late.
    Silent,
}

impl Peers {
    pub(crate) fn new(
        index: &Handle,
        outcomes: PeerOutcomes,
        received: Received,
        wrong: IntCounter,
    ) -> Self {
        Self {
            pool: Arc::new(Pool::new(index.clone())),
            standings: Known::new(index, wrong),
            index: index.clone(),
            local: key(&index.local()).0,
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
        tried: &mut Tried,
        fits: impl Fn(&Upstream) -> Fit,
    ) -> Given {
        let left = search.deadline.saturating_duration_since(Instant::now());
        let may = |addr| self.may_be_asked(addr);
        let (mut asking, useless) = self.standings.choose(search.holders, search.level, left, may);
        tried.holders.add(&useless, None);
        let of_index = if search.misled { Way::Misled } else { Way::Named };
        let (mut asked, mut misled) = (FuturesUnordered::new(), false);
        let mut by = Vec::new();
        loop {
            let wake = match asking.poll(self.index.now()) {
                Next::Ask { pointer, sent, patience } => {
                    let way = if sent { Way::Sent } else { of_index };
                    let (rest, port) = (search.rest.is_some(), self.index.local().peer_port);
                    let request = request(method, target, headers, rest, port, way);
                    let Some(request) = request else { return Given::Nothing };
                    let answer = self.ask_one(request, pointer, patience, search);
                    asked.push(async move { (pointer, way, answer.await) });
                    continue;
                }
                Next::Wait(wake) => wake,
                Next::End { later: true } => return Given::Later { misled, by },
                Next::End { later: false } => return Given::Nothing,
            };
            let until_wake = wake.map(|wake| wake.since(self.index.now())).unwrap_or_default();
            let answered = tokio::select! {
                answered = asked.next() => answered,
                () = sleep(until_wake), if wake.is_some() => {
                    self.outcomes.hedged.inc();
                    continue;
                }
            };
            let mut answer = Answer::Nothing;
            let mut named = match answered {
                None => return Given::Nothing,
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
                    tried.holders.add(&[pointer], None);
                    misled |= way == Way::Sent;
                    Vec::new()
                }
                Some((pointer, way, Said::Nothing(named))) => {
                    tried.holders.add(&[pointer], None);
                    misled |= way == Way::Sent;
                    named
                }
                Some((pointer, way, Said::Silent)) => {
                    // Where another has sent this node there may be nobody: that says nothing of whom it named.
                    match way {
                        Way::Sent => misled = true,
                        Way::Named | Way::Misled => tried.holders.add(&[pointer], None),
                    }
                    Vec::new()
                }
                Some((pointer, _, Said::Later(named))) => {
                    answer = Answer::Later;
                    by.push(pointer);
                    named
                }
            };
            asking.handle_answer(self.index.now(), answer);
            named.retain(|(addr, _)| may(*addr) && tried.may_be_sent_to(*addr));
            // Down the tree of those that it is passed on to, or up to where it comes from.
            self.standings.go_on(&mut asking, &named, may);
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
    ) -> Said {
        let is_head = request.method() == Method::HEAD;
        let peer = key(&pointer.holder);
        let begin = Instant::now();
        let sent = clock::now();
        let (pool, standings) = (self.pool.clone(), self.standings.clone());
        let answer = async move {
            match timeout(patience, pool.request(peer, request)).await {
                Ok(Ok(response)) => return Some(response),
                Ok(Err(unreachable)) => {
                    standings.blame(&pointer, patience, true);
                    tracing::debug!(?peer, %unreachable, "a peer could not be asked");
                }
                Err(_) => standings.blame(&pointer, patience, false),
            }
            None
        };
        let answer = match pointer.state {
            // Who is outrun by another is judged all the same: else silence would cost a liar nothing.
            State::Whole => tokio::spawn(answer).await.ok().flatten(),
            // It has a place for this node that others may want.
            State::Receiving => answer.await,
        };
        let Some(response) = answer else {
            self.outcomes.failed.inc();
            return Said::Silent;
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
                    Reason::HttpResponseTimeout => self.standings.blame(&pointer, patience, false),
                    _ => self.standings.blame(&pointer, patience, true),
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
            self.standings.learn(peer, Dealing::Wrong);
            let detail = "the peer answered without a proof";
            return Err(Failure::new(Reason::HttpProtocolError, detail));
        }
        let span = match (partial, rest) {
            (true, None) if !alone => part::proved_alone(&head.headers).ok_or_else(|| {
                self.standings.learn(peer, Dealing::Wrong);
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
            self.standings.learn(peer, Dealing::Wrong);
            let detail = "the peer's receipt is of something else than it says";
            return Err(Failure::new(Reason::HttpProtocolError, detail));
        }
        set_age(&mut head.headers, &receipt.subject, clock::now());
        Ok(UpstreamBody::Proved(Box::new(body)))
    }

    /// How long a peer, found at this level, is expected to take for a little.
    pub(crate) fn expects(&self, pointer: &Pointer, level: Level) -> Duration {
        self.standings.cost(key(&pointer.holder), level)
    }

    /// The peer is left alone for a while.
    pub(crate) fn shuns(&self, pointer: &Pointer) -> bool {
        self.standings.shuns(key(&pointer.holder))
    }

    /// What this key has signed is not true, whoever has passed it on. What is one's own word is true.
    pub(crate) fn distrust(&self, signer: Identity) {
        if signer != self.index.local().identity {
            self.standings.learn_lie(signer);
        }
    }

    /// What this key has signed is not used now.
    pub(crate) fn distrusts(&self, signer: Identity) -> bool {
        self.standings.distrusts(signer)
    }

    /// It has only put off who asked, for so long.
    pub(crate) fn blame(&self, pointer: &Pointer, waited: Duration) {
        self.standings.blame(pointer, waited, false);
    }

    /// What came of a transfer.
    pub(crate) fn learn(&self, peer: &Pointer, dealing: Dealing) {
        self.standings.learn(key(&peer.holder), dealing);
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
