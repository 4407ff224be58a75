//! Steps 4 and 7: what the index is asked and told about one key.
//!
//! One task a key does it, one call at a time: a late answer about something that is arriving can never
//! overtake the word that it is whole, or gone.

use std::sync::Arc;
use std::time::Duration;

use coralline_overlay::{Claim, Except, Handle, Key, Level, Pointer, State};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::limits::{
    LOCATE_BUDGET, MIN_ANNOUNCED_TTL, RECEIVING_RENEWAL, RECEIVING_TTL, WHOLE_TTL,
};
use crate::message::Stored;

/// What the index said.
#[derive(Clone)]
pub(crate) enum Located {
    /// These have it, or are getting it.
    Held(Vec<Pointer>, Level),
    /// Nobody has: it is ours to fetch, and others will be sent to us.
    Claimed,
    /// The index could not say in time.
    Unknown,
}

/// What the index is to know.
#[derive(Debug, Clone)]
enum Wish {
    /// Nothing yet: it is still being asked.
    Asking,
    /// It is arriving here; its length, where that is known.
    Receiving(Option<u64>),
    /// Whoever sent it has gone: until another is found, nobody is to come here.
    Lost,
    /// All of it is here.
    Whole(Arc<Stored>),
    /// It is here for so long: a slice.
    Kept(Duration),
    /// It is not here.
    Gone,
}

/// What one flight, or one slice, has to say. Dropped without a last word, it says that nothing is here.
#[derive(Debug)]
pub(crate) struct Announcement {
    wish: watch::Sender<Wish>,
    again: mpsc::Sender<Again>,
}

/// Asks once more, past holders that were of no use, and tells the answer.
type Again = (Except, oneshot::Sender<Located>);

impl Announcement {
    /// Asks who has it, and claims it if nobody has.
    pub(crate) async fn locate(
        index: &Handle,
        key: Key,
        closing: &CancellationToken,
    ) -> (Self, Located) {
        let (wish, wishes) = watch::channel(Wish::Asking);
        let (again, agains) = mpsc::channel(1);
        let (said, answer) = oneshot::channel();
        let teller = Teller { index: index.clone(), key, closing: closing.clone(), told: false };
        tokio::spawn(teller.claim_then_tell(said, wishes, agains));
        let located = located(answer).await;
        (Self { wish, again }, located)
    }

    /// Asks again who has it, and claims it if nobody has, these holders apart. Of all who find them
    /// useless, one is told that it is theirs to fetch.
    pub(crate) async fn locate_except(&self, except: Except) -> Located {
        let (said, answer) = oneshot::channel();
        match self.again.try_send((except, said)) {
            Ok(()) => located(answer).await,
            Err(_) => Located::Unknown,
        }
    }

    /// The head is here: others may come.
    pub(crate) fn receiving(&self, length: Option<u64>) {
        self.wish.send_replace(Wish::Receiving(length));
    }

    /// It arrives no longer: to be said before another source is looked for. Of those that have lost the same
    /// source none is then sent to another, and one is told that it is theirs to fetch.
    pub(crate) fn lost(&self) {
        self.wish.send_replace(Wish::Lost);
    }

    /// All of it is here.
    pub(crate) fn whole(self, stored: Arc<Stored>) {
        self.wish.send_replace(Wish::Whole(stored));
    }

    /// A slice is here, and will be for this time.
    pub(crate) fn kept(self, ttl: Duration) {
        self.wish.send_replace(Wish::Kept(ttl));
    }
}

async fn located(answer: oneshot::Receiver<Located>) -> Located {
    let answer = timeout(LOCATE_BUDGET, answer).await;
    answer.ok().and_then(Result::ok).unwrap_or(Located::Unknown)
}

/// Says again that something stored is here, after its pointer has run out.
pub(crate) fn announce_again(index: &Handle, stored: Arc<Stored>, closing: &CancellationToken) {
    let (key, closing) = (stored.index_key, closing.clone());
    let mut teller = Teller { index: index.clone(), key, closing, told: false };
    tokio::spawn(async move { teller.tell(&Wish::Whole(stored)).await });
}

struct Teller {
    index: Handle,
    key: Key,
    /// The node is leaving: from now on nothing is here.
    closing: CancellationToken,
    /// The index may hold a pointer to us.
    told: bool,
}

impl Teller {
    async fn claim_then_tell(
        mut self,
        said: oneshot::Sender<Located>,
        mut wishes: watch::Receiver<Wish>,
        mut agains: mpsc::Receiver<Again>,
    ) {
        // Nobody may be waiting any more.
        let _ = said.send(self.claim(Except::default()).await);
        loop {
            let wish = wishes.borrow_and_update().clone();
            self.tell(&wish).await;
            if matches!(wish, Wish::Whole(_) | Wish::Kept(_) | Wish::Gone) {
                return;
            }
            // A wish that came meanwhile is told at once, the same one again before it runs out.
            let changed = tokio::select! {
                // What we have lost is said before we ask for others.
                biased;
                changed = timeout(RECEIVING_RENEWAL, wishes.changed()) => changed,
                Some((except, said)) = agains.recv() => {
                    let _ = said.send(self.claim(except).await);
                    continue;
                }
            };
            if matches!(changed, Ok(Err(_)))
                && !matches!(*wishes.borrow(), Wish::Whole(_) | Wish::Kept(_))
            {
                return self.tell(&Wish::Gone).await;
            }
        }
    }

    async fn claim(&mut self, except: Except) -> Located {
        let own = self.pointer(State::Receiving, None);
        match self.index.claim_except(self.key, own, RECEIVING_TTL, except).await {
            Ok(Claim::Claimed) => {
                self.told = true;
                Located::Claimed
            }
            Ok(Claim::Held(found)) => {
                // What an earlier claim may have left would send others here.
                let _ = self.withdraw().await;
                Located::Held(found.pointers, found.level)
            }
            Err(error) => {
                tracing::debug!(key = %self.key, %error, "the index did not answer");
                // It may have been granted all the same.
                self.told = true;
                Located::Unknown
            }
        }
    }

    async fn tell(&mut self, wish: &Wish) {
        let fresh = |stored: &Stored| stored.freshness.remaining(clock::now()).unwrap_or_default();
        let result = match wish {
            _ if self.closing.is_cancelled() => self.withdraw().await,
            Wish::Asking if self.told => self.put(State::Receiving, None, RECEIVING_TTL).await,
            Wish::Asking => Ok(()),
            Wish::Receiving(length) => self.put(State::Receiving, *length, RECEIVING_TTL).await,
            Wish::Whole(stored) if fresh(stored) >= MIN_ANNOUNCED_TTL => {
                let ttl = fresh(stored).min(WHOLE_TTL).min(self.index.max_ttl());
                let put = self.put(State::Whole, Some(stored.body.len()), ttl).await;
                put.inspect(|()| stored.announced(clock::now(), ttl))
            }
            Wish::Kept(ttl) => self.put(State::Whole, None, *ttl).await,
            Wish::Whole(_) | Wish::Gone | Wish::Lost => self.withdraw().await,
        };
        if let Err(error) = result {
            tracing::debug!(key = %self.key, %error, "the index was not told");
        }
    }

    async fn put(
        &mut self,
        state: State,
        length: Option<u64>,
        ttl: Duration,
    ) -> Result<(), coralline_overlay::IndexError> {
        self.told = true;
        self.index.put(self.key, self.pointer(state, length), ttl).await
    }

    /// Best effort: the pointer runs out by itself.
    async fn withdraw(&mut self) -> Result<(), coralline_overlay::IndexError> {
        if std::mem::take(&mut self.told) { self.index.withdraw(self.key).await } else { Ok(()) }
    }

    fn pointer(&self, state: State, length: Option<u64>) -> Pointer {
        Pointer { holder: self.index.local(), state, length, root: None }
    }
}
