//! Moving the octets of a flight: to its end, past breaks, and not for ever.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use coralline_overlay::{Identity, State};
use coralline_sources::Dealing;
use http::header::{
    CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode};
use http_body::Frame;
use tokio::time::{Instant, sleep};

use crate::Proxy;
use crate::announce::Announcement;
use crate::conditional::strong_validator;
use crate::digests::Digests;
use crate::fetch::Job;
use crate::flight::{Abandoned, Arriving, Flight, Stage};
use crate::flights::Landing;
use crate::limits::{
    MAX_PROVED, MAX_RESUMES, MIN_PEER_RATE, MIN_PROGRESS, PEER_RATE_PERIOD, PEER_STALL,
    RATE_PERIOD, RECEIVING_STALL, RESUME_BUDGET, RESUME_PROGRESS, SEAL_DELAY,
};
use crate::peer::{Fit, Tried};
use crate::policy::NoStore;
use crate::proving::Proving;
use crate::reason::{Failure, Reason};
use crate::search::PeerSearch;
use crate::slices::Part;
use crate::tier::Stream;
use crate::trailers;
use crate::upstream::{Sender, Upstream, UpstreamBody};

/// A body on its way, and the peer that sends it, if one does.
pub(crate) struct Coming {
    pub(crate) body: UpstreamBody,
    pub(crate) peer: Option<Sender>,
}

/// What is left of a body, and where it has to end.
struct Rest {
    coming: Coming,
    /// Octets at its start that are here already.
    skip: u64,
    /// Length of the whole, where it is known.
    total: Option<u64>,
}

impl Proxy {
    /// Moves octets until the end; a transfer that breaks goes on from where it stood, if it can.
    pub(crate) async fn pump(
        &self,
        landing: &Landing,
        job: &Job,
        arriving: &Arriving,
        coming: Coming,
        stream: &mut Option<Stream>,
        told: Option<&Announcement>,
    ) -> Result<(), Failure> {
        let flight = &landing.flight;
        let mut rest = Rest { coming, skip: 0, total: arriving.head.length };
        let (mut resumes, mut resumed_at, mut open) = (0, 0, true);
        let (mut rate, mut pace) = (Rate::new(), Pace::new());
        let (largest, mut digests) = (self.largest(), Digests::of(&arriving.head.headers));
        loop {
            let failure = match self.next_frame(&mut rest.coming, &mut pace, flight).await {
                Some(Ok(frame)) => {
                    let mut bytes = match frame.into_data() {
                        Ok(bytes) => bytes,
                        Err(frame) => {
                            let trailers = frame.into_trailers().unwrap_or_default();
                            flight.set_trailers(trailers::cleaned(trailers, job.mode));
                            continue;
                        }
                    };
                    let passed = bytes.len().min(usize::try_from(rest.skip).unwrap_or(usize::MAX));
                    rest.skip -= passed as u64;
                    let bytes = bytes.split_off(passed);
                    digests.update(&bytes);
                    rate.check(flight.received(), || flight.is_unread())?;
                    if let Some(proving) = flight.proving() {
                        match flight.received() > MAX_PROVED {
                            true => proving.give_up(),
                            false => proving.update(&bytes),
                        }
                    }
                    if let Some(disk) = stream.as_ref().filter(|_| !bytes.is_empty())
                        && (flight.received() > largest || !disk.push(bytes.clone()).await)
                    {
                        (*stream, ()) = (None, flight.set_disk(None));
                    }
                    if !bytes.is_empty() && flight.push(bytes).await == Err(Abandoned) {
                        return Err(unread("too large to keep, and nobody reads it any more"));
                    }
                    if open && !flight.is_complete() {
                        // Newcomers would miss the beginning: they go their own way.
                        open = false;
                        landing.close();
                        // From now on nobody could disown it: it is not kept.
                        *stream = None;
                        if stream.is_none() && flight.received() > self.store.largest() {
                            self.unshared.insert(job.uri.clone(), NoStore::TooLarge);
                        }
                    }
                    continue;
                }
                None => {
                    complete(flight, &rest)?;
                    self.judge(&rest.coming, pace.dealing());
                    return self.hold_to(digests, flight);
                }
                // Every octet has been proved; that there are no more was said at the beginning.
                Some(Err(_)) if flight.proving().is_some() && is_all(flight, arriving) => {
                    return self.hold_to(digests, flight);
                }
                Some(Err(failure)) => failure,
            };
            self.judge(&rest.coming, blame(&rest.coming, &failure, flight));
            if flight.received() >= resumed_at + RESUME_PROGRESS {
                resumes = 0;
            }
            (resumes, resumed_at) = (resumes + 1, flight.received());
            if resumes > MAX_RESUMES {
                return Err(failure);
            }
            tracing::debug!(uri = %job.uri, at = resumed_at, "{failure}; going on elsewhere");
            let broken = rest.coming.peer;
            rest = self.resume(flight, job, arriving, broken, told).await.ok_or(failure)?;
            told.inspect(|told| told.receiving(arriving.head.length));
            pace = Pace::new();
            self.metrics.resumed.inc();
            if let Some(proving) = flight.proving() {
                match &mut rest.coming.body {
                    UpstreamBody::Plain(_) => proving.take_over(flight.received()),
                    UpstreamBody::Proved(body) => body.go_on_with(proving),
                }
                flight.proves_more();
            }
        }
    }

    /// It is what its fields say that it is. Else it is the origin that is wrong, unless another node has signed
    /// all of it, who was to see that as well.
    fn hold_to(&self, digests: Digests, flight: &Flight) -> Result<(), Failure> {
        digests.finish().inspect_err(|_| {
            self.metrics.digest_mismatches.inc();
            let receipt = flight.proving().and_then(Proving::receipt);
            if let Some(receipt) = receipt.filter(|receipt| receipt.head.whole) {
                self.peers.distrust(Identity(receipt.subject.signer));
            }
        })
    }

    /// The next octets. A peer falls silent sooner than an origin may: others have the same. What came before
    /// is signed while they are waited for, so that peers have it soon.
    async fn next_frame(
        &self,
        coming: &mut Coming,
        pace: &mut Pace,
        flight: &Flight,
    ) -> Option<Result<Frame<Bytes>, Failure>> {
        let is_holder = coming.peer.is_some_and(|peer| peer.pointer.state == State::Whole);
        if is_holder && pace.is_slow() {
            let detail = "the peer sends less than it should";
            return Some(Err(Failure::new(Reason::HttpResponseIncomplete, detail)));
        }
        let patience = match coming.peer.map(|peer| peer.pointer.state) {
            None => self.stall_timeout,
            Some(State::Whole) => PEER_STALL,
            Some(State::Receiving) => RECEIVING_STALL,
        };
        let begin = Instant::now();
        let frame = {
            let mut next = pin!(coming.body.next_frame(patience.min(self.stall_timeout)));
            let due = flight.proving().filter(|proving| proving.is_due());
            let come = tokio::select! {
                biased;
                frame = &mut next => Some(frame),
                () = sleep(SEAL_DELAY), if due.is_some() => None,
            };
            match (come, due) {
                (Some(frame), _) => frame,
                (None, due) => {
                    due.inspect(|proving| proving.seal());
                    flight.proves_more();
                    next.await
                }
            }
        };
        if let Some(Ok(frame)) = &frame {
            pace.add(frame.data_ref().map_or(0, Bytes::len), begin.elapsed());
        }
        frame
    }

    /// What is thought of whoever sent it, if it was a peer. One that was receiving itself is as fast as
    /// others let it be.
    fn judge(&self, coming: &Coming, dealing: Dealing) {
        if let Some(Sender { pointer, .. }) = &coming.peer
            && (pointer.state == State::Whole || !matches!(dealing, Dealing::Sent(..)))
        {
            self.peers.learn(pointer, dealing);
        }
    }

    /// The rest of a body: from a peer that is further, or else from the origin, which one of those that
    /// have lost the same source asks. Only if it is certainly of the same octets.
    async fn resume(
        &self,
        flight: &Flight,
        job: &Job,
        arriving: &Arriving,
        broken: Option<Sender>,
        told: Option<&Announcement>,
    ) -> Option<Rest> {
        let at = flight.received();
        let validator = strong_validator(&arriving.head.headers)?;
        let mut headers = job.headers.clone();
        self.signature.sign(&mut headers, job.mode);
        headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={at}-")).ok()?);
        headers.insert(IF_RANGE, validator.clone());
        if let (Some(broken), Some(told)) = (broken, told) {
            flight.set_stage(Stage::Locating);
            told.lost();
            let mut tried = Tried::default();
            tried.holders.add(&[broken.pointer], None);
            let located = told.locate_except(tried.holders.clone()).await;
            let rest_of = flight.proving();
            let search = PeerSearch {
                flight,
                job,
                headers: &headers,
                told: Some(told),
                rest: rest_of,
                tried: &mut tried,
                patience: RESUME_BUDGET,
                insists: true,
            };
            // Who has another version is as true.
            let fits = |upstream: &Upstream| {
                let proving = upstream.body.proving();
                let same =
                    rest_of.is_none_or(|rest| proving.is_some_and(|more| more.is_same(rest)));
                match same && self.trusts(upstream) && goes_on(arriving, at, upstream).is_some() {
                    true => Fit::Good,
                    false => Fit::Useless,
                }
            };
            if let Some(upstream) = self.ask_peers(search, located, fits).await {
                return rest(arriving, at, upstream);
            }
        }
        flight.set_stage(Stage::Origin);
        let upstream = self.origin.ask(&Method::GET, &job.target, &headers, None).await.ok()?;
        rest(arriving, at, upstream)
    }
}

/// What it counts for that a transfer broke. Who has fallen silent may have lost its own source; and what can be
/// proved no longer is nobody's fault.
fn blame(coming: &Coming, failure: &Failure, flight: &Flight) -> Dealing {
    let is_receiving = coming.peer.is_some_and(|peer| peer.pointer.state == State::Receiving);
    match flight.proving() {
        Some(proving) if proving.receipt().is_none() => Dealing::Late(0.0),
        _ if is_receiving && failure.reason == Reason::HttpResponseTimeout => Dealing::Late(0.5),
        _ => Dealing::Failed,
    }
}

/// What an answer has of the rest, if it is of the same octets.
fn rest(arriving: &Arriving, at: u64, upstream: Upstream) -> Option<Rest> {
    let (skip, total) = goes_on(arriving, at, &upstream)?;
    let Upstream { body, peer, .. } = upstream;
    Some(Rest { coming: Coming { body, peer }, skip, total })
}

/// How many octets are to be skipped, and the length of the whole.
fn goes_on(arriving: &Arriving, at: u64, upstream: &Upstream) -> Option<(u64, Option<u64>)> {
    let (stored, head) = (&arriving.head.headers, &upstream.head);
    let same = |name| head.headers.get(&name) == stored.get(&name);
    if ![ETAG, LAST_MODIFIED, CONTENT_ENCODING].into_iter().all(same) {
        return None;
    }
    match head.status {
        StatusCode::PARTIAL_CONTENT => {
            let total = continues(&head.headers, at, arriving.head.length)?;
            Some((0, Some(total)))
        }
        // The whole again, which the validator says is the same. What a peer proves as a whole is not the end of
        // what another has begun.
        StatusCode::OK if upstream.peer.is_none() => Some((at, arriving.head.length)),
        _ => None,
    }
}

/// How fast octets come, by the time that was spent waiting for them: readers who are slow hold up what
/// comes after, and say nothing about the source.
pub(crate) struct Pace {
    octets: u64,
    waited: Duration,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self { octets: 0, waited: Duration::ZERO }
    }

    pub(crate) fn add(&mut self, octets: usize, waited: Duration) {
        self.octets += octets as u64;
        self.waited += waited;
    }

    fn dealing(&self) -> Dealing {
        Dealing::Sent(self.octets, self.waited)
    }

    /// Less than [`MIN_PEER_RATE`] on average, once that can be said.
    pub(crate) fn is_slow(&self) -> bool {
        let due = self.waited.as_secs_f64() * MIN_PEER_RATE as f64;
        self.waited >= PEER_RATE_PERIOD && (self.octets as f64) < due
    }
}

/// Watches that a transfer which nobody reads gets on: an origin that drips would hold it for ever.
pub(crate) struct Rate {
    since: Instant,
    received: u64,
}

impl Rate {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), received: 0 }
    }

    /// To be told how much has come.
    pub(crate) fn check(
        &mut self,
        received: u64,
        is_unread: impl FnOnce() -> bool,
    ) -> Result<(), Failure> {
        if self.since.elapsed() < RATE_PERIOD {
            return Ok(());
        }
        let slow = received.saturating_sub(self.received) < MIN_PROGRESS;
        *self = Self { since: Instant::now(), received };
        if slow && is_unread() {
            return Err(unread("too slow, and nobody reads it any more"));
        }
        Ok(())
    }
}

fn unread(detail: &'static str) -> Failure {
    Failure::new(Reason::HttpResponseIncomplete, detail)
}

/// The end came where it was promised.
fn complete(flight: &Flight, rest: &Rest) -> Result<(), Failure> {
    let received = flight.received();
    if rest.skip > 0 || rest.total.is_some_and(|total| total != received) {
        let detail = format!("the body ended after {received} octets");
        return Err(Failure::new(Reason::HttpResponseIncomplete, detail));
    }
    Ok(())
}

fn is_all(flight: &Flight, arriving: &Arriving) -> bool {
    arriving.head.length == Some(flight.received())
}

/// Content-Range says `at` to the end, of the length that was known; the total (RFC 9110, section 14.4).
fn continues(headers: &HeaderMap, at: u64, length: Option<u64>) -> Option<u64> {
    let Part { first, end, total } = Part::of(headers)?;
    let fits = first == at && end == total && length.is_none_or(|length| length == total);
    fits.then_some(total)
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_RANGE;

    use super::*;

    #[test]
    fn a_part_continues_only_if_it_begins_and_ends_where_it_must() {
        let check = |value: &'static str, length, expect| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(value));
            assert_eq!(continues(&headers, 10, length), expect, "{value}");
        };
        check("bytes 10-99/100", Some(100), Some(100));
        check("bytes 10-99/100", None, Some(100));
        check("bytes 10-99/100", Some(101), None);
        check("bytes 9-99/100", None, None);
        check("bytes 10-98/100", None, None);
        check("bytes +10-99/100", None, None);
        check("bytes 10-99/+100", None, None);
        check("bytes 10-99/*", None, None);
        check("bytes */100", None, None);
        check("bytes 10-18446744073709551615/100", None, None);
    }
}
