//! Step 6: the origin.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::header::{
    AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use moka::sync::Cache;
use prometheus::IntCounter;
use tokio::time::timeout;

use crate::clock;
use crate::connect::{Connector, Used};
use crate::fields::remove_hop_by_hop;
use crate::interim::Early;
use crate::limits::{
    FAILING_MAX, FAILING_MIN, HTTPS_FIRST_TIMEOUT, MAX_FAILING, MAX_SCHEMES, SCHEME_MEMORY,
    STALE_TRIES,
};
use crate::message::Source;
use crate::policy::Times;
use crate::reason::{Failure, Reason};
use crate::rewrite::upgrades_only;
use crate::target::{Scheme, Site, Target};
use crate::trailers;
use crate::upload::Upload;
use crate::upstream::{Counted, Upstream, UpstreamBody, client_builder, failure};

/// Asks origins.
pub(crate) struct Origin {
    client: Client<Connector, Upload>,
    /// For https tried first, where patience would only delay http.
    hasty: Client<Connector, Upload>,
    /// For sites, whose origins the operator has named: they may be private. Its connections are its own.
    sites: Client<Connector, Upload>,
    /// What an origin turned out to speak, where the client left it open.
    schemes: Cache<String, Scheme>,
    /// Origins that could not be connected to, by scheme and authority.
    failing: Cache<String, Arc<Failing>>,
    response_timeout: Duration,
    requests: IntCounter,
    /// Those of them that were sent again.
    retries: IntCounter,
    received: IntCounter,
}

/// A request, which counts once there was a connection for it: then the origin may have seen it, whatever
/// comes of it.
struct Counting<'a> {
    connection: CaptureConnection,
    requests: &'a IntCounter,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        if self.connection.connection_metadata().is_some() {
            self.requests.inc();
        }
    }
}

/// Why there is no response.
struct Undelivered {
    failure: Failure,
    /// The origin closed a connection that had been kept.
    on_kept: bool,
}

impl From<Failure> for Undelivered {
    fn from(failure: Failure) -> Self {
        Self { failure, on_kept: false }
    }
}

impl From<Undelivered> for Failure {
    fn from(undelivered: Undelivered) -> Self {
        undelivered.failure
    }
}

/// An origin that cannot be connected to.
struct Failing {
    failure: Failure,
    /// It is left alone until then.
    until: SystemTime,
    pause: Duration,
}

impl Origin {
    /// `sites` connects to the origins that the operator has named.
    pub(crate) fn new(
        connector: Connector,
        sites: Connector,
        response_timeout: Duration,
        [requests, retries]: [IntCounter; 2],
        received: IntCounter,
    ) -> Self {
        let timeout = connector.timeout.min(HTTPS_FIRST_TIMEOUT);
        let hasty = Connector { timeout, ..connector.clone() };
        let schemes =
            Cache::builder().max_capacity(MAX_SCHEMES).time_to_live(SCHEME_MEMORY).build();
        Self {
            client: client_builder().build(connector),
            hasty: client_builder().build(hasty),
            sites: client_builder().build(sites),
            schemes,
            failing: Cache::builder()
                .max_capacity(MAX_FAILING)
                .time_to_live(FAILING_MAX * 2)
                .build(),
            response_timeout,
            requests,
            retries,
            received,
        }
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
        early: Option<&Early>,
    ) -> Result<Upstream, Failure> {
        if let Some(site) = &target.site {
            let mut request = Request::new(Upload::default());
            *request.method_mut() = method.clone();
            *request.headers_mut() = headers.clone();
            return self.forward(target, site, request, early).await;
        }
        let (scheme, response) = match target.scheme {
            Scheme::Any => self.ask_either(method, target, headers, early).await?,
            scheme => {
                (scheme, self.send(&self.client, method, scheme, target, headers, early).await?)
            }
        };
        if scheme == Scheme::Http && upgrades(&response, target) {
            let upgraded =
                self.send(&self.client, method, Scheme::Https, target, headers, early).await?;
            self.remember(target, Scheme::Https);
            response.body.discard();
            return Ok(upgraded);
        }
        Ok(response)
    }

    /// https if the origin has it, else http; remembered.
    async fn ask_either(
        &self,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
        early: Option<&Early>,
    ) -> Result<(Scheme, Upstream), Failure> {
        if let Some(scheme) = self.schemes.get(&target.host) {
            let response = self.send(&self.client, method, scheme, target, headers, early).await;
            if response.as_ref().is_err_and(connecting) {
                self.schemes.invalidate(&target.host);
            }
            return Ok((scheme, response?));
        }
        match self.send(&self.hasty, method, Scheme::Https, target, headers, early).await {
            Ok(response) => {
                self.remember(target, Scheme::Https);
                Ok((Scheme::Https, response))
            }
            Err(failure) if connecting(&failure) => {
                let response =
                    self.send(&self.client, method, Scheme::Http, target, headers, early).await?;
                self.remember(target, Scheme::Http);
                Ok((Scheme::Http, response))
            }
            Err(failure) => Err(failure),
        }
    }

    fn remember(&self, target: &Target, scheme: Scheme) {
        if target.scheme == Scheme::Any {
            self.schemes.insert(target.host.clone(), scheme);
        }
    }

    async fn send(
        &self,
        client: &Client<Connector, Upload>,
        method: &Method,
        scheme: Scheme,
        target: &Target,
        headers: &HeaderMap,
        early: Option<&Early>,
    ) -> Result<Upstream, Failure> {
        let mut tries = 0;
        let upstream = loop {
            let mut request = Request::new(Upload::default());
            *request.method_mut() = method.clone();
            *request.headers_mut() = headers.clone();
            if let Some(early) = early {
                early.listen(&mut request);
            }
            tries += 1;
            match self.deliver(client, scheme, &target.authority(), target, request).await {
                // It was closed while this was on its way (RFC 9110, section 9.2.2).
                Err(failed) if failed.on_kept && tries < STALE_TRIES => self.retries.inc(),
                answer => break answer?,
            }
        };
        match refuse(&target.host, upstream.head.status) {
            Ok(()) => Ok(upstream),
            Err(failure) => {
                upstream.body.discard();
                Err(failure)
            }
        }
    }

    /// Sends a client's own request to the origin of a site: any method, with its content.
    ///
    /// # Errors
    /// Why there is no response.
    pub(crate) async fn forward(
        &self,
        target: &Target,
        site: &Site,
        mut request: Request<Upload>,
        early: Option<&Early>,
    ) -> Result<Upstream, Failure> {
        if let Some(early) = early {
            early.listen(&mut request);
        }
        // The site's own name, by which its origin tells it from others.
        if let Ok(host) = HeaderValue::from_str(&target.authority()) {
            request.headers_mut().insert(HOST, host);
        }
        Ok(self.deliver(&self.sites, site.scheme, &site.authority, target, request).await?)
    }

    async fn deliver(
        &self,
        client: &Client<Connector, Upload>,
        scheme: Scheme,
        authority: &str,
        target: &Target,
        mut request: Request<Upload>,
    ) -> Result<Upstream, Undelivered> {
        let host = &target.host;
        let path = target.path.as_str();
        *request.uri_mut() = Uri::builder()
            .scheme(scheme.word())
            .authority(authority)
            // The legacy client knows no asterisk form; the root is next to it.
            .path_and_query(if path == "*" { "/" } else { path })
            .build()
            .map_err(|_| Failure::new(Reason::HttpRequestError, "the URL cannot be sent on"))?;
        let origin = format!("{}://{authority}", scheme.word());
        let failing = self.failing.get(&origin);
        if let Some(failing) = failing.as_ref().filter(|failing| clock::now() < failing.until) {
            return Err(failing.failure.clone().into());
        }
        trailers::ask_for(&mut request);
        let sent = clock::now();
        let progress = request.body().progress();
        let upgrade = request.headers().contains_key(UPGRADE);
        let bound = binds_connection(request.headers(), &AUTHORIZATION);
        let connection = capture_connection(&mut request);
        let sending = Counting { connection, requests: &self.requests };
        let answer = within(self.response_timeout, &progress, client.request(request)).await;
        let kept = sending.connection.connection_metadata().as_ref().is_some_and(Used::mark);
        let response = match answer {
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                let failure = failure(host, &error);
                if error.is_connect() && connecting(&failure) {
                    self.leave_alone(origin, &failure, failing.as_deref());
                }
                let on_kept = kept && failure.reason == Reason::ConnectionTerminated;
                return Err(Undelivered { failure, on_kept });
            }
            None => {
                let detail = format!("{host} did not answer within {:?}", self.response_timeout);
                return Err(Failure::new(Reason::HttpResponseTimeout, detail).into());
            }
        };
        if failing.is_some() {
            self.failing.invalidate(&origin);
        }
        let times = Times { request: sent, response: clock::now() };
        let (mut head, body) = response.into_parts();
        if (bound || binds_connection(&head.headers, &WWW_AUTHENTICATE))
            && let Some(connection) = &*sending.connection.connection_metadata()
        {
            connection.poison();
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS && !upgrade {
            let detail = format!("{host} changed to another protocol without being asked");
            return Err(Failure::new(Reason::HttpProtocolError, detail).into());
        }
        // An upgrade is of this connection, and is what the client asked for.
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            remove_hop_by_hop(&mut head.headers);
        }
        let body = UpstreamBody::Plain(Counted::new(body, self.received.clone()));
        Ok(Upstream { head, body, times, source: Source::Origin, peer: None })
    }

    fn leave_alone(&self, origin: String, failure: &Failure, before: Option<&Failing>) {
        let pause = before.map_or(FAILING_MIN, |before| (before.pause * 2).min(FAILING_MAX));
        let (failure, until) = (failure.clone(), clock::now() + pause);
        self.failing.insert(origin, Arc::new(Failing { failure, until, pause }));
    }
}

/// Whether an authentication scheme is about the connection, and not the request: NTLM, and Negotiate where
/// it ends in that (RFC 4559, section 6). Whoever comes next on it would be taken for the one who logged in,
/// so that nobody does.
fn binds_connection(headers: &HeaderMap, field: &HeaderName) -> bool {
    let schemes = headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
    schemes
        .flat_map(|value| value.split([',', ' ']))
        .any(|word| word.eq_ignore_ascii_case("ntlm") || word.eq_ignore_ascii_case("negotiate"))
}

/// Waits for an answer no longer than `limit`, which begins anew as long as octets go up.
async fn within<T>(
    limit: Duration,
    progress: &AtomicU64,
    answer: impl Future<Output = T>,
) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        let before = progress.load(Ordering::Relaxed);
        match timeout(limit, &mut answer).await {
            Ok(answer) => return Some(answer),
            Err(_) if progress.load(Ordering::Relaxed) > before => {}
            Err(_) => return None,
        }
    }
}

/// Responses that have no place here: those that ask for a password, which no reader should give to a
/// stranger's machine, and those that belong to an upgrade or to another proxy.
fn refuse(host: &str, status: StatusCode) -> Result<(), Failure> {
    let (reason, detail) = match status {
        StatusCode::UNAUTHORIZED => {
            (Reason::HttpRequestDenied, format!("{host} asks for a login, which is not carried"))
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            (Reason::HttpProtocolError, format!("{host} answered as a proxy"))
        }
        status if status.is_informational() => {
            (Reason::HttpProtocolError, format!("{host} answered {status} and nothing more"))
        }
        _ => return Ok(()),
    };
    Err(Failure::new(reason, detail))
}

/// The connection failed, not the name and not the exchange: another scheme may fare better.
fn connecting(failure: &Failure) -> bool {
    matches!(
        failure.reason,
        Reason::ConnectionRefused
            | Reason::ConnectionTimeout
            | Reason::ConnectionTerminated
            | Reason::TlsProtocolError
            | Reason::TlsCertificateError
    )
}

/// The response is only a redirect to the same resource over https, which is followed here, once.
fn upgrades(response: &Upstream, target: &Target) -> bool {
    let status = response.head.status;
    let moved = matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.head.headers.get(LOCATION).and_then(|value| value.to_str().ok());
    moved
        && target.port.is_none()
        && location.is_some_and(|to| upgrades_only(to, &target.host, target.path.as_str()))
}
