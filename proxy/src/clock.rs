//! The one place of this crate that reads a clock.

use std::time::SystemTime;

/// Now, by the wall clock: HTTP's dates are its own.
#[expect(clippy::disallowed_methods, reason = "the driver's clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
