//! A snapshot of the nodes known to be alive, for DNS answers and the status page.

use std::net::IpAddr;
use std::time::Duration;

use crate::address::prefix;
use crate::contact::{Contact, Services};
use crate::level::Level;
use crate::limits::{MAX_TIMEOUT, VERIFIED_WITHIN};
use crate::time::Instant;

/// A node that answered lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// How to reach it.
    pub contact: Contact,
    /// When it last answered us first-hand.
    pub verified: Instant,
    /// The shortest round trip seen to it; nothing until it has answered a request of ours.
    pub rtt: Option<Duration>,
    /// The nearest level that we share with it.
    pub level: Level,
}

/// This node and its live neighbours. Bounded; made anew when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// This node itself; always alive to itself.
    pub local: Contact,
    /// Others that answered within the last minute, nearest first.
    pub neighbours: Vec<Neighbour>,
    /// Whether the network was joined, or this is the first node.
    pub joined: bool,
}

impl Directory {
    /// At most `count` neighbours that offer `services`, share `level` with this node and have
    /// answered within [`VERIFIED_WITHIN`]: those of the neighbourhood of `near` first, then the
    /// nearest to this node. Each says when it answered last.
    #[must_use]
    pub fn nodes(
        &self,
        now: Instant,
        level: Level,
        count: usize,
        near: Option<IpAddr>,
        services: Services,
    ) -> Vec<Neighbour> {
        let of = near.and_then(prefix);
        let mut nodes: Vec<_> = self
            .neighbours
            .iter()
            .filter(|node| node.level >= level && node.contact.services.contains(services))
            .filter(|node| now.since(node.verified) <= VERIFIED_WITHIN)
            .copied()
            .collect();
        nodes.sort_by_key(|node| {
            let is_there = of.is_some() && prefix(node.contact.addr.ip()) == of;
            (!is_there, node.rtt.unwrap_or(MAX_TIMEOUT))
        });
        nodes.truncate(count);
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::Identity;

    fn neighbour(net: u8, rtt_ms: u64, level: u8, services: Services) -> Neighbour {
        let contact = Contact {
            identity: Identity([net; 32]),
            addr: ([192, 0, net, 1], 7400).into(),
            slot: 0,
            peer_port: 7400,
            services,
        };
        let rtt = Some(Duration::from_millis(rtt_ms));
        Neighbour { contact, verified: Instant::from_micros(0), rtt, level: Level(level) }
    }

    #[test]
    fn nodes_by_level_service_and_nearness() {
        let (proxy, dns) = (Services::PROXY, Services::DNS);
        let neighbours = vec![
            neighbour(1, 5, 2, proxy),
            neighbour(2, 30, 1, proxy.with(dns)),
            neighbour(3, 100, 0, proxy),
        ];
        let local = neighbours[0].contact;
        let directory = Directory { local, neighbours, joined: true };
        let check = |level, count, near: Option<&str>, services, at_s: u64, expect: &[u8]| {
            let near = near.map(|ip| ip.parse().unwrap());
            let now = Instant::from_micros(at_s * 1_000_000);
            let nodes = directory.nodes(now, Level(level), count, near, services);
            let found: Vec<_> = nodes.iter().map(|node| node.contact.identity.0[0]).collect();
            assert_eq!(found, expect);
        };
        check(0, 9, None, proxy, 1, &[1, 2, 3]);
        check(0, 2, None, proxy, 1, &[1, 2]);
        check(1, 9, None, proxy, 1, &[1, 2]);
        check(0, 9, None, dns, 1, &[2]);
        check(0, 9, Some("192.0.3.77"), proxy, 1, &[3, 1, 2]);
        check(0, 9, None, proxy, 61, &[]);
    }
}
