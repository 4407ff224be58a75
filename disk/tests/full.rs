//! A real file system that is full: a small tmpfs, where mounting is allowed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use coralline_disk::{Disk, Health, Options, Refused};

/// A file system of 12 MiB, gone with this.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(path);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn put(disk: &Disk, n: u32) -> Result<(), Refused> {
    let octets = vec![n.to_le_bytes()[0]; 50_000];
    let mut writer = disk.begin(&n.to_le_bytes(), b"", None)?;
    writer.write(&octets)?;
    writer.commit().map(drop)
}

#[test]
fn a_full_file_system_is_lived_with() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_small) = Small::mount(dir.path()) else {
        println!("skipped: no right to mount a tmpfs");
        return;
    };
    let disk = Disk::open(dir.path(), Options { capacity: 1 << 30, memory: 0 }, |_, _| ()).unwrap();
    let full = (0..1000).find(|n| put(&disk, *n).is_err()).expect("12 MiB do not hold 50 MB");
    assert_eq!(disk.stats().health, Health::Full);
    assert_eq!(put(&disk, full), Err(Refused::Paused));
    let check = |n: u32| {
        let mut object = disk.get(&n.to_le_bytes())?;
        let octets = object.read(0).unwrap();
        assert!(octets.len() == 50_000 && octets.iter().all(|o| *o == n.to_le_bytes()[0]));
        Some(())
    };
    assert!((0..full).filter_map(check).count() > 100, "what is there is served");
    // After the pause it goes on, if with less.
    let again = (0..600).any(|_| {
        sleep(Duration::from_millis(50));
        put(&disk, 2000).is_ok()
    });
    assert!(again, "{:?}", disk.stats());
    assert!(check(2000).is_some());
    println!("{full} objects fit; {:?}", disk.stats());
}
