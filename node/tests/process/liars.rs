//! Nodes that lie about content: each kind of lie at real processes, which give right octets only, avoid the liar
//! within three requests, and ask the origin no more than they have to.

mod liar;

use crate::harness::{HTTP, Node, get_site};
use crate::scripted::{Origin, verify};
use coralline_overlay::State;
use liar::{Honest, Liar, Lie};

/// Octets of an object: 13 groups of a proof, and a part of one.
const LENGTH: u64 = 200_000;
/// Objects that each liar claims to hold.
const OBJECTS: usize = 8;
/// Requests after which a node is to leave a liar alone.
const MOST: usize = 3;

const LIES: [(&str, Lie); 7] = [
    ("flips", Lie::Flip { at: 150_000 }),
    ("flips-at-once", Lie::Flip { at: 1_000 }),
    ("truncates", Lie::Truncate { after: 100_000 }),
    ("truncates-receipt", Lie::Truncate { after: 50 }),
    ("other", Lie::Other),
    ("other-name", Lie::OtherName),
    ("broken-signature", Lie::BrokenSignature),
];

/// Who is receiving may wait for an origin, and is waited for.
const DELAYS: [(&str, Lie); 3] = [
    ("never-begins", Lie::Silent),
    ("drips", Lie::Drip { after: 40_000 }),
    ("drips-receipt", Lie::Drip { after: 0 }),
];

fn paths(lie: &str, state: State) -> Vec<String> {
    (0..OBJECTS).map(|n| format!("/{LENGTH}/keep/{lie}-{state:?}-{n}")).collect()
}

/// Asks for all of them, one after the other; each comes whole and right.
fn read_all(node: &Node, host: &str, paths: &[String]) {
    for path in paths {
        let reply = get_site(node.at(HTTP), host, path).unwrap_or_else(|| panic!("{path}: none"));
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.is_whole(), "{path}: {} octets\n{}", reply.body.len(), node.log());
        verify(path, &reply);
    }
}

struct World {
    origin: Origin,
    /// Has all objects, in a network of its own: liars make their lies of what it says.
    honest: Node,
    victims: [Node; 2],
}

impl World {
    fn new() -> Self {
        let (origin, honest) = (Origin::start(), Node::running(&[]));
        let mut a = Node::running(&[]);
        let mut b = Node::running(&[&a]);
        a.wait_neighbour(&b);
        b.wait_neighbour(&a);
        Self { origin, honest, victims: [a, b] }
    }

    /// A liar that all victims know, with pointers to all of `paths` at itself.
    fn liar(&self, lie: Lie, state: State, paths: &[String]) -> Liar {
        let seed = self.victims[0].ip;
        let honest = Honest::of(&self.honest);
        let liar = Liar::start(seed, self.victims.len(), honest, lie);
        liar.claim(self.origin.addr, paths, state);
        liar
    }

    /// Both nodes at once, so that one's patience is not added to the other's.
    fn read(&self, paths: &[String]) {
        let host = self.origin.host();
        std::thread::scope(|scope| {
            for node in &self.victims {
                scope.spawn(|| read_all(node, &host, paths));
            }
        });
    }

    /// One request by the honest node, which is in no network with the others; one for these; and as many
    /// as bring the rest of what a liar began.
    fn check_origin(&self, what: &str, paths: &[String], asked: usize) {
        let of_path = |path: &String| self.origin.asked(path);
        let times: u64 = paths.iter().map(|path| of_path(path).times).sum();
        let octets: u64 = paths.iter().map(|path| of_path(path).octets).sum();
        let all = paths.len() as u64;
        assert!(times <= 2 * all + asked as u64, "{what}: {times} requests for {all}");
        assert!(octets <= (2 * all + asked as u64) * LENGTH, "{what}: {octets} octets");
        println!("{what}: the liar was asked {asked} times, the origin {} for {all}", times - all);
    }
}

fn check(state: State, lies: &[(&str, Lie)]) {
    let world = World::new();
    for (what, lie) in lies {
        let paths = paths(what, state);
        read_all(&world.honest, &world.origin.host(), &paths);
        let liar = world.liar(*lie, state, &paths);
        world.read(&paths);
        let asked = liar.asked();
        assert!(!asked.is_empty(), "{what}: nobody has met the liar");
        assert!(asked.values().all(|count| *count <= MOST), "{what}, {state:?}: {asked:?}");
        world.check_origin(&format!("{what}, {state:?}"), &paths, asked.values().sum());
    }
}

#[test]
fn who_lies_is_avoided_and_does_no_harm() {
    for state in [State::Whole, State::Receiving] {
        check(state, &LIES);
    }
}

#[test]
fn who_delays_is_avoided_and_does_no_harm() {
    std::thread::scope(|scope| {
        for delay in &DELAYS {
            for state in [State::Whole, State::Receiving] {
                scope.spawn(move || check(state, std::slice::from_ref(delay)));
            }
        }
    });
}

/// The same key at another port is still the same liar.
#[test]
fn a_liar_that_moves_is_known_again() {
    let world = World::new();
    let paths = paths("moves", State::Whole);
    read_all(&world.honest, &world.origin.host(), &paths);
    let (first, rest) = paths.split_at(OBJECTS / 2);
    let lie = Lie::Flip { at: 1_000 };
    let mut liar = world.liar(lie, State::Whole, first);
    world.read(first);
    assert!(!liar.asked().is_empty());
    liar.move_away(world.victims[0].ip, world.victims.len());
    liar.claim(world.origin.addr, rest, State::Whole);
    world.read(rest);
    let asked = liar.asked();
    assert!(asked.values().all(|count| *count <= MOST), "{asked:?}");
}

/// Many at once, before anything is known of it.
#[test]
fn a_crowd_that_meets_a_liar_at_once_gets_what_is_right() {
    let world = World::new();
    let paths = paths("crowd", State::Whole);
    read_all(&world.honest, &world.origin.host(), &paths);
    let liar = world.liar(Lie::Flip { at: 150_000 }, State::Whole, &paths);
    let host = world.origin.host();
    std::thread::scope(|scope| {
        for path in &paths {
            for node in &world.victims {
                let (host, path) = (&host, std::slice::from_ref(path));
                scope.spawn(move || read_all(node, host, path));
            }
        }
    });
    let asked = liar.asked();
    println!("a crowd at once: {:?}", asked.values());
    world.check_origin("crowd", &paths, asked.values().sum());
}
