//! A node of the index that says it holds things, and answers peers with what it has made of a true answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coralline_config::{Config, HostPort};
use coralline_overlay::{Handle, Identity, Key, Pointer, Services, State};
use coralline_proxy::{Door, peer_connector};
use coralline_receipt::Receipt;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use crate::harness::{Node, OVERLAY, address};

/// What is done to a true answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// The lowest bit of this octet is turned, or of the last one.
    Flip { at: usize },
    /// It ends after so many octets, as if that were the end.
    Truncate { after: usize },
    /// It never begins.
    Silent,
    /// After so many octets they come one by one.
    Drip { after: usize },
    /// The answer to another question.
    Other,
    /// The receipt says that the liar has signed it.
    OtherName,
    /// A bit of the signature is turned.
    BrokenSignature,
}

/// How long an octet takes that drips: far less than anybody's patience with silence.
const DRIP: Duration = Duration::from_millis(500);
/// Of a pointer: as long as the test.
const TTL: Duration = Duration::from_secs(600);

/// Whose answers lies are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Honest {
    addr: SocketAddr,
    identity: Identity,
}

impl Honest {
    pub(crate) fn of(node: &Node) -> Self {
        let status = node.status();
        let hex = status["node"]["identity"].as_str().expect("a node says who it is");
        let octet = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        Self { addr: node.at(OVERLAY), identity: Identity(std::array::from_fn(octet)) }
    }
}

/// A liar, as long as it is held.
pub(crate) struct Liar {
    ip: IpAddr,
    state: TempDir,
    runtime: Runtime,
    index: Handle,
    stop: CancellationToken,
    lie: Lie,
    honest: Honest,
    /// Requests, by the key of who has asked.
    asked: Arc<Mutex<BTreeMap<Vec<u8>, usize>>>,
}

impl Liar {
    /// Joins at `seed`, waits until it knows `others`, and makes its lies of what `honest` says.
    pub(crate) fn start(seed: IpAddr, others: usize, honest: Honest, lie: Lie) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let (ip, state, stop) = (address(), tempfile::tempdir().unwrap(), CancellationToken::new());
        let asked = Arc::default();
        let (index, listener) = runtime.block_on(join(ip, seed, others, &state, &stop));
        serve(&runtime, &index, listener, (lie, honest), &asked, &stop);
        Self { ip, state, runtime, index, stop, lie, honest, asked }
    }

    /// Ends, and comes back at other ports with the same key.
    pub(crate) fn move_away(&mut self, seed: IpAddr, others: usize) {
        self.stop.cancel();
        self.stop = CancellationToken::new();
        let joined = join(self.ip, seed, others, &self.state, &self.stop);
        let before = self.index.local();
        let listener;
        (self.index, listener) = self.runtime.block_on(joined);
        let now = self.index.local();
        assert!(now.identity == before.identity && now.peer_port != before.peer_port);
        let how = (self.lie, self.honest);
        serve(&self.runtime, &self.index, listener, how, &self.asked, &self.stop);
    }

    /// Tells the index that it has, or is receiving, what is at these paths.
    pub(crate) fn claim(&self, origin: SocketAddr, paths: &[String], state: State) {
        let holder = self.index.local();
        let pointer = Pointer { holder, state, length: None, root: None };
        for path in paths {
            let uri = format!("http://localhost:{}{path}", origin.port());
            let put = self.index.put(Key::of_name(uri.as_bytes()), pointer, TTL);
            self.runtime.block_on(put).unwrap();
        }
    }

    /// How often each node has asked it.
    pub(crate) fn asked(&self) -> BTreeMap<Vec<u8>, usize> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn join(
    ip: IpAddr,
    seed: IpAddr,
    others: usize,
    state: &TempDir,
    stop: &CancellationToken,
) -> (Handle, TcpListener) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let mut config = Config { state_dir: state.path().into(), ..Config::default() };
    config.peer.listen = listener.local_addr().unwrap();
    config.overlay.listen = SocketAddr::new(ip, 0);
    config.overlay.seeds = vec![HostPort { host: seed.to_string(), port: OVERLAY }];
    let end = stop.clone().cancelled_owned();
    let (index, _) = coralline_overlay::start(&config, Services::default(), end).await.unwrap();
    while index.directory().neighbours.len() < others {
        sleep(Duration::from_millis(20)).await;
    }
    (index, listener)
}

/// Answers peers, as often as they come.
fn serve(
    runtime: &Runtime,
    index: &Handle,
    listener: TcpListener,
    how: (Lie, Honest),
    asked: &Arc<Mutex<BTreeMap<Vec<u8>, usize>>>,
    stop: &CancellationToken,
) {
    let Door::Peer(acceptor) = Door::peer(index) else { panic!("a door for peers") };
    let (index, asked, stop) = (index.clone(), asked.clone(), stop.clone());
    let accepting = async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, index, asked) = (acceptor.clone(), index.clone(), asked.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let keys = tls.get_ref().1.peer_certificates().expect("each node has a key");
                let who = keys.first().expect("one").as_ref().to_vec();
                let service = service_fn(|request| {
                    *asked.lock().unwrap().entry(who.clone()).or_default() += 1;
                    let answer = answer(index.clone(), request, how);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(tls), service).await;
            });
        }
    };
    runtime.spawn(async move {
        tokio::select! {
            () = accepting => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn answer(
    index: Handle,
    mut request: Request<Incoming>,
    (lie, honest): (Lie, Honest),
) -> Response<Lies> {
    if matches!(lie, Lie::Silent) {
        std::future::pending::<()>().await;
    }
    if matches!(lie, Lie::Other) {
        // Each of its objects is what it says of the one before.
        let uri = request.uri().to_string();
        let (start, last) = uri.split_at(uri.len() - 1);
        let other = (last.parse::<usize>().unwrap() + 1) % super::OBJECTS;
        *request.uri_mut() = format!("{start}{other}").parse().unwrap();
    }
    let truth = ask(&index, honest, request).await;
    assert!(truth.headers().contains_key("coralline-proof"), "{truth:?}");
    truth.map(|octets| Lies::new(lie, octets.to_vec(), index.local().identity))
}

/// What the honest node says to a peer.
async fn ask(index: &Handle, honest: Honest, request: Request<Incoming>) -> Response<Bytes> {
    let Honest { addr, identity } = honest;
    let tcp = TcpStream::connect(addr).await.unwrap();
    let tls = peer_connector(index, identity).connect(addr.ip().into(), tcp).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let request = request.map(|_| Empty::<Bytes>::new());
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// The octets of a lie: some at once, the others one by one.
struct Lies {
    at_once: Bytes,
    dripping: Bytes,
    next: Pin<Box<Sleep>>,
}

impl Lies {
    fn new(lie: Lie, mut octets: Vec<u8>, liar: Identity) -> Self {
        let mut dripping = Bytes::new();
        match lie {
            Lie::Flip { at } => {
                let at = at.min(octets.len() - 1);
                octets[at] ^= 1;
            }
            Lie::Truncate { after } => octets.truncate(after),
            Lie::Drip { after } => dripping = octets.split_off(after).into(),
            Lie::OtherName => {
                change_receipt(&mut octets, |receipt| receipt.subject.signer = liar.0);
            }
            Lie::BrokenSignature => change_receipt(&mut octets, |receipt| {
                receipt.head.signature[7] ^= 1;
            }),
            Lie::Silent | Lie::Other => {}
        }
        Self { at_once: octets.into(), dripping, next: Box::pin(sleep(DRIP)) }
    }
}

/// The receipt is what a stream begins with: kind, length, and the octets of it.
fn change_receipt(octets: &mut [u8], change: impl FnOnce(&mut Receipt)) {
    let length = u32::from_le_bytes(*octets[1..].first_chunk().unwrap());
    let receipt = &mut octets[5..][..usize::try_from(length).unwrap()];
    let mut changed = Receipt::decode(receipt).unwrap();
    change(&mut changed);
    receipt.copy_from_slice(&changed.encode());
}

impl Body for Lies {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.at_once.is_empty() {
            let octets = std::mem::take(&mut self.at_once);
            return Poll::Ready(Some(Ok(Frame::data(octets))));
        }
        if self.dripping.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(sleep(DRIP));
        let octet = self.dripping.split_to(1);
        Poll::Ready(Some(Ok(Frame::data(octet))))
    }
}
