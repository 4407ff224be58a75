//! The first request for a part of something of which nothing is held.

use std::sync::Arc;

use coralline_overlay::Key;
use http::header::{CONTENT_RANGE, HeaderMap};
use http::{HeaderValue, StatusCode};

use super::plan::{First, Part, slice_at};
use super::read::Sliced;
use super::run::Opened;
use crate::Proxy;
use crate::admit::Asked;
use crate::conditional::strong_validator;
use crate::fetch::Job;
use crate::fields::Mode;
use crate::flight::{Arriving, Begin};
use crate::flights::{Landing, origin_of};
use crate::limits::SMALL_SLICED;
use crate::message::{Body, Head, Stored};
use crate::peer::Fit;
use crate::policy::{NoStore, Rules};
use crate::proving::vouched_for_part;
use crate::target::Target;
use crate::upstream::Upstream;

/// How slices of one resource are asked for.
pub(crate) struct Wanted {
    pub(crate) target: Target,
    pub(crate) uri: Arc<str>,
    /// The scheme, if there is one, and the authority: for what one origin may take of this node.
    pub(crate) origin: Arc<str>,
    pub(crate) headers: HeaderMap,
    pub(crate) mode: Mode,
    pub(crate) rules: Rules,
}

impl Wanted {
    pub(crate) fn of(asked: &Asked) -> Self {
        let Asked { target, uri, headers, mode, rules, .. } = asked;
        Self::new(target, uri, headers, *mode, *rules)
    }

    pub(super) fn of_job(job: &Job) -> Self {
        Self::new(&job.target, &job.uri, &job.headers, job.mode, job.rules)
    }

    fn new(target: &Target, uri: &Arc<str>, headers: &HeaderMap, mode: Mode, rules: Rules) -> Self {
        let origin = origin_of(uri).into();
        let (target, uri, headers) = (target.clone(), uri.clone(), headers.clone());
        Self { target, uri, origin, headers, mode, rules }
    }
}

/// What became of an answer to a request for a part.
pub(crate) enum Begun {
    /// Slices.
    Slices(Begin),
    /// It is no part, or all there is: an answer like any other.
    Other(Box<Upstream>),
    /// No slices can be made of it: the whole has to be asked for.
    Unfit,
}

impl Proxy {
    /// What to ask for first, if slices can be kept, for a client that wants `range`.
    pub(crate) fn first_slices(&self, range: Option<&HeaderValue>) -> Option<First> {
        self.tier.as_ref().and(range).and_then(First::of)
    }

    /// Begins an object in slices with a part that has come.
    pub(crate) async fn begin_slices(
        self: &Arc<Self>,
        landing: &Landing,
        job: &Job,
        first: First,
        mut upstream: Upstream,
    ) -> Begun {
        if upstream.head.status != StatusCode::PARTIAL_CONTENT {
            return Begun::Other(upstream.into());
        }
        let headers = &mut upstream.head.headers;
        let (Some(tier), Some(part)) = (&self.tier, Part::of(headers)) else { return Begun::Unfit };
        headers.remove(CONTENT_RANGE);
        if part.is_whole() {
            upstream.head.status = StatusCode::OK;
            return Begun::Other(upstream.into());
        }
        let (Some(slices), Some(_)) = (first.slices(&part), strong_validator(headers)) else {
            return Begun::Unfit;
        };
        let arriving = match self.part_of(job, &upstream, part.total) {
            Ok(arriving) => arriving,
            // That one client showed credentials says nothing about the others.
            Err(NoStore::Authorization) => {
                return Begun::Slices(Begin::Pass(NoStore::Authorization));
            }
            Err(reason) => {
                self.unshared.insert(job.uri.clone(), reason);
                return Begun::Slices(Begin::Pass(reason));
            }
        };
        if !landing.flight.begin_landing() {
            return Begun::Unfit;
        }
        let Some(object) = tier.put_head(&job.uri, &arriving, part.total).await else {
            return Begun::Unfit;
        };
        let Upstream { body, source, peer, .. } = upstream;
        if let Some(receipt) = body.receipt_of_whole() {
            self.slices.is_of(object.version(), receipt);
        }
        let wanted = Arc::new(Wanted::of_job(job));
        // Without a place for it now, its readers ask for one.
        let run = self.slices.board(&object, slices, &wanted.origin).ok().flatten();
        let Arriving { head, variant, freshness, .. } = &*arriving;
        let (key, on_disk) = (Key::of_name(job.uri.as_bytes()), Body::on_disk(object));
        let stored = Stored::new(head.clone(), variant.clone(), *freshness, on_disk, key);
        let stored = Arc::new(stored);
        let version = stored.body.object().map(coralline_disk::Object::version);
        version.inspect(|version| landing.flight.set_reading(self.slices.reader(*version)));
        if let Some(run) = run {
            let (proxy, wanted, stored) = (self.clone(), wanted.clone(), stored.clone());
            job.take_claims().into_iter().for_each(|(number, told, is_ours)| {
                let mut slices = run.slices.iter();
                if let Some((.., slice)) = slices.find(|(_, other, _)| *other == number) {
                    slice.set_claim(told, is_ours);
                }
            });
            let told = job.is_shared().then(|| arriving.clone());
            let peer = peer.map(|sender| sender.pointer);
            let opened = Opened { body, part, told, peer };
            tokio::spawn(async move { proxy.fly_run(run, &wanted, &stored, Some(opened)).await });
        }
        if !landing.keep(|| self.store.insert(&job.uri, &stored)) {
            self.forget(&job.uri);
        } else if slice_at(part.total - 1) < SMALL_SLICED {
            let rest = Sliced::new(self, &stored, Some(wanted), (0, part.total));
            tokio::spawn(async move {
                let Some(mut rest) = rest else { return };
                while let Some(Ok(_)) = rest.next().await {}
            });
        }
        Begun::Slices(Begin::Stored(stored, source, Some(StatusCode::PARTIAL_CONTENT)))
    }

    /// The response of which this is a part.
    pub(crate) fn part_of(
        &self,
        job: &Job,
        upstream: &Upstream,
        total: u64,
    ) -> Result<Arc<Arriving>, NoStore> {
        let mut arriving = self.described(job, upstream, StatusCode::OK)?;
        let Head { headers, length, .. } = &mut arriving.head;
        headers.remove(CONTENT_RANGE);
        *length = Some(total);
        Ok(Arc::new(arriving))
    }

    /// What a peer's answer to a request for a part is to who asked.
    pub(crate) fn fits_as_part(&self, job: &Job, upstream: &Upstream) -> Fit {
        if upstream.head.status != StatusCode::PARTIAL_CONTENT {
            // Who has another version is as true.
            return Fit::Useless;
        }
        let Some(part) = Part::of(&upstream.head.headers) else { return Fit::Wrong };
        let arriving = self.part_of(job, upstream, part.total);
        let vouched = |arriving: &Arriving| vouched_for_part(job, arriving, upstream, &part);
        self.fits_if(arriving, upstream, vouched)
    }
}
