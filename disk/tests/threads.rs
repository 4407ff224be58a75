//! Readers and writers at once, while everything moves.
#![expect(clippy::unwrap_used, reason = "this file is nothing but tests")]

use coralline_disk::{Disk, Options, Refused, limits};

/// What is under a key is told by its version, so that every octet can be checked.
fn body(key: u64, length: u64) -> Vec<u8> {
    (0..length)
        .map(|n| (key.wrapping_mul(31) ^ n.wrapping_mul(0x9e37_79b9) >> 7).to_le_bytes()[0])
        .collect()
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn act(disk: &Disk, state: &mut u64) -> (u64, u64) {
    let key = random(state) % 64;
    let name = key.to_le_bytes();
    match random(state) % 10 {
        0..3 => {
            let length = match random(state) % 20 {
                0 => 3 << 20,
                1..4 => 200_000,
                _ => 5_000,
            } + random(state) % 1000;
            let seed = random(state);
            let octets = body(seed, length);
            let meta = [seed.to_le_bytes(), length.to_le_bytes()].concat();
            let known = random(state).is_multiple_of(2);
            let mut writer = disk.begin(&name, &meta, known.then_some(length)).unwrap();
            let written = octets.chunks(50_000).try_for_each(|piece| writer.write(piece));
            let done = written.and_then(|()| writer.commit().map(drop));
            assert!(matches!(done, Ok(()) | Err(Refused::Evicted)), "{done:?}");
            (1, 0)
        }
        3 => {
            disk.remove(&name).unwrap();
            (0, 0)
        }
        _ => {
            let Some(mut object) = disk.get(&name) else { return (0, 0) };
            let (seed, length) = object.meta().split_at(8);
            let seed = u64::from_le_bytes(seed.try_into().unwrap());
            let expect = body(seed, u64::from_le_bytes(length.try_into().unwrap()));
            assert_eq!(object.length(), expect.len() as u64);
            let mut offset = random(state) % object.length();
            while let Ok(octets) = object.read(offset) {
                if octets.is_empty() {
                    break;
                }
                let start = usize::try_from(offset).unwrap();
                assert_eq!(octets, expect[start..start + octets.len()]);
                offset += octets.len() as u64;
            }
            (0, 1)
        }
    }
}

#[test]
fn nobody_ever_reads_a_wrong_octet() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { capacity: limits::MIN_CAPACITY, memory: 1 << 20 };
    let disk = Disk::open(dir.path(), options, |_, _| ()).unwrap();
    let (writes, reads) = std::thread::scope(|scope| {
        let run = |thread: u64| {
            let disk = disk.clone();
            move || {
                let mut state = thread * 0x1234_5678_9abc + 1;
                (0..400).map(|_| act(&disk, &mut state)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
            }
        };
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(run(thread))).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    });
    let stats = disk.stats();
    println!("{writes} writes, {reads} reads that found something; {stats:?}");
    assert!(reads > 300 && stats.evicted > 0, "{reads} {stats:?}");
    assert_eq!((stats.damaged, stats.given_up, stats.write_errors, stats.writers), (0, 0, 0, 0));
}
