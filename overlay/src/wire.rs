//! The messages of the index and their octets.
//!
//! A request goes out in one datagram and its answer comes back in one, repeating the request's
//! number. All numbers are big-endian. The sender's identity is not in the message: the transport
//! proves it.
//!
//! ```text
//! message  version(1) kind(1) number(8) sender rings body
//! rings    count(1) {cluster(4) age_s(4) size(2)}*      level 1 first
//! sender   address slot(2) peer_port(2) services(1)
//! address  4 ip(4) port(2) | 6 ip(16) port(2)
//! contact  identity(32) sender
//! note     flags(1) [length(8)] [root(32)]        flags: 1 whole, 2 length known, 4 root known
//! value    contact note ttl_s(4)
//! passed   count(1) {first octets of an identity(8)}*
//! broadcast reach(1) length(2) payload
//! ```

use std::time::Duration;

use crate::clusters::{Ring, Rings};
use crate::contact::{Contact, Identity};
use crate::except::Passed;
use crate::id::Key;
use crate::level::Level;
use crate::limits::{
    MAX_BROADCAST, MAX_CLOSER, MAX_DEPTH, MAX_LEVELS, MAX_PASSED, MAX_PLAINTEXT, MAX_VALUES_PER_KEY,
};
use crate::lookup::Course;
use crate::octets::{Reader, WireError, put_contact, put_note, put_sender};
use crate::pointer::{Pointer, State};

/// The version of this format; others are dropped.
const VERSION: u8 = 4;

/// One datagram's worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Chosen by the one who asks, repeated in the answer.
    pub(crate) number: u64,
    /// The sender, under the identity that the transport proved.
    pub(crate) sender: Contact,
    /// The sender's clusters.
    pub(crate) rings: Rings,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Request(Request),
    Answer(Answer),
    /// A message to the whole network, which the receiver passes on to those who share `reach` bits
    /// or more with it. Answered as a request is.
    Broadcast {
        reach: u8,
        payload: Vec<u8>,
    },
}

/// What is asked. A stored pointer's holder is always the sender, so it is not in the message, unless a
/// node hands over what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Ping,
    Find {
        key: Key,
        level: Level,
        want: Want,
        course: Course,
    },
    Store {
        key: Key,
        level: Level,
        note: Note,
        ttl: Duration,
        claim: bool,
        passed: Passed,
    },
    Withdraw {
        key: Key,
        level: Level,
    },
    /// A value of another holder, which the receiver has become the nearest node for.
    Keep {
        key: Key,
        value: Value,
    },
}

/// What a find is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Closer nodes alone.
    Nodes,
    /// Values too.
    Values,
    /// Room for a value of this time to live: the forward phase of a put.
    Room(Duration),
    /// The decision about a claim, if the node knows nobody nearer to the key; these holders do not
    /// count.
    Claim(Note, Duration, Passed),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Pong,
    Nodes(Nodes),
    Stored,
    Refused(Refusal),
    /// To a claim: others hold it. To any store: these are all that have room.
    Held(Vec<Value>),
    /// To a find with a claim: it is the sender's, and these are the nearest others to the key. A
    /// provisional one ends soon, unless the sender stores it now that its address is proven.
    Claimed {
        nearest: Vec<Contact>,
        provisional: bool,
    },
    Withdrawn,
    /// To a message to the whole network.
    Received,
}

/// The answer to a find.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Nodes {
    pub(crate) values: Vec<Value>,
    pub(crate) closer: Vec<Contact>,
    /// Coral: holds enough values that will last.
    pub(crate) full: bool,
    /// Coral: this key has been put here too often of late.
    pub(crate) loaded: bool,
}

/// Why a store was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// Enough values that will last, or one from the same neighbourhood.
    Full,
    /// No room for further keys.
    Capacity,
    /// The sender's address is not proven yet; this answer lets it prove it.
    Unproven,
    /// It is not in the sender's cluster of that level.
    Elsewhere,
}

/// A pointer without its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) state: State,
    pub(crate) length: Option<u64>,
    pub(crate) root: Option<[u8; 32]>,
}

/// A pointer and how long it will last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) pointer: Pointer,
    pub(crate) ttl: Duration,
}

impl Request {
    /// The level that it asks at; a ping has none.
    pub(crate) const fn level(&self) -> Option<Level> {
        match self {
            Self::Ping | Self::Keep { .. } => None,
            Self::Find { level, .. } | Self::Store { level, .. } | Self::Withdraw { level, .. } => {
                Some(*level)
            }
        }
    }
}

impl Note {
    pub(crate) fn of(pointer: &Pointer) -> Self {
        Self { state: pointer.state, length: pointer.length, root: pointer.root }
    }

    pub(crate) fn by(self, holder: Contact) -> Pointer {
        Pointer { holder, state: self.state, length: self.length, root: self.root }
    }
}

impl Message {
    /// Its octets, at most [`MAX_PLAINTEXT`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend([VERSION, kind(&self.body)]);
        out.extend(self.number.to_be_bytes());
        put_sender(&mut out, &self.sender);
        put_rings(&mut out, &self.rings);
        match &self.body {
            Body::Request(request) => put_request(&mut out, request),
            Body::Answer(answer) => put_answer(&mut out, answer),
            Body::Broadcast { reach, payload } => {
                let payload = &payload[..payload.len().min(MAX_BROADCAST)];
                out.push(*reach);
                out.extend(u16::try_from(payload.len()).expect("it is bounded").to_be_bytes());
                out.extend(payload);
            }
        }
        debug_assert!(out.len() <= MAX_PLAINTEXT, "the worst case is tested");
        out
    }

    /// Reads what `sender` sent. Total: every input gives a message or an error.
    pub(crate) fn decode(octets: &[u8], sender: Identity) -> Result<Self, WireError> {
        let mut r = Reader::new(octets);
        if r.u8()? != VERSION {
            return Err(WireError);
        }
        let kind = r.u8()?;
        let number = r.u64()?;
        let sender = r.sender(sender)?;
        let rings = rings(&mut r)?;
        let body = body(&mut r, kind)?;
        r.end()?;
        Ok(Self { number, sender, rings, body })
    }
}

const PING: u8 = 0;
const FIND: u8 = 1;
const STORE: u8 = 2;
const WITHDRAW: u8 = 3;
const BROADCAST: u8 = 4;
const KEEP: u8 = 5;
const PONG: u8 = 0x80;
const NODES: u8 = 0x81;
const STORED: u8 = 0x82;
const REFUSED: u8 = 0x83;
const HELD: u8 = 0x84;
const WITHDRAWN: u8 = 0x85;
const CLAIMED: u8 = 0x86;
const RECEIVED: u8 = 0x87;

const fn kind(body: &Body) -> u8 {
    match body {
        Body::Request(Request::Ping) => PING,
        Body::Request(Request::Find { .. }) => FIND,
        Body::Request(Request::Store { .. }) => STORE,
        Body::Request(Request::Withdraw { .. }) => WITHDRAW,
        Body::Request(Request::Keep { .. }) => KEEP,
        Body::Broadcast { .. } => BROADCAST,
        Body::Answer(Answer::Received) => RECEIVED,
        Body::Answer(Answer::Pong) => PONG,
        Body::Answer(Answer::Nodes(_)) => NODES,
        Body::Answer(Answer::Stored) => STORED,
        Body::Answer(Answer::Refused(_)) => REFUSED,
        Body::Answer(Answer::Held(_)) => HELD,
        Body::Answer(Answer::Withdrawn) => WITHDRAWN,
        Body::Answer(Answer::Claimed { .. }) => CLAIMED,
    }
}

fn put_rings(out: &mut Vec<u8>, rings: &Rings) {
    let count = rings.iter().take_while(|ring| ring.id != 0).count();
    out.push(u8::try_from(count).expect("levels are few"));
    for ring in &rings[..count] {
        out.extend(ring.id.to_be_bytes());
        out.extend(ring.age_s.to_be_bytes());
        out.extend(ring.size.to_be_bytes());
    }
}

fn rings(r: &mut Reader<'_>) -> Result<Rings, WireError> {
    let mut rings = Rings::default();
    let count = r.count(MAX_LEVELS)?;
    for ring in &mut rings[..count] {
        *ring = Ring { id: r.u32()?, age_s: r.u32()?, size: r.u16()? };
        if ring.id == 0 {
            return Err(WireError);
        }
    }
    Ok(rings)
}

fn put_request(out: &mut Vec<u8>, request: &Request) {
    match request {
        Request::Ping => {}
        Request::Find { key, level, want, course } => {
            put_place(out, key, *level);
            out.push(u8::from(*course == Course::Halving));
            match want {
                Want::Nodes => out.push(0),
                Want::Values => out.push(1),
                Want::Room(ttl) => {
                    out.push(2);
                    put_ttl(out, *ttl);
                }
                Want::Claim(note, ttl, passed) => {
                    out.push(3);
                    put_note(out, note);
                    put_ttl(out, *ttl);
                    put_passed(out, passed);
                }
            }
        }
        Request::Store { key, level, note, ttl, claim, passed } => {
            put_place(out, key, *level);
            put_note(out, note);
            put_ttl(out, *ttl);
            out.push(u8::from(*claim));
            put_passed(out, passed);
        }
        Request::Withdraw { key, level } => put_place(out, key, *level),
        Request::Keep { key, value } => {
            out.extend(key.0);
            put_value(out, value);
        }
    }
}

fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Pong | Answer::Stored | Answer::Withdrawn | Answer::Received => {}
        Answer::Refused(refusal) => out.push(match refusal {
            Refusal::Full => 0,
            Refusal::Capacity => 1,
            Refusal::Unproven => 2,
            Refusal::Elsewhere => 3,
        }),
        Answer::Held(values) => put_values(out, values),
        Answer::Nodes(nodes) => {
            out.push(u8::from(nodes.full) | u8::from(nodes.loaded) << 1);
            put_values(out, &nodes.values);
            put_contacts(out, &nodes.closer);
        }
        Answer::Claimed { nearest, provisional } => {
            out.push(u8::from(*provisional));
            put_contacts(out, nearest);
        }
    }
}

fn put_place(out: &mut Vec<u8>, key: &Key, level: Level) {
    out.extend(key.0);
    out.push(level.0);
}

/// Whole seconds, rounded up so that a value's last second is not lost on the way.
fn put_ttl(out: &mut Vec<u8>, ttl: Duration) {
    let seconds = ttl.as_millis().div_ceil(1_000);
    out.extend(u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_passed(out: &mut Vec<u8>, passed: &Passed) {
    out.push(u8::try_from(passed.tags().len()).expect("they are few"));
    passed.tags().iter().for_each(|tag| out.extend(tag.to_be_bytes()));
}

fn put_contacts(out: &mut Vec<u8>, contacts: &[Contact]) {
    let (count_at, mut count) = (out.len(), 0);
    out.push(0);
    for contact in contacts.iter().take(MAX_CLOSER) {
        let before = out.len();
        put_contact(out, contact);
        // The values come first: they are what was asked for.
        if out.len() > MAX_PLAINTEXT {
            out.truncate(before);
            break;
        }
        count += 1;
    }
    out[count_at] = count;
}

fn put_values(out: &mut Vec<u8>, values: &[Value]) {
    let values = &values[..values.len().min(MAX_VALUES_PER_KEY)];
    out.push(u8::try_from(values.len()).expect("the values of a key are few"));
    values.iter().for_each(|value| put_value(out, value));
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    put_contact(out, &value.pointer.holder);
    put_note(out, &Note::of(&value.pointer));
    put_ttl(out, value.ttl);
}

fn body(r: &mut Reader<'_>, kind: u8) -> Result<Body, WireError> {
    Ok(match kind {
        PING => Body::Request(Request::Ping),
        FIND => {
            let (key, level) = (r.key()?, Level(r.u8()?));
            let course = if r.flag()? { Course::Halving } else { Course::Greedy };
            let want = match r.u8()? {
                0 => Want::Nodes,
                1 => Want::Values,
                2 => Want::Room(ttl(r)?),
                3 => Want::Claim(r.note()?, ttl(r)?, passed(r)?),
                _ => return Err(WireError),
            };
            Body::Request(Request::Find { key, level, want, course })
        }
        STORE => Body::Request(Request::Store {
            key: r.key()?,
            level: Level(r.u8()?),
            note: r.note()?,
            ttl: ttl(r)?,
            claim: r.flag()?,
            passed: passed(r)?,
        }),
        WITHDRAW => Body::Request(Request::Withdraw { key: r.key()?, level: Level(r.u8()?) }),
        KEEP => Body::Request(Request::Keep { key: r.key()?, value: value(r)? }),
        BROADCAST => {
            let reach = r.u8()?;
            let payload = r.octets(MAX_BROADCAST)?.to_vec();
            if reach > MAX_DEPTH {
                return Err(WireError);
            }
            Body::Broadcast { reach, payload }
        }
        RECEIVED => Body::Answer(Answer::Received),
        PONG => Body::Answer(Answer::Pong),
        NODES => {
            let flags = r.u8()?;
            if flags > 3 {
                return Err(WireError);
            }
            let values = values(r)?;
            let closer = contacts(r)?;
            let (full, loaded) = (flags & 1 != 0, flags & 2 != 0);
            Body::Answer(Answer::Nodes(Nodes { values, closer, full, loaded }))
        }
        STORED => Body::Answer(Answer::Stored),
        REFUSED => Body::Answer(Answer::Refused(match r.u8()? {
            0 => Refusal::Full,
            1 => Refusal::Capacity,
            2 => Refusal::Unproven,
            3 => Refusal::Elsewhere,
            _ => return Err(WireError),
        })),
        HELD => Body::Answer(Answer::Held(values(r)?)),
        WITHDRAWN => Body::Answer(Answer::Withdrawn),
        CLAIMED => {
            let (provisional, nearest) = (r.flag()?, contacts(r)?);
            Body::Answer(Answer::Claimed { nearest, provisional })
        }
        _ => return Err(WireError),
    })
}

fn passed(r: &mut Reader<'_>) -> Result<Passed, WireError> {
    let tags: Vec<_> = (0..r.count(MAX_PASSED)?).map(|_| r.u64()).collect::<Result<_, _>>()?;
    Ok(Passed::new(&tags))
}

fn ttl(r: &mut Reader<'_>) -> Result<Duration, WireError> {
    Ok(Duration::from_secs(r.u32()?.into()))
}

fn contacts(r: &mut Reader<'_>) -> Result<Vec<Contact>, WireError> {
    (0..r.count(MAX_CLOSER)?).map(|_| r.contact()).collect()
}

fn values(r: &mut Reader<'_>) -> Result<Vec<Value>, WireError> {
    (0..r.count(MAX_VALUES_PER_KEY)?).map(|_| value(r)).collect()
}

fn value(r: &mut Reader<'_>) -> Result<Value, WireError> {
    let holder = r.contact()?;
    Ok(Value { pointer: r.note()?.by(holder), ttl: ttl(r)? })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::contact::Services;

    fn contact() -> impl Strategy<Value = Contact> {
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ];
        (any::<[u8; 32]>(), ip, any::<u16>(), any::<u16>(), any::<u16>(), any::<u8>()).prop_map(
            |(identity, ip, port, slot, peer_port, services)| Contact {
                identity: Identity(identity),
                addr: SocketAddr::new(ip, port),
                slot,
                peer_port,
                services: Services(services),
            },
        )
    }

    fn note() -> impl Strategy<Value = Note> {
        (any::<bool>(), any::<Option<u64>>(), any::<Option<[u8; 32]>>()).prop_map(
            |(whole, length, root)| Note {
                state: if whole { State::Whole } else { State::Receiving },
                length,
                root,
            },
        )
    }

    fn seconds() -> impl Strategy<Value = Duration> {
        any::<u32>().prop_map(|s| Duration::from_secs(s.into()))
    }

    fn value() -> impl Strategy<Value = Value> {
        (contact(), note(), seconds())
            .prop_map(|(holder, note, ttl)| Value { pointer: note.by(holder), ttl })
    }

    fn any_rings() -> impl Strategy<Value = Rings> {
        let ring = (1_u32.., any::<u32>(), any::<u16>());
        vec(ring.prop_map(|(id, age_s, size)| Ring { id, age_s, size }), 0..=MAX_LEVELS)
            .prop_map(|some| std::array::from_fn(|at| some.get(at).copied().unwrap_or_default()))
    }

    fn any_passed() -> impl Strategy<Value = Passed> {
        vec(any::<u64>(), 0..=MAX_PASSED).prop_map(|tags| Passed::new(&tags))
    }

    fn any_body() -> impl Strategy<Value = Body> {
        let key = || any::<[u8; 20]>().prop_map(crate::id::Id);
        let level = || any::<u8>().prop_map(Level);
        let want = prop_oneof![
            Just(Want::Nodes),
            Just(Want::Values),
            seconds().prop_map(Want::Room),
            (note(), seconds(), any_passed())
                .prop_map(|(note, ttl, passed)| Want::Claim(note, ttl, passed)),
        ];
        let course = prop_oneof![Just(Course::Greedy), Just(Course::Halving)];
        let nodes = (vec(value(), 0..=4), vec(contact(), 0..=8), any::<bool>(), any::<bool>());
        prop_oneof![
            Just(Body::Request(Request::Ping)),
            (0..=MAX_DEPTH, vec(any::<u8>(), 0..=MAX_BROADCAST))
                .prop_map(|(reach, payload)| Body::Broadcast { reach, payload }),
            Just(Body::Answer(Answer::Received)),
            (key(), level(), want, course).prop_map(|(key, level, want, course)| {
                Body::Request(Request::Find { key, level, want, course })
            }),
            (key(), level(), note(), seconds(), any::<bool>(), any_passed()).prop_map(
                |(key, level, note, ttl, claim, passed)| Body::Request(Request::Store {
                    key,
                    level,
                    note,
                    ttl,
                    claim,
                    passed
                })
            ),
            (key(), value()).prop_map(|(key, value)| Body::Request(Request::Keep { key, value })),
            (key(), level())
                .prop_map(|(key, level)| Body::Request(Request::Withdraw { key, level })),
            Just(Body::Answer(Answer::Pong)),
            nodes.prop_map(|(values, closer, full, loaded)| Body::Answer(Answer::Nodes(Nodes {
                values,
                closer,
                full,
                loaded
            }))),
            Just(Body::Answer(Answer::Stored)),
            Just(Body::Answer(Answer::Refused(Refusal::Unproven))),
            vec(value(), 0..=4).prop_map(|values| Body::Answer(Answer::Held(values))),
            Just(Body::Answer(Answer::Withdrawn)),
            (vec(contact(), 0..=8), any::<bool>()).prop_map(|(nearest, provisional)| {
                Body::Answer(Answer::Claimed { nearest, provisional })
            }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(number: u64, sender in contact(), rings in any_rings(), body in any_body()) {
            let message = Message { number, sender, rings, body };
            let octets = message.encode();
            prop_assert!(octets.len() <= MAX_PLAINTEXT);
            prop_assert_eq!(Message::decode(&octets, sender.identity), Ok(message));
        }

        #[test]
        fn every_cut_and_every_addition_is_refused(sender in contact(), body in any_body()) {
            let mut octets = Message { number: 7, sender, rings: Rings::default(), body }.encode();
            for cut in 0..octets.len() {
                prop_assert!(Message::decode(&octets[..cut], sender.identity).is_err());
            }
            octets.push(0);
            prop_assert!(Message::decode(&octets, sender.identity).is_err());
        }

        #[test]
        fn arbitrary_octets_never_panic(octets in vec(any::<u8>(), 0..1_300), kind in 0_u8..7) {
            let _ = Message::decode(&octets, Identity([0; 32]));
            let mut near = vec![VERSION, kind | octets.first().unwrap_or(&0) & 0x80];
            near.extend(octets);
            let _ = Message::decode(&near, Identity([0; 32]));
        }
    }

    /// All IPv6, every option present, all lists full.
    #[test]
    fn the_largest_message_fits() {
        let holder = Contact {
            identity: Identity([255; 32]),
            addr: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(),
            slot: u16::MAX,
            peer_port: u16::MAX,
            services: Services(255),
        };
        let note = Note { state: State::Whole, length: Some(u64::MAX), root: Some([255; 32]) };
        let value = Value { pointer: note.by(holder), ttl: Duration::from_secs(7_200) };
        let nodes = Nodes {
            values: vec![value; MAX_VALUES_PER_KEY],
            closer: vec![holder; MAX_CLOSER],
            full: true,
            loaded: true,
        };
        let rings = [Ring { id: 1, age_s: 1, size: 1 }; MAX_LEVELS];
        let body = Body::Answer(Answer::Nodes(nodes));
        let octets = Message { number: u64::MAX, sender: holder, rings, body }.encode();
        assert!(octets.len() <= MAX_PLAINTEXT, "{}", octets.len());
        let read = Message::decode(&octets, holder.identity).unwrap();
        let Body::Answer(Answer::Nodes(nodes)) = read.body else { panic!() };
        assert_eq!(nodes.values.len(), MAX_VALUES_PER_KEY, "contacts make room for values");
        assert!(!nodes.closer.is_empty(), "but some are named in any case");
    }

    #[test]
    fn a_count_over_its_bound_is_refused() {
        let holder = Contact {
            identity: Identity([1; 32]),
            addr: "192.0.2.1:1".parse().unwrap(),
            slot: 0,
            peer_port: 1,
            services: Services(0),
        };
        let body = Body::Answer(Answer::Held(Vec::new()));
        let mut octets =
            Message { number: 1, sender: holder, rings: Rings::default(), body }.encode();
        *octets.last_mut().unwrap() = 9;
        octets.resize(octets.len() + 9 * 48, 0);
        assert!(Message::decode(&octets, holder.identity).is_err());
    }
}
