//! Connections that turn into something else: WebSocket and the like, for sites under their own name.

use std::sync::{Arc, Mutex};

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version, request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, timeout};

use crate::Proxy;
use crate::admit::Asked;
use crate::body::ResponseBody;
use crate::fields::{remove_hop_by_hop, split_tokens};
use crate::limits::{TUNNEL_BUFFER, TUNNEL_IDLE};
use crate::message::Source;
use crate::reason::{Failure, Reason};
use crate::request::Answer;
use crate::respond::Forward;
use crate::target::Site;
use crate::upload::Upload;

/// The one protocol that a request asks to change to, where that is not another kind of HTTP: an origin
/// that took up h2c would speak to the client past this cache.
pub(crate) fn wanted_protocol(parts: &request::Parts) -> Option<HeaderValue> {
    let headers = &parts.headers;
    let asks =
        split_tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let mut lines = headers.get_all(UPGRADE).iter();
    let (protocol, more) = (lines.next()?, lines.next());
    let text = protocol.to_str().ok()?.trim().to_ascii_lowercase();
    let plain = !text.is_empty() && !text.contains(',');
    let other = !["h2c", "h2", "http/", "tls/"].iter().any(|http| text.starts_with(http));
    let asked = asks && more.is_none() && plain && other;
    (asked && parts.version == Version::HTTP_11 && parts.method == Method::GET)
        .then(|| protocol.clone())
}

impl Proxy {
    /// Asks the origin for the change; where it agrees, octets go through both ways until one side ends.
    pub(crate) async fn tunnel(
        self: &Arc<Self>,
        asked: &Asked,
        site: &Site,
        client: OnUpgrade,
        protocol: HeaderValue,
    ) -> Result<Answer, Failure> {
        let place = self.tunnels.clone().try_acquire_owned().map_err(|_| {
            let detail = "as many connections go through this node as may; try again later";
            Failure::new(Reason::ConnectionLimitReached, detail)
        })?;
        let mut request = Request::new(Upload::default());
        *request.headers_mut() = self.onward(asked);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, protocol.clone());
        let mut upstream = self.origin.forward(&asked.target, site, request, None).await?;
        if upstream.head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok((
                Source::Origin,
                self.respond_upstream(asked, upstream, Forward::Bypass, place),
            ));
        }
        let taken = upstream.head.headers.get(UPGRADE);
        let same = taken.is_some_and(|taken| {
            taken.as_bytes().trim_ascii().eq_ignore_ascii_case(protocol.as_bytes().trim_ascii())
        });
        let origin = upstream.head.extensions.remove::<OnUpgrade>().filter(|_| same);
        let origin = origin.ok_or_else(|| {
            let detail = "the origin changed to a protocol that was not asked for";
            Failure::new(Reason::HttpProtocolError, detail)
        })?;
        let closing = self.closing.clone();
        tokio::spawn(async move {
            let _place = place;
            let (Ok(client), Ok(origin)) = tokio::join!(client, origin) else { return };
            tokio::select! {
                () = relay(client, origin) => {}
                () = closing.cancelled() => {}
            }
        });
        let mut response = Response::new(ResponseBody::nothing());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let fields = response.headers_mut();
        fields.clone_from(&upstream.head.headers);
        remove_hop_by_hop(fields);
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, protocol);
        Ok((Source::Origin, response))
    }
}

/// Both directions, until one ends or both are silent.
async fn relay(client: Upgraded, origin: Upgraded) {
    let (client_in, client_out) = split(TokioIo::new(client));
    let (origin_in, origin_out) = split(TokioIo::new(origin));
    let last = Mutex::new(Instant::now());
    tokio::join!(pipe(client_in, origin_out, &last), pipe(origin_in, client_out, &last));
}

async fn pipe(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &Mutex<Instant>,
) {
    let mut buffer = vec![0; TUNNEL_BUFFER];
    let seen = || *last.lock().expect("no holder of this lock panics");
    loop {
        let left = TUNNEL_IDLE.saturating_sub(seen().elapsed());
        if left.is_zero() {
            break;
        }
        let len = match timeout(left, from.read(&mut buffer)).await {
            Ok(Ok(len)) if len > 0 => len,
            Ok(_) => break,
            Err(_) => continue,
        };
        *last.lock().expect("no holder of this lock panics") = Instant::now();
        let written = timeout(TUNNEL_IDLE, to.write_all(&buffer[..len])).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    let _ = to.shutdown().await;
}
