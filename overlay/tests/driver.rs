//! Nodes with real sockets on loopback: what the driver adds to the core.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so well enough")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use coralline_config::{Config, HostPort};
use coralline_overlay::{
    Claim, Handle, IndexError, Key, NodeId, Pointer, Services, StartError, State, start,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Nothing here takes nearly as long, unless the machine does.
const DEADLINE: Duration = Duration::from_secs(90);
const TTL: Duration = Duration::from_secs(600);

struct Node {
    handle: Handle,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    state: TempDir,
}

impl Node {
    async fn start(host: u8, seeds: &[&Node]) -> Self {
        let seeds: Vec<_> = seeds.iter().map(|node| node.addr()).collect();
        Self::start_in(tempfile::tempdir().unwrap(), host, &seeds).await
    }

    async fn start_in(state: TempDir, host: u8, seeds: &[SocketAddr]) -> Self {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let config = config(&state, host, seeds);
        let (handle, task) = start(&config, Services::PROXY, shutdown).await.unwrap();
        Self { handle, task, stop, state }
    }

    fn addr(&self) -> SocketAddr {
        self.handle.local().addr
    }

    fn id(&self) -> NodeId {
        self.handle.local().id()
    }

    fn knows(&self, other: NodeId) -> bool {
        let directory = self.handle.directory();
        directory.joined && directory.neighbours.iter().any(|n| n.contact.id() == other)
    }

    fn pointer(&self, state: State) -> Pointer {
        Pointer { holder: self.handle.local(), state, length: Some(7), root: None }
    }

    /// Ends it as an operator would.
    async fn shutdown(self) -> TempDir {
        drop(self.stop);
        timeout(DEADLINE, self.task).await.expect("it ends").expect("it does not panic");
        self.state
    }
}

fn config(state: &TempDir, host: u8, seeds: &[SocketAddr]) -> Config {
    let seed = |addr: &SocketAddr| HostPort { host: addr.ip().to_string(), port: addr.port() };
    let overlay = coralline_config::Overlay {
        listen: SocketAddr::from(([127, 0, 0, host], 0)),
        seeds: seeds.iter().map(seed).collect(),
        ..Default::default()
    };
    Config { state_dir: state.path().join("state"), overlay, ..Config::default() }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(DEADLINE, wait).await.is_ok(), "{what}");
}

/// Three nodes that know one another.
async fn network() -> [Node; 3] {
    let a = Node::start(1, &[]).await;
    let b = Node::start(2, &[&a]).await;
    let c = Node::start(3, &[&a]).await;
    let nodes = [a, b, c];
    until("all know all", || {
        nodes.iter().all(|n| nodes.iter().all(|m| n.id() == m.id() || n.knows(m.id())))
    })
    .await;
    nodes
}

/// Whom `node` is told to hold `key`.
async fn holders(node: &Node, key: Key) -> Vec<NodeId> {
    let found = node.handle.get(key).await.unwrap();
    found.pointers.iter().map(|pointer| pointer.holder.id()).collect()
}

#[tokio::test]
async fn what_one_puts_all_get() {
    let nodes = network().await;
    for (n, node) in nodes.iter().enumerate() {
        let key = Key::of_name(format!("thing {n}").as_bytes());
        for other in &nodes {
            assert_eq!(holders(other, key).await, []);
        }
        node.handle.put(key, node.pointer(State::Whole), TTL).await.unwrap();
        for other in &nodes {
            assert_eq!(holders(other, key).await, [node.id()]);
        }
        node.handle.withdraw(key).await.unwrap();
        for other in &nodes {
            assert_eq!(holders(other, key).await, []);
        }
    }
}

#[tokio::test]
async fn one_of_those_who_claim_at_once_has_it() {
    let nodes = network().await;
    for n in 0..20 {
        let key = Key::of_name(format!("thing {n}").as_bytes());
        let claim = |node: &Node| {
            let (handle, pointer) = (node.handle.clone(), node.pointer(State::Receiving));
            async move { handle.claim(key, pointer, TTL).await.unwrap() }
        };
        let [a, b, c] = &nodes;
        let (a, b, c) = tokio::join!(claim(a), claim(b), claim(c));
        let claims = [a, b, c];
        let winner = claims.iter().position(|claim| *claim == Claim::Claimed);
        let winner = nodes[winner.expect("somebody has it")].id();
        let held = claims.iter().filter(|claim| match claim {
            Claim::Claimed => false,
            Claim::Held(found) => found.pointers.iter().any(|p| p.holder.id() == winner),
        });
        assert_eq!(held.count(), 2, "{claims:?}");
    }
}

#[tokio::test]
async fn what_one_tells_all_is_heard_once() {
    let nodes = network().await;
    let [a, b, c] = &nodes;
    let mut heard = [b.handle.broadcasts(), c.handle.broadcasts()];
    let mut own = a.handle.broadcasts();
    for n in 0..20 {
        a.handle.broadcast(7, &[n]).await.unwrap();
    }
    for listener in &mut heard {
        let mut contents = Vec::new();
        for _ in 0..20 {
            let message = timeout(DEADLINE, listener.next()).await.unwrap().unwrap();
            assert_eq!((message.from, message.kind), (a.handle.local().identity, 7));
            contents.extend(message.content);
        }
        contents.sort_unstable();
        assert_eq!(contents, (0..20).collect::<Vec<_>>());
    }
    b.handle.broadcast(8, b"back").await.unwrap();
    let message = timeout(DEADLINE, own.next()).await.unwrap().unwrap();
    assert_eq!((message.kind, &message.content[..]), (8, &b"back"[..]), "not its own, nor twice");
    until("all is counted", || c.handle.broadcast_stats().delivered == 21).await;
    assert_eq!(a.handle.broadcast_stats().sent, 20);
    let long = vec![0; coralline_overlay::MAX_CONTENT + 1];
    assert_eq!(a.handle.broadcast(1, &long).await, Err(IndexError::TooLarge));
    let mut busy = 0;
    for n in 0..100 {
        busy += usize::from(a.handle.broadcast(9, &[n]).await == Err(IndexError::Busy));
    }
    assert_eq!(busy, 60, "a node sends 60 a minute");
    let [a, ..] = nodes;
    a.shutdown().await;
    assert_eq!(own.next().await, None, "the overlay has ended");
}

#[tokio::test]
async fn a_lone_node_serves_itself() {
    let node = Node::start(1, &[]).await;
    assert!(node.handle.directory().joined, "it is the first");
    let key = Key::of_name(b"thing");
    let claim = node.handle.claim(key, node.pointer(State::Receiving), TTL).await;
    assert_eq!(claim, Ok(Claim::Claimed));
    assert_eq!(holders(&node, key).await, [node.id()]);
}

#[tokio::test]
async fn a_killed_node_leaves_the_directory() {
    let [a, b, c] = network().await;
    let gone = c.id();
    c.task.abort();
    until("the others notice", || !a.knows(gone) && !b.knows(gone)).await;
    assert!(a.knows(b.id()) && b.knows(a.id()), "and keep each other");
    let key = Key::of_name(b"thing");
    a.handle.put(key, a.pointer(State::Whole), TTL).await.unwrap();
    assert_eq!(holders(&b, key).await, [a.id()]);
}

#[tokio::test]
async fn a_node_returns_by_its_saved_contacts() {
    let [a, b, c] = network().await;
    let identity = c.handle.local().identity;
    let state = c.shutdown().await;
    // At a port of its own choice again, so that nobody could find it by itself.
    let c = Node::start_in(state, 3, &[]).await;
    assert_eq!(c.handle.local().identity, identity);
    until("it is back", || c.knows(a.id()) && c.knows(b.id())).await;
    until("and known", || a.knows(c.id()) && b.knows(c.id())).await;
}

#[tokio::test]
async fn a_first_node_that_is_killed_returns_to_the_others() {
    let [a, b, c] = network().await;
    let file = a.state.path().join("state/contacts.txt");
    until("contacts are saved soon", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        [&b, &c].iter().all(|node| text.contains(&node.addr().to_string()))
    })
    .await;
    a.task.abort();
    let a = Node::start_in(a.state, 1, &[]).await;
    until("it is back", || a.knows(b.id()) && a.knows(c.id())).await;
}

#[tokio::test]
async fn a_node_whose_seed_comes_later_joins_then() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let early = Node::start_in(tempfile::tempdir().unwrap(), 2, &[port]).await;
    assert!(!early.handle.directory().joined, "its seed does not answer");
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&state, 1, &[]);
    config.overlay.listen = port;
    let (seed, _task) = start(&config, Services::PROXY, std::future::pending()).await.unwrap();
    until("it has joined", || early.knows(seed.local().id())).await;
}

#[tokio::test]
async fn a_seed_without_a_name_keeps_a_node_from_being_the_first() {
    let state = tempfile::tempdir().unwrap();
    let mut config = config(&state, 1, &[]);
    config.overlay.seeds = vec![HostPort { host: "no name at all".into(), port: 7400 }];
    let (handle, task) = start(&config, Services::PROXY, std::future::pending()).await.unwrap();
    assert!(!handle.directory().joined);
    task.abort();
}

#[tokio::test]
async fn noise_at_the_port_is_dropped() {
    let nodes = network().await;
    let [a, b, _] = &nodes;
    let target = b.addr();
    let flood = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.9:0").unwrap();
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut octet = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        for n in 0..10_000_usize {
            let length = [n % 64, 1_200, 113, n % 1_400][n % 4];
            let mut bytes: Vec<u8> = (0..length).map(|_| octet()).collect();
            if let Some(kind) = bytes.first_mut().filter(|_| n % 3 != 0) {
                *kind = 0x10 + octet() % 8;
            }
            socket.send_to(&bytes, target).unwrap();
            if n % 100 == 0 {
                std::thread::yield_now();
            }
        }
    });
    let key = Key::of_name(b"thing");
    b.handle.put(key, b.pointer(State::Whole), TTL).await.unwrap();
    flood.await.unwrap();
    assert_eq!(holders(a, key).await, [b.id()]);
    let dropped = b.handle.transport_stats().dropped;
    assert!(dropped.malformed > 0 && dropped.forged > 0, "{dropped:?}");
    // A newcomer, who needs a handshake of its own, is let in as well.
    let newcomer = Node::start(4, &[b]).await;
    until("the newcomer is in", || newcomer.knows(b.id())).await;
}

#[tokio::test]
async fn calls_after_the_end_are_told_so() {
    let node = Node::start(1, &[]).await;
    let handle = node.handle.clone();
    node.shutdown().await;
    assert_eq!(handle.get(Key::of_name(b"thing")).await, Err(IndexError::Stopped));
    assert!(handle.directory().joined, "the last snapshot stays");
}

#[tokio::test]
async fn calls_that_are_given_up_do_no_harm() {
    let nodes = network().await;
    let key = Key::of_name(b"thing");
    for node in &nodes {
        for _ in 0..50 {
            let _ = timeout(Duration::ZERO, node.handle.get(key)).await;
        }
        assert_eq!(holders(node, key).await, []);
    }
}

#[tokio::test]
async fn what_keeps_a_node_from_starting_is_said_in_one_line() {
    let check = |result: Result<(Handle, JoinHandle<()>), StartError>, words: &[&str]| {
        let error = result.unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    let services = Services::PROXY;
    let state = tempfile::tempdir().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let taken = UdpSocket::bind(taken).unwrap();

    let mut config = config(&state, 1, &[]);
    config.overlay.listen = taken.local_addr().unwrap();
    let addr = config.overlay.listen.to_string();
    let result = start(&config, services, std::future::pending()).await;
    check(result, &["overlay.listen", &addr, "in use"]);

    config.overlay.listen = "0.0.0.0:0".parse().unwrap();
    let result = start(&config, services, std::future::pending()).await;
    check(result, &["overlay.listen", "0.0.0.0:0", "public_addr"]);

    config.overlay.listen = "127.0.0.1:0".parse().unwrap();
    config.state_dir = state.path().join("file");
    std::fs::write(&config.state_dir, b"").unwrap();
    let result = start(&config, services, std::future::pending()).await;
    check(result, &["state_dir", &config.state_dir.display().to_string()]);

    config.state_dir = state.path().join("state");
    std::fs::create_dir(&config.state_dir).unwrap();
    std::fs::write(config.state_dir.join("identity.key"), [7; 31]).unwrap();
    let result = start(&config, services, std::future::pending()).await;
    check(result, &["identity.key", "32 octets", "31"]);

    std::fs::remove_file(config.state_dir.join("identity.key")).unwrap();
    std::fs::write(config.state_dir.join("contacts.txt"), b"garbage\n").unwrap();
    let result = start(&config, services, std::future::pending()).await;
    assert!(result.is_ok(), "damaged contacts are ignored");
}
