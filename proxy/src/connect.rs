//! How an origin is connected to: its name resolved, every address checked, TLS where asked for.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use http::{Extensions, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::guard::Guard;
use crate::limits::MAX_ADDRESSES;
use crate::reason::{Failure, Reason};

/// The system's resolver, or one that asks `nameservers`.
pub(crate) fn resolver(nameservers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let builder = if nameservers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = nameservers.iter().map(|addr| {
            let ports = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = addr.port();
                connection
            });
            NameServerConfig::new(addr.ip(), true, ports.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, Default::default())
    };
    builder.build()
}

/// Connects for the HTTP client. What it refuses or fails at is a [`Failure`].
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) resolver: TokioResolver,
    pub(crate) guard: Guard,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// For name, connection and TLS together.
    pub(crate) timeout: Duration,
    /// Places for connections.
    pub(crate) places: Arc<Semaphore>,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<OriginStream>, Failure> {
        let https = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().to_owned();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let detail = "this node has as many connections to origins as it may; try again soon";
            return Err(Failure::new(Reason::ConnectionLimitReached, detail));
        };
        let connecting = async {
            let addresses = self.addresses(&host, port).await?;
            let tcp = self.open(&host, &addresses).await?;
            let stream = if https { self.encrypt(&host, tcp).await? } else { Layer::Plain(tcp) };
            Ok(OriginStream { stream, _place: place })
        };
        let late = || {
            let detail = format!("no connection to {host} within {:?}", self.timeout);
            Failure::new(Reason::ConnectionTimeout, detail)
        };
        timeout(self.timeout, connecting).await.unwrap_or_else(|_| Err(late())).map(TokioIo::new)
    }

    /// The addresses of a name that may be connected to; at least one.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            let addr = SocketAddr::new(ip, port);
            let detail = || format!("{host} is an address that is not proxied");
            let refused = || Failure::new(Reason::DestinationIpProhibited, detail());
            return self.guard.allows(addr).then(|| vec![addr]).ok_or_else(refused);
        }
        // A final dot keeps the search list of the system out of it.
        let found = self.resolver.lookup_ip(format!("{host}.")).await;
        let found = found.map_err(|error| dns_failure(host, &error))?;
        let (allowed, refused): (Vec<_>, Vec<_>) = found
            .iter()
            .map(|ip| SocketAddr::new(ip, port))
            .partition(|addr| self.guard.allows(*addr));
        if !allowed.is_empty() {
            return Ok(interleave(allowed));
        }
        Err(match refused.first() {
            Some(addr) => {
                let detail = format!("{host} is at {}, an address that is not proxied", addr.ip());
                Failure::new(Reason::DestinationIpProhibited, detail)
            }
            None => Failure::new(Reason::DnsError, format!("{host} has no address")),
        })
    }

    async fn open(&self, host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
        // Each is given a share of the time, and TLS one too, so that a dead one does not use it up.
        let share = self.timeout / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
        let mut last = None;
        for addr in addresses {
            match timeout(share, TcpStream::connect(addr)).await {
                Ok(Ok(tcp)) => {
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Ok(Err(error)) => last = Some(tcp_failure(host, &error)),
                Err(_) => {
                    let detail = format!("{host} did not answer");
                    last = Some(Failure::new(Reason::ConnectionTimeout, detail));
                }
            }
        }
        Err(last.expect("there is at least one address"))
    }

    async fn encrypt(&self, host: &str, tcp: TcpStream) -> Result<Layer, Failure> {
        let name =
            ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| {
                Failure::new(Reason::TlsProtocolError, format!("{host} is no name for TLS"))
            })?;
        match TlsConnector::from(self.tls.clone()).connect(name, tcp).await {
            Ok(tls) => Ok(Layer::Tls(Box::new(tls))),
            Err(error) => Err(tls_failure(host, &error)),
        }
    }
}

/// Takes families in turn, as a dead family is likelier than two dead hosts (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let mut families = [v6.into_iter(), v4.into_iter()];
    let mut mixed = Vec::new();
    while mixed.len() < MAX_ADDRESSES {
        let before = mixed.len();
        mixed.extend(families.iter_mut().filter_map(Iterator::next));
        if mixed.len() == before {
            break;
        }
    }
    mixed.truncate(MAX_ADDRESSES);
    mixed
}

fn dns_failure(host: &str, error: &NetError) -> Failure {
    match error {
        NetError::Timeout => {
            let detail = format!("no name server answered for {host} in time");
            Failure::new(Reason::DnsTimeout, detail)
        }
        error if error.is_no_records_found() || error.is_nx_domain() => {
            Failure::new(Reason::DnsError, format!("there is no host {host}"))
        }
        error => Failure::new(Reason::DnsError, format!("{host} could not be resolved: {error}")),
    }
}

fn tcp_failure(host: &str, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
        io::ErrorKind::TimedOut => Reason::ConnectionTimeout,
        io::ErrorKind::ConnectionReset => Reason::ConnectionTerminated,
        _ => Reason::ConnectionRefused,
    };
    Failure::new(reason, format!("{host} could not be connected to: {error}"))
}

fn tls_failure(host: &str, error: &io::Error) -> Failure {
    let cause = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let reason = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Reason::TlsCertificateError,
        Some(_) => Reason::TlsProtocolError,
        None if error.kind() == io::ErrorKind::UnexpectedEof => Reason::TlsProtocolError,
        None => Reason::ConnectionTerminated,
    };
    Failure::new(reason, format!("TLS with {host} failed: {error}"))
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<OriginStream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection to an origin, and its place among them.
pub(crate) struct OriginStream {
    stream: Layer,
    _place: OwnedSemaphorePermit,
}

/// Whether a connection has carried a request before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Used(Arc<AtomicBool>);

impl Used {
    /// Of this connection; from now on it has.
    pub(crate) fn mark(connection: &Connected) -> bool {
        let mut extras = Extensions::new();
        connection.get_extras(&mut extras);
        extras.get::<Self>().is_some_and(|used| used.0.swap(true, Ordering::Relaxed))
    }
}

enum Layer {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for OriginStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(Used::default())
    }
}

impl AsyncRead for OriginStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Layer::Plain(tcp) => Pin::new(tcp).poll_read(context, buf),
            Layer::Tls(tls) => Pin::new(tls.as_mut()).poll_read(context, buf),
        }
    }
}

impl AsyncWrite for OriginStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Layer::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Layer::Tls(tls) => Pin::new(tls.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Layer::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Layer::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Layer::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Layer::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn families_take_turns_and_are_bounded() {
        let v4 = |n: u8| SocketAddr::new(IpAddr::from([192, 0, 2, n]), 80);
        let v6 = |n: u16| SocketAddr::new(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]), 80);
        assert_eq!(interleave(vec![v4(1), v4(2), v6(1)]), [v6(1), v4(1), v4(2)]);
        assert_eq!(interleave((0..9).map(v4).collect()).len(), MAX_ADDRESSES);
        assert_eq!(interleave(Vec::new()), []);
    }
}
