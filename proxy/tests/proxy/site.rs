//! Sites under their own name: what a browser sends goes to the origin, and what it answers comes back.

use http_body_util::Empty;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peers::ask_as_peer;
use crate::world::{Node, Origin, exchange, ok};

const FRESH: &str = "Cache-Control: max-age=3600\r\n";

#[tokio::test]
async fn a_site_carries_credentials_and_shares_only_what_it_may() {
    let origin = Origin::start(|head, mut stream| async move {
        let lines = match head.split(' ').nth(1).unwrap() {
            "/public" => "Cache-Control: public, max-age=60\r\nSet-Cookie: seen=1\r\n",
            _ => "Cache-Control: max-age=60\r\n",
        };
        let _ = stream.write_all(&ok(lines, b"x")).await;
    })
    .await;
    let node = Node::of_site(&origin).await;
    let mine = ["Authorization: Basic x", "Cookie: a=b", "Referer: http://r/", "X-Custom: 1"];
    let ask = async |path: &str, lines: &[&str]| node.site(path, lines, "").await.source();
    assert_eq!(ask("GET /private", &mine).await, "origin");
    let request = origin.last();
    for line in ["authorization: Basic x", "cookie: a=b", "referer: http://r/", "x-custom: 1"] {
        assert!(request.contains(line), "{request}");
    }
    assert!(request.contains("host: www.site.test\r\n"), "{request}");
    assert!(request.contains("x-forwarded-proto: http\r\n"), "{request}");
    assert_eq!(ask("GET /private", &[]).await, "origin");
    assert_eq!(ask("GET /private", &mine).await, "local");
    assert_eq!(ask("GET /public", &mine).await, "origin");
    assert_eq!(ask("GET /public", &[]).await, "local");
    let cookie = node.site("GET /public", &[], "").await.field("set-cookie");
    assert_eq!(cookie.unwrap(), "seen=1");
}

#[tokio::test]
async fn unsafe_methods_go_through_and_throw_out() {
    let origin = Origin::start(|head, mut stream| async move {
        let mut words = head.split(' ');
        let response = match (words.next().unwrap(), words.next().unwrap()) {
            ("GET", _) => ok(FRESH, b"page"),
            (_, "/fails") => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => ok("Location: made\r\nContent-Location: http://www.site.test/named\r\n", b"done"),
        };
        let _ = stream.write_all(&response).await;
    })
    .await;
    let node = Node::of_site(&origin).await;
    let ask = async |line: &str| node.site(line, &[], "").await.source();
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
        for path in ["/x", "/fails", "/made", "/named", "/other"] {
            ask(&format!("GET {path}")).await;
            assert_eq!(ask(&format!("GET {path}")).await, "local");
        }
        assert_eq!(node.site(&format!("{method} /x"), &[], "abc").await.text(), "done");
        assert_eq!(node.site(&format!("{method} /fails"), &[], "abc").await.status, 500);
        for (path, source) in [
            ("/x", "origin"),
            ("/made", "origin"),
            ("/named", "origin"),
            ("/fails", "local"),
            ("/other", "local"),
        ] {
            assert_eq!(ask(&format!("GET {path}")).await, source, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn content_streams_up_as_it_comes() {
    let origin = Origin::start(|head, mut stream| async move {
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        let mut piece = [0; 8];
        stream.read_exact(&mut piece).await.unwrap();
        assert_eq!(&piece, b"5\r\nfirst");
        // The first piece is here before the client sends the second.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        let mut rest = Vec::new();
        while !rest.ends_with(b"0\r\n\r\n") {
            rest.push(stream.read_u8().await.unwrap());
        }
        let lines = format!("Content-Length: {}\r\n\r\n", rest.len());
        let _ = stream.write_all(lines.as_bytes()).await;
        let _ = stream.write_all(&rest).await;
    })
    .await;
    let node = Node::of_site(&origin).await;
    let mut client = TcpStream::connect(node.http).await.unwrap();
    let head = "POST /up HTTP/1.1\r\nHost: www.site.test\r\nConnection: close\r\n\
                Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    crate::world::until("the origin has the head", || origin.count() == 1).await;
    client.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    let response = crate::world::read_response(&mut client).await;
    assert_eq!((response.status, response.text().contains("second")), (200, true), "{response:?}");
}

#[tokio::test]
async fn a_slow_upload_is_not_overdue() {
    let origin = Origin::start(|_, mut stream| async move {
        let mut content = [0; 8];
        stream.read_exact(&mut content).await.unwrap();
        let _ = stream.write_all(&ok("", &content)).await;
    })
    .await;
    // Octet by octet, it takes longer than the two seconds that this node gives an origin to answer.
    let node = Node::of_site(&origin).await;
    let mut client = TcpStream::connect(node.http).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nHost: www.site.test\r\nConnection: close\r\nContent-Length: 8\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    for octet in b"patience" {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        client.write_u8(*octet).await.unwrap();
    }
    let response = crate::world::read_response(&mut client).await;
    assert_eq!((response.status, response.text().as_str()), (200, "patience"), "{response:?}");
}

#[tokio::test]
async fn too_much_content_is_refused() {
    let origin = Origin::fixed(ok("", b"x")).await;
    let node = Node::of_site(&origin).await;
    let lines = ["Content-Length: 99999999999"];
    assert_eq!(node.site("PUT /", &lines, "").await.status, 413);
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn connections_are_upgraded_where_the_origin_agrees() {
    let origin = Origin::start(|head, mut stream| async move {
        if !head.contains("upgrade: websocket") {
            let _ = stream.write_all(&ok("", b"plain")).await;
            return;
        }
        let response = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello";
        let _ = stream.write_all(response.as_bytes()).await;
        let mut piece = [0; 4];
        while stream.read_exact(&mut piece).await.is_ok() {
            let _ = stream.write_all(&piece).await;
        }
    })
    .await;
    let node = Node::of_site(&origin).await;
    let mut client = TcpStream::connect(node.http).await.unwrap();
    let head = "GET /chat HTTP/1.1\r\nHost: www.site.test\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Key: y\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        answer.push(client.read_u8().await.unwrap());
    }
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 101 "), "{text}");
    assert!(text.contains("sec-websocket-accept: x") && text.contains("upgrade: websocket"));
    for _ in 0..100 {
        client.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
    }
    drop(client);
    // Another kind of HTTP is none of the client's business, nor an upgrade of a suffixed name.
    for lines in [["Upgrade: h2c", "HTTP2-Settings: x"], ["Upgrade: websocket, h2c", "X: y"]] {
        let lines = [lines[0], lines[1]];
        let response = node.site("GET /chat", &lines, "").await;
        assert_eq!(response.text(), "plain");
        assert!(!origin.last().contains("upgrade"), "{}", origin.last());
    }
}

#[tokio::test]
async fn nobody_is_upgraded_who_did_not_ask() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let origin = Origin::fixed(answer).await;
    let node = Node::of_site(&origin).await;
    for line in ["GET /", "HEAD /", "POST /"] {
        assert_eq!(node.site(line, &[], "").await.status, 502, "{line}");
    }
}

#[tokio::test]
async fn content_of_a_get_reaches_the_origin() {
    let origin = Origin::start(|head, mut stream| async move {
        let mut content = vec![0; if head.contains("chunked") { 13 } else { 3 }];
        stream.read_exact(&mut content).await.unwrap();
        let _ = stream.write_all(&ok("Cache-Control: max-age=60\r\n", &content)).await;
    })
    .await;
    let node = Node::of_site(&origin).await;
    for _ in 0..2 {
        assert_eq!(node.site("GET /search", &[], "abc").await.text(), "abc");
        let chunks = "3\r\nabc\r\n0\r\n\r\n";
        let text = format!(
            "GET /search HTTP/1.1\r\nHost: www.site.test\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        assert_eq!(exchange(node.http, text.as_bytes()).await.text(), chunks);
    }
    assert_eq!(origin.count(), 4, "it is never kept");
}

/// Tells for each request on which connection it came.
async fn connections(challenge: &'static str) -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::start(move |first, mut stream| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            let mut head = first;
            while !head.is_empty() {
                let (status, line) = match head.contains("/login") {
                    true => ("401 Unauthorized", format!("WWW-Authenticate: {challenge}\r\n")),
                    false => ("200 OK", String::new()),
                };
                let body = n.to_string();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\n{line}Content-Length: {length}\r\n\
                     Cache-Control: no-store\r\n\r\n{body}"
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
                head = crate::world::read_head(&mut stream).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_that_somebody_logged_in_on_is_nobody_elses() {
    for (challenge, login, shared) in [
        ("Basic realm=\"x\"", "Basic eDp5", true),
        ("NTLM", "Basic eDp5", false),
        ("Basic realm=\"x\", Negotiate", "Basic eDp5", false),
        ("Basic", "NTLM TlRMTVNTUAAB", false),
        ("Basic", "negotiate YII", false),
    ] {
        let origin = connections(challenge).await;
        let node = Node::of_site(&origin).await;
        let first = node.site("GET /", &[], "").await.text();
        assert_eq!(node.site("GET /", &[], "").await.text(), first, "connections are reused");
        let path = if login.starts_with("Basic") { "GET /login" } else { "GET /" };
        node.site(path, &[&format!("Authorization: {login}")], "").await;
        let after = node.site("GET /", &[], "").await.text();
        assert_eq!(after == first, shared, "{challenge} {login}");
    }
}

#[tokio::test]
async fn other_names_are_suffixed_as_before() {
    let origin = Origin::fixed(ok(FRESH, b"x")).await;
    let node = Node::of_site(&origin).await;
    let host = |host: &str, method: &str| {
        format!("{method} / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
    };
    assert_eq!(exchange(node.http, &host("WWW.site.test.:80", "GET")).await.status, 200);
    assert_eq!(exchange(node.http, &host("site.test", "GET")).await.status, 421);
    assert_eq!(exchange(node.http, &host("www.site.test", "TRACE")).await.status, 405);
    assert_eq!(exchange(node.http, &host("a.com.cdn.localhost", "POST")).await.status, 405);
    // Peers get nothing of a site, whatever scheme they name.
    let other = Node::start("127.0.0.2", None, |_| ()).await;
    let mut ask = http::Request::get("https://www.site.test/").body(Empty::new()).unwrap();
    ask.headers_mut().insert("coralline-scheme", "http".parse().unwrap());
    assert_eq!(ask_as_peer(&other, &node, ask).await.status(), 504);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn options_stop_where_they_are_told_to() {
    let origin = Origin::fixed(ok("Allow: GET\r\n", b"")).await;
    let node = Node::of_site(&origin).await;
    assert_eq!(node.site("OPTIONS /", &["Max-Forwards: 0"], "").await.status, 204);
    assert_eq!(origin.count(), 0);
    assert_eq!(node.site("OPTIONS /", &["Max-Forwards: 3"], "").await.status, 200);
    assert!(origin.last().contains("max-forwards: 2"), "{}", origin.last());
}
