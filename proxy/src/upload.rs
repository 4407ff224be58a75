//! The content of a request on its way to an origin: passed on as it comes, bounded in octets, silence and
//! slowness.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::activity::Activity;
use crate::limits::{MAX_REQUEST_BODY, MIN_UPLOAD, UPLOAD_PERIOD};
use crate::reason::{Failure, Reason};
use crate::trailers;

/// What goes up with a request; nothing for most.
#[derive(Default)]
pub(crate) struct Upload {
    stream: Option<Stream<Incoming>>,
}

struct Stream<B> {
    body: B,
    /// Octets that went up.
    sent: Arc<AtomicU64>,
    stall: Duration,
    /// Ends when the client, for whom we wait, has sent nothing for too long, or too little.
    patience: Pin<Box<Sleep>>,
    /// Since when we wait for the client: an origin that is slow to take it is not the client's fault.
    since: Option<Instant>,
    /// How long it was waited for in this period, and how much came.
    waited: Duration,
    came: u64,
    /// Told of each piece that the client sends.
    activity: Activity,
}

impl Upload {
    /// The content of a client's request, broken off if the client is silent for `stall`, or too slow.
    pub(crate) fn of(body: Incoming, stall: Duration, activity: Activity) -> Self {
        Self { stream: Some(Stream::new(body, stall, activity)) }
    }

    /// Counts the octets that went up, as they go: as long as they do, no response is overdue.
    pub(crate) fn progress(&self) -> Arc<AtomicU64> {
        self.stream.as_ref().map(|stream| stream.sent.clone()).unwrap_or_default()
    }
}

impl<B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin> Stream<B> {
    fn new(body: B, stall: Duration, activity: Activity) -> Self {
        let (sent, patience) = (Arc::default(), Box::pin(sleep(stall)));
        let (since, waited, came) = (None, Duration::ZERO, 0);
        Self { body, sent, stall, patience, since, waited, came, activity }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            return self.poll_patience(context).map(|failure| Some(Err(failure)));
        };
        self.waited += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.activity.step();
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| {
            let detail = format!("the request broke off: {error}");
            Failure::new(Reason::HttpRequestError, detail)
        });
        let frame = frame.map(|frame| match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(trailers::of_request(trailers)),
            Err(frame) => frame,
        });
        if let Ok(Some(data)) = frame.as_ref().map(Frame::data_ref) {
            let len = data.len() as u64;
            self.came += len;
            if self.came >= MIN_UPLOAD {
                (self.waited, self.came) = (Duration::ZERO, 0);
            }
            if self.sent.fetch_add(len, Ordering::Relaxed) + len > MAX_REQUEST_BODY {
                let detail = format!("the content is longer than {MAX_REQUEST_BODY} octets");
                let failure = Failure::new(Reason::HttpRequestError, detail);
                let failure = failure.with_status(StatusCode::PAYLOAD_TOO_LARGE);
                return Poll::Ready(Some(Err(failure)));
            }
        }
        Poll::Ready(Some(frame))
    }

    /// Waits for the client, and not for ever (RFC 9110, section 15.5.9).
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<Failure> {
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let left = UPLOAD_PERIOD.saturating_sub(self.waited);
            self.patience.as_mut().reset(now + left.min(self.stall));
        }
        ready!(self.patience.as_mut().poll(context));
        let detail = "the content of the request came too slowly, or not at all";
        let failure = Failure::new(Reason::HttpRequestError, detail);
        Poll::Ready(failure.with_status(StatusCode::REQUEST_TIMEOUT))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match &mut self.get_mut().stream {
            Some(stream) => stream.poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.as_ref().map_or(SizeHint::with_exact(0), |stream| stream.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    /// Reads all that comes in pieces of `octets`, one each `pause`; `slow` is what the origin takes for each.
    async fn upload(octets: usize, pause: Duration, slow: Duration) -> Result<u64, StatusCode> {
        let pieces = stream::unfold(0, |n| async move {
            sleep(pause).await;
            let piece = Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; octets])));
            (n < 100).then_some((piece, n + 1))
        });
        let body = StreamBody::new(Box::pin(pieces));
        let mut stream = Stream::new(body, UPLOAD_PERIOD, Activity::new());
        let mut sent = 0;
        while let Some(frame) = std::future::poll_fn(|cx| stream.poll_frame(cx)).await {
            sent += frame.map_err(|failure| failure.status)?.data_ref().unwrap().len() as u64;
            sleep(slow).await;
        }
        Ok(sent)
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_little_is_told_and_a_slow_origin_is_not_the_clients_fault() {
        let (second, zero) = (Duration::from_secs(1), Duration::ZERO);
        assert_eq!(upload(1, UPLOAD_PERIOD / 2, zero).await, Err(StatusCode::REQUEST_TIMEOUT));
        assert_eq!(upload(1, second, zero).await, Err(StatusCode::REQUEST_TIMEOUT));
        assert_eq!(upload(9000, UPLOAD_PERIOD * 2, zero).await, Err(StatusCode::REQUEST_TIMEOUT));
        assert_eq!(upload(1000, second, zero).await, Ok(100_000));
        assert_eq!(upload(9000, UPLOAD_PERIOD - second, zero).await, Ok(900_000));
        assert_eq!(upload(10, second / 10, UPLOAD_PERIOD * 2).await, Ok(1000));
    }
}
