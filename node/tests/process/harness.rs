//! Starts real processes on loopback addresses that no other test has, and talks to them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The ports of every node; addresses differ instead.
pub(crate) const HTTP: u16 = 8080;
pub(crate) const DNS: u16 = 5300;
pub(crate) const OVERLAY: u16 = 7400;
pub(crate) const ADMIN: u16 = 7480;

/// How long anything may take on a busy machine before a test fails. Never waited out on success.
const DEADLINE: Duration = Duration::from_secs(120);

/// The command under test, with an environment of its own.
pub(crate) fn coralline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coralline"));
    command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// An address of 127.0.0.0/8 that nobody else uses while this process lives (Linux has them all).
pub(crate) fn address() -> IpAddr {
    // The last address of a /24 with its port taken is the sign that a test process has the rest.
    static BLOCK: OnceLock<(UdpSocket, [u8; 2])> = OnceLock::new();
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let (_, [b, c]) = BLOCK.get_or_init(|| {
        let blocks = (1..=254).flat_map(|b| (0..=255).map(move |c| [b, c]));
        let mine = blocks.cycle().skip(std::process::id() as usize % 65_000).take(65_000);
        let mut taken = mine.filter_map(|[b, c]| {
            Some((UdpSocket::bind((Ipv4Addr::new(127, b, c, 254), OVERLAY)).ok()?, [b, c]))
        });
        taken.next().expect("one /24 of 127.0.0.0/8 is free")
    });
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(last < 254, "one block has addresses for all tests of a process");
    Ipv4Addr::new(127, *b, *c, last).into()
}

/// A node: where it lives and what it is told. It runs once started, and ends when dropped.
pub(crate) struct Node {
    pub(crate) ip: IpAddr,
    dir: TempDir,
    child: Option<Child>,
}

impl Node {
    /// A node on an address of its own that knows `seeds`; not started. It audits nothing: what origins are asked
    /// is counted.
    pub(crate) fn new(seeds: &[&Self]) -> Self {
        let seeds: Vec<_> = seeds.iter().map(|seed| format!("\"{}:{OVERLAY}\"", seed.ip)).collect();
        let node = Self { ip: address(), dir: tempfile::tempdir().unwrap(), child: None };
        let Self { ip, .. } = node;
        let state = node.dir.path().join("state");
        let config = format!(
            "state_dir = {state:?}\n\
             [http]\nlisten = [\"{ip}:{HTTP}\"]\n\
             [dns]\nlisten = [\"{ip}:{DNS}\"]\n\
             [overlay]\nlisten = \"{ip}:{OVERLAY}\"\nseeds = [{}]\n\
             [peer]\nlisten = \"{ip}:{OVERLAY}\"\naudit_one_in = 0\n\
             [admin]\nlisten = \"{ip}:{ADMIN}\"\n\
             [origin]\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\n",
            seeds.join(", ")
        );
        fs::write(node.config(), config).unwrap();
        node
    }

    /// A running node that has joined.
    pub(crate) fn running(seeds: &[&Self]) -> Self {
        let mut node = Self::new(seeds);
        node.start(&[]);
        node.wait_ready();
        node
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("coralline.toml")
    }

    /// Its directory, removed at the end.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address of one of its ports.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// Starts it with `sets` on top of its file.
    pub(crate) fn start(&mut self, sets: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = coralline();
        command.arg("run").arg("--config").arg(self.config()).stdout(Stdio::null()).stderr(log);
        sets.iter().for_each(|set| _ = command.args(["--set", set]));
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until `/readyz` says 200.
    pub(crate) fn wait_ready(&mut self) {
        self.wait_until("ready", |node| {
            get(node.at(ADMIN), "/readyz").is_some_and(|r| r.status == 200)
        });
    }

    /// Waits until `done` holds; fails with the log when the process ends or the deadline passes.
    pub(crate) fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let start = now();
        while !done(self) {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(
                ended.is_none(),
                "{} ended ({ended:?}) before: {what}\n{}",
                self.ip,
                self.log()
            );
            assert!(start.elapsed() < DEADLINE, "{}: never {what}\n{}", self.ip, self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits for something that happens elsewhere.
    pub(crate) fn wait_for(&self, mut done: impl FnMut() -> bool) {
        let start = now();
        while !done() {
            assert!(start.elapsed() < DEADLINE, "it never happened\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until this node knows `other` to be alive.
    pub(crate) fn wait_neighbour(&mut self, other: &Self) {
        let wanted = other.at(OVERLAY).to_string();
        self.wait_until("neighbours", |node| {
            let status = node.status();
            let all = status["neighbours"].as_array().unwrap();
            all.iter().any(|neighbour| neighbour["address"] == wanted.as_str())
        });
    }

    /// What `/status` says, as JSON.
    pub(crate) fn status(&self) -> serde_json::Value {
        let reply = get(self.at(ADMIN), "/status").expect("the admin listener answers");
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// The value of one series of `/metrics`, named as there, labels included; 0 when it is missing.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let reply = get(self.at(ADMIN), "/metrics").expect("the admin listener answers");
        reply.metric(series)
    }

    /// Octets of memory in use.
    pub(crate) fn memory(&self) -> u64 {
        let id = self.child.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line.unwrap().split_whitespace().next().unwrap().parse().unwrap();
        kib * 1024
    }

    /// Sends a signal such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &id]).status();
        assert!(sent.unwrap().success(), "kill -{name} {id}");
    }

    /// The same as `kill -9`, at once, by whoever has it running.
    pub(crate) fn strike(&self) {
        let id = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().try_into().ok()?));
        kill_process(id.expect("it runs"), Signal::KILL).unwrap();
    }

    /// Waits for the end of the process.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let start = now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if start.elapsed() > DEADLINE {
                let _ = child.kill();
                panic!("{} never ended\n{}", self.ip, self.log());
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What `Authorization` has to say to purge.
    pub(crate) fn token(&self) -> String {
        let token = fs::read_to_string(self.dir().join("state/admin.token")).unwrap();
        format!("Bearer {}", token.trim())
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

/// Three nodes that know each other.
pub(crate) fn three() -> [Node; 3] {
    let mut a = Node::running(&[]);
    let mut b = Node::running(&[&a]);
    let mut c = Node::running(&[&a]);
    a.wait_neighbour(&b);
    a.wait_neighbour(&c);
    b.wait_neighbour(&c);
    c.wait_neighbour(&b);
    [a, b, c]
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An HTTP response, its body whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A series of these metrics; 0 if it is not among them.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The values of a header, joined by commas; empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> String {
        let values =
            self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        values.collect::<Vec<_>>().join(", ")
    }

    /// It has as many octets as it says.
    pub(crate) fn is_whole(&self) -> bool {
        let bodiless = matches!(self.status, 204 | 304);
        let length = self.header("content-length").parse().ok();
        bodiless || length.is_none_or(|length: usize| length == self.body.len())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// GET over a connection of its own; nothing when nobody answers.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Option<Reply> {
    ask(addr, "GET", path, &[("Host", &addr.to_string())])
}

/// GET of a suffixed URL from the node at `addr`; nothing when nobody answers.
pub(crate) fn get_site(addr: SocketAddr, host: &str, path: &str) -> Option<Reply> {
    ask(addr, "GET", path, &[("Host", &format!("{host}:{}", addr.port()))])
}

/// One request over a connection of its own; nothing when nobody answers with an HTTP response.
pub(crate) fn ask(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Option<Reply> {
    send(addr, method, target, headers, "")
}

/// The same, with content.
pub(crate) fn send(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    content: &str,
) -> Option<Reply> {
    let mut stream = TcpStream::connect_timeout(&addr, DEADLINE).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut fields: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    if !content.is_empty() {
        fields += &format!("Content-Length: {}\r\n", content.len());
    }
    let head = format!("{method} {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
    stream.write_all((head + content).as_bytes()).ok()?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).ok()?;
    parse(&raw)
}

fn parse(raw: &[u8]) -> Option<Reply> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut reply = Reply { status, headers: headers.collect(), body: raw[end + 4..].to_vec() };
    if reply.header("transfer-encoding") == "chunked" {
        reply.body = unchunk(&reply.body)?;
    }
    Some(reply)
}

/// The content of a chunked body; nothing when it is cut short.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 2 + size + 2..)?;
    }
}

/// The path of a program, or nothing after saying that a test is skipped; in CI its absence fails.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env("PATH").unwrap_or_default();
    let found = path.split(':').map(|dir| Path::new(dir).join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(env("CI").is_none(), "{name} is missing, and CI skips nothing");
        println!("skipped: {name} is not installed");
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "a test looks at its surroundings")]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::disallowed_methods, reason = "a test gives up at a deadline")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
