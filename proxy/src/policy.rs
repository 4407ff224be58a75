//! RFC 9111 as pure functions: may a response be kept, for how long is it fresh, how old is it.
//!
//! Dates come as seconds since 1970; nothing here reads a clock.

use std::time::{Duration, SystemTime};

use coralline_config::Cache;
use http::StatusCode;
use http::header::{
    AGE, AUTHORIZATION, CONTENT_RANGE, DATE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue,
    LAST_MODIFIED, SET_COOKIE, VARY,
};

use crate::directives::{Directives, delta_seconds, split_list};
use crate::limits::MAX_VARY_FIELDS;

/// Why a response is passed on without being kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoStore {
    /// no-store, in the request or the response.
    Forbidden,
    /// private.
    Private,
    /// The request was authorised and the response does not say that all may see it.
    Authorization,
    /// It sets a cookie and does not say that all may see it.
    SetCookie,
    /// Vary: *, or more fields than are kept.
    Vary,
    /// Its status is not one that may be kept without being told to.
    Status,
    /// It is a part.
    Partial,
    /// It is already stale and there is nothing to validate it with.
    Worthless,
    /// It is larger than may be kept.
    TooLarge,
}

/// When a kept response was received, and how long it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// When it, or what validated it last, was received.
    pub received: SystemTime,
    /// Its age at that time (RFC 9111, section 4.2.3: corrected_initial_age).
    pub initial_age: Duration,
    /// How old it may be.
    pub lifetime: Duration,
    /// Never to be used stale, not even when the origin fails.
    pub must_revalidate: bool,
}

impl Freshness {
    /// RFC 9111, section 4.2.3: current_age.
    #[must_use]
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        self.initial_age + now.duration_since(self.received).unwrap_or_default()
    }

    /// What is left of its lifetime; nothing once it is stale.
    #[must_use]
    pub(crate) fn remaining(&self, now: SystemTime) -> Option<Duration> {
        self.lifetime.checked_sub(self.age(now)).filter(|left| !left.is_zero())
    }

    /// Seconds that it stays fresh, negative for those that it has been stale (RFC 9211, section 2.4).
    #[must_use]
    pub(crate) fn ttl(&self, now: SystemTime) -> i64 {
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime) - seconds(self.age(now))
    }

    /// Whether it may stand in for a failing origin (RFC 5861, section 4), `grace` past its lifetime.
    #[must_use]
    pub(crate) fn may_stand_in(&self, now: SystemTime, grace: Duration) -> bool {
        !self.must_revalidate && self.age(now) <= self.lifetime + grace
    }
}

/// When the request went out and when the head of its response came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The request was sent.
    pub request: SystemTime,
    /// The head arrived.
    pub response: SystemTime,
}

/// RFC 9111, section 3, for a response to GET.
///
/// # Errors
/// The reason not to keep it.
pub(crate) fn storable(
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    times: Times,
    config: &Cache,
) -> Result<Freshness, NoStore> {
    let told = Directives::read(response);
    if told.no_store || Directives::read(request).no_store {
        return Err(NoStore::Forbidden);
    }
    if told.private {
        return Err(NoStore::Private);
    }
    let for_all = told.public || told.s_maxage.is_some();
    if request.contains_key(AUTHORIZATION) && !(for_all || told.must_revalidate) {
        return Err(NoStore::Authorization);
    }
    if response.contains_key(SET_COOKIE) && !(for_all || told.immutable) {
        return Err(NoStore::SetCookie);
    }
    if status == StatusCode::PARTIAL_CONTENT || response.contains_key(CONTENT_RANGE) {
        return Err(NoStore::Partial);
    }
    if vary(response).is_none() {
        return Err(NoStore::Vary);
    }
    let explicit = explicit_lifetime(&told, response, times);
    if explicit.is_none() && !told.public && !heuristic_status(status) || !status_known(status) {
        return Err(NoStore::Status);
    }
    let lifetime = if told.no_cache {
        Duration::ZERO
    } else {
        explicit.unwrap_or_else(|| heuristic_lifetime(response, times, config))
    };
    let freshness = Freshness {
        received: times.response,
        initial_age: initial_age(response, times),
        lifetime,
        must_revalidate: told.must_revalidate || told.no_cache || told.s_maxage.is_some(),
    };
    let validator = response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED);
    if freshness.remaining(times.response).is_none() && !validator {
        return Err(NoStore::Worthless);
    }
    Ok(freshness)
}

/// The final statuses that are understood here; a 304 is never stored as itself.
fn status_known(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=203 | 204 | 300..=303 | 307 | 308 | 400..=451 | 500..=511)
}

/// Statuses that may be kept without being told to (RFC 9110, section 15.1; 206 is not kept here).
fn heuristic_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// RFC 9111, section 4.2.1, in the order for a shared cache.
fn explicit_lifetime(told: &Directives, response: &HeaderMap, times: Times) -> Option<Duration> {
    if let Some(stated) = told.s_maxage.or(told.max_age) {
        return Some(stated);
    }
    let mut lines = response.get_all(EXPIRES).iter();
    let line = lines.next()?;
    // An invalid date, above all "0", means a time in the past (RFC 9111, section 5.3).
    let Some(expires) = date_of(line) else { return Some(Duration::ZERO) };
    let date = date(response, DATE).unwrap_or(times.response);
    Some(expires.duration_since(date).unwrap_or_default())
}

/// RFC 9111, section 4.2.2: a tenth of the time since it was last modified, within bounds. The lower one
/// is for the page that was written a minute ago: it is the one that draws a crowd.
fn heuristic_lifetime(response: &HeaderMap, times: Times, config: &Cache) -> Duration {
    let reference = date(response, DATE).unwrap_or(times.response);
    match date(response, LAST_MODIFIED) {
        Some(modified) => {
            let unchanged = reference.duration_since(modified).unwrap_or_default();
            (unchanged / 10).max(config.default_ttl).min(config.max_heuristic_ttl)
        }
        None => config.default_ttl,
    }
}

/// RFC 9111, section 4.2.3: corrected_initial_age.
fn initial_age(response: &HeaderMap, times: Times) -> Duration {
    let apparent = date(response, DATE)
        .and_then(|date| times.response.duration_since(date).ok())
        .unwrap_or_default();
    let delay = times.response.duration_since(times.request).unwrap_or_default();
    // Of several values the first counts; garbage counts as none (RFC 9111, section 5.1).
    let value = response.get(AGE).and_then(|v| v.to_str().ok());
    let stated =
        value.and_then(|text| split_list(text).next()).and_then(delta_seconds).unwrap_or_default();
    apparent.max(stated + delay)
}

/// The fields that choose among variants, lower case and sorted; nothing for `*` or too many.
pub(crate) fn vary(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for member in split_list(line.to_str().ok()?) {
            names.push(HeaderName::from_bytes(member.as_bytes()).ok().filter(|_| member != "*")?);
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    (names.len() <= MAX_VARY_FIELDS).then_some(names)
}

/// What a request says in the fields that choose, so that equal texts mean the same variant.
/// White space and the case of Accept-Encoding do not make a difference (RFC 9111, section 4.1).
pub(crate) fn variant(names: &[HeaderName], request: &HeaderMap) -> String {
    let mut text = String::new();
    for name in names {
        text.push_str(name.as_str());
        text.push(':');
        for line in request.get_all(name) {
            let line = String::from_utf8_lossy(line.as_bytes());
            for member in split_list(&line) {
                if *name == http::header::ACCEPT_ENCODING {
                    text.push_str(&member.to_ascii_lowercase().replace(' ', ""));
                } else {
                    text.push_str(member);
                }
                text.push(',');
            }
        }
        text.push('\n');
    }
    text
}

/// The date in the first line of a field.
pub(crate) fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    date_of(headers.get(name)?)
}

/// The three forms of RFC 9110, section 5.6.7, in any case.
fn date_of(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    httpdate::parse_http_date(text).ok().or_else(|| {
        // Names of days and months are capitalised, GMT is upper case, whatever was sent.
        let mut fixed = text.to_ascii_lowercase();
        let mut start = true;
        fixed = fixed
            .chars()
            .map(|c| {
                let c = if start { c.to_ascii_uppercase() } else { c };
                start = !c.is_ascii_alphabetic();
                c
            })
            .collect();
        httpdate::parse_http_date(&fixed.replace("Gmt", "GMT")).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const NOW: u64 = 1_000_000_000; // Sun, 09 Sep 2001 01:46:40 GMT

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let mut map = HeaderMap::new();
        lines.iter().map(pair).for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    fn decide(status: u16, response: &[(&str, &str)]) -> Result<(u64, u64), NoStore> {
        decide_for(&[], status, response)
    }

    fn decide_for(
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<(u64, u64), NoStore> {
        let times = Times { request: at(NOW - 2), response: at(NOW) };
        let status = StatusCode::from_u16(status).unwrap();
        storable(&headers(request), status, &headers(response), times, &Cache::default())
            .map(|f| (f.lifetime.as_secs(), f.initial_age.as_secs()))
    }

    const DATE_NOW: (&str, &str) = ("date", "Sun, 09 Sep 2001 01:46:40 GMT");

    #[test]
    fn freshness_follows_the_order_of_section_4_2_1() {
        let check = |response: &[(&str, &str)], expect| {
            assert_eq!(decide(200, response).map(|f| f.0), expect, "{response:?}");
        };
        check(&[("cache-control", "max-age=60")], Ok(60));
        check(&[("cache-control", "max-age=60, s-maxage=10")], Ok(10));
        check(&[("cache-control", "max-age=60"), ("expires", "0")], Ok(60));
        check(&[DATE_NOW, ("expires", "Sun, 09 Sep 2001 01:56:40 GMT")], Ok(600));
        check(&[DATE_NOW, ("expires", "Sunday, 09-Sep-01 01:56:40 GMT")], Ok(600));
        check(&[DATE_NOW, ("expires", "Sun Sep  9 01:56:40 2001")], Ok(600));
        check(&[DATE_NOW, ("expires", "sun, 09 sep 2001 01:56:40 gmt")], Ok(600));
        check(&[DATE_NOW, ("expires", "0")], Err(NoStore::Worthless));
        check(&[DATE_NOW, ("expires", "0"), ("etag", "\"a\"")], Ok(0));
        check(&[("cache-control", "no-cache, max-age=60"), ("etag", "\"a\"")], Ok(0));
        check(&[("cache-control", "no-cache, max-age=60")], Err(NoStore::Worthless));
        // A tenth of ten days; a tenth of a year is capped at one day; nothing known: the default.
        check(&[DATE_NOW, ("last-modified", "Thu, 30 Aug 2001 01:46:40 GMT")], Ok(86_400));
        check(&[DATE_NOW, ("last-modified", "Sun, 09 Sep 2001 00:46:40 GMT")], Ok(360));
        check(&[DATE_NOW, ("last-modified", "Sun, 09 Sep 2001 01:46:40 GMT")], Ok(300));
        check(&[DATE_NOW, ("last-modified", "Sat, 09 Sep 2000 01:46:40 GMT")], Ok(86_400));
        check(&[], Ok(300));
    }

    #[test]
    fn what_is_not_for_all_is_not_kept() {
        let check = |response: &[(&str, &str)], expect| {
            assert_eq!(decide(200, response).map(|_| ()), expect, "{response:?}");
        };
        check(&[("cache-control", "max-age=60, No-Store")], Err(NoStore::Forbidden));
        check(
            &[("cache-control", "max-age=60"), ("cache-control", "private")],
            Err(NoStore::Private),
        );
        check(&[("cache-control", "max-age=60"), ("set-cookie", "a=b")], Err(NoStore::SetCookie));
        check(&[("cache-control", "public, max-age=60"), ("set-cookie", "a=b")], Ok(()));
        check(&[("cache-control", "max-age=60"), ("vary", "*")], Err(NoStore::Vary));
        check(&[("cache-control", "max-age=60"), ("vary", "accept, *")], Err(NoStore::Vary));
        check(&[("cache-control", "max-age=60"), ("vary", "Accept-Encoding")], Ok(()));
        check(&[("content-range", "bytes 0-1/9")], Err(NoStore::Partial));
        let asked = |request: &[(&str, &str)], response: &[(&str, &str)]| {
            decide_for(request, 200, response).map(|_| ())
        };
        let max_age = ("cache-control", "max-age=60");
        let auth = ("authorization", "Basic x");
        assert_eq!(asked(&[auth], &[max_age]), Err(NoStore::Authorization));
        assert_eq!(asked(&[auth], &[("cache-control", "public, max-age=60")]), Ok(()));
        assert_eq!(asked(&[("cache-control", "no-store")], &[max_age]), Err(NoStore::Forbidden));
    }

    #[test]
    fn statuses_are_kept_as_their_definitions_say() {
        let fresh = [("cache-control", "max-age=60")];
        let check = |status, silent: bool, told: bool| {
            assert_eq!(decide(status, &[]).is_ok(), silent, "{status} silent");
            assert_eq!(decide(status, &fresh).is_ok(), told, "{status} told");
        };
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            check(status, true, true);
        }
        for status in [201, 302, 303, 307, 400, 403, 500, 502, 503] {
            check(status, false, true);
        }
        for status in [206, 304, 299, 599] {
            check(status, false, false);
        }
    }

    #[test]
    fn age_is_the_larger_of_apparent_and_stated() {
        let check = |response: &[(&str, &str)], expect: u64| {
            let mut lines = vec![("cache-control", "max-age=600")];
            lines.extend_from_slice(response);
            assert_eq!(decide(200, &lines).unwrap().1, expect, "{response:?}");
        };
        check(&[], 2); // the time that the exchange took
        check(&[DATE_NOW], 2);
        check(&[("date", "Sun, 09 Sep 2001 01:45:40 GMT")], 60);
        check(&[DATE_NOW, ("age", "100")], 102);
        check(&[DATE_NOW, ("age", "100, 5")], 102);
        check(&[DATE_NOW, ("age", "soon")], 2);
        check(&[("date", "Sun, 09 Sep 2001 01:56:40 GMT")], 2); // a clock ahead of ours
    }

    #[test]
    fn a_stale_copy_stands_in_for_a_day_unless_told_otherwise() {
        let fresh = |lifetime, must_revalidate| Freshness {
            received: at(NOW),
            initial_age: Duration::from_secs(10),
            lifetime: Duration::from_secs(lifetime),
            must_revalidate,
        };
        let day = Duration::from_secs(86_400);
        assert_eq!(fresh(60, false).ttl(at(NOW + 20)), 30);
        assert_eq!(fresh(60, false).ttl(at(NOW + 80)), -30);
        assert_eq!(fresh(60, false).remaining(at(NOW + 50)), None);
        assert!(fresh(60, false).may_stand_in(at(NOW + 86_000), day));
        assert!(!fresh(60, false).may_stand_in(at(NOW + 87_000), day));
        assert!(!fresh(60, true).may_stand_in(at(NOW + 60), day));
    }

    #[test]
    fn variants_differ_only_where_it_matters() {
        let names =
            vary(&headers(&[("vary", "Accept-Encoding, accept"), ("vary", "Accept")])).unwrap();
        assert_eq!(names.len(), 2);
        let of = |lines: &[(&str, &str)]| variant(&names, &headers(lines));
        assert_eq!(of(&[("accept-encoding", "gzip, br")]), of(&[("accept-encoding", "GZIP,br")]));
        assert_ne!(of(&[("accept-encoding", "gzip")]), of(&[("accept-encoding", "br")]));
        assert_ne!(of(&[("accept-encoding", "gzip")]), of(&[("accept", "gzip")]));
        assert_eq!(of(&[("cookie", "a")]), of(&[]));
    }
}
