//! Cache groups (RFC 9875): names under which an origin throws out many responses at once.

use http::HeaderName;
use http::header::HeaderMap;
use sfv::{BareItem, List, ListEntry, Parser};

use crate::limits::{MAX_GROUP_NAME, MAX_GROUPS};

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The groups that a response belongs to.
pub(crate) fn groups(response: &HeaderMap) -> Vec<String> {
    strings(response, &CACHE_GROUPS)
}

/// The groups, of the same origin, that the response to an unsafe request throws out.
pub(crate) fn invalidated_groups(response: &HeaderMap) -> Vec<String> {
    strings(response, &CACHE_GROUP_INVALIDATION)
}

/// A list of strings; a field that is none is ignored. What is beyond the bounds is left out.
fn strings(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    let Ok(list) = Parser::new(&lines.join(&b", "[..])).parse::<List>() else { return Vec::new() };
    let text = |entry: &ListEntry| match entry {
        ListEntry::Item(item) => match &item.bare_item {
            BareItem::String(text) => Some(text.as_str().to_owned()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    };
    let texts: Option<Vec<_>> = list.iter().map(text).collect();
    let fits = |name: &String| name.len() <= MAX_GROUP_NAME;
    texts.unwrap_or_default().into_iter().filter(fits).take(MAX_GROUPS).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::headers;
    use super::*;

    #[test]
    fn groups_are_strings_and_bounded() {
        let check = |value: &str, expect: &[&str]| {
            assert_eq!(groups(&headers(&[("cache-groups", value)])), expect, "{value}");
        };
        check("\"a\", \"B c\";x", &["a", "B c"]);
        check("a", &[]);
        check("\"a\", b", &[]);
        check("(\"a\")", &[]);
        check("\"a", &[]);
        check("", &[]);
        let many: Vec<_> = (0..100).map(|n| format!("\"{n}\"")).collect();
        assert_eq!(groups(&headers(&[("cache-groups", &many.join(","))])).len(), MAX_GROUPS);
        check(&format!("\"{}\", \"b\"", "a".repeat(MAX_GROUP_NAME + 1)), &["b"]);
        let lines = [("cache-group-invalidation", "\"a\""), ("cache-group-invalidation", "\"b\"")];
        assert_eq!(invalidated_groups(&headers(&lines)), ["a", "b"]);
    }
}
