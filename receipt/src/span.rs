//! Which octets of a content a stream carries.

use crate::limits::{GROUP, MAX_SIZE};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// From this octet to the end, for who has all before: 0 for the whole.
    Rest(u64),
    /// From the one octet to the other, for who has nothing: both are rounded outwards to multiples of
    /// [`GROUP`], and should be multiples of [`crate::limits::SLICE`] or the end.
    Slice(u64, u64),
}

impl Span {
    /// The first octet.
    pub(crate) fn from(self) -> u64 {
        match self {
            Self::Rest(from) => from,
            Self::Slice(from, _) => from - from % GROUP,
        }
    }

    /// The octet after the last, if the content is that long.
    pub(crate) fn end(self) -> u64 {
        match self {
            Self::Rest(_) => MAX_SIZE,
            Self::Slice(_, end) => end.min(MAX_SIZE).next_multiple_of(GROUP),
        }
    }

    pub(crate) fn is_rest(self) -> bool {
        matches!(self, Self::Rest(_))
    }
}
