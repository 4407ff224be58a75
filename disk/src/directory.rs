//! The real files: a directory with a lock, a file that says its format, and pairs of segment files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::hash::Seed;
use crate::limits::{BLOCK, MAX_OPEN_FILES, SLICE};
use crate::storage::{File, Part, Storage};

/// Says which format the directory has, and holds its secret number.
const FORMAT: &str = "format";
/// Locked by the process that uses the directory.
const LOCK: &str = "lock";
/// What a directory without a cache may hold: a file system's own, and what we left in the middle.
const EMPTY: &[&str] = &["lost+found", LOCK, "format.new"];
/// The longest format file that is read; ours has 70 octets.
const MAX_FORMAT: u64 = 4096;

/// Why a directory cannot be used. Each says the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0}: used by another process; give each node a directory of its own")]
    InUse(PathBuf),
    /// It holds something else.
    #[error("{0}: holds {1}, and no cache; name an empty directory")]
    Foreign(PathBuf, String),
    /// It is a cache of another version of this program.
    #[error("{0}: a cache of another format; delete the directory, or go back to that version")]
    OtherFormat(PathBuf),
    /// The system refused.
    #[error("{0}: {1}; check that it can be written to")]
    Io(PathBuf, #[source] io::Error),
}

/// A directory, locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    seed: Seed,
    start: Instant,
    open: Mutex<Open>,
    _lock: fs::File,
}

/// Files kept open, each with the count of uses at its last.
#[derive(Debug, Default)]
struct Open {
    files: BTreeMap<File, (Arc<fs::File>, u64)>,
    uses: u64,
}

impl Directory {
    /// Opens a cache directory, or makes one.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Io(path.to_owned(), error);
        fs::create_dir_all(path).map_err(failed)?;
        let lock = fs::OpenOptions::new().create(true).append(true).open(path.join(LOCK));
        let lock = lock.map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            match io::Error::from(error) {
                error if error.kind() == ErrorKind::WouldBlock => OpenError::InUse(path.to_owned()),
                error => failed(error),
            }
        })?;
        let seed = match read_format(path) {
            Ok(text) => decode_format(&text).ok_or(OpenError::OtherFormat(path.to_owned()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                for entry in fs::read_dir(path).map_err(failed)? {
                    let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
                    if !EMPTY.contains(&name.as_str()) {
                        return Err(OpenError::Foreign(path.to_owned(), name));
                    }
                }
                let seed = Seed(getrandom::u64().map_err(|error| failed(error.into()))?);
                write_format(path, seed).map_err(failed)?;
                seed
            }
            Err(error) => return Err(failed(error)),
        };
        #[expect(clippy::disallowed_methods, reason = "the driver's clock")]
        let start = Instant::now();
        let open = Mutex::default();
        Ok(Self { path: path.to_owned(), seed, start, open, _lock: lock })
    }

    /// Its secret number.
    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    fn path(&self, file: File) -> PathBuf {
        let ending = match file.part {
            Part::Data => "data",
            Part::Index => "idx",
        };
        self.path.join(format!("{}.{ending}", file.segment))
    }

    fn file(&self, file: File) -> io::Result<Arc<fs::File>> {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        open.uses += 1;
        let now = open.uses;
        if let Some((handle, last)) = open.files.get_mut(&file) {
            *last = now;
            return Ok(handle.clone());
        }
        let handle = fs::OpenOptions::new().read(true).write(true).open(self.path(file))?;
        let handle = Arc::new(handle);
        if open.files.len() >= MAX_OPEN_FILES
            && let Some(oldest) = open.files.iter().min_by_key(|(_, (_, last))| *last)
        {
            let oldest = *oldest.0;
            open.files.remove(&oldest);
        }
        open.files.insert(file, (handle.clone(), now));
        Ok(handle)
    }
}

impl Storage for Directory {
    fn list(&self) -> io::Result<Vec<(File, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // What is not ours is left alone.
            if let Some(file) = entry.file_name().to_str().and_then(parse_name) {
                files.push((file, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, file: File) -> io::Result<()> {
        fs::File::create_new(self.path(file)).map(drop)
    }

    fn read_at(&self, file: File, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file(file)?.read_at(octets, offset)
    }

    fn write_at(&self, file: File, octets: &[u8], offset: u64) -> io::Result<usize> {
        self.file(file)?.write_at(octets, offset)
    }

    fn sync(&self, file: File) -> io::Result<()> {
        self.file(file)?.sync_data()
    }

    fn sync_names(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn delete(&self, file: File) -> io::Result<()> {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        open.files.remove(&file);
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

fn parse_name(name: &str) -> Option<File> {
    let (number, part) = match name.split_once('.')? {
        (number, "data") => (number, Part::Data),
        (number, "idx") => (number, Part::Index),
        _ => return None,
    };
    let segment: u32 = number.parse().ok()?;
    // `+1` and `01` are numbers, but not names of ours.
    (segment.to_string() == number).then_some(File { segment, part })
}

fn encode_format(seed: Seed) -> String {
    format!("coralline disk 1\nblock {BLOCK}\nslice {SLICE}\nseed {:016x}\n", seed.0)
}

fn decode_format(text: &str) -> Option<Seed> {
    let digits = text.lines().find_map(|line| line.strip_prefix("seed "))?;
    let seed = Seed(u64::from_str_radix(digits, 16).ok()?);
    (encode_format(seed) == text).then_some(seed)
}

fn read_format(path: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    fs::File::open(path.join(FORMAT))?.take(MAX_FORMAT).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// Whole or not at all, whatever happens: without it the segments cannot be read.
fn write_format(path: &Path, seed: Seed) -> io::Result<()> {
    let aside = path.join("format.new");
    let mut file = fs::File::create(&aside)?;
    file.write_all(encode_format(seed).as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path.join(FORMAT))?;
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_formats_are_ours_or_refused() {
        let file = |segment, part| Some(File { segment, part });
        let check = |name, expect| assert_eq!(parse_name(name), expect, "{name}");
        check("0.data", file(0, Part::Data));
        check("4294967295.idx", file(u32::MAX, Part::Index));
        for foreign in ["4294967296.idx", "+1.idx", "01.idx", "1.idx~", "1", ".idx", "é.data"] {
            check(foreign, None);
        }
        let good = encode_format(Seed(0xab));
        assert_eq!(decode_format(&good), Some(Seed(0xab)));
        for bad in ["", "coralline disk 2\n", &good[1..], &good.replace("65536", "4096")] {
            assert_eq!(decode_format(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_directory_is_made_locked_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = Directory::open(&path).unwrap();
        let error = Directory::open(&path).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        let seed = first.seed();
        drop(first);
        assert_eq!(Directory::open(&path).unwrap().seed(), seed);
        fs::write(path.join(FORMAT), "coralline disk 9\n").unwrap();
        assert!(matches!(Directory::open(&path), Err(OpenError::OtherFormat(_))));
        fs::remove_file(path.join(FORMAT)).unwrap();
        fs::write(path.join("thesis.tex"), "").unwrap();
        let error = Directory::open(&path).unwrap_err().to_string();
        assert!(error.contains("thesis.tex"), "{error}");
        let file = path.join("thesis.tex");
        assert!(matches!(Directory::open(&file), Err(OpenError::Io(..))));
    }

    #[test]
    fn few_files_are_open_and_a_deleted_one_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let file = |segment| File { segment, part: Part::Data };
        for n in 0..200 {
            directory.create(file(n)).unwrap();
            directory.write_at(file(n), &n.to_le_bytes(), 0).unwrap();
            assert!(directory.create(file(n)).is_err());
        }
        let mut octets = [0; 4];
        for n in (0..200).rev() {
            directory.read_at(file(n), &mut octets, 0).unwrap();
            assert_eq!(u32::from_le_bytes(octets), n);
            assert!(directory.open.lock().unwrap().files.len() <= MAX_OPEN_FILES);
        }
        directory.delete(file(7)).unwrap();
        directory.delete(file(7)).unwrap();
        let gone = directory.read_at(file(7), &mut octets, 0).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        assert_eq!(directory.list().unwrap().len(), 199);
    }
}
