//! What a node says of itself at `/status`: JSON for programs, a page for people.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use coralline_config::Config;
use coralline_proxy::Proxy;
use prometheus::Registry;
use serde::Serialize;
use tokio::time::Instant;

use crate::health::Health;

/// Everything that can be asked of a running node.
pub(crate) struct View {
    config: Config,
    health: Arc<Health>,
    proxy: Arc<Proxy>,
    registry: Registry,
    started: Instant,
}

/// The answer of `/status`; the names of its fields are part of the interface.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: &'static str,
    suffix: String,
    node: Itself,
    uptime_seconds: u64,
    ready: bool,
    /// Why it is not ready; null when it is.
    reason: Option<String>,
    joined: bool,
    neighbours: Vec<Peer>,
    requests: Requests,
    bytes: Octets,
    cache: CacheUse,
    /// What audits have found: nodes that have signed what their origins do not say.
    evidence: Vec<Contradiction>,
}

/// Keys and receipts in hexadecimal digits.
#[derive(Debug, Serialize)]
struct Contradiction {
    signer: String,
    uri: String,
    signed: String,
    observed: String,
}

#[derive(Debug, Serialize)]
struct Itself {
    id: String,
    identity: String,
    address: SocketAddr,
    peer_port: u16,
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    dns: Vec<SocketAddr>,
    admin: SocketAddr,
}

#[derive(Debug, Serialize)]
struct Peer {
    id: String,
    address: SocketAddr,
    level: String,
    /// Null until it has answered a request.
    rtt_ms: Option<f64>,
    verified_seconds: f64,
}

/// Requests by where their response came from.
#[derive(Debug, Serialize)]
struct Requests {
    local: u64,
    peer: u64,
    origin: u64,
    /// Own pages and failures.
    none: u64,
}

/// Octets by where they came from.
#[derive(Debug, Serialize)]
struct Octets {
    local: u64,
    peer: u64,
    origin: u64,
}

#[derive(Debug, Serialize)]
struct CacheUse {
    bytes: u64,
    objects: u64,
}

impl View {
    /// The view of a node that has just been started.
    pub(crate) fn new(
        config: Config,
        health: Arc<Health>,
        proxy: Arc<Proxy>,
        registry: Registry,
    ) -> Self {
        Self { config, health, proxy, registry, started: Instant::now() }
    }

    /// What it was told.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether it is ready.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Its proxy.
    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Its metrics.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A URL that this node serves.
    pub(crate) fn sample_url(&self) -> String {
        let suffix = &self.config.suffix;
        match (self.config.http.listen.first(), self.config.https.listen.first()) {
            (Some(addr), _) => format!("http://www.example.com.{suffix}:{}/", addr.port()),
            (None, Some(addr)) => format!("https://www-example-com.{suffix}:{}/", addr.port()),
            (None, None) => format!("http://{}/status", self.config.admin.listen),
        }
    }

    /// All of it, as of now.
    pub(crate) fn status(&self) -> Status {
        let index = self.health.index();
        let (local, directory, now) = (index.local(), index.directory(), index.now());
        let sources = self.proxy.sources();
        let readiness = self.health.readiness();
        let neighbours = directory.neighbours.iter().map(|neighbour| Peer {
            id: neighbour.contact.id().to_string(),
            address: neighbour.contact.addr,
            level: neighbour.level.to_string(),
            rtt_ms: neighbour.rtt.map(|rtt| rounded(rtt.as_secs_f64() * 1000.0)),
            verified_seconds: rounded(now.since(neighbour.verified).as_secs_f64()),
        });
        let evidence = self.proxy.evidence().into_iter().map(|evidence| Contradiction {
            signer: hex(&evidence.signer),
            uri: evidence.uri,
            signed: hex(&evidence.signed),
            observed: hex(&evidence.observed),
        });
        Status {
            version: env!("CARGO_PKG_VERSION"),
            suffix: self.config.suffix.to_string(),
            node: Itself {
                id: local.id().to_string(),
                identity: hex(&local.identity.0),
                address: local.addr,
                peer_port: local.peer_port,
                http: self.config.http.listen.clone(),
                https: self.config.https.listen.clone(),
                dns: self.config.dns.listen.clone(),
                admin: self.config.admin.listen,
            },
            uptime_seconds: self.started.elapsed().as_secs(),
            ready: readiness.is_ok(),
            reason: readiness.err().map(|reason| reason.to_string()),
            joined: directory.joined,
            neighbours: neighbours.collect(),
            requests: Requests {
                local: sources.local,
                peer: sources.peer,
                origin: sources.origin,
                none: sources.none,
            },
            bytes: Octets {
                local: sources.local_bytes,
                peer: sources.peer_bytes,
                origin: sources.origin_bytes,
            },
            cache: CacheUse { bytes: sources.cache_bytes, objects: sources.cache_objects },
            evidence: evidence.collect(),
        }
    }
}

impl Status {
    /// For programs.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings are valid JSON") + "\n"
    }

    /// For people: one page without anything from elsewhere. All of its values are names, numbers and
    /// addresses that were parsed before, so that none can carry markup.
    pub(crate) fn html(&self) -> String {
        let state = self.reason.as_deref().unwrap_or("ready");
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"refresh\" content=\"5\">\n\
             <title>Coralline {address}</title>\n<style>\n{css}</style>\n</head>\n<body>\n\
             <h1>Coralline</h1>\n\
             <p>Node <code>{id}</code> at {address}: {state}. Version {version}, up {uptime}, \
             serves <code>*.{suffix}</code>.</p>\n\
             <h2>Served</h2>\n<section>{served}</section>\n\
             <h2>Neighbours</h2>\n<section>{neighbours}</section>\n\
             <h2>Cache</h2>\n<section><table><tr><td>{objects} objects</td>\
             <td class=\"n\">{cached}</td></tr></table></section>\n\
             <p><a href=\"/metrics\">metrics</a> · <a href=\"/livez\">livez</a> · \
             <a href=\"/readyz\">readyz</a></p>\n</body>\n</html>\n",
            css = include_str!("../assets/status.css"),
            id = self.node.id,
            address = self.node.address,
            version = self.version,
            uptime = uptime(self.uptime_seconds),
            suffix = self.suffix,
            served = self.served_table(),
            neighbours = self.neighbours_table(),
            objects = self.cache.objects,
            cached = octets(self.cache.bytes),
        )
    }

    fn served_table(&self) -> String {
        let (requests, bytes) = (&self.requests, &self.bytes);
        let mut table = String::from(
            "<table><tr><th>from</th><th class=\"n\">requests</th><th class=\"n\">bytes</th></tr>",
        );
        for (name, count, size) in [
            ("this node's cache", requests.local, octets(bytes.local)),
            ("other nodes", requests.peer, octets(bytes.peer)),
            ("origins", requests.origin, octets(bytes.origin)),
            ("nowhere: own pages and failures", requests.none, String::new()),
        ] {
            write!(
                table,
                "<tr><td>{name}</td><td class=\"n\">{count}</td><td class=\"n\">{size}</td></tr>"
            )
            .expect("a string takes any text");
        }
        table + "</table>"
    }

    fn neighbours_table(&self) -> String {
        if self.neighbours.is_empty() {
            return "<p>none yet</p>".into();
        }
        let mut table = String::from(
            "<table><tr><th>address</th><th>id</th><th>level</th><th class=\"n\">round trip</th>\
             <th class=\"n\">last heard</th></tr>",
        );
        for Peer { id, address, level, rtt_ms, verified_seconds } in &self.neighbours {
            let id = id.get(..8).unwrap_or(id);
            let rtt = rtt_ms.map_or("not yet".into(), |ms| format!("{ms} ms"));
            write!(
                table,
                "<tr><td>{address}</td><td><code>{id}</code></td><td>{level}</td>\
                 <td class=\"n\">{rtt}</td><td class=\"n\">{verified_seconds:.0} s ago</td></tr>"
            )
            .expect("a string takes any text");
        }
        table + "</table>"
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn octets(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let step = count.ilog2() / 10;
    let tenths = (u128::from(count) * 10) >> (10 * step);
    format!("{}.{} {}", tenths / 10, tenths % 10, units[step as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        for (count, expect) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(octets(count), expect);
        }
        for (seconds, expect) in
            [(7, "7 s"), (61, "1 min"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(uptime(seconds), expect);
        }
    }
}
