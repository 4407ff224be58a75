//! Connections to peers: one each, for all that is asked of it at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use coralline_overlay::{Handle, Identity};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use moka::sync::Cache;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::identity::peer_connector;
use crate::limits::{
    H2_SEND_BUFFER, IDLE_TIMEOUT, MAX_PEERS, MAX_RESPONSE_HEAD, PEER_CONNECT_TIMEOUT,
    PEER_CONNECTION_WINDOW, PEER_PING, PEER_PING_TIMEOUT, PEER_STREAM_WINDOW,
};
use crate::upstream::NoBody;

/// The connection to one peer, if there is one. Held by who opens it: others wait for that one.
type Place = Arc<Mutex<Option<SendRequest<NoBody>>>>;

/// Open connections. One that is not asked over for a while ends after what is under way.
pub(crate) struct Pool {
    index: Handle,
    places: Cache<(SocketAddr, Identity), Place>,
}

/// Why a peer could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// No connection, or not to who should be there.
    #[error("no connection: {0}")]
    Connect(#[from] io::Error),
    /// It did not answer in HTTP/2.
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
}

impl Pool {
    pub(crate) fn new(index: Handle) -> Self {
        let places = Cache::builder().max_capacity(MAX_PEERS).time_to_idle(IDLE_TIMEOUT).build();
        Self { index, places }
    }

    /// Asks a peer, over the connection that is there or a new one. A connection that turns out to be
    /// over is replaced once.
    pub(crate) async fn request(
        &self,
        peer: (SocketAddr, Identity),
        request: Request<NoBody>,
    ) -> Result<Response<Incoming>, Unreachable> {
        let (mut connection, is_new) = self.connection(peer).await?;
        match connection.send_request(request.clone()).await {
            Err(error) if !is_new && (error.is_canceled() || error.is_closed()) => {
                let (mut connection, _) = self.connection(peer).await?;
                Ok(connection.send_request(request).await?)
            }
            answered => Ok(answered?),
        }
    }

    /// A connection that may be asked over, and whether it is a new one.
    async fn connection(
        &self,
        peer: (SocketAddr, Identity),
    ) -> Result<(SendRequest<NoBody>, bool), Unreachable> {
        let place = self.places.get_with(peer, Place::default);
        let mut place = place.lock().await;
        if let Some(connection) = place.as_mut()
            && connection.ready().await.is_ok()
        {
            return Ok((connection.clone(), false));
        }
        *place = None;
        let opened = timeout(PEER_CONNECT_TIMEOUT, self.open(peer)).await;
        let connection = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        *place = Some(connection.clone());
        Ok((connection, true))
    }

    /// From the address at which this node is known, if it has that: who is asked tells others of it.
    async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let local = self.index.local().addr.ip();
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if local.is_ipv4() == addr.is_ipv4() && !local.is_unspecified() {
            // Behind a translator it is the translator's: then that puts it in.
            let _ = socket.bind(SocketAddr::new(local, 0));
        }
        socket.connect(addr).await
    }

    async fn open(
        &self,
        (addr, identity): (SocketAddr, Identity),
    ) -> Result<SendRequest<NoBody>, Unreachable> {
        let tcp = self.connect(addr).await?;
        tcp.set_nodelay(true)?;
        let tls = peer_connector(&self.index, identity);
        let tls = tls.connect(ServerName::from(addr.ip()), tcp).await?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(PEER_PING))
            .keep_alive_timeout(PEER_PING_TIMEOUT)
            .max_header_list_size(u32::try_from(MAX_RESPONSE_HEAD).unwrap_or(u32::MAX))
            .max_send_buf_size(H2_SEND_BUFFER)
            .initial_stream_window_size(PEER_STREAM_WINDOW)
            .initial_connection_window_size(PEER_CONNECTION_WINDOW)
            .handshake(TokioIo::new(tls))
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%addr, %error, "the connection to a peer ended");
            }
        });
        Ok(sender)
    }
}
