//! The purges in a file, a line each, so that what is on disk stays purged over a restart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::purge::{Force, Purges};
use crate::scope::Scope;

/// The file, to be written on.
#[derive(Debug)]
pub(crate) struct Log(File);

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
        let aside = path.with_extension("new");
        let mut text = String::new();
        purges.for_each(|scope, force, time| text.push_str(&encode(scope, force, time)));
        fs::write(&aside, text)?;
        fs::rename(&aside, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok((Self(file), purges))
    }

    /// Adds one.
    pub(crate) fn add(&mut self, scope: &Scope, force: Force, time: SystemTime) -> io::Result<()> {
        // On a line of its own, whatever became of the one before.
        self.0.write_all(format!("\n{}", encode(scope, force, time)).as_bytes())
    }

    /// Returns when all would survive a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
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
        let (mut log, _) = Log::open(&path).unwrap();
        log.add(&Scope::Uri("//a.com/x y".into()), Force::Hard, at(10)).unwrap();
        log.add(&Scope::group("https://a.com/", "some group"), Force::Soft, at(20)).unwrap();
        log.add(&Scope::Host("a.com".into()), Force::Hard, at(99)).unwrap();
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

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(line: String, rest: String) {
            let _ = decode(&line);
            let _ = decode(&format!("1.000000001 hard uri {rest};"));
        }
    }
}
