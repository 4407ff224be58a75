//! What stays when there is no room for all, on a real directory of the smallest capacity.
#![expect(clippy::unwrap_used, reason = "this file is nothing but tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coralline_disk::{Disk, Options, limits};

const MIB: u64 = 1 << 20;

fn open(dir: &Path) -> (Disk, Arc<AtomicU64>) {
    let evicted = Arc::new(AtomicU64::new(0));
    let count = evicted.clone();
    let options = Options { capacity: limits::MIN_CAPACITY, memory: MIB };
    let disk = Disk::open(dir, options, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (disk.unwrap(), evicted)
}

fn put(disk: &Disk, key: &str, octets: u64) {
    let mut writer = disk.begin(key.as_bytes(), b"", Some(octets)).unwrap();
    let block = [7; 64 << 10];
    let mut left = octets;
    while left > 0 {
        let piece = left.min(64 << 10);
        writer.write(&block[..usize::try_from(piece).unwrap()]).unwrap();
        left -= piece;
    }
    writer.commit().unwrap();
}

fn octets_in(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// The share of 200 small objects that is there when it is asked for, while `rounds` of something else
/// go through. Whatever is missing is fetched again.
fn hits_of_small_ones(disk: &Disk, rounds: u64, mut other: impl FnMut(u64)) -> f64 {
    let (mut hits, mut asked) = (0.0, 0.0);
    for round in 0..rounds {
        for n in 0..200 {
            let key = format!("small {n}");
            let hit = disk.get(key.as_bytes()).is_some();
            if !hit {
                put(disk, &key, 10_000);
            }
            if round > 1 {
                hits += f64::from(u8::from(hit));
                asked += 1.0;
            }
        }
        other(round);
    }
    hits / asked
}

#[test]
fn a_huge_object_does_not_flush_small_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, evicted) = open(dir.path());
    let ratio = hits_of_small_ones(&disk, 12, |round| {
        put(&disk, &format!("huge {round}"), 32 * MIB);
        assert!(octets_in(dir.path()) <= limits::MIN_CAPACITY);
    });
    println!("hit ratio of small objects beside huge ones: {ratio:.3}");
    assert!(ratio > 0.95, "{ratio}");
    assert!(evicted.load(Ordering::Relaxed) <= 12 + 200);
    // All of it is found again after a restart.
    let before = disk.stats();
    drop(disk);
    let (disk, _) = open(dir.path());
    assert_eq!(disk.stats().objects, before.objects);
    let there = (0..200).filter(|n| disk.get(format!("small {n}").as_bytes()).is_some()).count();
    assert!(there > 190, "{there}");
}

#[test]
fn a_scan_of_small_ones_does_not_flush_those_that_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, evicted) = open(dir.path());
    let ratio = hits_of_small_ones(&disk, 12, |round| {
        (0..1000).for_each(|n| put(&disk, &format!("once {round} {n}"), 10_000));
    });
    println!("hit ratio of small objects beside a scan: {ratio:.3}");
    assert!(ratio > 0.95, "{ratio}");
    let told = evicted.load(Ordering::Relaxed);
    assert_eq!(told, disk.stats().evicted);
    // Whoever was told of each that has gone knows how many are left, but for those put twice.
    assert!(disk.stats().objects <= 12_200 - told + 200, "{told}");
}

#[test]
fn what_is_not_full_keeps_all() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, evicted) = open(dir.path());
    // Never read, and far more than the share of what is new.
    (0..1000).for_each(|n| put(&disk, &format!("{n}"), 9_000));
    assert!((0..1000).all(|n| disk.contains(format!("{n}").as_bytes())));
    assert_eq!(evicted.load(Ordering::Relaxed), 0);
}

#[test]
fn memory_is_a_bound_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = open(dir.path());
    for n in 0..100_000 {
        put(&disk, &format!("{n}"), 10);
    }
    let records = disk.stats().records;
    assert!(records <= 65_536, "{records}: 4 MiB of index at least, whatever is asked for");
    assert!(records > 40_000, "{records}");
}
