//! A contact with a place in the table, and how it has been doing: 128 octets, since a node has
//! hundreds.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::clusters::Memberships;
use crate::contact::{Contact, Identity, Services};
use crate::id::NodeId;
use crate::level::Level;
use crate::limits::{MAX_TIMEOUT, MEASURE_WITHIN, PING_AGAIN_AFTER, VERIFIED_WITHIN};
use crate::rtt::Rtt;
use crate::time::Instant;

/// A contact with a place.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: NodeId,
    card: Card,
    /// Which part of an interval is left out, so that pings spread: 0 to 1/5 of it; or of
    /// [`MEASURE_WITHIN`], all of it.
    spread: u16,
    /// When it was last heard from.
    pub(crate) verified: Instant,
    /// When it was last pinged, if no answer has come, or else when it last failed.
    since: Instant,
    pub(super) failures: u8,
    /// Whether it was pinged, and neither has answered nor failed.
    is_asked: bool,
    pub(crate) rtt: Rtt,
    /// Its clusters, as it said last.
    pub(crate) clusters: Memberships,
    /// The nearest level that it shares with us.
    pub(crate) level: Level,
    /// Whether it is among the nearest by round trip, who are kept alive.
    pub(super) is_neighbour: bool,
    /// Whether it is a neighbour that the directory names.
    pub(super) is_live: bool,
}

/// A contact in 56 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Card {
    identity: Identity,
    /// IPv4 as mapped: nobody is known by a mapped address.
    ip: [u8; 16],
    port: u16,
    slot: u16,
    peer_port: u16,
    services: Services,
}

impl Card {
    pub(super) fn of(contact: &Contact) -> Self {
        let ip = match contact.addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let Contact { identity, slot, peer_port, services, .. } = *contact;
        Self { identity, ip, port: contact.addr.port(), slot, peer_port, services }
    }

    pub(super) fn contact(&self) -> Contact {
        let Self { identity, slot, peer_port, services, .. } = *self;
        Contact { identity, addr: self.addr(), slot, peer_port, services }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.ip).to_canonical(), self.port)
    }
}

impl Entry {
    pub(super) fn new(id: NodeId, contact: &Contact, verified: Instant, spread: u32) -> Self {
        Self {
            id,
            card: Card::of(contact),
            spread: (spread >> 16) as u16,
            verified,
            since: verified,
            failures: 0,
            is_asked: false,
            rtt: Rtt::default(),
            clusters: Memberships::default(),
            level: Level::GLOBAL,
            is_neighbour: false,
            is_live: false,
        }
    }

    /// How to reach it.
    pub(crate) fn contact(&self) -> Contact {
        self.card.contact()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.card.addr()
    }

    /// It was heard from. True if it is known in another way now.
    pub(super) fn heard(&mut self, now: Instant, contact: &Contact) -> bool {
        let card = Card::of(contact);
        let changed = self.card != card;
        self.card = card;
        (self.verified, self.failures, self.is_asked) = (now, 0, false);
        changed
    }

    /// Whether the failure of a request that was sent at `sent` tells anything new: not if that was
    /// under way at the last failure, or before the last answer.
    pub(super) fn failed(&mut self, now: Instant, sent: Instant) -> bool {
        let is_old = sent < self.verified || (self.failures > 0 && sent < self.since);
        if !is_old {
            (self.failures, self.since, self.is_asked) = (self.failures + 1, now, false);
        }
        !is_old
    }

    /// It is pinged.
    pub(super) const fn ask(&mut self, now: Instant) {
        (self.since, self.is_asked) = (now, true);
    }

    /// When it should be pinged next, if its longest silence is `after`.
    pub(super) fn ping_at(&self, after: Duration) -> Instant {
        if self.is_asked {
            return self.since + MAX_TIMEOUT * 3;
        }
        if self.failures > 0 {
            return self.since + PING_AGAIN_AFTER;
        }
        let part = |of: Duration| of * u32::from(self.spread) / (1 << 16);
        let is_measured = self.rtt.min().is_some();
        self.verified + if is_measured { after - part(after / 5) } else { part(MEASURE_WITHIN) }
    }

    /// Whether it has a place for being near, whatever its rank.
    pub(super) fn is_kept(&self, near: Duration) -> bool {
        self.level != Level::GLOBAL || self.rtt.min().is_some_and(|rtt| rtt <= near)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now.since(self.verified) <= VERIFIED_WITHIN
    }

    /// Orders by round trip: the nearest first, those not measured yet last.
    pub(super) fn nearness(&self) -> (Duration, NodeId) {
        (self.rtt.min().unwrap_or(MAX_TIMEOUT), self.id)
    }

    /// Its place in the order of preference of the node with this salt, which nobody else has or can
    /// foresee: lower is better. A mix of salt and id (`SplitMix64`).
    pub(super) fn rank(&self, salt: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.id.0;
        let mut mixed = u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ salt;
        for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
        }
        mixed ^ (mixed >> 31)
    }
}

const _: () = assert!(size_of::<Entry>() <= 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_lose_nothing() {
        for addr in ["192.0.2.1:7400", "[2001:db8::1]:1", "[::1]:2", "127.0.0.1:65535"] {
            let contact = Contact {
                identity: Identity([7; 32]),
                addr: addr.parse().unwrap(),
                slot: 513,
                peer_port: 7400,
                services: Services::PROXY.with(Services::DNS),
            };
            assert_eq!(Card::of(&contact).contact(), contact);
        }
    }
}
