//! The body of a response to a client or a peer, from wherever it comes, counted as it goes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus::IntCounter;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, timeout};

use crate::activity::{Activity, Waiting};
use crate::flight::Reader;
use crate::message::Stored;
use crate::reason::{Failure, Reason};
use crate::slices::Sliced;
use crate::upstream::UpstreamBody;

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

enum Content {
    Nothing,
    Text(Bytes),
    /// Octets `at..end` of a stored body.
    Stored {
        stored: Arc<Stored>,
        at: u64,
        end: u64,
    },
    Pieces {
        pieces: Pieces,
        left: Option<u64>,
    },
    /// One after the other, so many octets in all.
    Parts {
        parts: VecDeque<ResponseBody>,
        left: u64,
    },
}

/// A response body. An error in it breaks the connection, so that a client never takes a part for the whole.
pub(crate) struct ResponseBody {
    content: Content,
    counter: Option<IntCounter>,
    /// Told of each piece that the client takes.
    activity: Option<Activity>,
    /// Held while the next piece has not come.
    waiting: Option<Waiting>,
    /// A place among the requests that are passed on, held to the end.
    #[expect(dead_code, reason = "it is held, not read")]
    place: Option<OwnedSemaphorePermit>,
}

impl ResponseBody {
    const fn new(content: Content) -> Self {
        Self { content, counter: None, activity: None, waiting: None, place: None }
    }

    pub(crate) fn nothing() -> Self {
        Self::new(Content::Nothing)
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::new(Content::Text(text.into()))
    }

    /// Octets of a body in memory.
    pub(crate) fn stored(stored: Arc<Stored>, at: u64, end: u64) -> Self {
        Self::new(Content::Stored { stored, at, end })
    }

    /// So many octets of a body on disk, as far as it is there.
    pub(crate) fn sliced(sliced: Sliced, length: u64) -> Self {
        let pieces = stream::unfold(Some(sliced), |sliced| async move {
            let mut sliced = sliced?;
            let piece = sliced.next().await?;
            let sliced = piece.is_ok().then_some(sliced);
            Some((piece, sliced))
        });
        Self::new(Content::Pieces { pieces: Box::pin(pieces), left: Some(length) })
    }

    /// Waits for the first octets, while another response can still be given.
    ///
    /// # Errors
    /// They do not come.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        let content = match &mut self.content {
            Content::Parts { parts, .. } => {
                let first =
                    parts.iter_mut().find(|part| matches!(part.content, Content::Pieces { .. }));
                let Some(first) = first else { return Ok(()) };
                &mut first.content
            }
            content => content,
        };
        let Content::Pieces { pieces, .. } = content else { return Ok(()) };
        if let Some(first) = pieces.next().await.transpose()? {
            let rest = std::mem::replace(pieces, Box::pin(stream::empty()));
            *pieces = Box::pin(stream::once(async { Ok(first) }).chain(rest));
        }
        Ok(())
    }

    /// Several, one after the other; each knows its length.
    pub(crate) fn parts(parts: VecDeque<Self>) -> Self {
        let left = parts.iter().filter_map(|part| part.size_hint().exact()).sum();
        Self::new(Content::Parts { parts, left })
    }

    /// From a flight; `length` is that of the octets to come, where it is known.
    pub(crate) fn arriving(reader: Reader, length: Option<u64>) -> Self {
        let pieces = stream::unfold(reader, |mut reader| async move {
            reader.next().await.map(|piece| (piece, reader))
        });
        Self::new(Content::Pieces { pieces: Box::pin(pieces), left: length })
    }

    /// Octets of whatever number, as they are made.
    pub(crate) fn pieces(
        pieces: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
    ) -> Self {
        Self::new(Content::Pieces { pieces: Box::pin(pieces), left: None })
    }

    /// Straight from upstream, for one client; silence longer than `stall` breaks it off.
    pub(crate) fn upstream(
        body: UpstreamBody,
        stall: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let left = body.length();
        let pieces = stream::unfold(Some(body), move |body| async move {
            let mut body = body?;
            match body.next(stall).await? {
                Ok(bytes) => Some((Ok(bytes), Some(body))),
                Err(failure) => Some((Err(failure), None)),
            }
        });
        let content = Content::Pieces { pieces: Box::pin(pieces), left };
        Self { place: Some(place), ..Self::new(content) }
    }

    /// Counts the octets that go out, and tells the connection that they do.
    pub(crate) fn watched(self, counter: Option<IntCounter>, activity: Activity) -> Self {
        Self { counter, activity: Some(activity), ..self }
    }
}

/// The next octets of an upstream body; trailers are left out. Nothing at its end.
pub(crate) async fn next_piece(
    body: &mut Incoming,
    stall: Duration,
) -> Option<Result<Bytes, Failure>> {
    loop {
        let frame = match timeout(stall, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return None,
            Ok(Some(Err(error))) => {
                let detail = format!("the response broke off: {error}");
                return Some(Err(Failure::new(Reason::HttpResponseIncomplete, detail)));
            }
            Err(_) => {
                let detail = format!("the response fell silent for {stall:?}");
                return Some(Err(Failure::new(Reason::HttpResponseTimeout, detail)));
            }
        };
        match frame.into_data() {
            Ok(data) if !data.is_empty() => return Some(Ok(data)),
            _ => {}
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        let piece = match &mut this.content {
            Content::Nothing => None,
            Content::Text(text) => {
                Some(Ok(std::mem::take(text))).filter(|t| matches!(t, Ok(text) if !text.is_empty()))
            }
            Content::Stored { stored, at, end } => {
                let chunks = stored.body.chunks();
                let piece = chunks.and_then(|chunks| chunks.piece(*at, *end));
                *at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                piece.map(Ok)
            }
            Content::Parts { parts, left } => loop {
                let Some(part) = parts.front_mut() else { break None };
                match Pin::new(part).poll_frame(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => {
                        parts.pop_front();
                    }
                    Poll::Ready(Some(frame)) => {
                        let data = frame.map(|frame| frame.into_data().unwrap_or_default());
                        *left = left.saturating_sub(data.as_ref().map_or(0, |d| d.len() as u64));
                        break Some(data);
                    }
                }
            },
            Content::Pieces { pieces, left } => {
                let Poll::Ready(piece) = pieces.as_mut().poll_next(context) else {
                    // Not the client's fault.
                    if let (None, Some(activity)) = (&this.waiting, &this.activity) {
                        this.waiting = Some(activity.waits_for_us());
                    }
                    return Poll::Pending;
                };
                if let (Some(left), Some(Ok(bytes))) = (left.as_mut(), &piece) {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                piece
            }
        };
        this.waiting = None;
        if let Some(activity) = &this.activity {
            activity.step();
        }
        if let (Some(counter), Some(Ok(bytes))) = (&this.counter, &piece) {
            counter.inc_by(bytes.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Nothing => true,
            Content::Text(text) => text.is_empty(),
            Content::Stored { at, end, .. } => at >= end,
            Content::Pieces { .. } => false,
            Content::Parts { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Nothing => SizeHint::with_exact(0),
            Content::Text(text) => SizeHint::with_exact(text.len() as u64),
            Content::Stored { at, end, .. } => SizeHint::with_exact(end - at),
            Content::Pieces { left: Some(left), .. } => SizeHint::with_exact(*left),
            Content::Pieces { left: None, .. } => SizeHint::default(),
            Content::Parts { left, .. } => SizeHint::with_exact(*left),
        }
    }
}
