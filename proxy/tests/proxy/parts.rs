//! Parts of large objects from peers: each with its proof, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coralline_overlay::{Key, Pointer, State};
use http::{Request, Response, header, request};
use http_body_util::{Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::peers::{Peer, ask_as_peer, point};
use crate::slices::{Large, MIB, Manner, check, octets, patient, range};
use crate::world::{Node, Origin, until};

/// What a liar makes of what it is asked for, and of a true answer.
type Ask = fn(&mut request::Parts);
type Lie = fn(Response<Bytes>) -> Response<Bytes>;

fn as_it_is(_: &mut request::Parts) {}

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

/// Of three slices in the midst of nine; what is asked for lies in them.
const WANTED: std::ops::Range<u64> = 2_500_000..5_242_880;
const TRUE_RANGE: &str = "bytes 2097152-5242879/9437191";
const TOTAL: u64 = 9 * MIB + 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_that_a_liar_made_up_reaches_anybody() {
    let ranged: Ask = |parts| {
        parts.headers.insert(header::RANGE, "bytes=3145728-6291455".parse().unwrap());
    };
    let elsewhere: Ask = |parts| parts.uri = format!("{}other", parts.uri).parse().unwrap();
    let unproved: Ask = |parts| _ = parts.headers.remove(header::RANGE);
    let lies: [(&str, Ask, Lie); 13] = [
        ("an octet of the receipt", as_it_is, |answer| flipped(answer, 200)),
        ("an octet of the first nodes", as_it_is, |answer| flipped(answer, 700)),
        ("an octet at the beginning", as_it_is, |answer| flipped(answer, 3_000)),
        ("an octet in the midst", as_it_is, |answer| flipped(answer, 1_500_000)),
        ("the last octet", as_it_is, |answer| flipped(answer, usize::MAX)),
        ("half of it", as_it_is, |answer| answer.map(|body| body.slice(..body.len() / 2))),
        ("a field", as_it_is, |answer| with(answer, "content-type", "text/evil")),
        ("no proof", as_it_is, |mut answer| {
            answer.headers_mut().remove("coralline-proof");
            answer
        }),
        ("another length", as_it_is, |answer| {
            with(answer, "content-range", "bytes 2097152-5242879/9437190")
        }),
        ("no range", as_it_is, |mut answer| {
            answer.headers_mut().remove("content-range");
            answer
        }),
        ("another range as this one", ranged, |answer| with(answer, "content-range", TRUE_RANGE)),
        ("another object's", elsewhere, |answer| answer),
        ("the whole as a part", unproved, |answer| {
            let mut answer = with(answer, "content-range", TRUE_RANGE);
            *answer.status_mut() = http::StatusCode::PARTIAL_CONTENT;
            answer
        }),
    ];
    let large = Large::start(TOTAL, Manner::Ranges).await;
    let host = large.origin.host();
    // A true node, in a network of its own.
    let honest = Arc::new(Node::start("127.0.0.9", None, patient).await);
    for path in ["/", "/other"] {
        assert_eq!(honest.get(&host, path, &[]).await.source(), "origin");
    }
    for (what, ask, lie) in lies {
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
        point(&b, &large.origin, "/").await;
        let before = large.origin.count();
        let response = range(&a, &large, &format!("{}-{}", WANTED.start, WANTED.end - 1)).await;
        check(&response, 1, WANTED, TOTAL);
        assert_eq!(response.field("content-type"), None, "{what}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{what}");
        assert_eq!(large.origin.count(), before + 1, "{what}");
    }
}

/// Waits until the index says that somebody has all of `/`.
async fn announced(node: &Node, origin: &Origin) {
    let key = Key::of_name(format!("http://localhost:{}/", origin.addr.port()).as_bytes());
    for _ in 0..300 {
        let found = node.index.get(key).await;
        if found.is_ok_and(|found| found.pointers.iter().any(|of| of.state == State::Whole)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nobody has it");
}

#[tokio::test]
async fn a_cold_range_of_what_a_peer_has_whole_never_reaches_the_origin() {
    let [a, b, c] = Node::three(patient).await;
    let total = 9 * MIB + 7;
    let large = Large::start(total, Manner::Ranges).await;
    assert_eq!(a.get(&large.origin.host(), "/", &[]).await.body.len() as u64, total);
    announced(&a, &large.origin).await;
    for (node, wanted, text) in [
        (&b, 2_500_000..4_500_000, "2500000-4499999"),
        (&b, 1_000_000..total, "1000000-"),
        (&c, total - 500..total, "-500"),
        (&c, 500..total, "500-"),
    ] {
        let response = range(node, &large, text).await;
        check(&response, 1, wanted, total);
        assert!(response.source().starts_with("peer:"), "{text}: {response:?}");
        assert_eq!(large.origin.count(), 1, "{text}");
    }
}

/// How one of those who hold the whole behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Conduct {
    True,
    Flips,
    Cuts,
    Silent,
    HasNothing,
    /// It has the first thing that it is asked for, and then nothing.
    Once,
}

/// A node with a face of its own that gives on, in its manner, what an honest one says.
async fn face(seed: &Node, honest: &Arc<Node>, manner: Conduct) -> (Arc<Node>, Arc<AtomicUsize>) {
    let peer = Peer::bind().await;
    let addr = peer.addr;
    let b = Node::start("127.0.0.1", Some(seed), |config| config.peer.listen = addr).await;
    let b = Arc::new(b);
    let (behind, face) = (honest.clone(), b.clone());
    let asked_before = AtomicBool::new(false);
    let asked = peer.serve(&b.index, move |request| {
        let (behind, face) = (behind.clone(), face.clone());
        let first = !asked_before.swap(true, Ordering::SeqCst);
        async move {
            let (head, _) = request.into_parts();
            if manner == Conduct::HasNothing || manner == Conduct::Once && !first {
                let answer = Response::builder().status(504).body(Full::default());
                return answer.unwrap();
            }
            let request = Request::from_parts(head, Empty::new());
            let answer = ask_as_peer(&face, &behind, request).await;
            let answer = match manner {
                Conduct::Flips => flipped(answer, 500_000),
                Conduct::Cuts => answer.map(|body| body.slice(..500_000)),
                Conduct::Silent => std::future::pending().await,
                _ => answer,
            };
            answer.map(Full::new)
        }
    });
    (b, asked)
}

/// Tells the index that the node has all of `/`.
async fn holds(node: &Node, large: &Large, total: u64) {
    let key = Key::of_name(format!("http://localhost:{}/", large.origin.addr.port()).as_bytes());
    let (holder, length) = (node.index.local(), Some(total));
    let pointer = Pointer { holder, state: State::Whole, length, root: None };
    node.index.put(key, pointer, Duration::from_secs(600)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_hold_whole_comes_from_all_of_them_past_who_fails() {
    let total = 20 * MIB + 7;
    let large = Large::start(total, Manner::Ranges).await;
    let host = large.origin.host();
    // True nodes, in networks of their own.
    let honest = Arc::new(Node::start("127.0.0.9", None, patient).await);
    assert_eq!(honest.get(&host, "/", &[]).await.source(), "origin");
    use Conduct::{Cuts, Flips, HasNothing, Silent, True};
    for manners in [[True, True], [True, Flips], [Cuts, True], [True, Silent], [HasNothing, True]] {
        let a = Node::start("127.0.0.1", None, patient).await;
        let (one, one_asked) = face(&a, &honest, manners[0]).await;
        let (other, other_asked) = face(&a, &honest, manners[1]).await;
        for node in [&a, &one, &other] {
            node.knows(2).await;
        }
        for node in [&one, &other] {
            holds(node, &large, total).await;
        }
        let whole = a.get(&host, "/", &[]).await;
        let place = format!("{manners:?}: {whole:?}");
        assert!(whole.status == 200 && whole.whole, "{place}");
        assert!(whole.body == octets(1, 0..total), "{place}");
        assert!(whole.source().starts_with("peer:"), "{place}");
        assert_eq!(large.origin.count(), 1, "{place}");
        for (manner, asked) in manners.into_iter().zip([one_asked, other_asked]) {
            let asked = asked.load(Ordering::SeqCst);
            // Its share, or a window of each of the two runs at most, and the first slice.
            let expect = if manner == True { 4..=40 } else { 0..=9 };
            assert!(expect.contains(&asked), "{manner:?} of {place}: {asked}");
        }
        // It has become one that holds the whole, and shows it.
        let rebuilt = async || {
            let mut request =
                Request::get(format!("https://localhost:{}/", large.origin.addr.port()));
            request.headers_mut().unwrap().insert("coralline-scheme", "http".parse().unwrap());
            ask_as_peer(&one, &a, request.body(Empty::new()).unwrap()).await
        };
        let mut proved = false;
        for _ in 0..300 {
            proved = rebuilt().await.headers().contains_key("coralline-proof");
            if proved {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(proved, "{place}");
    }
}

/// An origin has sent other octets under the same fields. What was signed of the one and of the other is not
/// joined, and what was joined with the origin's own turns out not to be what was signed, and is not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_have_signed_differently_is_never_joined() {
    let total = 20 * MIB + 7;
    let same = |_| "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\n".to_owned();
    let large = Large::with(total, Manner::Ranges, same).await;
    let host = large.origin.host();
    let mut honest = Vec::new();
    for (ip, version) in [("127.0.0.9", 1), ("127.0.0.8", 2)] {
        let node = Arc::new(Node::start(ip, None, patient).await);
        assert!(node.get(&host, "/", &[]).await.body == octets(version, 0..total));
        honest.push(node);
        large.change();
    }
    let sent = large.origin.count();
    let a = Node::start("127.0.0.1", None, patient).await;
    let (one, _) = face(&a, &honest[0], Conduct::True).await;
    let (other, _) = face(&a, &honest[1], Conduct::True).await;
    for node in [&a, &one, &other] {
        node.knows(2).await;
    }
    for node in [&one, &other] {
        holds(node, &large, total).await;
    }
    let whole = a.get(&host, "/", &[]).await;
    let is_one = [1, 2].into_iter().any(|version| whole.body == octets(version, 0..total));
    assert!(whole.whole && is_one, "{whole:?}");
    assert_eq!(large.origin.count(), sent);
}

/// One gives the first slice of what it alone has signed, and no more; the origin has the rest of something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_joined_and_not_what_was_signed_is_forgotten() {
    let total = 20 * MIB + 7;
    let same = |_| "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\n".to_owned();
    let large = Large::with(total, Manner::Ranges, same).await;
    let host = large.origin.host();
    let honest = Arc::new(Node::start("127.0.0.9", None, patient).await);
    assert!(honest.get(&host, "/", &[]).await.whole);
    large.change();
    let a = Node::start("127.0.0.1", None, patient).await;
    let (one, _) = face(&a, &honest, Conduct::Once).await;
    let (other, _) = face(&a, &honest, Conduct::HasNothing).await;
    for node in [&a, &one, &other] {
        node.knows(2).await;
    }
    for node in [&one, &other] {
        holds(node, &large, total).await;
    }
    let mut last = a.get(&host, "/", &[]).await;
    for _ in 0..50 {
        if last.body == octets(2, 0..total) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        last = a.get(&host, "/", &[]).await;
    }
    panic!("{last:?}, {:?}", large.slices());
}

/// Longer than a slice may take of one of several.
const SLOW: Duration = Duration::from_secs(4);

/// A disk that takes longer for a slice than its source is waited for is no reason to ask for what is here.
#[test]
fn what_has_come_is_not_left_while_it_is_written() {
    let runtime = |blocking| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(blocking).enable_all().build().unwrap()
    };
    let (others, slow) = (runtime(16), runtime(1));
    let total = 20 * MIB + 7;
    let (large, nodes) = others.block_on(async {
        let large = Large::start(total, Manner::Ranges).await;
        let honest = Arc::new(Node::start("127.0.0.9", None, patient).await);
        assert_eq!(honest.get(&large.origin.host(), "/", &[]).await.source(), "origin");
        let seed = Node::start("127.0.0.1", None, patient).await;
        let (one, _) = face(&seed, &honest, Conduct::True).await;
        let (other, _) = face(&seed, &honest, Conduct::True).await;
        (large, [Arc::new(seed), one, other])
    });
    let (host, seeds) = (large.origin.host(), vec![nodes[0].seed()]);
    slow.block_on(async {
        let set = |config: &mut coralline_config::Config| {
            patient(config);
            config.overlay.seeds = seeds;
        };
        let a = Node::start("127.0.0.1", None, set).await;
        a.knows(3).await;
        for node in &nodes[1..] {
            holds(node, &large, total).await;
        }
        let block = async {
            until("slices arrive", || a.counted("coralline_slices_arriving") > 0.0).await;
            // All that waits for the disk waits for this.
            let _ = tokio::task::spawn_blocking(|| std::thread::sleep(SLOW)).await;
        };
        let (whole, ()) = tokio::join!(a.get(&host, "/", &[]), block);
        assert!(whole.whole && whole.body == octets(1, 0..total), "{whole:?}");
        assert_eq!(large.origin.count(), 1, "{:?}", large.slices());
    });
}

/// Who holds the whole and lets it drip, each piece in time, is left for the origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_drips_is_left() {
    let line = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = line.local_addr().unwrap();
    let set = |config: &mut coralline_config::Config| {
        patient(config);
        config.peer.listen = addr;
    };
    let b = Node::start("127.0.0.1", None, set).await;
    let a = Node::start("127.0.0.1", Some(&b), patient).await;
    for node in [&a, &b] {
        node.knows(1).await;
    }
    let content = b.content;
    tokio::spawn(async move {
        while let Ok((near, _)) = line.accept().await {
            tokio::spawn(async move {
                let (mut near_in, mut near_out) = near.into_split();
                let (mut far_in, mut far_out) =
                    TcpStream::connect(content).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut near_in, &mut far_out).await });
                let mut piece = vec![0; 8 << 10];
                while let Ok(length @ 1..) = far_in.read(&mut piece).await {
                    if near_out.write_all(&piece[..length]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
            });
        }
    });
    let large = Large::start(TOTAL, Manner::Ranges).await;
    assert!(b.get(&large.origin.host(), "/", &[]).await.whole);
    announced(&a, &large.origin).await;
    let response = range(&a, &large, &format!("{}-{}", WANTED.start, WANTED.end - 1)).await;
    check(&response, 1, WANTED, TOTAL);
    assert_eq!(large.origin.count(), 2);
}
