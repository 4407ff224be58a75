//! Origins and peers that fail: the client gets right bytes or an honest error, never a wrong byte.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coralline_config::{Config, Https};
use coralline_proxy::Door;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::peers::{Peer, point};
use crate::world::{Node, Origin, WEB, name_server, ok, read_response, until};

/// A short body, a reset midway, a stall: the client's transfer breaks, and nothing is kept.
#[tokio::test]
async fn a_broken_body_is_never_taken_for_a_whole_one() {
    let origin = Origin::start(|head, mut stream| async move {
        let length =
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nCache-Control: max-age=60\r\n\r\nshort";
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n";
        match head.split(' ').nth(1).unwrap() {
            "/short" => stream.write_all(length.as_bytes()).await.unwrap(),
            "/chunked" => {
                stream.write_all(format!("{chunked}5\r\nshort\r\n").as_bytes()).await.unwrap();
            }
            "/bad-chunk" => {
                stream.write_all(format!("{chunked}zz\r\nshort\r\n").as_bytes()).await.unwrap();
            }
            "/stall" => {
                stream.write_all(length.as_bytes()).await.unwrap();
                let _ = stream.read_u8().await;
            }
            _ => stream.write_all(&ok("", b"fine")).await.unwrap(),
        }
    })
    .await;
    let node = Node::start("127.0.0.1", None, |config| {
        config.origin.stall_timeout = Duration::from_millis(300);
    })
    .await;
    for path in ["/short", "/chunked", "/bad-chunk", "/stall"] {
        for _ in 0..2 {
            let response = node.get(&origin.host(), path, &[]).await;
            assert!(!response.whole, "{path}: {}", response.head);
        }
    }
    assert_eq!(node.proxy.sources().cache_objects, 0);
    assert!(node.counted("coralline_proxy_errors_total") >= 8.0);
    assert_eq!(node.get(&origin.host(), "/", &[]).await.body, b"fine");
}

#[tokio::test]
async fn an_origin_that_gives_no_response() {
    let origin = Origin::start(|head, mut stream| async move {
        let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(300_000));
        let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
        match head.split(' ').nth(1).unwrap() {
            "/silent" => drop(stream.read_u8().await),
            "/close" => {}
            "/garbage" => stream.write_all(b"\x00\x01\x02 what\r\n\r\n").await.unwrap(),
            "/status" => stream.write_all(b"HTTP/1.1 2x0 OK\r\n\r\n").await.unwrap(),
            "/lengths" => stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
                .await
                .unwrap(),
            "/huge" => drop(stream.write_all(huge.as_bytes()).await),
            "/many" => {
                drop(stream.write_all(format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes()).await);
            }
            "/304" => stream.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n").await.unwrap(),
            _ => stream.write_all(&ok("", b"fine")).await.unwrap(),
        }
    })
    .await;
    let node = Node::start("127.0.0.1", None, |config| {
        config.origin.response_timeout = Duration::from_millis(300);
    })
    .await;
    let check = async |path: &str, status: u16, word: &str| {
        let response = node.get(&origin.host(), path, &[]).await;
        assert_eq!(response.status, status, "{path}");
        let field = response.field("proxy-status").unwrap();
        assert!(field.contains(&format!("error={word};")), "{path}: {field}");
    };
    check("/silent", 504, "http_response_timeout").await;
    check("/close", 502, "connection_terminated").await;
    check("/garbage", 502, "http_protocol_error").await;
    check("/status", 502, "http_protocol_error").await;
    check("/lengths", 502, "http_protocol_error").await;
    check("/huge", 502, "http_response_header_section_size").await;
    check("/many", 502, "http_response_header_section_size").await;
    check("/304", 502, "http_protocol_error").await;
    assert_eq!(node.get(&origin.host(), "/", &[]).await.body, b"fine");
    let mut origin = origin;
    origin.stop().await;
    let refused = node.get(&origin.host(), "/refused", &[]).await;
    assert_eq!(refused.status, 502);
    assert!(refused.field("proxy-status").unwrap().contains("connection_refused"));
}

#[tokio::test]
async fn a_hundred_gigabytes_pass_through_a_small_node() {
    let origin = Origin::start(|head, mut stream| async move {
        let chunked = head.starts_with("GET /chunked");
        let framing =
            if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 100000000000" };
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\nCache-Control: max-age=60\r\n\r\n");
        let mut piece = vec![b'x'; 65_536];
        if chunked {
            piece = [b"10000\r\n".as_slice(), &piece, b"\r\n"].concat();
        }
        stream.write_all(head.as_bytes()).await.unwrap();
        while stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    let memory = 8 << 20;
    let node = Node::start("127.0.0.1", None, |config| config.cache.memory.0 = memory).await;
    for path in ["/length", "/chunked"] {
        let mut stream = TcpStream::connect(node.http).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {}.cdn.localhost:1\r\n\r\n", origin.host());
        stream.write_all(request.as_bytes()).await.unwrap();
        // Ten times the memory goes through; then the client has enough.
        let mut left = 10 * memory as usize;
        let mut buf = vec![0; 1 << 16];
        while left > 0 {
            let len = stream.read(&mut buf).await.unwrap();
            assert!(len > 0, "{path} ended early");
            left = left.saturating_sub(len);
        }
        drop(stream);
    }
    until("the flights end with their clients", || {
        node.counted("coralline_flights") == 0.0 && node.counted("coralline_flight_bytes") == 0.0
    })
    .await;
    assert!(node.proxy.sources().cache_bytes <= memory / 2);
}

/// B receives from A; A dies; B goes on at the origin, and its client notices nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dies_midway_is_replaced_without_the_client_noticing() {
    let body: Arc<Vec<u8>> = Arc::new((0..2_000_000u32).map(|n| (n % 251) as u8).collect());
    let go = Arc::new(Semaphore::new(0));
    let (sent, held) = (body.clone(), go.clone());
    let origin = Origin::start(move |head, mut stream| {
        let (body, go) = (sent.clone(), held.clone());
        async move {
            let from = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let from: usize = from.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
            let (total, left) = (body.len(), body.len() - from);
            let last = total - 1;
            let status = match from {
                0 => "200 OK".to_owned(),
                _ => format!("206 Partial Content\r\nContent-Range: bytes {from}-{last}/{total}"),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {left}\r\nETag: \"v1\"\r\nCache-Control: max-age=60\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            if from > 0 {
                stream.write_all(&body[from..]).await.unwrap();
            } else {
                stream.write_all(&body[..total / 2]).await.unwrap();
                let _never = go.acquire().await;
            }
        }
    })
    .await;
    let b = Node::start("127.0.0.2", None, |_| ()).await;
    let (a, runtime) = Node::apart("127.0.0.1", Some(&b)).await;
    a.knows(1).await;
    b.knows(1).await;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}.cdn.localhost:1\r\nConnection: close\r\n\r\n",
        origin.host()
    );
    let mut at_a = TcpStream::connect(a.http).await.unwrap();
    at_a.write_all(request.as_bytes()).await.unwrap();
    at_a.read_exact(&mut [0; 500]).await.unwrap();
    let mut at_b = TcpStream::connect(b.http).await.unwrap();
    at_b.write_all(request.as_bytes()).await.unwrap();
    let mut start = vec![0; 500_000];
    at_b.read_exact(&mut start).await.unwrap();
    runtime.shutdown_background();
    let mut rest = read_rest(&mut at_b).await;
    start.append(&mut rest);
    let text = start.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(String::from_utf8_lossy(&start[..text]).contains("detail=peer:L"));
    assert_eq!(&start[text..], body.as_slice());
    assert_eq!(origin.count(), 2);
    assert!(origin.last().contains("if-range: \"v1\""));
    assert_eq!(b.counted("coralline_resumed_transfers_total"), 1.0);
}

async fn read_rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(crate::world::PATIENCE, stream.read_to_end(&mut rest)).await;
    read.expect("an end").unwrap();
    rest
}

/// Holders that are gone: the origin is asked, and the answer is right.
#[tokio::test]
async fn a_pointer_to_a_dead_node_costs_no_answer() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", b"fine")).await;
    let b = Node::start("127.0.0.2", None, |_| ()).await;
    let (a, runtime) = Node::apart("127.0.0.1", Some(&b)).await;
    a.knows(1).await;
    b.knows(1).await;
    assert_eq!(a.get(&origin.host(), "/", &[]).await.source(), "origin");
    runtime.shutdown_background();
    let response = b.get(&origin.host(), "/", &[]).await;
    assert_eq!((response.status, response.text().as_str()), (200, "fine"));
}

/// TLS on both sides: the door for clients on https, and the origin behind it.
#[tokio::test]
async fn certificates_are_checked() {
    let state = tempfile::tempdir().unwrap();
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".into(), "*.cdn.localhost".into()]);
    let rcgen::CertifiedKey { cert, signing_key } = made.unwrap();
    let (chain, key) = (state.path().join("chain.pem"), state.path().join("key.pem"));
    std::fs::write(&chain, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let https = Https { listen: Vec::new(), certificate: Some(chain.clone()), key: Some(key) };
    let door = || Door::https(&https).unwrap();
    let Door::Https(acceptor) = door() else { panic!("an https door") };
    let origin = Origin::start_with(Some(acceptor), |_, mut stream| async move {
        stream.write_all(&ok("Cache-Control: max-age=60\r\n", b"over tls")).await.unwrap();
        let _ = stream.shutdown().await;
    })
    .await;
    let label = format!("localhost-{}.cdn.localhost", origin.addr.port());
    let trusting = |config: &mut Config| config.origin.ca_file = Some(chain.clone());
    for (set, status, word) in [
        (Box::new(|_: &mut Config| ()) as Box<dyn Fn(&mut Config)>, 502, "tls_certificate_error"),
        (Box::new(trusting), 200, ""),
    ] {
        let node = Node::start("127.0.0.1", None, set).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(node.proxy.clone().serve(listener, door(), stop.clone()));
        let mut stream = tls_client(cert.der()).connect_to(addr, &label).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {label}:1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, status, "{}", response.head);
        let field = response.field("proxy-status").unwrap_or_default();
        assert!(field.contains(word), "{field}");
        stop.cancel();
    }
    // Plain HTTP to that port: the origin speaks TLS, which is no HTTP.
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    assert_eq!(node.get(&origin.host(), "/", &[]).await.status, 502);
}

struct TlsClient(tokio_rustls::TlsConnector);

fn tls_client(root: &rustls::pki_types::CertificateDer<'static>) -> TlsClient {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsClient(Arc::new(config).into())
}

impl TlsClient {
    async fn connect_to(
        &self,
        addr: std::net::SocketAddr,
        name: &str,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let tcp = TcpStream::connect(addr).await.unwrap();
        self.0.connect(name, tcp).await.unwrap()
    }
}

/// Whatever a transfer goes on with, it is the same octets or none.
#[tokio::test]
async fn a_transfer_goes_on_only_with_the_same_octets() {
    // Every first answer breaks off after five of ten octets; then the script says what comes.
    let origin = Origin::start(|head, mut stream| async move {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let tag = match path.as_str() {
            "/weak" => "ETag: W/\"1\"\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n",
            "/fresh-date" => {
                "Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n"
            }
            _ => "ETag: \"1\"\r\n",
        };
        let max_age = "Cache-Control: max-age=60\r\n";
        let resumed = head.contains("range: bytes=5-");
        let answer = match (resumed, path.as_str()) {
            (false, _) => format!("200 OK\r\nContent-Length: 10\r\n{tag}{max_age}\r\nAAAAA"),
            (true, "/other") => "206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\nETag: \"2\"\r\n\r\nBBBBB".into(),
            (true, "/whole") => format!("200 OK\r\nContent-Length: 10\r\n{tag}\r\nAAAAAaaaaa"),
            (true, _) => format!("206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n{tag}\r\naaaaa"),
        };
        let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    for path in ["/part", "/whole"] {
        let response = node.get(&origin.host(), path, &[]).await;
        assert_eq!((response.whole, response.text().as_str()), (true, "AAAAAaaaaa"), "{path}");
    }
    for path in ["/weak", "/fresh-date", "/other"] {
        let response = node.get(&origin.host(), path, &[]).await;
        assert!(!response.whole, "{path}: {}", response.text());
    }
    assert_eq!(node.proxy.sources().cache_objects, 2);
}

/// The memory for arriving bodies is taken: what comes then is not kept, and right all the same.
#[tokio::test]
async fn a_body_is_whole_when_there_is_no_room_to_keep_it() {
    let dripping = Origin::start(|_, mut stream| async move {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\nCache-Control: max-age=60\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&vec![b'x'; 3_600_000]).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let origin = Origin::start(|_, mut stream| async move {
        let head =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        for _ in 0..50 {
            let piece = [b"10000\r\n".as_slice(), &[b'y'; 65_536], b"\r\n"].concat();
            let _ = stream.write_all(&piece).await;
        }
        let _ = stream.write_all(b"0\r\n\r\n").await;
    })
    .await;
    let node = Node::start("127.0.0.1", None, |config| config.cache.memory.0 = 8 << 20).await;
    let mut held = TcpStream::connect(node.http).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {}.cdn.localhost:1\r\n\r\n", dripping.host());
    held.write_all(request.as_bytes()).await.unwrap();
    until("the memory is taken", || node.counted("coralline_flight_bytes") > 3.0e6).await;
    for _ in 0..10 {
        let response = node.get(&origin.host(), "/", &[]).await;
        assert!(response.whole, "{}", response.head);
        assert_eq!(response.body.len(), 50 * 65_536);
    }
    // Small ones still have room.
    let small = Origin::fixed(ok("Cache-Control: max-age=60\r\n", b"small")).await;
    node.get(&small.host(), "/", &[]).await;
    assert_eq!(node.get(&small.host(), "/", &[]).await.source(), "local");
}

/// A body in chunks of one octet costs about what it holds.
#[tokio::test]
async fn small_chunks_do_not_multiply_memory() {
    const LENGTH: usize = 300_000;
    let origin = Origin::start(|_, mut stream| async move {
        let head =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n";
        let body = b"1\r\nx\r\n".repeat(LENGTH);
        let _ = stream.write_all(&[head.as_bytes(), &body, b"0\r\n\r\n"].concat()).await;
    })
    .await;
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    assert_eq!(node.get(&origin.host(), "/", &[]).await.body.len(), LENGTH);
    until("it is stored", || node.proxy.sources().cache_objects == 1).await;
    assert!(node.proxy.sources().cache_bytes < 2 * LENGTH as u64);
}

/// A peer that answers with what no cache may give: the origin is asked, and nothing sticks.
#[tokio::test]
async fn a_peer_that_answers_nonsense_is_passed_by() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\nETag: \"1\"\r\n", b"true")).await;
    for (status, field) in [
        (206, ("content-range", "bytes 0-3/4")),
        (200, ("cache-control", "no-store")),
        (304, ("x", "y")),
        (503, ("x", "y")),
    ] {
        let liar = Peer::bind().await;
        let addr = liar.addr;
        let a = Node::start("127.0.0.1", None, |_| ()).await;
        // A node of the index whose content port is the liar's.
        let b = Node::start("127.0.0.1", Some(&a), |config| config.peer.listen = addr).await;
        a.knows(1).await;
        b.knows(1).await;
        let asked = liar.serve(&b.index, move |_| async move {
            let answer = http::Response::builder().status(status).header(field.0, field.1);
            answer.header("cache-status", "x; hit").body("EVIL".into()).unwrap()
        });
        let path = format!("/{status}");
        point(&b, &origin, &path).await;
        for source in ["origin", "local"] {
            let response = a.get(&origin.host(), &path, &[]).await;
            assert_eq!((response.status, response.text().as_str()), (200, "true"), "{status}");
            assert_eq!(response.source(), source, "{status}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{status}");
    }
}

/// Those who are led to a holder that is gone ask the index again without it: one of them goes to the
/// origin, and the others find that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_find_a_dead_holder_one_asks_the_origin() {
    let origin = Origin::fixed(ok("Cache-Control: max-age=60\r\n", b"true")).await;
    let [a, b, c] = Node::three(|_| ()).await;
    // A node of the index at whose content port nobody listens any more.
    let closed = TcpListener::bind("127.0.0.4:0").await.unwrap().local_addr().unwrap();
    let dead = Node::start("127.0.0.4", Some(&a), |config| config.peer.listen = closed).await;
    for node in [&a, &b, &c, &dead] {
        node.knows(3).await;
    }
    for n in 0..5 {
        let path = format!("/{n}");
        let uri = format!("http://localhost:{}{path}", origin.addr.port());
        let key = coralline_overlay::Key::of_name(uri.as_bytes());
        let pointer = coralline_overlay::Pointer {
            holder: dead.index.local(),
            state: coralline_overlay::State::Whole,
            length: None,
            root: None,
        };
        dead.index.put(key, pointer, Duration::from_secs(60)).await.unwrap();
        let host = origin.host();
        let got = tokio::join!(
            a.get(&host, &path, &[]),
            b.get(&host, &path, &[]),
            c.get(&host, &path, &[])
        );
        let got = [got.0, got.1, got.2];
        assert!(got.iter().all(|response| response.text() == "true"), "{got:?}");
        let from_origin = got.iter().filter(|response| response.source() == "origin").count();
        assert_eq!((from_origin, origin.count()), (1, n + 1), "{got:?}");
    }
}

/// Dropping the door breaks off its connections.
#[tokio::test]
async fn an_aborted_door_ends_its_connections() {
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let door = node.proxy.clone().serve(listener, Door::Http, CancellationToken::new());
    let serving = tokio::spawn(door);
    let mut idle = TcpStream::connect(addr).await.unwrap();
    until("the connection is taken", || node.counted("coralline_http_connections") == 1.0).await;
    serving.abort();
    assert!(read_rest(&mut idle).await.is_empty());
    assert_eq!(node.counted("coralline_http_connections"), 0.0);
}

/// https first, http where there is none, and what was found is remembered.
#[tokio::test]
async fn the_scheme_that_was_left_open_is_found_and_remembered() {
    let Ok(http) = TcpListener::bind((WEB, 80)).await else {
        assert!(std::env::var_os("CI").is_none(), "CI may bind port 80, and skips nothing");
        println!("skipped: ports below 1024 may not be bound here");
        return;
    };
    let state = tempfile::tempdir().unwrap();
    let names = vec!["web.test".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (state.path().join("chain.pem"), state.path().join("key.pem"));
    std::fs::write(&chain, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let server = name_server().await;
    let start = async |trust: bool| {
        Node::start("127.0.0.1", None, |config| {
            config.origin.nameservers = vec![server];
            config.origin.ca_file = trust.then(|| chain.clone());
        })
        .await
    };
    let plain = Origin::on(http, None, |head, mut stream| async move {
        let response = match head.split(' ').nth(1).unwrap() {
            "/upgrade" => {
                b"HTTP/1.1 301 Moved\r\nLocation: https://web.test/upgrade\r\nContent-Length: 0\r\n\r\n"
                    .to_vec()
            }
            _ => ok("", b"http"),
        };
        let _ = stream.write_all(&response).await;
        let _ = stream.shutdown().await;
    });
    let node = start(true).await;
    for path in ["/1", "/2"] {
        assert_eq!(node.get("web.test", path, &[]).await.text(), "http");
    }
    // By its own word https, which there is none of.
    assert_eq!(node.get("web.test.443", "/", &[]).await.status, 502);

    let https = Https { listen: Vec::new(), certificate: Some(chain.clone()), key: Some(key) };
    let Door::Https(acceptor) = Door::https(&https).unwrap() else { panic!("an https door") };
    let listener = TcpListener::bind((WEB, 443)).await.unwrap();
    let secure = Origin::on(listener, Some(acceptor), |head, mut stream| async move {
        let response = match head.split(' ').nth(1).unwrap() {
            "/back" => {
                b"HTTP/1.1 301 Moved\r\nLocation: http://web.test/back\r\nContent-Length: 0\r\n\r\n"
                    .to_vec()
            }
            _ => ok("", b"https"),
        };
        let _ = stream.write_all(&response).await;
        let _ = stream.shutdown().await;
    });
    // Remembered: nobody looks for https again so soon.
    assert_eq!(node.get("web.test", "/3", &[]).await.text(), "http");
    assert_eq!((plain.count(), secure.count()), (3, 0));

    let node = start(true).await;
    assert_eq!(node.get("web.test", "/4", &[]).await.text(), "https");
    // http was asked for by its port; its redirect to https for the same is followed here.
    assert_eq!(node.get("web.test.80", "/upgrade", &[]).await.text(), "https");
    // https sends the reader back to http: the name says so, lest it go round and round.
    let back = node.get("web.test", "/back", &[]).await;
    let expect = format!("http://web.test.80.cdn.localhost:{}/back", node.http.port());
    assert_eq!(back.field("location").unwrap(), expect);
    // A wrong certificate is no https for who left it open, and an error for who asked for https.
    let node = start(false).await;
    assert_eq!(node.get("web.test", "/5", &[]).await.text(), "http");
    let refused = node.get("web.test.443", "/5", &[]).await;
    assert!(refused.field("proxy-status").unwrap().contains("tls_certificate_error"));
}

/// An origin closes connections that were kept, just as they are used again: another is opened, and nobody hears of
/// it. One that closes a new connection is asked once.
#[tokio::test]
async fn a_kept_connection_that_is_closed_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("localhost.{}", listener.local_addr().unwrap().port());
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let log = log.clone();
            tokio::spawn(async move {
                for nth in 0.. {
                    let mut head = vec![0; 4096];
                    let length = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..length]).into_owned();
                    let Some(path) = head.split(' ').nth(1).map(str::to_owned) else { return };
                    log.lock().unwrap().push((nth, path.clone()));
                    if nth > 0 || path == "/never" {
                        return;
                    }
                    let answer =
                        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\nok";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let node = Node::start("127.0.0.1", None, |_| ()).await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(node.get(&host, path, &[]).await.text(), "ok");
    }
    assert_eq!(node.get(&host, "/never", &[]).await.status, 502);
    let asked = asked.lock().unwrap().clone();
    let times = |path| asked.iter().filter(|(_, asked)| asked == path).count();
    assert_eq!(["/1", "/2", "/3", "/never"].map(times), [1, 2, 2, 2], "{asked:?}");
}
