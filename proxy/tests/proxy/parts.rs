//! Parts of large objects from peers: each with its proof, or not at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use coralline_overlay::{Key, State};
use http::{Request, Response, header, request};
use http_body_util::{Empty, Full};

use crate::peers::{Peer, ask_as_peer, point};
use crate::slices::{Large, MIB, Manner, check, patient, range};
use crate::world::{Node, Origin};

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
const WANTED: std::ops::Range<u64> = 2_500_000..4_500_000;
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
        ("half of it", as_it_is, |answer| answer.map(|body| body.slice(..1_500_000))),
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
    for (node, wanted, text) in
        [(&b, 2_500_000..4_500_000, "2500000-4499999"), (&c, total - 500..total, "-500")]
    {
        let response = range(node, &large, text).await;
        check(&response, 1, wanted, total);
        assert!(response.source().starts_with("peer:"), "{text}: {response:?}");
        assert_eq!(large.origin.count(), 1, "{text}");
    }
}
