//! What a peer is sent: content with its proof.

use std::sync::Arc;

use bytes::Bytes;
use coralline_receipt::{Encoder, FORM, Proof, Span, Step, Subject};
use futures_util::stream;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;

use crate::body::ResponseBody;
use crate::flight::{FedPlace, Flight};
use crate::proving::{FORM_ALONE, PARTIAL, PROOF, Proving};
use crate::reason::{Failure, Reason};
use crate::slices::Slice;

/// Where the proof of a content is.
pub(crate) enum Proved {
    /// All of it is here.
    Whole(Arc<Proof>),
    /// A slice of it is arriving, or was a moment ago.
    Slice(Arc<Slice>, Proving),
    /// It is arriving; who is sent it has a place, if need be.
    Arriving(
        Arc<Flight>,
        Proving,
        #[expect(dead_code, reason = "it is held, not read")] Option<FedPlace>,
    ),
}

/// Puts the stream that proves the content in place of the content of `response`, which is the whole, or
/// where it is a part, this span of it. Nothing if there is nothing to show.
pub(crate) fn prove(
    response: Response<ResponseBody>,
    span: Span,
    proved: Proved,
) -> Option<Response<ResponseBody>> {
    let receipt = match &proved {
        Proved::Whole(proof) => proof.receipt().clone(),
        Proved::Arriving(_, proving, _) | Proved::Slice(_, proving) => proving.receipt()?,
    };
    let (mut head, content) = response.into_parts();
    let partial = head.status == StatusCode::PARTIAL_CONTENT;
    let alone = receipt.subject.status == PARTIAL;
    if !partial && (alone || head.status.as_u16() != receipt.subject.status) {
        return None;
    }
    let span = if partial { span } else { Span::Rest(0) };
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(ACCEPT_RANGES);
    head.headers.insert(PROOF, HeaderValue::from_static(if alone { FORM_ALONE } else { FORM }));
    let encoder = Encoder::new(&receipt, span);
    let sending =
        Sending { encoder, subject: receipt.subject, content, held: Bytes::new(), proved };
    let pieces = stream::unfold(Some(sending), |sending| async move {
        let mut sending = sending?;
        match sending.next().await? {
            Ok(octets) => Some((Ok(octets), Some(sending))),
            Err(failure) => Some((Err(failure), None)),
        }
    });
    Some(Response::from_parts(head, ResponseBody::pieces(pieces)))
}

struct Sending {
    encoder: Encoder,
    subject: Subject,
    content: ResponseBody,
    /// Content that came, and is not sent yet.
    held: Bytes,
    proved: Proved,
}

impl Sending {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            match self.encoder.poll() {
                Step::Octets(octets) => return Some(Ok(octets)),
                Step::Content(range) => {
                    if self.held.is_empty() {
                        match self.content.frame().await {
                            Some(Ok(frame)) => self.held = frame.into_data().unwrap_or_default(),
                            Some(Err(failure)) => return Some(Err(failure)),
                            None => return Some(Err(broken())),
                        }
                    }
                    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                    let piece = self.held.split_to(length.min(self.held.len()));
                    self.encoder.sent(piece.len() as u64);
                    if !piece.is_empty() {
                        return Some(Ok(piece));
                    }
                }
                Step::Wait => {
                    if !self.offer().await {
                        return Some(Err(broken()));
                    }
                }
                Step::End => return None,
            }
        }
    }

    /// Waits until there is something to send; false if there will not be.
    async fn offer(&mut self) -> bool {
        match &self.proved {
            Proved::Whole(proof) => {
                self.encoder.offer(proof.provable());
                !self.encoder.is_waiting()
            }
            Proved::Arriving(flight, proving, _) => {
                flight.until(offered(proving, &mut self.encoder, &mut self.subject)).await
            }
            Proved::Slice(slice, proving) => {
                slice.wait(offered(proving, &mut self.encoder, &mut self.subject)).await
            }
        }
    }
}

/// Once there is something to send, or is known not to be.
fn offered<'a>(
    proving: &'a Proving,
    encoder: &'a mut Encoder,
    subject: &'a mut Subject,
) -> impl FnMut(bool) -> Option<bool> + 'a {
    |ended| match (proving.offer(encoder, subject), encoder.is_waiting()) {
        (false, _) => Some(false),
        (true, false) => Some(true),
        (true, true) => ended.then_some(false),
    }
}

fn broken() -> Failure {
    Failure::new(Reason::HttpResponseIncomplete, "what was to be sent to a peer is not there")
}
