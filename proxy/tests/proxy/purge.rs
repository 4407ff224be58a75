//! What is purged is not served again, wherever a copy may still be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coralline_proxy::Purge;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::world::{Node, Origin, Response, TOKEN, ok};

/// An origin that says in each body how often it was asked, and 304 to whoever has the last.
async fn counting() -> Origin {
    let count = Arc::new(AtomicUsize::new(0));
    Origin::start(move |head: String, mut stream| {
        let n = count.fetch_add(1, Ordering::SeqCst) + 1;
        let fields =
            "Cache-Control: max-age=3600\r\nETag: \"v\"\r\nCache-Tag: all, tag\r\nxkey: other\r\n";
        let response = if head.to_ascii_lowercase().contains("if-none-match: \"v\"") {
            format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes()
        } else {
            ok(fields, n.to_string().as_bytes())
        };
        async move {
            let _ = stream.write_all(&response).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn check(response: &Response, body: &str, source: &str) {
    let found = (response.text(), response.source());
    assert_eq!(found, (body.to_owned(), source.to_owned()), "{response:?}");
}

#[tokio::test]
async fn each_way_to_name_it_purges_it_and_nothing_else() {
    let origin = counting().await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let (host, url) = (
        origin.host(),
        format!("http://{}/dir/a", origin.addr.to_string().replace("127.0.0.1", "localhost")),
    );
    let name = |text: &str| vec![text.to_owned()];
    let ways = [
        Purge { urls: name(&url), ..Purge::default() },
        Purge { urls: name(&format!("http://{host}.cdn.localhost/dir/a")), ..Purge::default() },
        Purge { prefixes: name(&url.replace("/a", "/")), ..Purge::default() },
        Purge { hosts: name("localhost"), ..Purge::default() },
        Purge { tags: name("tag"), ..Purge::default() },
        Purge { tags: name("other"), ..Purge::default() },
    ];
    let others = [
        Purge { urls: name(&url.replace("/a", "/b")), ..Purge::default() },
        Purge { prefixes: name(&url.replace("/a", "/a/")), ..Purge::default() },
        Purge { hosts: name("elsewhere"), ..Purge::default() },
        Purge { tags: name("ta"), ..Purge::default() },
    ];
    check(&node.get(&host, "/dir/a", &[]).await, "1", "origin");
    let (mut asked, mut body) = (1, "1".to_owned());
    for way in ways {
        node.proxy.purge(&way).await.unwrap();
        asked += 1;
        // Soft: it was validated, and is as good as new.
        check(&node.get(&host, "/dir/a", &[]).await, &body, "origin");
        check(&node.get(&host, "/dir/a", &[]).await, &body, "local");
        assert_eq!(origin.count(), asked, "{way:?}");
        node.proxy.purge(&Purge { hard: true, ..way }).await.unwrap();
        asked += 1;
        let response = node.get(&host, "/dir/a", &[]).await;
        body = asked.to_string();
        check(&response, &body, "origin");
        assert_eq!((response.field("cache-tag"), response.field("xkey")), (None, None));
    }
    for other in others {
        node.proxy.purge(&other).await.unwrap();
        node.proxy.purge(&Purge { hard: true, ..other }).await.unwrap();
        assert_eq!(node.get(&host, "/dir/a", &[]).await.source(), "local");
    }
    let wrong = Purge { urls: vec![url, "no url".into()], ..Purge::default() };
    assert!(node.proxy.purge(&wrong).await.is_err());
    assert_eq!(node.get(&host, "/dir/a", &[]).await.source(), "local", "nothing of it is done");
}

#[tokio::test]
async fn a_soft_purge_leaves_a_stand_in_and_a_hard_one_leaves_nothing() {
    let mut origin = counting().await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let host = origin.host();
    check(&node.get(&host, "/a", &[]).await, "1", "origin");
    origin.stop().await;
    let mut purge = Purge { tags: vec!["all".into()], ..Purge::default() };
    node.proxy.purge(&purge).await.unwrap();
    check(&node.get(&host, "/a", &[]).await, "1", "local");
    purge.hard = true;
    node.proxy.purge(&purge).await.unwrap();
    assert_eq!(node.get(&host, "/a", &[]).await.status, 502);
}

#[tokio::test]
async fn neither_a_peer_nor_a_late_transfer_brings_it_back() {
    let origin = counting().await;
    let [a, b, c] = Node::three(|_| ()).await;
    let host = origin.host();
    check(&a.get(&host, "/a", &[]).await, "1", "origin");
    let purge = Purge { hosts: vec!["localhost".into()], hard: true, ..Purge::default() };
    b.proxy.purge(&purge).await.unwrap();
    check(&b.get(&host, "/a", &[]).await, "2", "origin");
    let from_peer = c.get(&host, "/a", &[]).await.source();
    assert!(from_peer.starts_with("peer:"), "{from_peer}");

    // Asked for before the purge, it arrives after it.
    let gate = Arc::new(Semaphore::new(0));
    let (opened, count) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let slow = Origin::start(move |_, mut stream| {
        let (gate, n) = (opened.clone(), count.fetch_add(1, Ordering::SeqCst));
        async move {
            if n == 0 {
                let _ = gate.acquire().await;
            }
            let _ = stream
                .write_all(&ok("Cache-Control: max-age=60\r\n", n.to_string().as_bytes()))
                .await;
        }
    })
    .await;
    let host = slow.host();
    let early = a.get(&host, "/a", &[]);
    let late = async {
        while slow.count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        a.proxy.purge(&purge).await.unwrap();
        let response = a.get(&host, "/a", &[]).await;
        gate.add_permits(1);
        response
    };
    let (early, late) = tokio::join!(early, late);
    check(&early, "0", "origin");
    check(&late, "1", "origin");
    check(&a.get(&host, "/a", &[]).await, "1", "local");
}

/// A purge is of one node. Others that still have it are none the worse for it.
#[tokio::test]
async fn who_has_what_was_purged_here_is_asked_for_other_things() {
    let origin = counting().await;
    let a = Node::start("127.0.0.1", None, |_| ()).await;
    let b = Node::start("127.0.0.2", Some(&a), |_| ()).await;
    a.knows(1).await;
    b.knows(1).await;
    let host = origin.host();
    check(&a.get(&host, "/a", &[]).await, "1", "origin");
    check(&a.get(&host, "/b", &[]).await, "2", "origin");
    let url = format!("http://localhost:{}/a", origin.addr.port());
    b.proxy.purge(&Purge { urls: vec![url], hard: true, ..Purge::default() }).await.unwrap();
    check(&b.get(&host, "/a", &[]).await, "3", "origin");
    let other = b.get(&host, "/b", &[]).await.source();
    assert!(other.starts_with("peer:"), "{other}");
}

#[tokio::test]
async fn the_method_purges_for_who_has_the_token() {
    let origin = counting().await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let host = origin.host();
    let token = format!("Authorization: Bearer {TOKEN}");
    check(&node.get(&host, "/a", &[]).await, "1", "origin");
    for lines in [&[][..], &["Authorization: Bearer x"], &["Authorization: Bearer "]] {
        assert_eq!(node.ask("PURGE", &host, "/a", lines).await.status, 401);
    }
    check(&node.get(&host, "/a", &[]).await, "1", "local");
    assert_eq!(node.ask("PURGE", &host, "/a", &[&token]).await.status, 200);
    check(&node.get(&host, "/a", &[]).await, "1", "origin");
    let lower = token.replace("Bearer", "bearer ");
    let hard = [lower.as_str(), "Coralline-Purge: hard"];
    assert_eq!(node.ask("PURGE", &host, "/a", &hard).await.status, 200);
    check(&node.get(&host, "/a", &[]).await, "3", "origin");
    assert_eq!(origin.count(), 3);
}
