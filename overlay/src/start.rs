//! From configuration to a running overlay.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::{ArcSwap, ArcSwapOption};
use coralline_config::Config;
use maxminddb::MaxMindDbError;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{broadcast, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::address::prefix;
use crate::clock::Clock;
use crate::contact::{Contact, Services};
use crate::driver::Driver;
use crate::handle::{Handle, Shared};
use crate::keys::{KeyError, Keys};
use crate::limits::{MAX_COMMANDS, MAX_HEARD, PUBLIC_SLOTS, RECEIVE_BUFFER};
use crate::node::Overlay;
use crate::saved::Saver;
use crate::seeds;
use crate::settings::Settings;
use crate::signed::Seal;
use crate::stats::BroadcastStats;
use crate::system;
use crate::time::Instant;
use crate::transport::Transport;

/// Why the overlay could not start. The text names what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket could not be bound.
    #[error("overlay.listen {addr}: {source}; stop what uses it, or set another address or port")]
    Bind {
        /// The address that was wanted.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The state directory is of no use.
    #[error(transparent)]
    State(#[from] KeyError),
    /// Others could not be told where this node is.
    #[error(
        "overlay.listen {listen} names no address that others can reach; \
         set public_addr to one, of the same family"
    )]
    Address {
        /// The address of the configuration.
        listen: SocketAddr,
    },
    /// The database of autonomous systems is of no use.
    #[error("overlay.as_database {path}: {source}; name an MMDB file of AS numbers, or none")]
    Database {
        /// The file of the configuration.
        path: PathBuf,
        /// What is wrong with it.
        source: MaxMindDbError,
    },
}

/// Binds the socket, loads or makes the identity, loads saved contacts, resolves the seeds, and spawns
/// the one task. That ends, saving contacts, when `shutdown` resolves; dropping handles does not end it.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub async fn start(
    config: &Config,
    services: Services,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(Handle, JoinHandle<()>), StartError> {
    let (handle, driver) = prepare(config, services).await?;
    Ok((handle, tokio::spawn(driver.run(shutdown))))
}

async fn prepare(config: &Config, services: Services) -> Result<(Handle, Driver), StartError> {
    let listen = config.overlay.listen;
    let ip = reachable(config).ok_or(StartError::Address { listen })?;
    let as_number = as_number(config, ip)?;
    let bind = |source| StartError::Bind { addr: listen, source };
    let socket = bind_socket(listen).map_err(bind)?;
    let port = socket.local_addr().map_err(bind)?.port();
    let keys = Keys::load_or_create(&config.state_dir, &random())?;
    let addr = SocketAddr::new(ip, port);
    let local = Contact {
        identity: keys.identity(),
        addr,
        slot: slot(addr),
        peer_port: config.peer.listen.port(),
        services,
    };
    let saver = Saver::load(config.state_dir.clone());
    let settings = Settings {
        local,
        hints: true,
        as_number,
        seeds: seeds::resolve(&config.overlay.seeds).await,
        saved: saver.contacts().to_vec(),
        levels: config.overlay.levels.clone(),
        rules: config.overlay.rules,
    };
    let clock = Clock::new();
    let (heard, _) = broadcast::channel(MAX_HEARD);
    let seal = Seal::new(keys.clone());
    let overlay = Overlay::new(settings, u64::from_be_bytes(random()), clock.now());
    let transport = Transport::new(keys.clone(), random(), clock.now());
    let shared = Arc::new(Shared {
        local,
        max_ttl: config.overlay.rules.max_ttl,
        keys,
        clock,
        directory: ArcSwap::from_pointee(overlay.directory(clock.now())),
        stats: ArcSwap::from_pointee((
            overlay.stats(),
            transport.stats(),
            BroadcastStats::default(),
        )),
        heard: ArcSwapOption::from_pointee(heard),
        lost: AtomicU64::new(0),
    });
    let (sender, commands) = mpsc::channel(MAX_COMMANDS);
    let (resolved_sender, resolved) = mpsc::channel(1);
    let mut resolver = JoinSet::new();
    if !config.overlay.seeds.is_empty() {
        let names = config.overlay.seeds.clone();
        resolver.spawn(seeds::refresh(names, Arc::clone(&shared), resolved_sender));
    }
    let driver = Driver {
        overlay,
        transport,
        seal,
        socket,
        shared: Arc::clone(&shared),
        commands,
        resolved,
        saver,
        waiting: BTreeMap::new(),
        published: Instant::default(),
        resolver,
    };
    Ok((Handle::new(shared, sender), driver))
}

/// Where others reach this node, if that can be told: one address, of the family of the socket.
fn reachable(config: &Config) -> Option<IpAddr> {
    let listen = config.overlay.listen.ip();
    let ip = config.public_addr.unwrap_or(listen);
    (!ip.is_unspecified() && ip.is_ipv4() == listen.is_ipv4()).then_some(ip)
}

/// The autonomous system of this node's address, where a database tells it.
fn as_number(config: &Config, ip: IpAddr) -> Result<Option<u32>, StartError> {
    let Some(path) = &config.overlay.as_database else { return Ok(None) };
    let number = system::as_number(path, ip)
        .map_err(|source| StartError::Database { path: path.clone(), source })?;
    if number.is_none() {
        tracing::warn!("overlay.as_database {} knows no AS number of {ip}", path.display());
    }
    Ok(number)
}

/// Which of the ids of its address this node takes: by port, so that several nodes behind one address
/// do not meet. Public addresses have few.
fn slot(addr: SocketAddr) -> u16 {
    match prefix(addr.ip()) {
        Some(_) => addr.port() % PUBLIC_SLOTS,
        None => addr.port(),
    }
}

fn bind_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        // Otherwise a v4 peer would be seen under a second, mapped address.
        socket.set_only_v6(true)?;
    }
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!("receive buffer: {error}");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness, or nothing is safe on it");
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coralline_config::HostPort;

    use super::*;
    use crate::contact::Identity;

    #[test]
    fn the_address_for_others_is_told_or_asked_for() {
        let check = |listen: &str, public: Option<&str>, expect: Option<&str>| {
            let mut config = Config::default();
            config.overlay.listen = listen.parse().unwrap();
            config.public_addr = public.map(|ip| ip.parse().unwrap());
            let expect = expect.map(|ip| ip.parse::<IpAddr>().unwrap());
            assert_eq!(reachable(&config), expect, "{listen} {public:?}");
        };
        check("127.0.0.1:7400", None, Some("127.0.0.1"));
        check("0.0.0.0:7400", None, None);
        check("[::]:7400", None, None);
        check("0.0.0.0:7400", Some("192.0.2.1"), Some("192.0.2.1"));
        check("10.0.0.1:7400", Some("192.0.2.1"), Some("192.0.2.1"));
        check("10.0.0.1:7400", Some("2001:db8::1"), None);
    }

    #[tokio::test]
    async fn a_database_that_is_none_is_named() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("asn.mmdb");
        std::fs::write(&path, b"no database").unwrap();
        let mut config = Config::default();
        config.overlay.as_database = Some(path.clone());
        let error = prepare(&config, Services::PROXY).await.err().unwrap().to_string();
        let expect = format!("overlay.as_database {}: ", path.display());
        assert!(error.starts_with(&expect) && !error.contains('\n'), "{error}");
    }

    /// Three honest nodes and one that signs in the name of another.
    #[tokio::test]
    async fn what_is_forged_ends_at_the_first_honest_node() {
        let state = tempfile::tempdir().unwrap();
        let mut seeds = Vec::new();
        let mut nodes = Vec::new();
        for host in 1..=4 {
            let mut config = Config::default();
            config.overlay.listen = SocketAddr::from(([127, 0, 5, host], 0));
            config.overlay.seeds.clone_from(&seeds);
            config.state_dir = state.path().join(host.to_string());
            let (handle, mut driver) = prepare(&config, Services::PROXY).await.unwrap();
            if seeds.is_empty() {
                let addr = handle.local().addr;
                seeds = vec![HostPort { host: addr.ip().to_string(), port: addr.port() }];
            } else if host == 4 {
                driver.seal.own = Identity(nodes.first().map_or([0; 32], identity));
            }
            tokio::spawn(driver.run(std::future::pending()));
            nodes.push(handle);
        }
        let until = async |what: &str, holds: &dyn Fn() -> bool| {
            let wait = async {
                while !holds() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let patience = Duration::from_secs(60);
            assert!(tokio::time::timeout(patience, wait).await.is_ok(), "{what}");
        };
        let knows_all = |node: &Handle| node.directory().neighbours.len() == 3;
        until("all know all", &|| nodes.iter().all(knows_all)).await;
        let mut heard: Vec<_> = nodes.iter().map(Handle::broadcasts).collect();
        let (liar, honest) = nodes.split_last().unwrap();
        liar.broadcast(1, b"forged").await.unwrap();
        until("somebody has met it", &|| honest.iter().any(|n| n.broadcast_stats().forged > 0))
            .await;
        honest[0].broadcast(1, b"true").await.unwrap();
        for others in &mut heard[1..] {
            let message = others.next().await.unwrap();
            assert_eq!(
                (message.from, &message.content[..]),
                (honest[0].local().identity, &b"true"[..])
            );
        }
        let forged: u64 = honest.iter().map(|node| node.broadcast_stats().forged).sum();
        assert!(forged <= liar.stats().broadcasts_out, "only the liar itself has told of it");
        assert!(honest.iter().all(|node| node.broadcast_stats().delivered <= 1));
    }

    fn identity(node: &Handle) -> [u8; 32] {
        node.local().identity.0
    }

    #[test]
    fn slots_keep_the_rule() {
        let check = |addr: &str, expect| assert_eq!(slot(addr.parse().unwrap()), expect, "{addr}");
        check("127.0.0.1:7400", 7400);
        check("10.1.2.3:65535", 65535);
        check("8.8.8.8:7401", 1);
        check("[2600::1]:65535", 7);
    }
}
