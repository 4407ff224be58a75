//! A fetch that many may join. One task receives; any number of readers follow, each at its own pace,
//! from the first octet, while it is still arriving.
//!
//! As long as the budget allows, all of the body is held, so that a slow reader holds nobody up and the
//! whole can be stored at the end. A body that turns out too large is let go at the front once all
//! readers have passed: from then on a reader who lags by more than that window is cut, soon if it holds
//! others up, late if it is alone. A body that is written to disk meanwhile is let go of sooner, and who
//! lags reads on there.

mod for_peers;
mod reader;
mod state;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use coralline_disk::Object;
use coralline_sources::key;
use http::header::HeaderMap;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::admit::Asked;
use crate::budget::Budget;
use crate::limits::{
    DISK_WINDOW, OVERFLOW_WINDOW, PIECE_OVERHEAD, READER_LAG, READER_STALL, SMALL_PIECE,
};
use crate::message::{Chunks, Head, Source, Stored};
use crate::policy::{Freshness, NoStore, Variant};
use crate::proving::Proving;
use crate::reason::Failure;
use crate::slices::Reading;

use crate::upstream::Sender;
pub(crate) use for_peers::{FedPlace, ForPeer};
pub(crate) use reader::Reader;
use state::State;

/// How a flight begins for those who wait for it.
#[derive(Debug, Clone)]
pub(crate) enum Begin {
    /// The head is here, the body is arriving.
    Stream(Arc<Arriving>),
    /// A stored response will do: validated, or standing in for a failing origin; with the status that the
    /// next hop gave, where it gave one.
    Stored(Arc<Stored>, Source, Option<http::StatusCode>),
    /// The response is for one asker only.
    Pass(NoStore),
    /// There is none.
    Failed(Failure),
}

impl Begin {
    /// It is what the request selects, but one more request may not have it without a validation.
    pub(crate) fn needs_validation(&self, asked: &Asked, waited: bool) -> bool {
        match self {
            Self::Stream(arriving) => {
                arriving.variant.suits(&asked.headers) && !arriving.is_for(asked, waited)
            }
            Self::Stored(stored, source, _) => {
                stored.variant.suits(&asked.headers) && !stored.is_for(asked, *source, waited)
            }
            Self::Pass(_) | Self::Failed(_) => false,
        }
    }
}

/// The head of what is arriving.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) head: Head,
    pub(crate) variant: Variant,
    pub(crate) freshness: Freshness,
    pub(crate) source: Source,
    /// Fields that only the first asker gets.
    pub(crate) withheld: HeaderMap,
    /// Cache-Status members that a peer put on, for the first askers to see.
    pub(crate) via_peer: Vec<http::HeaderValue>,
}

impl Arriving {
    /// It may answer a request that did not begin the fetch: it is what that selects, and it is fresh, as
    /// what is stale needs a validation of its own. For a request that has `waited` for it this was it.
    pub(crate) fn is_for(&self, asked: &Asked, waited: bool) -> bool {
        let fresh = self.freshness.remaining(self.freshness.received).is_some();
        self.variant.suits(&asked.headers) && (fresh || waited)
    }
}

/// Where the receiving task stands before the head is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Asking the index.
    Locating,
    /// Asking a peer.
    Peer,
    /// Asking the origin.
    Origin,
}

#[derive(Debug)]
pub(crate) struct Flight {
    state: Mutex<State>,
    /// Counts changes; readers wait for the next.
    changed: watch::Sender<u64>,
    /// A reader went on, or left: there may be room.
    room: Notify,
    /// What was asked for has changed since: what comes is not kept.
    disowned: AtomicBool,
    /// What came takes its place on disk.
    landing: AtomicBool,
    proving: OnceLock<Proving>,
}

/// The flight was given up: nobody is left to read what cannot be kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Abandoned;

impl Flight {
    pub(crate) fn new(budget: &Budget) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::new(budget)),
            changed: watch::Sender::new(0),
            room: Notify::new(),
            disowned: AtomicBool::new(false),
            landing: AtomicBool::new(false),
            proving: OnceLock::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    // For the receiving task.

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.change(|state| {
            state.stage = stage;
            state.source = None;
            state.followers.set_depth(0);
        });
    }

    /// It comes from this peer.
    pub(crate) fn follow(&self, sender: &Sender) {
        self.change(|state| {
            state.stage = Stage::Peer;
            state.source = Some(key(&sender.pointer.holder));
            state.followers.set_depth(sender.depth);
        });
    }

    pub(crate) fn begin(&self, begin: Begin) {
        self.change(|state| {
            if let Begin::Stream(arriving) = &begin {
                state.total = arriving.head.length;
            }
            state.begin = Some(begin);
        });
    }

    /// Keeps fields for the first asker.
    pub(crate) fn withhold(&self, fields: HeaderMap) {
        self.state().withheld = fields;
    }

    /// The fields that are for the first asker alone.
    pub(crate) fn take_withheld(&self) -> HeaderMap {
        std::mem::take(&mut self.state().withheld)
    }

    /// What came after the body, which readers get at its end.
    pub(crate) fn set_trailers(&self, trailers: HeaderMap) {
        self.state().trailers = trailers;
    }

    pub(crate) fn trailers(&self) -> HeaderMap {
        self.state().trailers.clone()
    }

    /// Adds a piece. Waits only when the body can no longer be kept whole.
    pub(crate) async fn push(&self, bytes: Bytes) -> Result<(), Abandoned> {
        let bytes = if bytes.len() < SMALL_PIECE { Bytes::copy_from_slice(&bytes) } else { bytes };
        let since = Instant::now();
        while !self.try_push(&bytes)? {
            // One deadline for the piece, not one for each step that somebody takes.
            let patience = if self.starves() { READER_LAG } else { READER_STALL };
            let left = patience.saturating_sub(since.elapsed());
            if timeout(left, self.room.notified()).await.is_err() {
                self.cut_slowest();
            }
        }
        Ok(())
    }

    /// Somebody has read all there is, while others hold it up.
    fn starves(&self) -> bool {
        let state = self.state();
        state.readers.values().any(|at| *at >= state.readable())
    }

    /// Nobody reads.
    pub(crate) fn is_unread(&self) -> bool {
        self.state().readers.is_empty()
    }

    /// False: no room until a reader goes on.
    fn try_push(&self, bytes: &Bytes) -> Result<bool, Abandoned> {
        let mut state = self.state();
        let more = bytes.len() as u64 + PIECE_OVERHEAD;
        if !state.overflowed {
            let total = state.retained() + more;
            let elsewhere = state.disk.is_some() && total > DISK_WINDOW;
            state.overflowed = elsewhere || !state.held.grow_to(total);
        }
        if state.overflowed && !state.leave_to_disk() {
            state.let_go();
            if state.readers.is_empty() && !state.expected {
                return Err(Abandoned);
            }
            if state.retained() >= OVERFLOW_WINDOW {
                return Ok(false);
            }
        }
        state.append(bytes);
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        Ok(true)
    }

    fn cut_slowest(&self) {
        self.change(|state| {
            state.expected = false;
            let slowest = state.readers.values().min().copied();
            state.readers.retain(|_, at| Some(*at) != slowest);
        });
    }

    /// True if it may be on disk for a moment nevertheless, until the flight is over.
    pub(crate) fn disown(&self) -> bool {
        self.disowned.store(true, Ordering::SeqCst);
        self.landing.load(Ordering::SeqCst)
    }

    pub(crate) fn is_disowned(&self) -> bool {
        self.disowned.load(Ordering::SeqCst)
    }

    /// What came is about to take its place on disk; false if it must not. Either this sees that the flight
    /// was disowned, or who disowns it sees this.
    pub(crate) fn begin_landing(&self) -> bool {
        self.landing.store(true, Ordering::SeqCst);
        !self.is_disowned()
    }

    /// All of it is being written there, or no longer.
    pub(crate) fn set_disk(&self, disk: Option<Object>) {
        self.state().disk = disk;
    }

    /// Those who wait for it will read this.
    pub(crate) fn set_reading(&self, reading: Reading) {
        self.state().reading = Some(reading);
    }

    /// Newcomers find all of it, here or on disk.
    pub(crate) fn is_complete(&self) -> bool {
        let state = self.state();
        !state.overflowed || state.disk.as_ref().is_some_and(|disk| disk.has(0))
    }

    #[cfg(test)]
    pub(crate) fn overflowed(&self) -> bool {
        self.state().overflowed
    }

    pub(crate) fn received(&self) -> u64 {
        self.state().received
    }

    /// The whole body, if all of it is held.
    pub(crate) fn chunks(&self) -> Option<Chunks> {
        let state = self.state();
        (!state.overflowed).then(|| Chunks::new(state.pieces.iter().cloned()))
    }

    /// It ended well. What was stored counts there, also for those who still read it here.
    pub(crate) fn land(&self, stored: Option<Arc<Stored>>) {
        self.change(|state| {
            if stored.is_some() {
                if state.overflowed {
                    state.disk = stored.as_ref().and_then(|stored| stored.body.object().cloned());
                    if state.disk.is_some() {
                        state.pieces.clear();
                    }
                }
                state.held.shrink_to(0);
            }
            state.stored = stored;
            state.end = Some(Ok(()));
        });
    }

    /// The end may be read from now on: keeping it takes time.
    pub(crate) fn release(&self) {
        self.change(|state| state.released = true);
    }

    pub(crate) fn break_off(&self, failure: Failure) {
        self.change(|state| state.end = Some(Err(failure)));
    }

    /// Ends it in whatever state it is: what was settled before stays.
    pub(crate) fn give_up(&self, begin: Begin, failure: Failure) {
        self.change(|state| {
            state.begin.get_or_insert(begin);
            state.end.get_or_insert(Err(failure));
        });
    }

    // For those who join.

    /// Peers can be shown what comes, with this. To be said before it begins.
    pub(crate) fn prove(&self, proving: Proving) {
        let _ = self.proving.set(proving);
    }

    /// The proof of what comes, if there is one.
    pub(crate) fn proving(&self) -> Option<&Proving> {
        self.proving.get()
    }

    /// Peers can be shown more.
    pub(crate) fn proves_more(&self) {
        self.change(|_| ());
    }

    /// Waits until `ready`, which is told whether the flight has ended, says something.
    pub(crate) async fn until<T>(&self, mut ready: impl FnMut(bool) -> Option<T>) -> T {
        self.wait(|state| ready(state.end.is_some())).await
    }

    /// Waits until it is known how the flight begins.
    pub(crate) async fn begun(&self) -> Begin {
        self.wait(|state| state.begin.clone()).await
    }

    /// Waits until all has come, or nothing more will.
    pub(crate) async fn over(&self) {
        self.wait(|state| state.end.as_ref().map(|_| ())).await;
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.state().begin.is_some()
    }

    async fn wait<T>(&self, mut ready: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(result) = ready(&self.state()) {
                return result;
            }
            changed.changed().await.expect("the sender lives in self");
        }
    }

    /// A reader of the octets `from..end`; nothing if the first of them are gone already.
    pub(crate) fn reader(self: &Arc<Self>, from: u64, end: u64) -> Option<Reader> {
        let mut state = self.state();
        if state.first() > from && !state.disk.as_ref().is_some_and(|disk| disk.has(from)) {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, from);
        state.expected = false;
        drop(state);
        self.room.notify_one();
        let changed = self.changed.subscribe();
        Some(Reader { flight: self.clone(), id, at: from, end, changed, object: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    fn bytes(len: usize, fill: u8) -> Bytes {
        Bytes::from(vec![fill; len])
    }

    async fn drain(mut reader: Reader) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(piece) = reader.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn readers_get_every_octet_whenever_they_join() {
        let flight = Flight::new(&Budget::new(1 << 20));
        let early = tokio::spawn(drain(flight.reader(0, u64::MAX).unwrap()));
        for fill in 0..10 {
            flight.push(bytes(1000, fill)).await.unwrap();
            tokio::task::yield_now().await;
        }
        let late = tokio::spawn(drain(flight.reader(0, u64::MAX).unwrap()));
        let ranged = tokio::spawn(drain(flight.reader(1999, 3001).unwrap()));
        flight.push(bytes(20_000, 10)).await.unwrap();
        flight.land(None);
        let early = early.await.unwrap().unwrap();
        assert_eq!(early.len(), 30_000);
        assert_eq!(early, late.await.unwrap().unwrap());
        assert_eq!(ranged.await.unwrap().unwrap(), &early[1999..3001]);
        assert_eq!(flight.chunks().unwrap().len(), 30_000);
    }

    #[tokio::test]
    async fn a_broken_flight_is_an_error_for_all_and_never_an_end() {
        let flight = Flight::new(&Budget::new(1 << 20));
        let reader = flight.reader(0, u64::MAX).unwrap();
        flight.push(bytes(10, 0)).await.unwrap();
        flight.break_off(Failure::new(Reason::HttpResponseIncomplete, "cut"));
        assert!(drain(reader).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_too_large_is_read_through_a_window_and_a_stalled_reader_is_cut() {
        let budget = Budget::new(1 << 20);
        let flight = Flight::new(&budget);
        let fast = tokio::spawn(drain(flight.reader(0, u64::MAX).unwrap()));
        let stalled = flight.reader(0, u64::MAX).unwrap();
        for fill in 0..100 {
            flight.push(bytes(64 * 1024, fill)).await.unwrap();
        }
        assert!(flight.overflowed());
        assert!(flight.chunks().is_none());
        assert!(flight.reader(0, 10).is_none());
        assert!(budget.used() <= 1 << 20);
        flight.land(None);
        assert_eq!(fast.await.unwrap().unwrap().len(), 100 * 64 * 1024);
        assert!(drain(stalled).await.is_err());
        drop(flight);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_too_large_waits_for_its_first_reader_and_for_nobody_else() {
        let flight = Flight::new(&Budget::new(100));
        let pushing = tokio::spawn({
            let flight = flight.clone();
            async move {
                for _ in 0..10 {
                    flight.push(bytes(100_000, 7)).await?;
                }
                flight.land(None);
                Ok::<_, Abandoned>(())
            }
        });
        tokio::time::sleep(READER_STALL / 2).await;
        let all = drain(flight.reader(0, u64::MAX).unwrap()).await.unwrap();
        assert_eq!(all.len(), 1_000_000);
        assert_eq!(pushing.await.unwrap(), Ok(()));

        let flight = Flight::new(&Budget::new(100));
        let mut ended = Ok(());
        while ended.is_ok() {
            ended = flight.push(bytes(100_000, 7)).await;
        }
        assert_eq!(ended, Err(Abandoned));
    }

    #[tokio::test]
    async fn a_body_that_comes_octet_by_octet_ends_in_few_pieces() {
        let budget = Budget::new(1 << 20);
        let flight = Flight::new(&budget);
        for n in 0..100_000_u32 {
            flight.push(Bytes::copy_from_slice(&n.to_le_bytes()[..1])).await.unwrap();
        }
        assert!(flight.state().pieces.len() < 40, "{}", flight.state().pieces.len());
        assert!(budget.used() < 110_000, "{}", budget.used());
        flight.land(None);
        let all = drain(flight.reader(0, u64::MAX).unwrap()).await.unwrap();
        let expect: Vec<_> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        assert!(all == expect);
    }
}
