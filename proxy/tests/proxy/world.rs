//! Real nodes, a scripted origin, a name server and a raw client, all on loopback.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coralline_config::{Config, HostPort, Site};
use coralline_disk::OpenError;
use coralline_overlay::{Handle, Services};
use coralline_proxy::{Door, Proxy, StartError};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

/// Where `web.test` is: an address whose ports 80 and 443 no other test wants.
pub(crate) const WEB: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 80, 44, 3);

/// Who shows this may purge.
pub(crate) const TOKEN: &str = "a-token";

/// Nothing in these tests takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One node: overlay, proxy, listeners.
pub(crate) struct Node {
    pub(crate) http: SocketAddr,
    /// Where others are told that its content is.
    pub(crate) peer: SocketAddr,
    /// Where it is.
    pub(crate) content: SocketAddr,
    pub(crate) index: Handle,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) registry: prometheus::Registry,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _state: tempfile::TempDir,
}

impl Node {
    /// A node at `ip` that joins by `seed`, with a configuration of the test's own.
    pub(crate) async fn start(
        ip: &str,
        seed: Option<&Node>,
        set: impl FnOnce(&mut Config),
    ) -> Self {
        let state = tempfile::tempdir().unwrap();
        let http = TcpListener::bind((ip, 0)).await.unwrap();
        let peer = TcpListener::bind((ip, 0)).await.unwrap();
        let content = peer.local_addr().unwrap();
        let mut config = Config { state_dir: state.path().into(), ..Config::default() };
        config.http.listen = vec![http.local_addr().unwrap()];
        config.peer.listen = content;
        config.overlay.listen = format!("{ip}:0").parse().unwrap();
        config.origin.allow_private = vec!["127.0.0.0/8".parse().unwrap()];
        config.origin.response_timeout = Duration::from_secs(2);
        config.origin.stall_timeout = Duration::from_secs(2);
        config.overlay.seeds = seed.iter().map(|node| node.seed()).collect();
        set(&mut config);
        let stop = CancellationToken::new();
        let services = Services::PROXY;
        let ended = stop.clone().cancelled_owned();
        let (index, overlay) = coralline_overlay::start(&config, services, ended).await.unwrap();
        let mut registry = prometheus::Registry::new();
        let proxy = loop {
            match Proxy::new(&config, index.clone(), &registry, TOKEN.into()) {
                // Threads of the node before it may be about to let go of its disk.
                Err(StartError::Disk(OpenError::InUse(_))) => {
                    registry = prometheus::Registry::new();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                proxy => break proxy.unwrap(),
            }
        };
        let (http_addr, peer_addr) = (config.http.listen[0], config.peer.listen);
        let clients = tokio::spawn(proxy.clone().serve(http, Door::Http, stop.clone()));
        let peers = tokio::spawn(proxy.clone().serve(peer, Door::peer(&index), stop.clone()));
        let tasks = vec![overlay, clients, peers];
        Self {
            http: http_addr,
            peer: peer_addr,
            content,
            index,
            proxy,
            registry,
            stop,
            tasks,
            _state: state,
        }
    }

    /// A node that serves `www.site.test` under its own name, from this origin, and stores nothing longer
    /// than it is told.
    pub(crate) async fn of_site(origin: &Origin) -> Self {
        Self::of_site_with(origin, |_| ()).await
    }

    /// The same, with more of the test's own.
    pub(crate) async fn of_site_with(origin: &Origin, set: impl FnOnce(&mut Config)) -> Self {
        let site = Site { host: "www.site.test".into(), origin: format!("http://{}", origin.addr) };
        Self::start("127.0.0.1", None, |config| {
            config.sites = vec![site];
            // The operator has named the origin: that is leave enough.
            config.origin.allow_private = Vec::new();
            set(config);
        })
        .await
    }

    /// Asks the site of [`Self::of_site`], with content if there is any.
    pub(crate) async fn site(&self, line: &str, lines: &[&str], content: &str) -> Response {
        let mut text = format!("{line} HTTP/1.1\r\nHost: www.site.test\r\nConnection: close\r\n");
        lines.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
        if !content.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", content.len()));
        }
        exchange(self.http, format!("{text}\r\n{content}").as_bytes()).await
    }

    /// Three nodes that know each other.
    pub(crate) async fn three(set: impl Fn(&mut Config)) -> [Self; 3] {
        let a = Self::start("127.0.0.1", None, &set).await;
        let b = Self::start("127.0.0.2", Some(&a), &set).await;
        let c = Self::start("127.0.0.3", Some(&a), &set).await;
        for node in [&a, &b, &c] {
            node.knows(2).await;
        }
        [a, b, c]
    }

    pub(crate) fn seed(&self) -> HostPort {
        let addr = self.index.local().addr;
        HostPort { host: addr.ip().to_string(), port: addr.port() }
    }

    /// A node in a runtime of its own. Shutting that down ends it as kill -9 would: every socket is
    /// closed, and nobody is told.
    pub(crate) async fn apart(
        ip: &'static str,
        seed: Option<&Node>,
    ) -> (Self, tokio::runtime::Runtime) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let seeds: Vec<_> = seed.iter().map(|node| node.seed()).collect();
        let set = move |config: &mut Config| config.overlay.seeds = seeds;
        let node = runtime.spawn(Self::start(ip, None, set)).await.unwrap();
        (node, runtime)
    }

    /// Waits until this many others are known.
    pub(crate) async fn knows(&self, others: usize) {
        until("the nodes know each other", || self.index.directory().neighbours.len() >= others)
            .await;
    }

    /// Ends it gently.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("it ends").unwrap();
        }
    }

    /// `GET path` of the site `host`, with more header lines.
    pub(crate) async fn get(&self, host: &str, path: &str, lines: &[&str]) -> Response {
        self.ask("GET", host, path, lines).await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        host: &str,
        path: &str,
        lines: &[&str],
    ) -> Response {
        let port = self.http.port();
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}.cdn.localhost:{port}\r\n");
        for line in lines {
            text.push_str(&format!("{line}\r\n"));
        }
        text.push_str("Connection: close\r\n\r\n");
        exchange(self.http, text.as_bytes()).await
    }

    /// A counter of this node, summed over its labels.
    pub(crate) fn counted(&self, name: &str) -> f64 {
        self.counted_of(name, None)
    }

    /// The same of the one that has this `label`.
    pub(crate) fn counted_as(&self, name: &str, label: &str) -> f64 {
        self.counted_of(name, Some(label))
    }

    fn counted_of(&self, name: &str, label: Option<&str>) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("registered");
        let has = |label| family.get_metric().iter().any(|m| is_labelled(m, label));
        assert!(label.is_none_or(has), "no such label");
        family
            .get_metric()
            .iter()
            .filter(|m| label.is_none_or(|label| is_labelled(m, label)))
            .map(|m| m.get_counter().get_value() + m.get_gauge().get_value())
            .sum()
    }
}

fn is_labelled(metric: &prometheus::proto::Metric, label: &str) -> bool {
    metric.get_label().iter().any(|pair| pair.value() == label)
}

/// A response as it came.
#[derive(Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The body was as long as it was said to be.
    pub(crate) whole: bool,
    /// What came after a body in chunks.
    pub(crate) trailers: String,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({} octets, whole: {})", self.head, self.body.len(), self.whole)
    }
}

impl Response {
    /// The body as text, for messages that can be read.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// All lines of a field, joined.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let lines: Vec<_> = lines
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// The detail of the last member of Cache-Status: where it came from.
    pub(crate) fn source(&self) -> String {
        let field = self.field("cache-status").unwrap_or_else(|| panic!("{self:?}"));
        field.rsplit_once("detail=").expect("a detail").1.to_owned()
    }
}

/// Sends `request` and reads until the other side closes.
pub(crate) async fn exchange(addr: SocketAddr, request: &[u8]) -> Response {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    read_response(&mut stream).await
}

pub(crate) async fn read_response(stream: &mut (impl AsyncRead + Unpin)) -> Response {
    let mut raw = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut raw)).await;
    let clean = read.expect("an end within the test's patience").is_ok();
    parse(&raw, clean)
}

fn parse(raw: &[u8], clean: bool) -> Response {
    let split = raw.windows(4).position(|w| w == b"\r\n\r\n").map_or(raw.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&raw[..split]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let whole = clean && status != 0;
    let (body, trailers) = (raw[split..].to_vec(), String::new());
    let mut response = Response { status, head, body, whole, trailers };
    if response.field("transfer-encoding").is_some() {
        let (body, trailers) = dechunk(&response.body);
        response.body = body;
        response.whole &= trailers.is_some();
        response.trailers = trailers.unwrap_or_default();
    } else if let Some(length) = response.field("content-length") {
        response.whole &= length.parse() == Ok(response.body.len());
    }
    response
}

/// The body, and what comes after it if it ends.
fn dechunk(mut raw: &[u8]) -> (Vec<u8>, Option<String>) {
    let mut body = Vec::new();
    loop {
        let Some(at) = raw.windows(2).position(|w| w == b"\r\n") else { return (body, None) };
        let Ok(size) = usize::from_str_radix(&String::from_utf8_lossy(&raw[..at]), 16) else {
            return (body, None);
        };
        if size == 0 {
            return (body, Some(String::from_utf8_lossy(&raw[at + 2..]).trim_end().into()));
        }
        if raw.len() < at + 2 + size + 2 {
            body.extend_from_slice(&raw[at + 2..]);
            return (body, None);
        }
        body.extend_from_slice(&raw[at + 2..at + 2 + size]);
        raw = &raw[at + 2 + size + 2..];
    }
}

type Served = Pin<Box<dyn Future<Output = ()> + Send>>;
type Script = dyn Fn(String, Connection) -> Served + Send + Sync;

/// A connection that the script of an origin writes to.
pub(crate) type Connection = Box<dyn Stream>;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An origin that does what the test says, once a connection.
pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    /// The heads of all requests.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Origin {
    pub(crate) async fn start<F>(
        script: impl Fn(String, Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(None, script).await
    }

    /// Over TLS, if an acceptor is given.
    pub(crate) async fn start_with<F>(
        tls: Option<tokio_rustls::TlsAcceptor>,
        script: impl Fn(String, Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls, script)
    }

    /// At a place of the test's own.
    pub(crate) fn on<F>(
        listener: TcpListener,
        tls: Option<tokio_rustls::TlsAcceptor>,
        script: impl Fn(String, Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let addr = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        let script: Arc<Script> = Arc::new(move |head, stream| Box::pin(script(head, stream)));
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (script, log, tls) = (script.clone(), log.clone(), tls.clone());
                tokio::spawn(async move {
                    let mut stream: Connection = match tls {
                        None => Box::new(tcp),
                        Some(acceptor) => match acceptor.accept(tcp).await {
                            Ok(tls) => Box::new(tls),
                            Err(_) => return,
                        },
                    };
                    let head = read_head(&mut stream).await;
                    if !head.is_empty() {
                        log.lock().unwrap().push(head.clone());
                        script(head, stream).await;
                    }
                });
            }
        });
        Self { addr, requests, task }
    }

    /// Answers every request with the same octets.
    pub(crate) async fn fixed(response: impl Into<Vec<u8>>) -> Self {
        let response: Arc<[u8]> = response.into().into();
        Self::start(move |_, mut stream| {
            let response = response.clone();
            async move {
                let _ = stream.write_all(&response).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// The name under which nodes are asked for it.
    pub(crate) fn host(&self) -> String {
        format!("localhost.{}", self.addr.port())
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// Stops listening.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

pub(crate) async fn read_head(stream: &mut Connection) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// `200 OK` with a length and these header lines.
pub(crate) fn ok(lines: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{lines}\r\n");
    [head.as_bytes(), body].concat()
}

/// A name server: `*.silent.test` gets no answer, `private.test` 10.0.0.1, `mixed.test` that
/// and 127.0.0.1, `local.test` 127.0.0.1, all else NXDOMAIN.
pub(crate) async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buf = [0; 1500];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            let mut message = Message::from_bytes(&buf[..len]).unwrap();
            let query = message.queries[0].clone();
            let name = query.name().to_string();
            let addresses: &[[u8; 4]] = match name.as_str() {
                "private.test." => &[[10, 0, 0, 1]],
                "mixed.test." => &[[10, 0, 0, 1], [127, 0, 0, 1]],
                "local.test." => &[[127, 0, 0, 1]],
                "web.test." => &[WEB.octets()],
                name if name.ends_with("silent.test.") => continue,
                _ => {
                    message.metadata.response_code = ResponseCode::NXDomain;
                    &[]
                }
            };
            message.metadata.message_type = MessageType::Response;
            if query.query_type() == RecordType::A {
                for [a, b, c, d] in addresses {
                    let data = RData::A(A::new(*a, *b, *c, *d));
                    message.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                }
            }
            socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
        }
    });
    addr
}

/// Waits for what is bound to happen.
pub(crate) async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
