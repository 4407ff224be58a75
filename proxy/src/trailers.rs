//! Trailer fields (RFC 9110, section 6.5): what an origin says after a body goes to those clients that say
//! `TE: trailers`, and is kept apart from the header fields (RFC 9111, section 3.1).
//!
//! They are left out, knowingly: for other clients, for parts and for what is not sent whole, over HTTP/1.0,
//! and over HTTP/1.1 if the origin did not name them in `Trailer`, as HTTP libraries ask for. A response that
//! has some is sent to who takes them without its length, since HTTP/1.1 has no room for both.

use http::Request;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, SET_COOKIE, TE, TRAILER,
};

use crate::fields::{Mode, is_forwarding, kept, split_tokens};

/// Fields on which framing, routing, caching or understanding the body depends, and credentials: whoever
/// reads them has done so before they come (RFC 9110, section 6.5.1).
const NEVER_LAST: [HeaderName; 15] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TRAILER,
    HeaderName::from_static("age"),
    HeaderName::from_static("cookie"),
    HeaderName::from_static("expires"),
    HeaderName::from_static("location"),
    HeaderName::from_static("vary"),
];

/// The sender takes trailers, and will not drop them (RFC 9110, section 10.1.4).
pub(crate) fn are_taken(request: &HeaderMap) -> bool {
    split_tokens(request, &TE).any(|coding| {
        let word = coding.split(';').next().unwrap_or_default();
        word.trim().eq_ignore_ascii_case("trailers")
    })
}

/// Has a request say that we take them, unless its connection is to become another.
pub(crate) fn ask_for<B>(request: &mut Request<B>) {
    let headers = request.headers_mut();
    if !headers.contains_key(CONNECTION) {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// What of an origin's trailers is passed on and kept.
pub(crate) fn cleaned(trailers: HeaderMap, mode: Mode) -> HeaderMap {
    let mut trailers = kept(trailers, mode);
    NEVER_LAST.iter().for_each(|name| _ = trailers.remove(name));
    trailers
}

/// What of a client's trailers a site is told: as of its header fields, nothing that a proxy is believed.
pub(crate) fn of_request(trailers: HeaderMap) -> HeaderMap {
    let trailers = cleaned(trailers, Mode::Site { tls: false });
    let mut onward = HeaderMap::new();
    for (name, value) in &trailers {
        if !is_forwarding(name.as_str()) {
            onward.append(name, value.clone());
        }
    }
    onward
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_te_trailers_takes_them() {
        let check = |te: &[&'static str], expect| {
            let mut request = HeaderMap::new();
            te.iter().for_each(|line| _ = request.append(TE, HeaderValue::from_static(line)));
            assert_eq!(are_taken(&request), expect, "{te:?}");
        };
        check(&["trailers"], true);
        check(&["gzip;q=0.5, Trailers"], true);
        check(&["gzip", "trailers"], true);
        check(&["gzip;trailers"], false);
        check(&["trailer"], false);
        check(&[], false);
    }

    #[test]
    fn what_must_come_first_does_not_come_last() {
        let mut trailers = HeaderMap::new();
        for name in ["x-end", "set-cookie", "cache-control", "content-length", "connection", "hop"]
        {
            trailers.insert(name, HeaderValue::from_static("hop"));
        }
        for mode in [Mode::Suffixed, Mode::Site { tls: false }] {
            let names: Vec<_> = cleaned(trailers.clone(), mode).into_iter().collect();
            assert_eq!(names.len(), 1, "{names:?}");
            assert_eq!(names[0].0.as_ref().unwrap(), "x-end");
        }
        trailers.insert("x-forwarded-for", HeaderValue::from_static("10.0.0.1"));
        let names = of_request(trailers);
        assert_eq!(names.keys().collect::<Vec<_>>(), ["x-end"]);
    }
}
