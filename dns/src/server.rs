//! Sockets: bound first, served after.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coralline_overlay::Directory;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::limits::{PORT_TRIES, TCP_BACKLOG, UDP_RECEIVE_BUFFER};
use crate::metrics::Metrics;
use crate::responder::Responder;
use crate::verdict::{Transport, Verdict};
use crate::{tcp, udp};

/// An address of `dns.listen` that could not be taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "dns.listen: cannot listen on {address} ({}): {source}; {}",
    transport.label(),
    remedy(source)
)]
pub struct BindError {
    /// The address as configured.
    pub address: SocketAddr,
    /// Which of its two sockets failed.
    pub transport: Transport,
    /// Why.
    pub source: io::Error,
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "stop the program that has it, or choose another port",
        io::ErrorKind::PermissionDenied => "grant CAP_NET_BIND_SERVICE, or choose a port over 1023",
        io::ErrorKind::AddrNotAvailable => "choose an address of this host",
        _ => "choose another address",
    }
}

/// Sockets that are bound and wait to be served.
#[derive(Debug)]
pub struct Bound {
    pairs: Vec<(UdpSocket, TcpListener)>,
}

/// Takes UDP and TCP at each address. Must be called within a tokio runtime.
///
/// # Errors
/// The first address that cannot be taken.
pub fn bind(addresses: &[SocketAddr]) -> Result<Bound, BindError> {
    let pairs = addresses.iter().map(|address| bind_pair(*address)).collect::<Result<_, _>>()?;
    Ok(Bound { pairs })
}

/// With port 0 the kernel chooses one for UDP, which somebody else may have on TCP.
fn bind_pair(address: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    let failed = |transport| move |source| BindError { address, transport, source };
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let udp = bind_udp(address).map_err(failed(Transport::Udp))?;
        let chosen = udp.local_addr().map_err(failed(Transport::Udp))?;
        match bind_tcp(chosen) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(failed(Transport::Tcp)(error)),
        }
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be listed.
        socket.set_only_v6(true)?;
    }
    // The kernel grants what its limits allow; less is only a smaller burst.
    let _ = socket.set_recv_buffer_size(UDP_RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Bound {
    /// The addresses that were taken, with the ports that the kernel chose for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.pairs.iter().filter_map(|(udp, _)| udp.local_addr().ok()).collect()
    }

    /// Answers until `shutdown` resolves, from what `directory` gives at each query: it must be
    /// cheap. Connections are closed at the end; a client that waits for an answer asks another
    /// name server.
    ///
    /// # Panics
    /// When `directory` does; that of a TCP connection ends that connection alone.
    pub async fn serve(
        self,
        responder: Responder,
        metrics: Metrics,
        directory: impl Fn() -> Arc<Directory> + Send + Sync + 'static,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let authority = Arc::new(Authority {
            responder,
            metrics,
            directory: Box::new(directory),
            turn: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for (udp, tcp) in self.pairs {
            tasks.spawn(udp::serve(udp, Arc::clone(&authority)));
            tasks.spawn(tcp::serve(tcp, Arc::clone(&authority)));
        }
        tokio::select! {
            () = shutdown => {}
            // The loops have no end but a panic, which whoever serves us must not miss.
            Some(Err(ended)) = tasks.join_next() => {
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        tasks.shutdown().await;
    }
}

/// What all sockets share.
pub(crate) struct Authority {
    responder: Responder,
    pub(crate) metrics: Metrics,
    directory: Box<dyn Fn() -> Arc<Directory> + Send + Sync>,
    turn: AtomicU64,
}

impl Authority {
    /// Answers one query and counts it.
    pub(crate) fn answer(&self, query: &[u8], transport: Transport, out: &mut Vec<u8>) -> Verdict {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let verdict = self.responder.answer(query, transport, &(self.directory)(), turn, out);
        self.metrics.count(transport, verdict);
        verdict
    }
}
