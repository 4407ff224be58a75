//! What comes after a body.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Node, Origin};

/// With a trailer that is named, and one that must not come.
fn answer(length: usize) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End, Set-Cookie\r\n\
                Cache-Control: max-age=60\r\nETag: \"v\"\r\n\r\n";
    let body = "a".repeat(length);
    let end = "0\r\nX-End: 1\r\nX-End: 2\r\nSet-Cookie: a=b\r\nConnection: Hop\r\nHop: 1\r\n\r\n";
    format!("{head}{length:x}\r\n{body}\r\n{end}").into_bytes()
}

const TAKES: [&str; 2] = ["TE: trailers", "Connection: te"];

#[tokio::test]
async fn trailers_go_to_those_who_take_them_now_and_later() {
    // In memory, and beyond what is written to disk only when it is whole.
    for length in [3, 6 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin::fixed(answer(length)).await;
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
        let check = async |node: &Node, source: &str| {
            let taken = node.site("GET /", &TAKES, "").await;
            assert_eq!((taken.source(), taken.body.len()), (source.into(), length), "{taken:?}");
            assert!(taken.whole && taken.field("set-cookie").is_none(), "{taken:?}");
            assert_eq!(taken.trailers, "x-end: 1\r\nx-end: 2", "{taken:?}");
        };
        check(&node, "origin").await;
        assert!(origin.last().to_ascii_lowercase().contains("te: trailers\r\n"));
        check(&node, "local").await;
        for lines in [&[][..], &["Range: bytes=0-1"], &["TE: trailers", "Range: bytes=0-1"]] {
            let plain = node.site("GET /", lines, "").await;
            assert!(plain.whole && plain.trailers.is_empty(), "{plain:?}");
            assert!(plain.field("trailer").is_none() && plain.field("content-length").is_some());
        }
        node.proxy.close().await;
        node.shutdown().await;
        check(&start().await, "local").await;
        assert_eq!(origin.count(), 1);
    }
}

#[tokio::test]
async fn trailers_pass_with_what_is_not_kept() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\
                Cache-Control: no-store\r\n\r\n1\r\na\r\n0\r\nX-End: 1\r\n\r\n";
    let origin = Origin::fixed(text).await;
    let node = Node::of_site(&origin).await;
    assert_eq!(node.site("GET /", &TAKES, "").await.trailers, "x-end: 1");
    assert_eq!(node.site("GET /", &[], "").await.trailers, "");
}

#[tokio::test]
async fn over_http2_as_well() {
    let origin = Origin::fixed(answer(3)).await;
    let node = Node::of_site(&origin).await;
    for (te, expect) in [("trailers", true), ("trailers", true), ("gzip", false)] {
        let tcp = TokioIo::new(TcpStream::connect(node.http).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), tcp);
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://www.site.test/").header("te", te);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await;
        // Not all clients may even say anything else (RFC 9113, section 8.2.2).
        if let Ok(response) = response {
            let body = response.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap_or_default();
            assert_eq!(trailers.contains_key("x-end"), expect, "{te}");
            assert!(!trailers.contains_key("set-cookie"));
            assert_eq!(body.to_bytes(), "aaa");
        }
        connection.abort();
    }
}

#[tokio::test]
async fn a_site_is_told_what_comes_after_an_upload() {
    let (told, mut seen) = tokio::sync::mpsc::channel(1);
    let origin = Origin::start(move |_, mut stream| {
        let told = told.clone();
        async move {
            let mut body = Vec::new();
            while !body.ends_with(b"\r\n\r\n") {
                body.push(stream.read_u8().await.unwrap());
            }
            told.send(String::from_utf8(body).unwrap()).await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let node = Node::of_site(&origin).await;
    let request = "POST / HTTP/1.1\r\nHost: www.site.test\r\nConnection: close\r\n\
                   Trailer: Digest, X-Forwarded-For\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\nDigest: 1\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n";
    let response = crate::world::exchange(node.http, request.as_bytes()).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(seen.recv().await.unwrap(), "3\r\nabc\r\n0\r\ndigest: 1\r\n\r\n");
}
