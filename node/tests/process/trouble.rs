//! The disk of a running node is full, or fails: it serves on, and says so.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{ADMIN, HTTP, Node, ask, send};
use crate::scripted::{Origin, verify};

/// A file system of its own, gone with this.
struct Mounted {
    at: PathBuf,
    /// The loop device under it, if there is one, and the file under that.
    device: Option<(String, PathBuf)>,
}

/// Runs a command that takes rights which a test may not have; what it says, if it was done.
fn run(command: &[&str]) -> Option<String> {
    let output = Command::new(command[0]).args(&command[1..]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Mounted {
    /// In memory, of a few MiB.
    fn small(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={size}");
        run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", at.to_str().unwrap()])?;
        Some(Self { at: at.to_owned(), device: None })
    }

    /// On a device that is a file, which can be cut short.
    fn on_file(at: &Path, file: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        File::create(file).unwrap().set_len(128 << 20).unwrap();
        let name = file.to_str().unwrap();
        run(&["mkfs.ext4", "-q", "-O", "^has_journal", name])?;
        let device = run(&["losetup", "-f", "--show", name])?;
        let mounted = Self { at: at.to_owned(), device: Some((device, file.to_owned())) };
        mounted.again().then_some(mounted)
    }

    fn again(&self) -> bool {
        let (device, _) = self.device.as_ref().expect("a device");
        run(&["mount", device, self.at.to_str().unwrap()]).is_some()
    }

    fn unmount(&self) {
        assert!(run(&["umount", self.at.to_str().unwrap()]).is_some());
    }

    /// From now on reading the device fails, as far as nobody has read it yet.
    fn fail(&self) {
        let (_, file) = self.device.as_ref().expect("a device");
        File::options().write(true).open(file).unwrap().set_len(1 << 20).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(&["umount", "-l", self.at.to_str().unwrap()]);
        if let Some((device, _)) = &self.device {
            let _ = run(&["losetup", "-d", device]);
        }
    }
}

/// GET of a path from the node; where it came from.
fn get(node: &Node, origin: &Origin, path: &str) -> String {
    let host = origin.host();
    let reply = ask(node.at(HTTP), "GET", path, &[("Host", &host)]).expect("it serves on");
    verify(path, &reply);
    reply.header("cache-status").rsplit("detail=").next().unwrap_or_default().to_owned()
}

fn paths(count: u64) -> impl Iterator<Item = String> {
    // Now and then one that is written as it arrives.
    (0..count).map(|n| format!("/{}/keep/{n}", if n % 10 == 9 { 2_000_000 } else { 200_000 }))
}

#[test]
fn a_node_whose_disk_is_full_serves_on_and_says_so() {
    let mut node = Node::new(&[]);
    let Some(_small) = Mounted::small(&node.dir().join("state"), "64m") else {
        println!("skipped: no right to mount a tmpfs");
        return;
    };
    let origin = Origin::start();
    node.start(&["cache.memory=16MiB"]);
    node.wait_ready();
    for path in paths(250) {
        get(&node, &origin, &path);
    }
    node.wait_until("said", |node| {
        node.metric("coralline_disk_errors_total") > 0.0
            && node.log().contains("disk cache full: No space left on device")
    });
    // A purge that is answered well holds, one that could not be written down says so.
    let path = paths(250).last().unwrap();
    let version = origin.replace(&path);
    let what = format!("{{\"urls\": [\"http://{}{path}\"], \"hard\": true}}", origin.host());
    let token = node.token();
    let purge =
        send(node.at(ADMIN), "POST", "/purge", &[("Authorization", &token)], &what).unwrap();
    let written = purge.status == 200;
    assert!(written || purge.text().contains("not written down"), "{}", purge.text());
    let reply = ask(node.at(HTTP), "GET", &path, &[("Host", &origin.host())]).unwrap();
    assert_eq!(verify(&path, &reply), version);
    node.kill();
    node.start(&["cache.memory=16MiB"]);
    node.wait_ready();
    let sources: Vec<_> = paths(249).map(|path| get(&node, &origin, &path)).collect();
    let local = sources.iter().filter(|source| *source == "local").count();
    println!("a full disk of 64 MiB: {local} of 249 responses are served from it after a restart");
    assert!(local > 40, "what fits is used");
    let reply = ask(node.at(HTTP), "GET", &path, &[("Host", &origin.host())]).unwrap();
    assert!(verify(&path, &reply) == version || !written);
}

#[test]
fn a_node_whose_disk_fails_serves_on_and_says_so() {
    let mut node = Node::new(&[]);
    let cache = node.dir().join("state/cache");
    let Some(device) = Mounted::on_file(&cache, &node.dir().join("device")) else {
        println!("skipped: no right to make a loop device");
        return;
    };
    // The directory has to be the cache's own.
    let _ = fs::remove_dir(cache.join("lost+found"));
    let origin = Origin::start();
    let sets = ["cache.memory=16MiB", "cache.disk=100MiB"];
    node.start(&sets);
    node.wait_ready();
    for path in paths(100) {
        get(&node, &origin, &path);
    }
    node.wait_until("written", |node| node.metric("coralline_disk_objects") >= 90.0);
    node.signal("TERM");
    node.wait_end();
    // Nothing of the data is in the memory of the system any more; the node reads the index only.
    device.unmount();
    assert!(device.again());
    node.start(&sets);
    node.wait_ready();
    assert_eq!(get(&node, &origin, &paths(1).next().unwrap()), "local");
    device.fail();
    let sources: Vec<_> = paths(100).map(|path| get(&node, &origin, &path)).collect();
    let origins = sources.iter().filter(|source| *source == "origin").count();
    println!("a disk that fails: {origins} of 100 responses come from the origin again");
    assert!(origins > 50, "what cannot be read is fetched");
    node.wait_until("said", |node| {
        node.metric("coralline_disk_errors_total") > 0.0
            && node.log().contains("disk cache: reading fails: Input/output error")
    });
    // All of it once more, out of memory or from the origin.
    paths(100).for_each(|path| _ = get(&node, &origin, &path));
    node.signal("TERM");
    assert_eq!(node.wait_end().code(), Some(0), "{}", node.log());
}
