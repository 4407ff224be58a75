//! Joining, leaving, coming back.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, spawn};

use crate::harness::{ADMIN, DNS, HTTP, Node, OVERLAY, Reply, get, get_site, three};

#[test]
fn sigterm_and_sigint_end_with_zero() {
    for signal in ["TERM", "INT"] {
        let mut node = Node::running(&[]);
        node.signal(signal);
        assert_eq!(node.wait_end().code(), Some(0), "{}", node.log());
        assert!(get(node.at(HTTP), "/").is_none(), "nobody listens any more");
        assert!(node.log().contains(&format!("SIG{signal}")), "{}", node.log());
    }
}

#[test]
fn the_log_says_what_listens_where_and_what_to_try() {
    let node = Node::running(&[]);
    // It answers before it has said so.
    node.wait_for(|| node.log().contains("listens"));
    let log = node.log();
    for part in [node.at(HTTP), node.at(OVERLAY), node.at(ADMIN)] {
        assert!(log.contains(&part.to_string()), "{part} is missing in:\n{log}");
    }
    assert!(log.contains("http://www.example.com.cdn.localhost:8080/"), "{log}");
    assert!(!log.contains('\x1b'), "no colours in a file: {log}");
}

#[test]
fn not_ready_before_the_network_is_joined() {
    let mut seed = Node::new(&[]);
    let mut node = Node::new(&[&seed]);
    node.start(&[]);
    node.wait_until("alive", |node| get(node.at(ADMIN), "/livez").is_some_and(|r| r.status == 200));
    let reply = get(node.at(ADMIN), "/readyz").unwrap();
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("overlay.seeds"), "{}", reply.text());
    assert_eq!(node.status()["reason"], reply.text().trim_end());
    assert_eq!(node.metric("coralline_ready"), 0.0);

    seed.start(&[]);
    seed.wait_ready();
    node.wait_ready();
    node.wait_neighbour(&seed);
    seed.wait_neighbour(&node);
    assert_eq!(node.metric("coralline_ready"), 1.0);
    assert_eq!(node.status()["reason"], serde_json::Value::Null);
}

#[test]
fn a_restarted_node_rejoins_without_its_seeds() {
    let mut seed = Node::running(&[]);
    let mut node = Node::running(&[&seed]);
    node.wait_neighbour(&seed);
    let before = node.status()["node"]["identity"].clone();
    node.signal("TERM");
    assert_eq!(node.wait_end().code(), Some(0), "{}", node.log());

    node.start(&["overlay.seeds="]);
    node.wait_ready();
    node.wait_neighbour(&seed);
    seed.wait_neighbour(&node);
    assert_eq!(node.status()["node"]["identity"], before, "it is the same node");
}

#[test]
fn a_killed_node_is_found_again_after_its_restart() {
    let mut first = Node::running(&[]);
    let mut second = Node::running(&[&first]);
    second.wait_neighbour(&first);
    second.kill();
    second.start(&[]);
    second.wait_ready();
    second.wait_neighbour(&first);
    first.wait_neighbour(&second);
}

/// A client that waits for the second half of a body, and the origin that sends it when told.
struct InFlight {
    client: JoinHandle<Option<Reply>>,
    finish: SyncSender<()>,
    _origin: JoinHandle<()>,
}

/// Asks `node` for something and comes back once the origin has sent half of it.
fn in_flight(node: &Node) -> InFlight {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("origin.localhost.{}.cdn.localhost", listener.local_addr().unwrap().port());
    let (finish, finished) = sync_channel(1);
    let (started, begun) = sync_channel(1);
    let origin = spawn(move || send_halves(&listener, &started, &finished));
    let addr = node.at(HTTP);
    let client = spawn(move || get_site(addr, &host, "/slow"));
    begun.recv().unwrap();
    InFlight { client, finish, _origin: origin }
}

fn send_halves(listener: &TcpListener, started: &SyncSender<()>, finished: &Receiver<()>) {
    let (mut stream, _) = listener.accept().unwrap();
    let _ = stream.read(&mut [0; 4096]);
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234";
    stream.write_all(half).unwrap();
    started.send(()).unwrap();
    // The sender is dropped when the test has ended without it.
    if finished.recv().is_ok() {
        stream.write_all(b"56789").unwrap();
    }
}

#[test]
fn what_is_in_flight_ends_whole_and_nothing_new_begins() {
    let mut node = Node::running(&[]);
    let InFlight { client, finish, .. } = in_flight(&node);
    node.signal("TERM");
    node.wait_until("closed", |node| get(node.at(HTTP), "/").is_none());
    let reply = get(node.at(ADMIN), "/readyz").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (503, "shutting down\n"));
    assert_eq!(get(node.at(ADMIN), "/livez").unwrap().status, 200);

    finish.send(()).unwrap();
    assert_eq!(client.join().unwrap().unwrap().text(), "0123456789");
    assert_eq!(node.wait_end().code(), Some(0), "{}", node.log());
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut node = Node::running(&[]);
    let InFlight { client, finish, .. } = in_flight(&node);
    node.signal("TERM");
    node.wait_until("closed", |node| get(node.at(HTTP), "/").is_none());
    node.signal("INT");
    assert_eq!(node.wait_end().code(), Some(130), "{}", node.log());
    drop(finish);
    let _ = client.join().unwrap();
}

/// Octets of nobody's protocol, at every port of a running network: counted, logged, and served on.
#[test]
fn noise_at_every_port_does_no_harm() {
    let [a, mut b, c] = three();
    let socket = UdpSocket::bind((b.ip, 0)).unwrap();
    for n in 0..2000_u32 {
        // From the empty datagram to one longer than any of ours, in no order.
        let noise: Vec<_> =
            (0..n.wrapping_mul(2_654_435_761) % 1400).map(|i| (i * n).to_le_bytes()[1]).collect();
        for port in [OVERLAY, DNS] {
            socket.send_to(&noise, b.at(port)).unwrap();
        }
    }
    for port in [HTTP, OVERLAY, ADMIN, DNS] {
        let mut stream = TcpStream::connect(b.at(port)).unwrap();
        // Whoever hangs up early is right.
        let _ = stream.write_all(&[0, 255, 22, 3, 1, 13, 10, 13, 10, 0]);
        let _ = stream.write_all(&[b'x'; 10_000]);
    }
    b.wait_until("noise is counted", |b| {
        let dropped =
            |name: &str, reason: &str| b.metric(&format!("{name}{{reason=\"{reason}\"}}"));
        dropped("coralline_overlay_dropped_total", "malformed") > 0.0
            && dropped("coralline_dns_dropped_total", "short") > 0.0
    });
    assert!(b.log().contains("client connection ended"), "{}", b.log());
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("localhost.{}.cdn.localhost", origin.local_addr().unwrap().port());
    let serving = spawn(move || {
        let (mut stream, _) = origin.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\n";
        stream.write_all(format!("{head}still").as_bytes()).unwrap();
    });
    for node in [&b, &a, &c] {
        assert_eq!(get_site(node.at(HTTP), &host, "/").unwrap().text(), "still");
    }
    serving.join().unwrap();
    assert_eq!(b.status()["neighbours"].as_array().unwrap().len(), 2);
}
