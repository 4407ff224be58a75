//! Steps 4 and 7: what the index is asked and told about one key.
//!
//! One task a key does it, one call at a time: a late answer about something that is arriving can never
//! overtake the word that it is whole, or gone.

use std::sync::Arc;
use std::time::Duration;

use coralline_overlay::{Claim, Handle, Key, Level, Pointer, State};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::limits::{
    LOCATE_BUDGET, MIN_ANNOUNCED_TTL, RECEIVING_RENEWAL, RECEIVING_TTL, WHOLE_TTL,
};
use crate::message::Stored;

/// What the index said.
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
    /// All of it is here.
    Whole(Arc<Stored>),
    /// It is not here.
    Gone,
}

/// What one flight has to say. Dropped without a last word, it says that nothing is here.
pub(crate) struct Announcement {
    wish: watch::Sender<Wish>,
}

impl Announcement {
    /// Asks who has it, and claims it if nobody has.
    pub(crate) async fn locate(
        index: &Handle,
        key: Key,
        closing: &CancellationToken,
    ) -> (Self, Located) {
        let (wish, wishes) = watch::channel(Wish::Asking);
        let (said, answer) = oneshot::channel();
        let teller = Teller { index: index.clone(), key, closing: closing.clone(), told: false };
        tokio::spawn(teller.claim_then_tell(said, wishes));
        let located = timeout(LOCATE_BUDGET, answer).await;
        (Self { wish }, located.ok().and_then(Result::ok).unwrap_or(Located::Unknown))
    }

    /// The head is here: others may come.
    pub(crate) fn receiving(&self, length: Option<u64>) {
        self.wish.send_replace(Wish::Receiving(length));
    }

    /// All of it is here.
    pub(crate) fn whole(self, stored: Arc<Stored>) {
        self.wish.send_replace(Wish::Whole(stored));
    }
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
    ) {
        let own = self.pointer(State::Receiving, None);
        let located = match self.index.claim(self.key, own, RECEIVING_TTL).await {
            Ok(Claim::Claimed) => {
                self.told = true;
                Located::Claimed
            }
            Ok(Claim::Held(found)) => Located::Held(found.pointers, found.level),
            Err(error) => {
                tracing::debug!(key = %self.key, %error, "the index did not answer");
                // It may have been granted all the same.
                self.told = true;
                Located::Unknown
            }
        };
        // Nobody may be waiting any more.
        let _ = said.send(located);
        loop {
            let wish = wishes.borrow_and_update().clone();
            self.tell(&wish).await;
            if matches!(wish, Wish::Whole(_) | Wish::Gone) {
                return;
            }
            // A wish that came meanwhile is told at once, the same one again before it runs out.
            let changed = timeout(RECEIVING_RENEWAL, wishes.changed()).await;
            if matches!(changed, Ok(Err(_))) && !matches!(*wishes.borrow(), Wish::Whole(_)) {
                return self.tell(&Wish::Gone).await;
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
            Wish::Whole(_) | Wish::Gone => self.withdraw().await,
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
