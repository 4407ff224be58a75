//! Step 1: what a request asks for, and what is refused before anybody is asked.

use std::net::IpAddr;
use std::sync::Arc;

use coralline_overlay::Identity;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, request};

use crate::Proxy;
use crate::fields::{CDN_LOOP, Mode, cleaned};
use crate::interim::Early;
use crate::limits::{MAX_REQUEST_BODY, MAX_REQUEST_HEAD, MAX_URI};
use crate::peer::{Asker, SCHEME};
use crate::policy::{RequestDirectives, Rules};
use crate::proving::PROOF;
use crate::reason::{Failure, Reason};
use crate::scope::Purge;
use crate::target::{Scheme, Target, Whom, decode, plain};
use crate::trailers;

/// Of a PURGE request: `hard` for a response that is to be gone, and not only stale.
const PURGE: HeaderName = HeaderName::from_static("coralline-purge");

/// Through which door a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    Client {
        tls: bool,
    },
    /// Who holds the connection, and from where.
    Peer(IpAddr, Identity),
}

/// How the client reached us, for the names in its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) tls: bool,
    pub(crate) port: Option<u16>,
}

/// A request that may be served.
pub(crate) struct Asked {
    pub(crate) method: Method,
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
    pub(crate) told: RequestDirectives,
    pub(crate) mode: Mode,
    /// What the cache may choose for this name.
    pub(crate) rules: Rules,
    /// It brings content of its own.
    pub(crate) content: bool,
    /// The client takes what comes after a body.
    pub(crate) trailers: bool,
    /// A peer has all before what it asks for.
    pub(crate) has_before: bool,
    /// The peer that asks.
    pub(crate) asker: Option<Asker>,
    /// Where interim responses go, once it is known that there may be some.
    pub(crate) early: Option<Early>,
}

impl Asked {
    pub(crate) fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// What is held may answer it.
    pub(crate) fn is_read(&self) -> bool {
        (self.is_get() || self.is_head()) && !self.content
    }
}

/// What is done with a request that was let in.
pub(crate) enum Admitted {
    /// This node's own page.
    Page(StatusCode),
    /// The resource is to be purged, by who may.
    Purge(Purge),
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
        check_size(&parts)?;
        check_framing(&parts)?;
        let content = has_content(&parts.headers);
        let read = matches!(parts.method, Method::GET | Method::HEAD);
        let authority = authority(&parts)?;
        if parts.method.as_str() == "PURGE"
            && let Entrance::Client { tls } = entrance
        {
            // It goes no further: an origin might take this node's word for it.
            if !self.may_purge(parts.headers.get(AUTHORIZATION)) {
                let detail = "purging takes the token: Authorization: Bearer";
                let denied = Failure::new(Reason::HttpRequestDenied, detail);
                return Err(denied.with_status(StatusCode::UNAUTHORIZED));
            }
            let scheme = if tls { "https" } else { "http" };
            let url = format!("{scheme}://{authority}{}", path(&parts)?);
            let hard = parts.headers.get(PURGE).is_some_and(|value| value == "hard");
            return Ok(Admitted::Purge(Purge { urls: vec![url], hard, ..Purge::default() }));
        }
        if let Entrance::Client { tls } = entrance
            && let Some(target) = self.site_target(&authority, tls, &parts)?
        {
            return self.admit_to_site(parts, target, tls, content);
        }
        if !read {
            return Err(not_allowed());
        }
        if content {
            return Err(bad("a GET or HEAD request with content is not served"));
        }
        let path = path(&parts)?;
        if let Entrance::Client { .. } = entrance {
            self.check_loop(&parts.headers)?;
        }
        let (target, client, asker) = match entrance {
            Entrance::Client { tls } => match decode(&authority, &self.suffix, tls)? {
                Whom::Node if path.path() == "/" => return Ok(Admitted::Page(StatusCode::OK)),
                Whom::Node => return Ok(Admitted::Page(StatusCode::NOT_FOUND)),
                Whom::Site { scheme, host, port } => {
                    let asked_port = authority.rsplit_once(':').and_then(|(_, p)| p.parse().ok());
                    let client = Client { tls, port: asked_port };
                    (Target { site: None, scheme, host, port, path }, Some(client), None)
                }
            },
            Entrance::Peer(ip, identity) => {
                let asker = Asker::read(&parts.headers, ip, identity);
                (peers_target(&parts.headers, &authority, path)?, None, Some(asker))
            }
        };
        let rules = Rules::suffixed(&self.cache);
        let asked = asked(parts, target, client, Mode::Suffixed, rules, content);
        Ok(Admitted::Site(Box::new(Asked { asker, ..asked })))
    }

    /// The target, if the host is one of the sites served under their own name.
    fn site_target(
        &self,
        authority: &str,
        tls: bool,
        parts: &request::Parts,
    ) -> Result<Option<Target>, Failure> {
        if self.sites.is_empty() {
            return Ok(None);
        }
        let (host, port) = plain(authority, tls)?;
        let Some(site) = self.sites.get(&host).cloned() else { return Ok(None) };
        let scheme = if tls { Scheme::Https } else { Scheme::Http };
        let path = match parts.uri.path() {
            // The server as a whole (RFC 9110, section 9.3.7); never looked up.
            "*" if parts.method == Method::OPTIONS => PathAndQuery::from_static("*"),
            _ => path(parts)?,
        };
        Ok(Some(Target { site: Some(site), scheme, host, port, path }))
    }

    fn admit_to_site(
        &self,
        parts: request::Parts,
        target: Target,
        tls: bool,
        content: bool,
    ) -> Result<Admitted, Failure> {
        self.check_loop(&parts.headers)?;
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            let detail = "neither tunnels nor echoes are served";
            let denied = Failure::new(Reason::HttpRequestDenied, detail);
            return Err(denied.with_status(StatusCode::METHOD_NOT_ALLOWED));
        }
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|text| text.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_REQUEST_BODY) {
            let detail = format!("the content is longer than {MAX_REQUEST_BODY} octets");
            return Err(bad(detail).with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let client = Some(Client { tls, port: target.port });
        let rules = Rules::site(&self.cache);
        let asked = asked(parts, target, client, Mode::Site { tls }, rules, content);
        Ok(Admitted::Site(Box::new(asked)))
    }

    fn check_loop(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if self.signature.loops(headers) {
            let cdn_loop = &CDN_LOOP;
            let detail = format!("the request has come back: {cdn_loop} names this network");
            return Err(Failure::new(Reason::ProxyLoopDetected, detail));
        }
        Ok(())
    }
}

fn asked(
    parts: request::Parts,
    target: Target,
    client: Option<Client>,
    mode: Mode,
    rules: Rules,
    content: bool,
) -> Asked {
    let told = RequestDirectives::read(&parts.headers);
    let trailers = parts.version >= Version::HTTP_11 && trailers::are_taken(&parts.headers);
    let has_before = client.is_none() && parts.headers.contains_key(PROOF);
    let (headers, selecting) = cleaned(parts.headers, mode);
    let (method, uri) = (parts.method, target.to_string().into());
    Asked {
        method,
        uri,
        target,
        headers,
        selecting,
        client,
        told,
        mode,
        rules,
        content,
        trailers,
        has_before,
        asker: None,
        early: None,
    }
}

fn not_allowed() -> Failure {
    let detail = "only GET and HEAD are served; other methods change things at a site";
    let denied = Failure::new(Reason::HttpRequestDenied, detail);
    denied.with_status(StatusCode::METHOD_NOT_ALLOWED)
}

fn path(parts: &request::Parts) -> Result<PathAndQuery, Failure> {
    match parts.uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => Ok(path.clone()),
        None if parts.uri.scheme().is_some() => Ok(PathAndQuery::from_static("/")),
        _ => Err(bad("the request target is not a path")),
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
    Ok(Target { site: None, scheme, host: host.to_owned(), port, path })
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

/// A request that two readers could take apart differently is none (RFC 9112, section 6.3). hyper refuses
/// most; here are those that it would settle by itself.
fn check_framing(parts: &request::Parts) -> Result<(), Failure> {
    let headers = &parts.headers;
    let lengths = headers.get_all(CONTENT_LENGTH);
    let one = lengths.iter().count() <= 1;
    let plain = lengths.iter().all(|line| line.as_bytes().iter().all(u8::is_ascii_digit));
    if !one || !plain {
        return Err(bad("Content-Length is given more than once, or is no number"));
    }
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    if chunked && headers.contains_key(CONTENT_LENGTH) {
        return Err(bad("Content-Length and Transfer-Encoding contradict each other"));
    }
    if chunked && parts.version < Version::HTTP_11 {
        return Err(bad("HTTP/1.0 has no Transfer-Encoding"));
    }
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let named = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let differ = host.zip(named).is_some_and(|(host, named)| !host.eq_ignore_ascii_case(named));
    if differ && parts.version == Version::HTTP_2 {
        return Err(bad("Host and :authority name different hosts"));
    }
    Ok(())
}

/// Content in GET has no meaning and may be a smuggled request (RFC 9110, section 9.3.1).
fn has_content(headers: &HeaderMap) -> bool {
    let empty = headers.get_all(CONTENT_LENGTH).iter().all(|length| length.as_bytes() == b"0");
    !empty || headers.contains_key(TRANSFER_ENCODING)
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(Reason::HttpRequestError, detail)
}
