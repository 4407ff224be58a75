//! What a request that changes things throws out (RFC 9111, section 4.4).

use http::header::{CONTENT_LOCATION, HeaderMap, LOCATION};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};

/// Safe by the registry of RFC 9110, section 16.1; a method that is not known is not.
fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY"
    )
}

/// The exchange throws out what is kept for its target.
pub(crate) fn invalidates(method: &Method, status: StatusCode) -> bool {
    !is_safe(method) && (status.is_success() || status.is_redirection())
}

/// The paths, at the same origin, that the response names in Location and Content-Location.
pub(crate) fn also_invalidated(target: &Uri, response: &HeaderMap) -> Vec<PathAndQuery> {
    let named = [LOCATION, CONTENT_LOCATION];
    let values = named.iter().filter_map(|name| response.get(name)?.to_str().ok());
    values.filter_map(|reference| same_origin(target, reference.trim())).collect()
}

/// The response says that it is what is at the target (RFC 9110, section 8.7).
pub(crate) fn names_itself(target: &Uri, response: &HeaderMap) -> bool {
    let named = response.get(CONTENT_LOCATION).and_then(|value| value.to_str().ok());
    let path = named.and_then(|reference| same_origin(target, reference.trim()));
    path.is_some() && path.as_ref() == target.path_and_query()
}

/// Resolves a reference (RFC 3986, section 5.2); nothing if it leads to another origin.
fn same_origin(base: &Uri, reference: &str) -> Option<PathAndQuery> {
    let reference = reference.split('#').next().unwrap_or_default();
    let before_query = &reference[..reference.find('?').unwrap_or(reference.len())];
    if before_query.contains("://") || reference.starts_with("//") {
        let scheme = base.scheme_str()?;
        let absolute = match reference.strip_prefix("//") {
            Some(rest) => format!("{scheme}://{rest}"),
            None => reference.to_owned(),
        };
        let uri: Uri = absolute.parse().ok()?;
        let same = uri.scheme_str() == Some(scheme)
            && uri.host()?.eq_ignore_ascii_case(base.host()?)
            && port(&uri) == port(base);
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        return normal(path).filter(|_| same);
    }
    if before_query.split('/').next().is_some_and(|segment| segment.contains(':')) {
        return None; // another scheme
    }
    match reference.as_bytes().first() {
        None => base.path_and_query().cloned(),
        Some(b'/') => normal(reference),
        Some(b'?') => normal(&format!("{}{reference}", base.path())),
        Some(_) => {
            let directory = &base.path()[..base.path().rfind('/')? + 1];
            normal(&format!("{directory}{reference}"))
        }
    }
}

fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(if uri.scheme_str() == Some("https") { Some(443) } else { Some(80) })
}

/// RFC 3986, section 5.2.4: without `.` and `..`.
fn normal(path_and_query: &str) -> Option<PathAndQuery> {
    let at = path_and_query.find('?').unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at(at);
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}{query}", kept.join("/")).parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::headers;
    use super::*;

    #[test]
    fn only_what_is_unsafe_and_succeeded_invalidates() {
        let check = |method: &str, status: u16, expect| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidates(&method, status), expect, "{method} {status}");
        };
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "LOCK", "get"] {
            check(method, 200, true);
            check(method, 204, true);
            check(method, 303, true);
            check(method, 404, false);
            check(method, 500, false);
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            check(method, 200, false);
        }
    }

    #[test]
    fn only_uris_of_the_same_origin_are_invalidated_too() {
        let check = |reference: &str, expect: Option<&str>| {
            let target: Uri = "http://a.com/dir/page?q".parse().unwrap();
            let found = also_invalidated(&target, &headers(&[("location", reference)]));
            let found: Vec<_> = found.iter().map(PathAndQuery::as_str).collect();
            assert_eq!(found, expect.into_iter().collect::<Vec<_>>(), "{reference}");
        };
        check("/x?y#z", Some("/x?y"));
        check("x", Some("/dir/x"));
        check("./x", Some("/dir/x"));
        check("../x", Some("/x"));
        check("../../..", Some("/"));
        check("..", Some("/"));
        check(".", Some("/dir/"));
        check("?new", Some("/dir/page?new"));
        check("", Some("/dir/page?q"));
        check("http://A.com:80/x", Some("/x"));
        check("//a.com/x", Some("/x"));
        check("http://a.com", Some("/"));
        check("https://a.com/x", None);
        check("http://a.com:8080/x", None);
        check("http://b.com/x", None);
        check("//b.com/x", None);
        check("mailto:a@a.com", None);
        check("/x?u=http://b.com/", Some("/x?u=http://b.com/"));
    }

    #[test]
    fn both_locations_count() {
        let target: Uri = "http://a.com/".parse().unwrap();
        let response = headers(&[("location", "/a"), ("content-location", "/b")]);
        assert_eq!(also_invalidated(&target, &response), ["/a", "/b"]);
    }

    proptest! {
        #[test]
        fn no_reference_makes_it_panic(reference in "[ -~]{0,40}") {
            let target: Uri = "http://a.com/x/y".parse().unwrap();
            let _ = also_invalidated(&target, &headers(&[("location", &reference)]));
        }
    }
}
