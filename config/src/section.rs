//! The sections of the file. A default is written once, in `Default`, with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::rules::Rules;
use crate::value::{ByteSize, HostPort, Suffix};

/// Everything a node is told. One value, made once, read by every part.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Names under it are served.
    pub suffix: Suffix,
    /// Identity key and saved contacts.
    pub state_dir: PathBuf,
    /// Where others reach this node; the address of `overlay.listen` if left out.
    pub public_addr: Option<IpAddr>,
    /// Who runs this node and where abuse is reported: an address or a URL, shown on the node's own page.
    pub contact: Option<String>,
    /// Filter of the log, as in `info,coralline_overlay=debug`.
    pub log: String,
    /// Plain HTTP for clients.
    pub http: Http,
    /// HTTP over TLS for clients.
    pub https: Https,
    /// The authoritative name server of the suffix.
    pub dns: Dns,
    /// The index among nodes, over UDP.
    pub overlay: Overlay,
    /// Content among nodes, over TCP.
    pub peer: Peer,
    /// Metrics, health and status.
    pub admin: Admin,
    /// How origins are reached.
    pub origin: Origin,
    /// What is kept, and for how long.
    pub cache: Cache,
    /// Hosts served under their own name.
    pub sites: Vec<Site>,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Client connections held at once, http and https together; more are closed at once.
    pub max_connections: usize,
}

/// `[https]`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Https {
    /// Addresses to listen on; none by default, since a certificate must be given.
    pub listen: Vec<SocketAddr>,
    /// PEM file with the certificate chain.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// Addresses to listen on, UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Time to live of address records.
    pub ttl: Duration,
    /// Addresses in one answer at the most.
    pub answers: usize,
}

/// `[overlay]`
#[derive(Debug, Clone, PartialEq)]
pub struct Overlay {
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Nodes to join by; none means that this is the first node.
    pub seeds: Vec<HostPort>,
    /// Round-trip bounds of the clusters, nearest first; the global level is implied.
    pub levels: Vec<Duration>,
    /// MMDB file of AS numbers.
    pub as_database: Option<PathBuf>,
    /// The constants of the index.
    pub rules: Rules,
}

/// `[peer]`
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// TCP address to listen on.
    pub listen: SocketAddr,
    /// Of responses that came from peers, one in so many is fetched again from its origin; 0 for none.
    pub audit_one_in: u32,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Address to listen on.
    pub listen: SocketAddr,
}

/// `[origin]`
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Private networks that may be origins all the same.
    pub allow_private: Vec<IpNet>,
    /// Name servers to ask; the system's own when empty.
    pub nameservers: Vec<SocketAddr>,
    /// PEM file of certificates to trust beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Time for name, connection and TLS handshake together.
    pub connect_timeout: Duration,
    /// Time from the request to the head of the response.
    pub response_timeout: Duration,
    /// Longest silence within a body.
    pub stall_timeout: Duration,
}

/// `[cache]`
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Memory for bodies: half for what is stored, half for what is arriving.
    pub memory: ByteSize,
    /// Disk for bodies.
    pub disk: ByteSize,
    /// Freshness of a response that states none and has no Last-Modified, or a very recent one.
    pub default_ttl: Duration,
    /// Upper bound of a freshness guessed from Last-Modified.
    pub max_heuristic_ttl: Duration,
    /// How long past its freshness a copy may stand in for a failing origin.
    pub stale_if_error: Duration,
}

/// `[[site]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// The host name that clients ask for.
    pub host: String,
    /// Where it is fetched from: `http://` or `https://`, a host, an optional port.
    pub origin: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Every browser and curl resolve *.localhost to loopback: no DNS set-up on a laptop.
            suffix: "cdn.localhost".parse().expect("the default suffix is a valid name"),
            state_dir: PathBuf::from("~/.local/state/coralline"),
            public_addr: None,
            contact: None,
            log: "info".into(),
            http: Http::default(),
            https: Https::default(),
            dns: Dns::default(),
            overlay: Overlay::default(),
            peer: Peer::default(),
            admin: Admin::default(),
            origin: Origin::default(),
            cache: Cache::default(),
            sites: Vec::new(),
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Default for Http {
    fn default() -> Self {
        // 4,096 connections at some 20 KiB each stay within a quarter of a 512 MB machine.
        Self { listen: vec![loopback(8080)], max_connections: 4096 }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            listen: vec![loopback(5300)],
            // Short enough to leave a dead node soon, long enough for resolvers to be spared.
            ttl: Duration::from_secs(30),
            answers: 4,
        }
    }
}

impl Default for Overlay {
    fn default() -> Self {
        Self {
            listen: loopback(7400),
            seeds: Vec::new(),
            // Coral's thresholds (NSDI 2004, section 4): a metropolitan area, half a continent.
            levels: vec![Duration::from_millis(20), Duration::from_millis(60)],
            as_database: None,
            rules: Rules::default(),
        }
    }
}

impl Default for Peer {
    fn default() -> Self {
        // A liar is found out by one of its first thousand readers, anywhere; origins send 0.1 % more.
        Self { listen: loopback(7400), audit_one_in: 1_000 }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: loopback(7480) }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            allow_private: Vec::new(),
            nameservers: Vec::new(),
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            memory: ByteSize(256 << 20),
            disk: ByteSize(10 << 30),
            // Coral's lower bound: enough to carry a crowd over a page that says nothing or is new.
            default_ttl: Duration::from_secs(300),
            max_heuristic_ttl: Duration::from_secs(24 * 3600),
            // Coral kept a vanished page for a day and no longer.
            stale_if_error: Duration::from_secs(24 * 3600),
        }
    }
}
