//! Which of several responses a request selects (RFC 9111, section 4.1).

use http::HeaderName;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, HeaderMap, VARY};
use serde::{Deserialize, Serialize};

use super::directives::split_list;
use crate::limits::MAX_VARY_FIELDS;

/// The fields that choose among responses, lower case and sorted; nothing for `*`, for what is no field
/// name, or for too many.
pub(crate) fn vary(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for member in split_list(line.to_str().ok()?) {
            names.push(HeaderName::from_bytes(member.as_bytes()).ok().filter(|_| member != "*")?);
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    (names.len() <= MAX_VARY_FIELDS).then_some(names)
}

/// What a response varies by, and what the request that led to it said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Variant {
    #[serde(with = "names")]
    pub(crate) names: Vec<HeaderName>,
    /// Normalised, so that equal texts mean the same response.
    pub(crate) said: String,
    /// The one language that the response is in, where it names one.
    language: Option<String>,
}

/// Names of fields as texts.
mod names {
    use http::HeaderName;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(names: &[HeaderName], to: S) -> Result<S::Ok, S::Error> {
        names.iter().map(HeaderName::as_str).collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Vec<HeaderName>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let name = |text: String| HeaderName::from_bytes(text.as_bytes()).map_err(D::Error::custom);
        texts.into_iter().map(name).collect()
    }
}

impl Variant {
    pub(crate) fn of(names: Vec<HeaderName>, request: &HeaderMap, response: &HeaderMap) -> Self {
        let said = said(&names, request);
        let language = response.get(CONTENT_LANGUAGE).and_then(|value| value.to_str().ok());
        let language =
            language.filter(|text| !text.contains(',') && names.contains(&ACCEPT_LANGUAGE));
        let language = language.map(|text| text.trim().to_ascii_lowercase());
        Self { names, said, language }
    }

    /// The response may be used for this request.
    pub(crate) fn suits(&self, request: &HeaderMap) -> bool {
        self.names.is_empty()
            || said(&self.names, request) == self.said
            || self.is_preferred(request)
    }

    /// The request wants this language most, and is the same in all else.
    fn is_preferred(&self, request: &HeaderMap) -> bool {
        let Some(language) = &self.language else { return false };
        preferred_language(request).as_ref() == Some(language)
            && self.names.iter().filter(|name| **name != ACCEPT_LANGUAGE).all(|name| {
                let mut one = String::new();
                say(&mut one, name, request);
                self.said.split_inclusive('\n').any(|line| line == one)
            })
    }
}

/// What a request says in the fields that choose, one line a field. Lines of a field are joined, and white
/// space about the members of its list, the order and the case of languages and codings make no difference.
pub(crate) fn said(names: &[HeaderName], request: &HeaderMap) -> String {
    let mut text = String::new();
    names.iter().for_each(|name| say(&mut text, name, request));
    text
}

fn say(text: &mut String, name: &HeaderName, request: &HeaderMap) {
    text.push_str(name.as_str());
    // A field that is absent matches only one that is absent.
    text.push(if request.contains_key(name) { ':' } else { '!' });
    let lines = request.get_all(name).iter();
    let joined = lines.map(|line| line.as_bytes()).collect::<Vec<_>>().join(&b","[..]);
    // Octets that are no text stay apart.
    let joined: String = joined.iter().map(|octet| char::from(*octet)).collect();
    if *name == ACCEPT_ENCODING || *name == ACCEPT_LANGUAGE {
        let mut members: Vec<_> = preferences(&joined).collect();
        members.sort_unstable();
        members.dedup();
        for (member, quality) in members {
            text.push_str(&format!("{member};{quality},"));
        }
    } else {
        split_list(&joined).for_each(|member| {
            text.push_str(member);
            text.push(',');
        });
    }
    text.push('\n');
}

/// The members of a list with qualities, lower case, each with its quality in thousandths.
fn preferences(list: &str) -> impl Iterator<Item = (String, u32)> {
    split_list(list).map(|member| {
        let lower: String = member.to_ascii_lowercase().split_whitespace().collect();
        match lower.split_once(";q=") {
            Some((name, quality)) => (name.to_owned(), thousandths(quality)),
            None => (lower, 1000),
        }
    })
}

/// A quality value (RFC 9110, section 12.4.2); what is none is taken for 1.
fn thousandths(quality: &str) -> u32 {
    let (whole, part) = quality.split_once('.').unwrap_or((quality, ""));
    let digits = part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    match (whole, digits) {
        ("0", true) => format!("{part:0<3}").parse().unwrap_or(1000),
        _ => 1000,
    }
}

/// The language that a request wants more than any other.
fn preferred_language(request: &HeaderMap) -> Option<String> {
    let lines = request.get_all(ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
    let mut all: Vec<_> = lines.flat_map(preferences).collect();
    all.sort_by_key(|(_, quality)| std::cmp::Reverse(*quality));
    let unrivalled = all.get(1).is_none_or(|second| second.1 < all[0].1);
    all.into_iter().next().filter(|(name, _)| unrivalled && name != "*").map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::headers;
    use super::*;

    fn variant(vary_by: &str, request: &[(&str, &str)], response: &[(&str, &str)]) -> Variant {
        let names = vary(&headers(&[("vary", vary_by)])).unwrap();
        Variant::of(names, &headers(request), &headers(response))
    }

    fn check(vary_by: &str, first: &[(&str, &str)], second: &[(&str, &str)], expect: bool) {
        let suits = variant(vary_by, first, &[]).suits(&headers(second));
        assert_eq!(suits, expect, "{vary_by}: {first:?} {second:?}");
    }

    #[test]
    fn all_selecting_fields_must_match() {
        check("Foo", &[("foo", "1")], &[("foo", "1"), ("other", "2")], true);
        check("Foo", &[("foo", "1")], &[("foo", "2")], false);
        check("Foo, Bar", &[("foo", "1"), ("bar", "a")], &[("bar", "a"), ("foo", "1")], true);
        check("Foo, Bar", &[("foo", "1"), ("bar", "a")], &[("foo", "1"), ("bar", "b")], false);
        check("", &[("foo", "1")], &[], true);
        check("Cookie", &[("cookie", "a=1")], &[("cookie", "a=2")], false);
        check("Foo", &[("foo", "A")], &[("foo", "a")], false);
    }

    #[test]
    fn an_absent_field_matches_only_an_absent_one() {
        check("Foo", &[], &[], true);
        check("Foo", &[], &[("foo", "1")], false);
        check("Foo", &[("foo", "1")], &[], false);
        check("Foo", &[("foo", "")], &[], false);
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        check("Foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true);
        check("Foo", &[("foo", "1,2")], &[("foo", " 1, 2 ")], true);
        check("Foo", &[("foo", "1, 2")], &[("foo", "2, 1")], false);
        let language = |value| [("accept-language", value)];
        check("Accept-Language", &language("en, de"), &language("de, en"), true);
        check("Accept-Language", &language("en, de"), &language("eN,   De"), true);
        check(
            "Accept-Language",
            &language("en;q=0.5, de"),
            &language("de;q=1.0, en; q=0.500"),
            true,
        );
        check("Accept-Language", &language("en;q=0.5, de"), &language("en, de;q=0.5"), false);
        let coding = |value| [("accept-encoding", value)];
        check("Accept-Encoding", &coding("gzip, br"), &coding("BR,GZIP"), true);
        check("Accept-Encoding", &coding("gzip"), &coding("gzip;q=0"), false);
    }

    #[test]
    fn the_language_that_is_wanted_most_will_do() {
        let german = |vary_by| {
            let request = [("accept-language", "en, de"), ("foo", "1")];
            variant(vary_by, &request, &[("content-language", "de")])
        };
        let wants = |value| headers(&[("accept-language", value), ("foo", "1")]);
        assert!(german("Accept-Language").suits(&wants("fr;q=0.5, de;q=1.0")));
        assert!(german("Accept-Language, Foo").suits(&wants("de")));
        assert!(!german("Accept-Language, Foo").suits(&headers(&[("accept-language", "de")])));
        assert!(!german("Accept-Language").suits(&wants("fr, de;q=0.5")));
        assert!(!german("Accept-Language").suits(&wants("fr, de")));
        assert!(!german("Accept-Language").suits(&wants("de-at")));
    }

    #[test]
    fn a_star_or_what_is_no_name_never_matches() {
        for value in ["*", "*, *", ", *", "*, Foo", "Foo, *", "a b", "a(b"] {
            assert_eq!(vary(&headers(&[("vary", value)])), None, "{value}");
        }
        assert_eq!(vary(&headers(&[("vary", ""), ("vary", "*")])), None);
        let many: Vec<_> = (0..=MAX_VARY_FIELDS).map(|n| format!("f{n}")).collect();
        assert_eq!(vary(&headers(&[("vary", &many.join(","))])), None);
        let names = vary(&headers(&[("vary", "Accept-Encoding, accept"), ("vary", "Accept")]));
        assert_eq!(names.unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn a_request_always_suits_the_response_to_itself(
            value in "[ -~]{0,40}", names in "[a-c](, [a-c]|, accept-language|, accept-encoding){0,3}",
        ) {
            let request = headers(&[("a", &value), ("accept-language", &value)]);
            prop_assert!(variant(&names, &[("a", &value), ("accept-language", &value)], &[])
                .suits(&request));
        }

        #[test]
        fn different_tokens_are_different(a in "[a-z]{1,9}", b in "[a-z]{1,9}") {
            let suits = variant("x", &[("x", &a)], &[]).suits(&headers(&[("x", &b)]));
            prop_assert_eq!(suits, a == b);
        }
    }
}
