//! Interim responses (RFC 9110, section 15.2): what an origin says before its response goes to the client
//! that asked, over HTTP/1.1, as it comes. They are never stored, and nobody else gets them.
//!
//! Over HTTP/2 they are left out: h2 can send them, and hyper's server, which stands between, has no way to ask
//! for it (hyper 1.12, `proto/h2/server.rs`).
//!
//! hyper's server writes final responses only, so they are written beneath it. Two rules keep the order:
//! they go out only when hyper, with nothing of its own left to write, flushes; and the final response is
//! not given to hyper before they are out.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use http::header::{SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::fields::remove_hop_by_hop;
use crate::limits::MAX_INTERIM;

/// The way past hyper to one client. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Line(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// A request may have interim responses: the connection is to be woken for them.
    listening: AtomicBool,
    queue: Mutex<Queue>,
    connection: AtomicWaker,
    drained: Notify,
}

#[derive(Default)]
struct Queue {
    bytes: BytesMut,
    /// The request that is being answered; what comes for an earlier one is late.
    request: u64,
    open: bool,
}

type Rewrite = dyn Fn(&mut HeaderMap) + Send + Sync;

/// Passes on the interim responses to one request.
#[derive(Clone)]
pub(crate) struct Early {
    line: Line,
    request: u64,
    rewrite: Arc<Rewrite>,
}

impl Line {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().expect("no holder of this lock panics")
    }

    /// For the request that is being answered; `rewrite` makes its fields the client's.
    pub(crate) fn early(&self, rewrite: impl Fn(&mut HeaderMap) + Send + Sync + 'static) -> Early {
        let mut queue = self.queue();
        queue.request += 1;
        queue.open = true;
        self.0.listening.store(true, Ordering::SeqCst);
        Early { line: self.clone(), request: queue.request, rewrite: Arc::new(rewrite) }
    }

    /// The final response is here: waits until all before it is out.
    pub(crate) async fn close(&self) {
        if !self.0.listening.load(Ordering::SeqCst) {
            return;
        }
        self.queue().open = false;
        loop {
            let drained = self.0.drained.notified();
            if self.queue().bytes.is_empty() {
                break;
            }
            drained.await;
        }
        self.0.listening.store(false, Ordering::SeqCst);
    }
}

impl Early {
    /// Has the interim responses to `request` passed on.
    pub(crate) fn listen<B>(&self, request: &mut Request<B>) {
        let early = self.clone();
        hyper::ext::on_informational(request, move |response| {
            early.pass(response.status(), response.headers());
        });
    }

    /// 100 and 101 are of the connection; what is too much is left out.
    fn pass(&self, status: StatusCode, headers: &HeaderMap) {
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let mut headers = headers.clone();
        remove_hop_by_hop(&mut headers);
        // It is of a person, and of a name that it may not be for.
        headers.remove(SET_COOKIE);
        headers.remove(STRICT_TRANSPORT_SECURITY);
        (self.rewrite)(&mut headers);
        let reason = status.canonical_reason().unwrap_or_default();
        let mut text = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
        for (name, value) in &headers {
            text.extend_from_slice(
                &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat(),
            );
        }
        text.extend_from_slice(b"\r\n");
        let mut queue = self.line.queue();
        let current = queue.open && queue.request == self.request;
        if current && queue.bytes.len() + text.len() <= MAX_INTERIM {
            queue.bytes.extend_from_slice(&text);
            drop(queue);
            self.line.0.connection.wake();
        }
    }
}

/// A client's connection, with room for interim responses between the final ones.
pub(crate) struct Interleaved<S> {
    stream: S,
    line: Line,
}

impl<S> Interleaved<S> {
    pub(crate) fn new(stream: S, line: Line) -> Self {
        Self { stream, line }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Interleaved<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Interleaved<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, line } = self.get_mut();
        if line.0.listening.load(Ordering::SeqCst) {
            line.0.connection.register(context.waker());
            let mut queue = line.queue();
            while !queue.bytes.is_empty() {
                match Pin::new(&mut *stream).poll_write(context, &queue.bytes) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => queue.bytes.advance(written),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            line.0.drained.notify_waiters();
        }
        Pin::new(stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
