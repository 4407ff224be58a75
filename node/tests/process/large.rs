//! A body of 4 GiB at clients of different speed, one of which takes nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use crate::harness::{HTTP, Node, env, now};
use crate::scripted::{Origin, Script};

/// Those who take all of it as fast as they can.
const FAST: usize = 6;
/// Those who take some of it, each twice as fast as the one before, until the fast ones have it.
const SLOW: usize = 13;

/// Asks, and reads the head of the response.
fn begin(node: &Node, host: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(node.at(HTTP)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        head.push(octet[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Takes the body, `rate` octets each tenth of a second, until `enough`; returns how much.
fn take(mut stream: TcpStream, script: Script, rate: usize, enough: impl Fn() -> bool) -> u64 {
    let mut piece = vec![0; rate.min(256 << 10)];
    let (mut offset, mut left) = (0, rate);
    while offset < script.length && !enough() {
        let most = piece.len().min(left);
        let count = stream.read(&mut piece[..most]).unwrap();
        assert!(count > 0, "it ends after {offset} octets");
        assert!(script.matches(offset, &piece[..count]), "a wrong octet after {offset}");
        (offset, left) = (offset + count as u64, left - count);
        if left == 0 {
            left = rate;
            sleep(Duration::from_millis(100));
        }
    }
    offset
}

#[test]
#[ignore = "minutes: cargo test --release -p coralline --test process -- --ignored --nocapture large"]
fn a_body_larger_than_memory_takes_little_of_it_whoever_lags() {
    let mib: u64 = env("CORALLINE_LARGE_MIB").map_or(4096, |text| text.parse().unwrap());
    let path = format!("/{}/keep/large", mib << 20);
    let (origin, node) = (Origin::start(), Node::running(&[]));
    let (host, script) = (origin.host(), Script::of(&path, 0));
    let before = node.memory();
    for phase in ["cold", "hot"] {
        let (whole, over, start) = (AtomicUsize::new(0), AtomicBool::new(false), now());
        let (most, slowly) = scope(|scope| {
            let stalled = begin(&node, &host, &path);
            for _ in 0..FAST {
                scope.spawn(|| {
                    let stream = begin(&node, &host, &path);
                    assert_eq!(take(stream, script, usize::MAX, || false), script.length);
                    whole.fetch_add(1, Ordering::SeqCst);
                });
            }
            let slow: Vec<_> = (0..SLOW)
                .map(|n| {
                    let (over, node, host, path) = (&over, &node, &host, &path);
                    scope.spawn(move || {
                        let enough = || over.load(Ordering::SeqCst);
                        take(begin(node, host, path), script, 1024 << n, enough)
                    })
                })
                .collect();
            let mut most = 0;
            while whole.load(Ordering::SeqCst) < FAST {
                most = node.memory().max(most);
                sleep(Duration::from_millis(50));
                assert!(start.elapsed() < Duration::from_secs(1800), "it takes for ever");
            }
            over.store(true, Ordering::SeqCst);
            drop(stalled);
            (most, slow.into_iter().map(|slow| slow.join().unwrap()).collect::<Vec<_>>())
        });
        let asked = origin.asked(&path);
        println!(
            "{phase}: {FAST} clients took {mib} MiB each in {:.0} s, {SLOW} slower ones {slowly:?} octets, \
             one nothing; memory grew by {} KiB; the origin was asked {} times for {} octets",
            start.elapsed().as_secs_f64(),
            most.saturating_sub(before) / 1024,
            asked.times,
            asked.octets
        );
        assert!(most.saturating_sub(before) < 64 << 20, "{most}, {before} before");
        assert_eq!(asked.octets, script.length, "one fetch, for both phases");
    }
}
