//! The value types that TOML has no word for. Each is parsed once, here, and carried as itself.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use crate::limits::{MAX_LABEL, MAX_NAME, MAX_SUFFIX};

/// Why a value could not be read. The text says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidValue {
    /// What would have been accepted, with an example.
    pub expected: String,
}

impl InvalidValue {
    pub(crate) fn new(expected: impl Into<String>) -> Self {
        Self { expected: expected.into() }
    }
}

/// A number of bytes, written `0`, `64KiB`, `256MiB`, `10GiB`, `1TiB` (or B, kB, MB, GB, TB).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Binary units first and largest first: printing takes the first that divides.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "0" {
            return Ok(Self(0));
        }
        split_unit(text)
            .and_then(|(count, unit)| {
                let (_, scale) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
                u64::try_from(count).ok()?.checked_mul(*scale)
            })
            .map(Self)
            .ok_or_else(|| InvalidValue::new("a size such as \"256MiB\""))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let (unit, scale) = SIZE_UNITS
            .iter()
            .find(|(_, scale)| self.0.is_multiple_of(*scale))
            .expect("every number is a multiple of one byte");
        write!(f, "{}{unit}", self.0 / scale)
    }
}

const TIME_UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `20ms`, `30s`, `5m`, `24h`, `7d` (and us, ns).
pub(crate) fn parse_duration(text: &str) -> Result<Duration, InvalidValue> {
    split_unit(text)
        .and_then(|(count, unit)| {
            let (_, scale) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
            let nanos = count.checked_mul(*scale)?;
            let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
            let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
            Some(Duration::new(seconds, rest))
        })
        .ok_or_else(|| InvalidValue::new("a time such as \"20ms\", \"30s\", \"5m\" or \"24h\""))
}

/// Writes a duration as [`parse_duration`] reads it, in the largest unit that keeps it exact.
pub(crate) fn format_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let (unit, scale) = TIME_UNITS
        .iter()
        .find(|(_, scale)| nanos.is_multiple_of(*scale))
        .expect("every duration is a multiple of one nanosecond");
    format!("{}{unit}", nanos / scale)
}

/// Digits, then a unit. A sign, a space or a fraction is no number here.
fn split_unit(text: &str) -> Option<(u128, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

/// A DNS name under which the network serves: lower case, no trailing dot, at least one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suffix(String);

impl Suffix {
    /// The name as text, lower case, without a trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Suffix {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        host_name(text)
            .filter(|name| name.len() <= MAX_SUFFIX)
            .map(Self)
            .ok_or_else(|| InvalidValue::new("a DNS name such as \"cdn.example.net\""))
    }
}

/// A host name in lower case without its trailing dot: letters, digits and inner hyphens (RFC 1123
/// section 2.1), not of the shape of an IPv4 address.
pub(crate) fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (name.len() <= MAX_NAME && name.split('.').all(label_ok) && !last_is_number).then_some(name)
}

/// A host name or address, and a port, written `host:port`, `1.2.3.4:port` or `[v6]:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host name in lower case, or the address literal without brackets.
    pub host: String,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        text.rsplit_once(':')
            .and_then(|(host, port)| Some(Self { host: host_literal(host)?, port: port_of(port)? }))
            .ok_or_else(|| InvalidValue::new("a host and a port such as \"node.example.net:7400\""))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A host as it stands in an authority: a name, an IPv4 address, or an IPv6 address in brackets.
fn host_literal(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Some(address.to_string()),
        Ok(IpAddr::V6(_)) => None,
        Err(_) => host_name(text),
    }
}

/// `u16::from_str` takes `+80`; an authority does not.
fn port_of(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// An origin: `http://` or `https://`, a host, an optional port, and nothing after but one slash.
pub(crate) fn parse_origin(text: &str) -> Result<String, InvalidValue> {
    let origin = || {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = ["http", "https"].into_iter().find(|s| scheme.eq_ignore_ascii_case(s))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        // A colon within brackets belongs to the address.
        let end_of_host = authority.rfind(']').unwrap_or(0);
        let port_at = authority.get(end_of_host..)?.find(':').map(|at| at + end_of_host);
        let host = host_literal(authority.get(..port_at.unwrap_or(authority.len()))?)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Some(match port_at {
            Some(at) => format!("{scheme}://{host}:{}", port_of(authority.get(at + 1..)?)?),
            None => format!("{scheme}://{host}"),
        })
    };
    origin().ok_or_else(|| {
        InvalidValue::new("an origin such as \"https://origin.example.org\", without a path")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown<T: FromStr + fmt::Display>(text: &str) -> Option<String> {
        text.parse::<T>().ok().map(|value| value.to_string())
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(shown::<ByteSize>(text).as_deref(), expect, "{text:?}");
        };
        check("0", Some("0"));
        check("0GiB", Some("0"));
        check("1024KiB", Some("1MiB"));
        check("1500kB", Some("1500kB"));
        check("1MB", Some("1MB"));
        check("7B", Some("7B"));
        for bad in
            ["", "7", "MiB", "-1MiB", "+1MiB", "1.5GiB", "1 GiB", "1mib", "lots", "17179869184GiB"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn durations() {
        let check = |text: &str, expect: Option<&str>| {
            let found = parse_duration(text).ok().map(format_duration);
            assert_eq!(found.as_deref(), expect, "{text:?}");
        };
        check("0s", Some("0s"));
        check("1000ms", Some("1s"));
        check("90s", Some("90s"));
        check("120s", Some("2m"));
        check("24h", Some("1d"));
        for bad in ["", "0", "5", "s", "-1s", "1.5s", "1 s", "1S", "99999999999999999999999999d"] {
            check(bad, None);
        }
    }

    #[test]
    fn suffixes() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(shown::<Suffix>(text).as_deref(), expect, "{text:?}");
        };
        check("cdn.localhost", Some("cdn.localhost"));
        check("CDN.Example.NET.", Some("cdn.example.net"));
        check("localhost", Some("localhost"));
        let long = format!("{}.{}.example", "a".repeat(63), "b".repeat(63));
        for bad in ["", ".", "a..b", "-a.b", "a-.b", "a_b.c", "127.0.0.1", "é.example", &long] {
            check(bad, None);
        }
    }

    #[test]
    fn hosts_with_ports() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(shown::<HostPort>(text).as_deref(), expect, "{text:?}");
        };
        check("Node.Example:7400", Some("node.example:7400"));
        check("127.0.0.1:1", Some("127.0.0.1:1"));
        check("[::1]:65535", Some("[::1]:65535"));
        let bad = ["", ":1", "a", "a:", "a:0", "a:65536", "a:+1", "::1:80", "[::1]", "[::1:80"];
        for bad in bad.into_iter().chain(["[a]:1", "1.2.3:4", "a b:1", "http://a:1"]) {
            check(bad, None);
        }
    }

    #[test]
    fn origins() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(parse_origin(text).ok().as_deref(), expect, "{text:?}");
        };
        check("https://Origin.Example", Some("https://origin.example"));
        check("HTTP://a.example:8080/", Some("http://a.example:8080"));
        check("http://[::1]:8080", Some("http://[::1]:8080"));
        check("http://[::1]", Some("http://[::1]"));
        for bad in ["", "a.example", "ftp://a.example", "http://", "http:///", "http://:80"] {
            check(bad, None);
        }
        for bad in [
            "http://u@a.example",
            "http://a/b",
            "http://a:0",
            "http://a:",
            "http://[::1",
            "http://]:1",
        ] {
            check(bad, None);
        }
    }

    proptest! {
        #[test]
        fn size_round_trips(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn duration_round_trips(seconds: u64, nanos in 0u32..1_000_000_000) {
            let time = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_duration(&format_duration(time)), Ok(time));
        }

        #[test]
        fn host_port_round_trips(
            host in "[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{1,8}){0,3}",
            v6: u128,
            port in 1u16..,
        ) {
            for host in [host, Ipv6Addr::from(v6).to_string()] {
                let seed = HostPort { host, port };
                prop_assert_eq!(seed.to_string().parse(), Ok(seed));
            }
        }

        #[test]
        fn garbage_is_refused_without_panic(text in "\\PC{0,40}|[0-9a-z:/.\\[\\]]{0,20}") {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<Suffix>();
            let _ = text.parse::<HostPort>();
            let _ = parse_duration(&text);
            if let Ok(origin) = parse_origin(&text) {
                prop_assert_eq!(parse_origin(&origin), Ok(origin.clone()));
            }
        }
    }
}
