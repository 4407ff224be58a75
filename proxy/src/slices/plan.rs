//! What to ask for, and what to think of what comes: decided here, without I/O.
//!
//! | what comes | what becomes of it |
//! |---|---|
//! | 206 as asked, with a strong validator | slices |
//! | 206 of all there is | the whole, as if it were 200 (RFC 9110, section 15.3.7.3) |
//! | 206 without a strong validator, of an unknown length, or with a Content-Range that makes no sense | asked again for the whole |
//! | 206 of another validator, coding or length than the slices that are here; 200; 404, 410, 416 | it has changed: the slices are dropped |
//! | 206 of less than was asked | kept, and the rest asked for |
//! | anything else | a failure of this one request |

use std::ops::Range;

use coralline_disk::limits::{MAX_OBJECT, SLICE};
use coralline_receipt::limits::GROUP;
use http::StatusCode;
use http::header::{
    CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED,
};

use crate::conditional::{Selected, range_of};
use crate::limits::{MAX_RUN, SLICES_AHEAD};

const SLICE_U64: u64 = SLICE as u64;

/// What is asked of something of which nothing is known yet, in whole slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// Octets from the first up to, and without, the second.
    From(u64, u64),
    /// So many octets at the end.
    Last(u64),
}

impl First {
    /// What a client's range needs first. Nothing where the whole is fetched: for no range, for one of all
    /// from the first slice on, as players ask at the start, and for a long end.
    pub(crate) fn of(range: &HeaderValue) -> Option<Self> {
        // As if it had no end: what is open reaches it, and so does what counts from there.
        const ENDLESS: u64 = u64::MAX;
        let (from, end) = match range_of(range, ENDLESS) {
            Selected::Range(from, end) => (from, end),
            Selected::Ranges(ranges) => *ranges.first()?,
            _ => return None,
        };
        let most = u64::from(MAX_RUN) * SLICE_U64;
        if end == ENDLESS && from > MAX_OBJECT {
            // Where its first slice begins is not known: one more is sure to hold that.
            let octets = (ENDLESS - from).checked_add(SLICE_U64 - 1)?;
            return (octets <= most).then_some(Self::Last(octets));
        }
        if end == ENDLESS && from < SLICE_U64 || from >= MAX_OBJECT {
            return None;
        }
        let start = from / SLICE_U64 * SLICE_U64;
        let end = end.min(start + most).next_multiple_of(SLICE_U64);
        Some(Self::From(start, end.min(start + most)))
    }

    /// The field that asks for it.
    pub(crate) fn field(self) -> HeaderValue {
        match self {
            Self::From(from, end) => bytes(from, end),
            Self::Last(octets) => ascii(&format!("bytes=-{octets}")),
        }
    }

    /// The slices that this part brings or begins, if it is the one that was asked for. What a peer gives begins
    /// with a whole group, where the end is asked for.
    pub(crate) fn slices(self, part: &Part) -> Option<Range<u32>> {
        let Part { first, end, total } = *part;
        let end = match self {
            Self::From(from, end) => (from == first).then_some(end.min(total))?,
            Self::Last(octets) => {
                let asked = total.saturating_sub(octets);
                let begins = first == asked || first == asked - asked % GROUP;
                (end == total && begins).then_some(end)?
            }
        };
        let (first, end) = (first.div_ceil(SLICE_U64), end.div_ceil(SLICE_U64));
        let slices = u32::try_from(first).ok()?..u32::try_from(end).ok()?;
        (!slices.is_empty()).then_some(slices)
    }
}

/// The field that asks for the octets from the first up to, and without, the second.
pub(crate) fn bytes(from: u64, end: u64) -> HeaderValue {
    ascii(&format!("bytes={from}-{}", end - 1))
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and words are ASCII")
}

/// A part of a body, as Content-Range has it (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: u64,
    /// One past its last octet.
    pub(crate) end: u64,
    /// Length of the whole.
    pub(crate) total: u64,
}

impl Part {
    /// Nothing for what names no part, or not the length of the whole.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(CONTENT_RANGE).iter();
        let (line, None) = (lines.next()?, lines.next()) else { return None };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| digits)
        };
        let (unit, rest) = line.to_str().ok()?.split_once(' ')?;
        let (range, total) = rest.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, total) = (number(first)?, number(last)?, number(total)?);
        let sound = unit.eq_ignore_ascii_case("bytes")
            && first <= last
            && last < total
            && total <= MAX_OBJECT;
        sound.then(|| Self { first, end: last + 1, total })
    }

    /// The value of its Content-Range.
    pub(crate) fn field(&self) -> HeaderValue {
        ascii(&format!("bytes {}-{}/{}", self.first, self.end - 1, self.total))
    }

    /// It is all there is.
    pub(crate) fn is_whole(&self) -> bool {
        self.first == 0 && self.end == self.total
    }
}

/// What an answer about slices of something that is held in part means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on where it was to, as far as this.
    Goes(Part),
    /// What is held is of the past.
    Changed,
    /// It says nothing about what is held.
    Failed,
}

/// Judges an answer to a request, with If-Range, for the octets from `from` on of what is `held`, of `total`.
pub(crate) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    held: &HeaderMap,
    from: u64,
    total: u64,
) -> Verdict {
    match status {
        StatusCode::PARTIAL_CONTENT => {}
        // 200: If-Range did not hold, or ranges are served no more.
        StatusCode::OK
        | StatusCode::NOT_FOUND
        | StatusCode::GONE
        | StatusCode::RANGE_NOT_SATISFIABLE => return Verdict::Changed,
        _ => return Verdict::Failed,
    }
    // The tag has to come again (RFC 9110, section 15.3.7); the rest may be left out.
    let same = |name| match headers.get(&name) {
        Some(value) => held.get(&name) == Some(value),
        None => name != ETAG || !held.contains_key(ETAG),
    };
    if ![ETAG, LAST_MODIFIED, CONTENT_ENCODING, CONTENT_TYPE].into_iter().all(same) {
        return Verdict::Changed;
    }
    match Part::of(headers) {
        Some(part) if part.total != total => Verdict::Changed,
        Some(part) if part.first == from => Verdict::Goes(part),
        _ => Verdict::Failed,
    }
}

/// The slice that holds this octet.
pub(crate) fn slice_at(offset: u64) -> u32 {
    u32::try_from(offset / SLICE_U64).unwrap_or(u32::MAX)
}

/// The octets of a slice of a body of this length.
pub(crate) fn octets(slice: u32, total: u64) -> Range<u64> {
    let start = u64::from(slice) * SLICE_U64;
    start..(start + SLICE_U64).min(total)
}

/// The slices to ask for next, for one who stands in the first of those that are `wanted`: those that lack
/// within reach, in a row, and no more than one request is to bring.
pub(crate) fn next_run(wanted: Range<u32>, lacks: impl Fn(u32) -> bool) -> Option<Range<u32>> {
    let reach = wanted.end.min(wanted.start.saturating_add(SLICES_AHEAD));
    let first = (wanted.start..reach).find(|slice| lacks(*slice))?;
    let most = wanted.end.min(first.saturating_add(MAX_RUN));
    let end = (first + 1..most).find(|slice| !lacks(*slice)).unwrap_or(most);
    Some(first..end)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const S: u64 = SLICE_U64;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn what_is_asked_of_the_unknown() {
        let check = |range: &str, expect: Option<First>| {
            assert_eq!(First::of(&range.parse().unwrap()), expect, "{range}");
        };
        let run = u64::from(MAX_RUN) * S;
        check("bytes=0-0", Some(First::From(0, S)));
        check("bytes=5-1048575", Some(First::From(0, S)));
        check("bytes=1048575-1048576", Some(First::From(0, 2 * S)));
        check("bytes=1048576-", Some(First::From(S, S + run)));
        check("bytes=3000000-6000000", Some(First::From(2 * S, 6 * S)));
        check("bytes=0-99999999999", Some(First::From(0, run)));
        check("bytes=0-18446744073709551615", None);
        check("bytes=0-18446744073709551613", Some(First::From(0, run)));
        check("bytes=9000000-9000001,20000000-", Some(First::From(8 * S, 9 * S)));
        check("bytes=-500", Some(First::Last(500 + S - 1)));
        check("bytes=0-", None);
        check("bytes=500-", None);
        check("bytes=-0", None);
        check("bytes=-99999999", None);
        check("bytes=99999999999999-", None);
        check("bytes=9-5", None);
        check("lines=0-5", None);
    }

    #[test]
    fn a_part_is_what_content_range_says() {
        let check = |value: &str, expect: Option<(u64, u64, u64)>| {
            let part = Part::of(&headers(&[("content-range", value)]));
            let part = part.map(|part| (part.first, part.end, part.total));
            assert_eq!(part, expect, "{value}");
        };
        check("bytes 0-0/1", Some((0, 1, 1)));
        check("Bytes 5-99/100", Some((5, 100, 100)));
        check("bytes 5-99/*", None);
        check("bytes */100", None);
        check("bytes 5-100/100", None);
        check("bytes 9-5/100", None);
        check("bytes +1-5/100", None);
        check("bytes -5/100", None);
        check("bytes 0-5", None);
        check("lines 0-5/100", None);
        check("bytes 0-5/1000000000000000000", None);
        check("bytes 0-18446744073709551615/18446744073709551615", None);
        let twice = [("content-range", "bytes 0-0/1"), ("content-range", "bytes 0-0/1")];
        assert_eq!(Part::of(&headers(&twice)), None);
    }

    #[test]
    fn only_the_part_that_was_asked_for_brings_slices() {
        let check = |first: First, (from, end, total): (u64, u64, u64), expect| {
            let part = Part { first: from, end, total };
            assert_eq!(first.slices(&part), expect, "{first:?} {part:?}");
        };
        check(First::From(S, 3 * S), (S, 3 * S, 9 * S), Some(1..3));
        check(First::From(S, 9 * S), (S, 2 * S + 5, 2 * S + 5), Some(1..3));
        // Less than was asked: the rest is asked for later.
        check(First::From(S, 3 * S), (S, S + 1, 9 * S), Some(1..3));
        check(First::From(S, 3 * S), (0, 3 * S, 9 * S), None);
        check(First::From(S, 3 * S), (S + 1, 3 * S, 9 * S), None);
        check(First::Last(S + 4), (8 * S - 4, 9 * S, 9 * S), Some(8..9));
        check(First::Last(S + 4), (8 * S - 5, 9 * S, 9 * S), None);
        check(First::Last(S + 4), (8 * S - 4, 9 * S - 1, 9 * S), None);
        check(First::Last(S + 4), (0, S, S), Some(0..1));
    }

    #[test]
    fn what_an_answer_about_slices_means() {
        const TAG: (&str, &str) = ("etag", "\"a\"");
        const RANGE: (&str, &str) = ("content-range", "bytes 10-19/100");
        let dated = ("last-modified", "Sun, 09 Sep 2001 01:46:40 GMT");
        let held = headers(&[TAG, dated, ("content-type", "a/b"), ("content-encoding", "gzip")]);
        let check = |status: u16, lines: &[(&'static str, &str)], expect: &Verdict| {
            let status = StatusCode::from_u16(status).unwrap();
            let verdict = judge(status, &headers(lines), &held, 10, 100);
            assert_eq!(&verdict, expect, "{status} {lines:?}");
        };
        let goes = Verdict::Goes(Part { first: 10, end: 20, total: 100 });
        check(206, &[TAG, RANGE], &goes);
        check(206, &[TAG, dated, ("content-type", "a/b"), RANGE], &goes);
        check(206, &[RANGE], &Verdict::Changed);
        check(206, &[("etag", "W/\"a\""), RANGE], &Verdict::Changed);
        check(206, &[("etag", "\"b\""), RANGE], &Verdict::Changed);
        check(206, &[TAG, ("last-modified", "yesterday"), RANGE], &Verdict::Changed);
        check(206, &[TAG, ("content-encoding", "br"), RANGE], &Verdict::Changed);
        let multipart = ("content-type", "multipart/byteranges; boundary=x");
        check(206, &[TAG, multipart], &Verdict::Changed);
        check(206, &[TAG, ("content-range", "bytes 10-19/101")], &Verdict::Changed);
        check(206, &[TAG, ("content-range", "bytes 9-19/100")], &Verdict::Failed);
        check(206, &[TAG, ("content-range", "bytes 10-19/*")], &Verdict::Failed);
        check(206, &[TAG], &Verdict::Failed);
        [200, 404, 410, 416].iter().for_each(|status| check(*status, &[TAG], &Verdict::Changed));
        [403, 429, 500, 503, 302].iter().for_each(|status| check(*status, &[], &Verdict::Failed));
    }

    #[test]
    fn the_next_run_is_what_lacks_within_reach() {
        let check = |wanted: Range<u32>, there: &[u32], expect: Option<Range<u32>>| {
            let run = next_run(wanted.clone(), |slice| !there.contains(&slice));
            assert_eq!(run, expect, "{wanted:?} {there:?}");
        };
        check(0..3, &[], Some(0..3));
        check(0..3, &[1], Some(0..1));
        check(1..9, &[1, 5], Some(2..5));
        check(0..1000, &[], Some(0..MAX_RUN));
        // What is farther away than one may read ahead waits.
        check(0..9, &(0..SLICES_AHEAD).collect::<Vec<_>>(), None);
        check(4..4, &[], None);
        check(u32::MAX - 1..u32::MAX, &[], Some(u32::MAX - 1..u32::MAX));
    }

    proptest! {
        #[test]
        fn the_first_request_covers_what_is_wanted(from in 0..200 * S, length in 1..20 * S) {
            let range = bytes(from, from + length);
            let Some(First::From(start, end)) = First::of(&range) else { panic!("{range:?}") };
            prop_assert!(start % S == 0 && end % S == 0 && start <= from && from < end);
            let most = u64::from(MAX_RUN) * S;
            prop_assert!(end - start <= most && (end >= from + length || end - start == most));
            prop_assert!(end - start < length + 2 * S);
        }

        #[test]
        fn the_last_octets_lie_in_slices_that_come(last in 1..9 * S, total in 1..99 * S) {
            let range = ascii(&format!("bytes=-{last}"));
            let first = First::of(&range).unwrap();
            let First::Last(octets) = first else { panic!("{first:?}") };
            let part = Part { first: total.saturating_sub(octets), end: total, total };
            let slices = first.slices(&part).unwrap();
            prop_assert!(u64::from(slices.start) * S <= total.saturating_sub(last));
            prop_assert_eq!(slices.end, slice_at(total - 1) + 1);
        }

        #[test]
        fn runs_bring_each_slice_once_and_nothing_else(
            wanted in 0..60_u32, length in 1..60_u32, held: BTreeSet<u8>,
        ) {
            let wanted = wanted..wanted + length;
            let mut there: BTreeSet<u32> = held.into_iter().map(u32::from).collect();
            for at in wanted.clone() {
                while let Some(run) = next_run(at..wanted.end, |slice| !there.contains(&slice)) {
                    prop_assert!(run.end <= wanted.end && run.start >= at);
                    prop_assert!(run.start < at + SLICES_AHEAD && run.len() <= MAX_RUN as usize);
                    for slice in run {
                        prop_assert!(there.insert(slice), "{} again", slice);
                    }
                }
                prop_assert!(there.contains(&at));
            }
        }
    }
}
