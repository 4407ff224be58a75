//! Whether to write: after trouble a pause, longer each time.

use std::io;
use std::time::Duration;

use crate::limits::{FIRST_PAUSE, LONGEST_PAUSE};

/// How the disk does. Reads go on whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Good,
    /// There was no space left, or no quota, although the capacity was not used up. Less is used now.
    Full,
    /// Writing failed for another reason.
    Failing,
}

impl Health {
    /// The word for metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Full => "full",
            Self::Failing => "failing",
        }
    }

    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Failing,
        }
    }
}

/// The state behind it. Times are since the disk was opened.
#[derive(Debug)]
pub(crate) struct Trouble {
    health: Health,
    until: Duration,
    pause: Duration,
    /// Until then nobody is told that reading fails.
    quiet: Duration,
}

impl Trouble {
    pub(crate) fn none() -> Self {
        Self {
            health: Health::Good,
            until: Duration::ZERO,
            pause: FIRST_PAUSE,
            quiet: Duration::ZERO,
        }
    }

    /// Whether writing may be tried.
    pub(crate) fn may_write(&self, now: Duration) -> bool {
        self.health == Health::Good || now >= self.until
    }

    /// Writing failed. Returns whether a pause begins: one trouble met by many writers is one.
    pub(crate) fn failed(&mut self, now: Duration, health: Health) -> bool {
        if !self.may_write(now) {
            return false;
        }
        self.health = health;
        self.until = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }

    /// Reading failed. Returns whether to say so: once for as long as the longest pause.
    pub(crate) fn unreadable(&mut self, now: Duration) -> bool {
        let tell = now >= self.quiet;
        if tell {
            self.quiet = now + LONGEST_PAUSE;
        }
        tell
    }

    /// Something was written, after the pause.
    pub(crate) fn wrote(&mut self, now: Duration) {
        if self.may_write(now) {
            self.health = Health::Good;
        }
    }

    /// A whole segment was written: the trouble is over, and the next begins with a short pause. Returns
    /// whether there has been none for so long that more of the disk may be tried.
    pub(crate) fn over(&mut self, now: Duration) -> bool {
        self.pause = FIRST_PAUSE;
        now >= self.until + LONGEST_PAUSE
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_all_is_well() {
        let (mut trouble, mut now) = (Trouble::none(), Duration::ZERO);
        assert!(trouble.may_write(now));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(trouble.failed(now, Health::Full));
            assert!(!trouble.failed(now, Health::Failing), "the same trouble");
            trouble.wrote(now);
            assert_eq!(trouble.health(), Health::Full, "what was under way does not count");
            let start = now;
            while !trouble.may_write(now) {
                now += Duration::from_secs(1);
            }
            pauses.push((now - start).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        trouble.wrote(now);
        assert_eq!(trouble.health(), Health::Good);
        assert!(!trouble.over(now));
        assert!(trouble.over(now + LONGEST_PAUSE));
        trouble.failed(now, Health::Failing);
        assert!(trouble.may_write(now + FIRST_PAUSE));
    }

    #[test]
    fn a_full_disk_is_not_a_broken_one() {
        use rustix::io::Errno;
        let check = |errno: Errno, expect| {
            assert_eq!(Health::of(&io::Error::from(errno)), expect);
        };
        check(Errno::NOSPC, Health::Full);
        check(Errno::DQUOT, Health::Full);
        check(Errno::IO, Health::Failing);
        check(Errno::ROFS, Health::Failing);
    }
}
