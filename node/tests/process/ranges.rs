//! Ranges of a file that is larger than the cache, with a real nginx as the origin.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::harness::{HTTP, Node, ask};
use crate::nginx::Nginx;

const MIB: u64 = 1 << 20;
const TOTAL: u64 = 10 << 30;

/// A sparse file tells where one reads in it by a word here and there.
fn mark(file: &File, every: u64) {
    for at in (0..TOTAL).step_by(usize::try_from(every).unwrap()) {
        file.write_all_at(at.to_string().as_bytes(), at).unwrap();
    }
}

#[test]
fn a_range_of_ten_gigabytes_moves_what_it_touches_and_takes_no_memory() {
    let more = "location /film/ { alias made/; add_header Cache-Control max-age=3600; }\n";
    let Some(nginx) = Nginx::start(Path::new("/nonexistent"), more) else { return };
    let file = File::create(nginx.made().join("film")).unwrap();
    file.set_len(TOTAL).unwrap();
    mark(&file, 64 * MIB);
    let mut node = Node::new(&[]);
    node.start(&["cache.disk=64MiB", "cache.memory=32MiB"]);
    node.wait_ready();
    let host = format!("{}:{HTTP}", nginx.host());
    let memory = |node: &Node| node.metric("process_resident_memory_bytes");
    let before = memory(&node);
    let read = |node: &Node, from: u64, length: u64| {
        let range = format!("bytes={from}-{}", from + length - 1);
        let fields = [("Host", host.as_str()), ("Range", &range)];
        let reply = ask(node.at(HTTP), "GET", "/film/film", &fields).expect("an answer");
        assert_eq!((reply.status, reply.body.len() as u64), (206, length), "{}", reply.text());
        let told = format!("bytes {from}-{}/{TOTAL}", from + length - 1);
        assert_eq!(reply.header("content-range"), told);
        // The first mark that lies within.
        let at = from.next_multiple_of(64 * MIB);
        if at + 20 < from + length {
            let text = at.to_string();
            let here = &reply.body[usize::try_from(at - from).unwrap()..][..text.len()];
            assert_eq!(here, text.as_bytes(), "{at}");
        }
        reply.header("cache-status")
    };
    let first = read(&node, 5 << 30, 3 * MIB);
    assert!(first.contains("fwd=uri-miss; fwd-status=206"), "{first}");
    assert_eq!(nginx.fetched()["/film/film"], 1);
    node.wait_until("kept", |node| node.metric("coralline_slices_arriving") == 0.0);
    assert_eq!(node.metric("coralline_slices_total"), 3.0);
    // What is on disk by slices is there after a kill.
    node.kill();
    node.start(&["cache.disk=64MiB", "cache.memory=32MiB"]);
    node.wait_ready();
    assert!(read(&node, 5 << 30, 3 * MIB).contains("; hit;"));
    // More than fits the disk, from everywhere.
    for from in (0..TOTAL).step_by(usize::try_from(64 * MIB).unwrap()) {
        read(&node, from.saturating_sub(MIB / 2), 2 * MIB);
    }
    let grown = memory(&node) - before;
    assert!(grown < 64.0 * MIB as f64, "grown by {grown}");
    assert!(node.metric("coralline_disk_bytes") <= 64.0 * MIB as f64);
    // nginx has been changed under our feet: what is given is of one file.
    drop(file);
    std::fs::write(nginx.made().join("film"), vec![7; 9 << 20]).unwrap();
    let fields = [("Host", host.as_str()), ("Range", "bytes=7000000-7000009")];
    let reply = ask(node.at(HTTP), "GET", "/film/film", &fields).expect("an answer");
    assert_eq!((reply.status, reply.body), (206, vec![7; 10]));
}
