//! Three processes in front of a real nginx: right bytes, one fetch each, and a node that dies.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest, Sha256};

use crate::harness::{HTTP, Node, ask, get_site, three};
use crate::nginx::Nginx;

/// A tree that every Debian has.
const TREE: &str = "/usr/share/doc";
const FILES: usize = 500;
const BIG: usize = 100 << 20;

/// The first `count` regular files below `root`, with the path that a URL has for them.
fn files(root: &Path, count: usize) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && found.len() < count {
                let relative = path.strip_prefix(root).unwrap();
                let url = format!("/{}", encoded(relative.to_str().unwrap()));
                found.push((path, url));
            }
        }
    }
    found
}

fn encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~+".contains(&b);
    path.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Bytes that no compression and no luck makes alike.
fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        // xorshift64*, Vigna 2014.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

#[test]
fn every_file_is_right_at_every_node_and_fetched_once() {
    let Some(nginx) = Nginx::start(Path::new(TREE), "") else { return };
    let nodes = three();
    let host = nginx.host();
    let big = random(BIG, 1);
    fs::write(nginx.made().join("big.bin"), &big).unwrap();
    let mut wanted: Vec<_> = files(Path::new(TREE), FILES);
    assert_eq!(wanted.len(), FILES, "{TREE} has enough files");
    wanted.push((nginx.made().join("big.bin"), "/made/big.bin".to_owned()));

    for (node, source) in nodes.iter().zip(["origin", "peer:", "peer:"]) {
        for (file, path) in &wanted {
            let reply = get_site(node.at(HTTP), &host, path).unwrap();
            assert_eq!(reply.status, 200, "{path}");
            assert_eq!(digest(&reply.body), digest(&fs::read(file).unwrap()), "{path}");
            let status = reply.header("cache-status");
            let (_, detail) = status.rsplit_once("detail=").unwrap();
            assert!(detail.starts_with(source), "{path}: {status}");
        }
    }
    let fetched = nginx.fetched();
    assert_eq!(fetched.len(), wanted.len());
    let twice: Vec<_> = fetched.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let all = wanted.len() as f64;
    let served = |node: &Node, sources: &[&str]| -> f64 {
        let series = |source| format!("coralline_http_requests_total{{source=\"{source}\"}}");
        sources.iter().map(|source| node.metric(&series(source))).sum()
    };
    // Whatever level of the index it was found at.
    let peers = ["peer:L0", "peer:L1", "peer:L2"];
    assert_eq!(served(&nodes[0], &["origin"]), all);
    assert_eq!((served(&nodes[1], &peers), served(&nodes[2], &peers)), (all, all));
}

#[test]
fn heads_ranges_conditions_and_errors_behave() {
    let Some(nginx) = Nginx::start(Path::new("/nonexistent"), "") else { return };
    let nodes = three();
    let body = random(100_000, 2);
    fs::create_dir(nginx.made().join("folder")).unwrap();
    fs::write(nginx.made().join("file.bin"), &body).unwrap();
    for node in &nodes {
        let addr = node.at(HTTP);
        let host = format!("{}:{HTTP}", nginx.host());
        let send = |method, path, field: (&str, &str)| {
            ask(addr, method, path, &[("Host", host.as_str()), field]).unwrap()
        };
        let plain = ("Accept", "*/*");
        let whole = send("GET", "/made/file.bin", plain);
        assert_eq!(whole.body, body);
        let head = send("HEAD", "/made/file.bin", plain);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), "100000");
        let part = send("GET", "/made/file.bin", ("Range", "bytes=1000-1999"));
        assert_eq!((part.status, part.body.as_slice()), (206, &body[1000..2000]));
        assert_eq!(part.header("content-range"), "bytes 1000-1999/100000");
        let etag = whole.header("etag");
        let same = send("GET", "/made/file.bin", ("If-None-Match", etag.as_str()));
        assert_eq!((same.status, same.body.len()), (304, 0));
        let since = whole.header("last-modified");
        let same = send("GET", "/made/file.bin", ("If-Modified-Since", since.as_str()));
        assert_eq!(same.status, 304);
        assert_eq!(send("GET", "/made/none", plain).status, 404);
        assert_eq!(send("GET", "/made/file.bin", ("Range", "bytes=100000-")).status, 416);
        let moved = send("GET", "/made/folder", plain);
        assert_eq!(moved.status, 301);
        assert_eq!(moved.header("location"), format!("http://{host}/made/folder/"));
        assert_eq!(send("POST", "/made/file.bin", plain).status, 405);
    }
    let fetched = nginx.fetched();
    assert!(fetched.values().all(|count| *count == 1), "{fetched:?}");
}

/// Asks, and says once the first octets of the body are here; then the digest of all of it.
fn first_then_all(addr: SocketAddr, host: &str, first: &AtomicUsize) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    let request =
        format!("GET /slow/crowd.bin HTTP/1.1\r\nHost: {host}:1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut start = vec![0; 4096];
    stream.read_exact(&mut start).unwrap();
    first.fetch_add(1, Ordering::Relaxed);
    let at = start.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let mut body = start.split_off(at);
    stream.read_to_end(&mut body).unwrap();
    digest(&body)
}

#[test]
fn fifty_clients_of_three_nodes_are_one_fetch_of_a_large_file() {
    const CLIENTS: usize = 50;
    // Slow enough that all have come before it ends.
    let slow = "location /slow/ { alias made/; limit_rate 20m; }\n";
    let Some(nginx) = Nginx::start(Path::new("/nonexistent"), slow) else { return };
    let nodes = three();
    let body = random(BIG, 3);
    fs::write(nginx.made().join("crowd.bin"), &body).unwrap();
    let expect = digest(&body);
    let (host, first) = (nginx.host(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (addr, host, first) = (nodes[n % 3].at(HTTP), &host, &first);
                scope.spawn(move || first_then_all(addr, host, first))
            })
            .collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), expect);
            // Whoever ends first, all have begun: nobody waited for the whole.
            assert_eq!(first.load(Ordering::Relaxed), CLIENTS);
        }
    });
    assert_eq!(nginx.fetched()["/slow/crowd.bin"], 1);
}

#[test]
fn a_node_dies_under_load_and_the_others_go_on() {
    const OBJECTS: usize = 60;
    let slow = "location /slow/ { alias made/; limit_rate 4m; }\n";
    let Some(nginx) = Nginx::start(Path::new("/nonexistent"), slow) else { return };
    let [mut a, b, c] = three();
    let host = nginx.host();
    let bodies: Vec<_> = (0..OBJECTS).map(|n| random(500_000 + n, n as u64)).collect();
    for (n, body) in bodies.iter().enumerate() {
        fs::write(nginx.made().join(n.to_string()), body).unwrap();
    }
    let digests: Vec<_> = bodies.iter().map(|body| digest(body)).collect();
    let (served, dying) = (AtomicUsize::new(0), AtomicBool::new(false));
    let addr_a = a.at(HTTP);
    thread::scope(|scope| {
        // Clients of the node that dies: whatever they get until then, A is fetching and holding.
        scope.spawn(|| {
            for n in 0..OBJECTS {
                if dying.load(Ordering::Relaxed) {
                    break;
                }
                get_site(addr_a, &host, &format!("/slow/{n}"));
            }
        });
        for (offset, node) in [(0, &b), (1, &c), (2, &b), (3, &c)] {
            let (addr, host, digests, served) = (node.at(HTTP), &host, &digests, &served);
            scope.spawn(move || {
                for round in 0..OBJECTS {
                    let n = (round + offset) % OBJECTS;
                    let reply = get_site(addr, host, &format!("/slow/{n}")).expect("an answer");
                    assert_eq!(reply.status, 200, "object {n}");
                    assert_eq!(digest(&reply.body), digests[n], "object {n}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        b.wait_for(|| served.load(Ordering::Relaxed) > OBJECTS / 2);
        dying.store(true, Ordering::Relaxed);
        a.kill();
    });
    assert_eq!(served.load(Ordering::Relaxed), 4 * OBJECTS);
    let (mut b, mut c) = (b, c);
    a.start(&[]);
    a.wait_ready();
    a.wait_neighbour(&b);
    b.wait_neighbour(&a);
    c.wait_neighbour(&a);
    let reply = get_site(a.at(HTTP), &host, "/slow/0").unwrap();
    assert_eq!(digest(&reply.body), digests[0]);
}
