//! What stops a node from starting: told in one line, with the remedy, by the right exit code.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::harness::{ADMIN, DNS, HTTP, Node, OVERLAY};

fn check_refused(mut node: Node, code: i32, parts: &[&str]) {
    node.start(&[]);
    let status = node.wait_end();
    let log = node.log();
    assert_eq!(status.code(), Some(code), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("coralline: "), "the last line is the error: {log}");
    for part in parts {
        assert!(last.contains(part), "{part} is missing in: {last}");
    }
}

fn check_port(port: u16, key: &str, take: impl Fn(SocketAddr) -> Box<dyn Send>) {
    let node = Node::new(&[]);
    let addr = node.at(port);
    let taken = take(addr);
    check_refused(node, 69, &[key, &addr.to_string(), "in use"]);
    drop(taken);
}

#[test]
fn a_port_in_use_is_69_and_names_key_and_address() {
    let tcp = |addr| Box::new(TcpListener::bind::<SocketAddr>(addr).unwrap()) as Box<dyn Send>;
    let udp = |addr| Box::new(UdpSocket::bind::<SocketAddr>(addr).unwrap()) as Box<dyn Send>;
    check_port(HTTP, "http.listen", tcp);
    check_port(OVERLAY, "peer.listen", tcp);
    check_port(ADMIN, "admin.listen", tcp);
    check_port(DNS, "dns.listen", tcp);
    check_port(DNS, "dns.listen", udp);
    check_port(OVERLAY, "overlay.listen", udp);
}

#[test]
fn a_foreign_address_is_69() {
    let mut node = Node::new(&[]);
    // TEST-NET-1 (RFC 5737): on no machine, so that nothing leaves this one.
    node.start(&["http.listen=192.0.2.1:8080"]);
    let status = node.wait_end();
    assert_eq!(status.code(), Some(69), "{}", node.log());
    assert!(node.log().contains("not of this machine"), "{}", node.log());
}

#[test]
fn a_state_directory_that_cannot_be_is_73() {
    let mut node = Node::new(&[]);
    let file = node.dir().join("file");
    fs::write(&file, "in the way").unwrap();
    let below = file.join("state");
    node.start(&[&format!("state_dir={}", below.display())]);
    let status = node.wait_end();
    let log = node.log();
    assert_eq!(status.code(), Some(73), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("coralline: ") && last.contains("state_dir"), "{log}");
    assert!(last.contains(file.to_str().unwrap()), "{log}");
}

#[test]
fn a_broken_identity_is_never_replaced() {
    let node = Node::new(&[]);
    let state = node.dir().join("state");
    fs::create_dir(&state).unwrap();
    let key = state.join("identity.key");
    fs::write(&key, "short").unwrap();
    check_refused(node, 73, &["identity.key"]);
}

#[test]
fn a_certificate_that_cannot_be_read_is_78() {
    let mut node = Node::new(&[]);
    let missing = node.dir().join("missing.pem").display().to_string();
    let listen = format!("https.listen={}:8443", node.ip);
    let (certificate, key) =
        (format!("https.certificate={missing}"), format!("https.key={missing}"));
    node.start(&[&listen, &certificate, &key]);
    assert_eq!(node.wait_end().code(), Some(78), "{}", node.log());
    assert!(node.log().contains("missing.pem"), "{}", node.log());
}
