//! RFC 9111 as a client and an origin see it, on a site under its own name. `RFC9111.md` names these tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use crate::world::{Node, Origin, Response, ok, until};

/// An origin that answers the n-th request with the n-th of these, and then with the last.
async fn sequence(responses: Vec<Vec<u8>>) -> Origin {
    let (next, responses) = (AtomicUsize::new(0), Arc::new(responses));
    Origin::start(move |_, mut stream| {
        let n = next.fetch_add(1, Ordering::SeqCst).min(responses.len() - 1);
        let responses = responses.clone();
        async move {
            let _ = stream.write_all(&responses[n]).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn not_modified(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n").into_bytes()
}

fn error(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\noops").into_bytes()
}

fn check(response: &Response, body: &str, source: &str) {
    assert_eq!(
        (response.text().as_str(), response.source().as_str()),
        (body, source),
        "{response:?}"
    );
}

const FRESH: &str = "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\n";
/// Stale from its first moment.
const STALE: &str = "Cache-Control: max-age=60\r\nAge: 60\r\nETag: \"v1\"\r\n";

#[tokio::test]
async fn only_get_is_looked_up_and_stored() {
    let origin = sequence(vec![ok(FRESH, b"one"), ok(FRESH, b"two"), ok(FRESH, b"three")]).await;
    let node = Node::of_site(&origin).await;
    check(&node.site("OPTIONS /", &[], "").await, "one", "origin");
    check(&node.site("GET /", &[], "").await, "two", "origin");
    check(&node.site("GET /", &[], "").await, "two", "local");
    check(&node.site("OPTIONS /", &[], "").await, "three", "origin");
    // Content makes a GET the origin's affair.
    check(&node.site("GET /", &[], "query").await, "three", "origin");
}

#[tokio::test]
async fn fields_are_kept_as_they_came() {
    let lines = "Cache-Control: max-age=60, x=\"y\"\r\nContent-Encoding: odd\r\nX-Frame-Options: deny\r\n\
                 Unknown: 1\r\nUnknown: 2\r\nContent-Range: nonsense\r\nContent-MD5: x==\r\n\
                 Set-Cookie: a=b\r\nKeep-Alive: x\r\nConnection: hop\r\nHop: 1\r\n";
    let origin = sequence(vec![ok(lines, b"\x00\xffraw")]).await;
    let node = Node::of_site(&origin).await;
    for source in ["origin", "local"] {
        let response = node.site("GET /", &["Accept-Encoding: identity"], "").await;
        assert_eq!(
            (response.body.as_slice(), response.source().as_str()),
            (&b"\x00\xffraw"[..], source)
        );
        let field = |name| response.field(name).unwrap_or_default();
        assert_eq!(field("cache-control"), "max-age=60, x=\"y\"");
        assert_eq!((field("content-encoding"), field("unknown")), ("odd".into(), "1, 2".into()));
        assert_eq!(
            (field("content-range"), field("set-cookie")),
            ("nonsense".into(), "a=b".into())
        );
        assert!(response.field("hop").is_none() && response.field("keep-alive").is_none());
    }
}

#[tokio::test]
async fn trailers_are_no_headers() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\
                   Cache-Control: max-age=60\r\n\r\n3\r\nabc\r\n0\r\nX-End: 1\r\nSet-Cookie: a=b\r\n\r\n";
    let origin = sequence(vec![chunked.into()]).await;
    let node = Node::of_site(&origin).await;
    for source in ["origin", "local"] {
        let response = node.site("GET /", &[], "").await;
        check(&response, "abc", source);
        assert!(response.field("x-end").is_none() && response.field("set-cookie").is_none());
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_stored() {
    let torn =
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nCache-Control: max-age=60\r\n\r\ntorn".to_vec();
    let origin = sequence(vec![torn, ok(FRESH, b"whole")]).await;
    let node = Node::of_site(&origin).await;
    assert!(!node.site("GET /", &[], "").await.whole);
    check(&node.site("GET /", &[], "").await, "whole", "origin");
    check(&node.site("GET /", &[], "").await, "whole", "local");
}

#[tokio::test]
async fn of_several_that_suit_the_latest_is_used() {
    let dated = |second, vary, body: &str| {
        let lines = format!(
            "Cache-Control: max-age=100000000000\r\nVary: {vary}\r\n\
             Date: Sun, 09 Sep 2001 01:46:{second} GMT\r\n"
        );
        ok(&lines, body.as_bytes())
    };
    let origin = sequence(vec![dated("40", "a", "older"), dated("50", "b", "newer")]).await;
    let node = Node::of_site(&origin).await;
    check(&node.site("GET /", &["A: 1", "B: 1"], "").await, "older", "origin");
    check(&node.site("GET /", &["A: 2", "B: 2"], "").await, "newer", "origin");
    // This one suits both.
    check(&node.site("GET /", &["A: 1", "B: 2"], "").await, "newer", "local");
    check(&node.site("GET /", &["A: 1", "B: 1"], "").await, "older", "local");
}

#[tokio::test]
async fn a_response_that_omits_vary_does_not_hide_those_that_vary() {
    let varied =
        |body: &str| ok("Cache-Control: max-age=60\r\nVary: Accept-Language\r\n", body.as_bytes());
    let origin =
        sequence(vec![varied("deutsch"), ok("Cache-Control: max-age=60\r\n", b"default")]).await;
    let node = Node::of_site(&origin).await;
    let ask = async |language: &str| {
        node.site("GET /", &[&format!("Accept-Language: {language}")], "").await
    };
    check(&ask("de").await, "deutsch", "origin");
    check(&ask("xx").await, "default", "origin");
    check(&ask("de").await, "deutsch", "local");
    check(&ask("xx").await, "default", "local");
    check(&ask("yy").await, "default", "origin");
}

#[tokio::test]
async fn variants_of_one_resource_are_bounded() {
    let origin = sequence(vec![ok("Cache-Control: max-age=60\r\nVary: a\r\n", b"x")]).await;
    // On disk they are bounded like all else there.
    let node = Node::of_site_with(&origin, |config| config.cache.disk.0 = 0).await;
    for n in 0..40 {
        node.site("GET /", &[&format!("A: {n}")], "").await;
    }
    assert_eq!(node.site("GET /", &["A: 39"], "").await.source(), "local");
    assert_eq!(node.site("GET /", &["A: 0"], "").await.source(), "origin");
    let sources = node.proxy.sources();
    assert!(sources.cache_objects == 1 && sources.cache_bytes < 40_000, "{sources:?}");
}

#[tokio::test]
async fn a_304_updates_every_variant_that_it_names() {
    let lines =
        |etag| format!("Cache-Control: max-age=60\r\nVary: a\r\nETag: {etag}\r\nAge: 60\r\n");
    let origin = sequence(vec![
        ok(&lines("\"same\""), b"same"),
        ok(&lines("\"same\""), b"same"),
        ok(&lines("\"other\""), b"other"),
        not_modified("ETag: \"same\"\r\nCache-Control: max-age=60\r\nX: new\r\n"),
    ])
    .await;
    let node = Node::of_site(&origin).await;
    let ask = async |a: &str| node.site("GET /", &[&format!("A: {a}")], "").await;
    for a in ["1", "2", "3"] {
        assert_eq!(ask(a).await.source(), "origin");
    }
    assert_eq!(ask("1").await.source(), "origin");
    assert_eq!(origin.count(), 4);
    for a in ["1", "2"] {
        let response = ask(a).await;
        check(&response, "same", "local");
        assert_eq!(response.field("x").unwrap(), "new");
    }
    ask("3").await;
    let requests = origin.requests.lock().unwrap();
    assert!(requests[4].contains("if-none-match: \"other\""), "{}", requests[4]);
}

#[tokio::test]
async fn interim_responses_go_to_the_one_who_asked() {
    let early = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\
                 Connection: x-hop\r\nX-Hop: 1\r\n\r\n";
    let origin = sequence(vec![[early.as_bytes(), &ok(FRESH, b"page")].concat()]).await;
    let node = Node::of_site(&origin).await;
    let first = node.site("GET /", &[], "").await;
    let text = format!("{}{}", first.head, first.text()).to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 102 processing\r\n\r\nhttp/1.1 103 early hints\r\nlink: </s.css>; rel=preload\r\n\r\nhttp/1.1 200 ok\r\n"), "{text}");
    let second = node.site("GET /", &[], "").await;
    check(&second, "page", "local");
    assert_eq!(second.field("link"), None);
    // HTTP/1.0 knows no interim responses.
    let old = b"GET /old HTTP/1.0\r\nHost: www.site.test\r\n\r\n";
    assert_eq!(crate::world::exchange(node.http, old).await.status, 200);
}

#[tokio::test]
async fn a_304_about_something_else_is_not_used() {
    let origin =
        sequence(vec![ok(STALE, b"old"), not_modified("ETag: \"v2\"\r\n"), ok(FRESH, b"new")])
            .await;
    let node = Node::of_site(&origin).await;
    check(&node.site("GET /", &[], "").await, "old", "origin");
    check(&node.site("GET /", &[], "").await, "new", "origin");
    assert!(!origin.last().contains("if-none-match"), "{}", origin.last());
    check(&node.site("GET /", &[], "").await, "new", "local");
}

#[tokio::test]
async fn a_304_to_a_request_without_condition_is_an_error() {
    let other = not_modified("ETag: \"v2\"\r\n");
    let stale = "Cache-Control: max-age=60, must-revalidate\r\nAge: 60\r\nETag: \"v1\"\r\n";
    let origin = sequence(vec![ok(stale, b"old"), other.clone(), other]).await;
    let node = Node::of_site(&origin).await;
    check(&node.site("GET /", &[], "").await, "old", "origin");
    assert_eq!(node.site("GET /", &[], "").await.status, 502);
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn a_cookie_in_a_304_is_for_the_one_who_asked() {
    let update = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\nX: new\r\nSet-Cookie: mine=1\r\n";
    let origin = sequence(vec![ok(STALE, b"body"), not_modified(update)]).await;
    let node = Node::of_site(&origin).await;
    check(&node.site("GET /", &[], "").await, "body", "origin");
    let mine = node.site("GET /", &[], "").await;
    check(&mine, "body", "origin");
    assert_eq!(mine.field("set-cookie").unwrap(), "mine=1");
    let others = node.site("GET /", &[], "").await;
    check(&others, "body", "local");
    assert_eq!((others.field("x").unwrap().as_str(), others.field("set-cookie")), ("new", None));
}

#[tokio::test]
async fn a_head_response_of_before_says_nothing_about_what_came_since() {
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = go.clone();
    let origin = Origin::start(move |head, mut stream| {
        let gate = gate.clone();
        async move {
            if head.starts_with("HEAD") {
                let _ = gate.acquire().await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nETag: \"old\"\r\n\r\n").await;
            } else {
                let _ = stream.write_all(&ok(FRESH, b"new")).await;
            }
        }
    })
    .await;
    let node = Arc::new(Node::of_site(&origin).await);
    let asking = node.clone();
    let head = tokio::spawn(async move { asking.site("HEAD /", &[], "").await.status });
    until("the origin is asked", || origin.count() == 1).await;
    check(&node.site("GET /", &[], "").await, "new", "origin");
    go.add_permits(1);
    assert_eq!(head.await.unwrap(), 200);
    check(&node.site("GET /", &[], "").await, "new", "local");
}

#[tokio::test]
async fn a_head_request_updates_what_is_kept() {
    let head = |lines: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n{lines}\r\n")
            .into()
    };
    let origin = sequence(vec![
        ok(STALE, b"body"),
        head("ETag: \"v1\"\r\nX: new\r\n"),
        head("ETag: \"v2\"\r\n"),
        ok(FRESH, b"next"),
    ])
    .await;
    let node = Node::of_site(&origin).await;
    check(&node.site("GET /", &[], "").await, "body", "origin");
    assert_eq!(node.site("HEAD /", &[], "").await.field("x").unwrap(), "new");
    let updated = node.site("GET /", &[], "").await;
    check(&updated, "body", "local");
    assert_eq!(updated.field("x").unwrap(), "new");
    // One that speaks of something else throws it out.
    node.site("HEAD /", &["Cache-Control: no-cache"], "").await;
    check(&node.site("GET /", &[], "").await, "next", "origin");
}

#[tokio::test]
async fn a_client_may_insist() {
    let origin = sequence(vec![
        ok("Cache-Control: max-age=3600\r\nAge: 600\r\nETag: \"v1\"\r\n", b"body"),
        not_modified("ETag: \"v1\"\r\nCache-Control: max-age=3600\r\nAge: 600\r\n"),
    ])
    .await;
    let node = Node::of_site(&origin).await;
    node.site("GET /", &[], "").await;
    for (line, source) in [
        ("X: y", "local"),
        ("Cache-Control: max-age=1000", "local"),
        ("Cache-Control: max-age=100", "origin"),
        ("Cache-Control: min-fresh=2900", "local"),
        ("Cache-Control: min-fresh=3100", "origin"),
        ("Cache-Control: no-cache", "origin"),
        ("Pragma: no-cache", "origin"),
        ("Cache-Control: only-if-cached", "local"),
    ] {
        let response = node.site("GET /", &[line], "").await;
        check(&response, "body", source);
        if source == "origin" {
            let status = response.field("cache-status").unwrap();
            assert!(status.contains("fwd=request; fwd-status=304"), "{line}: {status}");
            assert!(origin.last().contains("if-none-match: \"v1\""), "{}", origin.last());
        }
    }
    assert_eq!(origin.count(), 5);
}

#[tokio::test]
async fn what_must_be_validated_is_an_error_without_its_origin() {
    for line in ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=60"] {
        let lines = format!("Cache-Control: max-age=60, {line}\r\nAge: 60\r\nETag: \"v1\"\r\n");
        let mut origin = sequence(vec![ok(&lines, b"good")]).await;
        let node = Node::of_site(&origin).await;
        check(&node.site("GET /", &[], "").await, "good", "origin");
        origin.stop().await;
        let response = node.site("GET /", &["Cache-Control: max-stale"], "").await;
        assert_eq!(response.status, 502, "{line}");
    }
}

#[tokio::test]
async fn an_error_does_not_take_the_place_of_what_is_good() {
    for status in ["500 Internal", "502 Bad", "503 Busy", "504 Late"] {
        let origin = sequence(vec![ok(STALE, b"good"), error(status)]).await;
        let node = Node::of_site(&origin).await;
        for source in ["origin", "local", "local"] {
            check(&node.site("GET /", &[], "").await, "good", source);
        }
        assert_eq!(origin.count(), 3, "{status}");
    }
    let lines = "Cache-Control: max-age=60, must-revalidate\r\nAge: 60\r\nETag: \"v1\"\r\n";
    let origin = sequence(vec![ok(lines, b"good"), error("503 Busy")]).await;
    let node = Node::of_site(&origin).await;
    node.site("GET /", &[], "").await;
    assert_eq!(node.site("GET /", &[], "").await.status, 503);
}

#[tokio::test]
async fn named_fields_are_for_the_first_asker_alone() {
    let lines = "Cache-Control: max-age=60, private=\"set-cookie\", no-cache=\"x\"\r\n\
                 Set-Cookie: a=b\r\nX: 1\r\nY: 2\r\n";
    let origin = sequence(vec![ok(lines, b"body")]).await;
    let node = Node::of_site(&origin).await;
    let first = node.site("GET /", &[], "").await;
    assert!(first.field("set-cookie").is_some() && first.field("x").is_some());
    let second = node.site("GET /", &[], "").await;
    check(&second, "body", "local");
    assert!(second.field("set-cookie").is_none() && second.field("x").is_none());
    assert_eq!(second.field("y").unwrap(), "2");
}

#[tokio::test]
async fn a_stale_copy_is_used_while_it_is_validated() {
    let lines =
        "Cache-Control: max-age=60, stale-while-revalidate=600\r\nAge: 100\r\nETag: \"v1\"\r\n";
    let origin = sequence(vec![ok(lines, b"old"), ok(FRESH, b"new")]).await;
    let node = Node::of_site(&origin).await;
    check(&node.site("GET /", &[], "").await, "old", "origin");
    let stale = node.site("GET /", &[], "").await;
    check(&stale, "old", "local");
    assert!(stale.field("cache-status").unwrap().contains("; hit; ttl=-4"), "{stale:?}");
    until("it is validated", || origin.count() == 2).await;
    for _ in 0..3000 {
        let response = node.site("GET /", &["Cache-Control: only-if-cached"], "").await;
        if response.text() == "new" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the new one never came");
}

#[tokio::test]
async fn a_crowd_does_not_share_what_must_be_validated() {
    // A site's own clients each have a validation; behind the suffix the one that they waited for is for all.
    let table = [
        ("max-age=60", "site", 1),
        ("no-cache", "site", 5),
        ("no-cache", "suffix", 1),
        ("max-age=0", "suffix", 1),
        ("private", "suffix", 5),
    ];
    for (line, mode, expect) in table {
        let lines = format!("Cache-Control: {line}\r\nETag: \"v1\"\r\n");
        let origin = Origin::start(move |_, mut stream| {
            let response = ok(&lines, b"body");
            async move {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                let _ = stream.write_all(&response).await;
            }
        })
        .await;
        let node = Node::of_site_with(&origin, |config| {
            config.origin.allow_private = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let node = Arc::new(node.await);
        let crowd: Vec<_> = (0..5)
            .map(|_| {
                let node = node.clone();
                let host = origin.host();
                tokio::spawn(async move {
                    let response = match mode {
                        "site" => node.site("GET /", &[], "").await,
                        _ => node.get(&host, "/", &[]).await,
                    };
                    response.text()
                })
            })
            .collect();
        for one in crowd {
            assert_eq!(one.await.unwrap(), "body");
        }
        assert_eq!(origin.count(), expect, "{line} {mode}");
        if mode == "suffix" {
            node.get(&origin.host(), "/", &[]).await;
            assert_eq!(origin.count(), expect + 1, "who comes later has a validation");
        }
    }
}

#[tokio::test]
async fn a_group_is_thrown_out_at_once() {
    let origin = Origin::start(|head, mut stream| async move {
        let lines = match head.split(' ').nth(1).unwrap() {
            "/a" | "/b" => "Cache-Control: max-age=60\r\nCache-Groups: \"scripts\", \"x\"\r\n",
            "/c" => "Cache-Control: max-age=60\r\nCache-Groups: \"Scripts\"\r\n",
            _ => "Cache-Group-Invalidation: \"scripts\"\r\n",
        };
        let _ = stream.write_all(&ok(lines, b"x")).await;
    })
    .await;
    let node = Node::of_site(&origin).await;
    let sources = async || {
        let mut sources = Vec::new();
        for path in ["GET /a", "GET /b", "GET /c"] {
            sources.push(node.site(path, &[], "").await.source());
        }
        sources
    };
    assert_eq!(sources().await, ["origin", "origin", "origin"]);
    // Only what changes things has a say.
    node.site("GET /elsewhere", &[], "").await;
    assert_eq!(sources().await, ["local", "local", "local"]);
    node.site("POST /elsewhere", &[], "x").await;
    assert_eq!(sources().await, ["origin", "origin", "local"]);
}

#[tokio::test]
async fn a_response_to_post_may_be_what_a_get_gets() {
    for (lines, source) in [
        ("Cache-Control: max-age=60\r\nContent-Location: /x\r\n", "local"),
        ("Cache-Control: max-age=60\r\nContent-Location: http://www.site.test/x\r\n", "local"),
        ("Cache-Control: max-age=60\r\nContent-Location: /y\r\n", "origin"),
        ("Cache-Control: max-age=60\r\n", "origin"),
        ("Content-Location: /x\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n", "origin"),
        ("Cache-Control: private, max-age=60\r\nContent-Location: /x\r\n", "origin"),
    ] {
        let origin = sequence(vec![ok(lines, b"posted"), ok(FRESH, b"got")]).await;
        let node = Node::of_site(&origin).await;
        check(&node.site("POST /x", &[], "form").await, "posted", "origin");
        let text = if source == "local" { "posted" } else { "got" };
        if source == "local" {
            until("it is kept", || node.proxy.sources().cache_objects == 1).await;
        }
        check(&node.site("GET /x", &[], "").await, text, source);
    }
}

#[tokio::test]
async fn several_ranges_come_in_parts() {
    let lines = "Cache-Control: max-age=60\r\nContent-Type: text/plain\r\n";
    let origin = sequence(vec![ok(lines, b"0123456789")]).await;
    let node = Node::of_site(&origin).await;
    node.site("GET /", &[], "").await;
    let response = node.site("GET /", &["Range: bytes=0-1,4-5,-1"], "").await;
    assert_eq!((response.status, response.whole), (206, true));
    let kind = response.field("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, text: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n{text}"
        )
    };
    let expect = part("0-1", "01") + &part("4-5", "45") + &part("9-9", "9");
    assert_eq!(response.text(), format!("{expect}\r\n--{boundary}--\r\n"));
    assert_eq!(response.field("content-range"), None);
    let head = node.site("HEAD /", &["Range: bytes=0-1,4-5"], "").await;
    assert_eq!((head.status, head.field("content-length").unwrap().as_str()), (200, "10"));
}

#[tokio::test]
async fn a_dead_origin_is_left_alone() {
    let mut origin = sequence(vec![ok("", b"x")]).await;
    let node = Node::of_site(&origin).await;
    origin.stop().await;
    for n in 0..5 {
        let response = node.site(&format!("GET /{n}"), &[], "").await;
        assert_eq!(response.status, 502);
        assert!(response.field("proxy-status").unwrap().contains("connection_refused"));
    }
    assert!(node.counted("coralline_origin_requests_total") < 5.0);
}
