//! Who loses a source midway goes on at another; who holds what is stale asks a peer before the origin.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::world::{Node, Origin, ok, until};

const LENGTH: usize = 4 << 20;

/// Octets that differ wherever one looks.
fn body() -> Vec<u8> {
    (0..).flat_map(u32::to_be_bytes).take(LENGTH).collect()
}

/// An origin that sends the first half, and the second when it is let; and any range at once.
async fn halting() -> (Origin, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let origin = Origin::start(move |head, mut stream| {
        let opened = opened.clone();
        async move {
            let body = body();
            let from = head
                .lines()
                .find_map(|line| line.strip_prefix("range: bytes="))
                .map(|range| range.trim_end_matches('-').parse::<usize>().unwrap());
            let common = "ETag: \"v1\"\r\nCache-Control: max-age=60\r\n";
            let Some(from) = from else {
                let octets = ok(common, &body);
                let _ = stream.write_all(&octets[..LENGTH / 2]).await;
                let _ = opened.acquire().await;
                let _ = stream.write_all(&octets[LENGTH / 2..]).await;
                return;
            };
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n{common}\
                 Content-Range: bytes {from}-{}/{LENGTH}\r\n\r\n",
                LENGTH - from,
                LENGTH - 1,
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body[from..]).await;
        }
    })
    .await;
    (origin, gate)
}

/// The claimant dies while others receive from it: one of them, and no more, goes on at the origin, and
/// no client sees anything of it.
#[tokio::test]
async fn a_claimant_that_dies_is_replaced_by_one_other() {
    let (origin, _gate) = halting().await;
    let first = Node::start("127.0.0.2", None, |_| ()).await;
    let (claimant, runtime) = Node::apart("127.0.0.1", Some(&first)).await;
    let mut others = vec![first];
    for ip in ["127.0.0.3", "127.0.0.4", "127.0.0.5"] {
        others.push(Node::start(ip, Some(&others[0]), |_| ()).await);
    }
    for node in others.iter().chain([&claimant]) {
        node.knows(4).await;
    }
    let host = origin.host();
    let at_claimant = tokio::spawn({
        let (addr, host) = (claimant.http, host.clone());
        async move {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}.cdn.localhost:1\r\n\r\n");
            crate::world::exchange(addr, request.as_bytes()).await
        }
    });
    until("the origin is asked", || origin.count() == 1).await;
    let gets = async {
        let gets = others.iter().map(|node| node.get(&host, "/", &[]));
        futures_util::future::join_all(gets).await
    };
    let kill = async {
        for node in &others {
            let half = || node.counted("coralline_flight_bytes") >= LENGTH as f64 / 2.0;
            until("it has the first half", half).await;
        }
        runtime.shutdown_background();
    };
    let (responses, ()) = tokio::join!(gets, kill);
    for response in responses {
        assert!(response.whole && response.status == 200, "{}", response.head);
        assert!(response.body == body(), "every octet is right");
        assert!(response.source().starts_with("peer:L"), "{}", response.source());
    }
    let _ = at_claimant.await;
    let requests = origin.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[1].contains("if-range: \"v1\""), "{requests:?}");
    let resumed: f64 =
        others.iter().map(|node| node.counted("coralline_resumed_transfers_total")).sum();
    assert!(resumed >= 1.0);
}

/// A crowd of nodes comes at once: the claimant feeds a few, these feed others, and the origin sends one copy.
#[tokio::test]
async fn a_crowd_of_nodes_hangs_as_a_tree_on_the_claimant() {
    let (origin, gate) = halting().await;
    let mut nodes = vec![Node::start("127.0.0.1", None, |_| ()).await];
    for last in 2..=12 {
        nodes.push(Node::start(&format!("127.0.0.{last}"), Some(&nodes[0]), |_| ()).await);
    }
    for node in &nodes {
        node.knows(11).await;
    }
    let host = origin.host();
    let gets = async {
        let gets = nodes.iter().map(|node| node.get(&host, "/", &[]));
        futures_util::future::join_all(gets).await
    };
    let open = async {
        for node in &nodes {
            let half = || node.counted("coralline_flight_bytes") >= LENGTH as f64 / 2.0;
            until("it has the first half", half).await;
        }
        gate.add_permits(1);
    };
    let (responses, ()) = tokio::join!(gets, open);
    for response in responses {
        assert!(response.whole && response.body == body(), "{}", response.head);
    }
    assert_eq!(origin.count(), 1);
    let fed = |node: &Node| node.counted_as("coralline_peer_answers_total", "arriving");
    let fed: Vec<_> = nodes.iter().map(fed).collect();
    assert_eq!(fed.iter().sum::<f64>(), 11.0, "{fed:?}");
    assert!(fed.iter().all(|fed| *fed <= 4.0), "{fed:?}");
}

/// All copies run out together: the origin hears of it once.
#[tokio::test]
async fn what_many_hold_is_validated_by_one() {
    let origin = Origin::start(|head, mut stream| async move {
        let common = "ETag: \"v1\"\r\nCache-Control: max-age=6\r\n";
        let answer = match head.contains("if-none-match: \"v1\"") {
            true => format!("HTTP/1.1 304 Not Modified\r\n{common}\r\n").into_bytes(),
            false => ok(common, b"still the same"),
        };
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let nodes = Node::three(|_| ()).await;
    for node in &nodes {
        assert_eq!(node.get(&origin.host(), "/", &[]).await.text(), "still the same");
    }
    assert_eq!(origin.count(), 1);
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    let host = origin.host();
    let gets = nodes.iter().map(|node| node.get(&host, "/", &[]));
    for response in futures_util::future::join_all(gets).await {
        assert_eq!((response.status, response.text().as_str()), (200, "still the same"));
    }
    assert_eq!(origin.count(), 2, "{:?}", origin.requests.lock().unwrap());
    assert!(origin.last().contains("if-none-match"), "{}", origin.last());
}
