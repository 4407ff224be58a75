//! Step 1: from the host that a client asked for to the target URI behind it, or a refusal.
//!
//! Two forms are read. Dotted: `www.example.com.SUFFIX`, where a numeric last label is the origin's
//! port (`www.example.com.8443.SUFFIX`). One label, which a wildcard certificate covers: `-` stands
//! for `.` and `--` for `-` (`www-example-com.SUFFIX`, `my--site-org-8443.SUFFIX`).

use std::fmt;
use std::sync::Arc;

use coralline_config::Suffix;
use http::StatusCode;
use http::uri::PathAndQuery;

use crate::limits::{MAX_LABEL, MAX_NAME};
use crate::reason::{Failure, Reason};

/// How the origin is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    /// `http`.
    Http,
    /// `https`, certificate checked.
    Https,
    /// A plain client named no port: https first, http if the origin has none.
    Any,
}

impl Scheme {
    /// The word that peers use for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Any => "any",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Any].into_iter().find(|scheme| scheme.word() == word)
    }
}

/// Where a site is fetched from that is served under its own name: `[[site]]` of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// How the origin is spoken to.
    pub(crate) scheme: Scheme,
    /// `host` or `host:port` of the origin.
    pub(crate) authority: String,
}

/// The resource behind a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// For a site of its own name: its origin.
    pub(crate) site: Option<Arc<Site>>,
    /// How the origin of a suffixed name is spoken to; how the client speaks to us for a site.
    pub scheme: Scheme,
    /// Its name: lower case, no trailing dot.
    pub host: String,
    /// Its port, where it is not the scheme's own.
    pub port: Option<u16>,
    /// Path and query.
    pub path: PathAndQuery,
}

impl Target {
    /// `host` or `host:port`.
    #[must_use]
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

/// The cache key: the target URI, without a scheme where either will do.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.site.is_some() {
            // Cookies and credentials went to its origin: no suffixed name shares it.
            f.write_str("site:")?;
        }
        match self.scheme {
            Scheme::Any => {}
            scheme => write!(f, "{}:", scheme.word())?,
        }
        write!(f, "//{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.path)
    }
}

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The suffix itself: this node's own page.
    Node,
    /// A site behind the suffix.
    Site {
        /// How it is spoken to.
        scheme: Scheme,
        /// Its name.
        host: String,
        /// Its port, where it is not the scheme's own.
        port: Option<u16>,
    },
}

/// The host and the port, unless it is the scheme's own, by which a site is asked for.
///
/// # Errors
/// 400 for what is no host name.
pub(crate) fn plain(authority: &str, tls: bool) -> Result<(String, Option<u16>), Failure> {
    let name = host_of(authority)?;
    let port = authority.split_once(':').and_then(|(_, port)| port.parse().ok());
    Ok((name, port.filter(|port| *port != if tls { 443 } else { 80 })))
}

/// Reads the authority of a request (`Host`, `:authority` or the absolute form's).
///
/// # Errors
/// 400 for what is no host name, 403 for what is not proxied, 421 for a name outside the suffix, 508
/// for a name that leads back here.
pub(crate) fn decode(authority: &str, suffix: &Suffix, tls: bool) -> Result<Whom, Failure> {
    let name = host_of(authority)?;
    if name == suffix.as_str() {
        return Ok(Whom::Node);
    }
    let Some(front) = name.strip_suffix(suffix.as_str()).and_then(|front| front.strip_suffix('.'))
    else {
        return Err(misdirected(&name, suffix));
    };
    let plain = if front.contains('.') { front.to_owned() } else { spread(front) };
    let (host, port) = split_port(&plain)?;
    check_name(host)?;
    if is_address(host) {
        return Err(denied("addresses are not proxied; use the site's name"));
    }
    if host == suffix.as_str() || host.ends_with(&format!(".{suffix}")) {
        let detail = format!("{host} is already a name of this network; remove one {suffix}");
        return Err(Failure::new(Reason::ProxyLoopDetected, detail));
    }
    let scheme = match (tls, port) {
        (true, _) | (false, Some(443)) => Scheme::Https,
        (false, Some(_)) => Scheme::Http,
        (false, None) => Scheme::Any,
    };
    let own = if scheme == Scheme::Https { 443 } else { 80 };
    Ok(Whom::Site { scheme, host: host.to_owned(), port: port.filter(|port| *port != own) })
}

/// The suffixed authority of a site, the inverse of [`decode`], for a client on `tls` or not.
/// Nothing, where no suffixed name can say it.
#[must_use]
pub(crate) fn encode(
    https: bool,
    host: &str,
    port: Option<u16>,
    suffix: &Suffix,
    tls: bool,
) -> Option<String> {
    let port = match (tls, https, port.unwrap_or(if https { 443 } else { 80 })) {
        (true, true, 443) => None,
        // A plain client that names no port is served by https first.
        (false, true, 443) | (false, false, 80) => None,
        // No name says http to a client on https, nor https on another port, or http on 443, to one on http.
        (true, false, _) | (false, true, _) | (false, false, 443) => return None,
        (_, _, port) if may_be_asked(port) => Some(port),
        _ => return None,
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    check_name(&host).ok()?;
    if is_address(&host) || host == suffix.as_str() || host.ends_with(&format!(".{suffix}")) {
        return None;
    }
    let front = if tls { gather(&host, port) } else { dotted(&host, port) };
    let fits = front.split('.').all(|label| label.len() <= MAX_LABEL)
        && front.len() + 1 + suffix.as_str().len() <= MAX_NAME;
    fits.then(|| format!("{front}.{suffix}"))
}

fn dotted(host: &str, port: Option<u16>) -> String {
    // A host of one label would be read as the one-label form.
    match port {
        Some(port) => format!("{host}.{port}"),
        None if host.contains('.') => host.to_owned(),
        None => gather(host, None),
    }
}

/// The one-label form of a host.
fn gather(host: &str, port: Option<u16>) -> String {
    let mut label = host.replace('-', "--").replace('.', "-");
    if let Some(port) = port {
        label.push_str(&format!("-{port}"));
    }
    label
}

/// The inverse of [`gather`]: `--` is `-`, a single `-` is `.`.
fn spread(label: &str) -> String {
    label.split("--").map(|part| part.replace('-', ".")).collect::<Vec<_>>().join("-")
}

/// The host of an authority, lower case, without port and trailing dot.
fn host_of(authority: &str) -> Result<String, Failure> {
    if authority.is_empty() {
        return Err(malformed("the request names no host"));
    }
    if authority.starts_with('[') {
        let detail = "addresses are not served; use a name under the suffix";
        return Err(malformed(detail).with_status(StatusCode::MISDIRECTED_REQUEST));
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    if !digits || !port.is_empty() && port.parse::<u16>().unwrap_or(0) == 0 {
        return Err(malformed("the Host field is not a host and a port"));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    check_name(&name)?;
    Ok(name)
}

/// Splits a numeric last label off as the port.
fn split_port(plain: &str) -> Result<(&str, Option<u16>), Failure> {
    let Some((host, last)) = plain.rsplit_once('.') else {
        return Ok((plain, None));
    };
    if last.is_empty() || !last.bytes().all(|b| b.is_ascii_digit()) {
        return Ok((plain, None));
    }
    if is_address(host) {
        return Err(denied("addresses are not proxied; use the site's name"));
    }
    match last.parse::<u16>() {
        Ok(0) | Err(_) => Err(malformed(format!("{last} is not a port; ports are 1 to 65535"))),
        Ok(port) if may_be_asked(port) => Ok((host, Some(port))),
        Ok(port) => {
            Err(denied(format!("port {port} is not proxied; 80, 443 and 1024 upwards are")))
        }
    }
}

/// The ports of the web, and those that need no privilege: nobody's mail server is asked.
const fn may_be_asked(port: u16) -> bool {
    matches!(port, 80 | 443 | 1024..)
}

/// Only digits and dots: some form of an IPv4 address, never a name.
fn is_address(host: &str) -> bool {
    host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63 octets.
fn check_name(name: &str) -> Result<(), Failure> {
    if name.len() > MAX_NAME {
        return Err(malformed(format!("a host name has at most {MAX_NAME} octets")));
    }
    for label in name.split('.') {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if label.is_empty() {
            return Err(malformed("the host name has an empty label"));
        }
        if label.len() > MAX_LABEL {
            let detail = format!("a label of a host name has at most {MAX_LABEL} octets");
            return Err(malformed(detail));
        }
        if !label.bytes().all(ok) {
            return Err(malformed("the host name has a character that no host name has"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(malformed("a label of the host name starts or ends with a hyphen"));
        }
    }
    Ok(())
}

fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(Reason::HttpRequestError, detail)
}

fn denied(detail: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(Reason::HttpRequestDenied, detail)
}

fn misdirected(name: &str, suffix: &Suffix) -> Failure {
    let detail = format!("{name} is not served here; names under {suffix} are");
    malformed(detail).with_status(StatusCode::MISDIRECTED_REQUEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn suffix() -> Suffix {
        "cdn.localhost".parse().unwrap()
    }

    #[test]
    fn hosts_lead_to_targets() {
        let check = |authority: &str, tls: bool, expect: &str| {
            let Whom::Site { scheme, host, port } = decode(authority, &suffix(), tls).unwrap()
            else {
                panic!("{authority} is a site");
            };
            let path = PathAndQuery::from_static("/a?b");
            let target = Target { site: None, scheme, host, port, path };
            assert_eq!(target.to_string(), expect, "{authority} tls={tls}");
        };
        check("www.example.com.cdn.localhost", false, "//www.example.com/a?b");
        check("www.example.com.cdn.localhost:8080", false, "//www.example.com/a?b");
        check("WWW.Example.COM.CDN.Localhost.:8080", false, "//www.example.com/a?b");
        check("www.example.com.cdn.localhost", true, "https://www.example.com/a?b");
        check("www.example.com.443.cdn.localhost", false, "https://www.example.com/a?b");
        check("www.example.com.80.cdn.localhost", false, "http://www.example.com/a?b");
        check("www.example.com.8443.cdn.localhost", false, "http://www.example.com:8443/a?b");
        check("www.example.com.8443.cdn.localhost", true, "https://www.example.com:8443/a?b");
        check("www-example-com.cdn.localhost", false, "//www.example.com/a?b");
        check("my--site-org-8443.cdn.localhost", true, "https://my-site.org:8443/a?b");
        check("localhost.8000.cdn.localhost", false, "http://localhost:8000/a?b");
        check("xn----bcher--kva-example.cdn.localhost", true, "https://xn--bcher-kva.example/a?b");
        assert_eq!(decode("cdn.localhost:8080", &suffix(), false), Ok(Whom::Node));
    }

    #[test]
    fn bad_hosts_are_refused_with_a_status() {
        let long = format!("{}.com.cdn.localhost", "a".repeat(64));
        let check = |authority: &str, status: u16| {
            let failure = decode(authority, &suffix(), false).unwrap_err();
            assert_eq!(failure.status.as_u16(), status, "{authority}: {failure}");
        };
        check("", 400);
        check(":80", 400);
        check("www..example.com.cdn.localhost", 400);
        check(".cdn.localhost", 400);
        check(&long, 400);
        check("a.com.cdn.localhost:0", 400);
        check("a.com.cdn.localhost:70000", 400);
        check("a b.cdn.localhost", 400);
        check("exa%6dple.com.cdn.localhost", 400);
        check("user@example.com.cdn.localhost", 400);
        check("example.com.cdn.localhost:http", 400);
        check("-a.com.cdn.localhost", 400);
        check("www.example.com.0.cdn.localhost", 400);
        check("www.example.com.70000.cdn.localhost", 400);
        check("www.example.com.22.cdn.localhost", 403);
        check("www-example-com-25.cdn.localhost", 403);
        check("127.0.0.1.cdn.localhost", 403);
        check("127-0-0-1.cdn.localhost", 403);
        check("127.0.0.1.8080.cdn.localhost", 403);
        check("2130706433.cdn.localhost", 403);
        check("127.0.0.1:8080", 421);
        check("[::1]:8080", 421);
        check("www.example.com", 421);
        check("notcdn.localhost", 421);
        check("xcdn.localhost", 421);
        check("cdn.localhost.cdn.localhost", 508);
        check("www.example.com.cdn.localhost.cdn.localhost", 508);
        check("www-example-com-cdn-localhost.cdn.localhost", 508);
    }

    #[test]
    fn redirects_get_a_name_that_leads_to_the_same_place() {
        let check = |https, host, port, tls, expect: Option<&str>| {
            assert_eq!(encode(https, host, port, &suffix(), tls).as_deref(), expect, "{host}");
        };
        check(false, "example.com", None, false, Some("example.com.cdn.localhost"));
        check(true, "example.com", None, false, Some("example.com.cdn.localhost"));
        check(false, "example.com", Some(8000), false, Some("example.com.8000.cdn.localhost"));
        check(true, "my-site.org", None, true, Some("my--site-org.cdn.localhost"));
        check(true, "my-site.org", Some(8443), true, Some("my--site-org-8443.cdn.localhost"));
        check(true, "example.com", Some(8443), false, None);
        check(false, "example.com", None, true, None);
        check(false, "example.com", Some(443), false, None);
        check(true, "example.com.cdn.localhost", None, false, None);
        check(false, "[::1]", None, false, None);
        check(false, "127.0.0.1", None, false, None);
    }

    proptest! {
        #[test]
        fn any_authority_is_read_or_refused(authority in "\\PC{0,80}") {
            let _ = decode(&authority, &suffix(), false);
            let _ = decode(&format!("{authority}.cdn.localhost"), &suffix(), true);
        }

        #[test]
        fn encode_then_decode_is_the_same_site(
            host in "[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\\.[a-z]([a-z0-9-]{0,10}[a-z0-9])?){1,3}",
            port in proptest::option::of(prop_oneof![Just(80u16), Just(443), any::<u16>()]),
            https: bool,
            tls: bool,
        ) {
            let Some(name) = encode(https, &host, port, &suffix(), tls) else { return Ok(()) };
            let Ok(Whom::Site { scheme, host: again, port: number }) = decode(&name, &suffix(), tls)
            else {
                return Err(TestCaseError::fail(format!("{name} was refused")));
            };
            let own = |https: bool| if https { 443 } else { 80 };
            let wanted = port.unwrap_or(own(https));
            prop_assert_eq!(&again, &host);
            match scheme {
                Scheme::Any => prop_assert_eq!(wanted, own(https)),
                scheme => {
                    prop_assert_eq!(scheme == Scheme::Https, https);
                    prop_assert_eq!(number.unwrap_or(own(https)), wanted);
                }
            }
        }
    }
}
