//! Step 2 for a peer: it is served from what is held or arriving, and sent to others where there is no place for it.

use std::sync::Arc;

use coralline_sources::PeerKey;
use http::Response;
use http::header::RANGE;

use crate::Proxy;
use crate::admit::Asked;
use crate::body::ResponseBody;
use crate::clock;
use crate::conditional::first_of;
use crate::flight::{Arriving, Begin, FedPlace, Flight, ForPeer};
use crate::message::{Source, Stored};
use crate::peer::{Proved, prove, refer, span_for_peer, write_depth};
use crate::reason::{Failure, Reason};
use crate::request::Answer;
use crate::respond::{CacheStatus, Forward};
use crate::slices::{ForPeer as SliceForPeer, lacks};

impl Proxy {
    /// Step 2 for a peer, which is served from what is held or arriving, and from nothing else.
    pub(crate) async fn serve_peer(self: &Arc<Self>, asked: &mut Asked) -> Result<Answer, Failure> {
        let (key, found) = self.held(asked).await;
        let fresh = |stored: &Arc<Stored>| stored.freshness.remaining(clock::now()).is_some();
        let answers = &self.metrics.answers;
        if let Some(stored) = found.filter(fresh)
            && let Some(answer) = self.give_stored(asked, &stored).await
        {
            return answer;
        }
        let Some(flight) = self.flights.find(&key) else {
            answers.missed.inc();
            return Ok((Source::None, refer(&[], false)));
        };
        let at = asked.selecting.get(RANGE).and_then(first_of);
        let asker = asked.asker.as_ref().ok_or_else(miss)?;
        let refer = |to: &[PeerKey], again: bool| {
            let is_nothing = to.is_empty() && !again;
            if is_nothing { &answers.missed } else { &answers.referred }.inc();
            Ok((Source::None, refer(to, again)))
        };
        match flight.begun_for_peer(asker, at, asked.has_before).await {
            ForPeer::Begun(Begin::Stream(arriving)) => {
                answers.arriving.inc();
                self.prove_arriving(asked, &arriving, flight, None)
            }
            ForPeer::Fed(Begin::Stream(arriving), place, depth) => {
                answers.arriving.inc();
                let (source, mut response) =
                    self.prove_arriving(asked, &arriving, flight, Some(place))?;
                write_depth(response.headers_mut(), depth);
                Ok((source, response))
            }
            ForPeer::Begun(Begin::Stored(stored, ..)) if fresh(&stored) => {
                self.give_stored(asked, &stored).await.unwrap_or_else(|| refer(&[], false))
            }
            ForPeer::Full(fed) => refer(&fed, true),
            ForPeer::Behind(source) => refer(source.as_slice(), false),
            ForPeer::Later => refer(&[], true),
            _ => refer(&[], false),
        }
    }

    /// What is arriving, for a peer, with its proof.
    fn prove_arriving(
        &self,
        asked: &mut Asked,
        arriving: &Arc<Arriving>,
        flight: Arc<Flight>,
        place: Option<FedPlace>,
    ) -> Result<Answer, Failure> {
        if !arriving.is_for(asked, false) {
            return Err(miss());
        }
        let source = arriving.source;
        let status = joined(Forward::UriMiss, source);
        let span = span_for_peer(asked, &arriving.head).ok_or_else(miss)?;
        let response = self.respond_arriving(asked, arriving, &flight, status);
        let response = self.counted_for_peer(response.ok_or_else(miss)?);
        if asked.is_head() {
            return Ok((source, response));
        }
        let proving = flight.proving().cloned().ok_or_else(miss)?;
        let proved = Proved::Arriving(flight, proving, place);
        let proved = prove(response, span, proved);
        Ok((source, proved.ok_or_else(miss)?))
    }

    /// What is held, for a peer: of the whole, or a slice by itself.
    async fn give_stored(
        self: &Arc<Self>,
        asked: &mut Asked,
        stored: &Arc<Stored>,
    ) -> Option<Result<Answer, Failure>> {
        let answers = &self.metrics.answers;
        if !lacks(asked, stored) && (asked.is_head() || self.can_prove(stored)) {
            answers.stored.inc();
            self.announce_in_time(asked, stored);
            return Some(self.prove_stored(asked, stored).await);
        }
        match self.give_slice(asked, stored).await {
            SliceForPeer::Proved(answer) => Some(Ok(*answer)),
            SliceForPeer::Later => {
                answers.referred.inc();
                Some(Ok((Source::None, refer(&[], true))))
            }
            SliceForPeer::Nothing => None,
        }
    }

    /// What is held of the whole, for a peer, with its proof; to HEAD without, as there is nothing to prove.
    async fn prove_stored(
        self: &Arc<Self>,
        asked: &mut Asked,
        stored: &Arc<Stored>,
    ) -> Result<Answer, Failure> {
        let span = span_for_peer(asked, &stored.head).ok_or_else(miss)?;
        if asked.is_head() {
            return self.hit(asked, stored).await;
        }
        let (proof, place) = self.proof_of(stored).await?;
        let (source, response) = self.hit(asked, stored).await?;
        let response = self.counted_for_peer(response);
        let proved = prove(response, span, Proved::Whole(proof)).ok_or_else(miss)?;
        Ok((source, proved.map(|body| body.holding(place))))
    }

    /// Its octets are counted as they go to a peer, the proof that is put around them apart.
    pub(crate) fn counted_for_peer(
        &self,
        response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        response.map(|body| body.counted(self.metrics.peer_bytes.clone()))
    }
}

/// As a peer is told.
pub(crate) fn miss() -> Failure {
    Failure::new(Reason::ProxyInternalResponse, "not held")
}

pub(crate) fn joined(forward: Forward, source: Source) -> CacheStatus {
    let forward = Some(forward);
    CacheStatus { forward, answered: None, stored: true, collapsed: true, source }
}
