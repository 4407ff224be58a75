//! Whether a kept response may be used for a request (RFC 9111, sections 4, 4.2.4 and 5.2.1).

use std::time::SystemTime;

use super::Rules;
use super::directives::RequestDirectives;
use super::freshness::Freshness;

/// What may be done with a kept response that the request selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It is fresh enough for this client.
    Fresh,
    /// It is stale, and this client takes it so.
    Stale,
    /// It is stale, may be used, and is to be validated meanwhile (RFC 5861, section 3).
    WhileRevalidating,
    /// It must be validated: it is stale.
    Validate,
    /// It must be validated: it is fresh, and this client wants to be sure.
    ValidateFresh,
}

impl Reuse {
    /// It may be used at once.
    pub(crate) fn at_once(self) -> bool {
        matches!(self, Self::Fresh | Self::Stale | Self::WhileRevalidating)
    }
}

/// Decides by what the origin allows and what the client asks.
pub(crate) fn reuse(
    freshness: &Freshness,
    told: &RequestDirectives,
    now: SystemTime,
    rules: &Rules,
) -> Reuse {
    let since = now.duration_since(freshness.received).unwrap_or_default();
    let doubted = since > rules.reload_interval || rules.reload_interval.is_zero();
    if let Some(left) = freshness.remaining(now) {
        let old = told.max_age.is_some_and(|most| freshness.age(now) > most);
        // A reload is no reason to ask about what does not change; an insisting one is (RFC 8246).
        let old = old && !freshness.immutable;
        let short = told.min_fresh.is_some_and(|least| left < least);
        let refused = told.no_cache || old || short;
        return if refused && doubted { Reuse::ValidateFresh } else { Reuse::Fresh };
    }
    let stale = freshness.staleness(now).unwrap_or_default();
    let young = told.max_age.is_none_or(|most| freshness.age(now) <= most);
    if told.no_cache || told.min_fresh.is_some() || !young {
        return Reuse::Validate;
    }
    if stale < freshness.stale.while_revalidate {
        return Reuse::WhileRevalidating;
    }
    let accepted = told.max_stale.is_some_and(|most| stale <= most);
    if accepted && !freshness.stale.must_revalidate { Reuse::Stale } else { Reuse::Validate }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::freshness::Staleness;
    use super::super::tests::{NOW, at, headers};
    use super::*;

    const RULES: Rules = Rules {
        heuristic_floor: Duration::ZERO,
        heuristic_cap: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        cookies: true,
        reload_interval: Duration::ZERO,
    };

    fn kept(lifetime: u64) -> Freshness {
        Freshness {
            received: at(NOW),
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(lifetime),
            stale: Staleness::default(),
            immutable: false,
            generated: SystemTime::UNIX_EPOCH,
        }
    }

    /// For a response of age 100.
    fn check(freshness: Freshness, line: &str, expect: Reuse) {
        let told = RequestDirectives::read(&headers(&[("cache-control", line)]));
        let found = reuse(&freshness, &told, at(NOW + 100), &RULES);
        assert_eq!(found, expect, "{line} {freshness:?}");
    }

    #[test]
    fn a_fresh_response_is_used_unless_the_client_wants_a_fresher_one() {
        check(kept(200), "x", Reuse::Fresh);
        check(kept(200), "max-age=100", Reuse::Fresh);
        check(kept(200), "max-age=99", Reuse::ValidateFresh);
        check(kept(200), "max-age=0", Reuse::ValidateFresh);
        check(kept(200), "max-age=0, max-stale", Reuse::ValidateFresh);
        check(kept(200), "min-fresh=100", Reuse::Fresh);
        check(kept(200), "min-fresh=101", Reuse::ValidateFresh);
        check(kept(200), "no-cache", Reuse::ValidateFresh);
        check(kept(101), "x", Reuse::Fresh);
        check(kept(100), "x", Reuse::Validate);
    }

    #[test]
    fn a_stale_response_is_used_only_where_origin_or_client_allow_it() {
        check(kept(50), "x", Reuse::Validate);
        check(kept(50), "max-stale", Reuse::Stale);
        check(kept(50), "max-stale=50", Reuse::Stale);
        check(kept(50), "max-stale=49", Reuse::Validate);
        check(kept(50), "max-stale, no-cache", Reuse::Validate);
        check(kept(50), "max-stale, max-age=100", Reuse::Stale);
        check(kept(50), "max-stale, max-age=99", Reuse::Validate);
        let stale = Staleness { must_revalidate: true, ..Staleness::default() };
        check(Freshness { stale, ..kept(50) }, "max-stale", Reuse::Validate);
    }

    #[test]
    fn a_response_is_used_while_it_is_validated_within_its_window() {
        let within = |window| {
            let while_revalidate = Duration::from_secs(window);
            Freshness { stale: Staleness { while_revalidate, ..Staleness::default() }, ..kept(50) }
        };
        check(within(51), "x", Reuse::WhileRevalidating);
        check(within(50), "x", Reuse::Validate);
        check(within(51), "no-cache", Reuse::Validate);
        check(within(51), "max-age=10", Reuse::Validate);
        check(within(51), "max-age=100", Reuse::WhileRevalidating);
        check(within(51), "min-fresh=1", Reuse::Validate);
    }

    #[test]
    fn what_is_immutable_is_not_asked_about_by_a_plain_reload() {
        let immutable = Freshness { immutable: true, ..kept(200) };
        check(immutable, "max-age=0", Reuse::Fresh);
        check(immutable, "no-cache", Reuse::ValidateFresh);
        check(Freshness { immutable: true, ..kept(50) }, "max-age=0", Reuse::Validate);
    }

    #[test]
    fn a_crowd_that_reloads_is_one_reload() {
        let rules = Rules { reload_interval: Duration::from_secs(5), ..RULES };
        let told = RequestDirectives { no_cache: true, ..RequestDirectives::default() };
        let found = |later| reuse(&kept(60), &told, at(NOW + later), &rules);
        assert_eq!(found(5), Reuse::Fresh);
        assert_eq!(found(6), Reuse::ValidateFresh);
    }

    proptest! {
        #[test]
        fn no_request_makes_a_response_usable_that_must_be_validated(
            lifetime in 0u64..100, max_age: Option<u32>, max_stale: Option<u32>, min_fresh: Option<u32>,
        ) {
            let seconds = |s: Option<u32>| s.map(|s| Duration::from_secs(s.into()));
            let told = RequestDirectives {
                max_age: seconds(max_age),
                max_stale: seconds(max_stale),
                min_fresh: seconds(min_fresh),
                ..RequestDirectives::default()
            };
            let stale = Staleness { must_revalidate: true, ..Staleness::default() };
            let freshness = Freshness { stale, ..kept(lifetime) };
            prop_assert_eq!(reuse(&freshness, &told, at(NOW + 100), &RULES), Reuse::Validate);
        }
    }
}
