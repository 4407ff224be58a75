//! What a node does for others: it answers their requests.

use crate::address::admissible;
use crate::contact::Contact;
use crate::id::Key;
use crate::level::Level;
use crate::limits::{BUCKET, MAX_CLOSER};
use crate::lookup::{Course, halfway};
use crate::node::{Heard, Overlay};
use crate::query::Kind;
use crate::store::Decision;
use crate::table::shares;
use crate::time::Instant;
use crate::wire::{Answer, Body, Message, Nodes, Refusal, Request, Value, Want};

impl Overlay {
    pub(super) fn on_request(&mut self, now: Instant, from: Heard, number: u64, request: &Request) {
        let Heard { sender, proven, .. } = from;
        self.clusters.heard(&from.rings);
        self.count(request);
        let answer = if self.is_served(&from, request) {
            self.serve(now, sender, proven, request)
        } else {
            self.stats.dropped.level += 1;
            Answer::Refused(Refusal::Elsewhere)
        };
        self.reply(now, &from, number, answer);
        if let Request::Find { key, level: Level::GLOBAL, want: Want::Nodes, .. } = request {
            self.note_return(now, sender, key);
        }
    }

    /// Answers, and notes who asked.
    pub(super) fn reply(&mut self, now: Instant, from: &Heard, number: u64, answer: Answer) {
        let Heard { sender, proven, .. } = *from;
        let (rings, body) = (self.clusters.rings(now), Body::Answer(answer));
        let payload = Message { number, sender: self.local, rings, body }.encode();
        self.send(sender.addr, Some(sender.identity), payload);
        if proven {
            self.meet(now, from, None);
        } else {
            self.greet(now, sender);
        }
    }

    /// A cluster serves its members; strangers may look who is in it, to decide whether to join.
    fn is_served(&self, from: &Heard, request: &Request) -> bool {
        let is_look = matches!(request, Request::Find { want: Want::Nodes, .. });
        let own = self.clusters.memberships();
        is_look || request.level().is_none_or(|level| shares(&own, &from.memberships(), level))
    }

    /// The answer to a request of `sender`, which may be this node itself.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        sender: Contact,
        proven: bool,
        request: &Request,
    ) -> Answer {
        match *request {
            Request::Ping => Answer::Pong,
            Request::Find { key, level, want, course } => {
                if let Want::Claim(..) = want
                    && let Some(answer) = self.decide(now, &sender, proven, key, want)
                {
                    return answer;
                }
                let mut nodes = self.known(now, &sender, &key, want);
                nodes.closer = self.nearer(&sender, level, &key, course);
                Answer::Nodes(nodes)
            }
            Request::Store { .. } | Request::Withdraw { .. } | Request::Keep { .. } if !proven => {
                self.stats.stores_refused += 1;
                Answer::Refused(Refusal::Unproven)
            }
            Request::Store { key, note, ttl, claim, passed, .. } => {
                let pointer = note.by(sender);
                let decision = if claim {
                    self.store.claim(now, key, pointer, ttl, proven, &passed)
                } else {
                    let stored = self.store.put_beside(now, key, pointer, ttl, &passed);
                    stored.map_or_else(Decision::Refused, |()| Decision::Claimed)
                };
                match decision {
                    Decision::Claimed => Answer::Stored,
                    Decision::Held(values) => Answer::Held(values),
                    Decision::Refused(refusal) => {
                        self.stats.stores_refused += 1;
                        self.refused(now, &key, refusal)
                    }
                }
            }
            Request::Keep { key, value } => self.keep(now, &sender, key, value),
            Request::Withdraw { key, .. } => {
                self.store.remove(&key, &sender.identity);
                Answer::Withdrawn
            }
        }
    }

    /// Who is full shows with what, so that it is believed.
    fn refused(&self, now: Instant, key: &Key, refusal: Refusal) -> Answer {
        match refusal {
            Refusal::Full => Answer::Held(self.store.values(now, key)),
            _ => Answer::Refused(refusal),
        }
    }

    /// What this node finds in its own store before it asks others.
    pub(super) fn first_step(&mut self, now: Instant, key: &Key, kind: &Kind) -> Option<Nodes> {
        let want = match kind {
            Kind::Get | Kind::Claim(..) => Want::Values,
            Kind::Put(_, ttl) => Want::Room(*ttl),
            Kind::Withdraw | Kind::Refresh => return None,
        };
        Some(self.known(now, &self.local.clone(), key, want))
    }

    /// Removes contacts that break the rules from what others name.
    pub(super) fn sift(&self, answer: &mut Answer) {
        let local = self.local.addr.ip();
        match answer {
            Answer::Nodes(nodes) => {
                nodes.closer.retain(|contact| admissible(contact, local));
                nodes.values.retain(|value| admissible(&value.pointer.holder, local));
                self.prefer_the_living(&mut nodes.values);
            }
            Answer::Claimed { nearest, .. } => {
                nearest.retain(|contact| admissible(contact, local));
            }
            Answer::Held(values) => {
                values.retain(|value| admissible(&value.pointer.holder, local));
            }
            _ => {}
        }
    }

    /// Leaves out holders that do not answer this node, unless there are no others: they may be
    /// away from here alone, but are more often dead.
    pub(super) fn prefer_the_living(&self, values: &mut Vec<Value>) {
        let is_lost = |value: &Value| {
            let holder = &value.pointer.holder;
            self.table.is_failing(&holder.id()) || self.upkeep.has_lost(holder)
        };
        if values.len() > 1 && !values.iter().all(is_lost) {
            values.retain(|value| !is_lost(value));
        }
    }

    /// The decision about a claim: the sender's, if nobody has the key nor is known to be nearer to
    /// it. None otherwise: the sender finds out from the values and nodes that it is shown.
    fn decide(
        &mut self,
        now: Instant,
        sender: &Contact,
        proven: bool,
        key: Key,
        want: Want,
    ) -> Option<Answer> {
        let Want::Claim(note, ttl, passed) = want else { return None };
        let is_nearest = !self.table.knows_nearer(&key, &self.id.distance(&key));
        if !is_nearest || !self.upkeep.is_settled(now) {
            return None;
        }
        match self.store.claim(now, key, note.by(*sender), ttl, proven, &passed) {
            Decision::Claimed => {
                let nearest = self.nearer(sender, Level::GLOBAL, &key, Course::Greedy);
                Some(Answer::Claimed { nearest, provisional: !proven })
            }
            Decision::Refused(Refusal::Unproven) => Some(Answer::Refused(Refusal::Unproven)),
            Decision::Held(_) | Decision::Refused(_) => None,
        }
    }

    /// Whom this node names: the nearest to the key, or before them the nearest to half of its own
    /// way there.
    fn nearer(&self, sender: &Contact, level: Level, key: &Key, course: Course) -> Vec<Contact> {
        let mut named = Vec::with_capacity(2 * BUCKET + 2);
        if course == Course::Halving {
            let own = self.id.distance(key);
            named =
                self.table.closest(level, &halfway(key, &self.id, self.rules.hop_bits), BUCKET + 1);
            named.retain(|contact| contact.id().distance(key) < own);
        }
        let nearest = self.table.closest(level, key, BUCKET + 1).into_iter();
        let new: Vec<_> = nearest.filter(|contact| !named.contains(contact)).collect();
        named.extend(new);
        named.retain(|contact| contact.identity != sender.identity);
        named.truncate(MAX_CLOSER);
        named
    }

    const fn count(&mut self, request: &Request) {
        match request {
            Request::Find { want: Want::Values | Want::Claim(..), .. } => self.stats.gets_in += 1,
            Request::Find { want: Want::Room(_), .. } => self.stats.puts_in += 1,
            Request::Store { .. } | Request::Keep { .. } => self.stats.stores_in += 1,
            Request::Find { .. } | Request::Ping | Request::Withdraw { .. } => {}
        }
    }

    fn known(&mut self, now: Instant, sender: &Contact, key: &Key, want: Want) -> Nodes {
        match want {
            Want::Nodes => Nodes::default(),
            Want::Values | Want::Claim(..) => {
                let is_own = sender.identity == self.local.identity;
                let loaded = !is_own && self.store.is_loaded_by_get(now, key);
                let mut values = self.store.values(now, key);
                self.prefer_the_living(&mut values);
                Nodes { values, loaded, ..Nodes::default() }
            }
            Want::Room(ttl) => {
                let is_own = sender.identity == self.local.identity;
                let room = self.store.room(now, key, &sender.identity, ttl, is_own);
                let values = if room.full { self.store.values(now, key) } else { Vec::new() };
                Nodes { values, full: room.full, loaded: room.loaded, ..Nodes::default() }
            }
        }
    }
}
