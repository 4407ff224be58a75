//! As many small responses on disk as the index of a usual node holds: how long a restart takes, and how much
//! memory each of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;

use crate::harness::{HTTP, Node, env, now};
use crate::scripted::{Origin, Script};

const CLIENTS: u64 = 8;

/// GET of many paths over one connection; each body is checked.
fn fetch(node: &Node, host: &str, next: &AtomicU64, count: u64) {
    let mut stream = TcpStream::connect(node.at(HTTP)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= count {
            return;
        }
        let path = format!("/500/keep/some/path/of/usual/length/{n}.html");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        let mut body = [0; 500];
        reader.read_exact(&mut body).unwrap();
        assert!(Script::of(&path, 0).matches(0, &body), "{path}");
    }
}

#[test]
#[ignore = "minutes: cargo test --release -p coralline --test process -- --ignored --nocapture million"]
fn a_million_responses_on_disk() {
    let count = env("CORALLINE_OBJECTS").map_or(1_000_000, |text| text.parse().unwrap());
    let origin = Origin::start();
    let mut node = Node::running(&[]);
    let empty = node.memory();
    let (host, next, start) = (origin.host(), AtomicU64::new(0), now());
    scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| fetch(&node, &host, &next, count));
        }
    });
    println!("{count} responses fetched in {:.0} s", start.elapsed().as_secs_f64());
    let wanted = count as f64 * 0.99;
    node.wait_until("written", |node| node.metric("coralline_disk_objects") >= wanted);
    println!("memory after filling: {} MiB", node.memory() >> 20);
    node.signal("TERM");
    node.wait_end();
    let start = now();
    node.start(&[]);
    node.wait_ready();
    let took = start.elapsed().as_secs_f64();
    node.wait_until("counted", |node| node.metric("coralline_disk_objects") >= wanted);
    let (memory, objects) = (node.memory(), node.metric("coralline_disk_objects"));
    let each = memory.saturating_sub(empty) as f64 / objects;
    println!(
        "restarted with {objects} responses on disk: ready after {took:.2} s; memory {} MiB, {} MiB \
         with none: {each:.0} octets each",
        memory >> 20,
        empty >> 20
    );
    // Of the whole it is a sample that is read again, all of it from disk.
    let (asked, next) = (origin.requests(), AtomicU64::new(count - count / 100));
    fetch(&node, &host, &next, count);
    let again = origin.requests() - asked;
    println!("{again} of {} were fetched again", count / 100);
    assert!(again <= count / 1_000);
    assert!(each <= 200.0);
    // The mark is 5 s; a busy machine may take longer, and says so above.
    assert!(took <= 30.0);
}
