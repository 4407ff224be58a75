//! For how long a response is fresh, and what may be done with it afterwards (RFC 9111, section 4.2).

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{DATE, EXPIRES, HeaderMap, LAST_MODIFIED};
use serde::{Deserialize, Serialize};

use super::Rules;
use super::age::{Times, generated, initial_age};
use super::date::{date, date_of};
use super::directives::{Reach, ResponseDirectives};

/// When a kept response was received, and how long it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Freshness {
    /// When it, or what validated it last, was received.
    pub(crate) received: SystemTime,
    /// Its age at that time (RFC 9111, section 4.2.3: corrected_initial_age).
    pub(crate) initial_age: Duration,
    /// How old it may be; zero for what is to be validated each time.
    pub(crate) lifetime: Duration,
    /// What may be done with it past that.
    pub(crate) stale: Staleness,
    /// It will not change as long as it is fresh (RFC 8246).
    pub(crate) immutable: bool,
    /// The origin has made or validated it by then, or later: a purge after that is not about it. By our
    /// clock and the caches' Age alone, as an origin whose Date lags would seem purged for ever.
    pub(crate) generated: SystemTime,
}

/// The use of a response that is no longer fresh (RFC 9111, section 4.2.4; RFC 5861).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Staleness {
    /// Whatever a client would accept, it must be validated first.
    pub(crate) must_revalidate: bool,
    /// How long it may be used while it is being validated.
    pub(crate) while_revalidate: Duration,
    /// How long it may stand in for a failing origin.
    pub(crate) if_error: Duration,
}

impl Freshness {
    pub(super) fn of(
        told: &ResponseDirectives,
        lifetime: Duration,
        response: &HeaderMap,
        times: Times,
        rules: &Rules,
    ) -> Self {
        let lifetime = if told.no_cache == Reach::All { Duration::ZERO } else { lifetime };
        Self {
            received: times.response,
            initial_age: initial_age(response, times),
            lifetime,
            stale: Staleness::of(told, rules),
            immutable: told.immutable,
            generated: generated(response, times),
        }
    }

    /// The same, but stale from `now` on: it is validated before it is used, whatever else it allows.
    #[must_use]
    pub(crate) fn outdated(&self, now: SystemTime) -> Self {
        let lifetime = self.lifetime.min(self.age(now));
        let stale =
            Staleness { must_revalidate: true, while_revalidate: Duration::ZERO, ..self.stale };
        Self { lifetime, stale, ..*self }
    }

    /// RFC 9111, section 4.2.3: current_age.
    #[must_use]
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        self.initial_age.saturating_add(now.duration_since(self.received).unwrap_or_default())
    }

    /// What is left of its lifetime; nothing once it is stale.
    #[must_use]
    pub(crate) fn remaining(&self, now: SystemTime) -> Option<Duration> {
        self.lifetime.checked_sub(self.age(now)).filter(|left| !left.is_zero())
    }

    /// How long it has been stale; nothing while it is fresh.
    #[must_use]
    pub(crate) fn staleness(&self, now: SystemTime) -> Option<Duration> {
        self.age(now).checked_sub(self.lifetime)
    }

    /// Seconds that it stays fresh, negative for those that it has been stale (RFC 9211, section 2.4).
    #[must_use]
    pub(crate) fn ttl(&self, now: SystemTime) -> i64 {
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime) - seconds(self.age(now))
    }

    /// Whether it may stand in for a failing origin (RFC 5861, section 4).
    #[must_use]
    pub(crate) fn may_stand_in(&self, now: SystemTime) -> bool {
        self.staleness(now).is_none_or(|stale| stale <= self.stale.if_error)
            && !self.stale.if_error.is_zero()
    }
}

impl Staleness {
    fn of(told: &ResponseDirectives, rules: &Rules) -> Self {
        let forbidden =
            told.must_revalidate || told.proxy_revalidate || told.no_cache == Reach::All;
        if forbidden {
            return Self { must_revalidate: true, ..Self::default() };
        }
        // s-maxage forbids it too, unless the origin itself allows it in so many words.
        let unsaid = if told.s_maxage.is_some() { Duration::ZERO } else { rules.stale_if_error };
        Self {
            must_revalidate: told.s_maxage.is_some(),
            while_revalidate: told.stale_while_revalidate.unwrap_or_default(),
            if_error: told.stale_if_error.unwrap_or(unsaid),
        }
    }
}

/// RFC 9111, section 4.2.1, in the order for a shared cache.
pub(super) fn explicit_lifetime(
    told: &ResponseDirectives,
    response: &HeaderMap,
    times: Times,
) -> Option<Duration> {
    if let Some(stated) = told.s_maxage.or(told.max_age) {
        return Some(stated);
    }
    let line = response.get(EXPIRES).filter(|_| !told.targeted)?;
    // An invalid date, above all "0", means a time in the past (RFC 9111, section 5.3).
    let Some(expires) = date_of(line) else { return Some(Duration::ZERO) };
    let date = date(response, DATE).unwrap_or(times.response);
    Some(expires.duration_since(date).unwrap_or_default())
}

/// The response says itself for how long it is fresh.
pub(crate) fn is_explicitly_fresh(response: &HeaderMap) -> bool {
    let told = ResponseDirectives::read(response);
    told.s_maxage.or(told.max_age).is_some() || response.contains_key(EXPIRES) && !told.targeted
}

/// RFC 9111, section 4.2.2: a tenth of the time since it was last modified, within bounds. The floor is for
/// the page that was written a minute ago: it is the one that draws a crowd.
pub(super) fn heuristic_lifetime(response: &HeaderMap, times: Times, rules: &Rules) -> Duration {
    let reference = date(response, DATE).unwrap_or(times.response);
    let unchanged = date(response, LAST_MODIFIED)
        .and_then(|modified| reference.duration_since(modified).ok())
        .unwrap_or_default();
    (unchanged / 10).min(rules.heuristic_cap).max(rules.heuristic_floor)
}

/// Statuses whose responses may be kept without being told to (RFC 9110, section 15.1).
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{DATE_NOW, NOW, at, headers};
    use super::*;

    const RULES: Rules = Rules {
        heuristic_floor: Duration::ZERO,
        heuristic_cap: Duration::from_secs(86_400),
        stale_if_error: Duration::from_secs(86_400),
        cookies: true,
        reload_interval: Duration::ZERO,
    };
    const TIMES: fn() -> Times = || Times { request: at(NOW - 2), response: at(NOW) };

    fn explicit(lines: &[(&str, &str)], expect: Option<u64>) {
        let response = headers(lines);
        let told = ResponseDirectives::read(&response);
        let found = explicit_lifetime(&told, &response, TIMES());
        assert_eq!(found.map(|d| d.as_secs()), expect, "{lines:?}");
    }

    #[test]
    fn explicit_lifetimes_in_the_order_for_a_shared_cache() {
        let later = ("expires", "Sun, 09 Sep 2001 01:56:40 GMT");
        let cc = |value| ("cache-control", value);
        explicit(&[cc("max-age=60")], Some(60));
        explicit(&[cc("max-age=60, s-maxage=10")], Some(10));
        explicit(&[cc("s-maxage=100, max-age=0"), later], Some(100));
        explicit(&[cc("max-age=60"), later], Some(60));
        explicit(&[cc("max-age=60"), ("expires", "0")], Some(60));
        explicit(&[cc("max-age=0"), later], Some(0));
        explicit(&[DATE_NOW, later], Some(600));
        explicit(&[], None);
    }

    #[test]
    fn expires_counts_from_date_and_what_is_invalid_is_past() {
        let later = ("expires", "Sun, 09 Sep 2001 01:56:40 GMT");
        explicit(&[later], Some(600));
        explicit(&[("date", "foo"), later], Some(600));
        explicit(&[("date", "Sun, 09 Sep 2001 01:56:30 GMT"), later], Some(10));
        explicit(&[("date", "Sun, 09 Sep 2001 02:00:00 GMT"), later], Some(0));
        explicit(&[DATE_NOW, ("expires", "0")], Some(0));
        explicit(&[DATE_NOW, ("expires", "-1"), later], Some(0));
        explicit(&[DATE_NOW, later, ("expires", "0")], Some(600));
    }

    #[test]
    fn a_targeted_field_hides_expires_and_cache_control() {
        let later = ("expires", "Sun, 09 Sep 2001 01:56:40 GMT");
        explicit(&[("cdn-cache-control", "max-age=5"), later], Some(5));
        explicit(&[("cdn-cache-control", "public"), DATE_NOW, later], None);
        explicit(&[("cdn-cache-control", "?"), DATE_NOW, later], Some(600));
        explicit(&[("cdn-cache-control", "public"), ("cache-control", "max-age=9")], None);
    }

    #[test]
    fn a_heuristic_is_a_tenth_of_the_time_without_change_within_bounds() {
        let check = |lines: &[(&str, &str)], floor: u64, expect: u64| {
            let rules = Rules { heuristic_floor: Duration::from_secs(floor), ..RULES };
            let found = heuristic_lifetime(&headers(lines), TIMES(), &rules);
            assert_eq!(found.as_secs(), expect, "{lines:?}");
        };
        let modified = |text| [DATE_NOW, ("last-modified", text)];
        check(&modified("Thu, 30 Aug 2001 01:46:40 GMT"), 0, 86_400);
        check(&modified("Sun, 09 Sep 2001 00:46:40 GMT"), 0, 360);
        check(&modified("Sat, 09 Sep 2000 01:46:40 GMT"), 0, 86_400);
        check(&modified("Sun, 09 Sep 2001 01:46:40 GMT"), 0, 0);
        check(&modified("Sun, 09 Sep 2001 01:46:40 GMT"), 300, 300);
        check(&modified("Sun, 09 Sep 2001 02:46:40 GMT"), 0, 0);
        check(&[], 0, 0);
        check(&[], 300, 300);
    }

    fn stale(line: &str) -> Staleness {
        let told = ResponseDirectives::read(&headers(&[("cache-control", line)]));
        Staleness::of(&told, &RULES)
    }

    #[test]
    fn what_forbids_stale_use_and_what_allows_it() {
        let day = Duration::from_secs(86_400);
        let check = |line, must_revalidate, while_revalidate, if_error: u64| {
            let while_revalidate = Duration::from_secs(while_revalidate);
            let if_error = Duration::from_secs(if_error);
            assert_eq!(
                stale(line),
                Staleness { must_revalidate, while_revalidate, if_error },
                "{line}"
            );
        };
        check("max-age=5", false, 0, day.as_secs());
        check("max-age=5, stale-if-error=60", false, 0, 60);
        check("max-age=5, stale-if-error=0", false, 0, 0);
        check("max-age=5, stale-while-revalidate=9", false, 9, day.as_secs());
        check("max-age=5, must-revalidate, stale-if-error=60", true, 0, 0);
        check("max-age=5, proxy-revalidate, stale-while-revalidate=9", true, 0, 0);
        check("no-cache, stale-if-error=60", true, 0, 0);
        check("s-maxage=5", true, 0, 0);
        check("s-maxage=5, stale-while-revalidate=9, stale-if-error=60", true, 9, 60);
        check("no-cache=\"a\"", false, 0, day.as_secs());
    }

    fn kept(lifetime: u64, if_error: u64) -> Freshness {
        Freshness {
            received: at(NOW),
            initial_age: Duration::from_secs(10),
            lifetime: Duration::from_secs(lifetime),
            stale: Staleness { if_error: Duration::from_secs(if_error), ..Staleness::default() },
            immutable: false,
            generated: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_response_ages_from_its_initial_age() {
        let fresh = kept(60, 0);
        assert_eq!(fresh.age(at(NOW + 20)).as_secs(), 30);
        assert_eq!(fresh.ttl(at(NOW + 20)), 30);
        assert_eq!(fresh.ttl(at(NOW + 80)), -30);
        assert_eq!(fresh.remaining(at(NOW + 49)), Some(Duration::from_secs(1)));
        assert_eq!(fresh.remaining(at(NOW + 50)), None);
        assert_eq!(fresh.staleness(at(NOW + 55)), Some(Duration::from_secs(5)));
        assert_eq!(fresh.age(at(NOW - 5)).as_secs(), 10); // our clock was set back
    }

    #[test]
    fn a_stale_copy_stands_in_as_long_as_it_may() {
        assert!(kept(60, 86_400).may_stand_in(at(NOW + 86_450)));
        assert!(!kept(60, 86_400).may_stand_in(at(NOW + 86_451)));
        assert!(!kept(60, 0).may_stand_in(at(NOW + 50)));
    }

    proptest! {
        #[test]
        fn fresh_and_stale_exclude_each_other(
            initial: u32, lifetime: u32, later in 0u64..(1 << 33),
        ) {
            let fresh = Freshness {
                initial_age: Duration::from_secs(initial.into()),
                ..kept(lifetime.into(), 0)
            };
            let now = at(NOW + later);
            prop_assert_ne!(fresh.remaining(now).is_some(), fresh.staleness(now).is_some());
            prop_assert_eq!(fresh.remaining(now).is_some(), fresh.ttl(now) > 0);
        }
    }
}
