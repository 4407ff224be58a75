//! The demo as a new user meets it: origin, then peer, then local, and one request at the origin.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{coralline, get, get_site};

/// Far from the usual ports: the demo has fixed addresses, and a developer may be running one.
const HTTP: u16 = 18080;
const ORIGIN: u16 = 18000;
const PORTS: [&str; 5] = [
    "--http-port=18080",
    "--dns-port=15300",
    "--node-port=17400",
    "--admin-port=17480",
    "--origin-port=18000",
];

struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port)
}

fn source(last: u8, path: &str) -> String {
    let reply = get_site(at(last, HTTP), "origin.localhost.18000.cdn.localhost", path).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("cache-status")
}

fn counted(path: &str) -> u64 {
    let count: Value = serde_json::from_slice(&get(at(1, ORIGIN), "/count").unwrap().body).unwrap();
    count["by_path"][path].as_u64().unwrap_or(0)
}

#[test]
fn shows_origin_peer_local_and_ends_cleanly() {
    a_taken_port_is_named();
    let scratch = tempfile::tempdir().unwrap();
    let mut command = coralline();
    command.arg("demo").args(PORTS).env("TMPDIR", scratch.path()).stdout(Stdio::piped());
    let mut demo = Demo(command.spawn().unwrap());
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The first count comes after everything that can be tried.
    let told: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with("requests: ")).collect();
    let told = told.join("\n");
    for part in [
        "--connect-to ::127.0.0.2: http://origin.localhost.18000.cdn.localhost:18080/photo.png",
        "http://127.0.0.3:17480/status",
        "http://127.0.0.1:18000/count",
        "-p 15300",
    ] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }

    let first = source(1, "/photo.png");
    assert!(first.contains("fwd="), "node 1 asks the origin: {first}");
    let second = source(2, "/photo.png");
    assert!(second.contains("fwd=") || second.contains("hit"), "node 2 asks a peer: {second}");
    let third = source(2, "/photo.png");
    assert!(third.contains("; hit") && !third.contains("fwd="), "node 2 has it: {third}");
    assert_eq!(counted("/photo.png"), 1, "one fetch for the whole network");

    let line = lines.by_ref().find(|line| line.contains("local 1, peer 1, origin 1"));
    assert!(line.is_some_and(|line| line.ends_with("the origin counts 1")));

    let id = demo.0.id().to_string();
    assert!(Command::new("sh").args(["-c", "kill -INT \"$0\"", &id]).status().unwrap().success());
    // Its standard output ends with the process.
    lines.for_each(drop);
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0, "nothing is left behind");
}

fn a_taken_port_is_named() {
    let taken = TcpListener::bind(at(2, HTTP)).unwrap();
    let output = coralline().arg("demo").args(PORTS).output().unwrap();
    drop(taken);
    assert_eq!(output.status.code(), Some(69));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("127.0.0.2:18080") && error.contains("--http-port"), "{error}");
}
