//! Parts between peers: in whole groups of the tree, so that each is proved alone.
//!
//! A peer that asks for a range has nothing of the rest, unless it says with a proof field that it has all
//! before. It is given the groups that the range touches; Content-Range says which they are. A range that
//! touches them all is answered with the whole. There is no 416, as nothing would prove it.

use coralline_receipt::Span;
use coralline_receipt::limits::GROUP;
use http::header::{HeaderMap, RANGE};

use crate::admit::Asked;
use crate::conditional::{Selected, first_of, if_range, select};
use crate::message::Head;
use crate::slices::{Part, bytes};

/// Which octets a peer is to be sent of what has this head, and so how they are proved; the range that it asks
/// for is rounded to that. Nothing if it is to look elsewhere: it wants another version, or what lies beyond
/// the end.
pub(crate) fn span_for_peer(asked: &mut Asked, head: &Head) -> Option<Span> {
    if !if_range(&asked.selecting, &head.headers) {
        return None;
    }
    if asked.has_before {
        let from = asked.selecting.get(RANGE).and_then(first_of);
        return Some(Span::Rest(from.unwrap_or_default()));
    }
    let (get, length) = (asked.is_get(), head.length);
    match select(&asked.selecting, get, head.status, &head.headers, length) {
        Selected::Range(from, end) => {
            let total = length.unwrap_or(end);
            let (from, end) = (from - from % GROUP, end.next_multiple_of(GROUP).min(total));
            if (from, end) != (0, total) {
                asked.selecting.insert(RANGE, bytes(from, end));
                return Some(Span::Slice(from, end));
            }
        }
        Selected::Unsatisfiable(_) => return None,
        _ => {}
    }
    asked.selecting.remove(RANGE);
    Some(Span::Rest(0))
}

/// How what a peer sends as a part is proved; nothing if it cannot be.
pub(super) fn proved_alone(headers: &HeaderMap) -> Option<Span> {
    let Part { first, end, total } = Part::of(headers)?;
    let alone = first.is_multiple_of(GROUP) && (end.is_multiple_of(GROUP) || end == total);
    alone.then_some(Span::Slice(first, end))
}
