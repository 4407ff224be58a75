//! What no key can judge alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::limits::MAX_LEVELS;
use crate::section::Config;
use crate::value::format_duration;

/// Keys that do not go together. The first is the one to blame.
#[derive(Debug)]
pub(crate) struct Conflict {
    pub(crate) keys: &'static [&'static str],
    pub(crate) message: String,
}

pub(crate) fn conflicts(config: &Config) -> Vec<Conflict> {
    let mut found = Vec::new();
    certificate(config, &mut found);
    levels(config, &mut found);
    shares(config, &mut found);
    reachable(config, &mut found);
    addresses_taken_twice(config, &mut found);
    found
}

/// For each site that does not go with the others: its index, and why.
pub(crate) fn site_conflicts(config: &Config) -> Vec<(usize, String)> {
    let mut hosts = BTreeMap::new();
    let mut found = Vec::new();
    for (index, site) in config.sites.iter().enumerate() {
        if hosts.insert(&site.host, index).is_some() {
            found.push((index, format!("{} has a [[site]] already", site.host)));
        }
        let under = site.host.strip_suffix(config.suffix.as_str());
        if under.is_some_and(|before| before.is_empty() || before.ends_with('.')) {
            let message = format!("{} is under the suffix {}", site.host, config.suffix);
            found.push((index, message));
        }
    }
    found
}

fn certificate(config: &Config, found: &mut Vec<Conflict>) {
    let https = &config.https;
    let wanted = !https.listen.is_empty();
    if wanted && https.certificate.is_none() {
        found.push(Conflict {
            keys: &["https.listen", "https.certificate"],
            message: "needs https.certificate, a PEM file with the chain for *.SUFFIX".into(),
        });
    }
    if wanted && https.key.is_none() {
        found.push(Conflict {
            keys: &["https.listen", "https.key"],
            message: "needs https.key, a PEM file with the private key".into(),
        });
    }
}

fn levels(config: &Config, found: &mut Vec<Conflict>) {
    const KEYS: &[&str] = &["overlay.levels"];
    let levels = &config.overlay.levels;
    if levels.len() > MAX_LEVELS {
        let message = format!("expected at most {MAX_LEVELS} levels, found {}", levels.len());
        found.push(Conflict { keys: KEYS, message });
    }
    if let Some(pair) = levels.windows(2).find(|pair| pair[0] >= pair[1]) {
        let [near, far] = [pair[0], pair[1]].map(format_duration);
        let message =
            format!("expected each to be longer than the one before, found {near}, {far}");
        found.push(Conflict { keys: KEYS, message });
    }
}

/// Without a gap between them a node would come and go with every review.
fn shares(config: &Config, found: &mut Vec<Conflict>) {
    let rules = &config.overlay.rules;
    if rules.abandon_percent >= rules.accept_percent {
        let (low, high) = (rules.abandon_percent, rules.accept_percent);
        found.push(Conflict {
            keys: &["overlay.abandon_percent", "overlay.accept_percent"],
            message: format!("expected less than accept_percent, which is {high}, found {low}"),
        });
    }
}

/// Others learn one address of this node, and `0.0.0.0` is none.
fn reachable(config: &Config, found: &mut Vec<Conflict>) {
    let listen = config.overlay.listen;
    if listen.ip().is_unspecified() && config.public_addr.is_none() {
        found.push(Conflict {
            keys: &["overlay.listen", "public_addr"],
            message: format!("{listen} tells others no address; set public_addr as well"),
        });
    }
}

/// Two listeners on one address: the second would fail to bind.
fn addresses_taken_twice(config: &Config, found: &mut Vec<Conflict>) {
    let one = std::slice::from_ref::<SocketAddr>;
    let tcp: [(&'static [&'static str], &[SocketAddr]); 5] = [
        (&["http.listen"], &config.http.listen),
        (&["https.listen"], &config.https.listen),
        (&["dns.listen"], &config.dns.listen),
        (&["peer.listen"], one(&config.peer.listen)),
        (&["admin.listen"], one(&config.admin.listen)),
    ];
    let udp: [(&'static [&'static str], &[SocketAddr]); 2] =
        [(&["overlay.listen"], one(&config.overlay.listen)), (&["dns.listen"], &config.dns.listen)];
    for listeners in [&tcp[..], &udp[..]] {
        let mut taken: BTreeMap<SocketAddr, &str> = BTreeMap::new();
        for (keys, addresses) in listeners {
            // Port 0 is chosen anew for each.
            for address in addresses.iter().filter(|address| address.port() != 0) {
                if let Some(first) = taken.insert(*address, keys[0]) {
                    let message = format!("{address} is already taken by {first}");
                    found.push(Conflict { keys, message });
                }
            }
        }
    }
}
