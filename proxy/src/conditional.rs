//! Preconditions and ranges (RFC 9110, sections 13 and 14), decided over a response's head.

use http::header::{
    DATE, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderValue, StatusCode};

use crate::limits::MAX_RANGES;
use crate::policy::date;

/// What of a response the client is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selected {
    /// All of it.
    Full,
    /// 304: the client has it.
    NotModified,
    /// 206: the octets from the first up to, and without, the second.
    Range(u64, u64),
    /// 206 in parts, each as above.
    Ranges(Vec<(u64, u64)>),
    /// 416, of a body of this length.
    Unsatisfiable(u64),
}

/// Decides in the order of RFC 9110, section 13.2.2. `get` is false for HEAD, to which ranges do not apply;
/// `length` is the body's, where it is known already.
#[must_use]
pub(crate) fn select(
    request: &HeaderMap,
    get: bool,
    status: StatusCode,
    response: &HeaderMap,
    length: Option<u64>,
) -> Selected {
    if status != StatusCode::OK {
        return Selected::Full;
    }
    if is_held(request, response) {
        return Selected::NotModified;
    }
    if !get || request.contains_key(IF_RANGE) && !if_range(request, response) {
        return Selected::Full;
    }
    match (request.get(RANGE), length) {
        (Some(range), Some(length)) => range_of(range, length),
        _ => Selected::Full,
    }
}

/// The client holds what it would get. If-Match and If-Unmodified-Since are for origins, and not
/// applicable to a cache (RFC 9111, section 4.3.2).
fn is_held(request: &HeaderMap, response: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return any_tag(request, response);
    }
    let since = date(request, IF_MODIFIED_SINCE);
    // What does not say when it was modified was at the latest when it was made (RFC 9111, section 4.3.2).
    let modified = date(response, LAST_MODIFIED)
        .or_else(|| date(response, DATE).filter(|_| !response.contains_key(LAST_MODIFIED)));
    since.zip(modified).is_some_and(|(since, modified)| modified <= since)
}

/// If-Range holds: the same strong tag, or the very date, if that is strong (RFC 9110, section 13.1.5).
pub(crate) fn if_range(request: &HeaderMap, response: &HeaderMap) -> bool {
    let Some(value) = request.get(IF_RANGE) else { return true };
    if value.as_bytes().ends_with(b"\"") {
        return response.get(ETAG).is_some_and(|tag| strong(value.as_bytes(), tag.as_bytes()));
    }
    let when = date(request, IF_RANGE);
    when.is_some() && when == date(response, LAST_MODIFIED) && is_strong_date(response)
}

/// What certainly names these very octets: a strong tag, or, where there is no tag at all, a strong date.
pub(crate) fn strong_validator(response: &HeaderMap) -> Option<&HeaderValue> {
    match response.get(ETAG) {
        Some(tag) => Some(tag).filter(|tag| tag.as_bytes().starts_with(b"\"")),
        None => response.get(LAST_MODIFIED).filter(|_| is_strong_date(response)),
    }
}

/// The response is at least a second younger than its last change, so that no second change can hide
/// behind the same date (RFC 9110, section 8.8.2.2).
fn is_strong_date(response: &HeaderMap) -> bool {
    let (modified, made) = (date(response, LAST_MODIFIED), date(response, DATE));
    let apart = modified.zip(made).and_then(|(modified, made)| made.duration_since(modified).ok());
    apart.is_some_and(|apart| !apart.is_zero())
}

fn any_tag(request: &HeaderMap, response: &HeaderMap) -> bool {
    let lines = request.get_all(IF_NONE_MATCH);
    if lines.iter().any(|line| line.as_bytes() == b"*") {
        return true;
    }
    let Some(tag) = response.get(ETAG).map(HeaderValue::as_bytes) else { return false };
    lines.iter().flat_map(|line| tags(line.as_bytes())).any(|given| weak(given, tag))
}

/// The members of a list of entity tags; a comma within quotes belongs to the tag.
fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |b| {
        quoted ^= *b == b'"';
        *b == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
}

fn strong(a: &[u8], b: &[u8]) -> bool {
    a == b && a.starts_with(b"\"")
}

fn weak(a: &[u8], b: &[u8]) -> bool {
    let opaque = |tag: &'_ [u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    opaque(a) == opaque(b)
}

/// The first octet that a range asks for, whatever the length of the whole.
pub(crate) fn first_of(range: &HeaderValue) -> Option<u64> {
    match range_of(range, u64::MAX) {
        Selected::Range(first, _) => Some(first),
        Selected::Ranges(ranges) => ranges.first().map(|(first, _)| *first),
        _ => None,
    }
}

/// Ranges of octets. What is no valid set of them is ignored; so are more than are served, or such as
/// overlap or go back, which only an attack asks for (RFC 9110, section 14.2).
pub(crate) fn range_of(value: &HeaderValue, length: u64) -> Selected {
    let Some((unit, set)) = value.to_str().ok().and_then(|text| text.split_once('=')) else {
        return Selected::Full;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selected::Full;
    }
    let mut ranges = Vec::new();
    let mut count = 0;
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        count += 1;
        match one_range(spec, length) {
            _ if count > MAX_RANGES => return Selected::Full,
            Selected::Range(first, end) => {
                if ranges.last().is_some_and(|(_, before)| *before > first) {
                    return Selected::Full;
                }
                ranges.push((first, end));
            }
            Selected::Unsatisfiable(_) => {}
            _ => return Selected::Full,
        }
    }
    match ranges[..] {
        [] if count > 0 => Selected::Unsatisfiable(length),
        [] => Selected::Full,
        [(first, end)] => Selected::Range(first, end),
        _ => Selected::Ranges(ranges),
    }
}

fn one_range(spec: &str, length: u64) -> Selected {
    let parse = || {
        let (first, last) = spec.split_once('-')?;
        let number = |text: &str| match text {
            "" => Some(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(Some(digits.parse().unwrap_or(u64::MAX)))
            }
            _ => None,
        };
        Some((number(first.trim())?, number(last.trim())?))
    };
    match parse() {
        Some((Some(first), Some(last))) if first > last => Selected::Full,
        Some((Some(first), _)) if first >= length => Selected::Unsatisfiable(length),
        Some((Some(first), last)) => {
            Selected::Range(first, last.map_or(length, |last| last.saturating_add(1).min(length)))
        }
        Some((None, Some(0))) => Selected::Unsatisfiable(length),
        Some((None, Some(_))) if length == 0 => Selected::Unsatisfiable(0),
        Some((None, Some(suffix))) => Selected::Range(length.saturating_sub(suffix), length),
        Some((None, None)) | None => Selected::Full,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn check(request: &[(&'static str, &str)], expect: &Selected) {
        let response = headers(&[
            ("etag", "\"a,b\""),
            ("last-modified", "Sun, 09 Sep 2001 01:46:40 GMT"),
            ("date", "Sun, 09 Sep 2001 01:46:50 GMT"),
        ]);
        let selected = select(&headers(request), true, StatusCode::OK, &response, Some(100));
        assert_eq!(&selected, expect, "{request:?}");
    }

    #[test]
    fn preconditions_in_their_order() {
        use Selected::{Full, NotModified, Range};
        let check = |request: &[(&'static str, &str)], expect: Selected| check(request, &expect);
        check(&[], Full);
        check(&[("if-none-match", "\"a,b\"")], NotModified);
        check(&[("if-none-match", "\"x\", W/\"a,b\"")], NotModified);
        check(&[("if-none-match", "\"x\""), ("if-none-match", "*")], NotModified);
        check(&[("if-none-match", "\"a\", \"b\"")], Full);
        check(&[("if-modified-since", "Sun, 09 Sep 2001 01:46:40 GMT")], NotModified);
        check(&[("if-modified-since", "Sun, 09 Sep 2001 01:46:39 GMT")], Full);
        check(&[("if-modified-since", "yesterday")], Full);
        let later = ("if-modified-since", "Sun, 09 Sep 2012 01:46:40 GMT");
        check(&[("if-none-match", "\"x\""), later], Full);
        check(&[("if-match", "\"a,b\"")], Full);
        check(&[("if-match", "\"other\"")], Full);
        check(&[("if-unmodified-since", "Sat, 09 Sep 2000 01:46:40 GMT")], Full);
        check(&[("if-none-match", "\"a,b\""), ("range", "bytes=0-1")], NotModified);
        check(&[("if-range", "\"a,b\""), ("range", "bytes=0-1")], Range(0, 2));
        check(&[("if-range", "W/\"a,b\""), ("range", "bytes=0-1")], Full);
        check(&[("if-range", "\"x\""), ("range", "bytes=0-1")], Full);
        let same = ("if-range", "Sun, 09 Sep 2001 01:46:40 GMT");
        check(&[same, ("range", "bytes=0-1")], Range(0, 2));
        let other = ("if-range", "Sun, 09 Sep 2001 01:46:41 GMT");
        check(&[other, ("range", "bytes=0-1")], Full);
    }

    #[test]
    fn without_last_modified_the_date_counts() {
        let response = headers(&[("date", "Sun, 09 Sep 2001 01:46:50 GMT")]);
        let asked = |since| {
            let request = headers(&[("if-modified-since", since)]);
            select(&request, true, StatusCode::OK, &response, None)
        };
        assert_eq!(asked("Sun, 09 Sep 2001 01:46:50 GMT"), Selected::NotModified);
        assert_eq!(asked("Sun, 09 Sep 2001 01:46:49 GMT"), Selected::Full);
    }

    #[test]
    fn only_what_is_strong_names_the_very_octets() {
        let modified = ("last-modified", "Sun, 09 Sep 2001 01:46:40 GMT");
        let check = |lines: &[(&'static str, &str)], expect: Option<&str>| {
            let response = headers(lines);
            let found = strong_validator(&response).map(|value| value.to_str().unwrap());
            assert_eq!(found, expect, "{lines:?}");
        };
        let (later, same) = ("Sun, 09 Sep 2001 01:46:41 GMT", "Sun, 09 Sep 2001 01:46:40 GMT");
        check(&[("etag", "\"a\""), modified], Some("\"a\""));
        check(&[("etag", "W/\"a\""), modified, ("date", later)], None);
        check(&[modified, ("date", later)], Some(modified.1));
        check(&[modified, ("date", same)], None);
        check(&[modified], None);
    }

    #[test]
    fn ranges() {
        use Selected::{Full, Range, Ranges, Unsatisfiable};
        let check = |range, expect: Selected| check(&[("range", range)], &expect);
        check("bytes=0-0", Range(0, 1));
        check("Bytes=10-", Range(10, 100));
        check("bytes=-5", Range(95, 100));
        check("bytes=-500", Range(0, 100));
        check("bytes=90-500", Range(90, 100));
        check("bytes=99-99999999999999999999999", Range(99, 100));
        check("bytes=100-", Unsatisfiable(100));
        check("bytes=-0", Unsatisfiable(100));
        check("bytes=5-4", Full);
        check("bytes=-", Full);
        check("bytes=a-b", Full);
        check("bytes=+1-2", Full);
        check("lines=0-1", Full);
        check("bytes=0-1,5-6", Ranges(vec![(0, 2), (5, 7)]));
        check("bytes=0-1, 500-, -1", Ranges(vec![(0, 2), (99, 100)]));
        check("bytes=0-1,500-", Range(0, 2));
        check("bytes=500-,600-", Unsatisfiable(100));
        check("bytes=0-9,5-6", Full);
        check("bytes=5-6,0-1", Full);
        check("bytes=0-1,x", Full);
        check("bytes=,", Full);
        let many: Vec<_> = (0..=MAX_RANGES).map(|n| format!("{n}-{n}")).collect();
        let many = format!("bytes={}", many.join(","));
        let response = headers(&[("etag", "\"a\"")]);
        let request = headers(&[("range", &many)]);
        assert_eq!(select(&request, true, StatusCode::OK, &response, Some(100)), Full);
    }

    #[test]
    fn a_head_request_and_an_error_have_no_range() {
        let request = headers(&[("range", "bytes=0-1"), ("if-none-match", "*")]);
        let none = HeaderMap::new();
        let not_found = StatusCode::NOT_FOUND;
        assert_eq!(select(&request, true, not_found, &none, Some(9)), Selected::Full);
        let range = headers(&[("range", "bytes=0-1")]);
        assert_eq!(select(&range, false, StatusCode::OK, &none, Some(9)), Selected::Full);
    }

    proptest! {
        #[test]
        fn a_range_lies_within_the_body(text in "bytes=[0-9]{0,20}-[0-9]{0,20}", length: u64) {
            let request = headers(&[("range", &text)]);
            let none = HeaderMap::new();
            if let Selected::Range(first, end) =
                select(&request, true, StatusCode::OK, &none, Some(length))
            {
                prop_assert!(first < end && end <= length);
            }
        }
    }
}
