//! The Range header of a request (RFC 9110, section 14), as far as the demo's origin needs it.

use std::ops::Range;

/// What a Range header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything: the header is malformed, of another unit, or names several ranges.
    All,
    /// These octets; never empty.
    Some(Range<usize>),
    /// Nothing that exists.
    Outside,
}

/// Reads `text` against content of `length` octets.
pub(crate) fn parse(text: &str, length: usize) -> Part {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-'))
    else {
        return Part::All;
    };
    match (position(first), position(last), first.is_empty(), last.is_empty()) {
        (Some(first), _, _, true) => within(first, length, length),
        (Some(first), Some(last), ..) if first <= last => {
            within(first, last.saturating_add(1).min(length), length)
        }
        (_, Some(suffix), true, _) => within(length.saturating_sub(suffix), length, length),
        _ => Part::All,
    }
}

fn within(start: usize, end: usize, length: usize) -> Part {
    if start < end && end <= length { Part::Some(start..end) } else { Part::Outside }
}

/// A number of digits alone; one too large for us lies behind every end.
fn position(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &Part) {
        assert_eq!(&parse(text, 100), expect, "{text}");
    }

    #[test]
    fn reads_single_ranges_and_ignores_the_rest() {
        check("bytes=0-0", &Part::Some(0..1));
        check("bytes=10-19", &Part::Some(10..20));
        check("bytes=90-999", &Part::Some(90..100));
        check("bytes=99-99999999999999999999999", &Part::Some(99..100));
        check("bytes=7-", &Part::Some(7..100));
        check("bytes=-5", &Part::Some(95..100));
        check("bytes=-500", &Part::Some(0..100));
        check("bytes=100-", &Part::Outside);
        check("bytes=-0", &Part::Outside);
        check("bytes=99999999999999999999999-", &Part::Outside);
        check("bytes=5-2", &Part::All);
        check("bytes=-", &Part::All);
        check("bytes=a-b", &Part::All);
        check("bytes=+1-2", &Part::All);
        check("bytes=0-1,3-4", &Part::All);
        check("lines=0-1", &Part::All);
    }
}
