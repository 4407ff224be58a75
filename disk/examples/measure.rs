//! Figures of the disk cache on this machine: `measure DIR [RECORDS]`, a million records if not said.
//! DIR must not exist; it is deleted at the end.

use std::io;
use std::path::Path;
use std::time::Instant;

use coralline_disk::{Disk, Options};

const MIB: u64 = 1 << 20;

fn open(dir: &Path) -> io::Result<Disk> {
    let options = Options { capacity: 8 << 30, memory: 256 * MIB };
    Disk::open(dir, options, |_, _| ()).map_err(io::Error::other)
}

fn put(disk: &Disk, key: &[u8], meta: &[u8], octets: &[u8], times: u64) -> io::Result<()> {
    let length = octets.len() as u64 * times;
    let mut writer = disk.begin(key, meta, Some(length)).map_err(io::Error::other)?;
    for _ in 0..times {
        writer.write(octets).map_err(io::Error::other)?;
    }
    writer.commit().map(drop).map_err(io::Error::other)
}

/// Seconds that it took.
fn time(act: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    #[expect(clippy::disallowed_methods, reason = "measuring is what it is for")]
    let start = Instant::now();
    act()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Memory of this process in octets: resident now, or the most it ever was.
fn memory(word: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(word));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.unwrap_or(0) * 1024)
}

fn read_all(disk: &Disk, key: &[u8]) -> io::Result<u64> {
    let mut object = disk.get(key).ok_or(io::ErrorKind::NotFound)?;
    let mut offset = 0;
    while offset < object.length() {
        offset += object.read(offset).map_err(io::Error::other)?.len() as u64;
    }
    Ok(offset)
}

fn key(n: u64) -> Vec<u8> {
    format!("//www.example.com/some/path/of/usual/length/{n}.html").into_bytes()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or_else(|| io::Error::other("measure DIR [RECORDS]"))?;
    let dir = Path::new(&dir);
    let records: u64 =
        args.next().map_or(Ok(1_000_000), |n| n.parse()).map_err(io::Error::other)?;
    if dir.exists() {
        return Err(io::Error::other(format!("{} exists; name another", dir.display())));
    }
    let (meta, small) = ([b'm'; 300], [b'x'; 512]);
    let before = memory("VmRSS:")?;
    let disk = open(dir)?;
    let took = time(|| (0..records).try_for_each(|n| put(&disk, &key(n), &meta, &small, 1)))?;
    println!("small objects written: {:.0}/s", records as f64 / took);
    let each = (memory("VmRSS:")? - before) as f64 / records as f64;
    println!("memory per record as they came: {each:.0} octets");
    let some = records.min(200_000);
    let took =
        time(|| (0..some).try_for_each(|n| read_all(&disk, &key(n * 7919 % records)).map(drop)))?;
    println!("small objects read, at random, page cache warm: {:.0}/s", some as f64 / took);
    drop(disk);

    let before = memory("VmRSS:")?;
    let mut disk = None;
    let took = time(|| open(dir).map(|opened| disk = Some(opened)))?;
    let disk = disk.ok_or(io::ErrorKind::NotFound)?;
    let stats = disk.stats();
    println!("opened again with {} records, page cache warm: {took:.2} s", stats.records);
    println!(
        "memory now {} MiB, before opening {} MiB, at most {} MiB",
        memory("VmRSS:")? / MIB,
        before / MIB,
        memory("VmHWM:")? / MIB
    );

    let block = vec![b'y'; 64 << 10];
    let took = time(|| put(&disk, b"large", b"", &block, 16 * 1024))?;
    println!("1 GiB written: {:.0} MiB/s", 1024.0 / took);
    let took = time(|| read_all(&disk, b"large").map(drop))?;
    println!("1 GiB read, page cache warm: {:.0} MiB/s", 1024.0 / took);
    println!("{:?}", disk.stats());
    drop(disk);
    std::fs::remove_dir_all(dir)
}
