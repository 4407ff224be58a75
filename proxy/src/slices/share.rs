//! The slices of one run from several peers at once: what a [`Schedule`] decides, done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coralline_disk::Object;
use coralline_overlay::{IndexError, Key, Level, Pointer, State};
use coralline_receipt::limits::GROUP;
use coralline_sources::limits::PEER_HEAD_TIMEOUT;
use coralline_sources::{Dealing, Fault, Schedule, Step};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Method;
use http::header::{IF_RANGE, RANGE};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::begin::Wanted;
use super::plan::{Verdict, bytes, judge};
use super::run::Opened;
use super::{Run, nobody_reads};
use crate::Proxy;
use crate::admit::Asked;
use crate::conditional::strong_validator;
use crate::fetch::Job;
use crate::limits::{
    ASK_AGAIN_AFTER, LOCATE_BUDGET, MAX_SHARED, MAX_SOURCES, PEERS_PATIENCE, SLICES_AHEAD,
};
use crate::message::{Source, Stored};
use crate::peer::{Given, Search, Tried};
use crate::target::Target;
use crate::upstream::Upstream;

/// A peer that has slices.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(super) pointer: Pointer,
    pub(super) level: Level,
    /// Which; nothing for all.
    pub(super) has: Option<BTreeSet<u32>>,
}

impl Proxy {
    /// Those who hold the whole, as the index says or said a moment ago.
    pub(super) async fn holders(&self, uri: &Arc<str>, target: &Target) -> Arc<[Holder]> {
        if target.site.is_some() {
            return Arc::default();
        }
        // One asks at a time, and that the index did not answer says nothing.
        let known = self.slices.holders.get_with(uri.clone(), Arc::default);
        let look_up = known.get_or_try_init(|| async {
            let found = self.index.get(Key::of_name(uri.as_bytes())).await?;
            let whole = found.pointers.into_iter().filter(|of| of.state == State::Whole);
            let level = found.level;
            let holder = |pointer| Holder { pointer, level, has: None };
            Ok::<_, IndexError>(whole.map(holder).take(MAX_SOURCES).collect())
        });
        match timeout(LOCATE_BUDGET, look_up).await {
            Ok(Ok(holders)) => holders.clone(),
            _ => Arc::default(),
        }
    }

    /// Who is asked first for what lacks.
    pub(crate) async fn source_of_rest(&self, asked: &Asked) -> Source {
        let holders = self.holders(&asked.uri, &asked.target).await;
        holders.first().map_or(Source::Origin, |holder| Source::Peer(holder.level))
    }

    /// Brings of the run what these peers have; returns what they do not.
    pub(super) async fn share(
        &self,
        runs: Vec<Run>,
        wanted: &Wanted,
        stored: &Stored,
        holders: &[Holder],
    ) -> Vec<Run> {
        let Some(first) = runs.first().filter(|_| !holders.is_empty()) else { return runs };
        let (version, near) =
            (first.version, first.first().unwrap_or(0).saturating_add(SLICES_AHEAD));
        let count: usize = runs.iter().map(|run| run.slices.len()).sum();
        // One place the run has already. The others are of its origin's too, as if each were a run.
        let (of_origin, mut places) = (first.places.clone(), Vec::new());
        while places.len() + 1 < MAX_SHARED.min(count) {
            let place = (of_origin.try_acquire(), self.slices.places.try_acquire());
            let (Ok(of_origin), Ok(of_all)) = place else { break };
            places.push((of_origin, of_all));
        }
        let mut waiting: BTreeMap<_, _> = runs.into_iter().flat_map(Run::split).collect();
        let mut schedule = Schedule::new(waiting.keys().copied(), near, places.len() + 1);
        for Holder { pointer, level, has } in holders {
            schedule.add(has.clone(), self.peers.expects(pointer, *level));
        }
        let (mut under_way, mut stops) = (FuturesUnordered::new(), BTreeMap::new());
        loop {
            while let Some(step) = schedule.poll(self.index.now()) {
                match step {
                    Step::Ask { slice, source } => {
                        let mut run = waiting.remove(&slice).expect("it is asked of one at a time");
                        let stop = CancellationToken::new();
                        stops.insert(slice, stop.clone());
                        let holder = &holders[source];
                        under_way.push(async move {
                            let brought = self.bring(&mut run, wanted, stored, holder, &stop).await;
                            (slice, source, run, brought)
                        });
                    }
                    Step::Leave { slice, .. } => {
                        stops.remove(&slice).inspect(CancellationToken::cancel);
                    }
                }
            }
            let wake = schedule.wake().map(|at| at.since(self.index.now()));
            let ended = tokio::select! {
                ended = under_way.next() => ended,
                () = sleep(wake.unwrap_or_default()), if wake.is_some() => continue,
            };
            let Some((slice, source, run, brought)) = ended else { break };
            stops.remove(&slice);
            match brought {
                Ok(()) => schedule.handle_done(self.index.now(), source, slice),
                Err(fault) => {
                    schedule.handle_failed(source, slice, fault);
                    waiting.insert(slice, run);
                }
            }
            // Those that nothing is left for are free for others.
            places.truncate((waiting.len() + under_way.len()).saturating_sub(1));
            if self.slices.is_outdated(version) {
                break;
            }
            if !self.slices.is_read(version) {
                waiting.values_mut().for_each(|run| run.fail(&nobody_reads()));
                return Vec::new();
            }
        }
        drop(under_way);
        Run::join(waiting.into_values())
    }

    /// Brings one slice, or what lacks of it, from one peer, until `stop` is cancelled.
    async fn bring(
        &self,
        run: &mut Run,
        wanted: &Wanted,
        stored: &Stored,
        holder: &Holder,
        stop: &CancellationToken,
    ) -> Result<(), Fault> {
        let (Some(at), until) = (run.at(), run.until()) else { return Ok(()) };
        let asked = self.ask_holder(wanted, stored, (at, until), holder);
        let opened = stop.run_until_cancelled(asked).await.unwrap_or(Err(Fault::Left))?;
        let filled = self.fill(run, wanted, stored, opened, stop).await;
        match filled {
            Ok(()) if run.slices.is_empty() => Ok(()),
            Ok(()) if stop.is_cancelled() => Err(Fault::Left),
            Err(failure) if failure.again => Err(Fault::Left),
            broken => {
                self.metrics.resumed.inc();
                self.peers.learn(&holder.pointer, Dealing::Failed);
                tracing::debug!(uri = %wanted.uri, at, ?broken, "a slice broke off; going on elsewhere");
                Err(Fault::Broken)
            }
        }
    }

    /// Asks a peer for these octets, if it has them of this version.
    async fn ask_holder(
        &self,
        wanted: &Wanted,
        stored: &Stored,
        (at, until): (u64, u64),
        holder: &Holder,
    ) -> Result<Opened, Fault> {
        let held = &stored.head.headers;
        let validator = strong_validator(held).expect("nothing else is held in part");
        let from = at - at % GROUP;
        let mut headers = wanted.headers.clone();
        self.signature.sign(&mut headers, wanted.mode);
        headers.insert(RANGE, bytes(from, until));
        headers.insert(IF_RANGE, validator.clone());
        let Holder { pointer, level, .. } = holder;
        let holders = &[*pointer][..];
        // One that is getting it may have to wait for the origin, as long as it says so.
        let patience = match pointer.state {
            State::Whole => PEER_HEAD_TIMEOUT,
            State::Receiving => PEERS_PATIENCE,
        };
        let deadline = Instant::now() + patience;
        let (level, rest, misled) = (*level, None, false);
        let search = Search { holders, level, deadline, rest, misled };
        let (job, mut tried) = (Job::of_wanted(wanted), Tried::default());
        let fits = |upstream: &_| self.fits_as_part(&job, upstream);
        let (get, target) = (&Method::GET, &wanted.target);
        let given = loop {
            match self.peers.ask(get, target, &headers, search, &mut tried, fits).await {
                Given::Later { .. } if Instant::now() < deadline => sleep(ASK_AGAIN_AFTER).await,
                given => {
                    if let (Given::Later { .. }, State::Receiving) = (&given, pointer.state) {
                        self.peers.blame(pointer, patience);
                    }
                    break given;
                }
            }
        };
        match given {
            Given::Good(upstream) => {
                let head = &upstream.head;
                match judge(head.status, &head.headers, held, from, stored.body.len()) {
                    // It holds what another has signed: nothing of it goes with what is here.
                    Verdict::Goes(_) if !self.is_of_same(stored, &upstream) => Err(Fault::Broken),
                    Verdict::Goes(part) => {
                        let told = upstream
                            .body
                            .is_alone()
                            .then(|| self.part_of(&job, &upstream, part.total).ok());
                        let (body, told) = (upstream.body, told.flatten());
                        Ok(Opened { body, part, told, peer: Some(*pointer) })
                    }
                    // It has another version.
                    Verdict::Changed | Verdict::Failed => Err(Fault::Lacks),
                }
            }
            // It has too much to do for this one.
            Given::Later { .. } if !self.peers.shuns(pointer) => Err(Fault::Lacks),
            // One that was said to have all has nothing.
            _ if holder.has.is_none() || self.peers.shuns(pointer) => Err(Fault::Broken),
            _ => Err(Fault::Lacks),
        }
    }

    /// It is of the same whole as what came before, or of a slice by itself.
    fn is_of_same(&self, stored: &Stored, upstream: &Upstream) -> bool {
        let version = stored.body.object().map(Object::version);
        let both = version.zip(upstream.body.receipt_of_whole());
        both.is_none_or(|(version, receipt)| self.slices.is_of(version, receipt))
    }
}
