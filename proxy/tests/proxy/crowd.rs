//! Many at once: one fetch, bytes from the first one on, for clients here and at other nodes.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore};

use crate::world::{Node, Origin, ok, until};

/// An origin that sends the head and the first octets, and the rest only when `go` has a permit.
async fn halting(go: Arc<Semaphore>, length: usize) -> Origin {
    Origin::start(move |_, mut stream| {
        let go = go.clone();
        async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: \"v1\"\r\nCache-Control: max-age=60\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b'a'; length / 2]).await.unwrap();
            stream.flush().await.unwrap();
            let _permit = go.acquire().await.unwrap();
            stream.write_all(&vec![b'b'; length - length / 2]).await.unwrap();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_three_nodes_shares_one_fetch_from_its_first_byte() {
    const CLIENTS: usize = 48;
    const LENGTH: usize = 300_000;
    let go = Arc::new(Semaphore::new(0));
    let origin = halting(go.clone(), LENGTH).await;
    let nodes = Node::three(|_| ()).await;
    let begun = Arc::new(Barrier::new(CLIENTS + 1));
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let (addr, host, begun) = (nodes[n % 3].http, origin.host(), begun.clone());
        clients.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let request = format!(
                "GET /big HTTP/1.1\r\nHost: {host}.cdn.localhost:1\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            // Head and some body, while the origin has sent but half: only then does it go on.
            let mut all = vec![0; 1000];
            stream.read_exact(&mut all).await.unwrap();
            begun.wait().await;
            stream.read_to_end(&mut all).await.unwrap();
            all
        }));
    }
    begun.wait().await;
    go.add_permits(100);
    for client in clients {
        let all = client.await.unwrap();
        assert!(all.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(all.iter().rev().take_while(|b| **b == b'b').count(), LENGTH / 2);
    }
    assert_eq!(origin.count(), 1, "one fetch for the whole network");
    let collapsed: f64 =
        nodes.iter().map(|node| node.counted("coralline_collapsed_requests_total")).sum();
    assert_eq!(collapsed, (CLIENTS - 3) as f64);
}

#[tokio::test]
async fn a_flight_goes_on_when_its_clients_leave() {
    let go = Arc::new(Semaphore::new(0));
    let origin = halting(go.clone(), 100_000).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {}.cdn.localhost:1\r\n\r\n", origin.host());
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 100]).await.unwrap();
    drop(stream);
    go.add_permits(1);
    until("it lands", || node.proxy.sources().cache_objects == 1).await;
    assert_eq!(node.get(&origin.host(), "/", &[]).await.source(), "local");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_slow_reader_holds_nobody_up() {
    let body = vec![b'x'; 8_000_000];
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", &body)).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let mut slow = TcpStream::connect(node.http).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}.cdn.localhost:1\r\nConnection: close\r\n\r\n",
        origin.host()
    );
    slow.write_all(request.as_bytes()).await.unwrap();
    let fast = node.get(&origin.host(), "/", &[]).await;
    assert_eq!(fast.body.len(), body.len());
    // The slow one still gets all of it, from what is kept.
    let late = crate::world::read_response(&mut slow).await;
    assert!(late.whole && late.body == body);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn evicted_objects_leave_room_and_the_memory_stays_bounded() {
    let body = vec![b'x'; 1_000_000];
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", &body)).await;
    let memory = 8 << 20;
    let node = Node::start("127.0.0.1", None, |config| config.cache.memory.0 = memory).await;
    for n in 0..20 {
        let response = node.get(&origin.host(), &format!("/{n}"), &[]).await;
        assert_eq!(response.body.len(), body.len());
    }
    until("the store is within its half", || node.proxy.sources().cache_bytes <= memory / 2).await;
    assert_eq!(node.get(&origin.host(), "/19", &[]).await.source(), "local");
    until("what went was counted", || node.counted("coralline_cache_evictions_total") >= 16.0)
        .await;
    until("all reservations came back", || node.counted("coralline_flight_bytes") == 0.0).await;
}
