//! Hosts far apart on one machine: a network namespace each, held by a thread.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use tokio::runtime::Handle;
use tun_rs::{AsyncDevice, DeviceBuilder};

/// The bits of an ordinary Ethernet.
pub(crate) const MTU: u16 = 1_500;

type Work = Box<dyn FnOnce() + Send>;

/// A host with one line, loopback, and nothing else. It ends with the last thread, process and socket
/// that were begun on it.
pub(crate) struct Host {
    pub(crate) ip: Ipv4Addr,
    work: mpsc::SyncSender<Work>,
}

/// The address of the host with this number: public, as the rules for volunteers are about such, and each
/// in a /24 of its own, as nodes of different people are.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(number).expect("few hosts").to_be_bytes();
    Ipv4Addr::new(44, high, low, 1)
}

/// The number of the host that has an address.
pub(crate) fn number(ip: Ipv4Addr) -> Option<usize> {
    let [44, high, low, 1] = ip.octets() else { return None };
    Some(u16::from_be_bytes([high, low]).into())
}

impl Host {
    /// A host, and the far end of its line, whose packets `carrier` polls. Nothing where one may not
    /// make namespaces or lines.
    pub(crate) fn new(index: usize, carrier: &Handle) -> Option<(Self, AsyncDevice)> {
        let ip = address(index);
        let (work, jobs) = mpsc::sync_channel::<Work>(1);
        let (made, line) = mpsc::sync_channel(1);
        let carrier = carrier.clone();
        thread::spawn(move || {
            if made.send(lay(ip, &carrier)).is_ok() {
                jobs.into_iter().for_each(|job| job());
            }
        });
        Some((Self { ip, work }, line.recv().ok()??))
    }

    /// Does `work` on the host: sockets that it opens, threads and processes that it starts live there.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::sync_channel(1);
        let job = Box::new(move || _ = done.send(work()));
        self.work.send(job).expect("its thread lives as long as the host");
        result.recv().expect("the work ends well")
    }
}

fn lay(ip: Ipv4Addr, carrier: &Handle) -> Option<AsyncDevice> {
    unshare(CloneFlags::CLONE_NEWNET).ok()?;
    let _carrier = carrier.enter();
    let line = DeviceBuilder::new().name("wan").mtu(MTU).ipv4(ip, 32, None).build_async().ok()?;
    let told = [["link", "set", "lo", "up"].as_slice(), &["route", "add", "default", "dev", "wan"]];
    let done = told
        .iter()
        .all(|words| Command::new("ip").args(*words).status().is_ok_and(|status| status.success()));
    done.then_some(line)
}
