//! What the index is told: that something is here, as long as it is, and no longer.

use std::time::Duration;

use coralline_overlay::{Key, Pointer};
use coralline_proxy::Purge;

use crate::world::{Node, Origin, PATIENCE, ok, until};

const BODY: usize = 1_000_000;
const FRESH: &str = "Cache-Control: max-age=3600\r\nETag: \"v\"\r\n";

/// A node and another beside it, that sees what the index has.
async fn two(memory: u64, disk: u64) -> (Node, Node) {
    let node = Node::start("127.0.0.1", None, |config| {
        config.cache.memory.0 = memory;
        config.cache.disk.0 = disk;
    })
    .await;
    let other = Node::start("127.0.0.2", Some(&node), |_| ()).await;
    node.knows(1).await;
    other.knows(1).await;
    (node, other)
}

/// The pointer to `node` for a path of the origin, as another sees it.
async fn pointer(seen_by: &Node, node: &Node, origin: &Origin, path: &str) -> Option<Pointer> {
    let uri = format!("http://localhost:{}{path}", origin.addr.port());
    let found = seen_by.index.get(Key::of_name(uri.as_bytes())).await.ok()?;
    let local = node.index.local();
    found.pointers.into_iter().find(|pointer| pointer.holder.identity == local.identity)
}

/// Waits until there is one, or none.
async fn settles(seen_by: &Node, node: &Node, origin: &Origin, path: &str, there: bool) {
    let settled = async {
        while pointer(seen_by, node, origin, path).await.is_some() != there {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let settled = tokio::time::timeout(PATIENCE, settled).await;
    assert!(settled.is_ok(), "{path}: a pointer, {there}");
}

async fn fetch(node: &Node, origin: &Origin, paths: std::ops::Range<usize>) {
    for n in paths {
        let response = node.get(&origin.host(), &format!("/{n}"), &[]).await;
        assert_eq!((response.status, response.body.len()), (200, BODY));
    }
}

#[tokio::test]
async fn what_is_evicted_is_pointed_to_no_more() {
    // From memory where that is all, and from disk; the second has room for sixteen at most.
    for (memory, disk, count) in [(8 << 20, 0, 12), (4 << 20, 16 << 20, 60)] {
        let origin = Origin::fixed(ok(FRESH, &vec![b'x'; BODY])).await;
        let (node, other) = two(memory, disk).await;
        fetch(&node, &origin, 0..1).await;
        settles(&other, &node, &origin, "/0", true).await;
        fetch(&node, &origin, 1..count).await;
        settles(&other, &node, &origin, "/0", false).await;
        settles(&other, &node, &origin, &format!("/{}", count - 1), true).await;
    }
}

#[tokio::test]
async fn what_has_left_memory_for_the_disk_is_pointed_to_until_the_node_leaves() {
    let origin = Origin::fixed(ok(FRESH, &vec![b'x'; BODY])).await;
    let (node, other) = two(16 << 20, 1 << 30).await;
    for n in 0..10 {
        fetch(&node, &origin, n..n + 1).await;
        until("written", || node.counted("coralline_disk_objects") > n as f64).await;
    }
    assert_eq!(node.counted("coralline_disk_skipped_total"), 0.0);
    for n in 0..10 {
        settles(&other, &node, &origin, &format!("/{n}"), true).await;
    }
    node.proxy.close().await;
    for n in 0..10 {
        settles(&other, &node, &origin, &format!("/{n}"), false).await;
    }
}

#[tokio::test]
async fn what_is_purged_for_good_is_pointed_to_until_it_is_asked_for() {
    for disk in [0, 1 << 30] {
        let origin = Origin::fixed(ok(FRESH, &vec![b'x'; BODY])).await;
        let (node, other) = two(64 << 20, disk).await;
        fetch(&node, &origin, 0..2).await;
        for path in ["/0", "/1"] {
            settles(&other, &node, &origin, path, true).await;
        }
        let url = format!("http://{}.cdn.localhost/0", origin.host());
        node.proxy.purge(&Purge { urls: vec![url], hard: true, ..Purge::default() }).await.unwrap();
        // Who is sent there in vain is the last.
        fetch(&other, &origin, 0..1).await;
        settles(&other, &node, &origin, "/0", false).await;
        assert!(pointer(&other, &node, &origin, "/1").await.is_some());
        assert_eq!(origin.count(), 3);
    }
}

#[tokio::test]
async fn a_pointer_lasts_no_longer_than_what_it_points_to_is_fresh() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=7\r\nETag: \"v\"\r\n", b"x")).await;
    let (node, other) = two(64 << 20, 0).await;
    assert_eq!(node.get(&origin.host(), "/", &[]).await.source(), "origin");
    settles(&other, &node, &origin, "/", true).await;
    settles(&other, &node, &origin, "/", false).await;
    // Validated, it is there again.
    assert_eq!(node.get(&origin.host(), "/", &[]).await.source(), "origin");
    settles(&other, &node, &origin, "/", true).await;
}
