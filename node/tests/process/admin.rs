//! The admin listener.

use crate::harness::{ADMIN, HTTP, Node, Reply, ask, get};

fn page(node: &Node, method: &str, path: &str, accept: &str) -> Reply {
    ask(node.at(ADMIN), method, path, &[("Host", "localhost"), ("Accept", accept)]).unwrap()
}

#[test]
fn answers_what_it_should_and_nothing_else() {
    let node = Node::running(&[]);
    for (method, path, status) in [
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("HEAD", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/status", 200),
        ("GET", "/", 404),
        ("GET", "/status/", 404),
        ("POST", "/status", 405),
        ("DELETE", "/nothing", 405),
    ] {
        let reply = page(&node, method, path, "*/*");
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.header("allow"), if status == 405 { "GET, HEAD" } else { "" });
        assert_eq!(reply.body.is_empty(), method == "HEAD", "{method} {path}");
    }
    let elsewhere = ask(node.at(ADMIN), "GET", "/status", &[("Host", "evil.example")]).unwrap();
    assert_eq!(elsewhere.status, 421);
    let metrics = get(node.at(ADMIN), "/metrics").unwrap();
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
}

#[test]
fn status_is_json_for_programs_and_a_page_for_people() {
    let node = Node::running(&[]);
    let json = page(&node, "GET", "/status", "*/*");
    assert_eq!(json.header("content-type"), "application/json");
    let status = node.status();
    for key in ["version", "suffix", "node", "uptime_seconds", "joined", "neighbours"] {
        assert!(!status[key].is_null(), "{key} is missing in {status}");
    }
    assert_eq!(status["suffix"], "cdn.localhost");
    assert_eq!(status["node"]["id"].as_str().unwrap().len(), 40);

    let html = page(&node, "GET", "/status", "text/html,*/*;q=0.8");
    assert!(html.header("content-type").starts_with("text/html"));
    let text = html.text();
    assert!(text.contains("<!doctype html>") && text.contains("cdn.localhost"), "{text}");
    assert!(!text.contains("src=") && !text.contains("<link"), "nothing from elsewhere: {text}");
}

#[test]
fn status_counts_what_was_served() {
    let node = Node::running(&[]);
    assert_eq!(node.status()["requests"]["none"], 0);
    let reply = ask(node.at(HTTP), "GET", "/", &[("Host", "cdn.localhost:8080")]).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let status = node.status();
    assert_eq!(status["requests"]["none"], 1, "{status}");
    assert_eq!(node.metric("coralline_http_requests_total{source=\"none\"}"), 1.0);
}
