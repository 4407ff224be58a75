//! The content of a request on its way to an origin: passed on as it comes, bounded in octets and silence.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::activity::Activity;
use crate::limits::MAX_REQUEST_BODY;
use crate::reason::{Failure, Reason};
use crate::trailers;

/// What goes up with a request; nothing for most.
#[derive(Default)]
pub(crate) struct Upload {
    stream: Option<Stream>,
}

struct Stream {
    body: Incoming,
    /// Octets that went up.
    sent: Arc<AtomicU64>,
    stall: Duration,
    silence: Pin<Box<Sleep>>,
    /// Told of each piece that the client sends.
    activity: Activity,
}

impl Upload {
    /// The content of a client's request, broken off if the client is silent for `stall`.
    pub(crate) fn of(body: Incoming, stall: Duration, activity: Activity) -> Self {
        let silence = Box::pin(sleep(stall));
        Self { stream: Some(Stream { body, sent: Arc::default(), stall, silence, activity }) }
    }

    /// Counts the octets that went up, as they go: as long as they do, no response is overdue.
    pub(crate) fn progress(&self) -> Arc<AtomicU64> {
        self.stream.as_ref().map(|stream| stream.sent.clone()).unwrap_or_default()
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Some(stream) = &mut self.get_mut().stream else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut stream.body).poll_frame(context) else {
            return stream.silence.as_mut().poll(context).map(|()| {
                let detail = format!("the request fell silent for {:?}", stream.stall);
                Some(Err(Failure::new(Reason::HttpRequestError, detail)))
            });
        };
        stream.silence.as_mut().reset(Instant::now() + stream.stall);
        stream.activity.step();
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
            if stream.sent.fetch_add(len, Ordering::Relaxed) + len > MAX_REQUEST_BODY {
                let detail = format!("the content is longer than {MAX_REQUEST_BODY} octets");
                let failure = Failure::new(Reason::HttpRequestError, detail);
                let failure = failure.with_status(http::StatusCode::PAYLOAD_TOO_LARGE);
                return Poll::Ready(Some(Err(failure)));
            }
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.as_ref().map_or(SizeHint::with_exact(0), |stream| stream.body.size_hint())
    }
}
