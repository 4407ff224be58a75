//! What an origin says of its octets is held against them (RFC 9530).

use tokio::io::AsyncWriteExt;

use crate::liar::{Forger, HONEST_FIELDS};
use crate::world::{Node, Origin, ok};

const BODY: &[u8] = b"{\"hello\": \"world\"}\n";
/// Its digest: RFC 9530, appendix B.1.
const TRUE: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
const FALSE: &str = "sha-256=:AAAAqy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

fn chunked(lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{lines}\r\n");
    let size = format!("{:x}\r\n", body.len());
    [head.as_bytes(), size.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

#[tokio::test]
async fn what_is_not_of_its_digest_has_no_end_and_is_not_kept() {
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let mut mismatches = 0.0;
    for field in ["Repr-Digest", "Content-Digest"] {
        for (digest, good) in [(TRUE, true), (FALSE, false), ("md5=:AAAA:", true), ("=", true)] {
            for framed in [ok, chunked] {
                let lines = format!("Cache-Control: max-age=60\r\n{field}: {digest}\r\n");
                let origin = Origin::fixed(framed(&lines, BODY)).await;
                let first = node.get(&origin.host(), "/", &[]).await;
                assert_eq!(first.whole, good, "{first:?}");
                assert!(BODY.starts_with(&first.body), "{first:?}");
                let again = node.get(&origin.host(), "/", &[]).await;
                assert_eq!(again.whole, good, "{again:?}");
                assert_eq!(origin.count(), if good { 1 } else { 2 });
                mismatches += if good { 0.0 } else { 2.0 };
                let counted = node.counted("coralline_digest_mismatches_total");
                assert!((counted - mismatches).abs() < 0.5, "{counted}");
            }
        }
    }
    // Of what is empty nothing has gone out yet.
    let lines = format!("Cache-Control: max-age=60\r\nRepr-Digest: {FALSE}\r\n");
    let origin = Origin::fixed(ok(&lines, b"")).await;
    let response = node.get(&origin.host(), "/", &[]).await;
    assert_eq!(response.status, 502);
    assert!(response.field("proxy-status").unwrap().contains("digest"), "{response:?}");
}

/// A 304 has a content of its own, and nobody can say whether the kept one is of a digest that it names.
#[tokio::test]
async fn a_validation_changes_no_digest() {
    let origin = Origin::start(|head, mut stream| async move {
        let lines = |digest| {
            format!("Cache-Control: max-age=0\r\nETag: \"1\"\r\nRepr-Digest: {digest}\r\n")
        };
        let answer = match head.contains("if-none-match") {
            false => ok(&lines(TRUE), BODY),
            true => format!("HTTP/1.1 304 Not Modified\r\n{}\r\n", lines(FALSE)).into_bytes(),
        };
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    for _ in 0..2 {
        let response = node.get(&origin.host(), "/", &[]).await;
        assert_eq!((response.field("repr-digest").as_deref(), &*response.body), (Some(TRUE), BODY));
    }
    assert_eq!(origin.count(), 2);
}

/// A node signs what its origin has not said; another passes it on.
#[tokio::test]
async fn who_signs_what_is_not_of_its_digest_is_not_believed_again() {
    let lines = format!("{HONEST_FIELDS}Repr-Digest: {TRUE}\r\n");
    let origin = Origin::fixed(ok(&lines, BODY)).await;
    let a = Node::start("127.0.0.1", None, |_| ()).await;
    let forger = Forger::start(&a, &origin).await;
    let fields = [("repr-digest", TRUE)];
    forger.tell(&origin, "/one", &fields, b"{\"hello\": \"liar\"}\n\n").await;
    forger.tell(&origin, "/two", &fields, b"{\"hello\": \"liar\"}\n\n").await;
    let first = a.get(&origin.host(), "/one", &[]).await;
    assert!(!first.whole, "{first:?}");
    for path in ["/one", "/two"] {
        let response = a.get(&origin.host(), path, &[]).await;
        assert_eq!((&*response.body, response.source().as_str()), (BODY, "origin"), "{path}");
    }
    assert_eq!(forger.asked(), 1);
}
