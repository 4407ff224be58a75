//! Step 1: what a request asks for, and what is refused before anybody is asked.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, request};

use crate::Proxy;
use crate::directives::Directives;
use crate::fields::{CDN_LOOP, cleaned};
use crate::limits::{MAX_REQUEST_HEAD, MAX_URI};
use crate::peer::SCHEME;
use crate::reason::{Failure, Reason};
use crate::target::{Scheme, Target, Whom, decode};

/// Through which door a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    Client { tls: bool },
    Peer,
}

/// How the client reached us, for the names in its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) tls: bool,
    pub(crate) port: Option<u16>,
}

/// A request that may be served.
pub(crate) struct Asked {
    pub(crate) get: bool,
    pub(crate) target: Target,
    /// The target URI: the cache key.
    pub(crate) uri: Arc<str>,
    /// Cleaned: what an origin may see, and all that the cache judges by.
    pub(crate) headers: HeaderMap,
    /// The client's preconditions and ranges.
    pub(crate) selecting: HeaderMap,
    /// Nothing for a peer.
    pub(crate) client: Option<Client>,
    /// The client's directives.
    pub(crate) told: Directives,
}

/// What is done with a request that was let in.
pub(crate) enum Admitted {
    /// This node's own page.
    Page(StatusCode),
    Site(Box<Asked>),
}

impl Proxy {
    /// Step 1.
    ///
    /// # Errors
    /// 4xx for what cannot be read or is not served, 508 for what has been here before.
    pub(crate) fn admit(
        &self,
        parts: request::Parts,
        entrance: Entrance,
    ) -> Result<Admitted, Failure> {
        let get = match parts.method {
            Method::GET => true,
            Method::HEAD => false,
            _ => {
                let detail = "only GET and HEAD are served; other methods change things at a site";
                let denied = Failure::new(Reason::HttpRequestDenied, detail);
                return Err(denied.with_status(StatusCode::METHOD_NOT_ALLOWED));
            }
        };
        check_size(&parts)?;
        check_no_content(&parts.headers)?;
        let authority = authority(&parts)?;
        let path = match parts.uri.path_and_query() {
            Some(path) if path.as_str().starts_with('/') => path.clone(),
            None if parts.uri.scheme().is_some() => PathAndQuery::from_static("/"),
            _ => return Err(bad("the request target is not a path")),
        };
        if self.signature.loops(&parts.headers) && entrance != Entrance::Peer {
            let cdn_loop = &CDN_LOOP;
            let detail = format!("the request has come back: {cdn_loop} names this network");
            return Err(Failure::new(Reason::ProxyLoopDetected, detail));
        }
        let (target, client) = match entrance {
            Entrance::Client { tls } => match decode(&authority, &self.suffix, tls)? {
                Whom::Node if path.path() == "/" => return Ok(Admitted::Page(StatusCode::OK)),
                Whom::Node => return Ok(Admitted::Page(StatusCode::NOT_FOUND)),
                Whom::Site { scheme, host, port } => {
                    let asked_port = authority.rsplit_once(':').and_then(|(_, p)| p.parse().ok());
                    let client = Client { tls, port: asked_port };
                    (Target { scheme, host, port, path }, Some(client))
                }
            },
            Entrance::Peer => (peers_target(&parts.headers, &authority, path)?, None),
        };
        let told = Directives::read(&parts.headers);
        let (headers, selecting) = cleaned(parts.headers);
        let uri = target.to_string().into();
        let asked = Asked { get, uri, target, headers, selecting, client, told };
        Ok(Admitted::Site(Box::new(asked)))
    }
}

/// A peer names the target itself, without the suffix, and its scheme in a field of ours.
fn peers_target(
    headers: &HeaderMap,
    authority: &str,
    path: PathAndQuery,
) -> Result<Target, Failure> {
    let word = headers.get(SCHEME).and_then(|value| value.to_str().ok());
    let scheme = word.and_then(Scheme::from_word).ok_or(bad("no scheme is named"))?;
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => {
            let port = port.parse().map_err(|_| bad("the port is no port"))?;
            (host, Some(port))
        }
        None => (authority, None),
    };
    Ok(Target { scheme, host: host.to_owned(), port, path })
}

/// The host that is asked for: the absolute form's, else the one Host field (RFC 9112, section 3.2).
fn authority(parts: &request::Parts) -> Result<String, Failure> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(bad("the request has more than one Host field"));
    }
    if let Some(authority) = parts.uri.authority() {
        return Ok(authority.as_str().to_owned());
    }
    let line = line.ok_or(bad("the request has no Host field"))?;
    line.to_str().map(str::to_owned).map_err(|_| bad("the Host field is not ASCII"))
}

fn check_size(parts: &request::Parts) -> Result<(), Failure> {
    let uri = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if uri > MAX_URI {
        let detail = format!("the URL is longer than {MAX_URI} octets");
        return Err(bad(detail).with_status(StatusCode::URI_TOO_LONG));
    }
    let fields: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if fields > MAX_REQUEST_HEAD {
        let detail = format!("the header section is longer than {MAX_REQUEST_HEAD} octets");
        return Err(bad(detail).with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    Ok(())
}

/// Content in GET has no meaning and may be a smuggled request (RFC 9110, section 9.3.1).
fn check_no_content(headers: &HeaderMap) -> Result<(), Failure> {
    let empty = headers.get_all(CONTENT_LENGTH).iter().all(|length| length.as_bytes() == b"0");
    if !empty || headers.contains_key(TRANSFER_ENCODING) {
        return Err(bad("a GET or HEAD request with content is not served"));
    }
    Ok(())
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(Reason::HttpRequestError, detail)
}
