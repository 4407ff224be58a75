//! How a newcomer finds those who are near: each public node puts a pointer to itself under its own
//! /24 (or /48) and the number of its autonomous system, and looks there when it comes. A hint names
//! whom to measure; what a node does then rests on the round trip alone.

use std::collections::BTreeSet;

use crate::address::prefix;
use crate::contact::Contact;
use crate::except::Except;
use crate::id::Key;
use crate::level::Level;
use crate::limits::{HINT_ASKED_AFTER, HINT_PUT_AFTER, HINT_TTL, MAX_HINTED};
use crate::node::Overlay;
use crate::output::{Outcome, QueryId};
use crate::pointer::{Pointer, State};
use crate::query::Kind;
use crate::time::Instant;

/// This node's hints.
#[derive(Debug)]
pub(super) struct Hints {
    /// Where those near it are named: none if it is not public.
    keys: Vec<Key>,
    /// Whether it has looked there since it joined.
    asked: bool,
    /// When it looks, and later puts itself there, next.
    pub(super) at: Option<Instant>,
    /// Those under way, of whose end the application hears nothing.
    running: BTreeSet<QueryId>,
}

impl Hints {
    pub(super) fn new(local: &Contact, wanted: bool, as_number: Option<u32>) -> Self {
        let (asked, at, running) = (false, None, BTreeSet::new());
        let keys = if wanted { keys(local, as_number) } else { Vec::new() };
        Self { keys, asked, at, running }
    }

    /// Whether the query that has ended is one of these.
    pub(super) fn ended(&mut self, id: QueryId) -> bool {
        self.running.remove(&id)
    }
}

impl Overlay {
    /// The first contact was met.
    pub(super) fn plan_hints(&mut self, now: Instant) {
        if !self.hints.keys.is_empty() {
            self.hints.asked = false;
            self.hints.at = Some(now + self.jittered(HINT_ASKED_AFTER));
        }
    }

    /// Looks who is named, once; from then on puts this node there. Wider than its clusters, where
    /// those whom it does not know look too.
    pub(super) fn hint(&mut self, now: Instant) {
        let ttl = HINT_TTL.min(self.rules.max_ttl);
        let (kind, wait) = if self.hints.asked {
            let pointer =
                Pointer { holder: self.local, state: State::Whole, length: None, root: None };
            (Kind::Put(pointer, ttl), ttl * 2 / 3)
        } else {
            (Kind::Get, HINT_PUT_AFTER)
        };
        self.hints.asked = true;
        self.hints.at = Some(now + self.jittered(wait));
        for key in self.hints.keys.clone() {
            // Noted before it starts, since a query that nobody can answer ends at once.
            self.hints.running.insert(QueryId(self.started + 1));
            self.ask_from(now, key, kind, Level::GLOBAL, Except::default());
        }
    }

    /// One of these queries has ended: measures those whom it names.
    pub(super) fn on_hinted(&mut self, now: Instant, outcome: &Outcome) {
        let Outcome::Found { pointers, .. } = outcome else { return };
        for pointer in pointers.iter().take(MAX_HINTED) {
            self.sound(now, pointer.holder);
        }
    }
}

/// The keys of this node's neighbourhoods, the nearest first.
fn keys(local: &Contact, as_number: Option<u32>) -> Vec<Key> {
    let Some(prefix) = prefix(local.addr.ip()) else { return Vec::new() };
    let own = Key::of_name(format!("hint prefix {prefix}").as_bytes());
    let system = as_number.map(|number| Key::of_name(format!("hint as {number}").as_bytes()));
    [own].into_iter().chain(system).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::*;
    use crate::contact::{Identity, Services};

    #[test]
    fn only_public_nodes_have_hints() {
        let check = |ip: &str, as_number, names: &[&str]| {
            let addr = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 7400);
            let (identity, services) = (Identity([1; 32]), Services::PROXY);
            let local = Contact { identity, addr, slot: 0, peer_port: 7400, services };
            let expect: Vec<_> = names.iter().map(|name| Key::of_name(name.as_bytes())).collect();
            assert_eq!(keys(&local, as_number), expect, "{ip}");
        };
        check("192.0.2.9", None, &["hint prefix 192.0.2.0/24"]);
        check("192.0.2.9", Some(64496), &["hint prefix 192.0.2.0/24", "hint as 64496"]);
        check("2001:db8:1:2::9", None, &["hint prefix 2001:db8:1::/48"]);
        check("10.0.0.1", Some(64496), &[]);
        check("127.0.0.1", Some(64496), &[]);
        check("fd00::1", Some(64496), &[]);
    }
}
