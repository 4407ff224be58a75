//! Bringing slices in a row: from peers that hold them, and what they do not from the origin, by one request or
//! more where its transfer breaks.

use std::sync::Arc;
use std::time::Duration;

use coralline_sources::Dealing;
use http::Method;
use http::header::{AGE, CONTENT_RANGE, IF_RANGE, RANGE};
use tokio::time::timeout;

use super::begin::Wanted;
use super::plan::{Part, Verdict, bytes, judge};
use super::slice::End;
use super::{Run, changed, nobody_reads};
use crate::Proxy;
use crate::conditional::strong_validator;
use crate::fields::kept;
use crate::limits::{MAX_RESUMES, PEER_STALL, RUN_PATIENCE};
use crate::message::Stored;
use crate::policy::{NoStore, freshen, storable};
use crate::pump::Rate;
use crate::purge::Verdict as Purged;
use crate::reason::{Failure, Reason};
use crate::store::Change;
use crate::upstream::{Sender, Upstream, UpstreamBody};

impl Proxy {
    /// Flies in a task of its own.
    pub(crate) fn start_run(self: Arc<Self>, run: Run, wanted: Arc<Wanted>, stored: Arc<Stored>) {
        tokio::spawn(async move { self.fly_run(run, &wanted, &stored, None, None).await });
    }

    /// Brings the slices, the first of them from `opened` if that has come already, maybe from a `peer`.
    pub(crate) async fn fly_run(
        &self,
        mut run: Run,
        wanted: &Wanted,
        stored: &Stored,
        opened: Option<(UpstreamBody, Part)>,
        peer: Option<Sender>,
    ) {
        let of_origin = run.places.clone();
        let places = async { (of_origin.acquire().await, self.slices.places.acquire().await) };
        let Ok(_places) = timeout(RUN_PATIENCE, places).await else {
            let detail = "this node has too many fetches of slices under way; try again soon";
            return run.fail(&Failure::new(Reason::ConnectionLimitReached, detail));
        };
        if let Some(opened) = opened {
            let stall = if opened.0.receipt().is_some() { PEER_STALL } else { self.stall_timeout };
            match self.fill(&mut run, stored, opened, stall).await {
                Err(failure) if failure.again => return run.fail(&failure),
                Err(failure) => {
                    peer.inspect(|peer| self.peers.learn(&peer.pointer, Dealing::Failed));
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
        for run in self.share(run, wanted, stored, &holders).await {
            self.fly_to_origin(run, wanted, stored).await;
        }
    }

    /// Brings the slices from the origin.
    async fn fly_to_origin(&self, mut run: Run, wanted: &Wanted, stored: &Stored) {
        let (mut broken, mut asked) = (0, 0);
        let slices = run.slices.len();
        while let Some(at) = run.at() {
            let end = match self.ask_for_part(wanted, stored, at, run.until()).await {
                Ok(opened) => self.fill(&mut run, stored, opened, self.stall_timeout).await,
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
                    broken += 1;
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
    ) -> Result<(UpstreamBody, Part), Failure> {
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
                Ok((upstream.body, part))
            }
            Verdict::Changed => Err(changed()),
            Verdict::Failed => {
                let host = &wanted.target.host;
                let detail = format!("{host} answered {} about a part", head.status);
                Err(Failure::new(Reason::HttpProtocolError, detail))
            }
        }
    }

    /// Octets to their slices, each to the disk as it is full.
    pub(super) async fn fill(
        &self,
        run: &mut Run,
        stored: &Stored,
        (mut body, part): (UpstreamBody, Part),
        stall: Duration,
    ) -> Result<(), Failure> {
        let object = stored.body.object().expect("what is held in part is on disk");
        let (version, mut at) = (object.version(), part.first);
        let mut rate = Rate::new();
        while at < part.end {
            let Some(piece) = body.next(stall).await else {
                let detail = format!("the part ended after {} octets", at - part.first);
                return Err(Failure::new(Reason::HttpResponseIncomplete, detail));
            };
            let mut octets = piece?;
            let wanted = run.at().unwrap_or(part.end);
            // What is before the first slice, or beyond what was promised.
            let passed = wanted.saturating_sub(at).min(octets.len() as u64);
            let left = (part.end - at).min(octets.len() as u64);
            octets = octets.slice(fits(passed)..fits(left));
            at += left;
            rate.check(at, || !self.slices.is_read(version))?;
            while let Some((range, _, slice)) = run.slices.front().filter(|_| !octets.is_empty()) {
                if self.slices.is_outdated(version) {
                    return Err(changed());
                }
                octets = slice.push(octets);
                let Some(whole) = slice.whole() else { continue };
                let written = match &self.tier {
                    Some(tier) => tier.write_slice(object, range.start, whole).await,
                    None => false,
                };
                self.metrics.slices.inc();
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
    async fn outdate(&self, wanted: &Wanted, stored: &Stored) {
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
