//! What is on disk: beyond memory, and over restarts.

use coralline_proxy::Purge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Node, Origin, Response, ok, until};

const MIB: usize = 1 << 20;

/// A node with a directory of its own, little memory and some disk.
async fn node(dir: &std::path::Path) -> Node {
    Node::start("127.0.0.1", None, |config| {
        config.state_dir = dir.into();
        config.cache.memory.0 = 16 << 20;
        config.cache.disk.0 = 1 << 30;
    })
    .await
}

fn random(length: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn check(response: &Response, body: &[u8], source: &str) {
    assert_eq!(response.source(), source, "{response:?}");
    assert!(response.body == body, "{response:?}");
}

#[tokio::test]
async fn a_restart_forgets_neither_what_is_kept_nor_what_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let fields = "Cache-Control: max-age=3600\r\nVary: Accept-Language\r\nETag: \"v\"\r\n";
    let origin = Origin::start(move |head, mut stream| async move {
        let body =
            head.lines().find(|line| line.to_ascii_lowercase().starts_with("accept-language"));
        let _ = stream.write_all(&ok(fields, body.unwrap_or("none").as_bytes())).await;
    })
    .await;
    let host = origin.host();
    let (german, english) = ("accept-language: de", "accept-language: en");
    let first = node(dir.path()).await;
    for path in ["/a", "/b"] {
        check(&first.get(&host, path, &[german]).await, german.as_bytes(), "origin");
        check(&first.get(&host, path, &[english]).await, english.as_bytes(), "origin");
    }
    let name = format!("http://{host}.cdn.localhost/b");
    first.proxy.purge(&Purge { urls: vec![name], hard: true, ..Purge::default() }).await.unwrap();
    first.proxy.close().await;
    first.shutdown().await;
    let second = node(dir.path()).await;
    assert_eq!(origin.count(), 4);
    for source in ["local", "local"] {
        check(&second.get(&host, "/a", &[german]).await, german.as_bytes(), source);
        check(&second.get(&host, "/a", &[english]).await, english.as_bytes(), source);
    }
    check(&second.get(&host, "/b", &[german]).await, german.as_bytes(), "origin");
    check(&second.get(&host, "/b", &[german]).await, german.as_bytes(), "local");
    assert_eq!(second.get(&host, "/a", &["accept-language: fr"]).await.source(), "origin");
    assert_eq!(second.get(&host, "/a", &[german, "If-None-Match: \"v\""]).await.status, 304);
}

#[tokio::test]
async fn a_body_beyond_memory_reaches_the_fast_the_slow_and_the_late() {
    let dir = tempfile::tempdir().unwrap();
    let body = random(64 * MIB, 7);
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\nETag: \"v\"\r\n", &body)).await;
    let node = node(dir.path()).await;
    let host = origin.host();
    let mut slow = TcpStream::connect(node.http).await.unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nHost: {host}.cdn.localhost:1\r\nConnection: close\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    // It has begun, and takes nothing more for now.
    slow.read_exact(&mut [0; 12]).await.unwrap();
    let (one, two) = tokio::join!(node.get(&host, "/", &[]), node.get(&host, "/", &[]));
    check(&one, &body, "origin");
    check(&two, &body, "origin");
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(&body), "the slow one has lost nothing");
    check(&node.get(&host, "/", &[]).await, &body, "local");
    let part =
        node.get(&host, "/", &[&format!("Range: bytes={}-{}", 30 * MIB + 5, 31 * MIB)]).await;
    assert_eq!(part.status, 206);
    check(&part, &body[30 * MIB + 5..=31 * MIB], "local");
    assert_eq!(origin.count(), 1);
    node.proxy.close().await;
    node.shutdown().await;
    let again = crate::disk::node(dir.path()).await;
    check(&again.get(&host, "/", &[]).await, &body, "local");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn who_reads_from_disk_goes_on_while_it_is_replaced_and_purged() {
    let dir = tempfile::tempdir().unwrap();
    let versions = [random(24 * MIB, 1), random(24 * MIB, 2)];
    let answers = versions.clone().map(|body| ok("Cache-Control: max-age=60\r\n", &body));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::start(move |_, mut stream| {
        let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let answer = answers[n.min(1)].clone();
        async move {
            let _ = stream.write_all(&answer).await;
        }
    })
    .await;
    let node = node(dir.path()).await;
    let host = origin.host();
    check(&node.get(&host, "/", &[]).await, &versions[0], "origin");
    until("it is kept", || node.proxy.sources().cache_objects == 1).await;
    let mut slow = TcpStream::connect(node.http).await.unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nHost: {host}.cdn.localhost:1\r\nConnection: close\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    slow.read_exact(&mut [0; 12]).await.unwrap();
    let name = format!("http://{host}.cdn.localhost/");
    let purge = Purge { urls: vec![name], hard: true, ..Purge::default() };
    node.proxy.purge(&purge).await.unwrap();
    check(&node.get(&host, "/", &[]).await, &versions[1], "origin");
    until("it is kept", || node.proxy.sources().cache_objects == 1).await;
    check(&node.get(&host, "/", &[]).await, &versions[1], "local");
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(&versions[0]), "it has what it began with: {} octets", rest.len());
}

#[tokio::test]
async fn without_a_disk_an_old_cache_goes_and_nothing_else_does() {
    let (dir, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    node(dir.path()).await.shutdown().await;
    let theirs = foreign.path().join("cache/letters.txt");
    std::fs::create_dir(foreign.path().join("cache")).unwrap();
    std::fs::write(&theirs, "dear").unwrap();
    for (dir, left) in [(&dir, false), (&foreign, true)] {
        let node = Node::start("127.0.0.1", None, |config| {
            config.state_dir = dir.path().into();
            config.cache.disk.0 = 0;
        });
        node.await.shutdown().await;
        assert_eq!(dir.path().join("cache").exists(), left);
    }
    assert_eq!(std::fs::read_to_string(theirs).unwrap(), "dear");
}

#[tokio::test]
async fn what_an_unsafe_method_throws_out_is_gone_from_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", b"page")).await;
    let site = coralline_config::Site {
        host: "www.site.test".into(),
        origin: format!("http://{}", origin.addr),
    };
    let start = async || {
        Node::start("127.0.0.1", None, |config| {
            config.state_dir = dir.path().into();
            config.sites = vec![site.clone()];
        })
        .await
    };
    let node = start().await;
    for path in ["/a", "/b"] {
        node.site(&format!("GET {path}"), &[], "").await;
    }
    node.site("POST /a", &[], "x").await;
    node.proxy.close().await;
    node.shutdown().await;
    let node = start().await;
    check(&node.site("GET /b", &[], "").await, b"page", "local");
    check(&node.site("GET /a", &[], "").await, b"page", "origin");
}
