//! One core, and the messages of strangers.

use super::*;
use crate::contact::{Identity, Services};
use crate::except::Passed;
use crate::level::Level;
use crate::limits::{MAX_CLOSER, MAX_JOIN_WAIT, MAX_PROVISIONAL, PROVISIONAL_TTL, SETTLED_AFTER};
use crate::lookup::Course;
use crate::output::Outcome;
use crate::pointer::State;
use crate::wire::{Answer, Nodes, Note, Refusal, Request, Want};

const SECOND: Duration = Duration::from_secs(1);

fn contact(ip: [u8; 4], slot: u16) -> Contact {
    let mut identity = [0; 32];
    identity[..4].copy_from_slice(&ip);
    identity[4..6].copy_from_slice(&slot.to_be_bytes());
    Contact {
        identity: Identity(identity),
        addr: SocketAddr::from((ip, 7400)),
        slot,
        peer_port: 7400,
        services: Services::PROXY,
    }
}

fn pointer(holder: Contact) -> Pointer {
    Pointer { holder, state: State::Whole, length: Some(9), root: None }
}

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn key() -> Key {
    Key::of_name(b"http://www.example.com/")
}

/// A core under test, and what it has said.
struct Bench {
    core: Overlay,
    local: Contact,
    now: Instant,
    sent: Vec<(Transmit, Message)>,
    events: Vec<Event>,
}

impl Bench {
    fn new(seeds: Vec<SocketAddr>, saved: Vec<Contact>) -> Self {
        let (local, now) = (contact([198, 51, 100, 1], 0), at(0));
        let settings = Settings {
            local,
            hints: true,
            as_number: None,
            seeds,
            saved,
            levels: Vec::new(),
            rules: Rules::default(),
        };
        let core = Overlay::new(settings, 1, now);
        let (sent, events) = (Vec::new(), Vec::new());
        let mut bench = Self { core, local, now, sent, events };
        bench.drain();
        bench
    }

    fn drain(&mut self) -> Option<Instant> {
        let mut buf = Vec::new();
        loop {
            match self.core.poll_output(&mut buf) {
                Output::Transmit(transmit) => {
                    let message = Message::decode(&buf, self.local.identity).unwrap();
                    self.sent.push((transmit, message));
                }
                Output::Event(event) => self.events.push(event),
                Output::Idle { wake } => return wake,
            }
        }
    }

    fn take_sent(&mut self) -> Vec<(Transmit, Message)> {
        std::mem::take(&mut self.sent)
    }

    /// Lets time pass, as a driver would.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(wake) = self.drain().filter(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            self.core.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn hear(&mut self, from: Contact, proven: bool, number: u64, body: Body) {
        let octets = Message { number, sender: from, rings: Rings::default(), body }.encode();
        let sender = Sender { identity: from.identity, addr: from.addr, proven };
        self.core.handle_datagram(self.now, sender, &octets);
        self.drain();
    }

    fn request(&mut self, from: Contact, proven: bool, request: Request) -> Answer {
        self.take_sent();
        self.hear(from, proven, 5, Body::Request(request));
        let answer = |(_, message): &(Transmit, Message)| match &message.body {
            Body::Answer(answer) if message.number == 5 => Some(answer.clone()),
            _ => None,
        };
        self.sent.iter().find_map(answer).expect("each request is answered")
    }

    fn dropped(&self) -> crate::stats::Dropped {
        self.core.stats().dropped
    }
}

fn store(claim: bool) -> Request {
    let note = Note { state: State::Whole, length: None, root: None };
    Request::Store {
        key: key(),
        level: Level::GLOBAL,
        note,
        ttl: 60 * SECOND,
        claim,
        passed: Passed::default(),
    }
}

fn find(want: Want) -> Request {
    Request::Find { key: key(), level: Level::GLOBAL, want, course: Course::Greedy }
}

#[test]
fn noise_is_counted_and_dropped() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let from = contact([192, 0, 2, 1], 0);
    let sender = Sender { identity: from.identity, addr: from.addr, proven: true };
    for octets in [&[][..], &[1], &[255; 40], &[1, 0, 0, 0, 0], &[0; 1_100]] {
        bench.core.handle_datagram(bench.now, sender, octets);
        bench.drain();
    }
    assert_eq!(bench.dropped().malformed, 5);
    assert!(bench.sent.is_empty() && bench.events.is_empty());
}

#[test]
fn a_sender_who_breaks_the_rules_of_addresses_is_not_answered() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let elsewhere = contact([192, 0, 2, 1], 0);
    let octets = Message {
        number: 1,
        sender: elsewhere,
        rings: Rings::default(),
        body: Body::Request(Request::Ping),
    }
    .encode();
    let addr = SocketAddr::from(([192, 0, 2, 2], 7400));
    let sender = Sender { identity: elsewhere.identity, addr, proven: true };
    bench.core.handle_datagram(bench.now, sender, &octets);
    bench.hear(contact([192, 0, 2, 1], 8), true, 1, Body::Request(Request::Ping));
    bench.hear(contact([10, 0, 0, 1], 0), true, 1, Body::Request(Request::Ping));
    assert_eq!(bench.dropped().address, 3);
    bench.hear(bench.local, true, 1, Body::Request(Request::Ping));
    assert_eq!(bench.dropped().own, 1);
    bench.hear(contact([192, 0, 2, 1], 0), true, 1, Body::Answer(Answer::Pong));
    assert_eq!(bench.dropped().unsolicited, 1);
    assert!(bench.sent.is_empty());
    assert_eq!(bench.core.stats().contacts, 0);
}

#[test]
fn the_unproven_change_nothing() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    for net in 0..40 {
        bench.hear(contact([192, 0, net, 1], 0), true, 1, Body::Request(Request::Ping));
        bench.request(contact([192, 0, net, 1], 0), true, store(false));
    }
    let stranger = contact([203, 0, 113, 1], 0);
    let before = bench.core.stats();
    let Answer::Nodes(nodes) = bench.request(stranger, false, find(Want::Values)) else { panic!() };
    assert!(!nodes.values.is_empty(), "they may read");
    let unproven = Answer::Refused(Refusal::Unproven);
    assert_eq!(bench.request(stranger, false, store(true)), unproven);
    let withdraw = Request::Withdraw { key: key(), level: Level::GLOBAL };
    assert_eq!(bench.request(stranger, false, withdraw), unproven);
    let after = bench.core.stats();
    assert_eq!((before.values, before.contacts), (after.values, after.contacts));
}

#[test]
fn a_claim_of_the_unproven_counts_for_a_moment_and_until_it_is_confirmed() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let far = (1..).map(|net| contact([192, 0, net, 1], 0));
    let own = bench.local.id().distance(&key());
    let mut far = far.filter(|contact| contact.id().distance(&key()) > own);
    bench.hear(far.next().unwrap(), true, 1, Body::Request(Request::Ping));
    bench.now = bench.now + SETTLED_AFTER;
    let (first, second) = (far.next().unwrap(), far.next().unwrap());
    let note = Note { state: State::Receiving, length: None, root: None };
    let claim = find(Want::Claim(note, 60 * SECOND, Passed::default()));
    let holder = |answer: &Answer| match answer {
        Answer::Nodes(nodes) => nodes.values.first().map(|value| value.pointer.holder),
        _ => None,
    };
    let granted = |answer| match answer {
        Answer::Claimed { provisional, .. } => Some(provisional),
        _ => None,
    };
    assert_eq!(granted(bench.request(first, false, claim)), Some(true));
    let answer = bench.request(second, true, claim);
    assert_eq!(holder(&answer), Some(first), "it keeps others off");
    bench.now = bench.now + PROVISIONAL_TTL;
    assert_eq!(granted(bench.request(second, false, claim)), Some(true), "it was not confirmed");
    assert_eq!(bench.request(second, true, store(true)), Answer::Stored);
    bench.now = bench.now + PROVISIONAL_TTL;
    assert_eq!(holder(&bench.request(first, false, claim)), Some(second), "this one was");
    assert_eq!(granted(bench.request(second, false, claim)), Some(true));
    bench.now = bench.now + 40 * SECOND;
    let answer = bench.request(first, true, find(Want::Values));
    assert_eq!(holder(&answer), Some(second), "a repeat that may be forged takes nothing away");
}

#[test]
fn provisional_claims_are_few() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    bench.hear(contact([192, 0, 2, 1], 0), true, 1, Body::Request(Request::Ping));
    bench.now = bench.now + SETTLED_AFTER;
    let others: Vec<_> = bench.core.contacts().iter().map(Contact::id).collect();
    let is_nearest =
        |key: &Key| others.iter().all(|id| bench.local.id().distance(key) < id.distance(key));
    let keys = (0_u32..).map(|name| Key::of_name(&name.to_be_bytes())).filter(is_nearest);
    let keys: Vec<_> = keys.take(MAX_PROVISIONAL + 1).collect();
    let note = Note { state: State::Receiving, length: None, root: None };
    let want = Want::Claim(note, 60 * SECOND, Passed::default());
    for (at, key) in keys.into_iter().enumerate() {
        let (level, course) = (Level::GLOBAL, Course::Greedy);
        let request = Request::Find { key, level, want, course };
        let answer = bench.request(contact([203, 0, 113, 1], 0), false, request);
        match at < MAX_PROVISIONAL {
            true => assert!(matches!(answer, Answer::Claimed { provisional: true, .. }), "{at}"),
            false => assert_eq!(answer, Answer::Refused(Refusal::Unproven)),
        }
    }
}

#[test]
fn a_stranger_is_met_once_it_answers_a_ping() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let stranger = contact([203, 0, 113, 1], 0);
    assert_eq!(bench.request(stranger, false, Request::Ping), Answer::Pong);
    assert!(bench.core.directory(bench.now).neighbours.is_empty());
    let ping = bench.sent.iter().find(|(_, m)| m.body == Body::Request(Request::Ping));
    let number = ping.expect("it is greeted").1.number;
    bench.now = Instant::from_micros(40_000);
    bench.hear(stranger, true, number, Body::Answer(Answer::Pong));
    let directory = bench.core.directory(bench.now);
    assert_eq!(directory.neighbours[0].contact, stranger);
    assert_eq!(directory.neighbours[0].rtt, Some(Duration::from_millis(40)));
    assert!(bench.events.contains(&Event::DirectoryChanged));
}

#[test]
fn nobody_takes_back_what_another_has_put() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let (holder, thief) = (contact([192, 0, 2, 1], 0), contact([192, 0, 3, 1], 0));
    assert_eq!(bench.request(holder, true, store(true)), Answer::Stored);
    let withdraw = Request::Withdraw { key: key(), level: Level::GLOBAL };
    assert_eq!(bench.request(thief, true, withdraw), Answer::Withdrawn);
    let Answer::Held(values) = bench.request(thief, true, store(true)) else { panic!() };
    assert_eq!(values[0].pointer.holder, holder);
    assert_eq!(bench.request(holder, true, withdraw), Answer::Withdrawn);
    assert_eq!(bench.request(thief, true, store(true)), Answer::Stored);
}

#[test]
fn the_first_node_has_joined() {
    let own = contact([198, 51, 100, 1], 0).addr;
    for seeds in [Vec::new(), vec![own]] {
        let mut bench = Bench::new(seeds, Vec::new());
        assert!(bench.core.directory(bench.now).joined);
        bench.run(100 * SECOND);
        assert!(bench.sent.is_empty(), "there is nobody to ask");
    }
}

#[test]
fn silent_seeds_are_tried_ever_more_slowly_and_for_ever() {
    let seed = contact([192, 0, 2, 1], 0).addr;
    let mut bench = Bench::new(vec![seed], Vec::new());
    bench.run(60 * SECOND);
    let first = bench.take_sent().len();
    assert!((8..=24).contains(&first), "{first} in the first minute");
    bench.run(3_600 * SECOND);
    assert!(!bench.core.directory(bench.now).joined);
    bench.take_sent();
    bench.run(MAX_JOIN_WAIT * 2);
    assert!((2..=8).contains(&bench.sent.len()), "{} an hour later", bench.sent.len());
    assert!(
        bench.sent.iter().all(|(transmit, _)| *transmit == Transmit { to: seed, identity: None })
    );
}

#[test]
fn dead_contacts_of_an_earlier_run_do_not_keep_it_from_being_first() {
    let saved: Vec<_> = (0..40).map(|net| contact([192, 0, net, 1], 0)).collect();
    let mut bench = Bench::new(Vec::new(), saved.clone());
    assert!(!bench.core.directory(bench.now).joined);
    bench.run(30 * SECOND);
    assert!(bench.core.directory(bench.now).joined);
    assert_eq!(bench.core.contacts().len(), 40, "they are kept for later");
    bench.take_sent();
    while bench.sent.is_empty() {
        bench.run(SECOND / 10);
    }
    let (transmit, find) = bench.sent.pop().expect("it goes on trying");
    let back = saved.into_iter().find(|contact| contact.addr == transmit.to).unwrap();
    bench.hear(back, true, find.number, Body::Answer(Answer::Nodes(Nodes::default())));
    assert_eq!(bench.core.directory(bench.now).neighbours[0].contact, back);
}

#[test]
fn a_silent_neighbour_leaves_the_directory_in_time() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let other = contact([192, 0, 2, 1], 0);
    bench.hear(other, true, 1, Body::Request(Request::Ping));
    while let Some((_, request)) = bench.sent.pop() {
        if matches!(request.body, Body::Request(_)) {
            bench.hear(other, true, request.number, Body::Answer(Answer::Nodes(Nodes::default())));
        }
    }
    bench.events.clear();
    bench.run(3 * SECOND);
    assert_eq!(bench.core.directory(bench.now).neighbours.len(), 1);
    bench.run(22 * SECOND);
    assert!(bench.core.directory(bench.now).neighbours.is_empty());
    assert_eq!(bench.events, [Event::DirectoryChanged]);
    assert_eq!(bench.core.contacts(), [other], "it is remembered");
}

#[test]
fn a_lost_neighbour_is_sought_soon_and_for_ever() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let (stays, goes) = (contact([192, 0, 2, 1], 0), contact([203, 0, 113, 1], 0));
    bench.hear(stays, true, 1, Body::Request(Request::Ping));
    bench.hear(goes, true, 1, Body::Request(Request::Ping));
    let mut sought = Vec::new();
    for tick in 0..3_000 {
        for (transmit, message) in bench.take_sent() {
            if transmit.to == stays.addr && matches!(message.body, Body::Request(_)) {
                let nodes = Answer::Nodes(Nodes::default());
                bench.hear(stays, true, message.number, Body::Answer(nodes));
            } else if transmit.to == goes.addr
                && bench.core.directory(bench.now).neighbours.len() == 1
            {
                sought.push(tick / 10);
            }
        }
        bench.run(SECOND / 10);
    }
    // Each try is repeated within three seconds (JOIN_ATTEMPTS); the first comes soon after the loss,
    // later ones ever more rarely.
    sought.dedup_by(|later, first| *later <= *first + 3);
    let gaps: Vec<_> = sought.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(sought[0] < 40 && gaps.len() >= 4, "{sought:?}");
    assert!(gaps[0] <= 21 && gaps.iter().all(|gap| *gap <= 76), "{sought:?}");
    assert!(gaps.last().unwrap() >= &44, "{sought:?}");
}

#[test]
fn too_many_queries_are_refused_and_each_ends_once() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    bench.hear(contact([192, 0, 2, 1], 0), true, 1, Body::Request(Request::Ping));
    let mut open = std::collections::BTreeSet::new();
    for name in 0..MAX_QUERIES {
        open.insert(bench.core.get(bench.now, Key::of_name(&name.to_be_bytes())).unwrap());
        bench.drain();
    }
    assert_eq!(bench.core.get(bench.now, key()), Err(Busy));
    bench.run(10 * SECOND);
    for event in &bench.events {
        if let Event::Finished { query, .. } = event {
            assert!(open.remove(query), "{query:?} ended twice");
        }
    }
    assert!(open.is_empty());
    assert!(bench.core.get(bench.now, key()).is_ok());
}

#[test]
fn an_unreachable_node_ends_the_wait_at_once() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let other = contact([192, 0, 2, 1], 0);
    bench.hear(other, true, 1, Body::Request(Request::Ping));
    let query = bench.core.claim(bench.now, key(), pointer(bench.local), 60 * SECOND).unwrap();
    bench.drain();
    bench.core.handle_unreachable(bench.now, other.addr);
    bench.drain();
    let claimed = Event::Finished { query, outcome: Outcome::Claimed };
    assert!(bench.events.contains(&claimed), "the nearest that lives decides");
}

#[test]
fn a_liar_cannot_send_us_into_our_own_network() {
    let mut bench = Bench::new(Vec::new(), Vec::new());
    let liar = contact([192, 0, 2, 1], 0);
    bench.hear(liar, true, 1, Body::Request(Request::Ping));
    bench.take_sent();
    bench.core.get(bench.now, key()).unwrap();
    bench.drain();
    let (_, find) = bench.take_sent().pop().expect("the only contact is asked");
    let inside = [[127, 0, 0, 1], [10, 0, 0, 1], [169, 254, 169, 254], [192, 0, 9, 1]];
    let closer = inside.into_iter().map(|ip| contact(ip, 0)).take(MAX_CLOSER).collect();
    let nodes = Nodes { closer, ..Nodes::default() };
    bench.hear(liar, true, find.number, Body::Answer(Answer::Nodes(nodes)));
    let asked: Vec<_> = bench.sent.iter().map(|(transmit, _)| transmit.to.ip()).collect();
    assert_eq!(asked, [std::net::IpAddr::from([192, 0, 9, 1])]);
}
