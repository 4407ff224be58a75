//! From words to the fields of the configuration.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::limits::{MAX_CONTACT, MAX_LIST, MIN_DISK, MIN_MEMORY};
use crate::value::{ByteSize, InvalidValue, format_duration, host_name, parse_duration};

/// The word that could not be read, and what was expected in its place.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub(crate) at: usize,
    pub(crate) expected: String,
}

type Parsed<T> = Result<T, InvalidValue>;

pub(crate) fn one<T>(
    words: &[String],
    field: &mut T,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Result<(), Mismatch> {
    let word = words.first().map_or("", String::as_str);
    *field = parse(word).map_err(|e| Mismatch { at: 0, expected: e.expected })?;
    Ok(())
}

/// An empty text means that nothing is set.
pub(crate) fn optional<T>(
    words: &[String],
    field: &mut Option<T>,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Result<(), Mismatch> {
    one(words, field, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) })
}

pub(crate) fn each<T>(
    words: &[String],
    field: &mut Vec<T>,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Result<(), Mismatch> {
    if words.len() > MAX_LIST {
        return Err(Mismatch { at: MAX_LIST, expected: format!("at most {MAX_LIST} entries") });
    }
    *field = words
        .iter()
        .enumerate()
        .map(|(at, word)| parse(word).map_err(|e| Mismatch { at, expected: e.expected }))
        .collect::<Result<_, _>>()?;
    Ok(())
}

pub(crate) fn path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err(InvalidValue::new("a path"));
    }
    Ok(PathBuf::from(text))
}

pub(crate) fn ip_addr(text: &str) -> Parsed<IpAddr> {
    text.parse()
        .ok()
        .filter(|a: &IpAddr| !a.is_unspecified() && !a.is_multicast())
        .ok_or_else(|| InvalidValue::new("an IP address of this host such as \"192.0.2.1\""))
}

pub(crate) fn socket_addr(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| {
        InvalidValue::new("an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"")
    })
}

pub(crate) fn network(text: &str) -> Parsed<IpNet> {
    text.parse().map_err(|_| InvalidValue::new("a network such as \"10.0.0.0/8\" or \"fd00::/8\""))
}

pub(crate) fn count<N>(text: &str, (least, most): (N, N)) -> Parsed<N>
where
    N: FromStr + PartialOrd + Display + Copy,
{
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|n| digits && (least..=most).contains(n))
        .ok_or_else(|| InvalidValue::new(format!("a whole number from {least} to {most}")))
}

pub(crate) fn duration(text: &str, (least, most): (Duration, Duration)) -> Parsed<Duration> {
    let time = parse_duration(text)?;
    if !(least..=most).contains(&time) {
        let (least, most) = (format_duration(least), format_duration(most));
        return Err(InvalidValue::new(format!("a time from \"{least}\" to \"{most}\"")));
    }
    Ok(time)
}

pub(crate) fn memory(text: &str) -> Parsed<ByteSize> {
    let size = text.parse()?;
    if size < MIN_MEMORY {
        return Err(InvalidValue::new(format!("a size of at least \"{MIN_MEMORY}\"")));
    }
    Ok(size)
}

pub(crate) fn disk(text: &str) -> Parsed<ByteSize> {
    let size = text.parse()?;
    if size != ByteSize(0) && size < MIN_DISK {
        return Err(InvalidValue::new(format!("\"0\", or a size of at least \"{MIN_DISK}\"")));
    }
    Ok(size)
}

/// Only what every filter has; the subscriber that reads it knows the rest.
pub(crate) fn log_filter(text: &str) -> Parsed<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level = |word: &str| LEVELS.iter().any(|l| word.eq_ignore_ascii_case(l));
    let target =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
    let directive = |word: &str| match word.trim().rsplit_once('=') {
        Some((name, after)) if !name.contains('{') => target(name) && level(after),
        Some(_) => true,
        None => target(word.trim()),
    };
    if !text.split(',').all(directive) {
        return Err(InvalidValue::new(
            "a log filter such as \"info\" or \"info,coralline_overlay=debug\"",
        ));
    }
    Ok(text.into())
}

/// It goes into a header field, so it is visible ASCII without what would end a comment there.
pub(crate) fn contact(text: &str) -> Parsed<String> {
    let fits = |b: u8| b.is_ascii_graphic() && !b"()<>\"\\".contains(&b);
    if text.len() > MAX_CONTACT || !text.bytes().all(fits) {
        return Err(InvalidValue::new("a mail address or URL such as \"abuse@example.net\""));
    }
    Ok(text.into())
}

pub(crate) fn site_host(text: &str) -> Parsed<String> {
    host_name(text).ok_or_else(|| InvalidValue::new("a host name such as \"www.example.org\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filters() {
        let check = |text: &str, expect: bool| {
            assert_eq!(log_filter(text).is_ok(), expect, "{text:?}");
        };
        check("info", true);
        check("INFO", true);
        check("info,coralline_overlay=debug", true);
        check("info, hyper::proto=off", true);
        check("a[b{c=d}]=trace", true);
        check("", false);
        check("info,,debug", false);
        check("coralline=loud", false);
        check("=debug", false);
    }
}
