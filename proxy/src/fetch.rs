//! Steps 4 to 7 for one flight: locate, a peer, the origin, receive, store, announce.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coralline_disk::Object;
use coralline_overlay::Key;
use http::header::{HeaderMap, RANGE};
use http::{Method, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::Proxy;
use crate::admit::Asked;
use crate::announce::{Announcement, Located};
use crate::clock;
use crate::fields::{CACHE_STATUS, Mode, kept};
use crate::flight::{Arriving, Begin, Flight, Stage};
use crate::flights::Landing;
use crate::interim::Early;
use crate::limits::{DISK_PATIENCE, MAX_PEER_LIFETIME};
use crate::message::{Body, Head, Source, Stored};
use crate::peer::Tried;
use crate::policy::{
    Freshness, Identified, NoStore, Rules, Variant, identifies, preconditions, storable, vary,
};
use crate::proving::Proving;
use crate::pump::Coming;
use crate::purge::Verdict;
use crate::reason::Failure;
use crate::respond::add_date;
use crate::revalidate::{unasked, withhold};
use crate::scope::tags;
use crate::search::PeerSearch;
use crate::slices::{Begun, First, Wanted};
use crate::target::Target;
use crate::tier::Stream;
use crate::upstream::Upstream;

/// What is to be fetched, for whoever joins.
pub(crate) struct Job {
    pub(crate) target: Target,
    pub(crate) uri: Arc<str>,
    /// The cleaned fields of the request that began it: what the origin sees, and what variants go by.
    pub(crate) headers: HeaderMap,
    /// A copy that is no longer fresh: to be validated, or to stand in for a failing origin.
    pub(crate) stale: Option<Arc<Stored>>,
    pub(crate) mode: Mode,
    pub(crate) rules: Rules,
    /// Of a client that wants a range: the slices to begin with.
    pub(crate) first: Option<First>,
    /// The index and peers may be asked: nobody insists on the origin. A site's responses stay on the
    /// node that is told of their changes.
    shared: bool,
    /// Who began it hears what the origin says before its response.
    early: Option<Early>,
    /// What the index was told of the slices to begin with.
    claims: Mutex<Claims>,
}

/// Slices, what the index was told of them, and whether they are ours to fetch.
type Claims = Vec<(u32, Announcement, bool)>;

fn lock(claims: &Mutex<Claims>) -> MutexGuard<'_, Claims> {
    claims.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    pub(crate) fn of(asked: &Asked, stale: Option<Arc<Stored>>) -> Self {
        Self {
            target: asked.target.clone(),
            uri: asked.uri.clone(),
            headers: asked.headers.clone(),
            stale,
            mode: asked.mode,
            rules: asked.rules,
            first: None,
            shared: asked.target.site.is_none() && !asked.told.no_cache,
            early: asked.early.clone(),
            claims: Mutex::default(),
        }
    }
}

impl Job {
    /// For slices of what is held in part.
    pub(crate) fn of_wanted(wanted: &Wanted) -> Self {
        Self {
            target: wanted.target.clone(),
            uri: wanted.uri.clone(),
            headers: wanted.headers.clone(),
            stale: None,
            mode: wanted.mode,
            rules: wanted.rules,
            first: None,
            shared: wanted.target.site.is_none(),
            early: None,
            claims: Mutex::default(),
        }
    }

    /// The index and peers may be asked, and told.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Keeps what the index was told of a slice, and whether that is ours to fetch.
    pub(crate) fn keep_claim(&self, number: u32, told: Announcement, is_ours: bool) {
        lock(&self.claims).push((number, told, is_ours));
    }

    pub(crate) fn take_claims(&self) -> Vec<(u32, Announcement, bool)> {
        std::mem::take(&mut lock(&self.claims))
    }
}

impl Proxy {
    /// Flies. A response that is not for all goes to `leader`, who asked first.
    pub(crate) async fn fetch(
        self: Arc<Self>,
        landing: Landing,
        mut job: Job,
        leader: oneshot::Sender<Upstream>,
    ) {
        let key = Key::of_name(job.uri.as_bytes());
        let (announcement, mut located) = if job.shared {
            let since = Instant::now();
            let (told, located) = Announcement::locate(&self.index, key, &self.closing).await;
            self.metrics.locating.claim.observe(since.elapsed().as_secs_f64());
            (Some(told), located)
        } else {
            (None, Located::Unknown)
        };
        if let Some(begin) = self.begin_from_many(&landing, &mut job, &located).await {
            return landing.begin_and_close(begin);
        }
        let upstream = loop {
            let upstream =
                match self.obtain(&landing.flight, &job, located, announcement.as_ref()).await {
                    Ok(upstream) => upstream,
                    Err(failure) => {
                        let stale = job.stale.as_ref().filter(|_| failure.reason.is_upstream());
                        let stand_in = stale.and_then(|stale| self.stand_in(stale));
                        return landing.begin_and_close(stand_in.unwrap_or(Begin::Failed(failure)));
                    }
                };
            if let Some(begin) = self.answered_at_once(&landing, &job, &upstream) {
                if let (Some(announcement), Begin::Stored(stored, source, _)) =
                    (announcement, &begin)
                    && *source != Source::Local
                    && stored.body.is_whole()
                {
                    announcement.whole(stored.clone());
                }
                upstream.body.discard();
                return landing.begin_and_close(begin);
            }
            let Some(first) = job.first.take() else { break upstream };
            match self.begin_slices(&landing, &job, first, upstream).await {
                Begun::Slices(begin) => return landing.begin_and_close(begin),
                Begun::Other(upstream) => break *upstream,
                Begun::Unfit => located = Located::Unknown,
            }
        };
        match self.arriving(&job, &upstream) {
            Ok(arriving) => {
                self.prove(&landing.flight, &job, &arriving, &upstream);
                // With nothing to read, its beginning is its end (see `Flight::readable`).
                if arriving.head.length != Some(0) {
                    landing.flight.begin(Begin::Stream(arriving.clone()));
                }
                let Upstream { body, peer, .. } = upstream;
                self.receive(landing, &job, arriving, Coming { body, peer }, announcement).await;
            }
            Err(reason) => {
                // That one client showed credentials says nothing about the others, nor that one wanted
                // what lies beyond the end.
                let beyond = upstream.head.status == StatusCode::RANGE_NOT_SATISFIABLE;
                if reason != NoStore::Authorization && !beyond {
                    self.unshared.insert(job.uri.clone(), reason);
                }
                landing.begin_and_close(Begin::Pass(reason));
                // The leader may have gone; then nobody wants it.
                let _ = leader.send(upstream);
            }
        }
    }

    /// Steps 4 to 6: whoever has it nearest.
    async fn obtain(
        &self,
        flight: &Flight,
        job: &Job,
        located: Located,
        told: Option<&Announcement>,
    ) -> Result<Upstream, Failure> {
        let mut headers = job.headers.clone();
        self.signature.sign(&mut headers, job.mode);
        headers.extend(job.first.map(|first| (RANGE, first.field())));
        let mut tried = Tried::default();
        // What a peer says is signed as a whole: it is not asked whether what is held is still good.
        let search = PeerSearch {
            flight,
            job,
            headers: &headers,
            told,
            rest: None,
            tried: &mut tried,
            patience: self.patience(job),
            insists: false,
        };
        let fits = |upstream: &Upstream| self.fits(job, upstream);
        if let Some(upstream) = self.ask_peers(search, located, fits).await {
            return Ok(upstream);
        }
        if let Some(upstream) = self.open_first(flight, job, &mut headers).await {
            return Ok(upstream);
        }
        flight.set_stage(Stage::Origin);
        let mut conditional = headers.clone();
        conditional.extend(job.stale.iter().flat_map(|stale| preconditions(&stale.head.headers)));
        let (get, early) = (&Method::GET, job.early.as_ref());
        let upstream = self.origin.ask(get, &job.target, &conditional, early).await?;
        let about_another = job.stale.as_ref().is_some_and(|stale| {
            upstream.head.status == StatusCode::NOT_MODIFIED
                && identifies(&upstream.head.headers, &stale.head.headers) == Identified::Not
        });
        if about_another {
            // It says that something is unchanged which is not held.
            let again = self.origin.ask(get, &job.target, &headers, early).await?;
            if again.head.status == StatusCode::NOT_MODIFIED {
                return Err(unasked());
            }
            return Ok(again);
        }
        Ok(upstream)
    }

    /// Decides whether what comes is for all.
    pub(crate) fn arriving(
        &self,
        job: &Job,
        upstream: &Upstream,
    ) -> Result<Arc<Arriving>, NoStore> {
        let arriving = self.described(job, upstream, upstream.head.status)?;
        if arriving.head.length.is_some_and(|length| length > self.largest()) {
            return Err(NoStore::TooLarge);
        }
        Ok(Arc::new(arriving))
    }

    /// The same for what is of this status, be it too large or not.
    pub(crate) fn described(
        &self,
        job: &Job,
        upstream: &Upstream,
        status: StatusCode,
    ) -> Result<Arriving, NoStore> {
        let Upstream { head, times, source, .. } = upstream;
        let mut freshness = storable(&job.headers, status, &head.headers, *times, &job.rules)?;
        // A peer may still have what was purged here; the origin's word is the origin's.
        if matches!(source, Source::Peer(_)) {
            let verdict =
                self.purges.verdict(&job.uri, freshness.generated, || tags(&head.headers));
            if verdict != Verdict::Untouched {
                return Err(NoStore::Purged);
            }
        }
        let length = upstream.body.length();
        let mut names = vary(&head.headers).ok_or(NoStore::Vary)?;
        if names.is_empty() {
            names = self.store.selecting(&job.uri, times.response);
        }
        let mut headers = kept(head.headers.clone(), job.mode);
        // All that is signed is there from the beginning.
        add_date(&mut headers, freshness.received);
        let withheld = withhold(&mut headers);
        let variant = Variant::of(names, &job.headers, &headers);
        let mut via_peer = Vec::new();
        if matches!(source, Source::Peer(_)) {
            freshness = of_peer(freshness);
            // The peer's own member comes last; it is of that exchange, not of the object.
            let mut members: Vec<_> = headers.get_all(CACHE_STATUS).iter().cloned().collect();
            via_peer.extend(members.pop());
            headers.remove(CACHE_STATUS);
            members.into_iter().for_each(|member| {
                headers.append(CACHE_STATUS, member);
            });
        }
        Ok(Arriving {
            head: Head { status, headers, length, trailers: HeaderMap::new() },
            variant,
            freshness,
            source: *source,
            withheld,
            via_peer,
        })
    }

    /// Step 7: to all readers at once, and to the store when it is whole.
    pub(crate) async fn receive(
        &self,
        landing: Landing,
        job: &Job,
        arriving: Arc<Arriving>,
        coming: Coming,
        announcement: Option<Announcement>,
    ) {
        if let Some(announcement) = &announcement {
            announcement.receiving(arriving.head.length);
        }
        let flight = landing.flight.clone();
        let mut stream = match &self.tier {
            Some(tier) => tier.stream(&job.uri, &arriving).await,
            None => None,
        };
        flight.set_disk(stream.as_ref().and_then(|stream| stream.object().cloned()));
        let pumped =
            self.pump(&landing, job, &arriving, coming, &mut stream, announcement.as_ref());
        if let Err(failure) = pumped.await {
            self.metrics.count_error(failure.reason);
            tracing::warn!(uri = %job.uri, "{failure}");
            if !flight.has_begun() {
                return landing.begin_and_close(Begin::Failed(failure));
            }
            return flight.break_off(failure);
        }
        // Those who follow need not wait for the disk.
        if flight.proving().and_then(Proving::finish).is_some() {
            flight.proves_more();
        }
        let object = match stream {
            Some(stream) => {
                flight.release();
                self.commit(&flight, stream).await
            }
            None => None,
        };
        let body = match (flight.chunks(), object) {
            (Some(chunks), Some(object)) => Body::and_on_disk(chunks, object),
            (Some(chunks), None) => chunks.into(),
            (None, Some(object)) => Body::on_disk(object),
            (None, None) => return flight.land(None),
        };
        let on_disk = body.object().is_some();
        let Arriving { head, variant, freshness, .. } = &*arriving;
        let key = Key::of_name(job.uri.as_bytes());
        let head = Head { trailers: flight.trailers(), ..head.clone() };
        // What stands on disk was written before they came.
        let written = on_disk && head.trailers.is_empty();
        let proof = flight.proving().and_then(Proving::finish);
        let stored = Stored::new(head, variant.clone(), *freshness, body, key);
        let stored = Arc::new(stored.with_proof(proof));
        // Its announcement is under way; and it is stored before the flight leaves the table, so that
        // nobody falls in between.
        stored.due_for_announcement(clock::now());
        let keep = || match written {
            true => {
                self.store.insert(&job.uri, &stored);
                // Nobody could prove it before its end.
                if let Some(tier) = self.tier.as_ref().filter(|_| stored.kept_proof().is_some()) {
                    tier.keep_proof(&job.uri, &stored);
                }
            }
            false => self.keep(&job.uri, &stored),
        };
        if !landing.keep(keep) {
            if on_disk {
                self.forget(&job.uri);
            }
            if arriving.head.length == Some(0) {
                flight.begin(Begin::Stream(arriving.clone()));
            }
            return flight.land(None);
        }
        if arriving.head.length == Some(0) {
            flight.begin(Begin::Stream(arriving.clone()));
        }
        flight.land(Some(stored.clone()));
        self.audits.consider(job, arriving.source, &stored);
        if let Some(announcement) = announcement {
            announcement.whole(stored);
        }
    }
}

impl Proxy {
    /// Puts what was written as it arrived in its place; nothing if it was disowned.
    async fn commit(&self, flight: &Flight, stream: Stream) -> Option<Object> {
        // What waits to be written or removed is of before.
        if let Some(tier) = &self.tier {
            timeout(DISK_PATIENCE, tier.settle()).await.ok()?;
        }
        if flight.begin_landing() { stream.commit().await } else { None }
    }
}

/// As far as a peer's word is taken for it.
fn of_peer(freshness: Freshness) -> Freshness {
    let lifetime = freshness.lifetime.min(freshness.initial_age + MAX_PEER_LIFETIME);
    Freshness { lifetime, ..freshness }
}
