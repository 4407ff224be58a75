//! How old a response is when it comes in (RFC 9111, sections 4.2.3 and 5.1).

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, HeaderMap};

use super::date::date;
use super::directives::{delta_seconds, split_list};

/// When the request went out and when the head of its response came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The request was sent.
    pub(crate) request: SystemTime,
    /// The head arrived.
    pub(crate) response: SystemTime,
}

/// `corrected_initial_age`: the larger of what the clocks say and what the caches on the way say.
pub(super) fn initial_age(response: &HeaderMap, times: Times) -> Duration {
    let apparent = date(response, DATE)
        .and_then(|date| times.response.duration_since(date).ok())
        .unwrap_or_default();
    let delay = times.response.duration_since(times.request).unwrap_or_default();
    apparent.max(age_value(response).saturating_add(delay))
}

/// The moment until which the origin may have changed its mind unnoticed: when it was asked, or so long
/// before as the caches on the way say. They leave out fractions of a second.
pub(super) fn generated(response: &HeaderMap, times: Times) -> SystemTime {
    let most = match response.contains_key(AGE) {
        true => age_value(response).saturating_add(Duration::from_secs(1)),
        false => Duration::ZERO,
    };
    times.request.checked_sub(most).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The first member of the first line; one that is no number counts as none (RFC 9111, section 5.1).
fn age_value(response: &HeaderMap) -> Duration {
    let line = response.get(AGE).and_then(|value| value.to_str().ok());
    line.and_then(|text| split_list(text).next()).and_then(delta_seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{DATE_NOW, NOW, at, headers};
    use super::*;

    fn check(response: &[(&str, &str)], expect: u64) {
        let times = Times { request: at(NOW - 2), response: at(NOW) };
        assert_eq!(initial_age(&headers(response), times).as_secs(), expect, "{response:?}");
    }

    #[test]
    fn a_response_is_as_old_as_its_request_or_as_caches_say() {
        let times = Times { request: at(NOW - 2), response: at(NOW) };
        let check = |lines: &[(&str, &str)], expect: u64| {
            assert_eq!(generated(&headers(lines), times), at(expect), "{lines:?}");
        };
        check(&[], NOW - 2);
        check(&[("date", "Sun, 09 Sep 2001 01:45:40 GMT")], NOW - 2);
        check(&[("age", "0")], NOW - 3);
        check(&[("age", "60")], NOW - 63);
    }

    #[test]
    fn age_is_the_larger_of_apparent_and_corrected() {
        check(&[], 2); // the time that the exchange took
        check(&[DATE_NOW], 2);
        check(&[("date", "Sun, 09 Sep 2001 01:45:40 GMT")], 60);
        check(&[DATE_NOW, ("age", "100")], 102);
        check(&[("date", "Sun, 09 Sep 2001 01:45:40 GMT"), ("age", "10")], 60);
        check(&[("date", "Sun, 09 Sep 2001 01:56:40 GMT")], 2); // a clock ahead of ours
        check(&[("date", "foo")], 2);
    }

    #[test]
    fn of_several_age_values_the_first_counts_and_garbage_does_not() {
        check(&[("age", "7200, 0")], 7202);
        check(&[("age", "0, 7200")], 2);
        check(&[("age", "7200"), ("age", "0")], 7202);
        check(&[("age", "0"), ("age", "7200")], 2);
        for garbage in ["abc", "-7200", "7200.0", "7200;foo=bar", "", "1e3", "+5"] {
            check(&[("age", garbage)], 2);
        }
        check(&[("age", "2147483649")], (1 << 31) + 2);
    }

    proptest! {
        #[test]
        fn no_age_value_overflows(age in "[0-9a-z,. -]{0,30}", sent: u32, took: u16) {
            let request = at(u64::from(sent));
            let times = Times { request, response: request + Duration::from_secs(took.into()) };
            let found = initial_age(&headers(&[("age", &age)]), times);
            prop_assert!(found >= Duration::from_secs(took.into()));
        }
    }
}
