//! The name server on real sockets, asked over UDP, over TCP and by dig.
#![expect(clippy::unwrap_used, reason = "this file is nothing but tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coralline_config::Config;
use coralline_dns::{Metrics, Responder, bind};
use coralline_overlay::{Contact, Directory, Identity, Instant, Level, Neighbour, Services};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Long enough for any machine: it only ends a test that has failed already.
const DEADLINE: Duration = Duration::from_secs(30);

struct Server {
    address: SocketAddr,
    registry: Registry,
    directory: Arc<Mutex<Arc<Directory>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let bound = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = bound.addresses()[0];
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let directory = Arc::new(Mutex::new(Arc::new(living(&["127.0.0.1", "127.0.0.2"]))));
        let (stop, stopped) = oneshot::channel::<()>();
        let snapshot = Arc::clone(&directory);
        let task = tokio::spawn(bound.serve(
            Responder::new(&Config::default()),
            metrics,
            move || Arc::clone(&snapshot.lock().unwrap()),
            async {
                let _ = stopped.await;
            },
        ));
        Self { address, registry, directory, stop, task }
    }

    fn counted(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let has = |metric: &&prometheus::proto::Metric| {
            metric.get_label().iter().any(|pair| pair.value() == label)
        };
        family.get_metric().iter().filter(has).map(|metric| metric.get_counter().get_value()).sum()
    }
}

/// This node and its live neighbours, all of which serve everything.
fn living(addresses: &[&str]) -> Directory {
    let services = Services::PROXY.with(Services::DNS);
    let mut contacts = addresses.iter().map(|address| Contact {
        identity: Identity([0; 32]),
        addr: SocketAddr::new(address.parse().unwrap(), 7400),
        slot: 0,
        peer_port: 7400,
        services,
    });
    let local = contacts.next().unwrap();
    let neighbour = |contact| Neighbour {
        contact,
        verified: Instant::from_micros(0),
        rtt: None,
        level: Level::GLOBAL,
    };
    Directory { local, neighbours: contacts.map(neighbour).collect(), joined: true }
}

fn query(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.set_edns(Edns::new());
    message.to_vec().unwrap()
}

async fn ask_udp(server: SocketAddr, octets: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(octets).await.unwrap();
    let mut response = [0; 2048];
    let length = timeout(DEADLINE, socket.recv(&mut response)).await.unwrap().unwrap();
    Message::from_vec(&response[..length]).unwrap()
}

fn addresses(response: &Message) -> Vec<String> {
    let mut addresses: Vec<String> = response.answers.iter().map(|r| r.data.to_string()).collect();
    addresses.sort();
    addresses
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

async fn read_framed(stream: &mut TcpStream) -> Message {
    let read = async {
        let mut octets = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut octets).await.unwrap();
        octets
    };
    Message::from_vec(&timeout(DEADLINE, read).await.unwrap()).unwrap()
}

/// Reads to the end that the server makes.
async fn ended(mut stream: TcpStream) -> usize {
    let mut rest = Vec::new();
    // A reset is an end as well: there may be octets that the server did not read.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
    rest.len()
}

#[tokio::test]
async fn udp_follows_the_directory() {
    let server = Server::start();
    let octets = query(1, "www.example.com.cdn.localhost.", RecordType::A);
    let response = ask_udp(server.address, &octets).await;
    assert_eq!(response.metadata.response_code, ResponseCode::NoError);
    assert_eq!(addresses(&response), ["127.0.0.1", "127.0.0.2"]);
    *server.directory.lock().unwrap() = Arc::new(living(&["127.0.0.1"]));
    assert_eq!(addresses(&ask_udp(server.address, &octets).await), ["127.0.0.1"]);
    assert_eq!(server.counted("coralline_dns_queries_total", "NOERROR"), 2.0);
}

#[tokio::test]
async fn tcp_answers_in_order_what_comes_in_a_row_and_in_pieces() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut octets = framed(&query(1, "a.cdn.localhost.", RecordType::A));
    octets.extend(framed(&query(2, "b.example.", RecordType::A)));
    octets.extend(framed(&query(3, "cdn.localhost.", RecordType::NS)));
    let (first, rest) = octets.split_at(5);
    stream.set_nodelay(true).unwrap();
    stream.write_all(first).await.unwrap();
    tokio::task::yield_now().await;
    stream.write_all(rest).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..3 {
        let response = read_framed(&mut stream).await;
        found.push((response.metadata.id, response.metadata.response_code));
    }
    let expect = [ResponseCode::NoError, ResponseCode::Refused, ResponseCode::NoError];
    assert_eq!(found, [(1, expect[0]), (2, expect[1]), (3, expect[2])]);
    assert_eq!(server.counted("coralline_dns_queries_total", "tcp"), 3.0);
}

#[tokio::test]
async fn tcp_ends_what_makes_no_sense_and_serves_the_next() {
    let server = Server::start();
    for nonsense in [&[0, 0][..], &[0, 3, 1, 2, 3], &[0xff, 0xff], &framed(&[0xff; 40])] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        assert_eq!(ended(stream).await, 0, "{nonsense:?}");
    }
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(&[0, 200, 1]).await.unwrap();
    half.shutdown().await.unwrap();
    assert_eq!(ended(half).await, 0);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&framed(&query(9, "a.cdn.localhost.", RecordType::A))).await.unwrap();
    assert_eq!(read_framed(&mut stream).await.metadata.id, 9);
}

#[tokio::test]
async fn udp_noise_is_counted_and_does_no_harm() {
    let server = Server::start();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let response = [&[0, 1, 0x80][..], &[0; 20]].concat();
    for noise in [&[][..], &[1], &[7; 11], &response] {
        socket.send_to(noise, server.address).await.unwrap();
    }
    socket.send_to(&[7; 5000], server.address).await.unwrap();
    let mut junk = [0u8; 700];
    for round in 0..500usize {
        let length = round * 37 % junk.len();
        junk[..length].iter_mut().enumerate().for_each(|(at, octet)| {
            *octet = u8::try_from((at * round * 31 + 7) % 256).unwrap();
        });
        socket.send_to(&junk[..length], server.address).await.unwrap();
        // Lets the server take its turn, so that the kernel has room for the question below.
        tokio::task::yield_now().await;
    }
    let response = ask_udp(server.address, &query(5, "a.cdn.localhost.", RecordType::A)).await;
    assert_eq!(response.metadata.id, 5);
    assert!(server.counted("coralline_dns_dropped_total", "short") >= 3.0);
    assert!(server.counted("coralline_dns_dropped_total", "response") >= 1.0);
}

#[tokio::test]
async fn a_port_in_use_names_the_address_and_the_key() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let error = bind(&[address]).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("dns.listen: cannot listen on {address} (udp): ")),
        "{error}"
    );
    assert!(error.ends_with("; stop the program that has it, or choose another port"), "{error}");
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let error = bind(&[address]).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("dns.listen: cannot listen on {address} (tcp): ")),
        "{error}"
    );
    let foreign = "192.0.2.1:5300".parse().unwrap();
    let error = bind(&[foreign]).unwrap_err().to_string();
    assert!(error.ends_with("; choose an address of this host"), "{error}");
}

#[tokio::test]
async fn shutdown_ends_connections_and_frees_the_port() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&framed(&query(1, "a.cdn.localhost.", RecordType::A))).await.unwrap();
    read_framed(&mut stream).await;
    server.stop.send(()).unwrap();
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
    assert_eq!(ended(stream).await, 0);
    assert!(bind(&[server.address]).is_ok());
}

#[tokio::test]
async fn a_panic_is_not_hidden() {
    let bound = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = bound.addresses()[0];
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let responder = Responder::new(&Config::default());
    let broken = || panic!("this test breaks the directory on purpose");
    let task = tokio::spawn(bound.serve(responder, metrics, broken, std::future::pending()));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(&[0; 12], address).await.unwrap();
    assert!(timeout(DEADLINE, task).await.unwrap().unwrap_err().is_panic());
}

/// The output of dig, or nothing when there is no dig and no CI asks for it.
async fn dig(server: SocketAddr, arguments: &'static [&'static str]) -> Option<String> {
    let run = move || {
        std::process::Command::new("dig")
            .arg(format!("@{}", server.ip()))
            .args(["-p", &server.port().to_string(), "+norecurse", "+tries=5", "+time=5"])
            .args(arguments)
            .output()
    };
    match tokio::task::spawn_blocking(run).await.unwrap() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) => {
            #[expect(clippy::disallowed_methods, reason = "only CI must have every program")]
            let in_ci = std::env::var("CI").is_ok();
            assert!(!in_ci, "dig: {error}; install dnsutils");
            println!("skipped: there is no dig here ({error})");
            None
        }
    }
}

#[tokio::test]
async fn dig_understands_us() {
    let server = Server::start();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["+short", "www.example.com.cdn.localhost"], &["127.0.0.1\n", "127.0.0.2\n"]),
        (&["+tcp", "+short", "www.example.com.cdn.localhost"], &["127.0.0.1\n", "127.0.0.2\n"]),
        (&["www.example.com.cdn.localhost", "AAAA"], &["NOERROR", "qr aa;", "AUTHORITY: 1", "SOA"]),
        (&["cdn.localhost", "NS"], &["n-127-0-0-1.ns.cdn.localhost.", "ADDITIONAL: 3"]),
        (&["www.example.com", "A"], &["REFUSED"]),
        (&["cdn.localhost", "AXFR"], &["Transfer failed"]),
        (&["+edns=1", "+noednsneg", "cdn.localhost"], &["BADVERS"]),
        (&["+subnet=0", "cdn.localhost"], &["NOERROR", "CLIENT-SUBNET: 0", "/0/0"]),
        (&["+subnet=192.0.2.0/24", "cdn.localhost"], &["NOERROR", "CLIENT-SUBNET: 192.0.2.0/24/0"]),
    ];
    for (arguments, expect) in cases {
        let arguments: &'static [&'static str] = arguments;
        let Some(output) = dig(server.address, arguments).await else { return };
        for part in expect {
            assert!(output.contains(part), "dig {arguments:?} lacks {part:?}:\n{output}");
        }
        assert!(!output.contains("WARNING"), "dig {arguments:?}:\n{output}");
    }
}
