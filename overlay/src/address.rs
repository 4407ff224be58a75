//! Which addresses may be nodes, who may be told about them, and what counts as one neighbourhood.
//!
//! Ids are hashes of addresses, so whoever owns many addresses close together could surround a key.
//! One contact a bucket, one step a lookup and one value a key from each [`Prefix`] make that
//! expensive.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::contact::Contact;
use crate::limits::PUBLIC_SLOTS;

/// How far an address reaches. A node takes only contacts that reach at least as far as itself:
/// otherwise a stranger could make it send datagrams into its own private network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Loopback,
    Private,
    Public,
}

/// A neighbourhood: a /24, or a /48 of IPv6. Only public addresses have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Prefix {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::from([a, b, c, 0])),
            Self::V6(first) => {
                let mut octets = [0; 16];
                octets[..6].copy_from_slice(&first);
                write!(f, "{}/48", Ipv6Addr::from(octets))
            }
        }
    }
}

/// The scope of an address, or none if no node can be there.
pub(crate) fn scope(ip: IpAddr) -> Option<Scope> {
    match ip {
        IpAddr::V4(v4) => scope_v4(v4),
        IpAddr::V6(v6) => scope_v6(v6),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Option<Scope> {
    let [a, b, ..] = ip.octets();
    match a {
        0 | 224..=255 => None,
        127 => Some(Scope::Loopback),
        // 100.64/10 is the carriers' own private range (RFC 6598).
        100 if b & 0xc0 == 64 => Some(Scope::Private),
        _ if ip.is_private() || ip.is_link_local() => Some(Scope::Private),
        _ => Some(Scope::Public),
    }
}

fn scope_v6(ip: Ipv6Addr) -> Option<Scope> {
    let first = ip.segments()[0];
    if ip.is_loopback() {
        Some(Scope::Loopback)
    } else if ip.is_unspecified() || ip.is_multicast() || ip.to_ipv4().is_some() {
        // A mapped address would give a node two ids.
        None
    } else if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80 {
        Some(Scope::Private)
    } else {
        Some(Scope::Public)
    }
}

/// The neighbourhood that counts against the bounds; none for exempt addresses.
pub(crate) fn prefix(ip: IpAddr) -> Option<Prefix> {
    if scope(ip) != Some(Scope::Public) {
        return None;
    }
    Some(match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Prefix::V4([a, b, c])
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, ..] = v6.octets();
            Prefix::V6([a, b, c, d, e, f])
        }
    })
}

/// Whether a contact keeps the rules of ids, and may be sent to by a node at `local`.
pub(crate) fn admissible(contact: &Contact, local: IpAddr) -> bool {
    let Some(reach) = scope(contact.addr.ip()) else { return false };
    let slot_ok = reach != Scope::Public || contact.slot < PUBLIC_SLOTS;
    slot_ok && contact.addr.port() != 0 && scope(local).is_none_or(|own| reach >= own)
}

/// The address in its one form: mapped IPv4 as IPv4, no flow label or zone.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::{Identity, Services};

    #[test]
    fn scopes() {
        let check = |ip: &str, expect| assert_eq!(scope(ip.parse().unwrap()), expect, "{ip}");
        check("127.9.0.1", Some(Scope::Loopback));
        check("10.1.2.3", Some(Scope::Private));
        check("172.31.0.1", Some(Scope::Private));
        check("172.32.0.1", Some(Scope::Public));
        check("100.64.0.1", Some(Scope::Private));
        check("169.254.169.254", Some(Scope::Private));
        check("192.0.2.1", Some(Scope::Public));
        check("0.1.2.3", None);
        check("224.0.0.1", None);
        check("255.255.255.255", None);
        check("::1", Some(Scope::Loopback));
        check("::", None);
        check("::ffff:192.0.2.1", None);
        check("fd00::1", Some(Scope::Private));
        check("fe80::1", Some(Scope::Private));
        check("ff02::1", None);
        check("2001:db8::1", Some(Scope::Public));
    }

    #[test]
    fn neighbourhoods() {
        let of = |ip: &str| prefix(ip.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.200"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
        assert_eq!(of("127.0.0.1"), None);
        assert_eq!(of("10.0.0.1"), None);
    }

    #[test]
    fn admission() {
        let check = |addr: &str, slot, local: &str, expect| {
            let contact = Contact {
                identity: Identity([1; 32]),
                addr: addr.parse().unwrap(),
                slot,
                peer_port: 1,
                services: Services::PROXY,
            };
            assert_eq!(
                admissible(&contact, local.parse().unwrap()),
                expect,
                "{addr} {slot} {local}"
            );
        };
        check("192.0.2.1:7400", 7, "198.51.100.1", true);
        check("192.0.2.1:7400", 8, "198.51.100.1", false);
        check("127.0.0.1:7400", 7401, "127.0.0.2", true);
        check("127.0.0.1:7400", 0, "198.51.100.1", false);
        check("10.0.0.1:53", 0, "198.51.100.1", false);
        check("10.0.0.1:53", 999, "10.0.0.2", true);
        check("192.0.2.1:7400", 0, "10.0.0.2", true);
        check("192.0.2.1:0", 0, "10.0.0.2", false);
    }
}
