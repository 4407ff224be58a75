//! Header fields on their way through: what is taken off, what is put on.

use http::header::{
    ACCEPT_RANGES, AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap,
    HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, REFERER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT, VIA, WWW_AUTHENTICATE,
};

use crate::policy::split_list;

/// RFC 8586.
pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// RFC 9211.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// RFC 9209.
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Fields for one connection only (RFC 9110, section 7.6.1; RFC 7230's Keep-Alive and the like).
const HOP_BY_HOP: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-authentication-info"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a request for everybody must not carry: who the first asker is, where they came from, and how
/// this connection is framed. All suffixed sites share a parent domain, so that a credential could be
/// another site's.
const PERSONAL: [HeaderName; 16] = [
    AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("cookie2"),
    REFERER,
    // Our own goes in its place: one for all, so that no site's answer depends on the first asker.
    USER_AGENT,
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("origin"),
    HeaderName::from_static("upgrade-insecure-requests"),
    HeaderName::from_static("dnt"),
    HeaderName::from_static("priority"),
    HeaderName::from_static("max-forwards"),
    HeaderName::from_static("http2-settings"),
    EXPECT,
    HOST,
    CONTENT_LENGTH,
    TRAILER,
];

/// How the client's connection is framed, which is not the origin's affair.
const OF_THE_CONNECTION: [HeaderName; 4] =
    [HOST, CONTENT_LENGTH, EXPECT, HeaderName::from_static("http2-settings")];

/// Tells the origin of a site how its client came.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Families of fields that origins act on and do not name in Vary, by their first letters: method and URL
/// overrides, forged addresses, what a browser says of itself. One such field would poison the copy of all.
const UNKEYED: [&str; 8] =
    ["x-", "sec-", "cf-", "fastly-", "akamai-", "true-client", "client-ip", "proxy"];

/// Preconditions and ranges: a fetch for everybody is of the whole.
const SELECTING: [HeaderName; 6] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];

/// What a site says about its own name, which must not be believed of the suffixed one: another
/// address, TLS for ever, all cookies gone.
const OF_THE_NAME: [HeaderName; 7] = [
    SET_COOKIE,
    HeaderName::from_static("set-cookie2"),
    HeaderName::from_static("alt-svc"),
    HeaderName::from_static("strict-transport-security"),
    HeaderName::from_static("public-key-pins"),
    HeaderName::from_static("clear-site-data"),
    // Whoever answers a challenge here would send their password to a volunteer's machine.
    WWW_AUTHENTICATE,
];

/// How this node signs what passes through it.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    /// Its name in Via and Cache-Status.
    pub(crate) name: String,
    /// The network's name in CDN-Loop: the suffix.
    pub(crate) cdn_id: String,
    /// Tells origins who asks.
    pub(crate) user_agent: HeaderValue,
}

impl Signature {
    /// Whether this request has been through this network already (RFC 8586).
    pub(crate) fn loops(&self, request: &HeaderMap) -> bool {
        request.get_all(CDN_LOOP).iter().any(|line| {
            let text = String::from_utf8_lossy(line.as_bytes());
            split_list(&text).any(|member| {
                let id = member.split(';').next().unwrap_or_default();
                id.trim().eq_ignore_ascii_case(&self.cdn_id)
            })
        })
    }

    /// Puts on what every request to an origin or a peer carries.
    pub(crate) fn sign(&self, headers: &mut HeaderMap, mode: Mode) {
        if mode == Mode::Suffixed {
            headers.insert(USER_AGENT, self.user_agent.clone());
        }
        append_member(headers, VIA, &format!("1.1 {}", self.name));
        append_member(headers, CDN_LOOP, &self.cdn_id);
    }
}

/// Whose name is asked for: what is carried for it follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A suffixed name: read only, for everybody alike.
    Suffixed,
    /// A site under its own name: cookies and credentials are its own.
    Site {
        /// The client came by https.
        tls: bool,
    },
}

/// A client's fields, cleaned before anything is decided by them: what the cache judges by is what the
/// origin will see. The second map has the preconditions and ranges, which are the client's own affair.
pub(crate) fn cleaned(mut client: HeaderMap, mode: Mode) -> (HeaderMap, HeaderMap) {
    remove_hop_by_hop(&mut client);
    let mut selecting = HeaderMap::new();
    for name in SELECTING {
        client.get_all(&name).iter().for_each(|value| {
            selecting.append(&name, value.clone());
        });
        client.remove(&name);
    }
    if let Mode::Site { tls } = mode {
        OF_THE_CONNECTION.iter().for_each(|name| {
            client.remove(name);
        });
        let forged = |name: &&HeaderName| is_forwarding(name.as_str());
        let forged: Vec<_> = client.keys().filter(forged).cloned().collect();
        for name in forged {
            client.remove(name);
        }
        join_cookies(&mut client);
        let proto = HeaderValue::from_static(if tls { "https" } else { "http" });
        client.insert(FORWARDED_PROTO, proto);
        return (client, selecting);
    }
    let unkeyed = |name: &&HeaderName| UNKEYED.iter().any(|start| name.as_str().starts_with(start));
    let unkeyed: Vec<_> = client.keys().filter(unkeyed).cloned().collect();
    for name in unkeyed.iter().chain(&PERSONAL) {
        client.remove(name);
    }
    (client, selecting)
}

/// Fields that say who asked for what before a proxy did. An origin that trusts its proxy believes them, and
/// they are no part of the key: a client who makes them up would choose what others are served.
pub(crate) fn is_forwarding(name: &str) -> bool {
    const ALONE: [&str; 8] = [
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-original-host",
        "x-host",
    ];
    ["x-forwarded-", "x-http-method", "x-method-override"]
        .iter()
        .any(|start| name.starts_with(start))
        || ALONE.contains(&name)
}

/// HTTP/2 may split a cookie into lines, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// The end-to-end fields of a response that are kept and passed on. Age is counted apart, and so is the length.
pub(crate) fn kept(mut response: HeaderMap, mode: Mode) -> HeaderMap {
    remove_hop_by_hop(&mut response);
    if mode == Mode::Suffixed {
        OF_THE_NAME.iter().for_each(|name| {
            response.remove(name);
        });
    }
    response.remove(AGE);
    response.remove(CONTENT_LENGTH);
    // Ranges are served here, whatever the origin does.
    response.remove(ACCEPT_RANGES);
    response
}

/// RFC 9110, section 7.6.1: the named ones, and those that Connection names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers.get_all(CONNECTION).iter().cloned().collect();
    for line in &lines {
        let text = String::from_utf8_lossy(line.as_bytes());
        for name in split_list(&text).filter_map(|name| name.parse::<HeaderName>().ok()) {
            headers.remove(name);
        }
    }
    headers.remove(CONNECTION);
    HOP_BY_HOP.iter().for_each(|name| {
        headers.remove(name);
    });
}

/// The members of all lines of a list field.
pub(crate) fn split_tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).flat_map(split_list)
}

/// Adds a member to a list field as a line of its own, after those that are there.
pub(crate) fn append_member(headers: &mut HeaderMap, name: HeaderName, member: &str) {
    if let Ok(value) = HeaderValue::from_str(member) {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn signature() -> Signature {
        Signature {
            name: "coralline-1a2b".into(),
            cdn_id: "cdn.localhost".into(),
            user_agent: HeaderValue::from_static("coralline"),
        }
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_request_goes_on_without_its_sender() {
        let client = headers(&[
            ("host", "x.cdn.localhost"),
            ("connection", "close, Hop"),
            ("hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("cookie", "a=b"),
            ("authorization", "Basic x"),
            ("referer", "http://y.cdn.localhost/"),
            ("user-agent", "curl"),
            ("origin", "http://evil"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-original-url", "/evil"),
            ("x-http-method-override", "DELETE"),
            ("sec-fetch-mode", "navigate"),
            ("true-client-ip", "10.0.0.1"),
            ("range", "bytes=0-1"),
            ("if-none-match", "\"a\""),
            ("accept-language", "de"),
            ("foo", "bar"),
            ("via", "1.1 first"),
            ("cdn-loop", "other"),
        ]);
        let (mut onward, selecting) = cleaned(client, Mode::Suffixed);
        assert_eq!(names(&onward), ["accept-language", "cdn-loop", "foo", "via"]);
        assert_eq!(names(&selecting), ["if-none-match", "range"]);
        signature().sign(&mut onward, Mode::Suffixed);
        assert_eq!(names(&onward), ["accept-language", "cdn-loop", "foo", "user-agent", "via"]);
        let via: Vec<_> = onward.get_all(VIA).iter().collect();
        assert_eq!(via, ["1.1 first", "1.1 coralline-1a2b"]);
    }

    #[test]
    fn a_loop_is_seen_whatever_its_form() {
        let check = |lines: &[(&'static str, &'static str)], expect| {
            assert_eq!(signature().loops(&headers(lines)), expect, "{lines:?}");
        };
        check(&[], false);
        check(&[("cdn-loop", "other")], false);
        check(&[("cdn-loop", "other, CDN.localhost; v=1")], true);
        check(&[("cdn-loop", "other"), ("cdn-loop", "cdn.localhost")], true);
        check(&[("cdn-loop", "cdn.localhost.example")], false);
        let mut own = HeaderMap::new();
        signature().sign(&mut own, Mode::Suffixed);
        assert!(signature().loops(&own));
    }

    #[test]
    fn a_site_gets_what_its_clients_send() {
        let client = headers(&[
            ("host", "www.example.org"),
            ("connection", "hop"),
            ("hop", "1"),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("authorization", "Basic x"),
            ("user-agent", "curl"),
            ("x-forwarded-proto", "forged"),
            ("if-match", "*"),
        ]);
        let (mut onward, selecting) = cleaned(client, Mode::Site { tls: true });
        signature().sign(&mut onward, Mode::Site { tls: true });
        let expect =
            ["authorization", "cdn-loop", "cookie", "user-agent", "via", "x-forwarded-proto"];
        assert_eq!(names(&onward), expect);
        assert_eq!(names(&selecting), ["if-match"]);
        assert_eq!(onward["cookie"], "a=b; c=d");
        assert_eq!(
            (&onward["user-agent"], &onward["x-forwarded-proto"]),
            (&"curl".parse().unwrap(), &"https".parse().unwrap())
        );
    }

    #[test]
    fn a_response_is_kept_without_what_is_not_for_all() {
        let kept = kept(
            headers(&[
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("set-cookie", "a=b"),
                ("strict-transport-security", "max-age=1"),
                ("alt-svc", "h3"),
                ("age", "7"),
                ("content-length", "7"),
                ("content-type", "text/plain"),
                ("cache-status", "other; hit"),
            ]),
            Mode::Suffixed,
        );
        let names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "cache-status"]);
    }
}
