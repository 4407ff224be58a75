//! HTTP dates (RFC 9110, section 5.6.7), as tolerantly as RFC 9111, section 4.2, asks and no more.

use std::time::SystemTime;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The date in the first line of a field.
pub(crate) fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    date_of(headers.get(name)?)
}

/// The three forms of RFC 9110, section 5.6.7, in any case; no zone but GMT.
pub(super) fn date_of(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    httpdate::parse_http_date(text).ok().or_else(|| {
        // Names of days and months are capitalised, GMT is upper case, whatever was sent.
        let mut start = true;
        let capitalised = |c: char| {
            let c = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            start = !c.is_ascii_alphabetic();
            c
        };
        let fixed: String = text.chars().map(capitalised).collect();
        let fixed = fixed.replace("Gmt", "GMT");
        httpdate::parse_http_date(&fixed).ok().or_else(|| of_any_day(&fixed))
    })
}

/// The name of the day adds nothing to a date: a wrong one does not make it another, nor invalid.
fn of_any_day(text: &str) -> Option<SystemTime> {
    const DAYS: [&str; 7] =
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let (given, rest) = text.split_at(text.find([',', ' '])?);
    let forms: [fn(&'static str) -> &'static str; 2] = [|day| day, |day| &day[..3]];
    let form = forms.into_iter().find(|form| DAYS.iter().any(|day| form(day) == given))?;
    DAYS.iter().find_map(|day| httpdate::parse_http_date(&format!("{}{rest}", form(day))).ok())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_in_every_form_and_case_and_no_other() {
        let check = |text: &'static str, expect: Option<u64>| {
            let found = date_of(&HeaderValue::from_static(text));
            assert_eq!(found, expect.map(|s| UNIX_EPOCH + Duration::from_secs(s)), "{text}");
        };
        check("Thu, 18 Aug 2050 02:01:18 GMT", Some(2_544_400_878));
        check("Thursday, 18-Aug-50 02:01:18 GMT", Some(2_544_400_878));
        check("Thu Aug 18 02:01:18 2050", Some(2_544_400_878));
        check("THU, 18 AUG 2050 02:01:18 gMT", Some(2_544_400_878));
        check("Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599));
        check("Mon, 18 Aug 2050 02:01:18 GMT", Some(2_544_400_878));
        check("Thu Aug  8 02:01:18 2050", Some(2_543_536_878));
        for invalid in [
            "Day, 18 Aug 2050 02:01:18 GMT",
            "0",
            "-1",
            "",
            "foo",
            "2544400878",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 +0000",
        ] {
            check(invalid, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0u64..7_000_000_000) {
            let when = UNIX_EPOCH + Duration::from_secs(seconds);
            let text = httpdate::fmt_http_date(when);
            for text in [text.clone(), text.to_lowercase(), text.to_uppercase()] {
                prop_assert_eq!(date_of(&HeaderValue::from_str(&text).unwrap()), Some(when));
            }
        }

        #[test]
        fn no_octets_are_too_much(octets in prop::collection::vec(32u8..=255, 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&octets) {
                let _ = date_of(&value);
            }
        }
    }
}
