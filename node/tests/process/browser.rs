//! A page with relative links and pictures, opened in a real browser through the suffix.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{HTTP, Node, program};
use crate::nginx::Nginx;

/// One pixel, in PNG.
const PIXEL: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\
\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82";

const PAGE: &str = "<!doctype html><link rel=stylesheet href=style.css><title>reading</title>\
<img src=a.png><img src=sub/b.png><img src=/made/c.png><a href=next.html>next</a>\
<script>onload=()=>document.title=[...document.images].filter(i=>i.naturalWidth==1).length\
+' pictures, '+getComputedStyle(document.body).color+', '+document.links[0].href+', '\
+performance.getEntriesByType('resource').map(r=>new URL(r.name).host).join(' ')</script>";

#[test]
fn chromium_loads_a_page_wholly_from_the_network() {
    let Some(chromium) = program("chromium") else { return };
    let Some(nginx) = Nginx::start(Path::new("/nonexistent"), "") else { return };
    let made = nginx.made();
    fs::create_dir(made.join("sub")).unwrap();
    fs::write(made.join("page.html"), PAGE).unwrap();
    fs::write(made.join("style.css"), "body{color:rgb(1,2,3)}").unwrap();
    for picture in ["a.png", "sub/b.png", "c.png"] {
        fs::write(made.join(picture), PIXEL).unwrap();
    }
    let node = Node::running(&[]);
    let (host, profile) = (format!("{}:{HTTP}", nginx.host()), tempfile::tempdir().unwrap());
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        // Tests run side by side on addresses of their own; elsewhere *.localhost is loopback by itself.
        .arg(format!("--host-resolver-rules=MAP *.cdn.localhost {}", node.ip))
        .args(["--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("http://{host}/made/page.html"))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let title = dom.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next());
    let hosts = [host.as_str(); 4].join(" ");
    let expect = format!("3 pictures, rgb(1, 2, 3), http://{host}/made/next.html, {hosts}");
    assert_eq!(title, Some(expect.as_str()), "{dom}\n{}", node.log());
    // The origin has seen the network alone, once a file.
    let log = nginx.log();
    let from_network = |line: &&String| line.contains(" coralline/");
    assert_eq!(log.iter().filter(from_network).count(), log.len(), "{log:?}");
    assert!(nginx.fetched().values().all(|count| *count == 1), "{log:?}");
}
