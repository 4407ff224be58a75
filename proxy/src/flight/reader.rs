//! One who follows a flight, at their own pace: in memory, and on disk where they lag.

use std::sync::Arc;

use bytes::Bytes;
use coralline_disk::Object;
use http::header::HeaderMap;
use tokio::sync::watch;

use super::Flight;
use crate::message::part;
use crate::reason::{Failure, Reason};
use crate::tier::read;

/// One who follows a flight.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(super) flight: Arc<Flight>,
    pub(super) id: u64,
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) changed: watch::Receiver<u64>,
    /// What it reads on disk by, once it has fallen behind.
    pub(super) object: Option<Object>,
}

/// What a reader does next.
enum Step {
    Piece(Bytes),
    /// What comes next is on disk alone.
    Disk(Object),
    Wait,
    End,
    Failed(Failure),
}

impl Reader {
    /// The next octets; nothing at the end.
    ///
    /// # Errors
    /// The flight broke off, or this reader was too slow.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            self.changed.borrow_and_update();
            match self.step() {
                Step::Piece(piece) => return Some(Ok(piece)),
                Step::Disk(object) => return Some(self.read(object).await),
                Step::End => return None,
                Step::Failed(failure) => return Some(Err(failure)),
                Step::Wait => {}
            }
            self.changed.changed().await.expect("the sender lives in the flight");
        }
    }

    /// What came after the body; nothing before its end.
    pub(crate) fn trailers(&self) -> HeaderMap {
        self.flight.trailers()
    }

    fn step(&mut self) -> Step {
        if self.at >= self.end {
            return Step::End;
        }
        let mut state = self.flight.state();
        if self.at >= state.readable() {
            return match &state.end {
                Some(Ok(())) => Step::End,
                Some(Err(failure)) => Step::Failed(failure.clone()),
                None => Step::Wait,
            };
        }
        let here = self.at >= state.first();
        if let (false, Some(object)) = (here, &state.disk) {
            return Step::Disk(self.object.take().unwrap_or_else(|| object.clone()));
        }
        if !here || !state.readers.contains_key(&self.id) {
            return Step::Failed(too_slow());
        }
        let index = state.pieces.partition_point(|(start, _)| *start <= self.at) - 1;
        let (start, bytes) = &state.pieces[index];
        let piece = part(*start, bytes, self.at, self.end);
        self.at += piece.len() as u64;
        state.readers.insert(self.id, self.at);
        if state.overflowed {
            self.flight.room.notify_one();
        }
        Step::Piece(piece)
    }

    async fn read(&mut self, object: Object) -> Result<Bytes, Failure> {
        let (octets, object) = read(object, self.at).await;
        self.object = Some(object);
        let octets = octets.ok_or_else(too_slow)?;
        let piece = part(self.at, &octets, self.at, self.end);
        self.at += piece.len() as u64;
        // One whom the others need not wait for is not put on the list again.
        self.flight.state().readers.entry(self.id).and_modify(|at| *at = self.at);
        Ok(piece)
    }
}

fn too_slow() -> Failure {
    let detail = "the client was too slow for a body too large to keep";
    Failure::new(Reason::HttpResponseIncomplete, detail)
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.flight.state().readers.remove(&self.id);
        self.flight.room.notify_one();
    }
}
