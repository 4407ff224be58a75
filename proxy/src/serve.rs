//! The doors: listeners for clients and for peers, bounded in connections, heads and time.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use coralline_overlay::Handle;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use prometheus::IntGauge;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::admit::Entrance;
use crate::interim::{Interleaved, Line};
use crate::limits::{
    ACCEPT_PAUSE, H2_PING, H2_SEND_BUFFER, HEAD_TIMEOUT, MAX_FIELDS, MAX_H2_STREAMS,
    MAX_PEER_STREAMS, MAX_REQUEST_HEAD, REQUEST_BUFFER, TLS_HANDSHAKE_TIMEOUT,
};
use crate::peer::{identity_of, peer_acceptor};
use crate::setup::crypto;
use crate::{Proxy, StartError};

/// Who comes in by a listener.
#[derive(Clone)]
pub enum Door {
    /// Clients, in plain HTTP/1.1 or HTTP/2.
    Http,
    /// Clients, over TLS.
    Https(TlsAcceptor),
    /// Other nodes, in HTTP/2 over TLS with their identities as keys.
    Peer(TlsAcceptor),
}

impl Door {
    /// The door for `[https]`.
    ///
    /// # Errors
    /// The certificate or the key cannot be read, or do not fit.
    pub fn https(config: &coralline_config::Https) -> Result<Self, StartError> {
        let unreadable = |key: &'static str, path: &Path, error: &dyn std::fmt::Display| {
            StartError::Pem { key, path: path.to_owned(), error: error.to_string() }
        };
        let (Some(chain_path), Some(key_path)) = (&config.certificate, &config.key) else {
            return Err(StartError::NoCertificate);
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(chain_path)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable("https.certificate", chain_path, &error))?;
        let key = PrivateKeyDer::from_pem_file(key_path)
            .map_err(|error| unreadable("https.key", key_path, &error))?;
        let mut tls = rustls::ServerConfig::builder_with_provider(crypto())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| unreadable("https.certificate", chain_path, &error))?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self::Https(TlsAcceptor::from(Arc::new(tls))))
    }

    /// The door for `[peer]` of the node that `index` knows.
    #[must_use]
    pub fn peer(index: &Handle) -> Self {
        Self::Peer(peer_acceptor(index))
    }
}

impl Proxy {
    /// Accepts until `shutdown`, then waits for the responses under way. The caller sets the deadline:
    /// dropping the future breaks off what is left.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        door: Door,
        shutdown: CancellationToken,
    ) {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                    continue;
                }
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, addr)) => {
                    let admitted = self.admit_connection(stream, addr.ip(), &door, &graceful);
                    if let Some(conversation) = admitted {
                        connections.spawn(conversation);
                    }
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those in use have to end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        graceful.shutdown().await;
    }

    /// Nothing, and the connection closed, where there is no place for it.
    fn admit_connection(
        self: &Arc<Self>,
        stream: TcpStream,
        ip: IpAddr,
        door: &Door,
        graceful: &GracefulShutdown,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let is_peer = matches!(door, Door::Peer(_));
        let slots = if is_peer { &self.peer_slots } else { &self.client_slots };
        let places = match is_peer {
            true => self.peer_prefixes.enter(ip).zip(self.handshake_prefixes.enter(ip)),
            false => Some((None, None)),
        };
        let (Some((place, handshake)), Ok(slot)) = (places, slots.clone().try_acquire_owned())
        else {
            let metrics = &self.metrics;
            let refused =
                if is_peer { &metrics.refused_peers } else { &metrics.refused_connections };
            refused.inc();
            return None;
        };
        let _ = stream.set_nodelay(true);
        let open = Open::new(slot, (!is_peer).then_some(&self.metrics.connections));
        let (proxy, watcher, door) = (self.clone(), graceful.watcher(), door.clone());
        Some(async move {
            let (_open, _place) = (open, place);
            let (Door::Https(acceptor) | Door::Peer(acceptor)) = door else {
                let entrance = Entrance::Client { tls: false };
                return proxy.converse(stream, entrance, watcher).await;
            };
            let accepted = timeout(TLS_HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            drop(handshake);
            match accepted {
                Ok(Ok(tls)) => {
                    let entrance = match (is_peer, identity_of(tls.get_ref().1)) {
                        (false, _) => Entrance::Client { tls: true },
                        (true, Some(identity)) => Entrance::Peer(ip.to_canonical(), identity),
                        (true, None) => return,
                    };
                    proxy.converse(tls, entrance, watcher).await;
                }
                Ok(Err(error)) => tracing::debug!(%ip, is_peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%ip, is_peer, "TLS handshake took too long"),
            }
        })
    }

    async fn converse<S>(self: Arc<Self>, stream: S, entrance: Entrance, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let stalled = activity.stalled();
        let line = Line::default();
        let stream = Interleaved::new(stream, line.clone());
        let service = service_fn(move |request| {
            let answer = self.clone().handle(request, entrance, activity.clone(), line.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let protocol = match entrance {
            Entrance::Client { .. } => protocol(),
            Entrance::Peer(..) => peer_protocol(),
        };
        let connection =
            protocol.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        tokio::select! {
            ended = watcher.watch(connection) => if let Err(error) = ended {
                // hyper has answered 400, 414 or 431 itself where the head could not be read.
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                tracing::info!(%error, cause, "client connection ended");
            },
            limit = stalled => tracing::debug!(?limit, "closed a connection that did nothing"),
        }
    }
}

/// HTTP/1.1 and HTTP/2 with their bounds. Timers are set, without which hyper's timeouts do nothing.
fn protocol() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_FIELDS)
        .max_buf_size(REQUEST_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(u32::try_from(MAX_REQUEST_HEAD).unwrap_or(u32::MAX))
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(Some(H2_PING));
    builder
}

/// HTTP/2 alone, with more streams: all that one node asks of another goes over one connection.
fn peer_protocol() -> Builder<TokioExecutor> {
    let mut builder = protocol().http2_only();
    builder.http2().max_concurrent_streams(MAX_PEER_STREAMS);
    builder
}

/// An open connection: a slot and, for a client, a count, given back together.
struct Open {
    _slot: OwnedSemaphorePermit,
    gauge: Option<IntGauge>,
}

impl Open {
    fn new(slot: OwnedSemaphorePermit, gauge: Option<&IntGauge>) -> Self {
        gauge.iter().for_each(|gauge| gauge.inc());
        Self { _slot: slot, gauge: gauge.cloned() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.iter().for_each(|gauge| gauge.dec());
    }
}
