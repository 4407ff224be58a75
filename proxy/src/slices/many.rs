//! A large object that several peers hold whole: fetched from all of them, in slices.

use std::sync::Arc;

use coralline_disk::Object;
use coralline_disk::limits::SLICE;
use coralline_overlay::{Identity, Pointer, State};
use coralline_receipt::{Rebuild, Receipt};
use http::HeaderMap;
use http::header::RANGE;

use super::Place;
use super::begin::{Begun, Wanted};
use super::plan::{First, octets, slice_at};
use super::vouched::{Flaw, rebuilt};
use crate::Proxy;
use crate::announce::{Located, announce_again};
use crate::clock;
use crate::digests::Digests;
use crate::fetch::Job;
use crate::flight::Begin;
use crate::flights::Landing;
use crate::limits::{MAX_SHARED, MIN_SHARED, PEERS_PATIENCE};
use crate::message::Stored;
use crate::peer::Tried;
use crate::search::PeerSearch;
use crate::store::Change;

impl Proxy {
    /// Begins a fetch of the whole from several peers that hold it; nothing where one stream will do.
    pub(crate) async fn begin_from_many(
        self: &Arc<Self>,
        landing: &Landing,
        job: &mut Job,
        located: &Located,
    ) -> Option<Begin> {
        let Located::Held(holders, _) = located else { return None };
        let large = |length| length >= MIN_SHARED && length <= self.largest();
        let is_source =
            |holder: &&Pointer| holder.state == State::Whole && holder.length.is_some_and(large);
        if job.first.is_some()
            || self.tier.is_none()
            || holders.iter().filter(is_source).count() < 2
        {
            return None;
        }
        let first = First::From(0, SLICE.into());
        job.first = Some(first);
        let begun = self.begin_whole(landing, job, first, located.clone()).await;
        job.first = None;
        begun
    }

    async fn begin_whole(
        self: &Arc<Self>,
        landing: &Landing,
        job: &Job,
        first: First,
        located: Located,
    ) -> Option<Begin> {
        let mut headers: HeaderMap = job.headers.clone();
        self.signature.sign(&mut headers, job.mode);
        headers.insert(RANGE, first.field());
        let search = PeerSearch {
            flight: &landing.flight,
            job,
            headers: &headers,
            told: None,
            rest: None,
            tried: &mut Tried::default(),
            patience: PEERS_PATIENCE,
            insists: false,
        };
        let fits = |upstream: &_| self.fits_as_part(job, upstream);
        let upstream = self.ask_peers(search, located, fits).await?;
        let receipt = upstream.body.receipt_of_whole().cloned();
        let Begun::Slices(begin) = self.begin_slices(landing, job, first, upstream).await else {
            return None;
        };
        if let Begin::Stored(stored, ..) = &begin {
            let (proxy, stored) = (self.clone(), stored.clone());
            let wanted = Arc::new(Wanted::of_job(job));
            tokio::spawn(async move { proxy.complete(&wanted, &stored, receipt).await });
        }
        Some(begin)
    }

    /// Sees to it that all of it comes, and is announced then.
    async fn complete(
        self: Arc<Self>,
        wanted: &Arc<Wanted>,
        stored: &Arc<Stored>,
        receipt: Option<Receipt>,
    ) {
        let Some(object) = stored.body.object() else { return };
        if !self.all_slices(wanted, stored, object).await {
            return;
        }
        let Some(receipt) = receipt else { return };
        let signer = Identity(receipt.subject.signer);
        let Ok(proof) = Rebuild::new(receipt) else { return };
        let digests = Digests::of(&stored.head.headers);
        let proof = match rebuilt(proof, digests, object.clone(), 0..object.length()).await {
            Ok(proof) => proof,
            Err(Flaw::Lost) => return,
            Err(flaw) => {
                tracing::info!(uri = %wanted.uri, "{flaw}; it is forgotten");
                if let Flaw::Digest(_) = flaw {
                    self.metrics.digest_mismatches.inc();
                    self.peers.distrust(signer);
                }
                return self.outdate(wanted, stored).await;
            }
        };
        let version = object.version();
        self.revise(&wanted.uri, |other| {
            let same = other.body.object().is_some_and(|other| other.version() == version);
            // What was freshened since has other fields than were signed.
            match same && other.head.headers == stored.head.headers {
                true => Change::Replace(Arc::new(other.again().with_proof(Some(proof.clone())))),
                false => Change::Keep,
            }
        });
        let (_, found) = self.store.find(&wanted.uri, &wanted.headers);
        if let (Some(tier), Some(found)) = (&self.tier, &found) {
            tier.keep_proof(&wanted.uri, found);
        }
        let announced = found.filter(|found| {
            let same = found.body.object().is_some_and(|other| other.version() == version);
            same && found.body.is_whole() && found.due_for_announcement(clock::now())
        });
        if let Some(found) = announced {
            announce_again(&self.index, found, &self.closing);
        }
    }

    /// Fetches what lacks, in order and some ahead; false if it did not all come.
    async fn all_slices(
        self: &Arc<Self>,
        wanted: &Arc<Wanted>,
        stored: &Arc<Stored>,
        object: &Object,
    ) -> bool {
        let _keeping = self.slices.keeper(object.version());
        let end = slice_at(object.length() - 1) + 1;
        let ahead = u32::try_from(MAX_SHARED).unwrap_or(u32::MAX);
        for slice in 0..end {
            for from in [slice, slice.saturating_add(ahead).min(end)] {
                match self.slices.board(object, from..end, &wanted.origin) {
                    Ok(Some(run)) => self.clone().start_run(run, wanted.clone(), stored.clone()),
                    Ok(None) => {}
                    Err(_) => return false,
                }
            }
            if let Place::Arriving(arriving) = self.slices.find(object, slice) {
                arriving.over().await;
            }
            if !object.has(octets(slice, object.length()).start) {
                return false;
            }
        }
        stored.body.is_whole()
    }
}
