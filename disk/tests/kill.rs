//! A process is killed while it writes, again and again; after each time every octet is checked.
//!
//! 20 rounds; `CORALLINE_KILL_ROUNDS` asks for more.
#![expect(clippy::unwrap_used, reason = "this file is nothing but tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use coralline_disk::{Disk, Options};

const KEYS: u64 = 60;
const THREADS: u64 = 3;

fn open(dir: &Path) -> Disk {
    // The smallest capacity but one or two: evictions go on all the time.
    let options = Options { capacity: 48 << 20, memory: 1 << 20 };
    Disk::open(dir, options, |_, _| ()).unwrap()
}

fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (n ^ n >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

/// The body of the n-th writing.
fn body(n: u64) -> Vec<u8> {
    let length = match mix(n) % 12 {
        0 => 2_500_000 + mix(n) % 100,
        1..3 => 300_000,
        _ => 20_000,
    } - mix(n) % 7;
    (0..length).map(|at| (n ^ at.wrapping_mul(0x9e37_79b9) >> 9).to_le_bytes()[0]).collect()
}

/// The process that is killed: writes, removes, reads, and says what is done.
fn work(dir: &Path, first: u64) {
    let disk = open(dir);
    println!("ready");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let disk = &disk;
            scope.spawn(move || {
                // Each thread has keys and numbers of its own.
                for n in (first + thread..).step_by(usize::try_from(THREADS).unwrap()) {
                    let key = mix(n * 7) % (KEYS / THREADS) * THREADS + n % THREADS;
                    let name = key.to_le_bytes();
                    match mix(n * 3) % 10 {
                        0 => {
                            disk.remove(&name).unwrap();
                            println!("removed {key} {n}");
                        }
                        1 => drop(disk.begin(&name, b"", None).unwrap().write(&body(n))),
                        2..5 => drop(disk.get(&name)),
                        _ => {
                            let (meta, octets) = (n.to_le_bytes(), body(n));
                            let known = n.is_multiple_of(2).then_some(octets.len() as u64);
                            let mut writer = disk.begin(&name, &meta, known).unwrap();
                            let written = octets.chunks(33_000).try_for_each(|o| writer.write(o));
                            if written.and_then(|()| writer.commit().map(drop)).is_ok() {
                                println!("put {key} {n}");
                            }
                        }
                    }
                }
            });
        }
    });
}

/// What was said to be done last for a key: its number, and whether it was a removal.
type Done = BTreeMap<u64, (u64, bool)>;

/// Checks all that is there; returns how many objects, and the highest number seen.
fn verify(dir: &Path, done: &Done) -> (usize, u64) {
    let disk = open(dir);
    let (mut found, mut highest) = (0, 0);
    for key in 0..KEYS {
        let Some(mut object) = disk.get(&key.to_le_bytes()) else { continue };
        let n = u64::from_le_bytes(object.meta().try_into().unwrap());
        let (last, removed) = done.get(&key).copied().unwrap_or((0, true));
        // The one that was under way may be there; whatever is older than what was done may not.
        assert!(n > last || (n == last && !removed), "{key}: {n} is back, {last} was done");
        let expect = body(n);
        assert_eq!(object.length(), expect.len() as u64);
        let mut offset = 0;
        while offset < expect.len() {
            // A slice may have been evicted.
            let Ok(octets) = object.read(offset as u64) else { break };
            assert_eq!(octets, expect[offset..offset + octets.len()], "{key} {n} at {offset}");
            offset += octets.len();
        }
        found += usize::from(offset == expect.len());
        highest = highest.max(n);
    }
    let stats = disk.stats();
    assert_eq!((stats.damaged, stats.given_up), (0, 0), "a kill damages nothing");
    (found, highest)
}

#[test]
fn a_kill_at_any_moment_leaves_no_wrong_octet() {
    if let Some(dir) = std::env::var_os("CORALLINE_KILL_DIR") {
        let first = std::env::var_os("CORALLINE_KILL_FIRST").unwrap();
        return work(Path::new(&dir), first.to_str().unwrap().parse().unwrap());
    }
    let rounds = std::env::var_os("CORALLINE_KILL_ROUNDS");
    let rounds = rounds.map_or(20, |rounds| rounds.to_str().unwrap().parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (mut done, mut first, mut survived) = (Done::new(), 1, 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_kill_at_any_moment_leaves_no_wrong_octet", "--nocapture"])
            .env("CORALLINE_KILL_DIR", dir.path())
            .env("CORALLINE_KILL_FIRST", first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        // Killed after so many things were done: a moment of which the child knows nothing.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = mix(round) % 150;
        let mut note = |line: String| {
            let words: Vec<_> = line.split(' ').collect();
            let [what @ ("put" | "removed"), key, n] = words[..] else { return false };
            let n: u64 = n.parse().unwrap();
            done.insert(key.parse().unwrap(), (n, what == "removed"));
            first = first.max(n + 1);
            true
        };
        while left > 0 {
            left -= u64::from(note(lines.next().expect("the child works on").unwrap()));
        }
        child.kill().unwrap();
        // What it had said before it died counts.
        for line in lines.map_while(Result::ok) {
            note(line);
        }
        child.wait().unwrap();
        let (found, highest) = verify(dir.path(), &done);
        survived += found;
        first = first.max(highest + 1) + 10 * THREADS;
    }
    println!("{rounds} kills; {survived} whole objects found again in all");
    assert!(survived as u64 > rounds * 5, "the cache survives: {survived}");
    std::io::stdout().flush().unwrap();
}
