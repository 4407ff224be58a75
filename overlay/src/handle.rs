//! How the rest of the program uses the index: calls that always end, and snapshots.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::contact::Contact;
use crate::directory::Directory;
use crate::except::Except;
use crate::id::{Key, NodeId};
use crate::keys::Keys;
use crate::level::Level;
use crate::limits::CALL_DEADLINE;
use crate::output::Outcome;
use crate::pointer::Pointer;
use crate::signed::{Broadcast, MAX_CONTENT};
use crate::stats::{BroadcastStats, Stats};
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

/// Messages of others to the whole network, from when this was made. Whoever takes them too slowly
/// loses the oldest, which is counted.
#[derive(Debug)]
pub struct Broadcasts {
    shared: Arc<Shared>,
    heard: broadcast::Receiver<Broadcast>,
}

impl Broadcasts {
    /// The next one; none once the overlay has ended.
    pub async fn next(&mut self) -> Option<Broadcast> {
        loop {
            match self.heard.recv().await {
                Ok(message) => return Some(message),
                Err(RecvError::Lagged(count)) => {
                    self.shared.lost.fetch_add(count, Ordering::Relaxed);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Why a call had no answer. Each may be tried again, except the last two.
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
    /// A message to the whole network is longer than [`MAX_CONTENT`].
    #[error("a message to the whole network has {MAX_CONTENT} octets at most")]
    TooLarge,
}

/// What the driver publishes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) local: Contact,
    pub(crate) max_ttl: Duration,
    pub(crate) keys: Keys,
    pub(crate) clock: Clock,
    pub(crate) directory: ArcSwap<Directory>,
    pub(crate) stats: ArcSwap<(Stats, TransportStats, BroadcastStats)>,
    /// Messages to the whole network go out here; none once the driver has ended.
    pub(crate) heard: ArcSwapOption<broadcast::Sender<Broadcast>>,
    /// How many of them listeners have missed.
    pub(crate) lost: AtomicU64,
}

/// A call, and where its end is told. Nobody may be listening there any more.
#[derive(Debug)]
pub(crate) enum Command {
    Ask(Ask, Reply),
    /// Kind and content.
    Broadcast(u8, Vec<u8>, oneshot::Sender<Result<(), IndexError>>),
}

pub(crate) type Reply = oneshot::Sender<Result<Outcome, IndexError>>;

/// What is asked of the core.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Get(Key, Except),
    Put(Key, Pointer, Duration),
    Claim(Key, Pointer, Duration, Except),
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

    /// The Ed25519 signature of this node's identity. A message begins with a context of its own, so that what
    /// was signed for one use is good for no other: TLS 1.3 has its own (RFC 8446, section 4.4.3), receipts
    /// have theirs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.shared.keys.sign(message)
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
        self.claim_except(key, pointer, ttl, Except::default()).await
    }

    /// The same after a claim whose pointers have all led nowhere: it passes their holders by.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn claim_except(
        &self,
        key: Key,
        pointer: Pointer,
        ttl: Duration,
        except: Except,
    ) -> Result<Claim, IndexError> {
        match self.call(Ask::Claim(key, pointer, ttl, except)).await? {
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

    /// Tells all other nodes, as far as they can be reached: signed by this node, once. What kind it is
    /// and what it says is for the application to know. It has gone out when this returns.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`]; [`IndexError::Busy`] if this node has sent as many as it may of late.
    pub async fn broadcast(&self, kind: u8, content: &[u8]) -> Result<(), IndexError> {
        if content.len() > MAX_CONTENT {
            return Err(IndexError::TooLarge);
        }
        let (reply, answer) = oneshot::channel();
        self.send(Command::Broadcast(kind, content.to_vec(), reply))?;
        match timeout(CALL_DEADLINE, answer).await {
            Ok(result) => result.unwrap_or(Err(IndexError::Stopped)),
            Err(_) => Err(IndexError::TimedOut),
        }
    }

    /// Listens to what others tell all nodes from now on.
    #[must_use]
    pub fn broadcasts(&self) -> Broadcasts {
        // After the end there is nobody to hear: a channel whose sender is gone says so.
        let heard = self.shared.heard.load();
        let heard = heard.as_ref().map_or_else(|| broadcast::channel(1).1, |h| h.subscribe());
        Broadcasts { shared: Arc::clone(&self.shared), heard }
    }

    /// What came of messages to the whole network. Cheap.
    #[must_use]
    pub fn broadcast_stats(&self) -> BroadcastStats {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        BroadcastStats { lost, ..self.shared.stats.load().2 }
    }

    fn send(&self, command: Command) -> Result<(), IndexError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IndexError::Busy,
            mpsc::error::TrySendError::Closed(_) => IndexError::Stopped,
        })
    }

    async fn call(&self, ask: Ask) -> Result<Outcome, IndexError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Ask(ask, reply))?;
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
    use crate::contact::Services;

    fn handle(commands: usize) -> (Handle, mpsc::Receiver<Command>) {
        let keys = Keys::from_seed(&[1; 32]);
        let local = Contact {
            identity: keys.identity(),
            addr: "127.0.0.1:7400".parse().unwrap(),
            slot: 0,
            peer_port: 0,
            services: Services::PROXY,
        };
        let directory = Directory { local, neighbours: Vec::new(), joined: true };
        let shared = Shared {
            local,
            max_ttl: Duration::from_secs(7_200),
            keys,
            clock: Clock::new(),
            directory: ArcSwap::from_pointee(directory),
            stats: ArcSwap::default(),
            heard: ArcSwapOption::empty(),
            lost: AtomicU64::new(0),
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
