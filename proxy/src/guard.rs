//! Which addresses an origin may have. Asked after resolution, of the very address that is then
//! connected to, so that neither a name, a redirect nor a rebinding name server opens a private network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Decides about addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    allow_private: Vec<IpNet>,
    own: Vec<SocketAddr>,
}

impl Guard {
    /// Lets through what is public, and `allow_private`; never the addresses in `own`, which lead back here.
    #[must_use]
    pub(crate) fn new(allow_private: Vec<IpNet>, own: Vec<SocketAddr>) -> Self {
        Self { allow_private, own }
    }

    /// Whether an origin may be at `addr`.
    #[must_use]
    pub(crate) fn allows(&self, addr: SocketAddr) -> bool {
        let ip = canonical(addr.ip());
        let is_own = |own: &SocketAddr| {
            let same = own.ip() == ip || own.ip().is_unspecified() && !is_public(ip);
            // On a public address of ours the whole machine is behind its firewall; on a private one,
            // such as loopback, other services may be origins, if the network is listed.
            same && (own.port() == addr.port() || is_public(ip))
        };
        let listed = self.allow_private.iter().any(|net| net.contains(&ip));
        !self.own.iter().any(is_own) && (is_public(ip) || listed)
    }
}

/// An IPv4 address in IPv6 clothes is the IPv4 address: mapped, NAT64 and 6to4 all reach it.
fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let s = v6.segments();
    let v4 = |hi: u16, lo: u16| {
        let ([a, b], [c, d]) = (hi.to_be_bytes(), lo.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, hi, lo] => v4(hi, lo),
        [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] => v4(hi, lo),
        [0x2002, hi, lo, ..] => v4(hi, lo),
        _ => ip,
    }
}

/// Global unicast, by the special-purpose registries of RFC 6890.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let protocol = a == 192 && b == 0 && c == 0; // RFC 6890
    let relay = a == 192 && b == 88 && c == 99; // RFC 7526
    let benchmark = a == 198 && (b == 18 || b == 19); // RFC 2544
    // Alibaba's metadata service has an address in 100.64/10, all others in link-local: covered here.
    !(a == 0
        || a >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || shared
        || protocol
        || relay
        || benchmark)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let global = s[0] & 0xe000 == 0x2000; // 2000::/3 is all that is given out
    let protocol = s[0] == 0x2001 && s[1] < 0x200; // 2001::/23: Teredo, ORCHID, benchmarks
    let documentation = s[0] == 0x2001 && s[1] == 0xdb8 || s[0] == 0x3fff && s[1] < 0x1000;
    global && !protocol && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str, port: u16) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), port)
    }

    #[test]
    fn only_public_addresses_pass() {
        let guard = Guard::new(Vec::new(), Vec::new());
        let check = |text: &str, expect: bool| {
            assert_eq!(guard.allows(addr(text, 80)), expect, "{text}");
        };
        for public in ["8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            check(public, true);
        }
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            check(refused, false);
        }
    }

    #[test]
    fn a_listed_private_network_passes_but_never_the_node_itself() {
        let own = vec![addr("127.0.0.1", 8080), addr("0.0.0.0", 7480)];
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()], own);
        assert!(guard.allows(addr("127.0.0.1", 8000)));
        assert!(guard.allows(addr("::ffff:127.0.0.1", 8000)));
        assert!(!guard.allows(addr("127.0.0.1", 8080)));
        assert!(!guard.allows(addr("::ffff:127.0.0.1", 8080)));
        assert!(!guard.allows(addr("127.0.0.1", 7480)));
        assert!(!guard.allows(addr("10.0.0.1", 8000)));
        assert!(!guard.allows(addr("169.254.169.254", 80)));
        let public = Guard::new(Vec::new(), vec![addr("8.8.8.8", 8080)]);
        assert!(!public.allows(addr("8.8.8.8", 8080)));
        assert!(!public.allows(addr("8.8.8.8", 6379)));
        assert!(public.allows(addr("8.8.4.4", 8080)));
    }
}
