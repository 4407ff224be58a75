//! Validation, and the updating of what is kept (RFC 9111, sections 3.2 and 4.3).

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, SET_COOKIE,
};

use super::directives::ResponseDirectives;
use crate::digests::{CONTENT_DIGEST, REPR_DIGEST};

/// Fields that a 304 or a HEAD response does not change: those that say how the kept body is to be read, and
/// cookies, which are for the one who asked just now, whoever may have the kept one. A digest is of the content of
/// that response, or was held against the kept one already.
const NOT_UPDATED: [HeaderName; 7] = [
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CONTENT_RANGE,
    CONTENT_LENGTH,
    SET_COOKIE,
    CONTENT_DIGEST,
    REPR_DIGEST,
];

/// The preconditions that ask whether a kept response still holds (section 4.3.1).
pub(crate) fn preconditions(
    stored: &HeaderMap,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
    [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)]
        .into_iter()
        .filter_map(|(validator, name)| Some((name, stored.get(validator)?.clone())))
}

/// What a 304 has to do with a kept response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identified {
    /// It names it, and with it every other copy of the same octets.
    Strongly,
    /// It is about the one that was asked about.
    AskedAbout,
    /// It is about something else, and must not be used.
    Not,
}

/// Section 4.3.4: by the validators of the 304.
pub(crate) fn identifies(update: &HeaderMap, stored: &HeaderMap) -> Identified {
    let same = |held: Option<&HeaderValue>, given: &HeaderValue| {
        held.is_some_and(|held| opaque(held) == opaque(given))
    };
    match (update.get(ETAG), update.get(LAST_MODIFIED)) {
        (Some(tag), _) if stored.get(ETAG) == Some(tag) && tag.as_bytes().starts_with(b"\"") => {
            Identified::Strongly
        }
        (Some(tag), _) if same(stored.get(ETAG), tag) => Identified::AskedAbout,
        // An origin that began to send tags answers a date that was asked about.
        (Some(_), given) if !stored.contains_key(ETAG) && given == stored.get(LAST_MODIFIED) => {
            Identified::AskedAbout
        }
        (Some(_), _) => Identified::Not,
        (None, Some(given)) if stored.get(LAST_MODIFIED).is_some_and(|held| held != given) => {
            Identified::Not
        }
        (None, _) => Identified::AskedAbout,
    }
}

/// The opaque part of an entity tag.
fn opaque(tag: &HeaderValue) -> &[u8] {
    tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes())
}

/// Section 3.2: puts the fields of a 304 or a HEAD response, from which those of the connection are off
/// already, over the kept ones.
pub(crate) fn freshen(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    let mut headers = stored.clone();
    for name in update.keys().filter(|name| !NOT_UPDATED.contains(name)) {
        headers.remove(name);
        for value in update.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    let told = ResponseDirectives::read(&headers);
    told.withheld().for_each(|name| {
        headers.remove(name);
    });
    headers
}

/// Section 4.3.5: a HEAD response is about the kept one, of `length` octets, unless something that both
/// name differs.
pub(crate) fn head_describes(head: &HeaderMap, stored: &HeaderMap, length: u64) -> bool {
    let agrees = |name| head.get(&name).is_none_or(|given| stored.get(&name) == Some(given));
    let same_length = head
        .get(CONTENT_LENGTH)
        .is_none_or(|given| given.to_str().ok().and_then(|text| text.parse().ok()) == Some(length));
    agrees(ETAG) && agrees(LAST_MODIFIED) && same_length
}

#[cfg(test)]
mod tests {
    use super::super::tests::headers;
    use super::*;

    const DAY: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
    const NEXT: &str = "Mon, 10 Sep 2001 01:46:40 GMT";

    #[test]
    fn all_validators_are_sent() {
        let check = |stored: &[(&str, &str)], expect: &[(&str, &str)]| {
            let found: HeaderMap = preconditions(&headers(stored)).collect();
            assert_eq!(found, headers(expect));
        };
        let (tag, date) = (("etag", "W/\"a\""), ("last-modified", DAY));
        let (inm, ims) = (("if-none-match", "W/\"a\""), ("if-modified-since", DAY));
        check(&[tag, date], &[inm, ims]);
        check(&[tag], &[inm]);
        check(&[date], &[ims]);
        check(&[("content-type", "x")], &[]);
    }

    #[test]
    fn a_304_identifies_what_it_is_about() {
        let check = |stored: &[(&str, &str)], update: &[(&str, &str)], expect| {
            let found = identifies(&headers(update), &headers(stored));
            assert_eq!(found, expect, "{stored:?} {update:?}");
        };
        let (a, b, weak) = (("etag", "\"a\""), ("etag", "\"b\""), ("etag", "W/\"a\""));
        let (day, next) = (("last-modified", DAY), ("last-modified", NEXT));
        check(&[a], &[a], Identified::Strongly);
        check(&[a, day], &[a, next], Identified::Strongly);
        check(&[a], &[b], Identified::Not);
        check(&[a, day], &[b, day], Identified::Not);
        check(&[a], &[weak], Identified::AskedAbout);
        check(&[weak], &[weak], Identified::AskedAbout);
        check(&[a], &[], Identified::AskedAbout);
        check(&[day], &[day], Identified::AskedAbout);
        check(&[day], &[next], Identified::Not);
        check(&[day], &[], Identified::AskedAbout);
        check(&[day], &[a, day], Identified::AskedAbout);
        check(&[day], &[a, next], Identified::Not);
    }

    #[test]
    fn an_update_replaces_all_but_what_describes_the_body() {
        let stored = headers(&[
            ("etag", "\"a\""),
            ("content-type", "text/a"),
            ("content-length", "36"),
            ("x", "1"),
            ("x", "2"),
        ]);
        let update = headers(&[
            ("etag", "\"a\""),
            ("set-cookie", "somebody=else"),
            ("content-type", "text/b"),
            ("content-length", "10"),
            ("content-foo", "new"),
            ("x", "3"),
            ("y", "4"),
        ]);
        let expect = headers(&[
            ("content-type", "text/a"),
            ("content-length", "36"),
            ("etag", "\"a\""),
            ("content-foo", "new"),
            ("x", "3"),
            ("y", "4"),
        ]);
        assert_eq!(freshen(&stored, &update), expect);
    }

    #[test]
    fn an_update_does_not_bring_back_what_is_withheld() {
        let update =
            headers(&[("cache-control", "no-cache=\"a\", private=\"b\""), ("a", "1"), ("b", "2")]);
        let fresh = freshen(&headers(&[("c", "3")]), &update);
        assert!(!fresh.contains_key("a") && !fresh.contains_key("b") && fresh.contains_key("c"));
    }

    #[test]
    fn a_head_response_is_compared_before_it_updates() {
        let check = |head: &[(&str, &str)], expect| {
            let stored = headers(&[("etag", "\"a\""), ("last-modified", DAY)]);
            assert_eq!(head_describes(&headers(head), &stored, 36), expect, "{head:?}");
        };
        check(&[], true);
        check(&[("etag", "\"a\""), ("last-modified", DAY), ("content-length", "36")], true);
        check(&[("etag", "\"b\"")], false);
        check(&[("last-modified", NEXT)], false);
        check(&[("content-length", "37")], false);
        check(&[("content-length", "x")], false);
    }
}
