//! The UDP loop: read, answer, write, without a queue in between.

use std::io;
use std::sync::Arc;

use tokio::net::UdpSocket;

use crate::limits::{ERROR_PAUSE, MAX_QUERY, MAX_UDP_RESPONSE, UDP_BATCH};
use crate::server::Authority;
use crate::verdict::{Dropped, Transport, Verdict};

pub(crate) async fn serve(socket: UdpSocket, authority: Arc<Authority>) {
    let mut query = vec![0; MAX_QUERY];
    let mut response = Vec::with_capacity(usize::from(MAX_UDP_RESPONSE));
    loop {
        let batch = match socket.readable().await {
            Ok(()) => answer_batch(&socket, &authority, &mut query, &mut response),
            Err(error) => Err(error),
        };
        match batch {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!(%error, "cannot receive DNS queries");
                authority.metrics.drop(Dropped::Receive);
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// Answers what is there, up to the size of a batch.
fn answer_batch(
    socket: &UdpSocket,
    authority: &Authority,
    query: &mut [u8],
    response: &mut Vec<u8>,
) -> io::Result<()> {
    for _ in 0..UDP_BATCH {
        let (length, client) = socket.try_recv_from(query)?;
        let verdict = authority.answer(&query[..length], Transport::Udp, response);
        // A full socket sheds load here: a client asks again, a queue would answer too late.
        if matches!(verdict, Verdict::Answered(_)) && socket.try_send_to(response, client).is_err()
        {
            authority.metrics.drop(Dropped::Send);
        }
    }
    Ok(())
}
