//! Bringing slices in a row: from peers that hold them, and what they do not from the origin, by one request or
//! more where its transfer breaks.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use coralline_overlay::{Pointer, State};
use coralline_sources::Dealing;
use http::Method;
use http::header::{AGE, CONTENT_RANGE, IF_RANGE, RANGE};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::begin::Wanted;
use super::plan::{Part, Verdict, bytes, judge};
use super::slice::{End, Shows, Slice};
use super::{Run, changed, nobody_reads};
use crate::Proxy;
use crate::conditional::strong_validator;
use crate::fetch::Job;
use crate::fields::kept;
use crate::flight::Arriving;
use crate::limits::{MAX_RESUMES, PEER_STALL, RECEIVING_STALL, RESUME_PROGRESS, RUN_PATIENCE};
use crate::message::Stored;
use crate::policy::{NoStore, freshen, storable};
use crate::proving::Proving;
use crate::pump::{Pace, Rate};
use crate::purge::Verdict as Purged;
use crate::reason::{Failure, Reason};
use crate::store::Change;
use crate::upstream::{Upstream, UpstreamBody};

/// A part that has begun to come.
pub(crate) struct Opened {
    pub(super) body: UpstreamBody,
    pub(super) part: Part,
    /// The response that it is of, if its slices can be shown to peers under it, each by itself.
    pub(super) told: Option<Arc<Arriving>>,
    /// The peer that sends it; nothing for the origin.
    pub(super) peer: Option<Pointer>,
}

impl Proxy {
    /// Flies in a task of its own.
    pub(crate) fn start_run(self: Arc<Self>, run: Run, wanted: Arc<Wanted>, stored: Arc<Stored>) {
        tokio::spawn(async move { self.fly_run(run, &wanted, &stored, None).await });
    }

    /// Brings the slices, the first of them from `opened` if that has come already.
    pub(crate) async fn fly_run(
        &self,
        mut run: Run,
        wanted: &Wanted,
        stored: &Stored,
        opened: Option<Opened>,
    ) {
        let of_origin = run.places.clone();
        let places = async { (of_origin.acquire().await, self.slices.places.acquire().await) };
        let Ok(_places) = timeout(RUN_PATIENCE, places).await else {
            let detail = "this node has too many fetches of slices under way; try again soon";
            return run.fail(&Failure::new(Reason::ConnectionLimitReached, detail));
        };
        if let Some(opened) = opened {
            let (peer, stop) = (opened.peer, CancellationToken::new());
            match self.fill(&mut run, wanted, stored, opened, &stop).await {
                Err(failure) if failure.again => return run.fail(&failure),
                Err(failure) => {
                    peer.inspect(|peer| self.peers.learn(peer, Dealing::Failed));
                    self.metrics.resumed.inc();
                    tracing::debug!(uri = %wanted.uri, "{failure}; going on elsewhere");
                }
                Ok(()) => {}
            }
        }
        let holders = match run.slices.is_empty() {
            true => return,
            false => self.holders(&wanted.uri, &wanted.target).await,
        };
        let left = self.share(vec![run], wanted, stored, &holders).await;
        if !left.is_empty() {
            self.fly_cold(left, wanted, stored).await;
        }
    }

    /// Brings the slices from the origin.
    pub(super) async fn fly_to_origin(&self, mut run: Run, wanted: &Wanted, stored: &Stored) {
        run.slices.iter().for_each(|(.., slice)| slice.expects_origin());
        let (mut broken, mut asked, mut resumed_at) = (0, 0, run.at().unwrap_or(0));
        let (slices, stop) = (run.slices.len(), CancellationToken::new());
        while let Some(at) = run.at() {
            let end = match self.ask_for_part(wanted, stored, at, run.until()).await {
                Ok(opened) => self.fill(&mut run, wanted, stored, opened, &stop).await,
                Err(failure) => Err(failure),
            };
            asked += 1;
            match end {
                Ok(()) => {}
                Err(failure) if failure.again => {
                    self.outdate(wanted, stored).await;
                    return run.fail(&failure);
                }
                Err(failure) => {
                    let stands = run.at().unwrap_or(u64::MAX);
                    if stands >= resumed_at + RESUME_PROGRESS {
                        broken = 0;
                    }
                    (broken, resumed_at) = (broken + 1, stands);
                    // What brings nothing brings nothing the next time either.
                    if broken > MAX_RESUMES || run.at() == Some(at) {
                        self.metrics.count_error(failure.reason);
                        tracing::warn!(uri = %wanted.uri, "{failure}");
                        return run.fail(&failure);
                    }
                    self.metrics.resumed.inc();
                }
            }
            if run.at() == Some(at) || asked > slices + MAX_RESUMES as usize {
                let detail = "the origin sends less than it is asked for";
                return run.fail(&Failure::new(Reason::HttpResponseIncomplete, detail));
            }
        }
    }

    /// Asks the origin for the octets `at..until`, if they are still of this version.
    async fn ask_for_part(
        &self,
        wanted: &Wanted,
        stored: &Stored,
        at: u64,
        until: u64,
    ) -> Result<Opened, Failure> {
        let held = &stored.head.headers;
        let validator = strong_validator(held).expect("nothing else is held in part");
        let mut headers = wanted.headers.clone();
        self.signature.sign(&mut headers, wanted.mode);
        headers.insert(RANGE, bytes(at, until));
        headers.insert(IF_RANGE, validator.clone());
        let upstream = self.origin.ask(&Method::GET, &wanted.target, &headers, None).await?;
        let head = &upstream.head;
        match judge(head.status, &head.headers, held, at, stored.body.len()) {
            Verdict::Goes(part) => {
                self.freshen_by_part(wanted, stored, &upstream);
                let job = Job::of_wanted(wanted);
                let told = self.part_of(&job, &upstream, part.total).ok();
                let told = told.filter(|_| job.is_shared());
                Ok(Opened { body: upstream.body, part, told, peer: None })
            }
            Verdict::Changed => Err(changed()),
            Verdict::Failed => {
                let host = &wanted.target.host;
                let detail = format!("{host} answered {} about a part", head.status);
                Err(Failure::new(Reason::HttpProtocolError, detail))
            }
        }
    }

    /// Octets to their slices, each to the disk as it is full. Once `stop` is cancelled no more are waited for; what
    /// is full by then still lands, as nobody could ask for what lacks of it.
    pub(super) async fn fill(
        &self,
        run: &mut Run,
        wanted: &Wanted,
        stored: &Stored,
        opened: Opened,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let object = stored.body.object().expect("what is held in part is on disk");
        let Opened { mut body, part, told, peer } = opened;
        let stall = match peer.map(|peer| peer.state) {
            None => self.stall_timeout,
            Some(State::Whole) => PEER_STALL,
            // It has it as fast as others let it.
            Some(State::Receiving) => RECEIVING_STALL,
        };
        let is_holder = peer.is_some_and(|peer| peer.state == State::Whole);
        let (version, mut at) = (object.version(), part.first);
        let (mut rate, mut pace, mut began) = (Rate::new(), Pace::new(), BTreeSet::new());
        while at < part.end {
            if is_holder && pace.is_slow() {
                let detail = "the peer sends less than it should";
                return Err(Failure::new(Reason::HttpResponseIncomplete, detail));
            }
            let begin = Instant::now();
            let next = stop.run_until_cancelled(body.next(stall));
            let Some(piece) = next.await else { return Ok(()) };
            let Some(piece) = piece else {
                let detail = format!("the part ended after {} octets", at - part.first);
                return Err(Failure::new(Reason::HttpResponseIncomplete, detail));
            };
            let mut octets = piece?;
            pace.add(octets.len(), begin.elapsed());
            let stands = run.at().unwrap_or(part.end);
            // What is before the first slice, or beyond what was promised.
            let passed = stands.saturating_sub(at).min(octets.len() as u64);
            let left = (part.end - at).min(octets.len() as u64);
            octets = octets.slice(fits(passed)..fits(left));
            at += left;
            rate.check(at, || !self.slices.is_awaited(version))?;
            while let Some((range, number, slice)) =
                run.slices.front().filter(|_| !octets.is_empty())
            {
                if self.slices.is_outdated(version) {
                    return Err(changed());
                }
                if began.insert(*number) {
                    self.show(slice, wanted, (&body, &part), told.as_ref(), range);
                }
                let own = octets.len().min(fits(range.end - range.start) - slice.received());
                if let (Some((_, proving)), UpstreamBody::Plain(_)) = (slice.proving(), &body) {
                    proving.update(&octets[..own]);
                }
                octets = slice.push(octets);
                let Some(whole) = slice.whole() else { continue };
                // Only the end of the stream may say that this is the whole of the part.
                if body.is_alone() {
                    let end = async { while matches!(body.next(stall).await, Some(Ok(_))) {} };
                    stop.run_until_cancelled(end).await;
                }
                let written = match &self.tier {
                    Some(tier) => tier.write_slice(object, range.start, whole).await,
                    None => false,
                };
                self.metrics.slices.inc();
                let of = (version, *number);
                if let Some((told, receipt)) = slice.finish().filter(|_| written) {
                    self.keep_receipt(&wanted.uri, of, told, receipt, slice.take_claim());
                }
                run.ended(if written { End::OnDisk } else { End::Here });
                if !self.slices.is_read(version) {
                    // Who comes later begins where this one stood.
                    run.fail(&nobody_reads());
                }
            }
            if run.slices.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Says what peers can be shown of a slice that comes from here: what was begun elsewhere is not gone on with,
    /// but what this node signs itself.
    fn show(
        &self,
        slice: &Slice,
        wanted: &Wanted,
        (body, part): (&UpstreamBody, &Part),
        told: Option<&Arc<Arriving>>,
        octets: &Range<u64>,
    ) {
        let proving = match (body, told) {
            (UpstreamBody::Plain(_), Some(_)) if slice.received() > 0 => {
                let signing = slice.proving().filter(|(_, proving)| proving.is_signing());
                if signing.is_some() {
                    return;
                }
                None
            }
            (_, Some(_)) if slice.received() > 0 => None,
            (UpstreamBody::Plain(_), Some(told)) => {
                let part = Part { first: octets.start, end: octets.end, total: part.total };
                let (uri, request) = (&wanted.uri, &wanted.headers);
                Proving::signing_part(&self.index, uri, request, told, &part)
            }
            (UpstreamBody::Proved(body), Some(_))
                if body.is_alone() && *octets == (part.first..part.end) =>
            {
                Some(body.proving().clone())
            }
            _ => None,
        };
        slice.show(match told.cloned().zip(proving) {
            Some((told, proving)) => Shows::Proved(told, proving),
            None => Shows::Nothing,
        });
    }

    /// RFC 9111, section 3.4: what comes later has the later word on the fields.
    fn freshen_by_part(&self, wanted: &Wanted, held: &Stored, upstream: &Upstream) {
        let version = held.body.object().map(coralline_disk::Object::version);
        let mut update = kept(upstream.head.headers.clone(), wanted.mode);
        update.remove(CONTENT_RANGE);
        self.revise(&wanted.uri, |stored| {
            let same = stored.body.object().map(coralline_disk::Object::version) == version;
            // What was purged does not come back by a part of it.
            if !same || self.purges.of(&wanted.uri, stored) != Purged::Untouched {
                return Change::Keep;
            }
            let headers = freshen(&stored.head.headers, &update);
            let mut said = headers.clone();
            said.extend(upstream.head.headers.get(AGE).map(|age| (AGE, age.clone())));
            let (status, times) = (stored.head.status, upstream.times);
            match storable(&wanted.headers, status, &said, times, &wanted.rules) {
                Ok(freshness) => Change::Replace(Arc::new(stored.updated(headers, freshness))),
                // That one client showed credentials says nothing about the others.
                Err(NoStore::Authorization) => Change::Keep,
                Err(_) => Change::Remove,
            }
        });
    }

    /// This version is of the past.
    pub(super) async fn outdate(&self, wanted: &Wanted, stored: &Stored) {
        let Some(object) = stored.body.object() else { return };
        let version = object.version();
        self.slices.outdate(version);
        tracing::debug!(uri = %wanted.uri, version, "changed while it was held in part");
        self.revise(&wanted.uri, |other| {
            match other.body.object().is_some_and(|other| other.version() == version) {
                true => Change::Remove,
                false => Change::Keep,
            }
        });
        if let Some(tier) = &self.tier {
            tier.remove_version(&wanted.uri, object).await;
        }
    }
}

/// Within a piece.
fn fits(octets: u64) -> usize {
    usize::try_from(octets).expect("no more than there are in memory")
}
