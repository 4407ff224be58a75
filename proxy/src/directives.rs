//! Cache-Control of a request or a response (RFC 9111, section 5.2), read once into what is used.

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, PRAGMA};

use crate::limits::MAX_DELTA;

/// The directives that a shared cache heeds. Names are case-insensitive; arguments may be quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) immutable: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<Duration>,
    pub(crate) s_maxage: Option<Duration>,
}

impl Directives {
    /// Reads all Cache-Control lines; Pragma: no-cache counts where there is none (RFC 9111, section 5.4).
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            // A field that is no text says nothing that could be trusted: do not store by it.
            match value.to_str() {
                Ok(text) => split_list(text).for_each(|member| read.heed(member)),
                Err(_) => read.no_store = true,
            }
        }
        if !headers.contains_key(CACHE_CONTROL) {
            let pragma = headers.get_all(PRAGMA).iter().filter_map(|value| value.to_str().ok());
            read.no_cache = pragma.flat_map(split_list).any(|m| m.eq_ignore_ascii_case("no-cache"));
        }
        read
    }

    fn heed(&mut self, member: &str) {
        let (name, argument) = match member.split_once('=') {
            Some((name, argument)) => (name.trim(), Some(argument.trim())),
            None => (member, None),
        };
        match name.to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            // With field names only these fields are meant; to heed it as a whole is the careful reading.
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "immutable" => self.immutable = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => self.max_age = shorter(self.max_age, argument),
            "s-maxage" => self.s_maxage = shorter(self.s_maxage, argument),
            _ => {}
        }
    }
}

/// Of conflicting directives the most restrictive one holds; an unreadable one means stale (RFC 9111, section 4.2.1).
fn shorter(before: Option<Duration>, argument: Option<&str>) -> Option<Duration> {
    let delta = argument.and_then(delta_seconds).unwrap_or(Duration::ZERO);
    Some(before.map_or(delta, |before| before.min(delta)))
}

/// `delta-seconds`, as a token or quoted; a number too large to tell is as good as for ever.
pub(crate) fn delta_seconds(text: &str) -> Option<Duration> {
    let digits = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let ok = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| Duration::from_secs(digits.parse().unwrap_or(MAX_DELTA).min(MAX_DELTA)))
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
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        Directives::read(&headers)
    }

    #[test]
    fn directives_are_read_in_every_tolerated_form() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(read(&["Max-Age=60"]).max_age, seconds(60));
        assert_eq!(read(&["max-age=\"60\""]).max_age, seconds(60));
        assert_eq!(read(&["max-age=60, max-age=10"]).max_age, seconds(10));
        assert_eq!(read(&["max-age=60", "s-maxage=5"]).s_maxage, seconds(5));
        assert_eq!(read(&["max-age=99999999999999999999"]).max_age, seconds(MAX_DELTA));
        assert_eq!(read(&["max-age=-1"]).max_age, seconds(0));
        assert_eq!(read(&["max-age"]).max_age, seconds(0));
        assert_eq!(read(&["max-age=1.5"]).max_age, seconds(0));
        assert!(read(&["PRIVATE, no-store"]).private);
        assert!(read(&["PRIVATE, no-store"]).no_store);
        assert!(read(&["private=\"set-cookie, x\", max-age=5"]).private);
        assert_eq!(read(&["ext=\"a, no-store\", max-age=5"]), read(&["max-age=5"]));
        assert_eq!(read(&["ext=\"a\\\", no-store\""]), Directives::default());
    }

    #[test]
    fn pragma_counts_only_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, HeaderValue::from_static("No-Cache"));
        assert!(Directives::read(&headers).no_cache);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        assert!(!Directives::read(&headers).no_cache);
    }
}
