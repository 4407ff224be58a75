//! Cache directives (RFC 9111, sections 5.2 and 5.4), of requests and of responses.

use std::time::Duration;

use http::HeaderName;
use http::header::{CACHE_CONTROL, HeaderMap, PRAGMA};

use super::targeted::targeted;
use crate::limits::MAX_DELTA;

/// What a client asks of caches (RFC 9111, section 5.2.1; RFC 5861, section 4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_cache: bool,
    pub(crate) no_store: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<Duration>,
    /// How stale it may be; the longest there is where the client names no bound.
    pub(crate) max_stale: Option<Duration>,
    pub(crate) min_fresh: Option<Duration>,
}

impl RequestDirectives {
    /// Reads all Cache-Control lines; `Pragma: no-cache` counts where there is none (section 5.4).
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for_each_directive(headers, |name, argument| match name {
            "no-cache" => read.no_cache = true,
            "no-store" => read.no_store = true,
            "only-if-cached" => read.only_if_cached = true,
            "max-age" => first(&mut read.max_age, argument, Duration::ZERO),
            // Without a bound any staleness will do; with one that cannot be read, none.
            "max-stale" if argument == Argument::None => {
                read.max_stale.get_or_insert(Duration::from_secs(MAX_DELTA));
            }
            "max-stale" => first(&mut read.max_stale, argument, Duration::ZERO),
            "min-fresh" => {
                first(&mut read.min_fresh, argument, Duration::from_secs(MAX_DELTA));
            }
            _ => {}
        });
        if !headers.contains_key(CACHE_CONTROL) {
            let pragma = headers.get_all(PRAGMA).iter().filter_map(|value| value.to_str().ok());
            read.no_cache = pragma.flat_map(split_list).any(|m| m.eq_ignore_ascii_case("no-cache"));
        }
        read
    }
}

/// How far `no-cache` or `private` reaches: they may name fields (RFC 9111, sections 5.2.2.4 and 5.2.2.7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    #[default]
    Nothing,
    /// Only these fields.
    Fields(Vec<HeaderName>),
    /// The response as a whole.
    All,
}

impl Reach {
    pub(super) fn add(&mut self, argument: &Argument<'_>) {
        let named = match argument {
            Argument::None => None,
            Argument::Text(text) => field_names(text),
            Argument::Invalid => None,
        };
        match (&mut *self, named) {
            (Self::All, _) => {}
            (Self::Fields(names), Some(more)) => names.extend(more),
            (Self::Nothing, Some(names)) => *self = Self::Fields(names),
            // What cannot be read as names is taken for the whole: the careful reading.
            (_, None) => *self = Self::All,
        }
    }

    fn fields(&self) -> &[HeaderName] {
        if let Self::Fields(names) = self { names } else { &[] }
    }
}

/// What an origin allows caches (RFC 9111, section 5.2.2; RFC 5861; RFC 8246).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    /// They come from a targeted field: Cache-Control and Expires are not for us (RFC 9213).
    pub(crate) targeted: bool,
    pub(crate) no_store: bool,
    pub(crate) must_understand: bool,
    pub(crate) no_cache: Reach,
    pub(crate) private: Reach,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) immutable: bool,
    pub(crate) max_age: Option<Duration>,
    pub(crate) s_maxage: Option<Duration>,
    pub(crate) stale_while_revalidate: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
}

impl ResponseDirectives {
    /// Reads what is meant for this cache: the targeted field that fits best, else Cache-Control.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        targeted(headers).unwrap_or_else(|| {
            let mut read = Self::default();
            for_each_directive(headers, |name, argument| read.heed(name, argument));
            read
        })
    }

    pub(super) fn heed(&mut self, name: &str, argument: Argument<'_>) {
        match name {
            "no-store" => self.no_store = true,
            "must-understand" => self.must_understand = true,
            "no-cache" => self.no_cache.add(&argument),
            "private" => self.private.add(&argument),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "immutable" => self.immutable = true,
            "max-age" => first(&mut self.max_age, argument, Duration::ZERO),
            "s-maxage" => first(&mut self.s_maxage, argument, Duration::ZERO),
            "stale-while-revalidate" => {
                first(&mut self.stale_while_revalidate, argument, Duration::ZERO);
            }
            "stale-if-error" => first(&mut self.stale_if_error, argument, Duration::ZERO),
            _ => {}
        }
    }

    /// Fields that are for the first asker alone, or need a validation each time: they are not kept.
    pub(crate) fn withheld(&self) -> impl Iterator<Item = &HeaderName> {
        self.no_cache.fields().iter().chain(self.private.fields())
    }
}

/// What stands behind a directive's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    None,
    /// A token, or the inside of a quoted string.
    Text(&'a str),
    /// It is there and is neither.
    Invalid,
}

/// Of several values the first counts, and one that cannot be read is the most careful one
/// (RFC 9111, section 4.2.1).
fn first(value: &mut Option<Duration>, argument: Argument<'_>, careful: Duration) {
    let read = match argument {
        Argument::Text(text) => delta_seconds(text),
        Argument::None | Argument::Invalid => None,
    };
    value.get_or_insert(read.unwrap_or(careful));
}

/// All directives of all lines, names in lower case.
fn for_each_directive(headers: &HeaderMap, mut heed: impl FnMut(&str, Argument<'_>)) {
    for line in headers.get_all(CACHE_CONTROL) {
        // A field that is no text says nothing that could be trusted: nothing is stored by it.
        let Ok(text) = line.to_str() else {
            heed("no-store", Argument::None);
            continue;
        };
        for member in split_list(text) {
            match member.split_once('=') {
                Some((name, argument)) => {
                    heed(&name.trim().to_ascii_lowercase(), argument_of(name, argument));
                }
                None => heed(&member.to_ascii_lowercase(), Argument::None),
            }
        }
    }
}

/// No white space may stand around the sign (RFC 9111, section 5.2).
fn argument_of<'a>(name: &str, argument: &'a str) -> Argument<'a> {
    if name.ends_with([' ', '\t']) || argument.starts_with([' ', '\t']) {
        return Argument::Invalid;
    }
    match argument.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').map_or(Argument::Invalid, Argument::Text),
        None => Argument::Text(argument),
    }
}

/// A list of field names; nothing if one of them is none, or if there are none.
fn field_names(text: &str) -> Option<Vec<HeaderName>> {
    let names: Option<Vec<_>> = split_list(text).map(|name| name.parse().ok()).collect();
    names.filter(|names| !names.is_empty())
}

/// `delta-seconds` (RFC 9111, section 1.2.2); a number too large to tell is as good as for ever.
pub(super) fn delta_seconds(text: &str) -> Option<Duration> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| Duration::from_secs(text.parse().unwrap_or(MAX_DELTA).min(MAX_DELTA)))
}

/// The members of a comma-separated list, trimmed, empty ones left out; commas within quotes do not split.
pub(crate) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c: char| {
        let splits = c == ',' && !quoted;
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && quoted && !escaped;
        splits
    })
    .map(str::trim)
    .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::headers;
    use super::*;

    fn read(lines: &[&str]) -> ResponseDirectives {
        let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
        ResponseDirectives::read(&headers(&lines))
    }

    fn asked(lines: &[(&str, &str)]) -> RequestDirectives {
        RequestDirectives::read(&headers(lines))
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn response_directives_are_read_in_every_tolerated_form() {
        let max_age = |line: &str| read(&[line]).max_age;
        assert_eq!(max_age("Max-Age=60"), seconds(60));
        assert_eq!(max_age("max-age=\"60\""), seconds(60));
        assert_eq!(max_age("max-age=0060"), seconds(60));
        assert_eq!(max_age("max-age=60, max-age=10"), seconds(60));
        assert_eq!(max_age("max-age=10, max-age=60"), seconds(10));
        assert_eq!(max_age("foobar, max-age=60"), seconds(60));
        assert_eq!(max_age("max-age=2147483649"), seconds(MAX_DELTA));
        assert_eq!(max_age("max-age=99999999999999999999"), seconds(MAX_DELTA));
        for invalid in
            ["-1", "", "1.5", "60.0", "'60'", "a60", "60a", " 60", "\"60", "60\"", "6 0", "+60"]
        {
            assert_eq!(max_age(&format!("max-age={invalid}")), seconds(0), "{invalid}");
        }
        assert_eq!(max_age("max-age"), seconds(0));
        assert_eq!(max_age("max-age =60"), seconds(0));
        assert_eq!(read(&["max-age=60", "s-maxage=5"]).s_maxage, seconds(5));
        assert_eq!(read(&["stale-while-revalidate=5"]).stale_while_revalidate, seconds(5));
        assert_eq!(read(&["stale-if-error=x"]).stale_if_error, seconds(0));
    }

    #[test]
    fn unknown_directives_are_ignored_and_so_is_what_they_quote() {
        assert_eq!(read(&["ext=\"a, no-store\", max-age=5"]), read(&["max-age=5"]));
        assert_eq!(read(&["max-age=1, extension=\"max-age=3600\""]).max_age, seconds(1));
        assert_eq!(read(&["ext=\"a\\\", no-store\""]), ResponseDirectives::default());
        assert!(read(&["ext=\"a\", No-Store"]).no_store);
        assert!(read(&[", ,no-store,"]).no_store);
    }

    #[test]
    fn no_cache_and_private_may_name_fields() {
        let names = |names: &[&'static str]| {
            Reach::Fields(names.iter().map(|n| HeaderName::from_static(n)).collect())
        };
        assert_eq!(read(&["no-cache"]).no_cache, Reach::All);
        assert_eq!(read(&["no-cache=\"A, b\""]).no_cache, names(&["a", "b"]));
        assert_eq!(read(&["private=set-cookie"]).private, names(&["set-cookie"]));
        assert_eq!(read(&["no-cache=\"a\"", "no-cache=\"b\""]).no_cache, names(&["a", "b"]));
        assert_eq!(read(&["no-cache=\"a\", no-cache"]).no_cache, Reach::All);
        assert_eq!(read(&["no-cache, no-cache=\"a\""]).no_cache, Reach::All);
        for invalid in
            ["private=\"\"", "private=\"a b\"", "private=\"", "private= a", "private=\"(\""]
        {
            assert_eq!(read(&[invalid]).private, Reach::All, "{invalid}");
        }
        let both = read(&["no-cache=\"a\", private=\"b\""]);
        assert_eq!(both.withheld().map(HeaderName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn request_directives_are_read() {
        let one = |line| asked(&[("cache-control", line)]);
        assert_eq!(one("max-age=5").max_age, seconds(5));
        assert_eq!(one("max-stale").max_stale, seconds(MAX_DELTA));
        assert_eq!(one("max-stale=5").max_stale, seconds(5));
        assert_eq!(one("max-stale=x").max_stale, seconds(0));
        assert_eq!(one("min-fresh=5").min_fresh, seconds(5));
        assert_eq!(one("min-fresh=x").min_fresh, seconds(MAX_DELTA));
        assert!(one("No-Cache").no_cache && one("no-store").no_store);
        assert!(one("only-if-cached").only_if_cached);
    }

    #[test]
    fn pragma_counts_only_alone_and_only_in_requests() {
        let pragma = ("pragma", "No-Cache");
        assert!(asked(&[pragma]).no_cache);
        assert!(!asked(&[pragma, ("cache-control", "max-age=1")]).no_cache);
        assert!(!asked(&[("pragma", "other")]).no_cache);
        assert_eq!(ResponseDirectives::read(&headers(&[pragma])), ResponseDirectives::default());
    }

    #[test]
    fn a_line_that_is_no_text_forbids_storing() {
        let mut map = HeaderMap::new();
        map.insert(CACHE_CONTROL, http::HeaderValue::from_bytes(b"max-age=5\xff").unwrap());
        assert!(ResponseDirectives::read(&map).no_store);
    }

    proptest! {
        #[test]
        fn restrictive_directives_are_found_wherever_they_stand(
            before in prop::collection::vec("[a-z-]{1,9}(=[0-9]{1,3}|=\"[a-z, ]{0,9}\")?", 0..4),
            after in prop::collection::vec("[a-z-]{1,9}(=[0-9]{1,3})?", 0..4),
        ) {
            let line = [before, vec!["NO-store".into()], after].concat().join(" , ");
            prop_assert!(read(&[&line]).no_store, "{}", line);
        }

        #[test]
        fn nothing_makes_it_panic(line in "[ -~]{0,80}") {
            let _ = (read(&[&line]), asked(&[("cache-control", &line)]));
        }
    }
}
