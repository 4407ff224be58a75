//! The body of a response to a client or a peer, from wherever it comes, counted as it goes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::header::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus::IntCounter;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, timeout};

use crate::activity::{Activity, Waiting};
use crate::fields::Mode;
use crate::flight::Reader;
use crate::message::Stored;
use crate::reason::{Failure, Reason};
use crate::slices::Sliced;
use crate::tier::HeldProof;
use crate::trailers;
use crate::upstream::UpstreamBody;

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Failure>> + Send>>;

enum Content {
    Nothing,
    Text(Bytes),
    /// Octets `at..end` of a stored body.
    Stored {
        stored: Arc<Stored>,
        at: u64,
        end: u64,
    },
    Frames {
        frames: Frames,
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
    /// What goes out after it, or an empty map to let pass what comes by itself; nothing for a client that does
    /// not take any.
    trailers: Option<HeaderMap>,
    /// Held while the next piece has not come.
    waiting: Option<Waiting>,
    /// A place among the requests that are passed on, held to the end.
    #[expect(dead_code, reason = "it is held, not read")]
    place: Option<OwnedSemaphorePermit>,
    /// The proof that it goes out with, held to the end.
    #[expect(dead_code, reason = "it is held, not read")]
    proof: Option<Arc<HeldProof>>,
}

impl ResponseBody {
    const fn new(content: Content) -> Self {
        Self {
            content,
            trailers: None,
            counter: None,
            activity: None,
            waiting: None,
            place: None,
            proof: None,
        }
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
            Some((piece.map(Frame::data), sliced))
        });
        Self::new(Content::Frames { frames: Box::pin(pieces), left: Some(length) })
    }

    /// Waits for the first octets, while another response can still be given.
    ///
    /// # Errors
    /// They do not come.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        let content = match &mut self.content {
            Content::Parts { parts, .. } => {
                let first =
                    parts.iter_mut().find(|part| matches!(part.content, Content::Frames { .. }));
                let Some(first) = first else { return Ok(()) };
                &mut first.content
            }
            content => content,
        };
        let Content::Frames { frames, .. } = content else { return Ok(()) };
        if let Some(first) = frames.next().await.transpose()? {
            let rest = std::mem::replace(frames, Box::pin(stream::empty()));
            *frames = Box::pin(stream::once(async { Ok(first) }).chain(rest));
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
        let frames = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Some(piece) => Some((piece.map(Frame::data), Some(reader))),
                None => {
                    let trailers = reader.trailers();
                    (!trailers.is_empty()).then(|| (Ok(Frame::trailers(trailers)), None))
                }
            }
        });
        Self::new(Content::Frames { frames: Box::pin(frames), left: length })
    }

    /// Octets of whatever number, as they are made.
    pub(crate) fn pieces(
        pieces: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
    ) -> Self {
        let frames = pieces.map(|piece| piece.map(Frame::data));
        Self::new(Content::Frames { frames: Box::pin(frames), left: None })
    }

    /// Straight from upstream, for one client; silence longer than `stall` breaks it off.
    pub(crate) fn upstream(
        body: UpstreamBody,
        stall: Duration,
        mode: Mode,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let left = body.length();
        let frames = stream::unfold(Some(body), move |body| async move {
            let mut body = body?;
            let frame = body.next_frame(stall).await?.map(|frame| match frame.into_trailers() {
                Ok(trailers) => Frame::trailers(trailers::cleaned(trailers, mode)),
                Err(frame) => frame,
            });
            let body = frame.is_ok().then_some(body);
            Some((frame, body))
        });
        let content = Content::Frames { frames: Box::pin(frames), left };
        Self { place: Some(place), ..Self::new(content) }
    }

    /// Lets trailers pass that come with it, after them those that are given.
    pub(crate) fn trailed(self, trailers: HeaderMap) -> Self {
        Self { trailers: Some(trailers), ..self }
    }

    /// Keeps this until it is over.
    pub(crate) fn holding(self, proof: Option<Arc<HeldProof>>) -> Self {
        Self { proof, ..self }
    }

    /// Counts the octets that go out, unless they count elsewhere already.
    pub(crate) fn counted(self, counter: IntCounter) -> Self {
        Self { counter: self.counter.or(Some(counter)), ..self }
    }

    /// Tells the connection that they go out.
    pub(crate) fn watched(self, activity: Activity) -> Self {
        Self { activity: Some(activity), ..self }
    }
}

/// The next octets of an upstream body, without trailers; nothing at its end.
pub(crate) async fn next_piece(
    body: &mut Incoming,
    stall: Duration,
) -> Option<Result<Bytes, Failure>> {
    match next_frame(body, stall).await? {
        Ok(frame) => frame.into_data().ok().map(Ok),
        Err(failure) => Some(Err(failure)),
    }
}

/// The next octets of an upstream body, or its trailers; nothing at its end.
pub(crate) async fn next_frame(
    body: &mut Incoming,
    stall: Duration,
) -> Option<Result<Frame<Bytes>, Failure>> {
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
        if frame.data_ref().is_none_or(|data| !data.is_empty()) {
            return Some(Ok(frame));
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
            Content::Frames { frames, left } => {
                let Poll::Ready(frame) = frames.as_mut().poll_next(context) else {
                    // Not the client's fault.
                    if let (None, Some(activity)) = (&this.waiting, &this.activity) {
                        this.waiting = Some(activity.waits_for_us());
                    }
                    return Poll::Pending;
                };
                if let (Some(left), Some(Ok(frame))) = (left.as_mut(), &frame) {
                    let octets = frame.data_ref().map_or(0, Bytes::len);
                    *left = left.saturating_sub(octets as u64);
                }
                match frame.map(|frame| frame.map(Frame::into_data)) {
                    None => None,
                    Some(Ok(Ok(bytes))) => Some(Ok(bytes)),
                    Some(Ok(Err(trailers))) => {
                        let trailers = trailers.into_trailers().unwrap_or_default();
                        this.trailers.iter_mut().for_each(|last| last.extend(trailers.clone()));
                        None
                    }
                    Some(Err(failure)) => Some(Err(failure)),
                }
            }
        };
        this.waiting = None;
        if let Some(activity) = &this.activity {
            activity.step();
        }
        if let (Some(counter), Some(Ok(bytes))) = (&this.counter, &piece) {
            counter.inc_by(bytes.len() as u64);
        }
        if piece.is_none() {
            let trailers = this.trailers.take().filter(|trailers| !trailers.is_empty());
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        if self.trailers.is_some() {
            return false;
        }
        match &self.content {
            Content::Nothing => true,
            Content::Text(text) => text.is_empty(),
            Content::Stored { at, end, .. } => at >= end,
            Content::Frames { .. } => false,
            Content::Parts { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        // With a length there would be no room for what comes after.
        if self.trailers.as_ref().is_some_and(|trailers| !trailers.is_empty()) {
            return SizeHint::default();
        }
        match &self.content {
            Content::Nothing => SizeHint::with_exact(0),
            Content::Text(text) => SizeHint::with_exact(text.len() as u64),
            Content::Stored { at, end, .. } => SizeHint::with_exact(end - at),
            Content::Frames { left: Some(left), .. } => SizeHint::with_exact(*left),
            Content::Frames { left: None, .. } => SizeHint::default(),
            Content::Parts { left, .. } => SizeHint::with_exact(*left),
        }
    }
}
