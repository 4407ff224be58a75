//! Requests that are served: from the origin, from a peer, from the cache, whole and in parts.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::world::{Node, Origin, ok, until};

const FRESH: &str = "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\n";

#[tokio::test]
async fn origin_then_peer_then_local_and_one_fetch() {
    let origin = Origin::fixed(ok(FRESH, b"hello")).await;
    let [a, b, c] = Node::three(|_| ()).await;
    for (node, source) in
        [(&a, "origin"), (&b, "peer:"), (&b, "local"), (&c, "peer:"), (&a, "local")]
    {
        let response = node.get(&origin.host(), "/x?y=1", &[]).await;
        assert_eq!(response.text(), "hello");
        assert!(response.source().starts_with(source), "{}", response.head);
        assert!(response.field("via").unwrap().contains("1.1 coralline-"));
        assert_eq!(response.field("accept-ranges").unwrap(), "bytes");
        assert!(response.field("date").is_some());
    }
    assert_eq!(origin.count(), 1);
    let request = origin.last();
    assert!(request.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: localhost:{}\r\n", origin.addr.port())), "{request}");
    assert!(request.contains("cdn-loop: cdn.localhost\r\n"), "{request}");
    assert!(request.contains("via: 1.1 coralline-"), "{request}");
}

#[tokio::test]
async fn a_response_names_its_age_and_its_hit() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=3600\r\nAge: 100\r\n", b"x")).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let first = node.get(&origin.host(), "/", &[]).await;
    let status = first.field("cache-status").unwrap();
    assert!(
        status.contains("fwd=uri-miss; fwd-status=200") && status.contains("; stored"),
        "{status}"
    );
    let second = node.get(&origin.host(), "/", &[]).await;
    assert!(second.field("cache-status").unwrap().contains("; hit; ttl="));
    assert!(second.field("age").unwrap().parse::<u64>().unwrap() >= 100);
}

#[tokio::test]
async fn heads_conditions_and_ranges_of_a_hit() {
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let origin = Origin::fixed(ok(FRESH, &body)).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let host = origin.host();
    // The first request is a range: the whole is fetched, once, and the range cut from it.
    let range = node.get(&host, "/", &["Range: bytes=500-999"]).await;
    assert_eq!((range.status, range.body.as_slice()), (206, &body[500..1000]));
    assert_eq!(range.field("content-range").unwrap(), "bytes 500-999/100000");
    let whole = node.get(&host, "/", &[]).await;
    assert_eq!((whole.status, whole.body.as_slice()), (200, body.as_slice()));
    let last = node.get(&host, "/", &["Range: bytes=-1"]).await;
    assert_eq!((last.status, last.body.as_slice()), (206, &body[99_999..]));
    let beyond = node.get(&host, "/", &["Range: bytes=100000-"]).await;
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.field("content-range").unwrap(), "bytes */100000");
    let same = node.get(&host, "/", &["If-None-Match: \"v1\""]).await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(same.field("etag").unwrap(), "\"v1\"");
    let other = node.get(&host, "/", &["If-None-Match: \"v2\""]).await;
    assert_eq!(other.status, 200);
    let head = node.ask("HEAD", &host, "/", &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("content-length").unwrap(), "100000");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_head_request_alone_stays_cheap() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n").await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let head = node.ask("HEAD", &origin.host(), "/", &[]).await;
    assert_eq!((head.status, head.field("content-length").unwrap().as_str()), (200, "5"));
    assert_eq!(head.field("x").unwrap(), "y");
    assert!(origin.last().starts_with("HEAD / "));
}

#[tokio::test]
async fn errors_and_redirects_of_the_origin_are_passed_on() {
    let origin = Origin::start(|head, mut stream| async move {
        let response = match head.split(' ').nth(1).unwrap() {
            "/moved" => "HTTP/1.1 301 Moved Permanently\r\nLocation: http://www.example.com/new\r\nContent-Length: 0\r\n\r\n",
            "/relative" => "HTTP/1.1 302 Found\r\nLocation: ../up\r\nContent-Length: 0\r\n\r\n",
            "/broken" => "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
        };
        let _ = stream.write_all(response.as_bytes()).await;
    })
    .await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let get = async |path| node.get(&origin.host(), path, &[]).await;
    for _ in 0..2 {
        let missing = get("/none").await;
        assert_eq!((missing.status, missing.text().as_str()), (404, "none"));
    }
    let moved = get("/moved").await;
    let port = node.http.port();
    let expect = format!("http://www.example.com.cdn.localhost:{port}/new");
    assert_eq!((moved.status, moved.field("location").unwrap()), (301, expect));
    assert_eq!(get("/relative").await.field("location").unwrap(), "../up");
    for _ in 0..2 {
        let broken = get("/broken").await;
        assert_eq!((broken.status, broken.text().as_str()), (500, "oops"));
    }
    // The 404 is kept for its default time, an error is not.
    let count = |path| origin.requests.lock().unwrap().iter().filter(|r| r.contains(path)).count();
    assert_eq!((count("/none "), count("/broken ")), (1, 2));
}

#[tokio::test]
async fn what_is_for_one_is_not_given_to_another() {
    for lines in [
        "Cache-Control: private, max-age=60\r\n",
        "Cache-Control: no-store\r\n",
        "Cache-Control: max-age=60\r\nSet-Cookie: id=1; Domain=cdn.localhost\r\n",
        "Cache-Control: max-age=60\r\nVary: *\r\n",
    ] {
        let origin = Origin::fixed(ok(lines, b"mine")).await;
        let [a, b, _c] = Node::three(|_| ()).await;
        for node in [&a, &a, &b] {
            let response = node.get(&origin.host(), "/", &[]).await;
            assert_eq!(response.source(), "origin", "{lines}");
            assert_eq!(response.text(), "mine");
            assert!(response.field("set-cookie").is_none(), "{lines}");
        }
        assert_eq!(origin.count(), 3, "{lines}");
    }
}

#[tokio::test]
async fn credentials_and_whims_of_one_client_cost_others_nothing() {
    let lines = "Cache-Control: max-age=60\r\nVary: Cookie, User-Agent\r\n";
    let origin = Origin::fixed(ok(lines, b"same")).await;
    let [a, b, _c] = Node::three(|_| ()).await;
    let whims = [
        ["Cookie: id=secret", "Authorization: Basic c2VjcmV0"],
        ["Cookie: id=other-secret", "User-Agent: secret"],
        ["X-Original-URL: /secret", "X-HTTP-Method-Override: secret"],
        ["X-Forwarded-Host: secret.example", "Origin: http://secret.example"],
    ];
    for node in [&a, &b] {
        for whim in &whims {
            assert_eq!(node.get(&origin.host(), "/", whim).await.text(), "same");
        }
    }
    assert_eq!(origin.count(), 1);
    assert!(!origin.last().contains("secret"), "{}", origin.last());
    // A client that wants nothing stored gets its own, and others still get what is stored.
    let own = a.get(&origin.host(), "/new", &["Cache-Control: no-store"]).await;
    assert_eq!(own.source(), "origin");
    assert_eq!(a.get(&origin.host(), "/new", &[]).await.source(), "origin");
    assert_eq!(a.get(&origin.host(), "/new", &[]).await.source(), "local");
}

#[tokio::test]
async fn variants_are_kept_apart_here_and_at_peers() {
    let origin = Origin::start(|head, mut stream| async move {
        let lines = "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n";
        let body = if head.contains("accept-language: de") { "hallo" } else { "hello" };
        let _ = stream.write_all(&ok(lines, body.as_bytes())).await;
    })
    .await;
    let [a, b, _c] = Node::three(|_| ()).await;
    for node in [&a, &b, &a, &b] {
        for (language, body) in [("de", "hallo"), ("en", "hello")] {
            let field = format!("Accept-Language: {language}");
            let response = node.get(&origin.host(), "/", &[&field]).await;
            assert_eq!(response.body, body.as_bytes());
        }
    }
    assert!(origin.count() <= 4, "{}", origin.count());
    let cached = a.get(&origin.host(), "/", &["Accept-Language: en"]).await;
    assert_eq!(cached.source(), "local");
}

#[tokio::test]
async fn a_stale_copy_is_validated_with_one_condition() {
    let origin = Origin::start(|head, mut stream| async move {
        let response = if head.contains("if-none-match: \"v1\"") {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nCache-Control: max-age=60\r\nX-New: 1\r\n\r\n"
                .to_vec()
        } else {
            ok("Cache-Control: max-age=60\r\nAge: 60\r\nETag: \"v1\"\r\n", b"same")
        };
        let _ = stream.write_all(&response).await;
    })
    .await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let get = async || node.get(&origin.host(), "/", &[]).await;
    assert_eq!(get().await.text(), "same");
    let validated = get().await;
    assert_eq!((validated.status, validated.text().as_str()), (200, "same"));
    assert_eq!(validated.source(), "origin");
    assert!(validated.field("cache-status").unwrap().contains("fwd=stale; fwd-status=304"));
    assert_eq!(validated.field("x-new").unwrap(), "1");
    assert_eq!(get().await.source(), "local");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn good_content_outlives_its_origin() {
    let lines = "Cache-Control: max-age=60\r\nAge: 60\r\nETag: \"v1\"\r\n";
    let mut origin = Origin::fixed(ok(lines, b"good")).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let host = origin.host();
    assert_eq!(node.get(&host, "/", &[]).await.status, 200);
    origin.stop().await;
    let stale = node.get(&host, "/", &[]).await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "good"));
    let status = stale.field("cache-status").unwrap();
    assert!(status.contains("fwd=stale; ttl=") && status.ends_with("detail=local"), "{status}");
    // What was never held is an honest error.
    assert_eq!(node.get(&host, "/other", &[]).await.status, 502);
}

#[tokio::test]
async fn the_node_has_a_page_and_errors_are_for_people() {
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: cdn.localhost:{}\r\nConnection: close\r\n\r\n",
        node.http.port()
    );
    let page = crate::world::exchange(node.http, request.as_bytes()).await;
    assert_eq!(page.status, 200);
    assert!(String::from_utf8_lossy(&page.body).contains("Append"));
    let refused = node.get("localhost.1", "/", &[]).await;
    assert!(String::from_utf8_lossy(&refused.body).contains("<h1>"));
    assert_eq!(node.counted("coralline_proxy_errors_total"), 1.0);
}

#[tokio::test]
async fn only_if_cached_never_leaves_the_node() {
    let origin = Origin::fixed(ok(FRESH, b"x")).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let only = ["Cache-Control: only-if-cached"];
    assert_eq!(node.get(&origin.host(), "/", &only).await.status, 504);
    assert_eq!(origin.count(), 0);
    node.get(&origin.host(), "/", &[]).await;
    assert_eq!(node.get(&origin.host(), "/", &only).await.status, 200);
}

#[tokio::test]
async fn a_304_that_says_private_is_not_shared() {
    let origin = Origin::start(|head, mut stream| async move {
        let response = if head.contains("if-none-match") {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nCache-Control: private\r\n\r\n".to_vec()
        } else {
            ok("Cache-Control: max-age=60\r\nAge: 60\r\nETag: \"v1\"\r\n", b"was for all")
        };
        let _ = stream.write_all(&response).await;
    })
    .await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    for _ in 0..3 {
        let response = node.get(&origin.host(), "/", &[]).await;
        assert_eq!((response.status, response.source().as_str()), (200, "origin"));
    }
    // Asked whole, validated and asked whole for one, asked whole for one.
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn answers_that_are_not_the_object_are_not_cacheable() {
    let origin = Origin::start(|head, mut stream| async move {
        let response = match head.split(' ').nth(1).unwrap() {
            "/empty" => b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n".to_vec(),
            "/login" => {
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
                    .to_vec()
            }
            _ => ok(FRESH, b"object"),
        };
        let _ = stream.write_all(&response).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let beyond = node.get(&origin.host(), "/", &["Range: bytes=99-"]).await;
    assert_eq!((beyond.status, beyond.field("etag")), (416, None));
    assert_eq!(beyond.field("cache-control").unwrap(), "no-store");
    for _ in 0..2 {
        let empty = node.get(&origin.host(), "/empty", &[]).await;
        assert_eq!((empty.status, empty.field("content-length")), (204, None));
    }
    let login = node.get(&origin.host(), "/login", &[]).await;
    assert_eq!((login.status, login.field("www-authenticate")), (403, None));
}

#[tokio::test]
async fn nothing_is_announced_after_the_farewell() {
    let origin = Origin::fixed(ok(FRESH, b"late")).await;
    let [a, b, _c] = Node::three(|_| ()).await;
    a.get(&origin.host(), "/early", &[]).await;
    until("it is announced", || a.proxy.sources().cache_objects == 1).await;
    a.proxy.close().await;
    a.get(&origin.host(), "/late", &[]).await;
    for path in ["/early", "/late"] {
        let key = coralline_overlay::Key::of_name(
            format!("http://localhost:{}{path}", origin.addr.port()).as_bytes(),
        );
        let mut gone = false;
        for _ in 0..500 {
            let holders = b.index.get(key).await.unwrap().pointers;
            gone = holders.iter().all(|p| p.holder.identity != a.index.local().identity);
            if gone {
                break;
            }
        }
        assert!(gone, "{path} is still announced");
    }
}

#[tokio::test]
async fn a_client_on_http2_is_served_alike() {
    let origin = Origin::fixed(ok(FRESH, b"over http/2")).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let tcp = TokioIo::new(TcpStream::connect(node.http).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), tcp);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let (host, port) = (origin.host(), node.http.port());
    let mut ask = async |method: &str, host: &str, path: &str| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{host}.cdn.localhost:{port}{path}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let status = head.headers.get("cache-status").map(|v| v.to_str().unwrap().to_owned());
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), status.unwrap_or_default(), body)
    };
    for source in ["origin", "local"] {
        let (status, cache_status, body) = ask("GET", &host, "/x").await;
        assert_eq!((status, &body[..]), (200, b"over http/2".as_slice()));
        assert!(cache_status.ends_with(source), "{cache_status}");
    }
    assert_eq!(ask("HEAD", &host, "/x").await.0, 200);
    assert_eq!(ask("POST", &host, "/x").await.0, 405);
    assert_eq!(ask("GET", "127.0.0.1", "/").await.0, 403);
    assert_eq!(ask("GET", &host, &format!("/{}", "u".repeat(9_000))).await.0, 414);
    assert_eq!(origin.count(), 1);
}
