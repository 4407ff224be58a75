//! Transports on a virtual wire that loses, reorders and repeats.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::limits::{
    INITIATION_RETRY, INITIATION_TIMEOUT, MAX_DATAGRAM, PREFIX_HANDSHAKE_BURST, RESET_BURST,
    SESSION_IDLE, SUSPECT_AFTER,
};
use super::*;

const DELAY: Duration = Duration::from_millis(10);

/// A node that answers each message `?x` with `!x`, and keeps all that it got.
struct Node {
    transport: Transport,
    addr: SocketAddr,
    identity: Identity,
    got: Vec<(Sender, Vec<u8>)>,
}

/// Nodes, the datagrams between them, and what becomes of these.
struct World {
    nodes: Vec<Node>,
    now: Instant,
    wire: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    rng: ChaCha20Rng,
    /// Of 256 datagrams so many are lost, and so many sent twice.
    loss: u8,
    repeat: u8,
    /// The wire adds up to this to its delay.
    jitter: Duration,
    /// All that was sent, for replays: from, to, octets.
    log: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl World {
    fn new(nodes: u8, seed: u64) -> Self {
        let now = Instant::from_micros(1);
        Self {
            nodes: (0..nodes).map(|n| node(n, n, now)).collect(),
            now,
            wire: BTreeMap::new(),
            sent: 0,
            rng: ChaCha20Rng::seed_from_u64(seed),
            loss: 0,
            repeat: 0,
            jitter: Duration::ZERO,
            log: Vec::new(),
        }
    }

    fn send(&mut self, from: usize, to: usize, message: &[u8]) {
        let (addr, identity) = (self.nodes[to].addr, self.nodes[to].identity);
        self.nodes[from].transport.send(self.now, addr, Some(identity), message);
        self.drain(from);
    }

    fn inject(&mut self, from: SocketAddr, to: usize, bytes: &[u8]) {
        self.nodes[to].transport.handle_datagram(self.now, from, bytes);
        self.drain(to);
    }

    fn drain(&mut self, index: usize) {
        let mut buf = Vec::new();
        loop {
            let node = &mut self.nodes[index];
            match node.transport.poll_output(&mut buf) {
                Output::Deliver(from) => {
                    if let Some(rest) = buf.strip_prefix(b"?") {
                        let answer = [b"!", rest].concat();
                        let to = Some(from.identity);
                        node.transport.send(self.now, from.addr, to, &answer);
                    }
                    node.got.push((from, buf.clone()));
                }
                Output::Transmit(to) => {
                    assert!(buf.len() <= MAX_DATAGRAM);
                    let from = node.addr;
                    self.log.push((from, to, buf.clone()));
                    self.carry(from, to, &buf);
                }
                Output::Idle { wake } => {
                    assert!(wake.is_some() || node.transport.stats().peers == 0);
                    return;
                }
            }
        }
    }

    fn carry(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let dice = self.rng.next_u64().to_be_bytes();
        let copies = if dice[0] < self.loss { 0 } else { 1 + u8::from(dice[1] < self.repeat) };
        for copy in 0..copies {
            let share = u32::from(dice[usize::from(2 + copy)]);
            let at = self.now + DELAY + self.jitter * share / 256;
            self.sent += 1;
            self.wire.insert((at, self.sent), (from, to, bytes.to_vec()));
        }
    }

    /// Lets `time` pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.wire.first_entry().filter(|e| e.key().0 <= end) {
            self.now = entry.key().0;
            let (from, to, bytes) = entry.remove();
            if let Some(index) = self.nodes.iter().position(|n| n.addr == to) {
                self.inject(from, index, &bytes);
            }
        }
        self.now = end;
        for index in 0..self.nodes.len() {
            self.nodes[index].transport.handle_timeout(end);
            self.drain(index);
        }
    }

    fn messages(&self, node: usize) -> Vec<&[u8]> {
        self.nodes[node].got.iter().map(|(_, message)| &message[..]).collect()
    }

    fn dropped(&self, node: usize) -> TransportDropped {
        self.nodes[node].transport.stats().dropped
    }

    /// Sends `message` again and again, as the core does, until its answer is there.
    fn ask(&mut self, from: usize, to: usize, name: &str) -> bool {
        let (question, answer) = (format!("?{name}"), format!("!{name}"));
        (0..30).any(|_| {
            self.send(from, to, question.as_bytes());
            self.run(Duration::from_millis(400));
            self.messages(from).contains(&answer.as_bytes())
        })
    }
}

fn node(host: u8, key: u8, now: Instant) -> Node {
    let keys = Keys::from_seed(&[key + 1; 32]);
    let identity = keys.identity();
    let addr = SocketAddr::from(([127, 0, 0, host + 1], 7400));
    Node { transport: Transport::new(keys, [key + 101; 32], now), addr, identity, got: Vec::new() }
}

#[test]
fn a_stranger_is_answered_within_one_round_trip() {
    let mut world = World::new(2, 1);
    world.send(0, 1, b"?x");
    world.run(DELAY * 2);
    assert_eq!(world.messages(0), [b"!x"]);
    assert_eq!(world.log.len(), 2, "one datagram each way");
    let (request, answer) = (&world.nodes[1].got[0].0, &world.nodes[0].got[0].0);
    assert!(!request.proven, "the first may come from a forged address");
    assert!(answer.proven && answer.identity == world.nodes[1].identity);

    world.send(0, 1, b"?y");
    world.run(DELAY * 2);
    assert!(world.nodes[1].got[1].0.proven, "it has got our Response");
    assert_eq!(world.nodes[0].transport.stats().handshakes, 1);
    assert_eq!(world.messages(0), [b"!x", b"!y"]);
}

#[test]
fn no_answer_is_larger_than_what_caused_it() {
    let mut world = World::new(2, 1);
    let long = [&b"?"[..], &[7; MAX_PLAINTEXT - 1]].concat();
    world.send(0, 1, &long[..INIT_ROOM]);
    world.run(DELAY * 2);
    world.send(0, 1, b"?x");
    let stranger = SocketAddr::from(([127, 0, 0, 99], 1));
    let mut probes: Vec<_> = world.log.iter().map(|(_, _, bytes)| bytes.clone()).collect();
    probes.push(Datagram::WhoAreYou { nonce: [1; 16] }.encode());
    probes.push(Datagram::Data { receiver: SessionId(1), nonce: 1, ciphertext: &[0; 16] }.encode());
    for bytes in probes {
        let before = world.log.len();
        world.inject(stranger, 1, &bytes);
        let answers: usize = world.log[before..].iter().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(answers <= bytes.len(), "{answers} after {}", bytes.len());
    }
}

#[test]
fn a_message_too_long_for_the_init_follows_it() {
    let mut world = World::new(2, 1);
    for length in [INIT_ROOM, INIT_ROOM + 1, MAX_PLAINTEXT] {
        let message = vec![7; length];
        world.send(0, 1, &message);
        world.run(DELAY * 3);
        assert_eq!(world.messages(1).last(), Some(&&message[..]), "{length}");
        world.run(SESSION_IDLE);
    }
    assert_eq!(world.nodes[0].transport.stats().handshakes, 3);
}

#[test]
fn a_seed_is_asked_who_it_is() {
    let mut world = World::new(2, 1);
    let seed = world.nodes[1].addr;
    for message in [b"?x", b"?y"] {
        world.nodes[0].transport.send(world.now, seed, None, message);
        world.drain(0);
    }
    world.run(DELAY * 6);
    assert_eq!(world.messages(0), [b"!x", b"!y"]);
    assert_eq!(world.nodes[0].got[0].0.identity, world.nodes[1].identity);
    world.nodes[0].transport.send(world.now, seed, None, b"?z");
    world.drain(0);
    world.run(DELAY * 2);
    assert_eq!(world.messages(0).last(), Some(&&b"!z"[..]), "known by now: no second question");
}

#[test]
fn a_forged_i_am_is_refused() {
    let mut world = World::new(3, 1);
    let seed = world.nodes[1].addr;
    world.nodes[0].transport.send(world.now, seed, None, b"?x");
    world.drain(0);
    let question = world.log[0].2.clone();
    let Some(Datagram::WhoAreYou { nonce }) = Datagram::parse(&question) else {
        panic!("a seed is asked first");
    };
    let liar = Keys::from_seed(&[3; 32]);
    let signature = liar.sign_i_am(&nonce);
    let victim = world.nodes[1].identity;
    let forged = Datagram::IAm { nonce, identity: victim, signature: &signature }.encode();
    world.inject(seed, 0, &forged);
    let elsewhere = Datagram::IAm { nonce, identity: liar.identity(), signature: &signature };
    world.inject(world.nodes[2].addr, 0, &elsewhere.encode());
    assert_eq!((world.dropped(0).forged, world.dropped(0).unsolicited), (1, 1));
    world.run(DELAY * 4);
    assert_eq!(world.messages(0), [b"!x"], "the true answer still counts");
}

#[test]
fn crossing_handshakes_both_serve() {
    let mut world = World::new(2, 1);
    world.send(0, 1, b"?a");
    world.send(1, 0, b"?b");
    world.run(DELAY * 4);
    for name in ["c", "d", "e"] {
        assert!(world.ask(0, 1, name) && world.ask(1, 0, name));
    }
    assert!(world.messages(0).contains(&&b"!a"[..]) && world.messages(1).contains(&&b"!b"[..]));
    assert_eq!(world.nodes[0].transport.stats().handshakes, 2, "one from each side, no more");
    assert_eq!(world.dropped(0).unknown_session + world.dropped(1).unknown_session, 0);
}

#[test]
fn a_lost_response_is_made_up_by_the_next_attempt() {
    let mut world = World::new(2, 1);
    world.send(0, 1, b"?x");
    world.wire.clear();
    world.send(0, 1, b"?x");
    assert!(world.wire.is_empty(), "too soon for another handshake: it waits");
    world.run(INITIATION_RETRY);
    world.send(0, 1, b"?x");
    world.run(DELAY * 4);
    assert!(world.messages(0).contains(&&b"!x"[..]));
}

#[test]
fn a_late_response_to_the_first_attempt_still_serves() {
    let mut world = World::new(2, 1);
    world.send(0, 1, b"?x");
    world.run(DELAY);
    let late = world.wire.pop_first().unwrap().1;
    world.run(INITIATION_RETRY);
    world.send(0, 1, b"?y");
    world.wire.clear();
    world.inject(late.0, 0, &late.2);
    assert_eq!(world.messages(0), [b"!x"]);
}

#[test]
fn a_restarted_peer_is_met_anew_at_once() {
    let mut world = World::new(2, 1);
    assert!(world.ask(0, 1, "x") && world.ask(0, 1, "y"));
    let now = world.now;
    world.nodes[1] = node(1, 1, now);
    world.nodes[1].transport = Transport::new(Keys::from_seed(&[2; 32]), [77; 32], now);
    world.send(0, 1, b"?lost");
    world.run(DELAY * 4);
    world.send(0, 1, b"?z");
    world.run(DELAY * 2);
    assert_eq!(world.messages(0).last(), Some(&&b"!z"[..]));
    assert!(world.nodes[1].got[0].0.proven, "the handshake went ahead of the message");
}

#[test]
fn a_session_lost_without_a_reset_is_suspected() {
    let mut world = World::new(2, 1);
    assert!(world.ask(0, 1, "x"));
    world.nodes[1].transport = Transport::new(Keys::from_seed(&[2; 32]), [77; 32], world.now);
    for _ in 0..3 {
        world.send(0, 1, b"?y");
        let datagrams = std::mem::take(&mut world.wire);
        world.wire = datagrams.into_iter().filter(|(_, d)| d.2.len() == MAX_DATAGRAM).collect();
        world.run(SUSPECT_AFTER);
    }
    assert_eq!(world.messages(0).last(), Some(&&b"!y"[..]));
}

#[test]
fn a_forged_reset_ends_nothing() {
    let mut world = World::new(2, 1);
    assert!(world.ask(0, 1, "x") && world.ask(0, 1, "y"));
    let before = world.nodes[0].transport.stats().handshakes;
    for receiver in [0, 1, u64::MAX] {
        let reset = Datagram::Reset { receiver: SessionId(receiver), nonce: 0 }.encode();
        world.inject(world.nodes[1].addr, 0, &reset);
    }
    assert_eq!(world.dropped(0).unsolicited, 3);
    assert!(world.ask(0, 1, "z"));
    assert_eq!(world.nodes[0].transport.stats().handshakes, before);
}

#[test]
fn who_forges_an_address_meets_no_session_of_its_owner() {
    let mut world = World::new(3, 1);
    assert!(world.ask(0, 1, "x") && world.ask(0, 1, "y"));
    let owner = world.nodes[0].addr;
    world.send(2, 1, b"?forged");
    let (_, (_, _, init)) = world.wire.pop_first().unwrap();
    world.inject(owner, 1, &init);
    let (from, _) = world.nodes[1].got.last().unwrap();
    assert_eq!((from.identity, from.proven), (world.nodes[2].identity, false));
    world.run(DELAY);
    assert!(world.ask(1, 0, "z"), "the session with the owner still serves");
}

#[test]
fn an_init_held_back_and_sent_late_diverts_nothing() {
    let mut world = World::new(2, 1);
    world.send(0, 1, b"?held");
    let (_, (owner, _, init)) = world.wire.pop_first().unwrap();
    world.run(INITIATION_RETRY);
    assert!(world.ask(0, 1, "x") && world.ask(0, 1, "y"));
    world.run(INITIATION_TIMEOUT);
    world.inject(owner, 1, &init);
    world.wire.clear();
    world.send(1, 0, b"?z");
    world.run(DELAY * 2);
    assert_eq!(world.messages(1).last(), Some(&&b"!z"[..]), "by the session that is proven");
}

#[test]
fn whatever_is_repeated_is_delivered_once() {
    let mut world = World::new(2, 1);
    assert!(world.ask(0, 1, "x") && world.ask(1, 0, "y") && world.ask(0, 1, "z"));
    let before = [world.messages(0).len(), world.messages(1).len()];
    for (from, to, bytes) in world.log.clone() {
        let to = usize::from(to == world.nodes[1].addr);
        world.inject(from, to, &bytes);
    }
    assert_eq!([world.messages(0).len(), world.messages(1).len()], before);
    assert!(world.dropped(0).replayed > 0 && world.dropped(1).replayed > 0);
}

#[test]
fn data_from_another_address_is_refused() {
    let mut world = World::new(2, 1);
    assert!(world.ask(0, 1, "x"));
    world.send(0, 1, b"?y");
    let (_, (_, _, data)) = world.wire.pop_first().unwrap();
    let before = world.log.len();
    world.inject(SocketAddr::from(([127, 0, 0, 9], 7400)), 1, &data);
    assert_eq!(world.dropped(1).unknown_session, 1);
    assert_eq!(world.log.len(), before, "no Reset either: the session lives");
}

#[test]
fn a_flood_is_limited() {
    let mut world = World::new(2, 1);
    let noise = [&[0x11_u8][..], &[9; MAX_DATAGRAM - 1]].concat();
    let stray = [&[0x13_u8][..], &[9; 100]].concat();
    let flooder = SocketAddr::from(([192, 0, 2, 1], 1));
    for _ in 0..1_000 {
        world.inject(flooder, 1, &noise);
        world.inject(flooder, 1, &stray);
    }
    assert_eq!(world.dropped(1).forged, PREFIX_HANDSHAKE_BURST);
    assert_eq!(world.dropped(1).limited, 1_000 - PREFIX_HANDSHAKE_BURST);
    assert_eq!(world.log.len() as u64, RESET_BURST);
    assert_eq!(world.nodes[1].transport.stats().peers, 0);
    assert!(world.ask(0, 1, "x"), "others are still served");
}

#[test]
fn what_is_idle_is_forgotten() {
    let mut world = World::new(2, 1);
    assert!(world.ask(0, 1, "x"));
    world.run(SESSION_IDLE);
    world.run(SESSION_IDLE);
    for node in &world.nodes {
        assert_eq!(node.transport.stats().peers, 0);
    }
}

#[test]
fn an_identity_that_is_no_key_is_counted() {
    let mut world = World::new(2, 1);
    let addr = world.nodes[1].addr;
    world.nodes[0].transport.send(world.now, addr, Some(Identity([0; 32])), b"?x");
    world.drain(0);
    assert_eq!(world.dropped(0).no_identity, 1);
    world.run(Duration::from_secs(2));
    assert_eq!(world.nodes[0].transport.stats().peers, 0);
}

#[test]
fn a_node_may_meet_itself() {
    let mut world = World::new(1, 1);
    let own = world.nodes[0].addr;
    for _ in 0..3 {
        world.nodes[0].transport.send(world.now, own, None, b"?x");
        world.drain(0);
        world.run(DELAY * 6);
    }
    assert!(world.messages(0).contains(&&b"!x"[..]));
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let run = |seed| {
        let mut world = World::new(3, seed);
        (world.loss, world.repeat, world.jitter) = (60, 30, DELAY * 3);
        for name in ["a", "b", "c"] {
            world.ask(0, 1, name);
            world.ask(1, 2, name);
            world.ask(2, 0, name);
        }
        world.log
    };
    assert!(run(1) == run(1));
    assert!(run(1) != run(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Every question is answered in the end, however bad the wire, and nothing is made up.
    #[test]
    fn a_bad_wire_only_delays(seed: u64, loss in 0_u8..100, repeat in 0_u8..100, jitter in 0_u32..8) {
        let mut world = World::new(2, seed);
        (world.loss, world.repeat, world.jitter) = (loss, repeat, DELAY * jitter);
        for name in ["a", "b", "c", "d", "e", "f"] {
            prop_assert!(world.ask(0, 1, name), "{name} of seed {seed}");
            prop_assert!(world.ask(1, 0, name), "{name} of seed {seed}");
        }
        for node in &world.nodes {
            let other = world.nodes.iter().find(|n| n.addr != node.addr).unwrap();
            prop_assert!(node.got.iter().all(|(from, _)| from.identity == other.identity));
            prop_assert!(node.got.iter().all(|(_, m)| m.len() == 2));
        }
    }

    /// Garbage, cut and altered datagrams change nothing for those who mean well.
    #[test]
    fn garbage_is_dropped(
        seed: u64,
        garbage in prop::collection::vec(
            (0x10_u8..0x18, prop::collection::vec(any::<u8>(), 0..1300)), 0..40),
        alterations in prop::collection::vec((any::<usize>(), any::<usize>(), 1_u8..), 0..40),
    ) {
        let mut world = World::new(2, seed);
        prop_assert!(world.ask(0, 1, "a") && world.ask(1, 0, "b"));
        let addr = world.nodes[0].addr;
        let before = world.messages(1).len();
        for (kind, mut bytes) in garbage {
            bytes.insert(0, kind);
            world.inject(addr, 1, &bytes);
        }
        for (which, at, bit) in alterations {
            let (from, _, mut bytes) = world.log[which % world.log.len()].clone();
            let at = at % bytes.len();
            bytes[at] ^= bit;
            world.inject(from, 1, &bytes);
            world.inject(from, 1, &bytes[..at]);
        }
        prop_assert_eq!(world.messages(1).len(), before);
        prop_assert!(world.ask(0, 1, "c") && world.ask(1, 0, "d"));
    }
}
