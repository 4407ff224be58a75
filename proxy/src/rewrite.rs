//! References to sites in a response's fields are given their suffixed names, so that a reader stays on the CDN.
//! Bodies are left as they are.

use coralline_config::Suffix;
use http::Uri;
use http::header::{CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, REFRESH};

use crate::target::encode;

/// How the client reached this node, and so how references to sites are to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Naming<'a> {
    pub(crate) suffix: &'a Suffix,
    pub(crate) tls: bool,
    /// The port that the client asked, where it is not the scheme's own.
    pub(crate) port: Option<u16>,
    /// What was asked for.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
}

impl Naming<'_> {
    /// Rewrites Location, Content-Location, Link and Refresh.
    pub(crate) fn rewrite(&self, headers: &mut HeaderMap) {
        let whole = |text: &str| self.reference(text);
        map_values(headers, &LOCATION, whole);
        map_values(headers, &CONTENT_LOCATION, whole);
        map_values(headers, &LINK, |text| self.links(text));
        map_values(headers, &REFRESH, |text| self.refresh(text));
    }

    /// The suffixed form of an absolute or scheme-relative reference; nothing for others.
    fn reference(&self, text: &str) -> Option<String> {
        let text = text.trim();
        let (https, rest) = match text.split_once("//") {
            Some(("", rest)) => (self.tls, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http:") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https:") => (true, rest),
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let authority: http::uri::Authority = authority.parse().ok()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let name = encode(https, authority.host(), authority.port_u16(), self.suffix, self.tls)?;
        // An origin that has https and sends the reader to http for the same resource means http: by
        // the name that was asked it would be asked over https again, without end.
        let again = authority.host().eq_ignore_ascii_case(self.host) && tail == self.path;
        let name = if again && !https && matches!(authority.port_u16(), None | Some(80)) {
            format!("{}.80.{}", authority.host().to_ascii_lowercase(), self.suffix)
        } else {
            name
        };
        let scheme = if self.tls { "https" } else { "http" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{scheme}://{name}{port}{tail}"))
    }

    /// `<uri>; rel=…, <uri>; …` (RFC 8288, section 3).
    fn links(&self, text: &str) -> Option<String> {
        let mut rewritten = String::with_capacity(text.len());
        let mut rest = text;
        let mut changed = false;
        while let Some((before, after)) = rest.split_once('<') {
            let (uri, after) = after.split_once('>')?;
            let new = self.reference(uri);
            changed |= new.is_some();
            rewritten.push_str(before);
            rewritten.push('<');
            rewritten.push_str(new.as_deref().unwrap_or(uri));
            rewritten.push('>');
            rest = after;
        }
        rewritten.push_str(rest);
        changed.then_some(rewritten)
    }

    /// `5; url=http://…`, the form that browsers read.
    fn refresh(&self, text: &str) -> Option<String> {
        let at = text.to_ascii_lowercase().find("url=")? + "url=".len();
        let quotes: &[char] = &['"', '\''];
        let url = text[at..].trim().trim_matches(quotes);
        Some(format!("{}{}", &text[..at], self.reference(url)?))
    }
}

fn map_values(
    headers: &mut HeaderMap,
    name: &HeaderName,
    rewritten: impl Fn(&str) -> Option<String>,
) {
    let http::header::Entry::Occupied(mut entry) = headers.entry(name) else { return };
    for value in entry.iter_mut() {
        let new = value.to_str().ok().and_then(&rewritten);
        if let Some(new) = new.and_then(|new| HeaderValue::from_str(&new).ok()) {
            *value = new;
        }
    }
}

/// Whether `location` only asks for the same resource over https: same host and path, default ports.
pub(crate) fn upgrades_only(location: &str, host: &str, path: &str) -> bool {
    let Ok(uri) = location.parse::<Uri>() else { return false };
    let path_and_query = uri.path_and_query().map_or("/", |p| p.as_str());
    uri.scheme_str() == Some("https")
        && uri.host().is_some_and(|to| to.eq_ignore_ascii_case(host))
        && matches!(uri.port_u16(), None | Some(443))
        && path_and_query == path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(name: &'static str, value: &str, tls: bool, port: Option<u16>) -> String {
        let suffix: Suffix = "cdn.localhost".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let asked = ("asked.com", "/x?y");
        Naming { suffix: &suffix, tls, port, host: asked.0, path: asked.1 }.rewrite(&mut headers);
        headers[name].to_str().unwrap().to_owned()
    }

    #[test]
    fn references_stay_on_the_cdn() {
        let check = |name, value: &str, expect: &str| {
            assert_eq!(rewritten(name, value, false, Some(8080)), expect);
        };
        check("location", "http://a.com/x?y#z", "http://a.com.cdn.localhost:8080/x?y#z");
        check("location", "http://Asked.com/x?y", "http://asked.com.80.cdn.localhost:8080/x?y");
        check("location", "https://asked.com/x?y", "http://asked.com.cdn.localhost:8080/x?y");
        check("location", "http://asked.com/x", "http://asked.com.cdn.localhost:8080/x");
        check("location", "HTTPS://A.com", "http://a.com.cdn.localhost:8080");
        check("location", "//a.com/x", "http://a.com.cdn.localhost:8080/x");
        check("location", "http://a.com:8000/", "http://a.com.8000.cdn.localhost:8080/");
        check("location", "https://a.com:8443/", "https://a.com:8443/");
        check("location", "/x", "/x");
        check("location", "x?u=http://a.com/", "x?u=http://a.com/");
        check("location", "ftp://a.com/", "ftp://a.com/");
        check("location", "http://127.0.0.1/", "http://127.0.0.1/");
        check("location", "http://u:p@a.com/", "http://u:p@a.com/");
        check("location", "http://a.com.cdn.localhost/", "http://a.com.cdn.localhost/");
        check("content-location", "http://a.com/x", "http://a.com.cdn.localhost:8080/x");
        check("refresh", "5; URL=http://a.com/x", "5; URL=http://a.com.cdn.localhost:8080/x");
        check("refresh", "5", "5");
        check(
            "link",
            "<http://a.com/x>; rel=preload, </y>; rel=next",
            "<http://a.com.cdn.localhost:8080/x>; rel=preload, </y>; rel=next",
        );
        check("link", "<http://a.com/x", "<http://a.com/x");
    }

    #[test]
    fn a_client_on_https_stays_on_https() {
        let to = |value| rewritten("location", value, true, None);
        assert_eq!(to("https://my-site.org/x"), "https://my--site-org.cdn.localhost/x");
        assert_eq!(to("https://a.com:8443/x"), "https://a-com-8443.cdn.localhost/x");
        assert_eq!(to("http://a.com/x"), "http://a.com/x");
    }

    #[test]
    fn an_upgrade_is_the_same_resource_over_https() {
        assert!(upgrades_only("https://a.com/x?y", "a.com", "/x?y"));
        assert!(upgrades_only("https://A.com:443/x", "a.com", "/x"));
        assert!(upgrades_only("https://a.com", "a.com", "/"));
        assert!(!upgrades_only("http://a.com/x", "a.com", "/x"));
        assert!(!upgrades_only("https://www.a.com/x", "a.com", "/x"));
        assert!(!upgrades_only("https://a.com/x/", "a.com", "/x"));
        assert!(!upgrades_only("/x", "a.com", "/x"));
    }
}
