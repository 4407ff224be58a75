//! TCP: messages with a length before them (RFC 1035 section 4.2.2, RFC 7766).

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limits::{ERROR_PAUSE, MAX_QUERY, TCP_CONNECTIONS, TCP_IDLE, TCP_QUERIES};
use crate::server::Authority;
use crate::verdict::{Dropped, Transport, Verdict};

pub(crate) async fn serve(listener: TcpListener, authority: Arc<Authority>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if connections.len() < TCP_CONNECTIONS => {
                connections.spawn(converse(stream, Arc::clone(&authority)));
            }
            Ok(_) => authority.metrics.drop(Dropped::Connections),
            Err(error) => {
                tracing::debug!(%error, "cannot accept DNS connections");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// One connection to its end. Queries may come in a row without waiting; answers keep their order.
async fn converse(stream: TcpStream, authority: Arc<Authority>) {
    let _held = Held::new(&authority);
    let mut stream = BufReader::new(stream);
    let mut query = Vec::new();
    let mut response = Vec::new();
    for _ in 0..TCP_QUERIES {
        let exchange = exchange(&mut stream, &authority, &mut query, &mut response);
        // A client that is silent, slow to send or slow to read for this long has to come back.
        if !matches!(timeout(TCP_IDLE, exchange).await, Ok(Ok(()))) {
            break;
        }
    }
}

/// One query and its answer.
async fn exchange(
    stream: &mut BufReader<TcpStream>,
    authority: &Authority,
    query: &mut Vec<u8>,
    response: &mut Vec<u8>,
) -> io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        authority.metrics.drop(Dropped::Long);
        return Err(io::ErrorKind::InvalidData.into());
    }
    query.resize(length, 0);
    stream.read_exact(query).await?;
    if let Verdict::Dropped(_) = authority.answer(query, Transport::Tcp, response) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let length = u16::try_from(response.len()).expect("the responder keeps to the largest message");
    // One write, so that length and message leave in one segment (RFC 7766 section 8).
    response.splice(0..0, length.to_be_bytes());
    stream.write_all(response).await
}

/// Counts a connection for as long as it is held, however it ends.
struct Held<'a>(&'a Authority);

impl<'a> Held<'a> {
    fn new(authority: &'a Authority) -> Self {
        authority.metrics.tcp_connections.inc();
        Self(authority)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.metrics.tcp_connections.dec();
    }
}
