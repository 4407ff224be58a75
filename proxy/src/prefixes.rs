//! How much of what is scarce those at one address hold, so that they do not hold all of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::guard::is_public;

/// Places held by the clients of each prefix. As many entries as places are held.
#[derive(Debug, Clone)]
pub(crate) struct Prefixes {
    held: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    most: usize,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Prefixes,
    prefix: IpAddr,
}

impl Prefixes {
    /// At most `most` for each.
    pub(crate) fn new(most: usize) -> Self {
        Self { held: Arc::default(), most }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for who comes from this address; nothing where its prefix holds all it may. Private networks
    /// and loopback are not counted: many nodes of one operator are there, and no stranger.
    pub(crate) fn enter(&self, ip: IpAddr) -> Option<Option<Place>> {
        let prefix = prefix(ip);
        if !is_public(prefix) {
            return Some(None);
        }
        let mut held = self.held();
        let count = held.entry(prefix).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Some(Place { of: self.clone(), prefix }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.of.held();
        if let Some(count) = held.get_mut(&self.prefix) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.prefix);
            }
        }
    }
}

/// What one subscriber has: an IPv4 address, or an IPv6 /56 (RFC 6177, section 2).
fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !0 << (128 - 56)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_prefix_holds_no_more_than_its_share_and_gives_it_back() {
        let check = |ips: [&str; 3], other: &str| {
            let [first, second, third] = ips.map(|ip| ip.parse().unwrap());
            let prefixes = Prefixes::new(2);
            let one = prefixes.enter(first).expect("the first");
            let _two = prefixes.enter(second).expect("the second");
            assert!(prefixes.enter(third).is_none(), "{third} is of the same prefix");
            assert!(prefixes.enter(other.parse().unwrap()).is_some(), "{other} is elsewhere");
            drop(one);
            assert!(prefixes.enter(third).is_some(), "a place is free again");
        };
        check(["9.9.9.9", "::ffff:9.9.9.9", "9.9.9.9"], "9.9.9.10");
        check(["2600:1:2:300::1", "2600:1:2:3ff::1", "2600:1:2:3aa:1::"], "2600:1:2:400::1");
    }

    #[test]
    fn nothing_is_left_of_who_has_gone_and_private_ones_are_not_counted() {
        let prefixes = Prefixes::new(1);
        drop(prefixes.enter("9.9.9.9".parse().unwrap()));
        assert!(prefixes.held().is_empty());
        let home = "127.0.0.1".parse().unwrap();
        assert!(matches!((prefixes.enter(home), prefixes.enter(home)), (Some(None), Some(None))));
    }
}
