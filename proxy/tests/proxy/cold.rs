//! Parts of what nobody holds whole: each slice is fetched from the origin by one node, and given on by it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use coralline_overlay::{Key, Pointer, State};
use futures_util::future::join_all;
use http::{Request, Response, StatusCode, header, request};
use http_body_util::{Empty, Full};

use crate::peers::{Peer, ask_as_peer};
use crate::slices::{Large, MIB, Manner, check, draw, octets, patient, range, settled};
use crate::world::{Node, until};

async fn nodes(count: u8) -> Vec<Node> {
    let mut nodes = vec![Node::start("127.0.0.1", None, patient).await];
    for n in 2..=count {
        let node = Node::start(&format!("127.0.0.{n}"), Some(&nodes[0]), patient).await;
        nodes.push(node);
    }
    for node in &nodes {
        node.knows(usize::from(count) - 1).await;
    }
    nodes
}

async fn part(node: &Node, large: &Large, wanted: Range<u64>, total: u64) -> String {
    let response = range(node, large, &format!("{}-{}", wanted.start, wanted.end - 1)).await;
    check(&response, 1, wanted, total);
    response.source()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_ranges_at_many_nodes_cost_the_origin_each_slice_once() {
    let nodes = nodes(5).await;
    for seed in 1..=2 {
        let total = 40 * MIB + 5;
        let large = Large::start(total, Manner::Ranges).await;
        let mut draws = seed;
        for _ in 0..4 {
            let clients = (0..15).map(|_| {
                let node = &nodes[draw(&mut draws, nodes.len() as u64) as usize];
                let from = draw(&mut draws, total - 1);
                let end = (from + 1 + draw(&mut draws, 5 * MIB)).min(total);
                part(node, &large, from..end, total)
            });
            join_all(clients.collect::<Vec<_>>()).await;
        }
        let slices = large.slices();
        let twice: Vec<_> = slices.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "seed {seed}: {twice:?} of {slices:?}");
    }
}

#[tokio::test]
async fn a_slice_goes_on_from_node_to_node_and_survives_who_fetched_it() {
    let mut nodes = nodes(3).await;
    let total = 50 * MIB;
    let large = Large::start(total, Manner::Ranges).await;
    let wanted = 20_000_000..23_000_000;
    assert_eq!(part(&nodes[0], &large, wanted.clone(), total).await, "origin");
    settled(&nodes[0]).await;
    let source = part(&nodes[1], &large, wanted.clone(), total).await;
    assert!(source.starts_with("peer:"), "{source}");
    settled(&nodes[1]).await;
    // Its receipts are still those of the first, which has left.
    let first = nodes.remove(0);
    first.proxy.close().await;
    first.shutdown().await;
    let source = part(&nodes[1], &large, wanted, total).await;
    assert!(source.starts_with("peer:"), "{source}");
    assert_eq!(large.slices().values().max(), Some(&1));
    assert_eq!(large.origin.count(), 1);
}

#[tokio::test]
async fn who_wants_what_is_on_its_way_waits_for_it() {
    let nodes = nodes(3).await;
    let total = 50 * MIB;
    let large = Large::start(total, Manner::Ranges).await;
    large.open.store(false, Ordering::SeqCst);
    let wanted = 20_000_000..23_000_000;
    let gets = nodes.iter().map(|node| part(node, &large, wanted.clone(), total));
    let open = async {
        until("the origin is asked", || large.origin.count() == 1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        large.open.store(true, Ordering::SeqCst);
    };
    tokio::join!(join_all(gets), open);
    assert_eq!(large.slices().values().max(), Some(&1), "{:?}", large.slices());
}

/// What a liar makes of what it is asked for, and of a true answer.
type Ask = fn(&mut request::Parts);
type Lie = fn(Response<Bytes>) -> Response<Bytes>;

fn flipped(answer: Response<Bytes>, at: usize) -> Response<Bytes> {
    answer.map(|body| {
        let mut octets = body.to_vec();
        let at = at.min(octets.len() - 1);
        octets[at] ^= 1;
        octets.into()
    })
}

fn with(mut answer: Response<Bytes>, name: &'static str, value: &str) -> Response<Bytes> {
    answer.headers_mut().insert(name, value.parse().unwrap());
    answer
}

const TOTAL: u64 = 9 * MIB + 7;

/// Those who hold slices alone are believed no more than those who hold the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_slice_that_a_liar_made_up_reaches_anybody() {
    let as_it_is: Ask = |_| {};
    let next: Ask = |parts| {
        parts.headers.insert(header::RANGE, "bytes=1048576-2097151".parse().unwrap());
    };
    let elsewhere: Ask = |parts| parts.uri = format!("{}other", parts.uri).parse().unwrap();
    let slice: Ask = |parts| {
        parts.headers.insert(header::RANGE, "bytes=0-1048575".parse().unwrap());
    };
    let first: &str = "0-1048575";
    let lies: [(&str, &str, Ask, Lie); 8] = [
        ("the truth", first, as_it_is, |answer| answer),
        ("an octet of the receipt", first, as_it_is, |answer| flipped(answer, 200)),
        ("an octet in the midst", first, as_it_is, |answer| flipped(answer, 500_000)),
        ("another slice", first, next, |answer| {
            with(answer, "content-range", "bytes 0-1048575/9437191")
        }),
        ("another object's", first, elsewhere, |answer| answer),
        ("another length", first, as_it_is, |answer| {
            with(answer, "content-range", "bytes 0-1048575/9437190")
        }),
        ("as part of a whole", first, as_it_is, |answer| {
            with(answer, "coralline-proof", "coralline-receipt-1")
        }),
        ("as the whole", "", slice, |answer| {
            let mut answer = with(answer, "coralline-proof", "coralline-receipt-1");
            answer.headers_mut().remove("content-range");
            *answer.status_mut() = StatusCode::OK;
            answer
        }),
    ];
    let large = Large::start(TOTAL, Manner::Ranges).await;
    let (host, port) = (large.origin.host(), large.origin.addr.port());
    // A true node, in a network of its own, which holds two slices.
    let honest = Arc::new(Node::start("127.0.0.9", None, patient).await);
    for path in ["/", "/other"] {
        let got = honest.get(&host, path, &["Range: bytes=0-2000000"]).await;
        assert_eq!(got.status, 206);
    }
    settled(&honest).await;
    for (what, text, ask, lie) in lies {
        let liar = Peer::bind().await;
        let addr = liar.addr;
        let a = Node::start("127.0.0.1", None, patient).await;
        let b = Node::start("127.0.0.1", Some(&a), |config| config.peer.listen = addr).await;
        a.knows(1).await;
        b.knows(1).await;
        let b = Arc::new(b);
        let (behind, face) = (honest.clone(), b.clone());
        let asked = liar.serve(&b.index, move |request| {
            let (behind, face) = (behind.clone(), face.clone());
            async move {
                let (mut head, _) = request.into_parts();
                ask(&mut head);
                let request = Request::from_parts(head, Empty::new());
                lie(ask_as_peer(&face, &behind, request).await).map(Full::new)
            }
        });
        let name = match text {
            "" => format!("http://localhost:{port}/"),
            _ => format!("http://localhost:{port}/\nslice 0"),
        };
        let (holder, state) = (b.index.local(), State::Whole);
        let pointer = Pointer { holder, state, length: None, root: None };
        let key = Key::of_name(name.as_bytes());
        b.index.put(key, pointer, Duration::from_secs(60)).await.unwrap();
        let before = large.origin.count();
        if text.is_empty() {
            let whole = a.get(&host, "/", &[]).await;
            assert!(whole.whole && whole.body == octets(1, 0..TOTAL), "{what}: {whole:?}");
        } else {
            check(&range(&a, &large, text).await, 1, 0..MIB, TOTAL);
        }
        let origin = usize::from(what != "the truth");
        assert_eq!(large.origin.count(), before + origin, "{what}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{what}");
    }
}
