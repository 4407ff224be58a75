//! What a flight has for peers: they hang on it as a tree, and never in a circle.
//!
//! A peer is fed only by who is ahead of it, so that each in a circle would have to be ahead of itself. It is
//! kept waiting only for who has its octets from the origin; for another for [`SENT_PATIENCE`] at most, if
//! that one's own source sent it there.

use std::sync::Arc;

use coralline_sources::PeerKey;
use tokio::time::timeout;

use super::{Begin, Flight, Stage};
use crate::limits::SENT_PATIENCE;
use crate::peer::{Asker, Way};

/// What a flight has for a peer.
#[derive(Debug)]
pub(crate) enum ForPeer {
    Begun(Begin),
    /// It may follow from this place, with so many nodes between it and the origin, this one included.
    Fed(Begin, FedPlace, u8),
    /// There is no place for it; these have what it wants from here.
    Full(Vec<PeerKey>),
    /// This has less than it has; it comes from there.
    Behind(Option<PeerKey>),
    /// Nothing now; it is worth asking again.
    Later,
    Nothing,
}

/// A place among those that a flight feeds, as long as this lives.
#[derive(Debug)]
pub(crate) struct FedPlace {
    flight: Arc<Flight>,
    place: u64,
}

impl Drop for FedPlace {
    fn drop(&mut self) {
        self.flight.state().followers.leave(self.place);
    }
}

/// What is known of a flight by who asks for its octets from some place on.
enum Ready {
    Begun(Begin),
    Behind(Option<PeerKey>),
    Later,
    Nothing,
}

impl Flight {
    /// What there is for a peer that asks for what comes after the first `at` octets. One that has all before, as it
    /// says, is at most a little ahead; another may want what is hours away, and is not kept waiting.
    pub(crate) async fn begun_for_peer(
        self: &Arc<Self>,
        asker: &Asker,
        at: Option<u64>,
        has_before: bool,
    ) -> ForPeer {
        match self.ready(at, has_before, asker.way == Way::Sent).await {
            Some(Ready::Begun(begin @ Begin::Stream(_))) => self.feed(asker, begin),
            Some(Ready::Begun(begin)) => ForPeer::Begun(begin),
            Some(Ready::Behind(source)) => ForPeer::Behind(source),
            Some(Ready::Nothing) => ForPeer::Nothing,
            Some(Ready::Later) | None => ForPeer::Later,
        }
    }

    /// Nothing if it takes too long for who was sent here.
    async fn ready(&self, at: Option<u64>, has_before: bool, sent: bool) -> Option<Ready> {
        let waits = |patient: bool| {
            self.wait(move |state| {
                let behind = at.is_some_and(|at| state.received <= at);
                match (&state.begin, &state.end, state.stage) {
                    (Some(Begin::Stream(_)), Some(Err(_)), _) => Some(Ready::Nothing),
                    (Some(Begin::Stream(_)), None, _) if behind && !has_before => {
                        Some(Ready::Nothing)
                    }
                    (Some(Begin::Stream(_)), None, stage) if behind => match stage {
                        Stage::Peer => Some(Ready::Behind(state.source)),
                        // It looks for another source itself, and may soon be one.
                        Stage::Locating => Some(Ready::Later),
                        Stage::Origin => None,
                    },
                    (Some(begin), _, _) => Some(Ready::Begun(begin.clone())),
                    (None, _, Stage::Peer) if !patient => Some(Ready::Later),
                    (None, _, _) => None,
                }
            })
        };
        if sent { timeout(SENT_PATIENCE, waits(true)).await.ok() } else { Some(waits(false).await) }
    }

    fn feed(self: &Arc<Self>, asker: &Asker, begin: Begin) -> ForPeer {
        let mut state = self.state();
        if state.end.is_some() {
            // The rest goes out at once.
            return ForPeer::Begun(begin);
        }
        let (total, misled) = (state.total, asker.way == Way::Misled);
        match state.followers.admit(asker.key, total, misled) {
            Ok(place) => {
                let depth = state.followers.depth() + 1;
                ForPeer::Fed(begin, FedPlace { flight: self.clone(), place }, depth)
            }
            Err(named) => ForPeer::Full(named),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use coralline_overlay::Identity;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::budget::Budget;
    use crate::flight::Arriving;
    use crate::limits::MIN_FOLLOWERS;
    use crate::message::{Head, Source};
    use crate::policy::{Freshness, NoStore, Staleness, Variant};
    use crate::upstream::Sender;
    use coralline_sources::receiving;

    fn asker(number: u8, way: Way) -> Asker {
        Asker { key: (SocketAddr::from(([44, 0, 0, number], 7_400)), Identity([number; 32])), way }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_waits_for_the_origin_but_not_for_another_peer() {
        let flight = Flight::new(&Budget::new(100));
        let asks = |way| {
            let flight = flight.clone();
            tokio::spawn(async move { flight.begun_for_peer(&asker(1, way), None, true).await })
        };
        let asking = asks(Way::Named);
        tokio::task::yield_now().await;
        flight.set_stage(Stage::Peer);
        assert!(matches!(asking.await.unwrap(), ForPeer::Later));
        let sent = asks(Way::Sent);
        assert!(matches!(sent.await.unwrap(), ForPeer::Later), "it has waited for a second");
        flight.set_stage(Stage::Origin);
        let asking = asks(Way::Named);
        tokio::task::yield_now().await;
        flight.begin(Begin::Pass(NoStore::Private));
        assert!(matches!(asking.await.unwrap(), ForPeer::Begun(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_fed_others_are_sent_to_them_and_who_is_ahead_to_the_source() {
        let flight = streaming().await;
        let way = Way::Named;
        let mut places = Vec::new();
        for number in 0..u8::try_from(MIN_FOLLOWERS).unwrap() {
            match flight.begun_for_peer(&asker(number, way), Some(5), true).await {
                ForPeer::Fed(_, place, 1) => places.push(place),
                other => panic!("{other:?}"),
            }
        }
        let full = flight.begun_for_peer(&asker(99, way), None, true).await;
        assert!(matches!(full, ForPeer::Full(named) if named.len() == 2));
        places.pop();
        let fed = flight.begun_for_peer(&asker(99, way), None, true).await;
        assert!(matches!(fed, ForPeer::Fed(..)));
        let source = asker(50, way).key;
        flight.follow(&Sender { pointer: receiving(source), depth: 3 });
        let behind = flight.begun_for_peer(&asker(99, way), Some(10), true).await;
        assert!(matches!(behind, ForPeer::Behind(Some(named)) if named == source));
        drop(fed);
        let fed = flight.begun_for_peer(&asker(99, way), None, true).await;
        assert!(matches!(fed, ForPeer::Fed(_, _, 4)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_seeks_ahead_is_not_kept_waiting() {
        let flight = streaming().await;
        for stage in [Stage::Origin, Stage::Peer, Stage::Locating] {
            flight.set_stage(stage);
            let seeking = flight.begun_for_peer(&asker(1, Way::Named), Some(10), false).await;
            assert!(matches!(seeking, ForPeer::Nothing), "{stage:?}: {seeking:?}");
            let here = flight.begun_for_peer(&asker(1, Way::Named), Some(9), false).await;
            assert!(matches!(here, ForPeer::Fed(..)), "{stage:?}: {here:?}");
        }
    }

    /// A flight of which ten octets have come.
    async fn streaming() -> Arc<Flight> {
        let flight = Flight::new(&Budget::new(1 << 20));
        flight.set_stage(Stage::Origin);
        let (none, now) = (HeaderMap::new(), SystemTime::UNIX_EPOCH);
        let arriving = Arriving {
            head: Head {
                status: StatusCode::OK,
                headers: none.clone(),
                length: None,
                trailers: none.clone(),
            },
            variant: Variant::of(Vec::new(), &none, &none),
            freshness: Freshness {
                received: now,
                initial_age: Duration::ZERO,
                lifetime: Duration::MAX,
                stale: Staleness::default(),
                immutable: false,
                generated: now,
            },
            source: Source::Origin,
            withheld: none,
            via_peer: Vec::new(),
        };
        flight.begin(Begin::Stream(Arc::new(arriving)));
        flight.push(Bytes::from_static(b"0123456789")).await.unwrap();
        flight
    }
}
