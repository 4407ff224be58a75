//! A web server with a name server beside it, that counts what it is asked for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::{RData, Record, RecordType};

use super::place::Place;
use crate::harness::now;

/// The ports of the two; where one may not make namespaces one may not have 53 either.
const HTTP: u16 = 8000;
const DNS: u16 = 5353;
/// The name that the name server has an address for.
const NAME: &str = "origin.example";

/// The octets of object `n`: no two objects share any 8.
pub(crate) fn body(n: usize, length: usize) -> Vec<u8> {
    let first = (n as u64) << 40;
    (first..).flat_map(u64::to_be_bytes).take(length).collect()
}

/// A GET that it was sent: for which object, of which octets, when.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) at: Instant,
    sent: Arc<AtomicUsize>,
}

impl Fetch {
    /// Octets of the body that have left.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed) as u64
    }
}

/// Serves `/N`, an object of `length` octets, for every number N, and hangs up after `/N?close`. Runs as long
/// as its host.
pub(crate) struct Origin {
    ip: IpAddr,
    fetches: Arc<Mutex<Vec<Fetch>>>,
}

impl Origin {
    pub(crate) fn start(place: &Place, length: usize) -> Self {
        let (ip, fetches) = (place.ip, Arc::new(Mutex::new(Vec::new())));
        let log = fetches.clone();
        place.run(move || {
            let web = TcpListener::bind((ip, HTTP)).unwrap();
            let names = UdpSocket::bind((ip, DNS)).unwrap();
            thread::spawn(move || answer(&names, ip));
            thread::spawn(move || {
                for stream in web.incoming().flatten() {
                    let log = log.clone();
                    thread::spawn(move || serve(&stream, length, &log));
                }
            });
        });
        Self { ip, fetches }
    }

    /// Whom nodes ask for its address.
    pub(crate) fn name_server(&self) -> SocketAddr {
        (self.ip, DNS).into()
    }

    /// The host under which nodes are asked for its objects.
    pub(crate) fn host() -> String {
        format!("{NAME}.{HTTP}.cdn.localhost")
    }

    /// Another name for it.
    pub(crate) fn other_host() -> String {
        format!("www.{NAME}.{HTTP}.cdn.localhost")
    }

    /// All GETs so far.
    pub(crate) fn fetches(&self) -> Vec<Fetch> {
        self.fetches.lock().unwrap().clone()
    }
}

/// Requests on one connection, one after the other (RFC 9112, section 9.3).
fn serve(stream: &TcpStream, length: usize, log: &Mutex<Vec<Fetch>>) -> Option<()> {
    // The end of a body is not to wait for an acknowledgement of its beginning.
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let first = lines.next()?.ok()?;
        let head: Vec<_> =
            lines.by_ref().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let fields: BTreeMap<_, _> = head
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let mut words = first.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let number = path.strip_prefix('/')?.trim_end_matches("?close");
        let close = path.ends_with("?close");
        let body = body(number.parse().ok()?, length);
        let range = fields.get("range").map(|range| (*range).to_owned());
        let asked = range.as_deref().and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            let last = last.parse().map_or(length, |last: usize| length.min(last + 1));
            Some((first.parse::<usize>().ok()?, last))
        });
        let (status, part, at) = match asked {
            Some((first, last)) => {
                let at = format!("Content-Range: bytes {first}-{}/{length}\r\n", last - 1);
                ("206 Partial Content", &body[first..last], at)
            }
            None => ("200 OK", &body[..], String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{}\"\r\n\
             Cache-Control: max-age=86400\r\n{at}{}\r\n",
            part.len(),
            number,
            if close { "Connection: close\r\n" } else { "" },
        );
        let mut stream = stream;
        stream.write_all(head.as_bytes()).ok()?;
        if method == "GET" {
            let sent = Arc::new(AtomicUsize::new(0));
            let fetch = Fetch { path: path.to_owned(), range, at: now(), sent: sent.clone() };
            log.lock().unwrap().push(fetch);
            for piece in part.chunks(16 << 10) {
                stream.write_all(piece).ok()?;
                sent.fetch_add(piece.len(), Ordering::Relaxed);
            }
        }
        if close {
            return None;
        }
    }
}

/// Answers for its own name, with an address; whoever asks for another kind hears that there is none.
fn answer(socket: &UdpSocket, ip: IpAddr) {
    let mut buffer = [0; 1_232];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Ok(mut message) = Message::from_vec(&buffer[..length]) else { continue };
        let Some(query) = message.queries.first().cloned() else { continue };
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        if let (RecordType::A, IpAddr::V4(v4)) = (query.query_type(), ip) {
            message.add_answer(Record::from_rdata(
                query.name().clone(),
                3_600,
                RData::A(v4.into()),
            ));
        }
        if let Ok(octets) = message.to_vec() {
            let _ = socket.send_to(&octets, from);
        }
    }
}
