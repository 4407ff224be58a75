//! How a node fills its table: it asks those whom it knows for a few more, a little at a time.

use rand_core::Rng;

use crate::calls::Purpose;
use crate::contact::Contact;
use crate::id::Id;
use crate::level::Level;
use crate::limits::{
    BUCKET, HASTY_SAMPLES, IDLE_SAMPLE, MAX_SAMPLES, SAMPLE_EVERY, SAMPLE_GREETINGS,
};
use crate::lookup::Course;
use crate::node::Overlay;
use crate::time::Instant;
use crate::wire::{Answer, Request, Want};

impl Overlay {
    /// Asks one contact for a few more: in turns one near us for those near us, who may have come
    /// when we did, and one far into a bucket, who knows more of it. That fills a table at a fifth
    /// of what lookups cost, which all end at the same few nodes.
    pub(super) fn sample(&mut self, now: Instant) {
        self.upkeep.samples = self.upkeep.samples.saturating_sub(1);
        // Our own place first and in haste: until those near a key know each other, what is put
        // there goes astray.
        let is_hasty = self.upkeep.samples >= MAX_SAMPLES - HASTY_SAMPLES;
        let wait = if is_hasty { SAMPLE_EVERY / 2 } else { SAMPLE_EVERY };
        self.upkeep.sample = (self.upkeep.samples > 0).then(|| now + self.jittered(wait));
        let is_own = is_hasty || self.upkeep.samples % 2 == 1;
        let buckets = self.table.depth() + 1;
        // The far buckets are the largest.
        let bucket = self.below(buckets).min(self.below(buckets));
        let key = if is_own { self.id } else { self.point(bucket) };
        self.greet_remembered(now);
        let mut near = self.table.closest(Level::GLOBAL, &key, if is_own { BUCKET } else { 1 });
        if near.is_empty() {
            return;
        }
        let contact = near.swap_remove(self.below(near.len()));
        let (level, want, course) = (Level::GLOBAL, Want::Nodes, Course::Greedy);
        let find = Request::Find { key, level, want, course };
        let purpose = if is_own { Purpose::Explore } else { Purpose::Sample };
        self.call(now, contact.addr, Some(contact), &find, purpose);
    }

    /// Meets again a few of those of an earlier run, who cost no search.
    fn greet_remembered(&mut self, now: Instant) {
        for _ in 0..SAMPLE_GREETINGS {
            let count = self.upkeep.remembered().count();
            let at = self.below(count.max(1));
            let contact = self.upkeep.remembered().nth(at).copied();
            if let Some(contact) = contact {
                self.greet(now, contact);
            }
        }
    }

    /// Meets those whom a sample has named. Where nobody is new, little is left to be found.
    pub(super) fn on_sampled(&mut self, now: Instant, answer: Answer) {
        let Answer::Nodes(nodes) = answer else { return };
        if !nodes.closer.iter().any(|contact| self.table.wants(contact)) {
            self.upkeep.samples = self.upkeep.samples.saturating_sub(IDLE_SAMPLE);
        }
        for contact in nodes.closer {
            self.greet(now, contact);
        }
    }

    /// Members of the cluster of a near contact may be near as well.
    pub(super) fn on_explored(&mut self, now: Instant, answer: Answer) {
        let Answer::Nodes(nodes) = answer else { return };
        for contact in nodes.closer {
            self.sound(now, contact);
        }
    }

    /// Pings a contact that may be near, whether or not the table has room for a far one.
    pub(super) fn sound(&mut self, now: Instant, contact: Contact) {
        let is_new = contact.id() != self.id && self.table.entry(&contact.id()).is_none();
        if is_new && !self.calls.is_asking(contact.addr) {
            self.call(now, contact.addr, Some(contact), &Request::Ping, Purpose::Upkeep);
        }
    }

    /// A random id of a bucket.
    pub(super) fn point(&mut self, bucket: usize) -> Id {
        let mut id = [0; 20];
        self.rng.fill_bytes(&mut id);
        in_bucket(&self.id, bucket.min(159), &Id(id))
    }
}

/// The id that shares exactly `bits` bits with `own` and goes on as `random`.
fn in_bucket(own: &Id, bits: usize, random: &Id) -> Id {
    let bit = |id: &Id, at: usize| id.0[at / 8] >> (7 - at % 8) & 1;
    let mut point = *random;
    for at in 0..=bits {
        let want = bit(own, at) ^ u8::from(at == bits);
        if bit(&point, at) != want {
            point.0[at / 8] ^= 1 << (7 - at % 8);
        }
    }
    point
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_point_lies_in_its_bucket(own: [u8; 20], random: [u8; 20], bits in 0_usize..160) {
            let point = in_bucket(&Id(own), bits, &Id(random));
            prop_assert_eq!(point.distance(&Id(own)).common_bits(), bits);
        }
    }
}
