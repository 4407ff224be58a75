//! Requests that two readers could take apart differently: no part of one is ever taken for another, neither
//! here nor at the origin.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{Node, Origin, ok, until};

const FRESH: &str = "Cache-Control: max-age=3600\r\n";

/// The statuses of all that comes back on one connection.
async fn statuses(node: &Node, raw: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    stream.write_all(raw).await.unwrap();
    let mut answer = Vec::new();
    // A connection that stays open has said all it has to say.
    let _ = timeout(Duration::from_millis(1500), stream.read_to_end(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect()
}

/// A request by this head, and what hides in or behind it.
fn with_hidden(head: &str, body: &str) -> Vec<u8> {
    format!("{head}\r\n{body}").into_bytes()
}

const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: www.site.test\r\n\r\n";

#[tokio::test]
async fn what_is_framed_ambiguously_is_refused_and_the_connection_closed() {
    let origin = Origin::fixed(ok(FRESH, b"x")).await;
    let node = Node::of_site(&origin).await;
    let length = HIDDEN.len();
    let chunk = format!("0\r\n\r\n{HIDDEN}");
    let cases = [
        (format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), HIDDEN),
        ("Content-Length: 0, 0\r\n".into(), HIDDEN),
        ("Content-Length: +0\r\n".into(), HIDDEN),
        ("Content-Length: 0x0\r\n".into(), HIDDEN),
        ("Content-Length: -1\r\n".into(), HIDDEN),
        ("Content-Length:\r\n".into(), HIDDEN),
        ("Content-Length : 0\r\n".into(), HIDDEN),
        ("Content-Length\t: 0\r\n".into(), HIDDEN),
        (" Content-Length: 0\r\n".into(), HIDDEN),
        ("X: y\r\n Content-Length: 0\r\n".into(), HIDDEN),
        ("X: y\rContent-Length: 0\r\n".into(), HIDDEN),
        ("X: y\0\r\n".into(), HIDDEN),
        ("Transfer-Encoding: chunked, identity\r\n".into(), &chunk),
        ("Transfer-Encoding: xchunked\r\n".into(), &chunk),
        ("Transfer-Encoding: \u{b}chunked\r\n".into(), &chunk),
        ("Transfer-Encoding: identity\r\n".into(), &chunk),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".into(), &chunk),
        ("Transfer-Encoding : chunked\r\n".into(), &chunk),
        ("Host: other\r\n".into(), HIDDEN),
    ];
    let mut wrong = Vec::new();
    for (lines, body) in cases {
        for method in ["GET", "POST"] {
            let head = format!("{method} / HTTP/1.1\r\nHost: www.site.test\r\n{lines}");
            let found = statuses(&node, &with_hidden(&head, body)).await;
            if found != [400] {
                wrong.push((method, lines.clone(), found));
            }
        }
    }
    assert_eq!(wrong, []);
    for head in [
        "POST / HTTP/1.0\r\nHost: www.site.test\r\nTransfer-Encoding: chunked\r\n",
        "POST /\r\nHost: www.site.test\r\n",
        "POST  / HTTP/1.1 x\r\nHost: www.site.test\r\n",
        "POST / HTTP/1.1\r\n",
    ] {
        let found = statuses(&node, &with_hidden(head, &chunk)).await;
        assert_eq!(found, [400], "{head:?}");
    }
    assert_eq!(origin.count(), 0);
    // With both, the coding counts, the length goes no further, and the connection ends (RFC 9112, 6.3).
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: www.site.test\r\n{lines}");
        assert_eq!(statuses(&node, &with_hidden(&head, &chunk)).await.len(), 1, "{lines:?}");
        assert!(!origin.last().contains("content-length: 4"), "{}", origin.last());
    }
    let seen = origin.requests.lock().unwrap().concat();
    assert!(!seen.contains("smuggled"), "{seen}");
}

#[tokio::test]
async fn chunks_that_are_none_break_the_request_off() {
    let origin = Origin::start(|_, mut stream| async move {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        assert!(!String::from_utf8_lossy(&all).contains("smuggled"));
    })
    .await;
    let node = Node::of_site(&origin).await;
    for body in [
        "x\r\n",
        "-1\r\n",
        "1 \n",
        "5\nhello\n0\n\n",
        "5\r\nhelloX\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "1;\nx\r\n",
        "2\r\nab0\r\n\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nHost: www.site.test\r\nTransfer-Encoding: chunked\r\n";
        let found = statuses(&node, &with_hidden(head, &format!("{body}{HIDDEN}"))).await;
        assert!(
            found.len() <= 1 && found.iter().all(|status| *status >= 400),
            "{body:?} {found:?}"
        );
    }
}

#[tokio::test]
async fn content_that_nobody_reads_is_not_the_next_request() {
    let origin = Origin::fixed(ok(FRESH, b"x")).await;
    let node = Node::of_site(&origin).await;
    // Kept, so that a GET would be answered from the cache without its content being read.
    node.site("GET /kept", &[], "").await;
    let port = origin.addr.port();
    let length = HIDDEN.len();
    let suffixed = format!(
        "GET /kept HTTP/1.1\r\nHost: localhost.{port}.cdn.localhost\r\nContent-Length: {length}\r\n"
    );
    assert_eq!(statuses(&node, &with_hidden(&suffixed, HIDDEN)).await, [400]);
    // A site's origin gets it as content, and what follows is a request of its own.
    let site = format!("GET /kept HTTP/1.1\r\nHost: www.site.test\r\nContent-Length: {length}\r\n");
    let two = format!("{HIDDEN}GET /after HTTP/1.1\r\nHost: www.site.test\r\n\r\n");
    let found = statuses(&node, &with_hidden(&site, &two)).await;
    // The origin may close before it has taken the content: then the connection ends here as well.
    assert!(found == [200, 200] || found == [200] || found == [502, 200], "{found:?}");
    let paths: Vec<_> = origin
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|head| head.split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert!(!paths.contains(&"/smuggled".to_owned()), "{paths:?}");
}

#[tokio::test]
async fn an_upgrade_that_is_refused_leaves_no_door_open() {
    let origin = Origin::fixed(ok("Cache-Control: no-store\r\n", b"no")).await;
    let node = Node::of_site(&origin).await;
    for lines in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: www.site.test\r\n{lines}");
        let found = statuses(&node, &with_hidden(&head, HIDDEN)).await;
        // Both are requests of this client, each judged as one.
        assert_eq!(found, [200, 200], "{lines}");
        let requests = origin.requests.lock().unwrap();
        let first = &requests[requests.len() - 2];
        assert!(!first.contains("h2c") && !first.contains("http2-settings"), "{first}");
    }
    // Nothing but a GET without content may ask for one.
    let head = "POST / HTTP/1.1\r\nHost: www.site.test\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nContent-Length: 0\r\n";
    assert_eq!(statuses(&node, &with_hidden(head, "")).await, [200]);
    assert!(!origin.last().contains("upgrade"), "{}", origin.last());
}

#[tokio::test]
async fn an_origin_that_says_more_than_it_was_asked_poisons_nobody() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nevil";
    let first = format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{evil}");
    let origin = Origin::start(move |_, mut stream| {
        let first = first.clone();
        async move {
            // More than one request on a connection would read the rest.
            let _ = stream.write_all(first.as_bytes()).await;
            let mut more = [0; 1024];
            let _ = stream.read(&mut more).await;
        }
    })
    .await;
    let node = Node::of_site(&origin).await;
    for n in 0..5 {
        let response = node.site(&format!("GET /{n}"), &[], "").await;
        assert_eq!((response.status, response.text().as_str()), (200, "good"));
    }
    for broken in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ngoods",
        "HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\ngood",
        "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\ngood",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\nx\r\n",
    ] {
        let origin = Origin::fixed(broken).await;
        let node = Node::of_site(&origin).await;
        let response = node.site("GET /", &[], "").await;
        assert!(response.status == 502 || !response.whole, "{broken:?} {response:?}");
        assert_eq!(node.proxy.sources().cache_objects, 0);
    }
}

#[tokio::test]
async fn the_same_over_http2() {
    let origin = Origin::fixed(ok(FRESH, b"x")).await;
    let node = Node::of_site(&origin).await;
    let ask = async |method: &str, lines: &[(&'static str, &str)], content: &'static str| {
        let tcp = TokioIo::new(TcpStream::connect(node.http).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), tcp);
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri("http://www.site.test/h2");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(content.as_bytes()))).unwrap();
        let status = match sender.send_request(request).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let _ = response.into_body().collect().await;
                status
            }
            Err(_) => 0,
        };
        connection.abort();
        status
    };
    assert_eq!(ask("GET", &[], "").await, 200);
    assert_eq!(ask("GET", &[("cookie", "a=b"), ("cookie", "c=d"), ("x", "1")], "").await, 200);
    assert_eq!(ask("GET", &[("host", "other.test")], "").await, 400);
    assert_eq!(ask("GET", &[("host", "WWW.site.test")], "").await, 200);
    // Fields of a connection have no place in HTTP/2 (RFC 9113, section 8.2.2).
    for line in [("transfer-encoding", "chunked"), ("connection", "x"), ("upgrade", "websocket")] {
        let status = ask("POST", &[line], "abc").await;
        let seen = origin.last();
        let sent = format!("{}: {}", line.0, line.1);
        assert!(status != 200 || !seen.contains(&sent), "{line:?} {status} {seen}");
    }
    let before = origin.count();
    assert_eq!(ask("PUT", &[], HIDDEN).await, 200);
    until("it is there", || origin.count() == before + 1).await;
    let seen = origin.requests.lock().unwrap().concat();
    assert!(!seen.contains("GET /smuggled"), "{seen}");
}
