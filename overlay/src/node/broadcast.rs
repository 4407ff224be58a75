//! Messages to the whole network, down the tree that key-based routing gives: a node that is told of
//! one answers for all ids that share a number of bits with its own, and tells one contact of each
//! of its buckets in that reach, which answers for the bucket. So each node is told about once, and
//! the last after some log2 n steps. A contact that does not answer is replaced by another of its
//! bucket. Nothing is passed on before the application has accepted it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::calls::Purpose;
use crate::contact::Contact;
use crate::id::Key;
use crate::limits::{
    BROADCAST_TRIES, BROADCASTS_PER_MINUTE, MAX_ATTEMPTS, MAX_BROADCAST, MAX_BROADCASTS, MAX_DEPTH,
};
use crate::load::Load;
use crate::node::{Heard, Out, Overlay};
use crate::output::{Busy, Event};
use crate::time::Instant;
use crate::wire::{Answer, Body, Refusal};

/// What has been heard of late.
#[derive(Debug)]
pub(super) struct Broadcasts {
    seen: BTreeMap<Key, Seen>,
    /// New messages by the node that told of them.
    senders: Load,
}

#[derive(Debug)]
struct Seen {
    payload: Vec<u8>,
    heard: Instant,
    /// Buckets from this on are this node's to tell.
    reach: u8,
    /// Buckets from this on have been told.
    told: u8,
    is_accepted: bool,
}

impl Default for Broadcasts {
    fn default() -> Self {
        Self { seen: BTreeMap::new(), senders: Load::new(BROADCASTS_PER_MINUTE) }
    }
}

impl Broadcasts {
    /// Takes in a message, if there is room: one that is a minute old makes place.
    fn add(&mut self, now: Instant, message: Key, payload: &[u8], reach: u8) -> bool {
        if self.seen.len() >= MAX_BROADCASTS {
            self.seen.retain(|_, seen| now.since(seen.heard) < FORGET_AFTER);
        }
        if self.seen.len() >= MAX_BROADCASTS {
            return false;
        }
        let payload = payload.to_vec();
        let seen = Seen { payload, heard: now, reach, told: MAX_DEPTH, is_accepted: false };
        self.seen.insert(message, seen);
        true
    }
}

/// Longer than a message takes to reach everybody, with all repeats.
const FORGET_AFTER: Duration = Duration::from_secs(60);

impl Overlay {
    /// Tells all nodes, this one apart, each of which hears it as [`Event::Broadcast`]. What is told
    /// again within a minute is told to nobody.
    ///
    /// # Errors
    /// [`Busy`] if it has more than [`MAX_BROADCAST`] octets, or too many are on their way.
    pub fn broadcast(&mut self, now: Instant, payload: &[u8]) -> Result<(), Busy> {
        self.assert_drained();
        let message = Key::of_name(payload);
        let is_new = !self.broadcasts.seen.contains_key(&message);
        if payload.len() > MAX_BROADCAST
            || (is_new && !self.broadcasts.add(now, message, payload, 0))
        {
            return Err(Busy);
        }
        self.accept(now, &message);
        Ok(())
    }

    /// The application has found that this message comes from somebody who may send it: it is
    /// passed on.
    pub fn accept(&mut self, now: Instant, message: &Key) {
        self.assert_drained();
        if let Some(seen) = self.broadcasts.seen.get_mut(message) {
            seen.is_accepted = true;
            self.tell(now, message);
        }
    }

    /// Somebody has told this node, which answers for the buckets from `reach` on.
    pub(super) fn on_broadcast(
        &mut self,
        now: Instant,
        from: &Heard,
        reach: u8,
        payload: Vec<u8>,
    ) -> Answer {
        if !from.proven {
            return Answer::Refused(Refusal::Unproven);
        }
        let message = Key::of_name(&payload);
        if let Some(seen) = self.broadcasts.seen.get_mut(&message) {
            seen.reach = seen.reach.min(reach);
            if seen.is_accepted {
                self.tell(now, &message);
            }
            return Answer::Received;
        }
        if !self.broadcasts.senders.passes(now, &from.sender.id())
            || !self.broadcasts.add(now, message, &payload, reach)
        {
            self.stats.broadcasts_refused += 1;
            return Answer::Refused(Refusal::Capacity);
        }
        self.stats.broadcasts += 1;
        self.outbox.push_back(Out::Event(Event::Broadcast { message, payload }));
        Answer::Received
    }

    /// Tells a contact of each bucket that is this node's to tell and has not been told.
    fn tell(&mut self, now: Instant, message: &Key) {
        let Some(seen) = self.broadcasts.seen.get_mut(message) else { return };
        let deepest = u8::try_from(self.table.depth()).unwrap_or(MAX_DEPTH);
        let buckets = seen.reach..seen.told.min(deepest + 1);
        seen.told = seen.told.min(seen.reach);
        buckets.for_each(|bucket| self.tell_bucket(now, *message, bucket, 1));
    }

    /// Tells one contact of a bucket.
    fn tell_bucket(&mut self, now: Instant, message: Key, bucket: u8, tries: u8) {
        let Some(seen) = self.broadcasts.seen.get(&message) else { return };
        let body = Body::Broadcast { reach: bucket + 1, payload: seen.payload.clone() };
        let members = self.table.members(bucket.into());
        if members.is_empty() {
            return;
        }
        let contact = members[self.below(members.len())];
        let purpose = Purpose::Broadcast { message, bucket, tries };
        self.stats.broadcasts_out += 1;
        self.call_body(now, contact.addr, Some(contact), body, MAX_ATTEMPTS, purpose);
    }

    /// A contact has not answered: another of its bucket is told.
    pub(super) fn tell_another(&mut self, now: Instant, message: Key, bucket: u8, tries: u8) {
        if tries < BROADCAST_TRIES {
            self.tell_bucket(now, message, bucket, tries + 1);
        }
    }

    /// The answer of a contact that was told. One that has yet to believe our address is told again;
    /// another takes the place of one that has no room.
    pub(super) fn on_told(
        &mut self,
        now: Instant,
        contact: Option<Contact>,
        answer: &Answer,
        told: (Key, u8, u8),
    ) {
        let (message, bucket, tries) = told;
        match (answer, contact) {
            (Answer::Refused(Refusal::Unproven), Some(contact)) if tries < BROADCAST_TRIES => {
                let Some(seen) = self.broadcasts.seen.get(&message) else { return };
                let body = Body::Broadcast { reach: bucket + 1, payload: seen.payload.clone() };
                let purpose = Purpose::Broadcast { message, bucket, tries: tries + 1 };
                self.call_body(now, contact.addr, Some(contact), body, MAX_ATTEMPTS, purpose);
            }
            (Answer::Received, _) => {}
            _ => self.tell_another(now, message, bucket, tries),
        }
    }
}

#[cfg(test)]
mod tests {
    use coralline_config::Rules;

    use super::*;
    use crate::clusters::{Memberships, Rings};
    use crate::contact::{Identity, Services};
    use crate::settings::Settings;

    fn contact(at: u8) -> Contact {
        Contact {
            identity: Identity([at; 32]),
            addr: ([127, 0, 0, at], 7400).into(),
            slot: 0,
            peer_port: 7400,
            services: Services::PROXY,
        }
    }

    fn now() -> Instant {
        Instant::from_micros(1_000_000)
    }

    fn from(at: u8, proven: bool) -> Heard {
        Heard { sender: contact(at), rings: Rings::default(), proven }
    }

    /// A node that knows fifty others.
    fn core() -> Overlay {
        let (seeds, saved, levels) = (Vec::new(), Vec::new(), Vec::new());
        let rules = Rules::default();
        let settings = Settings {
            local: contact(1),
            hints: true,
            as_number: None,
            seeds,
            saved,
            levels,
            rules,
        };
        let mut core = Overlay::new(settings, 1, now());
        for at in 10..60 {
            core.table.heard(now(), contact(at), Memberships::default(), None);
        }
        core
    }

    /// Datagrams and events since the last call.
    fn drained(core: &mut Overlay) -> (usize, usize) {
        let is_event = |out: &Out| matches!(out, Out::Event(Event::Broadcast { .. }));
        let all = core.outbox.len();
        let events = core.outbox.drain(..).filter(is_event).count();
        (all - events, events)
    }

    fn inhabited(core: &Overlay, from: usize) -> usize {
        let buckets = from..=core.table.depth();
        buckets.filter(|bucket| !core.table.members(*bucket).is_empty()).count()
    }

    #[test]
    fn it_is_passed_on_once_and_only_if_it_is_accepted() {
        let mut core = core();
        let message = Key::of_name(b"purge");
        let hear = |core: &mut Overlay, by, reach| {
            let answer = core.on_broadcast(now(), &from(by, true), reach, b"purge".to_vec());
            assert_eq!(answer, Answer::Received);
            drained(core)
        };
        assert_eq!(hear(&mut core, 2, 2), (0, 1));
        assert_eq!(hear(&mut core, 3, 2), (0, 0), "once");
        core.accept(now(), &message);
        let deep = inhabited(&core, 2);
        assert_eq!(drained(&mut core), (deep, 0), "one a bucket");
        core.accept(now(), &message);
        assert_eq!(drained(&mut core), (0, 0));
        let wide = inhabited(&core, 0) - deep;
        assert_eq!(hear(&mut core, 4, 0), (wide, 0), "what a wider reach adds");
    }

    #[test]
    fn strangers_and_talkers_are_refused() {
        let mut core = core();
        let answer = core.on_broadcast(now(), &from(2, false), 0, b"purge".to_vec());
        assert_eq!(answer, Answer::Refused(Refusal::Unproven));
        let mut tells = |by: u8, count: u16| {
            let payload = |at: u16| [&[by][..], &at.to_be_bytes()].concat();
            let mut tell = |at| core.on_broadcast(now(), &from(by, true), 0, payload(at));
            (0..count).filter(|at| tell(*at) == Answer::Received).count()
        };
        assert_eq!(tells(2, 999), BROADCASTS_PER_MINUTE);
        assert_eq!(tells(3, 999), BROADCASTS_PER_MINUTE);
        assert_eq!(tells(4, 999), MAX_BROADCASTS - 2 * BROADCASTS_PER_MINUTE, "it is full");
    }

    #[test]
    fn one_that_does_not_answer_is_replaced_twice() {
        let mut core = core();
        core.broadcast(now(), b"purge").unwrap();
        let first = drained(&mut core).0;
        let mut time = now();
        for _ in 0..40 {
            time = time + Duration::from_millis(500);
            while let Some(late) = core.calls.late(time) {
                if let crate::calls::Late::Failed(call) = late {
                    core.on_failure(time, &call);
                }
            }
        }
        let all = core.stats.broadcasts_out;
        let most = u64::from(BROADCAST_TRIES) * first as u64;
        assert!(all > 2 * first as u64 && all <= most, "{all} of {first}");
    }
}
