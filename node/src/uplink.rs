//! A thin uplink: a rate that all bodies of the demo's origin share.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::{UPLINK_CHUNK, UPLINK_RATE};

/// The line itself. What is sent over it takes its turn, first come, first served.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// When the line is free again.
    free: Mutex<Instant>,
}

impl Uplink {
    /// A line that is free from `now` on.
    pub(crate) fn new(now: Instant) -> Self {
        Self { free: Mutex::new(now) }
    }

    /// A body of `content` that leaves over this line.
    pub(crate) fn carry(self: &Arc<Self>, content: Bytes) -> Carried {
        Carried { line: Arc::clone(self), rest: content, turn: None }
    }

    /// Reserves the line for `octets`; they may leave at the instant returned.
    fn reserve(&self, now: Instant, octets: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let start = now.max(*free);
        let nanos = octets as u64 * 1_000_000_000 / UPLINK_RATE;
        *free = start + Duration::from_nanos(nanos);
        *free
    }
}

/// A body on its way over an [`Uplink`].
pub(crate) struct Carried {
    line: Arc<Uplink>,
    rest: Bytes,
    /// The turn of the next chunk, once reserved.
    turn: Option<Pin<Box<Sleep>>>,
}

impl Body for Carried {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = this.rest.len().min(UPLINK_CHUNK);
        let line = &this.line;
        let turn = this
            .turn
            .get_or_insert_with(|| Box::pin(sleep_until(line.reserve(Instant::now(), chunk))));
        ready!(turn.as_mut().poll(cx));
        this.turn = None;
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shared_and_never_saves_up() {
        let start = Instant::now();
        let line = Uplink::new(start);
        let second = usize::try_from(UPLINK_RATE).unwrap();
        assert_eq!(line.reserve(start, second), start + Duration::from_secs(1));
        assert_eq!(line.reserve(start, second / 2), start + Duration::from_millis(1500));
        let later = start + Duration::from_secs(60);
        assert_eq!(
            line.reserve(later, second),
            later + Duration::from_secs(1),
            "no burst after rest"
        );
    }
}
