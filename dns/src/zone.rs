//! The names of the suffix: the apex, the sites under it, and one name for each name server.
//!
//! A name server's name carries its address (`n-192-0-2-1.ns.SUFFIX`), so every node can name every
//! other and answer for its name without a table that all must share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use coralline_config::Suffix;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};

use crate::limits::NEGATIVE_TTL;

#[derive(Debug, Clone)]
pub(crate) struct Zone {
    apex: Name,
    name_servers: Name,
    soa: SOA,
}

/// Where a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not under the suffix.
    Outside,
    /// The suffix itself.
    Apex,
    /// Any name under it: a site, known or not.
    Site,
    /// `ns.SUFFIX`: nothing but the parent of the next (RFC 8020: it exists all the same).
    NameServers,
    /// The name of the node with this address, alive or not.
    NameServer(IpAddr),
    /// Under `ns.SUFFIX`, and nobody's name.
    Nobody,
}

impl Zone {
    pub(crate) fn new(suffix: &Suffix) -> Self {
        const VALID: &str = "a suffix is a valid name with room for more labels";
        let apex = Name::from_ascii(format!("{suffix}.")).expect(VALID);
        let name_servers = apex.prepend_label("ns").expect(VALID);
        let hostmaster = apex.prepend_label("hostmaster").expect(VALID);
        // All servers give the same record. There are no transfers, so its serial never changes
        // and its timers are only what zone checkers like to see.
        let soa = SOA::new(apex.clone(), hostmaster, 1, 3600, 600, 86_400, NEGATIVE_TTL);
        Self { apex, name_servers, soa }
    }

    pub(crate) fn place(&self, name: &Name) -> Place {
        if !self.apex.zone_of(name) {
            return Place::Outside;
        }
        if !self.name_servers.zone_of(name) {
            return if name.iter().len() == self.apex.iter().len() {
                Place::Apex
            } else {
                Place::Site
            };
        }
        match name.iter().len() - self.name_servers.iter().len() {
            0 => Place::NameServers,
            1 => name.iter().next().and_then(address_of).map_or(Place::Nobody, Place::NameServer),
            _ => Place::Nobody,
        }
    }

    /// The name of the name server at this address.
    pub(crate) fn name_server(&self, address: IpAddr) -> Name {
        self.name_servers
            .prepend_label(label_of(address))
            .expect("a label of 42 octets fits before ns.SUFFIX")
    }

    pub(crate) fn apex(&self) -> &Name {
        &self.apex
    }

    /// The SOA. Beside "no such data" its TTL is the one that RFC 2308 section 3 wants.
    pub(crate) fn soa(&self, owner: &Name, ttl: u32) -> Record {
        Record::from_rdata(owner.clone(), ttl, RData::SOA(self.soa.clone()))
    }
}

/// `n-192-0-2-1`, or `n-` and the eight groups of an IPv6 address in hexadecimal.
fn label_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("n-{a}-{b}-{c}-{d}")
        }
        IpAddr::V6(v6) => v6
            .segments()
            .iter()
            .fold(String::from("n"), |label, group| format!("{label}-{group:x}")),
    }
}

fn address_of(label: &[u8]) -> Option<IpAddr> {
    let label = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
    let groups: Vec<&str> = label.strip_prefix("n-")?.split('-').collect();
    let address = if groups.len() == 4 {
        IpAddr::V4(groups.join(".").parse::<Ipv4Addr>().ok()?)
    } else {
        IpAddr::V6(groups.join(":").parse::<Ipv6Addr>().ok()?)
    };
    // One name a node: `n-2001-db8--1` and `n-1-02-3-4` are nobody's.
    (label_of(address) == label).then_some(address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places() {
        let zone = Zone::new(&"cdn.example".parse().unwrap());
        let check = |name: &str, expect: Place| {
            assert_eq!(zone.place(&Name::from_ascii(name).unwrap()), expect, "{name}");
        };
        let v4 = Place::NameServer([192, 0, 2, 1].into());
        check(".", Place::Outside);
        check("example.", Place::Outside);
        check("notcdn.example.", Place::Outside);
        check("cdn.example.com.", Place::Outside);
        check("CDN.Example.", Place::Apex);
        check("www.example.com.CDN.EXAMPLE.", Place::Site);
        check("*.cdn.example.", Place::Site);
        check("_acme-challenge.cdn.example.", Place::Site);
        check("xns.cdn.example.", Place::Site);
        check("ns.cdn.example.", Place::NameServers);
        check("n-192-0-2-1.ns.cdn.example.", v4);
        check("N-192-0-2-1.NS.cdn.example.", v4);
        check("n-192-0-2-01.ns.cdn.example.", Place::Nobody);
        check("n-192-0-2-256.ns.cdn.example.", Place::Nobody);
        check("n-2001-db8-0-0-0-0-0-1.ns.cdn.example.", {
            Place::NameServer("2001:db8::1".parse().unwrap())
        });
        check("n-2001-db8--1.ns.cdn.example.", Place::Nobody);
        check("www.ns.cdn.example.", Place::Nobody);
        check("a.n-192-0-2-1.ns.cdn.example.", Place::Nobody);
        check("n-192-0-2-1.cdn.example.", Place::Site);
    }

    proptest! {
        #[test]
        fn every_address_has_a_name_of_its_own(v4: u32, v6: u128) {
            let zone = Zone::new(&"cdn.example".parse().unwrap());
            for address in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into())] {
                let name = zone.name_server(address);
                prop_assert_eq!(zone.place(&name), Place::NameServer(address));
            }
        }
    }
}
