//! What a purge names, as people write it: URLs, plain or with the suffix, hosts, and tags.

use coralline_config::Suffix;
use http::header::HeaderMap;
use http::{HeaderName, Uri};

use crate::limits::{MAX_TAG, MAX_TAGS, MAX_URI};
use crate::policy::groups;
use crate::target::{Whom, decode};

/// What a purge is about. URIs are cache keys without their scheme: `//host/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One URI, with all its variants.
    Uri(String),
    /// All URIs that begin so.
    Prefix(String),
    /// All URIs of a host, on whatever port.
    Host(String),
    /// All responses with this tag, whatever their host.
    Tag(String),
    /// All responses of an origin in one of its groups (RFC 9875).
    Group(String),
}

/// What is wrong with a name: the name, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?}: {expected}")]
pub struct BadName {
    /// As it was written.
    pub name: String,
    /// What would be right.
    pub expected: &'static str,
}

/// What is to be purged; nothing of it is done if one name is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purge {
    /// URLs, as a client or the origin would be asked for them.
    pub urls: Vec<String>,
    /// Beginnings of URLs.
    pub prefixes: Vec<String>,
    /// Names of hosts.
    pub hosts: Vec<String>,
    /// Tags, as the origin put them on its responses.
    pub tags: Vec<String>,
    /// Whether they are gone, and not only stale.
    pub hard: bool,
}

impl Purge {
    pub(crate) fn scopes(&self, suffix: &Suffix) -> Result<Vec<Scope>, BadName> {
        let urls = self.urls.iter().map(|url| Scope::uri(url, suffix));
        let prefixes = self.prefixes.iter().map(|url| Scope::prefix(url, suffix));
        let hosts = self.hosts.iter().map(|name| Scope::host(name, suffix));
        let tags = self.tags.iter().map(|tag| Scope::tag(tag));
        urls.chain(prefixes).chain(hosts).chain(tags).collect()
    }
}

/// The fields in which origins name tags, for whichever cache they were written for; a client has no use
/// for them.
pub(crate) static TAG_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("xkey"),
];

/// The tags of a response, its groups (RFC 9875) among them.
pub(crate) fn tags(response: &HeaderMap) -> Vec<String> {
    let lines = TAG_FIELDS.iter().flat_map(|name| response.get_all(name));
    let words =
        lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split([',', ' ', '\t']));
    let words = words.filter(|word| !word.is_empty()).map(str::to_owned);
    // The groups are few, and some rules are about them alone.
    groups(response).into_iter().chain(words).take(MAX_TAGS).collect()
}

const URL: &str = "a URL is expected, as in http://www.example.com/a.jpg";
const NAME: &str = "the name of a host is expected, as in www.example.com";
const LABEL: &str = "a tag of 1 to 256 octets of ASCII is expected";

impl Scope {
    pub(crate) fn uri(url: &str, suffix: &Suffix) -> Result<Self, BadName> {
        resource(url, suffix).map(Self::Uri)
    }

    pub(crate) fn prefix(url: &str, suffix: &Suffix) -> Result<Self, BadName> {
        resource(url, suffix).map(Self::Prefix)
    }

    pub(crate) fn host(name: &str, suffix: &Suffix) -> Result<Self, BadName> {
        let wrong = || BadName { name: name.to_owned(), expected: NAME };
        // With a port it would look like one port's.
        if name.contains([':', '/', '@', '?', '#']) {
            return Err(wrong());
        }
        site(name, suffix, false).map(|(host, _)| Self::Host(host)).ok_or_else(wrong)
    }

    /// `origin` is a URI without path, or the root's.
    pub(crate) fn group(origin: &str, group: &str) -> Self {
        Self::Group(group_name(origin, group))
    }

    pub(crate) fn tag(tag: &str) -> Result<Self, BadName> {
        let fits =
            (1..=MAX_TAG).contains(&tag.len()) && tag.bytes().all(|b| matches!(b, b' '..=b'~'));
        let wrong = || BadName { name: tag.to_owned(), expected: LABEL };
        fits.then(|| Self::Tag(tag.to_owned())).ok_or_else(wrong)
    }
}

/// Of a URI's origin.
pub(crate) fn group_name(uri: &str, group: &str) -> String {
    let start = uri.find("//").map_or(0, |at| at + 2);
    let end = uri[start..].find('/').map_or(uri.len(), |at| start + at);
    format!("{}\n{group}", &uri[..end])
}

/// The cache key of a URL, without its scheme.
fn resource(url: &str, suffix: &Suffix) -> Result<String, BadName> {
    let wrong = || BadName { name: url.to_owned(), expected: URL };
    if url.len() > MAX_URI || url.contains('#') {
        return Err(wrong());
    }
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let (host, port) =
        site(authority.ok_or_else(wrong)?.as_str(), suffix, https).ok_or_else(wrong)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // The parser leaves the slash out of "http://a.com?q".
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(match port {
        Some(port) => format!("//{host}:{port}{slash}{path}"),
        None => format!("//{host}{slash}{path}"),
    })
}

/// The host and the unusual port that an authority stands for: its own, or those behind the suffix.
fn site(authority: &str, suffix: &Suffix, https: bool) -> Option<(String, Option<u16>)> {
    match decode(authority, suffix, https) {
        Ok(Whom::Site { host, port, .. }) => return Some((host, port)),
        // The suffix itself has nothing that is kept.
        Ok(Whom::Node) => return None,
        Err(_) => {}
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
        None => (authority, None),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let named = !host.is_empty()
        && host.split('.').all(|label| !label.is_empty())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let own = if https { 443 } else { 80 };
    named.then(|| (host, port.filter(|port| *port != own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suffix() -> Suffix {
        "cdn.example".parse().unwrap()
    }

    #[test]
    fn a_url_is_the_key_under_which_it_is_kept() {
        let check = |url: &str, expect: Option<&str>| {
            let expect = expect.map(|uri| Scope::Uri(uri.to_owned()));
            assert_eq!(Scope::uri(url, &suffix()).ok(), expect, "{url}");
        };
        check("http://www.Example.com./a?b", Some("//www.example.com/a?b"));
        check("https://www.example.com", Some("//www.example.com/"));
        check("http://www.example.com?q", Some("//www.example.com/?q"));
        check("http://a.com:80/", Some("//a.com/"));
        check("https://a.com:443/", Some("//a.com/"));
        check("https://a.com:80/", Some("//a.com:80/"));
        check("http://a.com:8000/", Some("//a.com:8000/"));
        check("http://www.example.com.cdn.example/a", Some("//www.example.com/a"));
        check("http://www.example.com.8000.cdn.example/a", Some("//www.example.com:8000/a"));
        check("https://www-example-com.cdn.example/a", Some("//www.example.com/a"));
        check("http://www.example.com.cdn.example:8080/a", Some("//www.example.com/a"));
        for wrong in ["", "/a", "a.com", "ftp://a.com/", "http:///a", "http://u@a.com/"] {
            check(wrong, None);
        }
        for wrong in ["http://a.com/#x", "http://a..com/", "http://cdn.example/", "http://a:x/"] {
            check(wrong, None);
        }
        check(&format!("http://a.com/{}", "x".repeat(MAX_URI)), None);
    }

    #[test]
    fn tags_are_read_as_each_cache_writes_them() {
        let mut response = HeaderMap::new();
        for (name, value) in [
            ("cache-tag", "a, b,c"),
            ("surrogate-key", "d  e"),
            ("xkey", "f"),
            ("xkey", "g h"),
            ("cache-groups", "\"i\", \"j k\""),
        ] {
            response.append(name, value.parse().unwrap());
        }
        assert_eq!(tags(&response), ["i", "j k", "a", "b", "c", "d", "e", "f", "g", "h"]);
        response.append("xkey", "x ".repeat(2 * MAX_TAGS).parse().unwrap());
        assert_eq!(tags(&response).len(), MAX_TAGS);
    }

    #[test]
    fn hosts_and_tags_are_names() {
        let host = |name: &str| Scope::host(name, &suffix()).ok();
        assert_eq!(host("A.com"), Some(Scope::Host("a.com".into())));
        assert_eq!(host("a.com.cdn.example"), Some(Scope::Host("a.com".into())));
        for wrong in ["", "a.com:80", "http://a.com", "a.com/", "cdn.example", "a b"] {
            assert_eq!(host(wrong), None, "{wrong}");
        }
        assert_eq!(Scope::tag("news"), Ok(Scope::Tag("news".into())));
        for wrong in ["", "a\tb", "\u{e4}", &"x".repeat(MAX_TAG + 1)] {
            assert!(Scope::tag(wrong).is_err(), "{wrong}");
        }
    }
}
