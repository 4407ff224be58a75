//! An origin whose bodies are a function of path and version, so that each octet which a node serves can be
//! checked, whichever version it is of and from wherever it comes.
//!
//! A path is `/LENGTH/KIND/NAME`. `keep` is fresh for an hour, `check` is validated each time, `chunked` is
//! as `keep` and does not tell its length. Of `torn` only half comes unless a range is asked for, `none` is not
//! found, and `mute` is hung up on. POST makes a new version.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::spawn;

use crate::harness::Reply;

/// A prime: octets that were shifted by a block or a slice differ.
const PERIOD: usize = 65_521;
/// What is written at a time.
const PIECE: usize = 64 * 1024;

/// One step of a small generator (splitmix64).
pub(crate) fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// The body of one version of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    shift: usize,
    pub(crate) length: u64,
}

impl Script {
    pub(crate) fn of(path: &str, version: u64) -> Self {
        let name = path.bytes().fold(0, |sum, octet| mix(sum ^ u64::from(octet)));
        let length = path.split('/').nth(1).and_then(|length| length.parse::<u64>().ok());
        let length = length.expect("a path begins with a length") + 13 * version;
        let shift = name % 60_000 + version * 7_919;
        Self { shift: usize::try_from(shift).unwrap() % PERIOD, length }
    }

    /// Octets from `offset` on, as many as are at hand.
    fn octets(self, offset: u64) -> &'static [u8] {
        static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
        let pattern = PATTERN.get_or_init(|| {
            (0..PERIOD + PIECE).map(|n| mix((n % PERIOD) as u64).to_le_bytes()[0]).collect()
        });
        let start = (usize::try_from(offset % PERIOD as u64).unwrap() + self.shift) % PERIOD;
        &pattern[start..start + PIECE]
    }

    /// Whether these are its octets from `offset` on.
    pub(crate) fn matches(self, mut offset: u64, mut octets: &[u8]) -> bool {
        while !octets.is_empty() {
            let (piece, rest) = octets.split_at(octets.len().min(PIECE));
            if piece != &self.octets(offset)[..piece.len()] {
                return false;
            }
            offset += piece.len() as u64;
            octets = rest;
        }
        offset <= self.length
    }

    fn write(self, stream: &mut TcpStream, range: Range<u64>, chunked: bool) -> Option<()> {
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(PIECE as u64);
            let piece = &self.octets(at)[..usize::try_from(length).unwrap()];
            if chunked {
                stream.write_all(format!("{length:x}\r\n").as_bytes()).ok()?;
            }
            stream.write_all(piece).ok()?;
            if chunked {
                stream.write_all(b"\r\n").ok()?;
            }
            at += length;
        }
        if chunked { stream.write_all(b"0\r\n\r\n").ok() } else { Some(()) }
    }
}

/// Checks a whole 200, 206 or 304 to a request for `path`; gives the version.
pub(crate) fn verify(path: &str, reply: &Reply) -> u64 {
    let version = reply.header("x-version").parse().expect("each response has its version");
    let tag = format!("\"{version}\"");
    assert_eq!(reply.header("etag"), tag, "{path}: fields of two versions");
    let script = Script::of(path, version);
    let (start, length) = match reply.status {
        304 => (0, 0),
        206 => {
            let range = reply.header("content-range");
            let parts: Vec<u64> =
                range.split([' ', '-', '/']).filter_map(|part| part.parse().ok()).collect();
            let [first, last, total] = parts[..] else { panic!("{path}: {range}") };
            assert_eq!(total, script.length, "{path} {version}");
            (first, last + 1 - first)
        }
        status => {
            assert_eq!(status, 200, "{path}: {}", reply.text());
            (0, script.length)
        }
    };
    assert_eq!(reply.body.len() as u64, length, "{path} {version}: a torn body");
    assert!(script.matches(start, &reply.body), "{path} {version}: a wrong octet");
    version
}

/// What was asked of an origin for one path.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    /// Requests.
    pub(crate) times: u64,
    /// Octets of bodies that were sent in answer.
    pub(crate) octets: u64,
}

/// An origin that listens as long as the test runs.
pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    versions: BTreeMap<String, u64>,
    asked: BTreeMap<String, Asked>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, state) = (listener.local_addr().unwrap(), Arc::<Mutex<State>>::default());
        let shared = state.clone();
        spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                spawn(move || serve(&stream, &state));
            }
        });
        Self { addr, state }
    }

    /// The host under which nodes are asked for it.
    pub(crate) fn host(&self) -> String {
        format!("localhost.{}.cdn.localhost", self.addr.port())
    }

    pub(crate) fn version(&self, path: &str) -> u64 {
        self.state.lock().unwrap().versions.get(path).copied().unwrap_or_default()
    }

    /// From now on there is a new version; returns it.
    pub(crate) fn replace(&self, path: &str) -> u64 {
        let mut state = self.state.lock().unwrap();
        let version = state.versions.entry(path.to_owned()).or_default();
        *version += 1;
        *version
    }

    /// Requests for whatever path.
    pub(crate) fn requests(&self) -> u64 {
        self.state.lock().unwrap().asked.values().map(|asked| asked.times).sum()
    }

    /// Requests and octets for whatever path.
    pub(crate) fn total(&self) -> Asked {
        let state = self.state.lock().unwrap();
        state.asked.values().fold(Asked::default(), |sum, asked| Asked {
            times: sum.times + asked.times,
            octets: sum.octets + asked.octets,
        })
    }

    pub(crate) fn asked(&self, path: &str) -> Asked {
        self.state.lock().unwrap().asked.get(path).copied().unwrap_or_default()
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let mut stream = stream.try_clone().ok()?;
    // Head and body are written one after the other: neither is to wait for an acknowledgement.
    stream.set_nodelay(true).ok()?;
    loop {
        let first = lines.next()?.ok()?;
        let mut words = first.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut fields = BTreeMap::new();
        loop {
            let line = lines.next()?.ok()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        answer(&mut stream, state, &method, &path, &fields)?;
    }
}

fn answer(
    stream: &mut TcpStream,
    state: &Mutex<State>,
    method: &str,
    path: &str,
    fields: &BTreeMap<String, String>,
) -> Option<()> {
    let version = {
        let mut state = state.lock().unwrap();
        let version = state.versions.entry(path.to_owned()).or_default();
        *version += u64::from(method == "POST");
        let version = *version;
        state.asked.entry(path.to_owned()).or_default().times += 1;
        version
    };
    if method == "POST" {
        return stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok();
    }
    let kind = path.split('/').nth(2)?;
    let sent =
        |octets| state.lock().unwrap().asked.entry(path.to_owned()).or_default().octets += octets;
    match kind {
        "mute" => return None,
        "none" => {
            let (length, page) = if method == "HEAD" { (9, "") } else { (9, "not here\n") };
            sent(page.len() as u64);
            let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n");
            return stream.write_all((head + page).as_bytes()).ok();
        }
        _ => {}
    }
    let (script, tag) = (Script::of(path, version), format!("\"{version}\""));
    let lifetime = if kind.ends_with("check") { "no-cache" } else { "max-age=3600" };
    let common = format!("ETag: {tag}\r\nX-Version: {version}\r\nCache-Control: {lifetime}\r\n");
    if fields.get("if-none-match").is_some_and(|tags| tags.contains(&tag)) {
        return stream
            .write_all(format!("HTTP/1.1 304 Not Modified\r\n{common}\r\n").as_bytes())
            .ok();
    }
    let same = fields.get("if-range").is_none_or(|held| *held == tag);
    let range = fields.get("range").filter(|_| same).and_then(|range| part(range, script.length));
    let (status, framing) = match &range {
        Some(range) => {
            let (length, last) = (range.end - range.start, range.end - 1);
            let place = format!("bytes {}-{last}/{}", range.start, script.length);
            (
                "206 Partial Content",
                format!("Content-Range: {place}\r\nContent-Length: {length}\r\n"),
            )
        }
        None if kind == "chunked" => ("200 OK", "Transfer-Encoding: chunked\r\n".to_owned()),
        None => ("200 OK", format!("Content-Length: {}\r\n", script.length)),
    };
    stream.write_all(format!("HTTP/1.1 {status}\r\n{common}{framing}\r\n").as_bytes()).ok()?;
    if method == "HEAD" {
        return Some(());
    }
    let chunked = kind == "chunked" && range.is_none();
    let torn = kind == "torn" && range.is_none();
    let whole = if torn { 0..script.length / 2 } else { 0..script.length };
    let range = range.unwrap_or(whole);
    sent(range.end - range.start);
    script.write(stream, range, chunked).filter(|()| !torn)
}

/// The one range of a Range field.
fn part(field: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = field.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let last = last.parse().unwrap_or(length - 1).min(length - 1);
    (first <= last).then_some(first..last + 1)
}
