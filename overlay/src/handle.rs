//! How the rest of the program uses the index: calls that always end, and snapshots.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::contact::Contact;
use crate::directory::Directory;
use crate::except::Except;
use crate::id::{Key, NodeId};
use crate::level::Level;
use crate::limits::CALL_DEADLINE;
use crate::output::Outcome;
use crate::pointer::Pointer;
use crate::stats::Stats;
use crate::time::Instant;
use crate::transport::TransportStats;

/// The index as others in this process see it. Clones share one driver, which its task owns; calls
/// after that has ended give [`IndexError::Stopped`]. Dropping the future of a call is harmless.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// Who has a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Those who have it; none means that nobody has.
    pub pointers: Vec<Pointer>,
    /// The level at which they were found.
    pub level: Level,
    /// How many nodes away they were found.
    pub hops: u8,
    /// The node that named them, for [`Except::add`].
    pub by: Option<NodeId>,
}

/// How a claim was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nobody else holds it: go to the origin.
    Claimed,
    /// Others hold it: fetch from them.
    Held(Found),
}

/// Why a call had no answer. Each may be tried again, except the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// This node has too many queries in flight.
    #[error("too many index queries in flight")]
    Busy,
    /// The nodes that are asked did not answer in time.
    #[error("the index did not answer in time")]
    TimedOut,
    /// The overlay has ended.
    #[error("the overlay has ended")]
    Stopped,
}

/// What the driver publishes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) local: Contact,
    pub(crate) max_ttl: Duration,
    pub(crate) clock: Clock,
    pub(crate) directory: ArcSwap<Directory>,
    pub(crate) stats: ArcSwap<(Stats, TransportStats)>,
}

/// A call, and where its end is told. Nobody may be listening there any more.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) ask: Ask,
    pub(crate) reply: Reply,
}

pub(crate) type Reply = oneshot::Sender<Result<Outcome, IndexError>>;

/// What is asked of the core.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Get(Key, Except),
    Put(Key, Pointer, Duration),
    Claim(Key, Pointer, Duration),
    Withdraw(Key),
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, commands: mpsc::Sender<Command>) -> Self {
        Self { shared, commands }
    }

    /// This node as others reach it.
    #[must_use]
    pub fn local(&self) -> Contact {
        self.shared.local
    }

    /// Longest time to live of a pointer: what is put for longer lives for this.
    #[must_use]
    pub fn max_ttl(&self) -> Duration {
        self.shared.max_ttl
    }

    /// The overlay's time, to compare with [`crate::Neighbour::verified`].
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// This node and its live neighbours, as of the last change. Cheap.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        self.shared.directory.load_full()
    }

    /// What the index has done and holds. Cheap.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats.load().0
    }

    /// What has gone over the wire. Cheap.
    #[must_use]
    pub fn transport_stats(&self) -> TransportStats {
        self.shared.stats.load().1
    }

    /// Asks who has `key`.
    ///
    /// # Errors
    /// [`IndexError`], here and below.
    pub async fn get(&self, key: Key) -> Result<Found, IndexError> {
        self.get_except(key, Except::default()).await
    }

    /// The same after a get or a claim whose pointers have all led nowhere.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn get_except(&self, key: Key, except: Except) -> Result<Found, IndexError> {
        match self.call(Ask::Get(key, except)).await? {
            Outcome::Found { pointers, level, hops, by } => Ok(Found { pointers, level, hops, by }),
            other => unreachable!("a get ended with {other:?}"),
        }
    }

    /// Says that this node has `key`, for `ttl`.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn put(&self, key: Key, pointer: Pointer, ttl: Duration) -> Result<(), IndexError> {
        self.call(Ask::Put(key, pointer, ttl)).await.map(drop)
    }

    /// Says that this node is about to have `key`, unless others hold it already. Of those who claim
    /// a key at the same time, one is told to go to the origin.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn claim(
        &self,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
    ) -> Result<Claim, IndexError> {
        match self.call(Ask::Claim(key, pointer, ttl)).await? {
            Outcome::Claimed => Ok(Claim::Claimed),
            Outcome::Held { pointers, level, by } => {
                Ok(Claim::Held(Found { pointers, level, hops: 0, by }))
            }
            other => unreachable!("a claim ended with {other:?}"),
        }
    }

    /// Takes back what this node has put for `key`: best effort, the time to live does the rest.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn withdraw(&self, key: Key) -> Result<(), IndexError> {
        self.call(Ask::Withdraw(key)).await.map(drop)
    }

    async fn call(&self, ask: Ask) -> Result<Outcome, IndexError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command { ask, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IndexError::Busy,
            mpsc::error::TrySendError::Closed(_) => IndexError::Stopped,
        })?;
        match timeout(CALL_DEADLINE, answer).await {
            Ok(Ok(Ok(Outcome::TimedOut))) | Err(_) => Err(IndexError::TimedOut),
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(IndexError::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::{Identity, Services};

    fn handle(commands: usize) -> (Handle, mpsc::Receiver<Command>) {
        let local = Contact {
            identity: Identity([1; 32]),
            addr: "127.0.0.1:7400".parse().unwrap(),
            slot: 0,
            peer_port: 0,
            services: Services::PROXY,
        };
        let directory = Directory { local, neighbours: Vec::new(), joined: true };
        let shared = Shared {
            local,
            max_ttl: Duration::from_secs(7_200),
            clock: Clock::new(),
            directory: ArcSwap::from_pointee(directory),
            stats: ArcSwap::from_pointee((Stats::default(), TransportStats::default())),
        };
        let (sender, receiver) = mpsc::channel(commands);
        (Handle::new(Arc::new(shared), sender), receiver)
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap().block_on(future)
    }

    const KEY: Key = crate::id::Id([0; 20]);

    #[test]
    fn a_call_that_nobody_answers_ends() {
        let (handle, _receiver) = handle(1);
        assert_eq!(block_on(handle.get(KEY)), Err(IndexError::TimedOut));
    }

    #[test]
    fn a_full_queue_is_busy() {
        let (handle, _receiver) = handle(1);
        block_on(async {
            let first = tokio::spawn({
                let handle = handle.clone();
                async move { handle.withdraw(KEY).await }
            });
            tokio::task::yield_now().await;
            assert_eq!(handle.get(KEY).await, Err(IndexError::Busy));
            first.abort();
        });
    }

    #[test]
    fn a_driver_that_has_ended_is_told() {
        let (handle, receiver) = handle(1);
        drop(receiver);
        assert_eq!(block_on(handle.get(KEY)), Err(IndexError::Stopped));
        let (handle, mut receiver) = self::handle(1);
        block_on(async {
            let call = handle.get(KEY);
            let end = async { drop(receiver.recv().await) };
            assert_eq!(tokio::join!(call, end).0, Err(IndexError::Stopped));
        });
    }
}
