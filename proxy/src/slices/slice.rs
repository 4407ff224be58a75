//! One slice while it arrives: one task brings it, any number of readers follow it.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use coralline_receipt::Receipt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::announce::Announcement;
use crate::budget::{Budget, Reservation};
use crate::flight::Arriving;
use crate::limits::{SENT_PATIENCE, SLICE_PIECE};
use crate::proving::Proving;
use crate::reason::Failure;

/// How a slice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It is on disk.
    OnDisk,
    /// It is here, and the disk would not have it.
    Here,
    /// It did not come.
    Failed(Failure),
}

/// A slice on its way.
#[derive(Debug)]
pub(crate) struct Slice {
    state: Mutex<State>,
    /// Counts changes; readers wait for the next.
    changed: watch::Sender<u64>,
    length: usize,
}

#[derive(Debug)]
struct State {
    octets: BytesMut,
    /// All of them, once they have come, to be written while they are read.
    whole: Option<Bytes>,
    held: Reservation,
    end: Option<End>,
    shows: Shows,
    /// What the index is told of it, and whether it is ours to fetch from the origin.
    claim: Option<(Announcement, bool)>,
}

/// What peers can be shown of it.
#[derive(Debug, Clone)]
pub(crate) enum Shows {
    /// Where it comes from is not known yet.
    Undecided,
    /// It is about to come from the origin.
    Origin,
    /// What comes, under the fields of this response.
    Proved(Arc<Arriving>, Proving),
    Nothing,
}

impl State {
    fn here(&self) -> &[u8] {
        self.whole.as_deref().unwrap_or(&self.octets)
    }
}

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Octets(Bytes),
    OnDisk,
    Failed(Failure),
}

impl Slice {
    pub(crate) fn new(length: usize, budget: &Budget) -> Self {
        let (octets, held) = (BytesMut::new(), budget.reservation());
        let state = Mutex::new(State {
            octets,
            whole: None,
            held,
            end: None,
            shows: Shows::Undecided,
            claim: None,
        });
        Self { state, changed: watch::Sender::new(0), length }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Takes what belongs to it; the rest is of the next.
    pub(crate) fn push(&self, mut octets: Bytes) -> Bytes {
        self.change(|state| {
            // As it is for all that arrives; how many there are at once is bounded.
            if state.octets.capacity() == 0 {
                state.octets.reserve(self.length);
            }
            let rest = octets.split_off(octets.len().min(self.length - state.here().len()));
            state.octets.extend_from_slice(&octets);
            rest
        })
    }

    pub(crate) fn received(&self) -> usize {
        self.state().here().len()
    }

    /// All of it, to be written; nothing before it has come.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        let mut state = self.state();
        if state.octets.len() == self.length {
            state.whole = Some(std::mem::take(&mut state.octets).freeze());
        }
        state.whole.clone()
    }

    /// What is on disk needs no memory. What the disk would not have stays for its readers, if there is room.
    pub(crate) fn end(&self, end: End) {
        self.change(|state| {
            let keep = end == End::Here && state.held.grow_to(self.length as u64);
            if !keep {
                (state.octets, state.whole) = (BytesMut::new(), None);
            }
            state.claim = None;
            state.end = Some(match end {
                End::Here if !keep => End::Failed(lost()),
                end => end,
            });
        });
    }

    /// Octets from `at`, counted from the start of the slice.
    pub(crate) async fn next(&self, at: usize) -> Next {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(next) = self.look(at) {
                return next;
            }
            changed.changed().await.expect("the sender lives in self");
        }
    }

    // For peers.

    /// Keeps what is said of it to the index, until it has ended; and whether it is ours to fetch.
    pub(crate) fn set_claim(&self, told: Announcement, is_ours: bool) {
        self.state().claim = Some((told, is_ours));
    }

    pub(crate) fn take_claim(&self) -> Option<(Announcement, bool)> {
        self.state().claim.take()
    }

    /// The origin is about to be asked for it: peers wait for that, if nothing has come yet.
    pub(crate) fn expects_origin(&self) {
        self.change(|state| {
            if let Shows::Undecided = state.shows {
                state.shows = Shows::Origin;
            }
        });
    }

    /// What comes from now on can be shown, or not.
    pub(crate) fn show(&self, shows: Shows) {
        self.change(|state| {
            if let Shows::Proved(_, proving) = &state.shows {
                proving.give_up();
            }
            state.shows = shows;
        });
    }

    /// The proof that grows with it.
    pub(crate) fn proving(&self) -> Option<(Arc<Arriving>, Proving)> {
        match &self.state().shows {
            Shows::Proved(told, proving) => Some((told.clone(), proving.clone())),
            _ => None,
        }
    }

    /// All of it is here: its receipt, if it has one of its own.
    pub(crate) fn finish(&self) -> Option<(Arc<Arriving>, Receipt)> {
        let (told, proving) = self.proving()?;
        let proof = proving.finish()?;
        self.change(|_| ());
        Some((told, proof.receipt().clone()))
    }

    /// What a peer can be shown, once that is known, or a while has passed.
    pub(crate) async fn shown(&self) -> Shows {
        let known = self.until(|state| match &state.shows {
            Shows::Origin if state.end.is_none() => None,
            shows => Some(shows.clone()),
        });
        timeout(SENT_PATIENCE, known).await.unwrap_or(Shows::Undecided)
    }

    /// Waits until `ready`, which is told whether it has ended, says something.
    pub(crate) async fn wait<T>(&self, mut ready: impl FnMut(bool) -> Option<T>) -> T {
        self.until(|state| ready(state.end.is_some())).await
    }

    async fn until<T>(&self, mut ready: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(result) = ready(&self.state()) {
                return result;
            }
            changed.changed().await.expect("the sender lives in self");
        }
    }

    /// Waits until it has ended, however.
    pub(crate) async fn over(&self) {
        let mut changed = self.changed.subscribe();
        while self.state().end.is_none() {
            changed.changed().await.expect("the sender lives in self");
        }
    }

    fn look(&self, at: usize) -> Option<Next> {
        let state = self.state();
        match &state.end {
            Some(End::OnDisk) => return Some(Next::OnDisk),
            Some(End::Failed(failure)) => return Some(Next::Failed(failure.clone())),
            Some(End::Here) | None => {}
        }
        // The last octet waits until all is kept, so that who has the whole and asks again finds it.
        let kept = if state.end.is_some() { self.length } else { self.length - 1 };
        let end = state.here().len().min(kept).min(at + SLICE_PIECE);
        (end > at).then(|| Next::Octets(Bytes::copy_from_slice(&state.here()[at..end])))
    }
}

fn lost() -> Failure {
    use crate::reason::Reason;
    Failure::new(Reason::ProxyInternalError, "there is no room for what arrives, on disk or here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn readers_follow_and_the_last_octet_waits_for_the_end() {
        let slice = Slice::new(6, &Budget::new(100));
        assert!(slice.push(bytes("abc")).is_empty());
        assert_eq!(slice.next(1).await, Next::Octets(bytes("bc")));
        assert_eq!(slice.whole(), None);
        assert_eq!(slice.push(bytes("defgh")), bytes("gh"));
        assert_eq!(slice.whole(), Some(bytes("abcdef")));
        assert_eq!(slice.received(), 6);
        assert_eq!(slice.next(3).await, Next::Octets(bytes("de")));
        assert_eq!(slice.look(5), None);
        slice.end(End::Here);
        assert_eq!(slice.next(5).await, Next::Octets(bytes("f")));
    }

    #[tokio::test]
    async fn what_is_on_disk_takes_no_memory_and_what_has_no_room_is_lost() {
        let budget = Budget::new(10);
        let [disk, here, full] = [(); 3].map(|()| Slice::new(6, &budget));
        for slice in [&disk, &here, &full] {
            slice.push(bytes("abcdef"));
        }
        disk.end(End::OnDisk);
        assert_eq!((disk.next(0).await, budget.used()), (Next::OnDisk, 0));
        here.end(End::Here);
        assert_eq!((here.next(0).await, budget.used()), (Next::Octets(bytes("abcdef")), 6));
        full.end(End::Here);
        assert!(matches!(full.next(0).await, Next::Failed(_)));
        drop(here);
        assert_eq!(budget.used(), 0);
    }
}
