//! Why a request ended without the response that was asked for, in the words of RFC 9209.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

/// A proxy error type of RFC 9209, section 2.3; the same word is the header value and the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// No answer from the name server in time.
    DnsTimeout,
    /// The name server said that the name does not exist, or failed.
    DnsError,
    /// The name led to an address that must not be reached through us.
    DestinationIpProhibited,
    /// The origin refused the connection.
    ConnectionRefused,
    /// The origin closed the connection before its response began.
    ConnectionTerminated,
    /// No connection in time.
    ConnectionTimeout,
    /// We hold as many fetches or connections as we may.
    ConnectionLimitReached,
    /// TLS could not be agreed on.
    TlsProtocolError,
    /// The origin's certificate is not valid for its name.
    TlsCertificateError,
    /// The client's request is not one that can be served.
    HttpRequestError,
    /// The client's request is one that this service does not do for anybody.
    HttpRequestDenied,
    /// The response broke off.
    HttpResponseIncomplete,
    /// The response's header section was too large.
    HttpResponseHeaderSectionSize,
    /// No response in time.
    HttpResponseTimeout,
    /// What came back was not HTTP.
    HttpProtocolError,
    /// The request has been here before.
    ProxyLoopDetected,
    /// The response was made here: only-if-cached, and nothing held.
    ProxyInternalResponse,
    /// A fault of our own.
    ProxyInternalError,
}

impl Reason {
    /// Every reason, for metrics that exist before the first failure.
    pub(crate) const ALL: [Self; 18] = [
        Self::DnsTimeout,
        Self::DnsError,
        Self::DestinationIpProhibited,
        Self::ConnectionRefused,
        Self::ConnectionTerminated,
        Self::ConnectionTimeout,
        Self::ConnectionLimitReached,
        Self::TlsProtocolError,
        Self::TlsCertificateError,
        Self::HttpRequestError,
        Self::HttpRequestDenied,
        Self::HttpResponseIncomplete,
        Self::HttpResponseHeaderSectionSize,
        Self::HttpResponseTimeout,
        Self::HttpProtocolError,
        Self::ProxyLoopDetected,
        Self::ProxyInternalResponse,
        Self::ProxyInternalError,
    ];

    /// The word of RFC 9209.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::DnsTimeout => "dns_timeout",
            Self::DnsError => "dns_error",
            Self::DestinationIpProhibited => "destination_ip_prohibited",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::HttpRequestError => "http_request_error",
            Self::HttpRequestDenied => "http_request_denied",
            Self::HttpResponseIncomplete => "http_response_incomplete",
            Self::HttpResponseHeaderSectionSize => "http_response_header_section_size",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpProtocolError => "http_protocol_error",
            Self::ProxyLoopDetected => "proxy_loop_detected",
            Self::ProxyInternalResponse => "proxy_internal_response",
            Self::ProxyInternalError => "proxy_internal_error",
        }
    }

    /// The status that RFC 9209 recommends for it; 400 and 403 where it leaves the choice to us.
    #[must_use]
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::DnsTimeout | Self::ConnectionTimeout | Self::HttpResponseTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::ProxyInternalResponse => StatusCode::GATEWAY_TIMEOUT,
            Self::ConnectionLimitReached => StatusCode::SERVICE_UNAVAILABLE,
            Self::HttpRequestError => StatusCode::BAD_REQUEST,
            Self::HttpRequestDenied => StatusCode::FORBIDDEN,
            Self::ProxyLoopDetected => StatusCode::LOOP_DETECTED,
            Self::ProxyInternalError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether the origin, and not the request, is at fault, so that a stale copy may stand in (RFC 5861, section 4).
    #[must_use]
    pub(crate) fn is_upstream(self) -> bool {
        self.status().is_server_error()
            && !matches!(
                self,
                Self::ProxyLoopDetected
                    | Self::ProxyInternalResponse
                    | Self::ProxyInternalError
                    | Self::DestinationIpProhibited
            )
    }
}

/// One failed request: the reason, the status for the client, and a sentence for a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Why.
    pub reason: Reason,
    /// What the client is told.
    pub status: StatusCode,
    /// One sentence; it may hold what the client or the origin sent and is escaped where it is shown.
    pub detail: Cow<'static, str>,
    /// What was held has turned out to be outdated: whoever has had nothing of it may ask once more.
    pub again: bool,
}

impl Failure {
    /// A failure with the reason's own status.
    pub(crate) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, status: reason.status(), detail: detail.into(), again: false }
    }

    /// The same with another status.
    #[must_use]
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.word(), self.detail)
    }
}

impl std::error::Error for Failure {}
