//! The purges in a file, a line each, so that what is on disk stays purged over a restart.
//!
//! A rule is noted in memory where it is made, which may be under a lock, and written down where waiting is
//! allowed. Who writes does it for all who have noted something by then. The file is written anew, with the
//! rules that are left, once most of its lines are of rules that were made again or are forgotten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use crate::limits::{MAX_PURGE_NOTES, PURGE_LOG_SLACK};
use crate::purge::{Force, Purges};
use crate::scope::Scope;

/// The file, and what is to be written to it.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    notes: Mutex<Notes>,
    written: Mutex<Written>,
    /// One thread at a time waits for the disk.
    pub(crate) turn: Arc<Semaphore>,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Notes {
    text: String,
    lines: usize,
    /// Some of it is lost here, and is only among the rules in memory.
    incomplete: bool,
}

#[derive(Debug)]
struct Written {
    file: File,
    lines: usize,
    failing: bool,
}

impl Log {
    /// Reads the purges of earlier runs, and writes those that are left to a new file. A line that is none
    /// was not written to its end.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Purges)> {
        let purges = Purges::default();
        match File::open(path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    if let Some((scope, force, time)) = str::from_utf8(&line?).ok().and_then(decode)
                    {
                        // As many as fitted then fit now.
                        let _ = purges.add(&scope, force, time);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let written = Mutex::new(anew(path, &purges)?);
        let (path, notes, turn) = (path.to_owned(), Mutex::default(), Semaphore::new(1).into());
        Ok((Self { path, notes, written, turn }, purges))
    }

    /// Notes a rule that was made. It is not written yet; it takes memory only.
    pub(crate) fn note(&self, scope: &Scope, force: Force, time: SystemTime) {
        let mut notes = lock(&self.notes);
        if notes.lines >= MAX_PURGE_NOTES {
            // The rules themselves are in memory, and bounded.
            *notes = Notes { incomplete: true, ..Notes::default() };
        }
        notes.text.push_str(&encode(scope, force, time));
        notes.lines += 1;
    }

    /// Something is to be written.
    pub(crate) fn is_behind(&self) -> bool {
        let notes = lock(&self.notes);
        notes.lines > 0 || notes.incomplete
    }

    /// Returns when all that was noted so far would survive a loss of power; `purges` are all rules there
    /// are. It blocks. After a failure the next call writes all of them.
    pub(crate) fn write(&self, purges: &Purges) -> io::Result<()> {
        // Whoever has waited may find its note written by another.
        let mut written = lock(&self.written);
        let notes = std::mem::take(&mut *lock(&self.notes));
        if notes.lines == 0 && !notes.incomplete {
            return Ok(());
        }
        let lines = written.lines + notes.lines;
        let outgrown = lines > 2 * purges.len() + PURGE_LOG_SLACK;
        let done = if notes.incomplete || outgrown {
            anew(&self.path, purges).map(|new| *written = new)
        } else {
            written.lines = lines;
            append(&mut written.file, &notes.text)
        };
        if let Err(error) = &done {
            lock(&self.notes).incomplete = true;
            if !written.failing {
                tracing::error!(%error, "purges cannot be written down: they hold until a restart");
            }
        } else if written.failing {
            tracing::info!("purges are written down again");
        }
        written.failing = done.is_err();
        done
    }
}

fn append(file: &mut File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// All rules, in a new file that takes the place of the old one when it is whole.
fn anew(path: &Path, purges: &Purges) -> io::Result<Written> {
    let aside = path.with_extension("new");
    let (mut text, mut lines) = (String::new(), 0);
    purges.for_each(|scope, force, time| {
        text.push_str(&encode(scope, force, time));
        lines += 1;
    });
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(Written { file, lines, failing: false })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No name holds a tab: a group's line feed stands as one.
fn encode(scope: &Scope, force: Force, time: SystemTime) -> String {
    let (kind, name) = match scope {
        Scope::Uri(name) => ("uri", name),
        Scope::Prefix(name) => ("prefix", name),
        Scope::Host(name) => ("host", name),
        Scope::Tag(name) => ("tag", name),
        Scope::Group(name) => ("group", name),
    };
    let force = match force {
        Force::Soft => "soft",
        Force::Hard => "hard",
    };
    let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    format!("{seconds}.{nanos:09} {force} {kind} {};\n", name.replace('\n', "\t"))
}

fn decode(line: &str) -> Option<(Scope, Force, SystemTime)> {
    let mut words = line.strip_suffix(';')?.splitn(4, ' ');
    let (seconds, nanos) = words.next()?.split_once('.')?;
    let time =
        Duration::new(seconds.parse().ok()?, nanos.parse().ok().filter(|n| *n < 1_000_000_000)?);
    let time = SystemTime::UNIX_EPOCH.checked_add(time)?;
    let force = match words.next()? {
        "soft" => Force::Soft,
        "hard" => Force::Hard,
        _ => return None,
    };
    let (kind, name) = (words.next()?, words.next()?.replace('\t', "\n"));
    let scope = match kind {
        "uri" => Scope::Uri(name),
        "prefix" => Scope::Prefix(name),
        "host" => Scope::Host(name),
        "tag" => Scope::Tag(name),
        "group" => Scope::Group(name),
        _ => return None,
    };
    Some((scope, force, time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::purge::Verdict;

    #[test]
    fn purges_outlive_a_restart_and_a_line_that_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (log, purges) = Log::open(&path).unwrap();
        log.note(&Scope::Uri("//a.com/x y".into()), Force::Hard, at(10));
        log.note(&Scope::group("https://a.com/", "some group"), Force::Soft, at(20));
        log.note(&Scope::Host("a.com".into()), Force::Hard, at(99));
        log.write(&purges).unwrap();
        let whole = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(whole - 2).unwrap();
        for _ in 0..2 {
            let (_, purges) = Log::open(&path).unwrap();
            let verdict =
                |uri, time, tags: &[&str]| purges.verdict(uri, at(time), || tags.to_vec());
            assert_eq!(purges.len(), 2);
            assert_eq!(verdict("//a.com/x y", 10, &[]), Verdict::Gone);
            assert_eq!(verdict("//a.com/x y", 11, &[]), Verdict::Untouched);
            assert_eq!(verdict("https://a.com/b", 20, &["some group"]), Verdict::Stale);
            assert_eq!(verdict("https://b.com/b", 20, &["some group"]), Verdict::Untouched);
        }
    }

    #[test]
    fn a_rule_that_is_made_again_and_again_takes_no_more_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (log, purges) = Log::open(&path).unwrap();
        let scope = Scope::Uri("//a.com/".into());
        let line = encode(&scope, Force::Soft, at(0)).len() + 10;
        let most = (PURGE_LOG_SLACK + 4) * line;
        for seconds in 0..3 * PURGE_LOG_SLACK as u64 {
            purges.add(&scope, Force::Soft, at(seconds)).unwrap();
            log.note(&scope, Force::Soft, at(seconds));
            if seconds % 100 == 0 {
                log.write(&purges).unwrap();
                let size = fs::metadata(&path).unwrap().len();
                assert!(size <= most as u64, "{size} octets after {seconds}");
            }
        }
        log.write(&purges).unwrap();
        let last = at(3 * PURGE_LOG_SLACK as u64 - 1);
        let (_, again) = Log::open(&path).unwrap();
        assert_eq!(again.verdict("//a.com/", last, Vec::<&str>::new), Verdict::Stale);
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        let (log, purges) = Log::open(&path).unwrap();
        // The file is outgrown, and nothing can take its place.
        let aside = path.with_extension("new");
        fs::create_dir(&aside).unwrap();
        let at = |n: usize| SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
        let scope = |n: usize| Scope::Uri(format!("//a.com/{}", n % 2));
        for n in 0..2 * MAX_PURGE_NOTES {
            purges.add(&scope(n), Force::Hard, at(n)).unwrap();
            log.note(&scope(n), Force::Hard, at(n));
        }
        assert!(log.write(&purges).is_err());
        assert!(log.write(&purges).is_err(), "it is still to be written");
        fs::remove_dir(&aside).unwrap();
        log.write(&purges).unwrap();
        let (_, again) = Log::open(&path).unwrap();
        assert_eq!(again.len(), 2);
        let last = at(2 * MAX_PURGE_NOTES - 1);
        assert_eq!(again.verdict("//a.com/1", last, Vec::<&str>::new), Verdict::Gone);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(line: String, rest: String) {
            let _ = decode(&line);
            let _ = decode(&format!("1.000000001 hard uri {rest};"));
        }
    }
}
