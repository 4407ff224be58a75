//! Carries packets between the lines of hosts, each after half the round trip of the two.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coralline_sim::Geography;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tun_rs::AsyncDevice;

use super::host::{Host, MTU, number};

/// Packets on their way: what 100 Mbit/s put on lines of 300 ms is less than half of it.
const ON_THE_WAY: usize = 8_192;
/// A modem's queue: packets that wait for a thin uplink before the next is lost.
const QUEUE: u32 = 64;

/// The Internet of a test. Ends, with what is on its way, when dropped.
pub(crate) struct Carrier {
    runtime: Runtime,
    counts: Arc<Counts>,
}

/// What it carried and lost.
struct Counts {
    packets: AtomicU64,
    lost: AtomicU64,
    /// Octets from each host to each, row by row.
    octets: Vec<AtomicU64>,
    /// Hosts whose lines are cut.
    cut: Vec<AtomicBool>,
}

impl Counts {
    fn is_cut(&self, host: usize) -> bool {
        self.cut[host].load(Ordering::Relaxed)
    }
}

/// What a host may send in a second; nothing: as much as it likes.
pub(crate) type Uplink = Option<u64>;

impl Carrier {
    /// Hosts at the places of `geography`, with their uplinks in bits a second. Nothing, where one may not
    /// make them.
    pub(crate) fn lay(geography: Geography, uplinks: &[Uplink]) -> Option<(Self, Vec<Host>)> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (mut hosts, mut lines) = (Vec::new(), Vec::new());
        for index in 0..uplinks.len() {
            let (host, line) = Host::new(index, runtime.handle())?;
            hosts.push(host);
            lines.push(Arc::new(line));
        }
        let counts = Arc::new(Counts {
            packets: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            octets: (0..uplinks.len().pow(2)).map(|_| AtomicU64::new(0)).collect(),
            cut: uplinks.iter().map(|_| AtomicBool::new(false)).collect(),
        });
        let geography = Arc::new(geography);
        let (sent, arriving) = mpsc::channel(ON_THE_WAY);
        for (from, uplink) in uplinks.iter().enumerate() {
            let sender = Sender {
                from,
                hosts: uplinks.len(),
                line: lines[from].clone(),
                geography: geography.clone(),
                sent: sent.clone(),
                counts: counts.clone(),
                uplink: uplink.map(Thin::new),
            };
            runtime.spawn(sender.run());
        }
        runtime.spawn(deliver(lines, arriving, counts.clone()));
        Some((Self { runtime, counts }, hosts))
    }
}

impl Carrier {
    /// Octets that one host has sent to another, headers included.
    pub(crate) fn octets(&self, from: usize, to: usize) -> u64 {
        self.counts.octets[from * self.counts.octets.len().isqrt() + to].load(Ordering::Relaxed)
    }

    /// Nothing goes to this host or comes from it any more: it is as if it had lost its power.
    pub(crate) fn cut(&self, host: usize) {
        self.counts.cut[host].store(true, Ordering::Relaxed);
    }

    /// Packets carried, and those of them that were lost in queues.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [&self.counts.packets, &self.counts.lost].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let ended = Builder::new_current_thread().build().unwrap();
        std::mem::replace(&mut self.runtime, ended).shutdown_background();
    }
}

/// A packet, and when it is there. Ordered by time, then by when it was sent.
type Packet = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// What one host sends.
struct Sender {
    from: usize,
    hosts: usize,
    line: Arc<AsyncDevice>,
    geography: Arc<Geography>,
    sent: mpsc::Sender<Packet>,
    counts: Arc<Counts>,
    uplink: Option<Thin>,
}

impl Sender {
    async fn run(mut self) {
        let mut buffer = vec![0; usize::from(MTU)];
        while let Ok(length) = self.line.recv(&mut buffer).await {
            let packet = &buffer[..length];
            let Some(to) = destination(packet).filter(|to| *to < self.hosts) else { continue };
            if self.counts.is_cut(self.from) || self.counts.is_cut(to) {
                continue;
            }
            let now = Instant::now();
            let left = match &mut self.uplink {
                Some(thin) => thin.pass(now, length),
                None => Some(now),
            };
            let order = self.counts.packets.fetch_add(1, Ordering::Relaxed);
            let sent = left.is_some_and(|left| {
                let due = left + self.geography.rtt(self.from, to) / 2;
                self.sent.try_send(Reverse((due, order, to, packet.to_vec()))).is_ok()
            });
            if !sent {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let flow = self.from * self.counts.octets.len().isqrt() + to;
            self.counts.octets[flow].fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}

/// To which host an IPv4 packet goes (RFC 791, section 3.1).
fn destination(packet: &[u8]) -> Option<usize> {
    let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (packet[0] >> 4 == 4).then(|| number(Ipv4Addr::from(to)))?
}

/// An uplink with so many bits a second, and a queue before it.
struct Thin {
    bits: u64,
    free: Option<Instant>,
}

impl Thin {
    const fn new(bits: u64) -> Self {
        Self { bits, free: None }
    }

    fn takes(&self, length: usize) -> Duration {
        Duration::from_secs_f64(length as f64 * 8.0 / self.bits as f64)
    }

    /// When a packet has left; nothing: the queue is full.
    fn pass(&mut self, now: Instant, length: usize) -> Option<Instant> {
        let begin = self.free.map_or(now, |free| free.max(now));
        if begin - now > self.takes(MTU.into()) * QUEUE {
            return None;
        }
        let left = begin + self.takes(length);
        self.free = Some(left);
        Some(left)
    }
}

/// Hands each packet over when it is due.
async fn deliver(
    lines: Vec<Arc<AsyncDevice>>,
    mut arriving: mpsc::Receiver<Packet>,
    counts: Arc<Counts>,
) {
    let mut waiting: BinaryHeap<Packet> = BinaryHeap::new();
    loop {
        let due = waiting.peek().map(|Reverse((due, ..))| *due);
        let room = waiting.len() < 8 * ON_THE_WAY;
        tokio::select! {
            packet = arriving.recv(), if room => match packet {
                Some(packet) => waiting.push(packet),
                None => return,
            },
            () = async { sleep_until(due.expect("the branch is off")).await }, if due.is_some() => {}
        }
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, to, packet))) = waiting.pop() else { break };
            if lines[to].try_send(&packet).is_err() {
                counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
