//! A whole node is killed at random moments of a mixed load, half of them right after it has answered a purge or
//! a change; after each restart every body is checked.
//!
//! 5 rounds; `CORALLINE_KILL_ROUNDS` asks for more, `CORALLINE_KILL_SEED` for other moments.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use crate::harness::{ADMIN, HTTP, Node, Reply, ask, env};
use crate::scripted::{Origin, Script, mix, verify};

const CLIENTS: u64 = 6;
const SITE: &str = "www.example.org";

/// Numbers drawn one after the other.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % end
    }
}

/// A path, and what is known of it.
#[derive(Default)]
struct Known {
    /// Nothing older may be served: this was there when a purge or a change was answered.
    floor: u64,
    /// It was served whole since, and may be kept.
    kept: bool,
}

/// Everything that a round shares.
struct World {
    origin: Origin,
    known: Mutex<BTreeMap<String, Known>>,
    token: String,
    /// The next change that is answered is the last thing that happens.
    due: AtomicBool,
    /// The end is near: what breaks off from now on is broken by it.
    dying: AtomicBool,
    /// Requests that were answered.
    done: AtomicU64,
    /// Responses that broke off, though nobody was killed.
    cut: AtomicU64,
}

impl World {
    fn is_site(path: &str) -> bool {
        path.contains("/site")
    }

    fn host(&self, path: &str) -> String {
        if Self::is_site(path) { SITE.into() } else { self.origin.host() }
    }

    fn note(&self, path: &str, note: impl FnOnce(&mut Known)) {
        note(self.known.lock().unwrap().get_mut(path).expect("all paths are known"));
    }

    fn floor(&self, path: &str) -> u64 {
        self.known.lock().unwrap()[path].floor
    }

    /// GET; nothing if it broke off.
    fn get(&self, node: &Node, path: &str, fields: &[(&str, &str)]) -> Option<Reply> {
        let host = self.host(path);
        let fields = [&[("Host", host.as_str())], fields].concat();
        let reply = ask(node.at(HTTP), "GET", path, &fields).filter(Reply::is_whole);
        if reply.is_none() && !self.dying.load(Ordering::SeqCst) {
            self.cut.fetch_add(1, Ordering::SeqCst);
        }
        reply
    }

    fn read(&self, node: &Node, path: &str, draw: &mut Draw) {
        let floor =
            if path.contains("check/") { self.origin.version(path) } else { self.floor(path) };
        let length = Script::of(path, 0).length;
        let (first, some) = (draw.below(length.max(1)), draw.below(300_000));
        let range = format!("bytes={first}-{}", first + some);
        let tag = format!("\"{}\"", self.origin.version(path));
        let fields = match draw.below(10) {
            0..3 if length > 0 => vec![("Range", range.as_str())],
            3 => vec![("If-None-Match", tag.as_str())],
            _ => vec![],
        };
        let Some(reply) = self.get(node, path, &fields) else { return };
        let version = verify(path, &reply);
        assert!(version >= floor, "{path}: {version} is served, {floor} was there before");
        if reply.status == 200 {
            self.note(path, |known| known.kept |= version >= known.floor);
        }
    }

    /// What is at these paths changes, and the node is told; what it has answered holds.
    fn change(&self, node: &Node, paths: &[String], tell: impl FnOnce() -> Option<Reply>) {
        let versions: Vec<_> = paths.iter().map(|path| self.origin.replace(path)).collect();
        paths.iter().for_each(|path| self.note(path, |known| known.kept = false));
        let Some(reply) = tell() else { return };
        if self.due.swap(false, Ordering::SeqCst) {
            self.dying.store(true, Ordering::SeqCst);
            node.strike();
        }
        assert!(matches!(reply.status, 200 | 204), "{}", reply.text());
        for (path, version) in paths.iter().zip(versions) {
            self.note(path, |known| {
                known.floor = known.floor.max(version);
                known.kept = false;
            });
        }
    }

    fn purge(&self, node: &Node, what: &str) -> Option<Reply> {
        let fields = [("Authorization", self.token.as_str())];
        crate::harness::send(node.at(ADMIN), "POST", "/purge", &fields, what)
    }

    /// One client's load, until the node dies.
    fn load(&self, node: &Node, mut draw: Draw) {
        let paths: Vec<_> = self.known.lock().unwrap().keys().cloned().collect();
        while !self.dying.load(Ordering::SeqCst) {
            let n = usize::try_from(draw.below(paths.len() as u64)).unwrap();
            let path = &paths[n];
            let hard = draw.below(2) == 0;
            match draw.below(100) {
                0..12 => _ = self.origin.replace(path),
                12..20 if Self::is_site(path) => {
                    self.change(node, std::slice::from_ref(path), || {
                        crate::harness::send(node.at(HTTP), "POST", path, &[("Host", SITE)], "x")
                    });
                }
                12..20 => self.change(node, std::slice::from_ref(path), || {
                    let url = format!("http://{}{path}", self.origin.host());
                    self.purge(node, &format!("{{\"urls\": [\"{url}\"], \"hard\": {hard}}}"))
                }),
                20 => {
                    let start = path.rsplit_once('/').expect("a path has a slash").0.to_owned();
                    let group: Vec<_> =
                        paths.iter().filter(|path| path.starts_with(&start)).cloned().collect();
                    self.change(node, &group, || {
                        let url = format!("http://{}{start}/", self.host(path));
                        let what = format!("{{\"prefixes\": [\"{url}\"], \"hard\": {hard}}}");
                        self.purge(node, &what)
                    });
                }
                _ => self.read(node, path, &mut draw),
            }
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Checks all that is kept; returns how much was expected, and how much of that is there.
    fn check(&self, node: &Node) -> (usize, usize) {
        let known = self.known.lock().unwrap();
        let (mut expected, mut found) = (0, 0);
        for (path, Known { floor, kept }) in &*known {
            let reply = self.get(node, path, &[("Cache-Control", "only-if-cached")]);
            let reply = reply.expect("nobody kills it now");
            let there = reply.status == 200;
            assert!(there || reply.status == 504, "{path}: {}", reply.status);
            if there {
                let version = verify(path, &reply);
                assert!(version >= *floor, "{path}: {version} is back, {floor} was there before");
            }
            if *kept && !path.contains("check/") {
                expected += 1;
                found += usize::from(there);
            }
        }
        (expected, found)
    }
}

/// Small ones and some in several slices, of every kind, behind the suffix and under the site's name.
fn paths() -> BTreeMap<String, Known> {
    let lengths = [0, 1, 300, 5_000, 40_000, 70_000, 600_000, 3_000_000];
    let kinds = ["keep", "check", "chunked", "site", "site-check"];
    let path = |n: u64, kind: &str, length: &u64| format!("/{length}/{kind}/{n}");
    (0..4)
        .flat_map(|n| kinds.map(|kind| (n, kind)))
        .flat_map(|(n, kind)| lengths.iter().map(move |length| path(n, kind, length)))
        .map(|path| (path, Known::default()))
        .collect()
}

#[test]
fn a_node_killed_at_any_moment_serves_no_wrong_octet_and_nothing_that_was_purged() {
    let number = |name: &str, usual: u64| env(name).map_or(usual, |text| text.parse().unwrap());
    let rounds = number("CORALLINE_KILL_ROUNDS", 5);
    let seed = number("CORALLINE_KILL_SEED", 1);
    println!("CORALLINE_KILL_ROUNDS={rounds} CORALLINE_KILL_SEED={seed}");
    let mut world = World {
        origin: Origin::start(),
        known: Mutex::new(paths()),
        token: String::new(),
        due: AtomicBool::new(false),
        dying: AtomicBool::new(false),
        done: AtomicU64::new(0),
        cut: AtomicU64::new(0),
    };
    let mut node = Node::new(&[]);
    let config = fs::read_to_string(node.config()).unwrap();
    let site = format!("[[site]]\nhost = \"{SITE}\"\norigin = \"http://{}\"\n", world.origin.addr);
    fs::write(node.config(), config + &site).unwrap();
    let sets = ["cache.memory=32MiB", "cache.disk=256MiB"];
    let (mut expected, mut found, mut requests) = (0, 0, 0);
    for round in 0..rounds {
        let mut draw = Draw(mix(seed ^ round << 32));
        node.start(&sets);
        if draw.below(10) == 0 {
            // It has hardly begun.
            sleep(Duration::from_micros(draw.below(200_000)));
            node.kill();
            node.start(&sets);
        }
        node.wait_ready();
        world.token = node.token();
        world.dying = AtomicBool::new(false);
        let (wanted, there) = world.check(&node);
        (expected, found) = (expected + wanted, found + there);
        let until = requests + 1 + draw.below(600);
        scope(|scope| {
            let (world, node) = (&world, &node);
            for client in 0..CLIENTS {
                let draw = Draw(mix(seed ^ round << 32 ^ (1 + client) << 24));
                scope.spawn(move || world.load(node, draw));
            }
            node.wait_for(|| world.done.load(Ordering::SeqCst) >= until);
            if draw.below(2) == 0 {
                world.due.store(true, Ordering::SeqCst);
                node.wait_for(|| world.dying.load(Ordering::SeqCst));
            }
            sleep(Duration::from_micros(draw.below(5_000)));
            world.dying.store(true, Ordering::SeqCst);
            node.strike();
        });
        node.kill();
        requests = world.done.load(Ordering::SeqCst);
    }
    let cut = world.cut.load(Ordering::SeqCst);
    println!(
        "{rounds} kills, {requests} requests; of {expected} responses that had been served {found} were there after the restart; {cut} were cut off"
    );
    assert!(found * 10 >= expected * 8, "the cache survives");
}
