//! Targeted fields (RFC 9213): directives for caches of one kind, as a structured dictionary.

use http::HeaderName;
use http::header::HeaderMap;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::directives::{Argument, ResponseDirectives};

/// For this network alone; taken off before a response goes to a client.
pub(crate) const OWN_TARGET: HeaderName = HeaderName::from_static("coralline-cdn-cache-control");

/// The fields for us, the nearest target first (RFC 9213, section 2.2).
const TARGETS: [HeaderName; 2] = [OWN_TARGET, HeaderName::from_static("cdn-cache-control")];

/// The directives of the first field that is there, can be read and is not empty.
pub(super) fn targeted(headers: &HeaderMap) -> Option<ResponseDirectives> {
    TARGETS.iter().find_map(|name| read(headers, name))
}

/// A field that fails to parse, or has a known directive of a wrong type, is ignored as a whole: to go
/// by half of it could store what the other half forbids.
fn read(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    let text = lines.join(&b", "[..]);
    let members = Parser::new(&text).parse::<Dictionary>().ok()?;
    let mut read = ResponseDirectives { targeted: true, ..ResponseDirectives::default() };
    for (key, member) in &members {
        let ListEntry::Item(item) = member else { return None };
        let name = key.as_str();
        match (&item.bare_item, takes_seconds(name)) {
            (BareItem::Integer(seconds), true) => {
                // Of what is negative nothing is left.
                let seconds = i64::from(*seconds).max(0).to_string();
                read.heed(name, Argument::Text(&seconds));
            }
            (_, true) => return None,
            (BareItem::Boolean(said), false) => {
                if *said {
                    read.heed(name, Argument::None);
                }
            }
            (BareItem::String(text), false) => read.heed(name, Argument::Text(text.as_str())),
            (BareItem::Token(text), false) => read.heed(name, Argument::Text(text.as_str())),
            (_, false) => read.heed(name, Argument::Invalid),
        }
    }
    (!members.is_empty()).then_some(read)
}

fn takes_seconds(name: &str) -> bool {
    matches!(name, "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::directives::Reach;
    use super::super::tests::headers;
    use super::*;

    fn one(value: &str) -> Option<ResponseDirectives> {
        targeted(&headers(&[("cdn-cache-control", value), ("cache-control", "no-store")]))
    }

    #[test]
    fn the_nearest_target_that_can_be_read_counts() {
        let max_age = |lines: &[(&str, &str)]| {
            ResponseDirectives::read(&headers(lines)).max_age.map(|d| d.as_secs())
        };
        let (own, cdn, all) = (
            ("coralline-cdn-cache-control", "max-age=1"),
            ("cdn-cache-control", "max-age=2"),
            ("cache-control", "max-age=3"),
        );
        assert_eq!(max_age(&[all, cdn, own]), Some(1));
        assert_eq!(max_age(&[all, cdn]), Some(2));
        assert_eq!(max_age(&[all]), Some(3));
        assert_eq!(max_age(&[all, cdn, (own.0, "max-age=x y")]), Some(2));
        assert_eq!(max_age(&[all, (cdn.0, "")]), Some(3));
        assert_eq!(max_age(&[all, (cdn.0, "must-revalidate")]), None);
    }

    #[test]
    fn a_field_that_is_no_dictionary_or_of_wrong_types_is_ignored() {
        for invalid in [
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age=1.5",
            "max-age",
            "MaX-aGe=3600",
            "max-age =100",
            "max-age=9999999999999999",
            "max-age=(1 2)",
        ] {
            assert_eq!(one(invalid), None, "{invalid}");
        }
        assert!(one("max-age=5, foobar").unwrap().max_age.is_some());
        assert!(one("max-age=5;x=y, no-store").unwrap().no_store);
        assert!(!one("max-age=5, no-store=?0").unwrap().no_store);
        assert_eq!(one("max-age=-5").unwrap().max_age, Some(Duration::ZERO));
        assert_eq!(one("private").unwrap().private, Reach::All);
        assert!(matches!(one("no-cache=\"a\"").unwrap().no_cache, Reach::Fields(_)));
        let large = one("max-age=99999999999").unwrap().max_age.unwrap();
        assert_eq!(large.as_secs(), crate::limits::MAX_DELTA);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(value in "[ -~]{0,60}") {
            let _ = one(&value);
        }
    }
}
