//! The names of the seeds, resolved by the system.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use coralline_config::HostPort;
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::handle::Shared;
use crate::limits::{
    MAX_RESOLUTION, MAX_RESOLVE_WAIT, MAX_SEED_ADDRESSES, MAX_SEEDS, MIN_RESOLVE_WAIT,
};

/// Nothing can be sent to port 0. It stands for seeds whose names do not resolve, as a core without any
/// seed would take itself for the first node of the network.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The addresses of the seeds; empty only if there are no seeds.
pub(crate) async fn resolve(seeds: &[HostPort]) -> Vec<SocketAddr> {
    let mut lookups = JoinSet::new();
    for HostPort { host, port } in seeds.iter().take(MAX_SEEDS).cloned() {
        lookups.spawn(async move {
            match timeout(MAX_RESOLUTION, lookup_host((host.as_str(), port))).await {
                Ok(Ok(found)) => return found.take(MAX_SEED_ADDRESSES).collect(),
                Ok(Err(error)) => tracing::warn!("seed {host}:{port}: {error}; tried again later"),
                Err(_) => tracing::warn!("seed {host}:{port}: its name server does not answer"),
            }
            Vec::new()
        });
    }
    let mut addresses = lookups.join_all().await.concat();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() && !seeds.is_empty() {
        addresses.push(NOWHERE);
    }
    addresses
}

/// Resolves the seeds again and again for as long as the network is not joined.
pub(crate) async fn refresh(
    seeds: Vec<HostPort>,
    shared: Arc<Shared>,
    resolved: mpsc::Sender<Vec<SocketAddr>>,
) {
    let mut pause = MIN_RESOLVE_WAIT;
    loop {
        sleep(pause).await;
        if shared.directory.load().joined {
            pause = MIN_RESOLVE_WAIT;
            continue;
        }
        pause = (pause * 2).min(MAX_RESOLVE_WAIT);
        let addresses = resolve(&seeds).await;
        // A name server that fails for once does not take back what it has said before.
        if addresses != [NOWHERE] && resolved.send(addresses).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_resolve_and_an_unknown_name_goes_nowhere() {
        let check = |seeds: &[(&str, u16)], expect: &[SocketAddr]| {
            let seeds: Vec<_> =
                seeds.iter().map(|&(host, port)| HostPort { host: host.into(), port }).collect();
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().unwrap();
            assert_eq!(runtime.block_on(resolve(&seeds)), expect, "{seeds:?}");
        };
        let one = "127.0.0.1:7400".parse().unwrap();
        let six = "[::1]:7400".parse().unwrap();
        check(&[], &[]);
        check(&[("::1", 7400), ("127.0.0.1", 7400), ("127.0.0.1", 7400)], &[one, six]);
        check(&[("no name at all", 7400)], &[NOWHERE]);
        check(&[("no name at all", 7400), ("127.0.0.1", 7400)], &[one]);
    }
}
