//! Round-trip estimates and the timeouts made of them (RFC 6298, with bounds fit for datagrams).

use std::time::Duration;

use crate::limits::{FIRST_TIMEOUT, MAX_TIMEOUT, MIN_TIMEOUT};

/// What is known of the way to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rtt {
    /// Microseconds, all three: a table has hundreds of these. [`UNKNOWN`] before the first sample.
    min: u32,
    smoothed: u32,
    variation: u32,
}

/// Longer than any sample.
const UNKNOWN: u32 = u32::MAX;

impl Default for Rtt {
    fn default() -> Self {
        Self { min: UNKNOWN, smoothed: 0, variation: 0 }
    }
}

impl Rtt {
    /// Takes in one measured round trip (RFC 6298, section 2.2 and 2.3).
    pub(crate) fn sample(&mut self, rtt: Duration) {
        let rtt = u32::try_from(rtt.min(MAX_SAMPLE).as_micros()).unwrap_or(u32::MAX);
        *self = match self.min {
            UNKNOWN => Self { min: rtt, smoothed: rtt, variation: rtt / 2 },
            min => Self {
                min: min.min(rtt),
                smoothed: (self.smoothed * 7 + rtt) / 8,
                variation: (self.variation * 3 + self.smoothed.abs_diff(rtt)) / 4,
            },
        };
    }

    /// The shortest seen: distance without queues.
    pub(crate) fn min(&self) -> Option<Duration> {
        (self.min != UNKNOWN).then(|| micros(self.min))
    }

    /// How long to wait for an answer before asking again.
    pub(crate) fn timeout(&self) -> Duration {
        if self.min == UNKNOWN {
            return FIRST_TIMEOUT;
        }
        micros(self.smoothed + self.variation * 4).clamp(MIN_TIMEOUT, MAX_TIMEOUT)
    }
}

/// A longer round trip teaches no more; sums of eight fit into 32 bits.
const MAX_SAMPLE: Duration = Duration::from_secs(60);

fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let check = |samples_ms: &[u64], expect_ms| {
            let mut rtt = Rtt::default();
            samples_ms.iter().for_each(|ms| rtt.sample(Duration::from_millis(*ms)));
            assert_eq!(rtt.timeout(), Duration::from_millis(expect_ms), "{samples_ms:?}");
        };
        check(&[], 750);
        check(&[1], 200);
        check(&[100], 300);
        check(&[100, 100], 250);
        check(&[5_000], 1_000);
    }

    #[test]
    fn the_shortest_is_kept() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.min(), None);
        [30, 20, 90].into_iter().for_each(|ms| rtt.sample(Duration::from_millis(ms)));
        assert_eq!(rtt.min(), Some(Duration::from_millis(20)));
    }
}
