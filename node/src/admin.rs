//! The admin listener: metrics, health, status and purge, on loopback by default.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use coralline_proxy::PurgeError;
use http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, VARY,
    WWW_AUTHENTICATE,
};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::TextEncoder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::limits::{
    ACCEPT_PAUSE, ADMIN_CONNECTION_LIFE, ADMIN_CONNECTIONS, ADMIN_HEAD_TIMEOUT, MAX_ADMIN_BODY,
};
use crate::purge;
use crate::status::View;

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers until `end`; gives the name of this part.
pub(crate) async fn serve(
    listener: TcpListener,
    view: Arc<View>,
    end: CancellationToken,
) -> &'static str {
    let room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    let accept = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Beyond the limit a connection is closed at once: scrapers try again.
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
            let (view, end) = (Arc::clone(&view), end.clone());
            tokio::spawn(async move {
                end.run_until_cancelled(timeout(ADMIN_CONNECTION_LIFE, talk(stream, view))).await;
                drop(permit);
            });
        }
    };
    end.run_until_cancelled(accept).await;
    "the admin listener"
}

async fn talk(stream: TcpStream, view: Arc<View>) {
    let loopback = stream.local_addr().is_ok_and(|addr| addr.ip().is_loopback());
    let service = service_fn(move |request: Request<_>| {
        let view = Arc::clone(&view);
        let foreign = loopback && !names_loopback(request.headers());
        async move {
            Ok::<_, Infallible>(if foreign {
                let text = "here is only what is asked for as localhost or by address\n";
                reply(StatusCode::MISDIRECTED_REQUEST, TEXT, text)
            } else if request.uri().path() == "/purge" {
                purge(request, &view).await
            } else {
                answer(&request, &view)
            })
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(ADMIN_HEAD_TIMEOUT);
    // How the connection ends is the client's affair.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn answer<B>(request: &Request<B>, view: &View) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/livez" => reply(StatusCode::OK, TEXT, "alive\n"),
        "/readyz" => match view.health().readiness() {
            Ok(()) => reply(StatusCode::OK, TEXT, "ready\n"),
            Err(reason) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        },
        "/metrics" => {
            let text = TextEncoder::new().encode_to_string(&view.registry().gather());
            let text = text.expect("what the registry has accepted can be written");
            reply(StatusCode::OK, prometheus::TEXT_FORMAT, text)
        }
        "/status" => {
            let status = view.status();
            let mut page = if prefers_html(request.headers()) {
                reply(StatusCode::OK, "text/html; charset=utf-8", status.html())
            } else {
                reply(StatusCode::OK, "application/json", status.json())
            };
            page.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
            page
        }
        _ => {
            reply(StatusCode::NOT_FOUND, TEXT, "here are /status /metrics /livez /readyz /purge\n")
        }
    }
}

/// `POST /purge`: the one thing here that changes something, for who has the token.
async fn purge(request: Request<Incoming>, view: &View) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        let mut refusal = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "POST only\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    if !view.proxy().may_purge(request.headers().get(AUTHORIZATION)) {
        let text =
            "the token is wanted: Authorization: Bearer, and what is in admin.token in state_dir\n";
        let mut refusal = reply(StatusCode::UNAUTHORIZED, TEXT, text);
        refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refusal;
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_ADMIN_BODY).collect().await else {
        let text = format!("a body of at most {MAX_ADMIN_BODY} octets is wanted; purge in parts\n");
        return reply(StatusCode::PAYLOAD_TOO_LARGE, TEXT, text);
    };
    let wanted = match purge::Body::parse(&body.to_bytes()) {
        Ok(wanted) => wanted,
        Err(error) => return reply(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
    };
    match view.proxy().purge(&wanted).await {
        Ok(()) => reply(StatusCode::OK, TEXT, "purged\n"),
        Err(error @ PurgeError::Full) => {
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n"))
        }
        Err(error @ PurgeError::NotWritten) => {
            reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n"))
        }
        Err(error) => reply(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
    }
}

fn reply(
    status: StatusCode,
    kind: &'static str,
    content: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether Host is an address or localhost. On loopback anything else is a page from elsewhere whose name
/// server points here, to read what is not for it. Browsers send the field; a plain probe may not.
fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(HOST) else { return true };
    let host = value.to_str().ok();
    let Some(authority) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let name = authority.host().to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

/// Whether the client names HTML with a weight at least that of JSON (RFC 9110, section 12.5.1).
/// `*/*`, as curl and scrapers send it, means JSON.
fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let (mut html, mut json) = (0.0, 0.0);
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
        let weight: f32 = weight.parse().unwrap_or(0.0);
        if kind.eq_ignore_ascii_case("text/html") {
            html = weight;
        } else if kind.eq_ignore_ascii_case("application/json") {
            json = weight;
        }
    }
    html > 0.0 && html >= json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expect: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        assert_eq!(prefers_html(&headers), expect, "{accept}");
    }

    #[test]
    fn a_page_from_elsewhere_reads_nothing() {
        let check = |host: &'static str, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            assert_eq!(names_loopback(&headers), expect, "{host}");
        };
        check("127.0.0.1:7480", true);
        check("[::1]:7480", true);
        check("Localhost", true);
        check("node.localhost:1", true);
        check("evil.example:7480", false);
        check("127.0.0.1.evil.example", false);
        check("", false);
        assert!(names_loopback(&HeaderMap::new()));
    }

    #[test]
    fn people_get_a_page_and_programs_json() {
        assert!(!prefers_html(&HeaderMap::new()));
        check("*/*", false);
        check("application/json", false);
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true);
        check("application/json, text/html;q=0.5", false);
        check("text/html;q=0", false);
        check("Text/HTML ; q=0.7, */*", true);
        check(",;q=,", false);
    }
}
