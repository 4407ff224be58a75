//! Nodes among themselves: who is believed, and how they are connected.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coralline_overlay::{Handle, Key, Pointer, State};
use coralline_proxy::{Door, peer_connector};
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Node, Origin, exchange, ok, until};

/// A content port that answers what a test says.
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    pub(crate) asked: Arc<AtomicUsize>,
    listener: TcpListener,
}

impl Peer {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { addr: listener.local_addr().unwrap(), asked: Arc::default(), listener }
    }

    /// Answers as the node of this index.
    pub(crate) fn serve<F>(
        self,
        index: &Handle,
        answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Arc<AtomicUsize>
    where
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let Door::Peer(acceptor) = Door::peer(index) else { panic!("a door for peers") };
        let (answer, asked) = (Arc::new(answer), self.asked.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = self.listener.accept().await {
                let (acceptor, answer, asked) = (acceptor.clone(), answer.clone(), asked.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(|request| {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let answer = answer(request);
                        async move { Ok::<_, hyper::Error>(answer.await) }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        self.asked
    }
}

/// Tells the index that the node has all of `http://localhost:PORT/path`.
pub(crate) async fn point(node: &Node, origin: &Origin, path: &str) {
    let uri = format!("http://localhost:{}{path}", origin.addr.port());
    let pointer =
        Pointer { holder: node.index.local(), state: State::Whole, length: None, root: None };
    let key = Key::of_name(uri.as_bytes());
    node.index.put(key, pointer, Duration::from_secs(60)).await.unwrap();
}

/// What the content port of `to` answers to a node that asks for it.
pub(crate) async fn ask_as_peer(
    from: &Node,
    to: &Node,
    request: Request<Empty<Bytes>>,
) -> Response<Bytes> {
    let tcp = TcpStream::connect(to.peer).await.unwrap();
    let connector = peer_connector(&from.index, to.index.local().identity);
    let tls = connector.connect(ServerName::from(to.peer.ip()), tcp).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn plain_http_is_no_way_to_a_node() {
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let ask = b"GET / HTTP/1.1\r\nHost: a.com\r\nCoralline-Scheme: http\r\n\r\n";
    let answer = exchange(node.peer, ask).await;
    assert!(!answer.head.contains("HTTP/1.1"), "{answer:?}");
    // And it serves on, who knows how to ask.
    let other = Node::start("127.0.0.2", None, |_| ()).await;
    let mut request = Request::get("https://a.com/").body(Empty::new()).unwrap();
    request.headers_mut().insert("coralline-scheme", "http".parse().unwrap());
    assert_eq!(ask_as_peer(&other, &node, request).await.status(), 504);
}

#[tokio::test]
async fn who_is_not_the_one_that_was_pointed_at_is_not_asked() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", b"true")).await;
    let a = Node::start("127.0.0.1", None, |_| ()).await;
    let impostor = Peer::bind().await;
    let addr = impostor.addr;
    let b = Node::start("127.0.0.1", Some(&a), |config| config.peer.listen = addr).await;
    let c = Node::start("127.0.0.1", Some(&a), |_| ()).await;
    for node in [&a, &b, &c] {
        node.knows(2).await;
    }
    // At the content port of b is c.
    let asked = impostor.serve(&c.index, |_| async { Response::default() });
    point(&b, &origin, "/").await;
    let response = a.get(&origin.host(), "/", &[]).await;
    assert_eq!((response.text().as_str(), response.source().as_str()), ("true", "origin"));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    until("the failure is counted", || a.counted("coralline_peer_requests_total") == 1.0).await;
}

#[tokio::test]
async fn all_that_is_asked_of_a_peer_goes_over_one_connection() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", &[7; 50_000])).await;
    let line = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = line.local_addr().unwrap();
    let a = Node::start("127.0.0.1", None, |config| config.peer.listen = addr).await;
    let b = Node::start("127.0.0.1", Some(&a), |_| ()).await;
    a.knows(1).await;
    b.knows(1).await;
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, content) = (connections.clone(), a.content);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = line.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(content).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let paths: Vec<_> = (0..40).map(|i| format!("/{i}")).collect();
    let host = origin.host();
    join_all(paths.iter().map(|path| a.get(&host, path, &[]))).await;
    let answers = join_all(paths.iter().map(|path| b.get(&host, path, &[]))).await;
    for answer in answers {
        assert!(answer.source().starts_with("peer:") && answer.body == [7; 50_000], "{answer:?}");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert_eq!(origin.count(), paths.len());
}

/// What a liar makes of a true answer.
type Lie = fn(Response<Bytes>) -> Response<Bytes>;

fn flipped(answer: Response<Bytes>, at: usize) -> Response<Bytes> {
    answer.map(|body| {
        let mut octets = body.to_vec();
        let at = at.min(octets.len() - 1);
        octets[at] ^= 1;
        octets.into()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_octet_that_a_liar_made_up_reaches_anybody() {
    let lies: [(&str, Lie); 7] = [
        ("an octet of the receipt", |answer| flipped(answer, 200)),
        ("an octet at the beginning", |answer| flipped(answer, 1_000)),
        ("an octet in the midst", |answer| flipped(answer, 150_000)),
        ("the last octet", |answer| flipped(answer, usize::MAX)),
        ("a field", |mut answer| {
            answer.headers_mut().insert("content-type", "text/evil".parse().unwrap());
            answer
        }),
        ("a field more", |mut answer| {
            answer.headers_mut().insert("x-evil", "1".parse().unwrap());
            answer
        }),
        ("half of it", |answer| answer.map(|body| body.slice(..100_000))),
    ];
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let lines = "Cache-Control: max-age=60\r\nETag: \"1\"\r\nContent-Type: text/true\r\n";
    let origin = Origin::fixed(ok(lines, &body)).await;
    let host = origin.host();
    // A true node, in a network of its own.
    let honest = Arc::new(Node::start("127.0.0.9", None, |_| ()).await);
    assert_eq!(honest.get(&host, "/", &[]).await.source(), "origin");
    for (what, lie) in lies {
        let liar = Peer::bind().await;
        let addr = liar.addr;
        let a = Node::start("127.0.0.1", None, |_| ()).await;
        let b = Node::start("127.0.0.1", Some(&a), |config| config.peer.listen = addr).await;
        a.knows(1).await;
        b.knows(1).await;
        let b = Arc::new(b);
        let (behind, face) = (honest.clone(), b.clone());
        let asked = liar.serve(&b.index, move |request| {
            let (behind, face) = (behind.clone(), face.clone());
            async move {
                let (head, _) = request.into_parts();
                let request = Request::from_parts(head, Empty::new());
                lie(ask_as_peer(&face, &behind, request).await).map(Full::new)
            }
        });
        point(&b, &origin, "/").await;
        let response = a.get(&host, "/", &[]).await;
        assert!(response.whole && response.body == body, "{what}: {response:?}");
        assert_eq!(response.field("content-type").as_deref(), Some("text/true"), "{what}");
        assert_eq!(response.field("x-evil"), None, "{what}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{what}");
        // It is not asked again.
        point(&b, &origin, "/other").await;
        let other = a.get(&host, "/other", &[]).await;
        assert!(other.body == body, "{what}: {other:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{what}");
        assert_eq!(a.get(&host, "/", &[]).await.source(), "local", "{what}");
    }
}

#[tokio::test]
async fn another_object_is_not_what_was_asked_for() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", b"the same octets")).await;
    let host = origin.host();
    let honest = Arc::new(Node::start("127.0.0.9", None, |_| ()).await);
    honest.get(&host, "/good", &[]).await;
    let liar = Peer::bind().await;
    let addr = liar.addr;
    let a = Node::start("127.0.0.1", None, |_| ()).await;
    let b = Node::start("127.0.0.1", Some(&a), |config| config.peer.listen = addr).await;
    a.knows(1).await;
    b.knows(1).await;
    let b = Arc::new(b);
    let face = b.clone();
    let asked = liar.serve(&b.index, move |request| {
        let (behind, face) = (honest.clone(), face.clone());
        async move {
            let (mut head, _) = request.into_parts();
            head.uri = head.uri.to_string().replace("/bad", "/good").parse().unwrap();
            let request = Request::from_parts(head, Empty::new());
            ask_as_peer(&face, &behind, request).await.map(Full::new)
        }
    });
    point(&b, &origin, "/good").await;
    assert!(a.get(&host, "/good", &[]).await.source().starts_with("peer:"));
    point(&b, &origin, "/bad").await;
    assert_eq!(a.get(&host, "/bad", &[]).await.source(), "origin");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// The fields are new after that, and so is the receipt.
#[tokio::test]
async fn what_was_validated_is_given_on() {
    let origin = Origin::start(|head, mut stream| async move {
        let answer = match head.contains("if-none-match: \"1\"") {
            false => ok("Cache-Control: max-age=0\r\nETag: \"1\"\r\n", b"true"),
            true => {
                b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: \"1\"\r\n\r\n"
                    .to_vec()
            }
        };
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let a = Node::start("127.0.0.1", None, |_| ()).await;
    let b = Node::start("127.0.0.1", Some(&a), |_| ()).await;
    a.knows(1).await;
    b.knows(1).await;
    let host = origin.host();
    for source in ["origin", "origin", "local"] {
        assert_eq!(a.get(&host, "/", &[]).await.source(), source);
    }
    let response = b.get(&host, "/", &[]).await;
    assert_eq!(
        (response.text().as_str(), response.field("etag").as_deref()),
        ("true", Some("\"1\""))
    );
    assert!(response.source().starts_with("peer:"), "{response:?}");
    assert_eq!(origin.count(), 2);
}
