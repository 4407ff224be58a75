//! The disk as a whole, against a model that is a map, on files that fail and stop.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::disk::Disk;
use crate::faulty::{Faulty, GEOMETRY};
use crate::hash::nth;
use crate::health::Health;
use crate::limits::{FIRST_PAUSE, MAX_KEY, MAX_META, MAX_OBJECT, MAX_WRITERS};
use crate::object::{Missing, Object};
use crate::storage::Part;
use crate::writer::Refused;

/// Enough that nothing is evicted.
const AMPLE: u64 = 1 << 20;

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

fn body(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| nth(seed, n).to_le_bytes()[0]).collect()
}

fn put(disk: &Disk, key: &[u8], meta: &[u8], body: &[u8]) -> Result<Object, Refused> {
    let mut writer = disk.begin(key, meta, Some(body.len() as u64))?;
    writer.write(body)?;
    writer.commit()
}

/// The whole body, from `offset` on.
fn read_from(object: &mut Object, mut offset: u64) -> Result<Vec<u8>, Missing> {
    let mut body = Vec::new();
    loop {
        let octets = object.read(offset)?;
        if octets.is_empty() {
            return Ok(body);
        }
        offset += octets.len() as u64;
        body.extend_from_slice(&octets);
    }
}

fn read(disk: &Disk, key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut object = disk.get(key)?;
    let body = read_from(&mut object, 0).ok()?;
    assert_eq!(body.len() as u64, object.length());
    Some((object.meta().to_vec(), body))
}

#[test]
fn bodies_of_all_lengths_come_back_from_any_offset() {
    let world = Faulty::default();
    let disk = world.disk(AMPLE);
    for length in (0..300).chain([1000, 5000]) {
        for known in [true, false] {
            let key = format!("{length} {known}");
            let body = body(length, size(length));
            let mut writer = disk.begin(key.as_bytes(), b"meta", known.then_some(length)).unwrap();
            for piece in body.chunks(1 + size(length) % 37) {
                writer.write(piece).unwrap();
            }
            let mut written = writer.commit().unwrap();
            let mut object = disk.get(key.as_bytes()).unwrap();
            assert_eq!((object.length(), object.meta()), (length, &b"meta"[..]));
            assert_eq!(object.version(), written.version());
            assert_eq!(object.is_sliced(), length > u64::from(GEOMETRY.slice));
            for offset in [0, 1, length / 3, length.saturating_sub(1), length, length + 9] {
                let rest = body.get(size(offset)..).unwrap_or_default();
                assert_eq!(read_from(&mut object, offset).unwrap(), rest, "{key} from {offset}");
                assert_eq!(read_from(&mut written, offset).unwrap(), rest);
            }
        }
    }
    assert_eq!(disk.stats().objects, 604);
    assert_eq!(disk.stats().writers, 0);
    let again = world.disk(AMPLE);
    for length in (0..300).chain([1000, 5000]) {
        let expect = (b"meta".to_vec(), body(length, size(length)));
        for known in [true, false] {
            let key = format!("{length} {known}");
            assert_eq!(read(&again, key.as_bytes()).as_ref(), Some(&expect), "{key}");
        }
    }
    let mut keys = Vec::new();
    again.for_each(|key, meta| {
        assert_eq!(meta, b"meta");
        keys.push(key.to_vec());
        true
    });
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 604);
}

#[test]
fn what_is_not_committed_changes_nothing_and_takes_no_room() {
    let disk = Faulty::default().disk(AMPLE);
    put(&disk, b"k", b"old", &body(1, 200)).unwrap();
    let (used, records) = (disk.stats().octets, disk.stats().records);
    for length in [0, 10, 64, 100, 500] {
        let mut writer = disk.begin(b"k", b"new", None).unwrap();
        writer.write(&body(2, length)).unwrap();
        drop(writer);
        let mut writer = disk.begin(b"k", b"new", Some(length as u64 + 1)).unwrap();
        writer.write(&body(2, length)).unwrap();
        assert_eq!(writer.commit().unwrap_err(), Refused::WrongLength);
        let mut writer = disk.begin(b"k", b"new", Some(length as u64)).unwrap();
        assert_eq!(writer.write(&body(2, length + 1)), Err(Refused::WrongLength));
        assert_eq!(writer.write(b""), Err(Refused::WrongLength), "for ever");
        assert_eq!(writer.commit().unwrap_err(), Refused::WrongLength);
    }
    assert_eq!(read(&disk, b"k"), Some((b"old".to_vec(), body(1, 200))));
    assert_eq!((disk.stats().octets, disk.stats().records), (used, records));
    assert_eq!(disk.stats().writers, 0);
}

#[test]
fn ranges_of_a_large_object_come_slice_by_slice() {
    let world = Faulty::default();
    let disk = world.disk(AMPLE);
    let body = body(5, 64 * 10 + 7);
    let mut object = disk.put_head(b"k", b"m", body.len() as u64).unwrap();
    assert_eq!(object.read(130), Err(Missing { start: 128, end: 192 }));
    assert_eq!(object.read(640), Err(Missing { start: 640, end: 647 }));
    let write = |offset: usize| {
        let mut writer = disk.begin_slice(&object, offset as u64).unwrap();
        let start = offset / 64 * 64;
        writer.write(&body[start..body.len().min(start + 64)]).unwrap();
        writer.commit().unwrap();
    };
    write(130);
    write(640);
    write(130);
    for disk in [&disk, &world.disk(AMPLE)] {
        let mut object = disk.get(b"k").unwrap();
        assert!(object.is_sliced() && object.has(191) && !object.has(192));
        assert_eq!(object.read(150).unwrap(), body[150..160]);
        assert_eq!(read_from(&mut object, 641).unwrap(), body[641..]);
        assert_eq!(object.read(0), Err(Missing { start: 0, end: 64 }));
    }
    // Slices of another version are never taken for this one's.
    let refused = |offset| disk.begin_slice(&object, offset).err();
    assert_eq!(refused(647), None, "the last slice ends there");
    assert_eq!(refused(704), Some(Refused::WrongLength));
    assert_eq!(refused(u64::MAX), Some(Refused::WrongLength));
    let mut late = disk.begin_slice(&object, 0).unwrap();
    let mut new = disk.put_head(b"k", b"m2", body.len() as u64).unwrap();
    late.write(&body[..64]).unwrap();
    late.commit().unwrap();
    assert_eq!(new.read(0), Err(Missing { start: 0, end: 64 }));
    assert_eq!(new.read(130), Err(Missing { start: 128, end: 192 }));
    for (length, expect) in [(63, Refused::WrongLength), (65, Refused::WrongLength)] {
        let mut writer = disk.begin_slice(&new, 0).unwrap();
        let _ = writer.write(&vec![0; length]);
        assert_eq!(writer.commit(), Err(expect));
    }
    let whole = put(&disk, b"whole", b"", b"small").unwrap();
    assert_eq!(disk.begin_slice(&whole, 0).err(), Some(Refused::WrongLength));
}

#[test]
fn a_large_object_can_be_read_while_it_is_written() {
    let disk = Faulty::default().disk(AMPLE);
    let body = body(6, 300);
    let mut writer = disk.begin(b"k", b"", Some(300)).unwrap();
    let mut object = writer.object().unwrap();
    writer.write(&body[..200]).unwrap();
    assert_eq!(object.read(16).unwrap(), body[16..32]);
    assert_eq!(object.read(195).unwrap_err(), Missing { start: 192, end: 256 });
    assert!(disk.get(b"k").is_none());
    writer.write(&body[200..]).unwrap();
    writer.commit().unwrap();
    assert_eq!(read_from(&mut object, 0).unwrap(), body);
    assert!(disk.begin(b"s", b"", Some(64)).unwrap().object().is_none());
}

#[test]
fn the_callers_octets_change_and_the_body_stays() {
    let world = Faulty::default();
    let disk = world.disk(AMPLE);
    for length in [0, 40, 64, 65, 500] {
        let key = format!("{length}");
        let before = put(&disk, key.as_bytes(), b"old", &body(7, length)).unwrap();
        let after = before.with_meta(b"validated").unwrap();
        assert_eq!((after.version(), after.length()), (before.version(), before.length()));
        let expect = Some((b"validated".to_vec(), body(7, length)));
        assert_eq!(read(&disk, key.as_bytes()), expect);
        assert_eq!(read(&world.disk(AMPLE), key.as_bytes()), expect);
        assert_eq!(read_from(&mut before.clone(), 0).unwrap(), body(7, length));
        put(&disk, key.as_bytes(), b"other", &body(8, length)).unwrap();
        assert_eq!(after.with_meta(b"late").unwrap_err(), Refused::Replaced);
        disk.remove(key.as_bytes()).unwrap();
        assert_eq!(after.with_meta(b"late").unwrap_err(), Refused::Replaced);
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused() {
    let disk = Faulty::default().disk(AMPLE);
    let check = |key: usize, meta: usize, length| {
        let (key, meta) = (vec![1; key], vec![2; meta]);
        disk.begin(&key, &meta, Some(length)).err()
    };
    assert_eq!(check(MAX_KEY, 0, MAX_OBJECT), None);
    assert_eq!(check(MAX_KEY + 1, 0, 0), Some(Refused::TooLarge));
    assert_eq!(check(0, MAX_META + 1, 0), Some(Refused::TooLarge));
    assert_eq!(check(0, 0, MAX_OBJECT + 1), Some(Refused::TooLarge));
    assert_eq!(disk.put_head(b"", b"", u64::MAX).unwrap_err(), Refused::TooLarge);
    let writers: Vec<_> = (0..MAX_WRITERS).map(|_| disk.begin(b"k", b"", None).unwrap()).collect();
    assert_eq!(disk.begin(b"k", b"", None).err(), Some(Refused::Busy));
    assert_eq!(disk.stats().refused, 1);
    drop(writers);
    put(&disk, b"k", b"", b"x").unwrap();
}

/// What a test does to a disk, on one of a few keys.
#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, length: usize, known: bool },
    Abort { key: u8, length: usize },
    Meta { key: u8 },
    Slices { key: u8, length: u64, which: u8 },
    Remove { key: u8 },
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    let length = || prop_oneof![3 => 0..70usize, 1 => 0..600usize];
    let key = || 0..6u8;
    prop_oneof![
        6 => (key(), length(), any::<bool>())
            .prop_map(|(key, length, known)| Step::Put { key, length, known }),
        1 => (key(), length()).prop_map(|(key, length)| Step::Abort { key, length }),
        1 => key().prop_map(|key| Step::Meta { key }),
        1 => (key(), 1..400u64, any::<u8>())
            .prop_map(|(key, length, which)| Step::Slices { key, length, which }),
        2 => key().prop_map(|key| Step::Remove { key }),
        1 => Just(Step::Restart),
    ]
}

/// What is under a key: caller's octets, body, and which slices of it, if not all, are there.
type Kept = Option<(Vec<u8>, Vec<u8>, u8)>;
/// What may be under each key.
type Model = BTreeMap<u8, Vec<Kept>>;

/// Does a step; returns the key that it changes, and what is there then if it succeeds.
fn act(disk: &Disk, step: &Step, n: u64, now: &Model) -> Option<(u8, Kept, bool)> {
    let meta = n.to_le_bytes().to_vec();
    match *step {
        Step::Put { key, length, known } => {
            let body = body(n, length);
            let done =
                disk.begin(&[key], &meta, known.then_some(length as u64)).and_then(|mut w| {
                    body.chunks(23).try_for_each(|piece| w.write(piece))?;
                    w.commit()
                });
            Some((key, Some((meta, body, u8::MAX)), done.is_ok()))
        }
        Step::Abort { key, length } => {
            if let Ok(mut writer) = disk.begin(&[key], &meta, None) {
                let _ = writer.write(&body(n, length));
            }
            None
        }
        Step::Meta { key } => {
            let object = disk.get(&[key])?;
            let before = now.get(&key).into_iter().flatten().flatten();
            let before = before.clone().find(|(meta, ..)| *meta == object.meta());
            let (_, body, which) = before.expect("what is there was put there").clone();
            let done = object.with_meta(&meta).is_ok();
            Some((key, Some((meta, body, which)), done))
        }
        Step::Slices { key, length, which } => {
            let body = body(n, size(length));
            let done = disk.put_head(&[key], &meta, length).and_then(|object| {
                for (slice, octets) in
                    body.chunks(64).enumerate().filter(|(s, _)| which >> s & 1 == 1)
                {
                    let mut writer = disk.begin_slice(&object, slice as u64 * 64)?;
                    writer.write(octets)?;
                    writer.commit()?;
                }
                Ok(())
            });
            Some((key, Some((meta, body, which)), done.is_ok()))
        }
        Step::Remove { key } => Some((key, None, disk.remove(&[key]).is_ok())),
        Step::Restart => None,
    }
}

/// Reads a key and says which of the candidates it is, and whether all of that is there. Anything that
/// is none of them fails the test.
fn verify(disk: &Disk, key: u8, candidates: &[Kept]) -> (Kept, bool) {
    let Some(mut object) = disk.get(&[key]) else {
        return (None, candidates.contains(&None));
    };
    let found = candidates.iter().flatten().find(|(meta, ..)| *meta == object.meta());
    let Some((meta, body, which)) = found else {
        panic!("{key}: {:?} is none of {candidates:?}", object.meta());
    };
    assert_eq!(object.length(), body.len() as u64);
    let mut whole = true;
    for (slice, expect) in body.chunks(64).enumerate() {
        let mut octets = Vec::new();
        while octets.len() < expect.len() {
            match object.read((slice * 64 + octets.len()) as u64) {
                Ok(more) => octets.extend_from_slice(&more),
                Err(_) => break,
            }
        }
        assert_eq!(octets, expect[..octets.len()], "a wrong octet");
        whole &= octets.len() == expect.len() || which >> slice.min(7) & 1 == 0;
    }
    (Some((meta.clone(), body.clone(), *which)), whole)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// With room for all, what was put is there, and nothing else, over restarts.
    #[test]
    fn it_is_a_map(steps in prop::collection::vec(any_step(), 0..60), at_most in 1..200usize) {
        let world = Faulty::default();
        world.world().at_most = Some(at_most);
        let (mut disk, mut model) = (world.disk(AMPLE), Model::new());
        for (step, n) in steps.iter().zip(1..) {
            if matches!(step, Step::Restart) {
                drop(disk);
                disk = world.disk(AMPLE);
            }
            if let Some((key, kept, done)) = act(&disk, step, n, &model) {
                prop_assert!(done, "{:?}", step);
                model.insert(key, vec![kept]);
            }
            for key in 0..6 {
                let expect = model.get(&key).map_or(&[None][..], Vec::as_slice);
                let (found, whole) = verify(&disk, key, expect);
                prop_assert!(found == expect[0] && whole, "{key} after {step:?}");
            }
        }
        prop_assert_eq!(disk.stats().damaged, 0);
    }

    /// Little room, failing reads and writes, too little space: what is there is right, what was
    /// removed or replaced stays gone, and the bounds hold.
    #[test]
    fn trouble_loses_but_never_lies(
        steps in prop::collection::vec(any_step(), 0..150),
        fail_one_in in prop::option::of(2..60u64),
        space in prop::option::of(0..12_000usize),
    ) {
        let world = Faulty::default();
        let (mut disk, mut model) = (world.disk(10 * 1024), Model::new());
        for (step, n) in steps.iter().zip(1..) {
            (world.world().fail_one_in, world.world().space) = (None, None);
            if matches!(step, Step::Restart) {
                drop(disk);
                disk = world.disk(10 * 1024);
            }
            world.later(FIRST_PAUSE * 400);
            let used = world.world().files.values().map(Vec::len).sum::<usize>();
            prop_assert!(used as u64 <= 11 * 1024, "{used}");
            (world.world().fail_one_in, world.world().space) = (fail_one_in, space);
            // A failed step may be done or not; all may be evicted.
            if let Some((key, kept, done)) = act(&disk, step, n, &model) {
                let all = model.entry(key).or_insert_with(|| vec![None]);
                if done {
                    *all = vec![kept, None];
                } else {
                    all.push(kept);
                }
            }
            for key in 0..6 {
                let none = vec![None];
                verify(&disk, key, model.get(&key).unwrap_or(&none));
            }
        }
    }

    /// A process that is stopped at any change leaves what was there before or after it, whole.
    #[test]
    fn a_stop_at_any_moment_tears_nothing(
        steps in prop::collection::vec(any_step(), 1..12), ample: bool,
    ) {
        let capacity = if ample { AMPLE } else { 9 * 1024 };
        let filled = Faulty::default();
        if !ample {
            let disk = filled.disk(capacity);
            (0..200).for_each(|n: u64| drop(put(&disk, &nth(0, n).to_le_bytes(), b"", &body(n, 60))));
        }
        let files = filled.world().files.clone();
        for stop_at in 1.. {
            let world = Faulty::default();
            world.world().files = files.clone();
            world.world().stop_at = Some(stop_at);
            let mut model = Model::new();
            let Ok(mut disk) = world.start(capacity) else { continue };
            for (step, n) in steps.iter().zip(1..) {
                if matches!(step, Step::Restart) {
                    drop(disk);
                    match world.start(capacity) {
                        Ok(again) => disk = again,
                        Err(_) => break,
                    }
                }
                if let Some((key, kept, done)) = act(&disk, step, n, &model) {
                    let all = model.entry(key).or_insert_with(|| vec![None]);
                    if done {
                        *all = vec![kept];
                    } else {
                        all.push(kept);
                    }
                }
                if world.world().changes > stop_at {
                    break;
                }
            }
            let over = world.world().changes <= stop_at;
            world.world().stop_at = None;
            for _ in 0..2 {
                let disk = world.disk(capacity);
                for (key, states) in &mut model {
                    let mut states = states.clone();
                    if !ample {
                        states.push(None);
                    }
                    let (found, whole) = verify(&disk, *key, &states);
                    prop_assert!(whole || !ample || states.len() > 1, "{key}, stopped at {stop_at}");
                    prop_assert!(states.contains(&found), "{key}, stopped at {stop_at}");
                }
                prop_assert_eq!(disk.stats().damaged + disk.stats().given_up, 0);
            }
            // Nothing that was replaced before the stop is back once the later one has gone.
            let disk = world.disk(capacity);
            for key in model.keys() {
                disk.remove(&[*key]).unwrap();
            }
            drop(disk);
            let disk = world.disk(capacity);
            prop_assert!(model.keys().all(|key| disk.get(&[*key]).is_none()), "at {stop_at}");
            if over {
                break;
            }
        }
    }

    /// Whatever bits change in the files, no wrong octet comes out, and nothing panics.
    #[test]
    fn flipped_bits_are_found(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8), 1..6),
    ) {
        let world = Faulty::default();
        let disk = world.disk(AMPLE);
        let length = |n: u64| size(n * 37 % 400);
        for n in 0..30u64 {
            put(&disk, &n.to_le_bytes(), b"meta", &body(n, length(n))).unwrap();
        }
        disk.remove(&3u64.to_le_bytes()).unwrap();
        for (file, at, bit) in flips {
            let mut world = world.world();
            let files: Vec<_> = world.files.keys().copied().collect();
            let octets = world.files.get_mut(file.get(&files)).unwrap();
            let at = at.index(octets.len());
            octets[at] ^= 1u8 << bit;
        }
        let mut disk = disk;
        for _ in 0..3 {
            for n in 0..30u64 {
                let Some(mut object) = disk.get(&n.to_le_bytes()) else { continue };
                prop_assert_ne!(n, 3, "it was removed");
                prop_assert_eq!(object.meta(), b"meta");
                let expect = body(n, length(n));
                for offset in 0..expect.len() {
                    if let Ok(octets) = object.read(offset as u64) {
                        prop_assert_eq!(&octets, &expect[offset..offset + octets.len()]);
                    }
                }
            }
            // The disk goes on.
            put(&disk, b"more", b"", b"more").unwrap();
            prop_assert_eq!(read(&disk, b"more").unwrap().1, b"more");
            drop(disk);
            disk = world.disk(AMPLE);
        }
    }
}

#[test]
fn the_tail_may_be_torn_anywhere() {
    let world = Faulty::default();
    let disk = world.disk(AMPLE);
    for n in 0..4u64 {
        put(&disk, &n.to_le_bytes(), b"m", &body(n, 50)).unwrap();
    }
    drop(disk);
    let whole = world.world().files.clone();
    for (file, octets) in &whole {
        for length in 0..octets.len() {
            world.world().files = whole.clone();
            world.world().files.get_mut(file).unwrap().truncate(length);
            let disk = world.disk(AMPLE);
            let mut before = true;
            for n in 0..4u64 {
                let found = read(&disk, &n.to_le_bytes());
                assert!(before || found.is_none(), "what came first is there first");
                before = found.is_some();
                assert!(found.is_none_or(|(_, octets)| octets == body(n, 50)));
            }
            if file.part == Part::Index {
                let lines = (length / 40).saturating_sub(1) as u64;
                assert_eq!(disk.stats().objects, lines, "torn at {length}");
            }
            put(&disk, b"more", b"", b"more").unwrap();
            let again = world.disk(AMPLE);
            assert_eq!(read(&again, b"more").unwrap().1, b"more", "{file:?} torn at {length}");
        }
    }
}

#[test]
fn a_full_disk_is_used_less_and_then_more_again() {
    let world = Faulty::default();
    let disk = world.disk(40 * 1024);
    world.world().space = Some(20 * 1024);
    let mut n = 0u64;
    let mut put_some = |count| {
        (0..count)
            .filter(|_| {
                n += 1;
                put(&disk, &n.to_le_bytes(), b"", &body(n, 60)).is_ok()
            })
            .count()
    };
    assert!(put_some(1000) < 1000);
    assert_eq!(disk.stats().health, Health::Full);
    assert_eq!(disk.begin(b"k", b"", None).err(), Some(Refused::Paused));
    let objects = disk.stats().objects;
    assert!(objects > 50, "what is there is served: {objects}");
    world.later(FIRST_PAUSE);
    assert!(put_some(100) > 50);
    assert!(disk.stats().capacity < 20 * 1024, "{:?}", disk.stats());
    world.world().space = None;
    for _ in 0..60 {
        world.later(Duration::from_secs(300));
        put_some(20);
    }
    assert_eq!((disk.stats().health, disk.stats().capacity), (Health::Good, 40 * 1024));
}

#[test]
fn a_device_that_fails_is_left_alone_and_tried_again() {
    let world = Faulty::default();
    let disk = world.disk(AMPLE);
    put(&disk, b"k", b"", b"body").unwrap();
    world.world().fail_one_in = Some(1);
    assert_eq!(put(&disk, b"l", b"", b"body").unwrap_err(), Refused::Failed);
    assert_eq!(disk.stats().health, Health::Failing);
    assert_eq!(put(&disk, b"l", b"", b"body").unwrap_err(), Refused::Paused);
    assert_eq!(disk.remove(b"k"), Err(Refused::Failed), "nobody is told that it is done");
    assert!(disk.get(b"k").is_none());
    world.world().fail_one_in = None;
    world.later(FIRST_PAUSE);
    put(&disk, b"l", b"", b"body").unwrap();
    assert_eq!(disk.stats().health, Health::Good);
    assert_eq!(disk.remove(b"l"), Ok(true));
    assert_eq!(disk.remove(b"l"), Ok(false));
    disk.sync().unwrap();
    assert_eq!(world.disk(AMPLE).stats().objects, 0);
}

#[test]
fn a_read_that_fails_is_a_miss() {
    let world = Faulty::default();
    let disk = world.disk(AMPLE);
    let body = body(1, 200);
    let mut object = put(&disk, b"k", b"", &body).unwrap();
    world.world().fail_one_in = Some(1);
    assert_eq!(object.read(0), Err(Missing { start: 0, end: 64 }));
    assert!(disk.get(b"k").is_none());
    assert!(disk.stats().read_errors >= 2);
    world.world().fail_one_in = None;
    assert_eq!(object.read(64).unwrap(), body[64..80]);
    assert!(disk.get(b"k").is_some(), "it could not be marked as gone, and is read again");
}

#[test]
fn what_can_be_neither_marked_nor_deleted_is_not_replaced() {
    let world = Faulty::default();
    let disk = world.disk(AMPLE);
    put(&disk, b"k", b"", b"first").unwrap();
    (0..24u64).for_each(|n| drop(put(&disk, &n.to_le_bytes(), b"", b"x").unwrap()));
    world.world().stuck = Some(0);
    for _ in 0..3 {
        assert_eq!(put(&disk, b"k", b"", b"second").unwrap_err(), Refused::Failed);
        assert_eq!(disk.remove(b"k").unwrap_err(), Refused::Failed);
        assert!(disk.get(b"k").is_none());
        world.later(Duration::from_secs(300));
    }
    world.world().stuck = None;
    put(&disk, b"k", b"", b"third").unwrap();
    assert_eq!(disk.remove(b"k"), Ok(true));
    assert!(world.disk(AMPLE).get(b"k").is_none());
}

#[test]
fn a_small_object_that_was_replaced_is_missing_and_not_damaged() {
    let disk = Faulty::default().disk(AMPLE);
    let mut old = put(&disk, b"k", b"", &body(1, 10)).unwrap();
    put(&disk, b"k", b"", &body(2, 10)).unwrap();
    assert_eq!(old.read(0).unwrap_err().start, 0);
    assert_eq!(read(&disk, b"k").unwrap().1, body(2, 10));
    assert_eq!(disk.stats().damaged, 0);
}

#[test]
fn who_reads_a_version_goes_on_with_it_and_the_last_leaves_nothing() {
    let disk = Faulty::default().disk(AMPLE);
    let gone: [&dyn Fn() -> usize; 3] = [
        &|| {
            put(&disk, b"k", b"", &body(2, 10)).unwrap();
            1
        },
        &|| {
            put(&disk, b"k", b"", &body(2, 200)).unwrap();
            5
        },
        &|| {
            disk.remove(b"k").unwrap();
            0
        },
    ];
    for gone in gone {
        let written = put(&disk, b"k", b"", &body(1, 200)).unwrap();
        let mut reading = disk.get(b"k").unwrap();
        let mut other = reading.clone();
        assert_eq!(reading.read(0).unwrap(), body(1, 200)[..16]);
        drop(written);
        let left = gone();
        assert_eq!(read_from(&mut reading, 16).unwrap(), body(1, 200)[16..]);
        drop(reading);
        assert_eq!(read_from(&mut other, 0).unwrap(), body(1, 200));
        drop(other);
        assert_eq!(disk.stats().records, left as u64);
        disk.remove(b"k").unwrap();
    }
}

#[test]
fn files_that_are_taken_away_are_misses() {
    let world = Faulty::default();
    let disk = world.disk(AMPLE);
    for part in [Part::Data, Part::Index] {
        put(&disk, b"k", b"", &body(1, 200)).unwrap();
        world.world().files.retain(|file, _| file.part != part);
        let mut tries = (0..3).map(|_| {
            world.later(FIRST_PAUSE);
            put(&disk, b"k", b"", &body(2, 200))
        });
        assert!(tries.any(|put| put.is_ok()));
        assert_eq!(read(&disk, b"k").unwrap().1, body(2, 200));
    }
}
