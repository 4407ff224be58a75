//! What a flight holds of a body, and lets go of.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use coralline_disk::Object;
use coralline_sources::PeerKey;
use http::header::HeaderMap;

use super::{Begin, Stage};
use crate::budget::{Budget, Reservation};
use crate::followers::Followers;
use crate::limits::{DISK_WINDOW, PIECE_OVERHEAD, SMALL_PIECE};
use crate::message::Stored;
use crate::reason::Failure;
use crate::slices::Reading;

#[derive(Debug)]
pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) begin: Option<Begin>,
    pub(super) pieces: VecDeque<(u64, Bytes)>,
    pub(super) received: u64,
    /// Length of the whole, where it is known.
    pub(super) total: Option<u64>,
    /// The end may be read before the flight has landed.
    pub(super) released: bool,
    pub(super) end: Option<Result<(), Failure>>,
    /// What came after the body.
    pub(super) trailers: HeaderMap,
    pub(super) held: Reservation,
    /// Fields of a 304 that are for the first asker alone.
    pub(super) withheld: HeaderMap,
    /// Keeps what was stored in the account as long as somebody reads it here.
    pub(super) stored: Option<Arc<Stored>>,
    /// What it began in slices is read by those who wait for it.
    pub(super) reading: Option<Reading>,
    pub(super) overflowed: bool,
    /// Where all of it is written, so that what is let go of here can be read there.
    pub(super) disk: Option<Object>,
    /// Where each reader stands.
    pub(super) readers: BTreeMap<u64, u64>,
    pub(super) next_reader: u64,
    /// Nobody has come yet: whoever began the flight is on the way.
    pub(super) expected: bool,
    /// The peer that sends it, while one does.
    pub(super) source: Option<PeerKey>,
    /// The peers to which it goes on.
    pub(super) followers: Followers,
}

impl State {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            stage: Stage::Locating,
            begin: None,
            pieces: VecDeque::new(),
            received: 0,
            total: None,
            released: false,
            end: None,
            trailers: HeaderMap::new(),
            held: budget.reservation(),
            withheld: HeaderMap::new(),
            stored: None,
            reading: None,
            overflowed: false,
            disk: None,
            readers: BTreeMap::new(),
            next_reader: 0,
            expected: true,
            source: None,
            followers: Followers::default(),
        }
    }

    /// The offset of the first octet that is still held.
    pub(super) fn first(&self) -> u64 {
        self.pieces.front().map_or(self.received, |(start, _)| *start)
    }

    /// The octets that may be read. The last piece waits until all is kept, so that who has the whole and
    /// asks again finds it; and of what must not be kept nobody gets the end.
    pub(super) fn readable(&self) -> u64 {
        let kept = matches!(self.end, Some(Ok(()))) || self.released;
        let last = !kept && self.total == Some(self.received);
        if last {
            self.pieces.back().map_or(self.received, |(start, _)| *start)
        } else {
            self.received
        }
    }

    /// The memory that the pieces take.
    pub(super) fn retained(&self) -> u64 {
        self.received - self.first() + self.pieces.len() as u64 * PIECE_OVERHEAD
    }

    /// Adds a piece. Small ones are joined with those before them that are no larger, so that a body which
    /// comes octet by octet ends in few pieces, and each octet is copied but a few times.
    pub(super) fn append(&mut self, bytes: &Bytes) {
        let mut start = self.received;
        self.received += bytes.len() as u64;
        let mut joined = bytes.clone();
        if bytes.len() < SMALL_PIECE {
            let mut small = BytesMut::from(&bytes[..]);
            while let Some((before, prior)) = self.pieces.back()
                && prior.len() <= small.len()
                && prior.len() + small.len() <= SMALL_PIECE
            {
                let mut both = BytesMut::with_capacity(prior.len() + small.len());
                both.extend_from_slice(prior);
                both.extend_from_slice(&small);
                (start, small) = (*before, both);
                self.pieces.pop_back();
            }
            joined = small.freeze();
        }
        self.pieces.push_back((start, joined));
    }

    /// Lets go of what is on disk, whoever has yet to read it; false if there is no disk, or it lags so far
    /// behind that it is given up.
    pub(super) fn leave_to_disk(&mut self) -> bool {
        while self.retained() > DISK_WINDOW {
            let (Some(object), Some((start, bytes))) = (&self.disk, self.pieces.front()) else {
                break;
            };
            if !object.has(*start) || !object.has(start + bytes.len() as u64 - 1) {
                self.disk = None;
                break;
            }
            self.pieces.pop_front();
        }
        self.held.shrink_to(self.retained());
        self.disk.is_some()
    }

    /// Lets go of what every reader has passed, and of the memory for it.
    pub(super) fn let_go(&mut self) {
        let Some(passed) = self.readers.values().min().copied() else { return };
        while let Some((start, bytes)) = self.pieces.front() {
            if start + bytes.len() as u64 > passed {
                break;
            }
            self.pieces.pop_front();
        }
        self.held.shrink_to(self.retained());
    }
}
