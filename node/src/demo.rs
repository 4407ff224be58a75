//! `coralline demo`: three nodes and an origin at work, in this process, on loopback.

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coralline_config::{Config, HostPort};
use coralline_proxy::Sources;
use tokio::net::TcpListener;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::cli;
use crate::exit::{Code, Failure};
use crate::limits::DEMO_JOIN_DEADLINE;
use crate::node::{Node, StartError};
use crate::origin::Origin;
use crate::run::{Signals, init_log};

const HOSTS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)),
];

/// Runs the demo until a signal comes.
///
/// # Errors
/// When a port is taken, an address is missing, or the temporary directory cannot be made.
pub(crate) async fn demo(options: &cli::Demo) -> Result<(), Failure> {
    init_log("warn")?;
    let mut signals = Signals::new()?;
    // Removed when dropped, whichever way this function ends.
    let state = tempfile::tempdir().map_err(|error| {
        let message = format!("cannot make a temporary directory: {error}; set TMPDIR to another");
        Failure::new(Code::CannotCreate, message)
    })?;
    let origin = start_origin(options.origin_port).await?;
    let mut nodes = Vec::with_capacity(HOSTS.len());
    for host in HOSTS {
        let node = Node::start(config(options, host, state.path())).await;
        nodes.push(node.map_err(|error| explain(error, host))?);
    }
    let result = tokio::select! {
        result = show(options, &nodes, &origin) => result,
        _ = signals.next() => Ok(()),
        () = life(options.seconds) => Ok(()),
    };
    tokio::select! {
        () = farewell(nodes) => result,
        name = signals.next() => {
            Err(Failure::new(Code::Interrupted, format!("{name} again: ended at once")))
        }
    }
}

async fn start_origin(port: u16) -> Result<Arc<Origin>, Failure> {
    let addr = SocketAddr::new(HOSTS[0], port);
    let listener = TcpListener::bind(addr).await.map_err(|error| {
        let remedy = "free it, or choose another with --origin-port";
        Failure::new(Code::Unavailable, format!("cannot listen on {addr}: {error}; {remedy}"))
    })?;
    let origin = Origin::new();
    tokio::spawn(Arc::clone(&origin).serve(listener));
    Ok(origin)
}

fn config(options: &cli::Demo, host: IpAddr, state: &Path) -> Config {
    let at = |port| SocketAddr::new(host, port);
    let mut config = Config { state_dir: state.join(host.to_string()), ..Config::default() };
    config.http.listen = vec![at(options.http_port)];
    config.dns.listen = vec![at(options.dns_port)];
    config.overlay.listen = at(options.node_port);
    config.peer.listen = at(options.node_port);
    config.admin.listen = at(options.admin_port);
    // Names under localhost have both addresses (RFC 6761, section 6.3).
    config.origin.allow_private =
        ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a valid network")).into();
    if host != HOSTS[0] {
        let seed = HostPort { host: HOSTS[0].to_string(), port: options.node_port };
        config.overlay.seeds = vec![seed];
    }
    config
}

/// Says which flag of the demo helps, where the node would name a key of a file.
fn explain(error: StartError, host: IpAddr) -> Failure {
    let mut failure = Failure::from(error);
    if failure.code == Code::Unavailable {
        let ports = "choose ports with --http-port, --dns-port, --node-port, --admin-port";
        failure.message = format!("{}; {ports}", failure.message);
        if cfg!(target_os = "macos") && host != HOSTS[0] {
            let alias = format!("sudo ifconfig lo0 alias {host}");
            failure.message =
                format!("{}; macOS needs the address first: {alias}", failure.message);
        }
    }
    failure
}

/// Prints what can be tried, then who served it, until dropped.
async fn show(options: &cli::Demo, nodes: &[Node], origin: &Origin) -> Result<(), Failure> {
    let joined = async {
        while nodes.iter().any(|node| node.view().health().index().directory().neighbours.len() < 2)
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(DEMO_JOIN_DEADLINE, joined).await.is_err() {
        let message = "the three nodes did not find each other; is UDP on loopback filtered?";
        return Err(Failure::new(Code::Software, message));
    }
    let mut screen = Screen::new();
    screen.write(&introduction(options));
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let served: Vec<_> = nodes.iter().map(|node| node.view().proxy().sources()).collect();
        screen.update(&served, origin.requests());
    }
}

async fn life(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => sleep_until(Instant::now() + Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

/// All nodes end at the same time: none waits for another's drain.
async fn farewell(nodes: Vec<Node>) {
    let mut ends = tokio::task::JoinSet::new();
    for mut node in nodes {
        ends.spawn(async move { node.shutdown().await });
    }
    while ends.join_next().await.is_some() {}
}

fn introduction(options: &cli::Demo) -> String {
    let cli::Demo { http_port, dns_port, admin_port, origin_port, .. } = options;
    let name = format!("origin.localhost.{origin_port}.{}", Config::default().suffix);
    let url = format!("http://{name}:{http_port}");
    let head = "curl -s -o /dev/null -D -";
    let [one, two, three] = HOSTS;
    format!(
        "Three nodes, and an origin that can send 4 Mbit/s. Ctrl-C ends all of it.\n\
         \n\
         In a browser           {url}/\n\
         Status of each node    http://{one}:{admin_port}/status  \
         http://{two}:{admin_port}/status  http://{three}:{admin_port}/status\n\
         \n\
         Ask node 1, then node 2, then node 2 again. Cache-Status will tell: from the origin, from a\n\
         peer, from the node's own cache.\n\
         \x20 {head} --connect-to ::{one}: {url}/photo.png\n\
         \x20 {head} --connect-to ::{two}: {url}/photo.png\n\
         \x20 {head} --connect-to ::{two}: {url}/photo.png\n\
         How often the origin was asked:\n\
         \x20 curl -s http://{one}:{origin_port}/count\n\
         A file of 16 MiB, half a minute of the origin's line; then at once from node 3:\n\
         \x20 curl -o /dev/null --connect-to ::{one}: {url}/large.bin\n\
         \x20 curl -o /dev/null --connect-to ::{three}: {url}/large.bin\n\
         Which nodes DNS names:\n\
         \x20 dig +short -p {dns_port} @{two} {name}\n\
         \n"
    )
}

/// Standard output: a terminal gets a table that is rewritten in place, a file a line when something
/// changed. Nobody reading any more is no reason to end.
struct Screen {
    terminal: bool,
    shown: Option<(Vec<Sources>, u64)>,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), shown: None }
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn update(&mut self, served: &[Sources], asked: u64) {
        let now = (served.to_vec(), asked);
        if self.shown.as_ref() == Some(&now) {
            return;
        }
        if self.terminal {
            let table = table(served, asked);
            let back = if self.shown.is_some() { table.lines().count() } else { 0 };
            // Up to where the table began, and clear from there to the end of the screen.
            let up = if back > 0 { format!("\x1b[{back}A\x1b[J") } else { String::new() };
            self.write(&format!("{up}{table}"));
        } else {
            self.write(&line(served, asked));
        }
        self.shown = Some(now);
    }
}

fn table(served: &[Sources], asked: u64) -> String {
    let mut table =
        format!("{:<10}{:>8}{:>8}{:>8}{:>8}\n", "requests", "local", "peer", "origin", "none");
    for (sources, host) in served.iter().zip(HOSTS) {
        let Sources { local, peer, origin, none, .. } = sources;
        table += &format!("{:<10}{local:>8}{peer:>8}{origin:>8}{none:>8}\n", host.to_string());
    }
    table + &format!("the origin counts {asked}\n")
}

fn line(served: &[Sources], asked: u64) -> String {
    let sum = |part: fn(&Sources) -> u64| served.iter().map(part).sum::<u64>();
    let (local, peer, origin) = (sum(|s| s.local), sum(|s| s.peer), sum(|s| s.origin));
    format!("requests: local {local}, peer {peer}, origin {origin}; the origin counts {asked}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_its_own_place() {
        let options = cli::Demo {
            http_port: 1,
            dns_port: 2,
            node_port: 3,
            admin_port: 4,
            origin_port: 5000,
            seconds: None,
        };
        let [first, second, _] = HOSTS.map(|host| config(&options, host, Path::new("/state")));
        assert!(first.overlay.seeds.is_empty(), "the first node starts the network");
        assert_eq!(second.overlay.seeds[0], HostPort { host: "127.0.0.1".into(), port: 3 });
        assert_ne!(first.state_dir, second.state_dir);
        assert_eq!(second.http.listen, ["127.0.0.2:1".parse().unwrap()]);
    }

    #[test]
    fn the_tables_name_every_source() {
        let served = [Sources { local: 1, peer: 2, origin: 3, none: 4, ..Sources::default() }; 3];
        assert_eq!(table(&served, 9).lines().count(), 5);
        assert_eq!(line(&served, 9), "requests: local 3, peer 6, origin 9; the origin counts 9\n");
    }
}
