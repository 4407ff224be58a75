//! Datagrams seen from outside the core: what one asks, and how a liar would change it. Feature
//! `inspect`, for the simulator: the messages themselves stay private.

use coralline_config::Rules;

use std::time::Duration;

use crate::contact::{Contact, Identity};
use crate::id::Key;
use crate::limits::MAX_VALUES_PER_KEY;
use crate::pointer::{Pointer, State};
use crate::wire::{Answer, Body, Message, Nodes, Refusal, Request, Value, Want};

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Values: the steps of a get and of a claim.
    Get,
    /// Room for a value: the forward phase of a put.
    Room,
    /// To store a value: the reverse phase of a put, or a copy.
    Store,
    /// To decide a claim.
    Claim,
    /// Anything else.
    Other,
}

/// How a liar answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// To every put that it is full and loaded; it shows no values and stores none.
    Full,
    /// To every find that it has nothing and knows nobody nearer; it stores nothing.
    Empty,
    /// To every find that others have it, who do not.
    Junk,
    /// In every message that its clusters are as old and large as can be.
    Size,
}

/// A message as it passes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Pairs an answer with its request, among those of one node.
    pub number: u64,
    /// What a request asks, and about which key; none for an answer.
    pub request: Option<(Verb, Option<Key>)>,
}

/// Reads a message from outside; none for noise.
#[must_use]
pub fn seen(plaintext: &[u8]) -> Option<Seen> {
    let message = decode(plaintext)?;
    let request = match message.body {
        Body::Answer(_) => None,
        Body::Broadcast { .. } => Some((Verb::Other, None)),
        Body::Request(request) => Some(match request {
            Request::Find { key, want: Want::Values, .. } => (Verb::Get, Some(key)),
            Request::Find { key, want: Want::Room(_), .. } => (Verb::Room, Some(key)),
            Request::Find { key, want: Want::Claim(..), .. }
            | Request::Store { key, claim: true, .. } => (Verb::Claim, Some(key)),
            Request::Store { key, .. } => (Verb::Store, Some(key)),
            Request::Find { key, .. } | Request::Withdraw { key, .. } => (Verb::Other, Some(key)),
            Request::Keep { key, .. } => (Verb::Store, Some(key)),
            Request::Ping => (Verb::Other, None),
        }),
    };
    Some(Seen { number: message.number, request })
}

/// What a liar sends in the place of its honest answer; none where it has nothing to lie about.
/// `junk` are the holders that it invents.
#[must_use]
pub fn told(plaintext: &[u8], lie: Lie, junk: &[Contact]) -> Option<Vec<u8>> {
    let mut message = decode(plaintext)?;
    if lie == Lie::Size {
        for ring in message.rings.iter_mut().filter(|ring| ring.id != 0) {
            (ring.age_s, ring.size) = (u32::MAX, u16::MAX);
        }
        return Some(message.encode());
    }
    let Body::Answer(answer) = &mut message.body else { return None };
    let nodes = match (&mut *answer, lie) {
        (Answer::Nodes(nodes), _) => nodes,
        (Answer::Stored | Answer::Held(_) | Answer::Claimed { .. }, Lie::Full) => {
            *answer = Answer::Refused(Refusal::Full);
            return Some(message.encode());
        }
        (Answer::Held(_), Lie::Empty) => {
            *answer = Answer::Stored;
            return Some(message.encode());
        }
        _ => return None,
    };
    match lie {
        Lie::Full => {
            nodes.full = true;
            nodes.loaded = true;
            nodes.values.clear();
        }
        Lie::Empty => *nodes = Nodes::default(),
        Lie::Junk => {
            let junk = junk.iter().take(MAX_VALUES_PER_KEY);
            nodes.values = junk.map(|holder| invented(*holder, Rules::default().max_ttl)).collect();
        }
        // It is told of above, in every message.
        Lie::Size => {}
    }
    Some(message.encode())
}

const fn invented(holder: Contact, ttl: Duration) -> Value {
    let pointer = Pointer { holder, state: State::Whole, length: None, root: None };
    Value { pointer, ttl }
}

fn decode(plaintext: &[u8]) -> Option<Message> {
    // The sender's identity is not among the octets, so any will do.
    Message::decode(plaintext, Identity([0; 32])).ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::clusters::Rings;
    use crate::contact::Services;

    fn message(body: Body) -> Vec<u8> {
        Message { number: 1, sender: contact(1), rings: Rings::default(), body }.encode()
    }

    fn contact(last: u8) -> Contact {
        Contact {
            identity: Identity([0; 32]),
            addr: SocketAddr::from(([127, 0, 0, last], 7400)),
            slot: 0,
            peer_port: 7400,
            services: Services::PROXY,
        }
    }

    #[test]
    fn liars_change_answers_alone() {
        let asked = message(Body::Request(Request::Ping));
        let other = Some((Verb::Other, None));
        assert_eq!(seen(&asked), Some(Seen { number: 1, request: other }));
        assert_eq!(told(&asked, Lie::Full, &[]), None);
        let answer = message(Body::Answer(Answer::Nodes(Nodes::default())));
        assert_eq!(seen(&answer), Some(Seen { number: 1, request: None }));
        let lie = |lie| told(&answer, lie, &[contact(9)]).and_then(|octets| decode(&octets));
        let body = |lie_| lie(lie_).map(|message| message.body);
        let Some(Body::Answer(Answer::Nodes(full))) = body(Lie::Full) else { panic!() };
        assert!(full.full && full.loaded);
        let Some(Body::Answer(Answer::Nodes(junk))) = body(Lie::Junk) else { panic!() };
        assert_eq!(junk.values[0].pointer.holder, contact(9));
        assert_eq!((told(b"noise", Lie::Empty, &[]), seen(b"noise")), (None, None));
    }
}
