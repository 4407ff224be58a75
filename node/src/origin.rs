//! The demo's origin: a small site behind a thin uplink, with the manners of a good web server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{Method, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::limits::{ACCEPT_PAUSE, COUNTED_PATHS, LARGE_FILE, ORIGIN_CONNECTIONS};
use crate::picture::{self, Scene};
use crate::range::{self, Part};
use crate::uplink::{Carried, Uplink};

/// When all of the site was made. Its octets are the same in every run, so that this may be, too.
const MADE: HeaderValue = HeaderValue::from_static("Sun, 01 Nov 2026 00:00:00 GMT");

/// The site, its line, and how often it was asked.
pub(crate) struct Origin {
    pages: BTreeMap<&'static str, Page>,
    line: Arc<Uplink>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    by_path: BTreeMap<String, u64>,
}

struct Page {
    kind: &'static str,
    /// How long it may be kept.
    cache_control: &'static str,
    content: Bytes,
    etag: HeaderValue,
}

impl Origin {
    /// Draws the site.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            pages: site(),
            line: Arc::new(Uplink::new(Instant::now())),
            counts: Mutex::default(),
        })
    }

    /// How often it was asked for anything but its count.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Answers whoever connects, until dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        let room = Arc::new(Semaphore::new(ORIGIN_CONNECTIONS));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
            let origin = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = origin.answer(&request);
                    async { Ok::<_, Infallible>(answer) }
                });
                let mut http = http1::Builder::new();
                // How the connection ends is the client's affair.
                let _ = http
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(permit);
            });
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Carried> {
        let path = request.uri().path();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = self.reply(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        if path == "/count" {
            let mut reply = self.reply(StatusCode::OK, self.count_json());
            let headers = reply.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return reply;
        }
        self.count(path);
        match self.pages.get(path) {
            Some(page) => self.send(page, request.headers()),
            None => self.reply(StatusCode::NOT_FOUND, "there is no such page here\n"),
        }
    }

    fn send(&self, page: &Page, asked: &HeaderMap) -> Response<Carried> {
        let (status, content, place) = select(page, asked);
        let mut response = Response::new(self.line.carry(content));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(page.cache_control));
        headers.insert(ETAG, page.etag.clone());
        headers.insert(LAST_MODIFIED, MADE);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(place) = place {
            headers.insert(CONTENT_RANGE, place);
        }
        response
    }

    fn reply(&self, status: StatusCode, text: impl Into<Bytes>) -> Response<Carried> {
        let mut response = Response::new(self.line.carry(text.into()));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }

    fn count(&self, path: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all += 1;
        let known = counts.by_path.contains_key(path) || counts.by_path.len() < COUNTED_PATHS;
        let name = if known { path } else { "others" };
        *counts.by_path.entry(name.to_owned()).or_default() += 1;
    }

    fn count_json(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let body = serde_json::json!({ "requests": counts.all, "by_path": counts.by_path });
        format!("{body:#}\n")
    }
}

/// Which part of the page answers the request: conditionals first, then Range (RFC 9110, 13.2.2).
fn select(page: &Page, asked: &HeaderMap) -> (StatusCode, Bytes, Option<HeaderValue>) {
    if is_current(page, asked) {
        return (StatusCode::NOT_MODIFIED, Bytes::new(), None);
    }
    let range = asked.get(RANGE).and_then(|value| value.to_str().ok());
    let same = asked.get(IF_RANGE).is_none_or(|mark| mark == page.etag || mark == MADE);
    let length = page.content.len();
    match range.filter(|_| same).map_or(Part::All, |text| range::parse(text, length)) {
        Part::All => (StatusCode::OK, page.content.clone(), None),
        Part::Some(octets) => {
            let place = format!("bytes {}-{}/{length}", octets.start, octets.end - 1);
            let place = HeaderValue::from_str(&place).expect("digits are a valid value");
            (StatusCode::PARTIAL_CONTENT, page.content.slice(octets), Some(place))
        }
        Part::Outside => {
            let place = HeaderValue::from_str(&format!("bytes */{length}"));
            let place = place.expect("digits are a valid value");
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), Some(place))
        }
    }
}

/// Whether the client holds the very page already. Dates are compared as text, as nginx does.
fn is_current(page: &Page, asked: &HeaderMap) -> bool {
    let Some(tags) = asked.get(IF_NONE_MATCH) else {
        return asked.get(IF_MODIFIED_SINCE).is_some_and(|date| date == MADE);
    };
    let own = page.etag.to_str().expect("an etag of ours is ASCII");
    tags.to_str().is_ok_and(|list| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == own)
    })
}

fn site() -> BTreeMap<&'static str, Page> {
    let html = "text/html; charset=utf-8";
    let short = "max-age=60";
    let long = "max-age=3600";
    let png = |phase, tint| picture::png(Scene { phase, tint });
    [
        ("/", html, short, include_str!("../assets/origin/index.html").into()),
        ("/about.html", html, short, include_str!("../assets/origin/about.html").into()),
        ("/style.css", "text/css", short, include_str!("../assets/origin/style.css").into()),
        ("/photo.png", "image/png", long, png(0.4, [0.05, 0.55, 0.45])),
        ("/reef.png", "image/png", long, png(2.3, [0.95, 0.25, 0.40])),
        ("/lagoon.png", "image/png", long, png(4.1, [0.60, 0.35, 0.20])),
        ("/large.bin", "application/octet-stream", long, large_file()),
    ]
    .map(|(path, kind, cache_control, content): (_, _, _, Bytes)| {
        let etag = format!("\"{:x}-{:08x}\"", content.len(), picture::crc32(&content));
        let etag = HeaderValue::from_str(&etag).expect("hexadecimal digits are a valid value");
        (path, Page { kind, cache_control, content, etag })
    })
    .into()
}

/// Octets without a pattern (SplitMix64), the same in every run.
fn large_file() -> Bytes {
    let mut state = 0_u64;
    let mut content = Vec::with_capacity(LARGE_FILE);
    while content.len() < LARGE_FILE {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        content.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    content.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Body;

    fn ask(origin: &Origin, method: &str, path: &str, with: &[(&str, &str)]) -> Response<Carried> {
        let builder = Request::builder().method(method).uri(path);
        let builder = with.iter().fold(builder, |b, (name, value)| b.header(*name, *value));
        origin.answer(&builder.body(()).unwrap())
    }

    fn check(origin: &Origin, path: &str, with: &[(&str, &str)], status: u16, length: u64) {
        let response = ask(origin, "GET", path, with);
        assert_eq!(response.status(), status, "{path} {with:?}");
        assert_eq!(response.body().size_hint().exact(), Some(length), "{path} {with:?}");
    }

    #[test]
    fn serves_pages_parts_and_conditions() {
        let large = LARGE_FILE as u64;
        let origin = Origin::new();
        let check = |path: &str, with: &[(&str, &str)], status, length| {
            check(&origin, path, with, status, length);
        };
        let etag = ask(&origin, "GET", "/large.bin", &[]).headers()[ETAG].clone();
        let etag = etag.to_str().unwrap();
        let made = MADE;
        let made = made.to_str().unwrap();
        check("/large.bin", &[], 200, large);
        check("/large.bin", &[("range", "bytes=0-99")], 206, 100);
        check("/large.bin", &[("range", "bytes=-7")], 206, 7);
        check("/large.bin", &[("range", "bytes=99999999-")], 416, 0);
        check("/large.bin", &[("range", "bytes=0-9"), ("if-range", etag)], 206, 10);
        check("/large.bin", &[("range", "bytes=0-9"), ("if-range", made)], 206, 10);
        check("/large.bin", &[("range", "bytes=0-9"), ("if-range", "\"other\"")], 200, large);
        check("/large.bin", &[("if-none-match", etag)], 304, 0);
        check("/large.bin", &[("if-none-match", &format!("\"a\", W/{etag}"))], 304, 0);
        check("/large.bin", &[("if-none-match", "\"a\""), ("if-modified-since", made)], 200, large);
        check("/large.bin", &[("if-modified-since", made)], 304, 0);
        check("/nothing", &[], 404, 27);
    }

    #[test]
    fn counts_what_it_is_asked_but_not_the_count() {
        let origin = Origin::new();
        ask(&origin, "GET", "/photo.png", &[]);
        ask(&origin, "HEAD", "/photo.png", &[]);
        ask(&origin, "GET", "/count", &[]);
        assert_eq!(ask(&origin, "POST", "/photo.png", &[]).status(), 405);
        assert_eq!(origin.requests(), 2);
        assert!(origin.count_json().contains("\"/photo.png\": 2"));
    }

    #[test]
    fn a_flood_of_paths_stays_bounded() {
        let origin = Origin::new();
        (0..1000).for_each(|n| origin.count(&format!("/{n}")));
        let counts = origin.counts.lock().unwrap();
        assert_eq!(counts.all, 1000);
        assert_eq!(counts.by_path.len(), COUNTED_PATHS + 1);
    }
}
