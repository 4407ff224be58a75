//! Requests that cannot be served: each has its status and its reason, and the node serves on.

use crate::world::{Node, Origin, exchange, name_server, ok};

/// Asks raw; expects a status and, where the proxy itself answers, a word of RFC 9209.
async fn check(node: &Node, request: &str, status: u16, word: &str) {
    let response = exchange(node.http, request.as_bytes()).await;
    let shown = request.get(..60).unwrap_or(request);
    assert_eq!(response.status, status, "{shown}: {}", response.head);
    if word.is_empty() {
        // hyper's own answer to a head that it cannot read.
        return;
    }
    let field =
        response.field("proxy-status").unwrap_or_else(|| panic!("{shown}: no Proxy-Status"));
    assert!(field.contains(&format!("error={word};")), "{shown}: {field}");
    assert!(response.field("cache-control").unwrap().contains("no-store"));
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.com.cdn.localhost\r\nConnection: close\r\n{lines}\r\n")
}

#[tokio::test]
async fn a_bad_request_is_told_so_and_the_node_serves_on() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", b"fine")).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let long_label = format!("{}.com.cdn.localhost", "a".repeat(64));
    let hosts = [
        ("", 400, "http_request_error"),
        ("www..com.cdn.localhost", 400, "http_request_error"),
        (".cdn.localhost", 400, "http_request_error"),
        (long_label.as_str(), 400, "http_request_error"),
        ("a b.cdn.localhost", 400, "http_request_error"),
        ("a.com.0.cdn.localhost", 400, "http_request_error"),
        ("a.com.70000.cdn.localhost", 400, "http_request_error"),
        ("a.com.22.cdn.localhost", 403, "http_request_denied"),
        ("127.0.0.1.cdn.localhost", 403, "http_request_denied"),
        ("127.0.0.1", 421, "http_request_error"),
        ("[::1]:8080", 421, "http_request_error"),
        ("www.example.com", 421, "http_request_error"),
        ("a.com.cdn.localhost.cdn.localhost", 508, "proxy_loop_detected"),
    ];
    for (host, status, word) in hosts {
        check(&node, &get(host), status, word).await;
    }
    let requests = [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "http_request_error"),
        ("GET / HTTP/1.0\r\n\r\n", 400, "http_request_error"),
        ("GET * HTTP/1.1\r\nHost: a.com.cdn.localhost\r\nConnection: close\r\n\r\n", 400, ""),
        (
            "GET http://www.example.com/ HTTP/1.1\r\nHost: a.com.cdn.localhost\r\nConnection: close\r\n\r\n",
            421,
            "http_request_error",
        ),
        ("nonsense\r\n\r\n", 400, ""),
        ("GET / HTTP/9.9\r\n\r\n", 400, ""),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n", 400, ""),
    ];
    for (request, status, word) in requests {
        check(&node, request, status, word).await;
    }
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let lines = [
        ("Host: b.com.cdn.localhost\r\n", 400, "http_request_error"),
        ("CDN-Loop: other, cdn.localhost\r\n", 508, "proxy_loop_detected"),
        ("Content-Length: 5\r\n", 400, "http_request_error"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400, ""),
        ("Content-Length: five\r\n", 400, ""),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400, "http_request_error"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400, "http_request_error"),
        ("Transfer-Encoding: chunked, gzip\r\n", 400, ""),
        ("bad name: x\r\n", 400, ""),
        (many.as_str(), 431, ""),
    ];
    for (lines, status, word) in lines {
        check(&node, &with(lines), status, word).await;
    }
    check(&node, &with(&format!("x: {}\r\n", "y".repeat(40_000))), 431, "http_request_error").await;
    check(&node, &with(&format!("x: {}\r\n", "y".repeat(200_000))), 431, "").await;
    let long = |n| get("a.com.cdn.localhost").replacen("/ ", &format!("/{} ", "u".repeat(n)), 1);
    check(&node, &long(9_000), 414, "http_request_error").await;
    check(&node, &long(70_000), 414, "").await;

    let response = node.get(&origin.host(), "/", &[]).await;
    assert_eq!((response.status, response.text().as_str()), (200, "fine"));
    node.shutdown().await;
}

#[tokio::test]
async fn other_methods_are_refused_with_allow() {
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let response = node.ask(method, "a.com", "/", &["Content-Length: 0"]).await;
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.field("allow").unwrap(), "GET, HEAD");
        assert!(response.field("proxy-status").unwrap().contains("http_request_denied"));
    }
    let connect = b"CONNECT a.com:443 HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(node.http, connect).await.status, 405);
    let asterisk = b"OPTIONS * HTTP/1.1\r\nHost: a.com.cdn.localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(node.http, asterisk).await.status, 405);
}

#[tokio::test]
async fn the_absolute_form_is_served_where_the_host_is_ours() {
    let origin = Origin::fixed(ok("", b"fine")).await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let host = origin.host();
    let request = format!(
        "GET http://{host}.cdn.localhost/x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"
    );
    let response = exchange(node.http, request.as_bytes()).await;
    assert_eq!((response.status, response.text().as_str()), (200, "fine"));
    assert!(origin.last().starts_with("GET /x HTTP/1.1\r\n"));
}

#[tokio::test]
async fn no_door_leads_into_a_private_network() {
    let origin = Origin::fixed(ok("", b"secret")).await;
    let server = name_server().await;
    let node = Node::start("127.0.0.1", None, |config| {
        config.origin.allow_private = Vec::new();
        config.origin.nameservers = vec![server];
    })
    .await;
    let port = origin.addr.port();
    for name in ["localhost", "local.test", "private.test", "mixed.test", "x.localhost"] {
        let response = node.get(&format!("{name}.{port}"), "/", &[]).await;
        assert_eq!(response.status, 502, "{name}");
        let field = response.field("proxy-status").unwrap();
        assert!(field.contains("error=destination_ip_prohibited;"), "{name}: {field}");
    }
    assert_eq!(origin.count(), 0);
    // With one network listed, only its address of a name that has another too is connected to.
    let node = Node::start("127.0.0.1", None, |config| {
        config.origin.nameservers = vec![server];
    })
    .await;
    assert_eq!(node.get(&format!("local.test.{port}"), "/", &[]).await.status, 200);
    assert_eq!(node.get(&format!("mixed.test.{port}"), "/mixed", &[]).await.status, 200);
    assert_eq!(node.get(&format!("private.test.{port}"), "/", &[]).await.status, 502);
    // The node's own listeners are no origin, whatever is allowed.
    for own in [node.http.port(), node.peer.port()] {
        let response = node.get(&format!("localhost.{own}"), "/", &[]).await;
        assert!(response.field("proxy-status").unwrap().contains("destination_ip_prohibited"));
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn names_that_lead_nowhere() {
    let server = name_server().await;
    let node = Node::start("127.0.0.1", None, |config| {
        config.origin.nameservers = vec![server];
        config.origin.connect_timeout = std::time::Duration::from_millis(500);
    })
    .await;
    let response = node.get("nowhere.test", "/", &[]).await;
    assert_eq!(response.status, 502);
    assert!(response.field("proxy-status").unwrap().contains("error=dns_error;"));
    assert!(String::from_utf8_lossy(&response.body).contains("nowhere.test"));
    let response = node.get("www.silent.test.8000", "/", &[]).await;
    assert_eq!(response.status, 504);
    let word = response.field("proxy-status").unwrap();
    assert!(word.contains("connection_timeout") || word.contains("dns_timeout"), "{word}");
}
