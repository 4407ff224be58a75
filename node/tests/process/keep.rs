//! What a node keeps: over a kill, until it is purged.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{ADMIN, HTTP, Node, ask, coralline, get_site, three};
use crate::nginx::Nginx;
use crate::scripted::{Origin, verify};

const FILES: usize = 40;

/// A body that tells which one it is.
fn body(n: usize) -> Vec<u8> {
    // The largest is in several slices.
    format!("{n} ").into_bytes().into_iter().cycle().take(1 + n * n * 2_000).collect()
}

fn source(node: &Node, host: &str, n: usize) -> String {
    let reply = get_site(node.at(HTTP), host, &format!("/kept/{n}")).expect("an answer");
    assert_eq!(reply.status, 200);
    assert!(reply.body == body(n), "every octet of {n}");
    let status = reply.header("cache-status");
    status.rsplit("detail=").next().unwrap_or_default().to_owned()
}

#[test]
fn what_is_on_disk_survives_a_kill_and_not_a_purge() {
    let more = "location /kept/ { alias made/; add_header Cache-Control max-age=3600; \
                add_header Surrogate-Key \"all even\"; }\n";
    let Some(nginx) = Nginx::start(Path::new("/nonexistent"), more) else { return };
    for n in 0..FILES {
        fs::write(nginx.made().join(n.to_string()), body(n)).unwrap();
    }
    let host = nginx.host();
    let mut node = Node::running(&[]);
    for n in 0..FILES {
        assert_eq!(source(&node, &host, n), "origin", "{n}");
    }
    node.wait_until("written", |node| node.metric("coralline_disk_objects") >= FILES as f64);
    node.kill();
    node.start(&[]);
    node.wait_ready();
    for n in (0..FILES).rev() {
        assert_eq!(source(&node, &host, n), "local", "{n}");
    }

    let config = node.config();
    let purge = |args: &[&str]| {
        let mut command = coralline();
        command.args(["purge", "--config", config.to_str().unwrap()]).args(args);
        let output = command.output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
    };
    let url = format!("http://{host}/kept/7");
    assert_eq!(purge(&["--hard", &url]), (0, "purged\n".into()));
    // Nginx knows that it has not changed; after a hard purge it is not even asked.
    assert_eq!(source(&node, &host, 7), "origin");
    assert_eq!(source(&node, &host, 7), "local");
    assert_eq!(source(&node, &host, 8), "local");
    assert_eq!(purge(&["--tag", "even", "--hard"]).0, 0);
    node.kill();
    node.start(&[]);
    node.wait_ready();
    assert_eq!(source(&node, &host, 9), "origin", "a purge survives a kill too");
    let (code, said) = purge(&["no url"]);
    assert!(code == 64 && said.contains("no url") && said.contains("http://"), "{code} {said}");

    // Nobody else may.
    for token in ["", "Bearer ", "Bearer 00"] {
        let fields = [("Authorization", token)];
        let reply = ask(node.at(ADMIN), "POST", "/purge", &fields).unwrap();
        assert_eq!(reply.status, 401, "{token}");
    }
    assert_eq!(ask(node.at(ADMIN), "GET", "/purge", &[]).unwrap().status, 405);
    node.kill();
    let (code, said) = purge(&[&url]);
    assert!(code == 69 && said.contains("is it running"), "{code} {said}");
}

#[test]
fn a_full_disk_is_no_reason_to_stop() {
    // A small file system of its own needs the right to mount one.
    let dir = tempfile::tempdir().unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(dir.path())
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to mount a file system");
        return;
    }
    let unmount = Unmount(dir.path());
    let more = "location /kept/ { alias made/; add_header Cache-Control max-age=3600; }\n";
    let Some(nginx) = Nginx::start(Path::new("/nonexistent"), more) else { return };
    for n in 0..FILES {
        fs::write(nginx.made().join(n.to_string()), body(n)).unwrap();
    }
    let mut node = Node::new(&[]);
    let state = format!("state_dir={}", dir.path().display());
    node.start(&[&state, "cache.disk=64MiB"]);
    node.wait_ready();
    let host = nginx.host();
    for _ in 0..2 {
        for n in 0..FILES {
            source(&node, &host, n);
        }
    }
    node.wait_until("seen", |node| node.metric("coralline_disk_errors_total") > 0.0);
    assert!(node.log().contains("disk"), "the log says so:\n{}", node.log());
    assert_eq!(source(&node, &host, FILES - 1), "local", "memory goes on");
    node.kill();
    drop(unmount);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Asks for the head of it until that comes from a peer: then the index knows who has it. No fetch comes of it.
fn wait_pointed(node: &Node, host: &str, path: &str) {
    node.wait_for(|| {
        let reply = ask(node.at(HTTP), "HEAD", path, &[("Host", host)]).unwrap();
        reply.header("cache-status").contains("detail=peer:")
    });
}

#[test]
fn a_large_body_is_given_to_peers_with_its_proof_after_a_restart() {
    let origin = Origin::start();
    let host = format!("{}:{HTTP}", origin.host());
    let [mut holder, mut second, third] = three();
    let get = |node: &Node, path: &str| {
        let reply = ask(node.at(HTTP), "GET", path, &[("Host", &host)]).unwrap();
        verify(path, &reply);
        reply.header("cache-status").rsplit(", ").next().unwrap_or_default().to_owned()
    };
    // The proof of the first stands beside its fields, that of the second by itself.
    let paths = ["/2000000/keep/proved", "/20000000/keep/proved"];
    let fetched = || paths.map(|path| origin.asked(path).octets);
    for path in paths {
        assert!(get(&holder, path).ends_with("detail=origin"));
    }
    let once = fetched();
    holder.signal("TERM");
    assert!(holder.wait_end().success());
    holder.start(&[]);
    holder.wait_ready();
    holder.wait_neighbour(&second);
    for path in paths {
        assert!(get(&holder, path).contains("; hit"));
        wait_pointed(&second, &host, path);
        let status = get(&second, path);
        assert!(status.contains("detail=peer:"), "{path}: {status}");
    }
    assert_eq!(fetched(), once);

    // What the origin has validated is proved by a new receipt and the nodes of the old one.
    second.kill();
    for path in paths {
        let fields = [("Host", host.as_str()), ("Authorization", &holder.token())];
        assert_eq!(ask(holder.at(HTTP), "PURGE", path, &fields).unwrap().status, 200);
        let status = get(&holder, path);
        assert!(status.contains("fwd-status=304"), "{path}: {status}");
        wait_pointed(&third, &host, path);
        let status = get(&third, path);
        assert!(status.contains("detail=peer:"), "{path}: {status}");
    }
    assert_eq!(fetched(), once);
}
