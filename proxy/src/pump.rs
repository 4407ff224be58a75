//! Moving the octets of a flight: to its end, past breaks, and not for ever.

use std::pin::pin;

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode};
use tokio::time::{Instant, sleep};

use crate::Proxy;
use crate::conditional::strong_validator;
use crate::fetch::Job;
use crate::flight::{Abandoned, Arriving, Flight};
use crate::flights::Landing;
use crate::limits::{MAX_RESUMES, MIN_PROGRESS, RATE_PERIOD, SEAL_DELAY};
use crate::policy::NoStore;
use crate::reason::{Failure, Reason};
use crate::tier::Stream;
use crate::upstream::UpstreamBody;

/// What is left of a body, and where it has to end.
struct Rest {
    body: UpstreamBody,
    /// Octets at its start that are here already.
    skip: u64,
    /// Length of the whole, where it is known.
    total: Option<u64>,
}

impl Proxy {
    /// Moves octets until the end; a transfer that breaks goes on from where it stood, if it can.
    pub(crate) async fn pump(
        &self,
        landing: &Landing,
        job: &Job,
        arriving: &Arriving,
        body: UpstreamBody,
        stream: &mut Option<Stream>,
    ) -> Result<(), Failure> {
        let flight = &landing.flight;
        let mut rest = Rest { body, skip: 0, total: arriving.head.length };
        let (mut resumes, mut open) = (0, true);
        let mut rate = Rate::new();
        let largest = self.largest();
        loop {
            let failure = match self.next(&mut rest.body, flight).await {
                Some(Ok(mut bytes)) => {
                    let passed = bytes.len().min(usize::try_from(rest.skip).unwrap_or(usize::MAX));
                    rest.skip -= passed as u64;
                    let bytes = bytes.split_off(passed);
                    rate.check(flight.received(), || flight.is_unread())?;
                    if let Some(proving) = flight.proving() {
                        proving.update(&bytes);
                    }
                    if let Some(disk) = stream.as_ref().filter(|_| !bytes.is_empty())
                        && (flight.received() > largest || !disk.push(bytes.clone()).await)
                    {
                        (*stream, ()) = (None, flight.set_disk(None));
                    }
                    if !bytes.is_empty() && flight.push(bytes).await == Err(Abandoned) {
                        return Err(unread("too large to keep, and nobody reads it any more"));
                    }
                    if open && !flight.is_complete() {
                        // Newcomers would miss the beginning: they go their own way.
                        open = false;
                        landing.close();
                        // From now on nobody could disown it: it is not kept.
                        *stream = None;
                        if let Some(proving) = flight.proving() {
                            proving.give_up();
                        }
                        if stream.is_none() && flight.received() > self.store.largest() {
                            self.unshared.insert(job.uri.clone(), NoStore::TooLarge);
                        }
                    }
                    continue;
                }
                None => return complete(flight, &rest),
                Some(Err(failure)) => failure,
            };
            resumes += 1;
            if resumes > MAX_RESUMES {
                return Err(failure);
            }
            rest = self.resume(job, arriving, flight.received()).await.ok_or(failure)?;
            self.metrics.resumed.inc();
            if let Some(proving) = flight.proving() {
                proving.take_over(flight.received());
            }
        }
    }

    /// The next octets. What came before is signed while they are waited for, so that peers have it soon.
    async fn next(
        &self,
        body: &mut UpstreamBody,
        flight: &Flight,
    ) -> Option<Result<Bytes, Failure>> {
        let mut next = pin!(body.next(self.stall_timeout));
        let Some(proving) = flight.proving().filter(|proving| proving.is_due()) else {
            return next.await;
        };
        tokio::select! {
            biased;
            piece = &mut next => return piece,
            () = sleep(SEAL_DELAY) => {}
        }
        proving.seal();
        flight.proves_more();
        next.await
    }

    /// The rest of a body from the origin; only if it is certainly of the same octets.
    async fn resume(&self, job: &Job, arriving: &Arriving, at: u64) -> Option<Rest> {
        let stored = &arriving.head.headers;
        let validator = strong_validator(stored)?;
        let mut headers = job.headers.clone();
        self.signature.sign(&mut headers, job.mode);
        headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={at}-")).ok()?);
        headers.insert(IF_RANGE, validator.clone());
        let upstream = self.origin.ask(&Method::GET, &job.target, &headers, None).await.ok()?;
        let (head, body) = (&upstream.head, upstream.body);
        let same = |name| head.headers.get(&name) == stored.get(&name);
        if ![ETAG, LAST_MODIFIED, CONTENT_ENCODING].into_iter().all(same) {
            return None;
        }
        match head.status {
            StatusCode::PARTIAL_CONTENT => {
                let total = continues(&head.headers, at, arriving.head.length)?;
                Some(Rest { body, skip: 0, total: Some(total) })
            }
            // The whole again, which the validator says is the same.
            StatusCode::OK => Some(Rest { body, skip: at, total: arriving.head.length }),
            _ => None,
        }
    }
}

/// Watches that a transfer which nobody reads gets on: an origin that drips would hold it for ever.
pub(crate) struct Rate {
    since: Instant,
    received: u64,
}

impl Rate {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), received: 0 }
    }

    /// To be told how much has come.
    pub(crate) fn check(
        &mut self,
        received: u64,
        is_unread: impl FnOnce() -> bool,
    ) -> Result<(), Failure> {
        if self.since.elapsed() < RATE_PERIOD {
            return Ok(());
        }
        let slow = received.saturating_sub(self.received) < MIN_PROGRESS;
        *self = Self { since: Instant::now(), received };
        if slow && is_unread() {
            return Err(unread("too slow, and nobody reads it any more"));
        }
        Ok(())
    }
}

fn unread(detail: &'static str) -> Failure {
    Failure::new(Reason::HttpResponseIncomplete, detail)
}

/// The end came where it was promised.
fn complete(flight: &Flight, rest: &Rest) -> Result<(), Failure> {
    let received = flight.received();
    if rest.skip > 0 || rest.total.is_some_and(|total| total != received) {
        let detail = format!("the body ended after {received} octets");
        return Err(Failure::new(Reason::HttpResponseIncomplete, detail));
    }
    Ok(())
}

/// Content-Range says `at` to the end, of the length that was known; the total (RFC 9110, section 14.4).
fn continues(headers: &HeaderMap, at: u64, length: Option<u64>) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total: u64 = total.parse().ok()?;
    let fits = first.parse() == Ok(at)
        && last.parse::<u64>().ok()?.checked_add(1) == Some(total)
        && length.is_none_or(|length| length == total);
    fits.then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_continues_only_if_it_begins_and_ends_where_it_must() {
        let check = |value: &'static str, length, expect| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(value));
            assert_eq!(continues(&headers, 10, length), expect, "{value}");
        };
        check("bytes 10-99/100", Some(100), Some(100));
        check("bytes 10-99/100", None, Some(100));
        check("bytes 10-99/100", Some(101), None);
        check("bytes 9-99/100", None, None);
        check("bytes 10-98/100", None, None);
        check("bytes 10-99/*", None, None);
        check("bytes */100", None, None);
        check("bytes 10-18446744073709551615/100", None, None);
    }
}
