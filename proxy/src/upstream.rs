//! What origins and peers have in common: a client, a response, and the reading of errors.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use coralline_overlay::Pointer;
use coralline_receipt::Receipt;
use http::response;
use http_body::{Body, Frame};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus::IntCounter;
use tokio::time::timeout;

use crate::body::next_frame;
use crate::limits::{
    DISCARD_PATIENCE, IDLE_TIMEOUT, MAX_DISCARDED, MAX_FIELDS, MAX_IDLE_PER_HOST, MAX_RESPONSE_HEAD,
};
use crate::message::Source;
use crate::peer::ProvedBody;
use crate::policy::Times;
use crate::proving::Proving;
use crate::reason::{Failure, Reason};

/// A response whose body is still to come.
pub(crate) struct Upstream {
    pub(crate) head: response::Parts,
    pub(crate) body: UpstreamBody,
    pub(crate) times: Times,
    pub(crate) source: Source,
    /// The peer that sends it, if one does.
    pub(crate) peer: Option<Sender>,
}

/// A peer that sends something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) pointer: Pointer,
    /// Nodes between this one and the origin, if the peer is receiving it itself; else none.
    pub(crate) depth: u8,
}

/// What is received, and the octets of content so far by whoever sends it.
pub(crate) struct Counted {
    incoming: Incoming,
    octets: IntCounter,
}

impl Counted {
    pub(crate) fn new(incoming: Incoming, octets: IntCounter) -> Self {
        Self { incoming, octets }
    }

    /// As it comes, with what is not content: that has to be counted apart.
    pub(crate) fn uncounted(&mut self) -> &mut Incoming {
        &mut self.incoming
    }

    /// So much of what came is content.
    pub(crate) fn count(&self, octets: usize) {
        self.octets.inc_by(octets as u64);
    }

    async fn next_frame(&mut self, stall: Duration) -> Option<Result<Frame<Bytes>, Failure>> {
        let frame = next_frame(&mut self.incoming, stall).await;
        if let Some(octets) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.count(octets.len());
        }
        frame
    }
}

/// A body as it comes: an origin's, or a peer's with its proof.
pub(crate) enum UpstreamBody {
    Plain(Counted),
    Proved(Box<ProvedBody>),
}

impl UpstreamBody {
    /// The next octets; nothing at the end. Silence longer than `stall` is a failure.
    pub(crate) async fn next(&mut self, stall: Duration) -> Option<Result<Bytes, Failure>> {
        match self {
            Self::Plain(body) => match body.next_frame(stall).await? {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(failure) => Some(Err(failure)),
            },
            Self::Proved(body) => body.next(stall).await,
        }
    }

    /// The next octets, or an origin's trailers; nothing at the end.
    pub(crate) async fn next_frame(
        &mut self,
        stall: Duration,
    ) -> Option<Result<Frame<Bytes>, Failure>> {
        match self {
            Self::Plain(body) => body.next_frame(stall).await,
            Self::Proved(body) => body.next(stall).await.map(|octets| octets.map(Frame::data)),
        }
    }

    /// Octets of the content, where that is known; of a peer's part, those of the whole.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Plain(body) => body.incoming.size_hint().exact(),
            Self::Proved(body) => body.length(),
        }
    }

    /// It is a peer's part with a receipt of its own.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self, Self::Proved(body) if body.is_alone())
    }

    /// The receipt with which a peer's began.
    pub(crate) fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Plain(_) => None,
            Self::Proved(body) => body.said(),
        }
    }

    /// The same, if it is of the whole and not of a part alone.
    pub(crate) fn receipt_of_whole(&self) -> Option<&Receipt> {
        self.receipt().filter(|_| !self.is_alone())
    }

    /// The proof that comes with it.
    pub(crate) fn proving(&self) -> Option<&Proving> {
        match self {
            Self::Plain(_) => None,
            Self::Proved(body) => Some(body.proving()),
        }
    }

    /// Nobody wants it. Where there is little left of what an origin sends, that is read all the same: the
    /// connection can be used again, and what the origin has sent is counted.
    pub(crate) fn discard(mut self) {
        let short = self.length().is_none_or(|length| length <= MAX_DISCARDED);
        if !short || matches!(self, Self::Proved(_)) {
            return;
        }
        tokio::spawn(timeout(DISCARD_PATIENCE, async move {
            let mut left = MAX_DISCARDED;
            while let Some(Ok(octets)) = self.next(DISCARD_PATIENCE).await {
                let Some(rest) = left.checked_sub(octets.len() as u64) else { break };
                left = rest;
            }
        }));
    }
}

/// HTTP/1.1 with bounded heads and a bounded pool whose idle connections do end.
pub(crate) fn client_builder() -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .http1_max_headers(MAX_FIELDS)
        .http1_max_buf_size(MAX_RESPONSE_HEAD);
    builder
}

/// Requests to peers have no body: only GET and HEAD are sent.
pub(crate) type NoBody = Empty<Bytes>;

/// Why a request came to nothing, from the chain of causes that the client gives.
pub(crate) fn failure(host: &str, error: &hyper_util::client::legacy::Error) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(reason) = error.downcast_ref::<hyper::Error>().and_then(http_reason) {
            return Failure::new(reason, format!("{host} did not answer in HTTP: {error}"));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let reason = match error.kind() {
                io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
                io::ErrorKind::TimedOut => Reason::ConnectionTimeout,
                _ => Reason::ConnectionTerminated,
            };
            return Failure::new(reason, format!("the connection to {host} ended: {error}"));
        }
        cause = error.source();
    }
    Failure::new(Reason::ConnectionTerminated, format!("{host} could not be asked: {error}"))
}

fn http_reason(error: &hyper::Error) -> Option<Reason> {
    if error.is_parse_too_large() {
        Some(Reason::HttpResponseHeaderSectionSize)
    } else if error.is_parse() {
        Some(Reason::HttpProtocolError)
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Some(Reason::ConnectionTerminated)
    } else {
        None
    }
}
