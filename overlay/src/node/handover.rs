//! Values handed to a newcomer that has become the nearest node to their keys (Kademlia, section 2.5):
//! what was put before it came is found at it, and outlives the nodes that had it.
//!
//! Only the node that was the nearest so far does so, some of its values at a time. What is about to
//! end is left to its holder, who puts it again in time.

use std::collections::VecDeque;

use crate::address::admissible;
use crate::calls::Purpose;
use crate::contact::Contact;
use crate::id::Key;
use crate::level::Level;
use crate::limits::{
    BRIEF_TTL, BUCKET, HANDOVER_AFTER, HANDOVER_EVERY, HANDOVER_SCAN, MAX_NEWCOMERS, NEWCOMER_FOR,
};
use crate::node::Overlay;
use crate::sources::Source;
use crate::time::Instant;
use crate::wire::{Answer, Refusal, Request, Value};

/// Newcomers that may have become the nearest to some of this node's keys.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// The oldest first.
    newcomers: VecDeque<Newcomer>,
    /// When to go on.
    pub(super) at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Newcomer {
    contact: Contact,
    came: Instant,
    /// The last of this node's keys that was looked at for it.
    after: Option<Key>,
    /// Whether all have been. It still counts as new: others who came with it are handed theirs.
    is_done: bool,
}

impl Overlay {
    /// A contact is new in the table. Of many the oldest is forgotten: holders put again what they
    /// hold, a little later.
    pub(super) fn note_newcomer(&mut self, now: Instant, contact: Contact) {
        if self.store.keys() == 0 {
            return;
        }
        let newcomers = &mut self.handover.newcomers;
        newcomers.retain(|other| {
            let is_old = other.is_done && now.since(other.came) >= NEWCOMER_FOR;
            other.contact.addr != contact.addr && !is_old
        });
        if newcomers.len() == MAX_NEWCOMERS {
            newcomers.pop_front();
        }
        newcomers.push_back(Newcomer { contact, came: now, after: None, is_done: false });
        if self.handover.at.is_none() {
            self.handover.at = Some(now + self.jittered(HANDOVER_AFTER));
        }
    }

    /// A node looks for its own id, as it does when it joins. If it is known here, then it has been away
    /// too shortly to be missed, and has lost what it kept.
    pub(super) fn note_return(&mut self, now: Instant, sender: Contact, key: &Key) {
        let is_known = sender.id() == *key && self.table.at_addr(sender.addr).is_some();
        let newcomers = &self.handover.newcomers;
        if is_known && newcomers.iter().all(|other| other.contact.addr != sender.addr) {
            self.note_newcomer(now, sender);
        }
    }

    /// Hands over the values of the next key, or looks at as many keys as it may.
    pub(super) fn hand_over(&mut self, now: Instant) {
        self.handover.at = None;
        let mut looked_at = 0;
        while let Some(at) = self.handover.newcomers.iter().position(|other| !other.is_done) {
            let newcomer = &mut self.handover.newcomers[at];
            let Some(key) = self.store.key_after(newcomer.after.as_ref()) else {
                newcomer.is_done = true;
                continue;
            };
            newcomer.after = Some(key);
            let contact = newcomer.contact;
            looked_at += 1;
            let is_its = contact.id().distance(&key) < self.id.distance(&key)
                && self.is_next_to(&contact, &key);
            if (is_its && self.hand(now, contact, key)) || looked_at == HANDOVER_SCAN {
                self.handover.at = Some(now + HANDOVER_EVERY);
                return;
            }
        }
    }

    /// Whether it is the nearest to the key, and this node the next, but for other newcomers.
    fn is_next_to(&self, newcomer: &Contact, key: &Key) -> bool {
        let own = self.id.distance(key);
        let mut nearer = self.table.closest(Level::GLOBAL, key, BUCKET);
        nearer.retain(|contact| contact.id().distance(key) < own);
        let newcomers = &self.handover.newcomers;
        let is_new = |contact: &Contact| newcomers.iter().any(|n| n.contact.addr == contact.addr);
        nearer.first() == Some(newcomer) && nearer.len() < BUCKET && nearer.iter().all(is_new)
    }

    /// Sends it the values of a key that will last. False if there are none.
    fn hand(&mut self, now: Instant, to: Contact, key: Key) -> bool {
        let mut values = self.store.values(now, &key);
        values.retain(|v| v.ttl > BRIEF_TTL && v.pointer.holder.identity != to.identity);
        self.prefer_the_living(&mut values);
        for value in &values {
            self.stats.handed_over += 1;
            let request = Request::Keep { key, value: *value };
            self.call(now, to.addr, Some(to), &request, Purpose::Tell);
        }
        !values.is_empty()
    }

    /// Another node hands over a value: taken only from one of those around the key, where this node is
    /// nearer to it, and counted as the sender's own, so that it fills no other's place.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        sender: &Contact,
        key: Key,
        value: Value,
    ) -> Answer {
        let of_sender = sender.id().distance(&key);
        let around = self.table.closest(Level::GLOBAL, &key, BUCKET);
        let is_around = around.len() < BUCKET
            || around.last().is_some_and(|last| of_sender <= last.id().distance(&key));
        let holder = &value.pointer.holder;
        let is_fit =
            admissible(holder, self.local.addr.ip()) && holder.identity != self.local.identity;
        if !is_fit || !is_around || self.id.distance(&key) > of_sender {
            self.stats.stores_refused += 1;
            return Answer::Refused(Refusal::Elsewhere);
        }
        match self.store.keep(now, key, value.pointer, value.ttl, Source::of(sender)) {
            Ok(()) => Answer::Stored,
            Err(refusal) => {
                self.stats.stores_refused += 1;
                Answer::Refused(refusal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coralline_config::Rules;

    use super::*;
    use crate::clusters::Memberships;
    use crate::contact::{Identity, Services};
    use crate::node::Out;
    use crate::pointer::{Pointer, State};
    use crate::settings::Settings;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn contact(at: u8) -> Contact {
        Contact {
            identity: Identity([at; 32]),
            addr: ([127, 0, 0, at], 7400).into(),
            slot: 0,
            peer_port: 7400,
            services: Services::PROXY,
        }
    }

    fn pointer(by: u8) -> Pointer {
        Pointer { holder: contact(by), state: State::Whole, length: None, root: None }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn core(local: u8, known: &[u8]) -> Overlay {
        let (seeds, saved, levels, rules) = (vec![], vec![], vec![], Rules::default());
        let settings = Settings {
            local: contact(local),
            hints: true,
            as_number: None,
            seeds,
            saved,
            levels,
            rules,
        };
        let mut core = Overlay::new(settings, 1, at(0));
        for other in known {
            core.table.heard(at(0), contact(*other), Memberships::default(), None);
        }
        core
    }

    fn key(n: u32) -> Key {
        Key::of_name(&n.to_be_bytes())
    }

    /// What is handed over until nothing is left to do.
    fn handed(core: &mut Overlay) -> usize {
        let mut sent = 0;
        let mut steps = 0;
        while let Some(due) = core.handover.at {
            core.hand_over(due);
            let new = core.outbox.drain(..).filter(|out| matches!(out, Out::Datagram(..))).count();
            assert!(new <= 4, "a key at a time");
            sent += new;
            steps += 1;
            assert!(steps < 1_000, "it ends");
        }
        sent
    }

    #[test]
    fn the_next_nearest_hands_over_what_will_last() {
        let (old, new, third) = (contact(1).id(), contact(2).id(), contact(3).id());
        let mut core = core(1, &[2, 3]);
        let mut expect = 0;
        for n in 0..200 {
            let key = key(n);
            core.store.put(at(0), key, pointer(9), HOUR).unwrap();
            core.store.put(at(0), key, pointer(8), Duration::from_secs(20)).unwrap();
            let [of_old, of_new, of_third] = [old, new, third].map(|id| id.distance(&key));
            expect += usize::from(of_new < of_old && of_old < of_third);
        }
        core.note_newcomer(at(0), contact(2));
        assert!(expect > 10);
        assert_eq!(handed(&mut core), expect);
        assert_eq!(core.stats.handed_over, expect as u64);
    }

    #[test]
    fn newcomers_are_bounded_and_nothing_is_done_with_nothing() {
        let mut core = core(1, &[2]);
        core.note_newcomer(at(0), contact(2));
        assert_eq!(core.handover.at, None);
        core.store.put(at(0), key(1), pointer(9), HOUR).unwrap();
        for other in 2..=u8::MAX {
            core.note_newcomer(at(0), contact(other));
        }
        assert_eq!(core.handover.newcomers.len(), MAX_NEWCOMERS);
        assert!(handed(&mut core) <= 1);
    }

    #[test]
    fn only_those_around_the_key_hand_over() {
        let mut core = core(1, &(10..200).collect::<Vec<_>>());
        let value = Value { pointer: pointer(9), ttl: HOUR };
        let mut taken = 0;
        for n in 0..50 {
            let mut others: Vec<_> = (10..200).map(contact).collect();
            others.sort_by_key(|c| c.id().distance(&key(n)));
            let answer = core.keep(at(0), &others[100], key(n), value);
            assert_eq!(answer, Answer::Refused(Refusal::Elsewhere));
            let nearer = core.id.distance(&key(n)) < others[0].id().distance(&key(n));
            let answer = core.keep(at(0), &others[0], key(n), value);
            assert_eq!(answer == Answer::Stored, nearer);
            taken += usize::from(nearer);
        }
        assert_eq!(core.store.len(), taken);
    }
}
