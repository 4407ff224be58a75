//! Step 6: the origin.

use std::time::Duration;

use http::header::{HeaderMap, LOCATION};
use http::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use moka::sync::Cache;
use prometheus::IntCounter;
use tokio::time::timeout;

use crate::clock;
use crate::connect::Connector;
use crate::fields::remove_hop_by_hop;
use crate::limits::{HTTPS_FIRST_TIMEOUT, MAX_SCHEMES, SCHEME_MEMORY};
use crate::message::Source;
use crate::policy::Times;
use crate::reason::{Failure, Reason};
use crate::rewrite::upgrades_only;
use crate::target::{Scheme, Target};
use crate::upstream::{NoBody, Upstream, client_builder, failure};

/// Asks origins.
pub(crate) struct Origin {
    client: Client<Connector, NoBody>,
    /// For https tried first, where patience would only delay http.
    hasty: Client<Connector, NoBody>,
    /// What an origin turned out to speak, where the client left it open.
    schemes: Cache<String, Scheme>,
    response_timeout: Duration,
    requests: IntCounter,
}

impl Origin {
    pub(crate) fn new(
        connector: Connector,
        response_timeout: Duration,
        requests: IntCounter,
    ) -> Self {
        let timeout = connector.timeout.min(HTTPS_FIRST_TIMEOUT);
        let hasty = Connector { timeout, ..connector.clone() };
        let schemes =
            Cache::builder().max_capacity(MAX_SCHEMES).time_to_live(SCHEME_MEMORY).build();
        Self {
            client: client_builder().build(connector),
            hasty: client_builder().build(hasty),
            schemes,
            response_timeout,
            requests,
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
    ) -> Result<Upstream, Failure> {
        let (scheme, response) = match target.scheme {
            Scheme::Any => self.ask_either(method, target, headers).await?,
            scheme => (scheme, self.send(&self.client, method, scheme, target, headers).await?),
        };
        if scheme == Scheme::Http && upgrades(&response, target) {
            let upgraded = self.send(&self.client, method, Scheme::Https, target, headers).await?;
            self.remember(target, Scheme::Https);
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
    ) -> Result<(Scheme, Upstream), Failure> {
        if let Some(scheme) = self.schemes.get(&target.host) {
            let response = self.send(&self.client, method, scheme, target, headers).await;
            if response.as_ref().is_err_and(connecting) {
                self.schemes.invalidate(&target.host);
            }
            return Ok((scheme, response?));
        }
        match self.send(&self.hasty, method, Scheme::Https, target, headers).await {
            Ok(response) => {
                self.remember(target, Scheme::Https);
                Ok((Scheme::Https, response))
            }
            Err(failure) if connecting(&failure) => {
                let response =
                    self.send(&self.client, method, Scheme::Http, target, headers).await?;
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
        client: &Client<Connector, NoBody>,
        method: &Method,
        scheme: Scheme,
        target: &Target,
        headers: &HeaderMap,
    ) -> Result<Upstream, Failure> {
        let host = &target.host;
        let uri = Uri::builder()
            .scheme(scheme.word())
            .authority(target.authority())
            .path_and_query(target.path.clone())
            .build()
            .map_err(|_| Failure::new(Reason::HttpRequestError, "the URL cannot be sent on"))?;
        let mut request = Request::new(NoBody::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers.clone();
        self.requests.inc();
        let sent = clock::now();
        let response = match timeout(self.response_timeout, client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failure(host, &error)),
            Err(_) => {
                let detail = format!("{host} did not answer within {:?}", self.response_timeout);
                return Err(Failure::new(Reason::HttpResponseTimeout, detail));
            }
        };
        let times = Times { request: sent, response: clock::now() };
        let (mut head, body) = response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        refuse(host, head.status)?;
        Ok(Upstream { head, body, times, source: Source::Origin })
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
