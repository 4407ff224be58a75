//! A site under its own name, with a real nginx behind that lets its pages be changed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::harness::{HTTP, Node, ask};
use crate::nginx::Nginx;

const HOST: &str = "www.example.org";

/// PUT of a text.
fn put(node: &Node, path: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(node.at(HTTP)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = text.len();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{text}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_site_is_served_under_its_own_name_and_changes_are_seen_at_once() {
    let more = "location /pages/ { dav_methods PUT DELETE; create_full_put_path on; \
                add_header Cache-Control max-age=3600; add_header X-Host $host; }";
    let root = tempfile::tempdir().unwrap();
    let Some(nginx) = Nginx::start(Path::new("/nonexistent"), &with_root(more, root.path())) else {
        return;
    };
    let mut node = Node::new(&[]);
    let config = fs::read_to_string(node.config()).unwrap();
    // The operator names the origin, which is leave enough for a private address.
    let config = config.replace("allow_private = [\"127.0.0.0/8\", \"::1/128\"]", "");
    let site = format!("[[site]]\nhost = \"{HOST}\"\norigin = \"http://{}\"\n", nginx.addr);
    fs::write(node.config(), config + &site).unwrap();
    node.start(&[]);
    node.wait_ready();
    let get = || ask(node.at(HTTP), "GET", "/pages/a.html", &[("Host", HOST)]).unwrap();
    assert_eq!(put(&node, "/pages/a.html", "first"), "201");
    for source in ["origin", "local", "local"] {
        let reply = get();
        assert_eq!((reply.status, reply.text().as_str()), (200, "first"));
        assert!(reply.header("cache-status").ends_with(source), "{}", reply.header("cache-status"));
        assert_eq!(reply.header("x-host"), HOST);
    }
    assert_eq!(put(&node, "/pages/a.html", "second"), "204");
    assert_eq!(get().text(), "second");
    assert_eq!(get().text(), "second");
    let deleted = ask(node.at(HTTP), "DELETE", "/pages/a.html", &[("Host", HOST)]).unwrap();
    assert_eq!(deleted.status, 204);
    assert_eq!(get().status, 404);
    assert_eq!(nginx.fetched()["/pages/a.html"], 3);
}

fn with_root(more: &str, root: &Path) -> String {
    more.replace("{ dav", &format!("{{ root {}; dav", root.display()))
}
