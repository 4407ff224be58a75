//! The one place where the overlay's time is made.

use crate::time::Instant;

/// A clock that started at zero when it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { epoch: tokio::time::Instant::now() }
    }

    /// Time since the epoch. It is tokio's, so that a test may stop it together with all timers.
    pub(crate) fn now(self) -> Instant {
        let micros = self.epoch.elapsed().as_micros();
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Time of day, in microseconds since 1970, for what other nodes are to compare with their own.
    #[expect(clippy::disallowed_methods, reason = "this is the clock of a driver")]
    pub(crate) fn unix_us() -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
    }

    /// The same instant as tokio's timers know it.
    pub(crate) fn to_tokio(self, instant: Instant) -> tokio::time::Instant {
        self.epoch + instant.since(Instant::default())
    }
}
