//! Every parser of octets from outside, fed with anything: it may refuse, and must not panic.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri};
use proptest::prelude::*;

use crate::conditional::{select, strong_validator};
use crate::fields::{Mode, Signature, cleaned, kept};
use crate::policy::{
    RequestDirectives, ResponseDirectives, Rules, Times, Variant, also_invalidated, date, freshen,
    groups, head_describes, identifies, invalidated_groups, is_explicitly_fresh, names_itself,
    reuse, storable, vary,
};
use crate::rewrite::{Naming, upgrades_only};
use crate::scope::{Purge, tags};
use crate::target::{decode, plain};

/// Each that is read here, and one that is not.
const FIELDS: [&str; 36] = [
    "accept-encoding",
    "accept-language",
    "age",
    "authorization",
    "cache-control",
    "cache-group-invalidation",
    "cache-groups",
    "cache-tag",
    "cdn-cache-control",
    "cdn-loop",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "cookie",
    "coralline-cdn-cache-control",
    "date",
    "etag",
    "expires",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "last-modified",
    "link",
    "location",
    "pragma",
    "range",
    "refresh",
    "set-cookie",
    "surrogate-key",
    "te",
    "upgrade",
    "vary",
    "x-other",
    "xkey",
];

/// What grammars are made of.
const WORDS: [&str; 34] = [
    "max-age",
    "s-maxage",
    "no-cache",
    "private",
    "must-understand",
    "stale-while-revalidate",
    "=",
    "\"",
    ",",
    ";",
    ":",
    " ",
    "\t",
    "-",
    ".",
    "/",
    "//",
    "?",
    "#",
    "*",
    "(",
    "?1",
    "bytes=",
    "0",
    "60",
    "99999999999999999999",
    "-1",
    "Sun, 09 Sep 2001 01:46:40 GMT",
    "Sunday, 09-Sep-01",
    "W/\"a\"",
    "http://a.com",
    "cdn.localhost",
    "accept-language",
    "\u{e4}",
];

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop::sample::select(&WORDS[..]), 0..12);
    let words = words.prop_map(|words| words.concat().into_bytes());
    prop_oneof![words, prop::collection::vec(any::<u8>(), 0..40)]
}

fn any_fields() -> impl Strategy<Value = HeaderMap> {
    let field = (prop::sample::select(&FIELDS[..]), any_value());
    prop::collection::vec(field, 0..10).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            // What no field can hold is refused before.
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.append(HeaderName::from_static(name), value);
            }
        }
        map
    })
}

fn rules() -> [Rules; 2] {
    let cache = coralline_config::Config::default().cache;
    [Rules::suffixed(&cache), Rules::site(&cache)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_fields_are_read_or_refused(
        request in any_fields(),
        response in any_fields(),
        update in any_fields(),
        status in 100u16..=999,
        length: u64,
        seconds in 0u64..1 << 40,
        path in "/[ -~]{0,20}",
    ) {
        let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let times = Times { request: now, response: now };
        let status = StatusCode::from_u16(status).unwrap();
        let told = RequestDirectives::read(&request);
        ResponseDirectives::read(&response).withheld().for_each(drop);
        for rules in &rules() {
            if let Ok(freshness) = storable(&request, status, &response, times, rules) {
                let _ = (freshness.age(now), freshness.ttl(now), freshness.remaining(now));
                let _ = reuse(&freshness, &told, now, rules);
            }
        }
        let names = vary(&response).unwrap_or_default();
        let variant = Variant::of(names, &request, &response);
        let _ = (variant.suits(&request), variant.suits(&update));
        for get in [true, false] {
            let _ = select(&request, get, StatusCode::OK, &response, Some(length));
        }
        let _ = (strong_validator(&response), is_explicitly_fresh(&response));
        let _ = (identifies(&update, &response), head_describes(&update, &response, length));
        let _ = (freshen(&response, &update), tags(&response), groups(&response));
        let _ = invalidated_groups(&response);
        for name in response.keys() {
            let _ = date(&response, name.clone());
        }
        let target: Uri = "https://a.com/dir/x?y".parse().unwrap();
        let _ = (also_invalidated(&target, &response), names_itself(&target, &response));
        for mode in [Mode::Suffixed, Mode::Site { tls: true }] {
            let _ = (cleaned(request.clone(), mode), kept(response.clone(), mode));
        }
        let signature = Signature {
            name: "x".into(),
            cdn_id: "cdn.localhost".into(),
            user_agent: HeaderValue::from_static("x"),
        };
        let _ = signature.loops(&request);
        let suffix = "cdn.localhost".parse().unwrap();
        let mut named = response.clone();
        for tls in [true, false] {
            let naming = Naming { suffix: &suffix, tls, port: Some(8080), host: "a.com", path: &path };
            naming.rewrite(&mut named);
        }
    }

    #[test]
    fn any_names_are_read_or_refused(text in any_value(), other: String) {
        let text = String::from_utf8_lossy(&text).into_owned();
        let suffix = "cdn.localhost".parse().unwrap();
        for text in [&text, &other, &format!("{text}.cdn.localhost"), &format!("http://{text}")] {
            for tls in [true, false] {
                let _ = (decode(text, &suffix, tls), plain(text, tls));
            }
            let _ = upgrades_only(text, "a.com", "/");
            let one = || vec![text.clone()];
            for purge in [
                Purge { urls: one(), ..Purge::default() },
                Purge { prefixes: one(), ..Purge::default() },
                Purge { hosts: one(), ..Purge::default() },
                Purge { tags: one(), ..Purge::default() },
            ] {
                let _ = purge.scopes(&suffix);
            }
        }
    }
}
