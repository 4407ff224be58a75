//! Whether a response may be kept (RFC 9111, sections 3 and 3.5).

use http::StatusCode;
use http::header::{AUTHORIZATION, ETAG, HeaderMap, LAST_MODIFIED, SET_COOKIE};

use super::Rules;
use super::age::Times;
use super::directives::{Reach, RequestDirectives, ResponseDirectives};
use super::freshness::{
    Freshness, explicit_lifetime, heuristic_lifetime, is_heuristically_cacheable,
};
use super::vary::vary;

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
    /// Its status is not one that may be kept without being told to, or at all.
    Status,
    /// It is already stale and there is nothing to validate it with.
    Worthless,
    /// It is larger than may be kept.
    TooLarge,
    /// A peer's copy is older than a purge of it here.
    Purged,
}

/// For a response to GET.
///
/// # Errors
/// The reason not to keep it.
pub(crate) fn storable(
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    times: Times,
    rules: &Rules,
) -> Result<Freshness, NoStore> {
    let told = ResponseDirectives::read(response);
    if is_never_whole(status) || told.must_understand && !is_understood(status) {
        return Err(NoStore::Status);
    }
    // Caches that know must-understand are not those that its no-store is for (section 5.2.2.3).
    if told.no_store && !told.must_understand || RequestDirectives::read(request).no_store {
        return Err(NoStore::Forbidden);
    }
    if told.private == Reach::All {
        return Err(NoStore::Private);
    }
    let for_all = told.public || told.s_maxage.is_some();
    if request.contains_key(AUTHORIZATION) && !(for_all || told.must_revalidate) {
        return Err(NoStore::Authorization);
    }
    let explicit = explicit_lifetime(&told, response, times);
    let withheld = told.withheld().any(|name| *name == SET_COOKIE);
    let cookies = rules.cookies && explicit.is_some() || for_all || told.immutable || withheld;
    if response.contains_key(SET_COOKIE) && !cookies {
        return Err(NoStore::SetCookie);
    }
    if vary(response).is_none() {
        return Err(NoStore::Vary);
    }
    if explicit.is_none() && !told.public && !is_heuristically_cacheable(status) {
        return Err(NoStore::Status);
    }
    let lifetime = explicit.unwrap_or_else(|| heuristic_lifetime(response, times, rules));
    let freshness = Freshness::of(&told, lifetime, response, times, rules);
    let validator = response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED);
    let stale = freshness.staleness(times.response);
    if stale.is_some_and(|stale| stale >= freshness.stale.while_revalidate) && !validator {
        return Err(NoStore::Worthless);
    }
    Ok(freshness)
}

/// Not final, a part, about a part, or about what somebody else holds.
fn is_never_whole(status: StatusCode) -> bool {
    status.is_informational()
        || matches!(
            status,
            StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
                | StatusCode::RANGE_NOT_SATISFIABLE
        )
}

/// Final statuses of the registry that ask nothing of a cache beyond what is done here.
fn is_understood(status: StatusCode) -> bool {
    status.canonical_reason().is_some() && status != StatusCode::IM_USED
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::tests::{DATE_NOW, NOW, at, headers};
    use super::*;

    const SITE: Rules = Rules {
        heuristic_floor: Duration::ZERO,
        heuristic_cap: Duration::from_secs(86_400),
        stale_if_error: Duration::from_secs(86_400),
        cookies: true,
        reload_interval: Duration::ZERO,
    };
    const SUFFIXED: Rules =
        Rules { heuristic_floor: Duration::from_secs(300), cookies: false, ..SITE };

    fn decide(
        rules: Rules,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<u64, NoStore> {
        let times = Times { request: at(NOW - 2), response: at(NOW) };
        let status = StatusCode::from_u16(status).unwrap();
        storable(&headers(request), status, &headers(response), times, &rules)
            .map(|f| f.lifetime.as_secs())
    }

    fn cc(value: &str) -> (&str, &str) {
        ("cache-control", value)
    }

    #[test]
    fn what_is_not_for_all_is_not_kept() {
        let check = |response: &[(&str, &str)], expect: Result<(), NoStore>| {
            for rules in [SITE, SUFFIXED] {
                let found = decide(rules, &[], 200, response).map(|_| ());
                assert_eq!(found, expect, "{response:?}");
            }
        };
        check(&[cc("max-age=60, No-Store")], Err(NoStore::Forbidden));
        check(&[cc("max-age=60"), cc("private")], Err(NoStore::Private));
        check(&[cc("max-age=60, private=\"x\"")], Ok(()));
        check(&[cc("max-age=60"), ("vary", "*")], Err(NoStore::Vary));
        check(&[cc("max-age=60"), ("vary", "accept, *")], Err(NoStore::Vary));
        check(&[cc("max-age=60"), ("vary", "Accept-Encoding")], Ok(()));
        check(&[cc("max-age=60"), ("content-range", "nonsense for a 200")], Ok(()));
        check(&[cc("public, max-age=60"), ("set-cookie", "a=b")], Ok(()));
        check(&[cc("max-age=9, no-cache=\"set-cookie\""), ("set-cookie", "a=b")], Ok(()));
        check(&[cc("no-store"), ("cdn-cache-control", "max-age=60")], Ok(()));
        check(&[cc("max-age=60"), ("cdn-cache-control", "no-store")], Err(NoStore::Forbidden));
    }

    #[test]
    fn set_cookie_is_kept_where_cookies_pass_and_freshness_is_explicit() {
        let cookie = ("set-cookie", "a=b");
        let modified = ("last-modified", "Thu, 30 Aug 2001 01:46:40 GMT");
        assert_eq!(decide(SITE, &[], 200, &[cc("max-age=60"), cookie]), Ok(60));
        assert_eq!(decide(SITE, &[], 200, &[modified, cookie]), Err(NoStore::SetCookie));
        assert_eq!(
            decide(SUFFIXED, &[], 200, &[cc("max-age=60"), cookie]),
            Err(NoStore::SetCookie)
        );
    }

    #[test]
    fn a_request_with_authorization_needs_a_word_of_the_origin() {
        let asked = |line| decide(SITE, &[("authorization", "Basic x")], 200, &[cc(line)]);
        assert_eq!(asked("max-age=60"), Err(NoStore::Authorization));
        assert_eq!(asked("max-age=60, proxy-revalidate"), Err(NoStore::Authorization));
        assert_eq!(asked("max-age=60, public"), Ok(60));
        assert_eq!(asked("max-age=60, must-revalidate"), Ok(60));
        assert_eq!(asked("s-maxage=60"), Ok(60));
    }

    #[test]
    fn a_request_may_forbid_storing() {
        let found = decide(SITE, &[cc("no-store")], 200, &[cc("max-age=60")]);
        assert_eq!(found, Err(NoStore::Forbidden));
    }

    #[test]
    fn statuses_are_kept_as_their_definitions_say() {
        let modified = [DATE_NOW, ("last-modified", "Sat, 08 Sep 2001 01:46:40 GMT")];
        let check = |status, silent: bool, told: bool| {
            let public = [modified[0], modified[1], cc("public")];
            assert_eq!(decide(SITE, &[], status, &modified).is_ok(), silent, "{status} silent");
            assert_eq!(decide(SITE, &[], status, &[cc("max-age=9")]).is_ok(), told, "{status}");
            assert_eq!(decide(SITE, &[], status, &public).is_ok(), told, "{status} public");
        };
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            check(status, true, true);
        }
        for status in [201, 202, 299, 302, 303, 307, 400, 403, 499, 500, 502, 503, 504, 599, 999] {
            check(status, false, true);
        }
        for status in [101, 206, 304, 416] {
            check(status, false, false);
        }
    }

    #[test]
    fn must_understand_overrides_no_store_where_the_status_is_understood() {
        let line = cc("max-age=60, no-store, must-understand");
        assert_eq!(decide(SITE, &[], 200, &[line]), Ok(60));
        assert_eq!(decide(SITE, &[], 404, &[line]), Ok(60));
        for unknown in [599, 299, 226] {
            assert_eq!(decide(SITE, &[], unknown, &[line]), Err(NoStore::Status), "{unknown}");
        }
    }

    #[test]
    fn nothing_is_kept_that_could_never_be_used() {
        let stale = [DATE_NOW, ("expires", "0")];
        assert_eq!(decide(SITE, &[], 200, &stale), Err(NoStore::Worthless));
        assert_eq!(decide(SITE, &[], 200, &[stale[0], stale[1], ("etag", "\"a\"")]), Ok(0));
        assert_eq!(decide(SITE, &[], 200, &[cc("no-cache, max-age=60")]), Err(NoStore::Worthless));
        assert_eq!(decide(SITE, &[], 200, &[cc("no-cache"), ("etag", "\"a\"")]), Ok(0));
        assert_eq!(
            decide(SITE, &[], 200, &[cc("max-age=60"), ("age", "100")]),
            Err(NoStore::Worthless)
        );
        assert_eq!(decide(SITE, &[], 200, &[]), Err(NoStore::Worthless));
        assert_eq!(decide(SUFFIXED, &[], 200, &[]), Ok(300));
        assert_eq!(decide(SITE, &[], 200, &[cc("max-age=0, stale-while-revalidate=60")]), Ok(0));
    }

    proptest! {
        #[test]
        fn forbidden_stays_forbidden_whatever_else_is_said(
            more in prop::sample::subsequence(
                vec!["public", "max-age=60", "s-maxage=60", "immutable", "must-revalidate"], 0..5),
            word in prop::sample::select(vec!["no-store", "private"]),
            status in 100u16..1000,
        ) {
            let line = more.join(", ") + ", " + word;
            prop_assert!(decide(SITE, &[], status, &[cc(&line)]).is_err());
        }
    }
}
