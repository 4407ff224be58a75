//! The I/O of the overlay: one task that owns the core, the transport and the socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::clock::Clock;
use crate::handle::{Ask, Command, IndexError, Reply, Shared};
use crate::id::Key;
use crate::node::Overlay;
use crate::output::{Event, Output, QueryId};
use crate::saved::Saver;
use crate::signed::Seal;
use crate::time::Instant;
use crate::transport::{self, Transport};

/// Sleep of a driver that has nothing to wait for.
const IDLE: Duration = Duration::from_secs(3_600);

/// Age at which round trips and times of the directory are published anew, although its set is the same.
const SNAPSHOT_AGE: Duration = Duration::from_secs(1);

/// Longer than any datagram of ours, so that one that was cut to fit is still seen to be too long.
const INBOX: usize = 1_500;

/// Everything of the overlay that lives in this process.
pub(crate) struct Driver {
    pub(crate) overlay: Overlay,
    pub(crate) transport: Transport,
    pub(crate) seal: Seal,
    pub(crate) socket: UdpSocket,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) resolved: mpsc::Receiver<Vec<SocketAddr>>,
    pub(crate) saver: Saver,
    /// Who waits for which query; the core bounds their number.
    pub(crate) waiting: BTreeMap<QueryId, Reply>,
    /// When the directory was last published.
    pub(crate) published: Instant,
    /// Ends with the driver.
    pub(crate) resolver: JoinSet<()>,
}

impl Driver {
    /// Runs until `shutdown` resolves, then saves contacts.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut inbox = vec![0; INBOX];
        loop {
            let wake = self.drain().await.unwrap_or_else(|| self.now() + IDLE);
            tokio::select! {
                () = &mut shutdown => break,
                received = self.socket.recv_from(&mut inbox) => match received {
                    Ok((length, from)) => {
                        self.transport.handle_datagram(self.now(), from, &inbox[..length]);
                    }
                    // What an earlier datagram met on its way (ICMP); its sender will time out.
                    Err(error) => tracing::debug!("overlay socket: {error}"),
                },
                () = sleep_until(self.shared.clock.to_tokio(wake)) => {
                    self.transport.handle_timeout(self.now());
                    self.overlay.handle_timeout(self.now());
                }
                Some(command) = self.commands.recv() => self.begin(command),
                Some(seeds) = self.resolved.recv() => self.overlay.set_seeds(self.now(), seeds),
                () = self.saver.due() => self.saver.save(self.overlay.contacts()).await,
            }
        }
        self.shared.heard.store(None);
        self.resolver.shutdown().await;
        self.saver.save(self.overlay.contacts()).await;
    }

    fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    fn begin(&mut self, command: Command) {
        match command {
            Command::Ask(ask, reply) => self.ask(ask, reply),
            // Whoever asked may have gone.
            Command::Broadcast(kind, content, reply) => {
                let _ = reply.send(self.broadcast(kind, &content));
            }
        }
    }

    fn broadcast(&mut self, kind: u8, content: &[u8]) -> Result<(), IndexError> {
        let now = self.now();
        let payload = self.seal.sign(now, Clock::unix_us(), kind, content);
        let payload = payload.ok_or(IndexError::Busy)?;
        self.overlay.broadcast(now, &payload).map_err(|_| IndexError::Busy)
    }

    fn ask(&mut self, ask: Ask, reply: Reply) {
        let now = self.now();
        let query = match ask {
            Ask::Get(key, except) if except.is_empty() => self.overlay.get(now, key),
            Ask::Get(key, except) => self.overlay.get_except(now, key, except),
            Ask::Put(key, pointer, ttl) => self.overlay.put(now, key, pointer, ttl),
            Ask::Claim(key, pointer, ttl, except) => {
                self.overlay.claim_except(now, key, pointer, ttl, except)
            }
            Ask::Withdraw(key) => self.overlay.withdraw(now, key),
        };
        match query {
            Ok(query) => drop(self.waiting.insert(query, reply)),
            Err(_) => drop(reply.send(Err(IndexError::Busy))),
        }
    }

    /// Passes on all that core and transport have to say. Returns when they are to be woken.
    async fn drain(&mut self) -> Option<Instant> {
        let mut buf = Vec::new();
        let mut core_wake = self.drain_core(&mut buf);
        let transport_wake = loop {
            match self.transport.poll_output(&mut buf) {
                transport::Output::Deliver(from) => {
                    self.overlay.handle_datagram(self.now(), from, &buf);
                    core_wake = self.drain_core(&mut buf);
                }
                transport::Output::Transmit(to) => {
                    if let Err(error) = self.socket.send_to(&buf, to).await {
                        tracing::debug!("datagram to {to}: {error}");
                        self.overlay.handle_unreachable(self.now(), to);
                        core_wake = self.drain_core(&mut buf);
                    }
                }
                transport::Output::Idle { wake } => break wake,
            }
        };
        self.publish();
        core_wake.into_iter().chain(transport_wake).min()
    }

    /// Another node tells all: passed on and shown if it is signed and new.
    fn hear(&mut self, message: &Key, payload: &[u8]) {
        let now = self.now();
        if let Ok(broadcast) = self.seal.open(now, Clock::unix_us(), payload) {
            self.overlay.accept(now, message);
            // Nobody may be listening.
            self.shared.heard.load().as_ref().map(|heard| heard.send(broadcast));
        }
    }

    /// Brings the snapshots up to date: counts always, the directory when it has grown old. When
    /// its set changes, that has been published at once.
    fn publish(&mut self) {
        let stats = (self.overlay.stats(), self.transport.stats(), self.seal.stats);
        self.shared.stats.store(Arc::new(stats));
        let now = self.now();
        if now.since(self.published) >= SNAPSHOT_AGE {
            self.publish_directory(now);
        }
    }

    fn publish_directory(&mut self, now: Instant) {
        self.published = now;
        self.shared.directory.store(Arc::new(self.overlay.directory(now)));
    }

    fn drain_core(&mut self, buf: &mut Vec<u8>) -> Option<Instant> {
        let mut heard = Vec::new();
        loop {
            match self.overlay.poll_output(buf) {
                Output::Transmit(transmit) => {
                    self.transport.send(self.now(), transmit.to, transmit.identity, buf);
                }
                Output::Event(Event::Finished { query, outcome }) => {
                    // Whoever asked may have gone.
                    self.waiting.remove(&query).map(|reply| reply.send(Ok(outcome)));
                }
                Output::Event(Event::Broadcast { message, payload }) => {
                    heard.push((message, payload));
                }
                Output::Event(Event::DirectoryChanged) => {
                    self.publish_directory(self.now());
                }
                Output::Idle { wake } => match heard.pop() {
                    Some((message, payload)) => self.hear(&message, &payload),
                    None => return wake,
                },
            }
        }
    }
}
