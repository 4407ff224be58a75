//! RFC 9111 and its companions as pure functions: may a response be kept, for how long is it fresh, may it
//! be used for this request, how is it validated, updated, thrown out.
//!
//! Times are given; nothing here reads a clock. `proxy/RFC9111.md` lists each rule that binds a shared
//! cache with the test that holds it.
//!
//! | file | RFC 9111 | other |
//! |---|---|---|
//! | `date` | 4.2 | RFC 9110, section 5.6.7 |
//! | `age` | 4.2.3, 5.1 | |
//! | `directives` | 5.2, 5.4 | RFC 5861, RFC 8246 |
//! | `targeted` | | RFC 9213 |
//! | `freshness` | 4.2, 4.2.4 | RFC 5861 |
//! | `storable` | 3, 3.5 | |
//! | `reuse` | 4, 4.2.4, 5.2.1 | RFC 8246 |
//! | `vary` | 4.1 | |
//! | `validate` | 3.2, 4.3 | |
//! | `invalidate` | 4.4 | |
//! | `groups` | | RFC 9875 |
//!
//! # Decisions
//! - *Of several values of a directive the first counts*, as section 4.2.1 advises; what cannot be read
//!   counts as stale.
//! - *An explicit stale-while-revalidate or stale-if-error holds beside `s-maxage`*, though s-maxage alone
//!   forbids stale use: an origin that writes both means both. Beside must-revalidate it does not.
//! - *`no-cache` and `private` that name fields* take those fields off the stored copy; the first asker
//!   gets them.
//! - *A 304 never chooses among variants that were not asked about*: only the validators of the response
//!   that the request selects are sent. Origins that give two encodings one tag are too many.

use std::time::Duration;

use coralline_config::Cache;

mod age;
mod date;
mod directives;
mod freshness;
mod groups;
mod invalidate;
mod reuse;
mod storable;
mod targeted;
mod validate;
mod vary;

pub(crate) use age::Times;
pub(crate) use date::date;
pub(crate) use directives::{RequestDirectives, ResponseDirectives, split_list};
#[cfg(test)]
pub(crate) use freshness::Staleness;
pub(crate) use freshness::{Freshness, is_explicitly_fresh};
pub(crate) use groups::{groups, invalidated_groups};
pub(crate) use invalidate::{also_invalidated, invalidates, names_itself};
pub(crate) use reuse::{Reuse, reuse};
pub(crate) use storable::{NoStore, storable};
pub(crate) use targeted::OWN_TARGET;
pub(crate) use validate::{Identified, freshen, head_describes, identifies, preconditions};
pub(crate) use vary::{Variant, said, vary};

/// What a cache may choose within RFC 9111.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The least freshness of a response that states none, where a heuristic is allowed at all.
    pub(crate) heuristic_floor: Duration,
    /// The most that is guessed from Last-Modified.
    pub(crate) heuristic_cap: Duration,
    /// How long past its freshness a response may stand in for a failing origin, unless it says otherwise.
    pub(crate) stale_if_error: Duration,
    /// Set-Cookie stays on, and does not keep a response with explicit freshness from being stored
    /// (RFC 9111, section 7.3).
    pub(crate) cookies: bool,
    /// A copy received no longer ago than this is not validated again because a client asks for it.
    pub(crate) reload_interval: Duration,
}

impl Rules {
    /// For suffixed names: a crowd comes to pages of sites that never thought of caches.
    pub(crate) fn suffixed(cache: &Cache) -> Self {
        Self {
            heuristic_floor: cache.default_ttl,
            heuristic_cap: cache.max_heuristic_ttl,
            stale_if_error: cache.stale_if_error,
            cookies: false,
            reload_interval: crate::limits::RELOAD_INTERVAL,
        }
    }

    /// For sites that are served under their own name: what their owner says, and no more.
    pub(crate) fn site(cache: &Cache) -> Self {
        Self {
            heuristic_floor: Duration::ZERO,
            cookies: true,
            reload_interval: Duration::ZERO,
            ..Self::suffixed(cache)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    pub(crate) fn some_freshness() -> Freshness {
        let received = at(NOW);
        let (initial_age, lifetime) = (Duration::from_millis(1), Duration::from_secs(60));
        let stale = Staleness { if_error: lifetime, ..Staleness::default() };
        Freshness { received, initial_age, lifetime, stale, immutable: false, generated: received }
    }

    pub(crate) const NOW: u64 = 1_000_000_000;
    pub(crate) const DATE_NOW: (&str, &str) = ("date", "Sun, 09 Sep 2001 01:46:40 GMT");

    pub(crate) fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    pub(crate) fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let mut map = HeaderMap::new();
        lines.iter().map(pair).for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    /// Each rule of the table has a test of the name that it gives.
    #[test]
    fn every_rule_of_the_table_has_its_test() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut source = String::new();
        let mut places = vec![root.join("src"), root.join("tests")];
        while let Some(place) = places.pop() {
            for entry in std::fs::read_dir(place).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    places.push(path);
                } else if path.extension().is_some_and(|ext| ext == "rs") {
                    source.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        let table = std::fs::read_to_string(root.join("RFC9111.md")).unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
        let mut count = 0;
        for row in rows {
            let tests = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
            for test in tests.split('`').skip(1).step_by(2) {
                assert!(source.contains(&format!("fn {test}(")), "no test {test}: {row}");
                count += 1;
            }
        }
        assert!(count > 60, "{count} tests named");
    }
}
