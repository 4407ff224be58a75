//! Datagrams between nodes, and the drain of a core after each change.

use coralline_overlay::{
    Event, Identity, Instant, Outcome, Output, QueryId, Sender, Transmit, inspect,
};

use crate::geography::unit;
use crate::node::Node;
use crate::world::{Finished, Happening, Told, World};

/// Payloads kept to be filled again: as many as arrive within a moment.
const MAX_SPARE: usize = 1_024;

/// A datagram on its way.
#[derive(Debug)]
pub(super) struct Arrival {
    to: usize,
    from: usize,
    from_life: u32,
    /// The life of the receiver that the sender has heard from, if any.
    echo: Option<u32>,
    identity: Option<Identity>,
    payload: Vec<u8>,
}

impl World {
    /// One of the wakes that were announced for a node; only the latest counts, and it may be early.
    pub(super) fn wake(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.queued != Some(self.now) {
            return;
        }
        node.queued = None;
        let (Some(core), Some(wake)) = (&mut node.core, node.wake) else { return };
        if wake > self.now {
            self.wake_by(at, wake);
            return;
        }
        self.trace.note(self.now, at, b'w', &[]);
        core.handle_timeout(self.now);
        self.drain(at);
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { to, from, from_life, echo, identity, payload } = arrival;
        let contact = self.nodes[from].contact;
        let node = &mut self.nodes[to];
        if let Some(core) = &mut node.core
            && identity.is_none_or(|identity| identity == node.contact.identity)
        {
            let proven = node.peers.heard(from, from_life, echo == Some(node.life));
            let sender = Sender { identity: contact.identity, addr: contact.addr, proven };
            self.trace.note(self.now, to, b'd', &payload);
            if let Some(watch) = &mut self.watch {
                watch.see(to, &payload);
            }
            if let Some(trails) = &mut self.trails {
                trails.heard(to, &payload);
            }
            core.handle_datagram(self.now, sender, &payload);
            self.drain(to);
        }
        if self.spare.len() < MAX_SPARE {
            self.spare.push(payload);
        }
    }

    pub(super) fn drain(&mut self, at: usize) {
        let mut buf = std::mem::take(&mut self.buf);
        let mut accepted = Vec::new();
        loop {
            let core = self.nodes[at].core.as_mut().expect("only a living node is drained");
            match core.poll_output(&mut buf) {
                Output::Transmit(transmit) => self.transmit(at, transmit, &mut buf),
                Output::Event(Event::Finished { query, outcome }) => self.end(at, query, outcome),
                Output::Event(Event::Broadcast { message, .. }) => {
                    self.heard.push((self.now, at, message));
                    accepted.push(message);
                }
                Output::Event(Event::DirectoryChanged) => {}
                Output::Idle { .. } if !accepted.is_empty() => {
                    accepted.drain(..1).for_each(|message| core.accept(self.now, &message));
                }
                Output::Idle { wake } => {
                    // A deadline may lie in the past only as far as the clock's grain.
                    let wake = wake.map(|wake| wake.max(self.now));
                    self.nodes[at].wake = wake;
                    if let Some(wake) = wake {
                        self.wake_by(at, wake);
                    }
                    break;
                }
            }
        }
        self.buf = buf;
    }

    fn wake_by(&mut self, at: usize, wake: Instant) {
        let queued = &mut self.nodes[at].queued;
        if queued.is_none_or(|queued| wake < queued) {
            *queued = Some(wake);
            self.queue.push(wake, Happening::Wake(at));
        }
    }

    fn end(&mut self, at: usize, query: QueryId, outcome: Outcome) {
        let open = self.open.remove(&(at, query));
        let took = open.map(|open| self.now.since(open.start));
        self.ledger.ended(self.now, at, took);
        let (Some(open), Some(took)) = (open, took) else { return };
        let life_of = |node: usize| self.nodes[node].core.as_ref().map(|_| self.nodes[node].life);
        match &outcome {
            Outcome::Claimed => self.ledger.won(self.now, open.key, at, life_of),
            Outcome::Found { pointers, .. } | Outcome::Held { pointers, .. } => {
                let addrs = pointers.iter().map(|pointer| pointer.holder.addr);
                let holders: Vec<_> = addrs.map(|addr| self.at(addr)).collect();
                let liars = !self.junk.is_empty();
                self.ledger.show(self.now, &open.key, holders.into_iter(), liars, life_of);
            }
            _ => {}
        }
        self.finished.insert((at, query), Finished { outcome, took });
        self.notices.push_back(Told::Finished(at, query));
    }

    fn transmit(&mut self, from: usize, transmit: Transmit, buf: &mut Vec<u8>) {
        let lost = unit(&mut self.rng) < self.wires.loss;
        let Some(to) = self.at(transmit.to) else { return };
        if let Some(trails) = &mut self.trails {
            trails.sent(from, &self.nodes[to].contact.id(), buf);
        }
        if lost || !self.wires.reach(from, to) {
            return;
        }
        let delay = self.geography.delay(from, to, &mut self.rng);
        let Node { life: from_life, peers, lie, .. } = &self.nodes[from];
        let (from_life, echo) = (*from_life, peers.life(to));
        if let Some(told) = lie.and_then(|lie| inspect::told(buf, lie, &self.junk)) {
            *buf = told;
        }
        let payload = std::mem::replace(buf, self.spare.pop().unwrap_or_default());
        let identity = transmit.identity;
        let arrival = Arrival { to, from, from_life, echo, identity, payload };
        self.queue.push(self.now + delay, Happening::Arrival(arrival));
    }
}
