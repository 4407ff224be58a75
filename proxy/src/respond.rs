//! Step 8: the response to a client or a peer, with what this node has to say about it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
    ETAG, EXPIRES, HeaderMap, HeaderValue, LAST_MODIFIED, RETRY_AFTER, TRAILER, VIA,
    WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body::Body;
use tokio::sync::OwnedSemaphorePermit;

use crate::Proxy;
use crate::admit::{Asked, Client};
use crate::body::ResponseBody;
use crate::clock;
use crate::conditional::{Selected, select};
use crate::fields::{CACHE_STATUS, Mode, PROXY_STATUS, append_member, kept};
use crate::flight::{Arriving, Flight};
use crate::message::{Head, Source, Stored};
use crate::page;
use crate::policy::{Freshness, OWN_TARGET};
use crate::reason::{Failure, Reason};
use crate::rewrite::Naming;
use crate::scope::TAG_FIELDS;
use crate::slices::{Sliced, Wanted};
use crate::target::Target;
use crate::upstream::Upstream;

/// Why a request went forward, in the words of RFC 9211, section 2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    /// Nothing was held for the URI.
    UriMiss,
    /// What is held for the URI is another variant.
    VaryMiss,
    /// What was held was no longer fresh.
    Stale,
    /// What is held is fresh, and the client wants to be sure.
    Request,
    /// The method is not one that a cache answers.
    Method,
    /// The response to this URI is not for all.
    Bypass,
    /// Some of what is asked for is held, and the rest is fetched.
    Partial,
}

impl Forward {
    const fn word(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Method => "method",
            Self::Bypass => "bypass",
            Self::Partial => "partial",
        }
    }
}

/// This node's member of Cache-Status (RFC 9211).
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheStatus {
    /// Nothing: a hit.
    pub(crate) forward: Option<Forward>,
    /// What the next hop answered, where it was not the response's own status; nothing where it failed.
    pub(crate) answered: Option<StatusCode>,
    pub(crate) stored: bool,
    pub(crate) collapsed: bool,
    pub(crate) source: Source,
}

impl CacheStatus {
    fn member(&self, name: &str, status: StatusCode, ttl: Option<i64>) -> String {
        let mut member = match self.forward {
            None => format!("{name}; hit"),
            // Nobody answered: a copy of ours stands in.
            Some(forward) if self.source == Source::Local => {
                format!("{name}; fwd={}", forward.word())
            }
            Some(forward) => {
                let status = self.answered.unwrap_or(status).as_u16();
                format!("{name}; fwd={}; fwd-status={status}", forward.word())
            }
        };
        if let Some(ttl) = ttl {
            member.push_str(&format!("; ttl={ttl}"));
        }
        if self.stored {
            member.push_str("; stored");
        }
        if self.collapsed {
            member.push_str("; collapsed");
        }
        member + "; detail=" + &self.source.word()
    }
}

impl Proxy {
    /// From the store, and for a client from the origin what lacks there.
    ///
    /// # Errors
    /// The first octets lack, and do not come.
    pub(crate) async fn respond_stored(
        self: &Arc<Self>,
        asked: &Asked,
        stored: &Arc<Stored>,
        status: CacheStatus,
    ) -> Result<Response<ResponseBody>, Failure> {
        let fetching = asked.client.is_some() && !asked.told.only_if_cached;
        let wanted = fetching.then(|| Arc::new(Wanted::of(asked)));
        let body = |parts: &[(u64, u64)]| {
            let part = |&(from, end): &(u64, u64)| {
                let end = end.min(stored.body.len());
                match Sliced::new(self, stored, wanted.clone(), (from, end)) {
                    Some(sliced) => ResponseBody::sliced(sliced, end - from),
                    None => ResponseBody::stored(stored.clone(), from, end),
                }
            };
            Some(parts.iter().map(part).collect())
        };
        let response = self.compose(asked, &stored.head, &stored.freshness, &[], status, body);
        let mut response = response.expect("there is a body, if it has to be fetched");
        response.body_mut().begin().await?;
        Ok(response)
    }

    /// From a flight; nothing if its beginning is gone already.
    pub(crate) fn respond_arriving(
        &self,
        asked: &Asked,
        arriving: &Arriving,
        flight: &Arc<Flight>,
        status: CacheStatus,
    ) -> Option<Response<ResponseBody>> {
        let Arriving { head, freshness, via_peer, withheld, .. } = arriving;
        let body = |parts: &[(u64, u64)]| {
            let part = |&(from, end): &(u64, u64)| {
                let end = head.length.map_or(end, |length| end.min(length));
                let length = head.length.map(|_| end - from);
                Some(ResponseBody::arriving(flight.reader(from, end)?, length))
            };
            parts.iter().map(part).collect()
        };
        let mut response = self.compose(asked, head, freshness, via_peer, status, body)?;
        if !status.collapsed {
            response.headers_mut().extend(withheld.clone());
        }
        Some(response)
    }

    /// Straight from upstream, for this client only.
    pub(crate) fn respond_upstream(
        &self,
        asked: &Asked,
        upstream: Upstream,
        forward: Forward,
        place: OwnedSemaphorePermit,
    ) -> Response<ResponseBody> {
        let Upstream { head, body, source, .. } = upstream;
        let length = if !asked.is_head() {
            body.length()
        } else {
            let field = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            field.and_then(|text| text.parse().ok())
        };
        let age = head.headers.get(AGE).cloned();
        let head = Head {
            status: head.status,
            headers: kept(head.headers.clone(), asked.mode),
            length,
            trailers: HeaderMap::new(),
        };
        let (forward, answered) = (Some(forward), None);
        let cache_status =
            CacheStatus { forward, answered, stored: false, collapsed: false, source };
        let member = cache_status.member(&self.signature.name, head.status, None);
        let mut response = Response::new(ResponseBody::nothing());
        *response.status_mut() = head.status;
        let fields = response.headers_mut();
        fields.clone_from(&head.headers);
        fields.extend(age.map(|age| (AGE, age)));
        add_date(fields, clock::now());
        if !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            fields.extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
        }
        self.sign(asked, fields, &member);
        // The whole has come for a request whose conditions the origin was not told, or did not heed.
        if !asked.trailers {
            fields.remove(TRAILER);
        }
        let held = asked.is_read()
            && select(&asked.selecting, false, head.status, fields, None) == Selected::NotModified;
        if held {
            remove_content(fields);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            body.discard();
        } else if !asked.is_head() {
            let body = ResponseBody::upstream(body, self.stall_timeout, asked.mode, place);
            *response.body_mut() =
                if asked.trailers { body.trailed(HeaderMap::new()) } else { body };
        }
        response
    }

    /// Status, fields and body by what the request selects; `body` gives the octets of each range.
    pub(crate) fn compose(
        &self,
        asked: &Asked,
        head: &Head,
        freshness: &Freshness,
        via_peer: &[HeaderValue],
        cache_status: CacheStatus,
        body: impl FnOnce(&[(u64, u64)]) -> Option<VecDeque<ResponseBody>>,
    ) -> Option<Response<ResponseBody>> {
        let now = clock::now();
        // What a change was made on is the origin's affair, and settled.
        let none = HeaderMap::new();
        let selecting = if asked.is_read() { &asked.selecting } else { &none };
        let selected = select(selecting, asked.is_get(), head.status, &head.headers, head.length);
        let mut response = Response::new(ResponseBody::nothing());
        let fields = response.headers_mut();
        fields.clone_from(&head.headers);
        let (status, ranges) = match selected {
            Selected::Full => {
                // RFC 9110, section 8.6: a 204 has no length.
                let empty = head.status == StatusCode::NO_CONTENT;
                let trailed = asked.trailers && !head.trailers.is_empty();
                let length = head.length.filter(|_| !empty && !trailed);
                fields.extend(length.map(|length| (CONTENT_LENGTH, length.into())));
                (head.status, vec![(0, head.length.unwrap_or(u64::MAX))])
            }
            Selected::Range(from, end) => {
                let total = head.length.unwrap_or(end);
                let value = format!("bytes {from}-{}/{total}", end - 1);
                fields.insert(CONTENT_RANGE, ascii(&value));
                fields.insert(CONTENT_LENGTH, (end - from).into());
                (StatusCode::PARTIAL_CONTENT, vec![(from, end)])
            }
            Selected::Ranges(ranges) => (StatusCode::PARTIAL_CONTENT, ranges),
            Selected::NotModified => {
                remove_content(fields);
                (StatusCode::NOT_MODIFIED, Vec::new())
            }
            Selected::Unsatisfiable(length) => {
                remove_content(fields);
                // What is true of the object is not true of this answer.
                for name in [CACHE_CONTROL, ETAG, EXPIRES, LAST_MODIFIED] {
                    fields.remove(name);
                }
                fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                fields.insert(CONTENT_RANGE, ascii(&format!("bytes */{length}")));
                (StatusCode::RANGE_NOT_SATISFIABLE, Vec::new())
            }
        };
        if head.status == StatusCode::OK && head.length.is_some() {
            fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        let age = freshness.age(now).as_secs();
        // Only a first-hand response goes without (RFC 9111, section 5.1).
        if age > 0 || cache_status.source != Source::Origin {
            fields.insert(AGE, age.into());
        }
        add_date(fields, freshness.received);
        via_peer.iter().for_each(|member| {
            fields.append(CACHE_STATUS, member.clone());
        });
        let ttl = Some(freshness.ttl(now));
        let member = cache_status.member(&self.signature.name, head.status, ttl);
        self.sign(asked, fields, &member);
        *response.status_mut() = status;
        let full = asked.trailers && status == head.status;
        // A peer has the fields as they were signed.
        if !full && asked.client.is_some() {
            response.headers_mut().remove(TRAILER);
        }
        if !asked.is_head() && !ranges.is_empty() {
            let mut bodies = body(&ranges)?;
            *response.body_mut() = match (bodies.len(), head.length) {
                (1, _) | (_, None) => bodies.pop_front()?,
                (_, Some(total)) => multipart(response.headers_mut(), &ranges, bodies, total),
            };
            if full {
                let body = std::mem::replace(response.body_mut(), ResponseBody::nothing());
                *response.body_mut() = body.trailed(head.trailers.clone());
            }
        }
        Some(response)
    }

    /// Via, Cache-Status, and names that stay on the CDN.
    fn sign(&self, asked: &Asked, fields: &mut HeaderMap, member: &str) {
        append_member(fields, VIA, &format!("1.1 {}", self.signature.name));
        append_member(fields, CACHE_STATUS, member);
        if let Some(client) = asked.client {
            fields.remove(OWN_TARGET);
            TAG_FIELDS.iter().for_each(|name| _ = fields.remove(name));
            if asked.mode == Mode::Suffixed {
                self.naming(client, &asked.target).rewrite(fields);
            }
        }
    }

    /// How this client is to see the names of suffixed sites.
    pub(crate) fn naming<'a>(&'a self, client: Client, target: &'a Target) -> Naming<'a> {
        let Client { tls, port } = client;
        let (host, path) = (target.host.as_str(), target.path.as_str());
        Naming { suffix: &self.suffix, tls, port, host, path }
    }

    /// A failure, as a page for people and Proxy-Status for programs.
    pub(crate) fn respond_failure(&self, failure: &Failure, human: bool) -> Response<ResponseBody> {
        self.metrics.count_error(failure.reason);
        let text = if human { page::failure(failure, &self.suffix) } else { String::new() };
        let mut response = own_page(failure.status, text);
        let fields = response.headers_mut();
        let details = page::printable(&failure.detail).replace(['"', '\\'], "'");
        let word = failure.reason.word();
        let value = format!("{}; error={word}; details=\"{details}\"", self.signature.name);
        append_member(fields, PROXY_STATUS, &value);
        match failure.status {
            StatusCode::UNAUTHORIZED => {
                fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                fields.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        if failure.reason == Reason::HttpRequestError {
            // What follows on this connection may not be what it seems.
            fields.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Several ranges in one response (RFC 9110, section 14.6). The boundary only has to be none of the body's
/// lines, and nobody can foresee where our clock stands.
fn multipart(
    fields: &mut HeaderMap,
    ranges: &[(u64, u64)],
    bodies: VecDeque<ResponseBody>,
    total: u64,
) -> ResponseBody {
    let since = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let boundary = format!("coralline-{:x}-{:x}", since.as_nanos(), total);
    let kind = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
    let mut parts = VecDeque::new();
    for ((from, end), body) in ranges.iter().zip(bodies) {
        let last = end - 1;
        let range = format!("Content-Range: bytes {from}-{last}/{total}\r\n");
        parts.push_back(ResponseBody::text(format!("\r\n--{boundary}\r\n{kind}{range}\r\n")));
        parts.push_back(body);
    }
    parts.push_back(ResponseBody::text(format!("\r\n--{boundary}--\r\n")));
    let body = ResponseBody::parts(parts);
    fields.insert(CONTENT_TYPE, ascii(&format!("multipart/byteranges; boundary={boundary}")));
    fields.extend(body.size_hint().exact().map(|length| (CONTENT_LENGTH, length.into())));
    body
}

/// RFC 9110, section 6.6.1: a recipient with a clock adds the date that is missing.
pub(crate) fn add_date(fields: &mut HeaderMap, received: SystemTime) {
    if !fields.contains_key(DATE) {
        fields.insert(DATE, ascii(&httpdate::fmt_http_date(received)));
    }
}

/// A page of this node's own.
pub(crate) fn own_page(status: StatusCode, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::nothing());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    if !text.is_empty() {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    fields.insert(CONTENT_LENGTH, text.len().into());
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = ResponseBody::text(text);
    response
}

/// Fields that describe a body which is not sent (RFC 9110, section 15.4.5).
fn remove_content(fields: &mut HeaderMap) {
    for name in ["content-type", "content-encoding", "content-language", "content-length"] {
        fields.remove(name);
    }
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, letters and punctuation")
}

/// When a request began, for the time to its first byte.
pub(crate) fn elapsed(since: SystemTime) -> f64 {
    clock::now().duration_since(since).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use coralline_overlay::Level;

    use super::*;

    #[test]
    fn cache_status_says_what_happened() {
        let check = |status: CacheStatus, ttl, expect: &str| {
            assert_eq!(status.member("coralline-1a", StatusCode::OK, ttl), expect);
        };
        let (answered, stored, collapsed, source) = (None, false, false, Source::Local);
        let hit = CacheStatus { forward: None, answered, stored, collapsed, source };
        check(hit, Some(-3), "coralline-1a; hit; ttl=-3; detail=local");
        let miss = CacheStatus {
            forward: Some(Forward::UriMiss),
            answered: None,
            stored: true,
            collapsed: true,
            source: Source::Peer(Level::GLOBAL),
        };
        let expect =
            "coralline-1a; fwd=uri-miss; fwd-status=200; ttl=9; stored; collapsed; detail=peer:L0";
        check(miss, Some(9), expect);
        let stale = CacheStatus { forward: Some(Forward::Stale), ..hit };
        check(stale, Some(-3), "coralline-1a; fwd=stale; ttl=-3; detail=local");
        let validated = CacheStatus {
            answered: Some(StatusCode::NOT_MODIFIED),
            source: Source::Origin,
            ..stale
        };
        let expect = "coralline-1a; fwd=stale; fwd-status=304; ttl=9; detail=origin";
        check(validated, Some(9), expect);
    }
}
