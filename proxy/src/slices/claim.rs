//! Whose it is to fetch a slice from the origin: one node of all. Decided by the index, each slice under a key of
//! its own, and so found there again as long as somebody has it.

use std::collections::BTreeSet;
use std::sync::Arc;

use coralline_overlay::Except;
use futures_util::stream::{self, StreamExt};
use http::HeaderMap;
use http::header::RANGE;

use super::begin::Wanted;
use super::plan::{First, bytes, octets, slice_at};
use super::share::Holder;
use super::{Run, slice_key};
use crate::Proxy;
use crate::announce::{Announcement, Located};
use crate::fetch::Job;
use crate::flight::{Flight, Stage};
use crate::limits::{CLAIM_ROUNDS, MAX_OPENING, MAX_RUN, PEERS_PATIENCE};
use crate::message::Stored;
use crate::peer::Tried;
use crate::search::PeerSearch;
use crate::upstream::Upstream;

/// What the index said of the slices of a run.
#[derive(Default)]
struct Claims {
    /// These are ours to fetch.
    ours: Vec<Run>,
    /// These others have, or are getting.
    held: Vec<Run>,
    holders: Vec<Holder>,
}

impl Proxy {
    /// Brings slices that nobody holds with the whole: from those that hold them alone, or are getting them; and
    /// from the origin what is ours to fetch. Who has nothing to give after all is passed by the next time.
    pub(super) async fn fly_cold(&self, mut left: Vec<Run>, wanted: &Wanted, stored: &Stored) {
        let mut tried = Except::default();
        for round in 0..=CLAIM_ROUNDS {
            let run = left.into_iter().flat_map(Run::split).map(|(_, run)| run);
            let claims = match wanted.target.site.is_none() && round < CLAIM_ROUNDS {
                true => self.claim(run.collect(), wanted, &tried).await,
                false => Claims { ours: run.collect(), ..Claims::default() },
            };
            let Claims { ours, held, holders } = claims;
            let flying = async {
                for run in Run::join(ours) {
                    self.fly_to_origin(run, wanted, stored).await;
                }
            };
            let sharing = self.share(held, wanted, stored, &holders);
            left = tokio::join!(flying, sharing).1;
            if left.is_empty() {
                return;
            }
            let named: Vec<_> = holders.into_iter().map(|holder| holder.pointer).collect();
            tried.add(&named, None);
        }
    }

    async fn claim(&self, slices: Vec<Run>, wanted: &Wanted, tried: &Except) -> Claims {
        let asked = slices.into_iter().map(|run| async {
            let located = match run.slices.front() {
                Some((_, number, slice)) => {
                    let (told, located) = match slice.take_claim() {
                        Some((told, true)) => (told, Located::Claimed),
                        Some((told, false)) => {
                            let located = told.locate_except(tried.clone()).await;
                            (told, located)
                        }
                        None => self.locate_slice(&wanted.uri, *number).await,
                    };
                    slice.set_claim(told, !matches!(located, Located::Held(..)));
                    located
                }
                None => Located::Unknown,
            };
            (run, located)
        });
        let mut claims = Claims::default();
        let mut asked = stream::iter(asked).buffered(usize::try_from(MAX_RUN).unwrap_or(1));
        while let Some((run, located)) = asked.next().await {
            let Located::Held(pointers, level) = located else {
                claims.ours.push(run);
                continue;
            };
            for pointer in pointers {
                let number = run.first();
                let same = |holder: &&mut Holder| holder.pointer.holder == pointer.holder;
                match claims.holders.iter_mut().find(same) {
                    Some(holder) => holder.has.iter_mut().for_each(|has| has.extend(number)),
                    None => {
                        let has = Some(number.into_iter().collect::<BTreeSet<_>>());
                        claims.holders.push(Holder { pointer, level, has });
                    }
                }
            }
            claims.held.push(run);
        }
        claims
    }

    async fn locate_slice(&self, uri: &Arc<str>, number: u32) -> (Announcement, Located) {
        let _place = self.slices.claims.acquire().await;
        Announcement::locate(&self.index, slice_key(uri, number), &self.closing).await
    }

    /// Sees to whom the first slices of something unknown are to be asked of, where no peer has the whole: the
    /// first from whoever has it, or from the origin as many in a row as are ours to fetch.
    pub(crate) async fn open_first(
        &self,
        flight: &Flight,
        job: &Job,
        headers: &mut HeaderMap,
    ) -> Option<Upstream> {
        let Some(First::From(from, end)) = job.first.filter(|_| job.is_shared()) else {
            return None;
        };
        let first = slice_at(from);
        let numbers = first..(slice_at(end - 1) + 1).min(first + MAX_OPENING);
        let located = stream::iter(numbers.clone())
            .map(|number| self.locate_slice(&job.uri, number))
            .buffered(usize::try_from(MAX_RUN).unwrap_or(1));
        let mut located = numbers.zip(located.collect::<Vec<_>>().await).peekable();
        let mut ours = from;
        if let Some((number, (told, by))) =
            located.next_if(|(_, (_, by))| matches!(by, Located::Held(..)))
        {
            headers.insert(RANGE, bytes(from, octets(number, u64::MAX).end));
            let search = PeerSearch {
                flight,
                job,
                headers,
                told: Some(&told),
                rest: None,
                tried: &mut Tried::default(),
                patience: PEERS_PATIENCE,
                insists: false,
            };
            let fits = |upstream: &_| self.fits_as_part(job, upstream);
            let given = self.ask_peers(search, by, fits).await;
            job.keep_claim(number, told, given.is_none());
            return given;
        }
        while let Some((number, (told, _))) =
            located.next_if(|(_, (_, by))| !matches!(by, Located::Held(..)))
        {
            job.keep_claim(number, told, true);
            ours = octets(number, u64::MAX).end;
        }
        flight.set_stage(Stage::Locating);
        headers.insert(RANGE, bytes(from, ours));
        None
    }
}
