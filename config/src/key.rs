//! The one table of keys. The file, the environment, the flags, the reference and `config show` all
//! come from it, so none can drift from the others.

use std::fmt::Display;
use std::path::Path;

use crate::limits::{
    A_MINUTE, AUDITS, CONNECTIONS, COPIES, DNS_ANSWERS, DNS_TTL, FRESHNESS, HOP_BITS, LEVEL_RTT,
    PERCENT, REVIEW, TIMEOUT, VALUE_TTL, VALUES, VALUES_PER_KEY,
};
use crate::parse::{
    Mismatch, contact, count, disk, duration, each, ip_addr, log_filter, memory, network, one,
    optional, path, site_host, socket_addr,
};
use crate::section::{Config, Site};
use crate::value::{format_duration, parse_origin};

/// One key of `T`: the whole configuration, or one `[[site]]`.
pub(crate) struct Key<T: 'static> {
    /// As in `http.listen`; a name without a dot stands above all sections.
    pub(crate) name: &'static str,
    /// What it is, and why its default is what it is.
    pub(crate) help: &'static str,
    /// How it is written in TOML.
    pub(crate) shape: Shape,
    /// Reads the words (exactly one unless the shape is a list) into its field, or leaves it alone.
    pub(crate) set: fn(&mut T, &[String]) -> Result<(), Mismatch>,
    /// The TOML text of its field.
    pub(crate) text: fn(&T) -> String,
}

/// How a value is written in TOML; the environment and flags write all as text, lists with commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Number,
    List,
}

/// The sections in the order of the reference, each with what it is for.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("http", "Plain HTTP for clients."),
    ("https", "HTTP over TLS for clients."),
    ("dns", "The authoritative name server of the suffix."),
    ("overlay", "The index among nodes, over UDP."),
    ("peer", "Content among nodes, over TCP."),
    ("admin", "Metrics, health and status, for the operator alone."),
    ("origin", "How origins are reached."),
    ("cache", "What is kept, and for how long."),
];

pub(crate) static KEYS: &[Key<Config>] = &[
    Key {
        name: "suffix",
        help: "Names under it are served: http://www.example.com.SUFFIX/. The default needs no DNS \
               set-up, since browsers and curl resolve *.localhost to loopback.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.suffix, str::parse),
        text: |c| quoted(&c.suffix),
    },
    Key {
        name: "state_dir",
        help: "Directory of the identity key and the saved contacts. A leading ~ is $HOME.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.state_dir, path),
        text: |c| quoted(c.state_dir.display()),
    },
    Key {
        name: "public_addr",
        help: "IP address at which others reach this node; empty means that of overlay.listen.",
        shape: Shape::Text,
        set: |c, w| optional(w, &mut c.public_addr, ip_addr),
        text: |c| quoted(c.public_addr.map_or(String::new(), |a| a.to_string())),
    },
    Key {
        name: "contact",
        help: "Who runs this node and takes reports of abuse: a mail address or a URL. It stands on the \
               page at http://SUFFIX/ and in the user agent that origins see.",
        shape: Shape::Text,
        set: |c, w| optional(w, &mut c.contact, contact),
        text: |c| quoted(c.contact.as_deref().unwrap_or_default()),
    },
    Key {
        name: "log",
        help: "What is logged to stderr: a level (error, warn, info, debug, trace), or several \
               filters as in \"info,coralline_overlay=debug\".",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.log, log_filter),
        text: |c| quoted(&c.log),
    },
    Key {
        name: "http.listen",
        help: "TCP addresses to listen on.",
        shape: Shape::List,
        set: |c, w| each(w, &mut c.http.listen, socket_addr),
        text: |c| list(&c.http.listen),
    },
    Key {
        name: "http.max_connections",
        help: "Client connections held at once, http and https together; more are closed at once. \
               At some 20 KiB each the default stays within a quarter of a 512 MB machine.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.http.max_connections, |t| count(t, CONNECTIONS)),
        text: |c| c.http.max_connections.to_string(),
    },
    Key {
        name: "https.listen",
        help: "TCP addresses to listen on; none by default, since a certificate must be given.",
        shape: Shape::List,
        set: |c, w| each(w, &mut c.https.listen, socket_addr),
        text: |c| list(&c.https.listen),
    },
    Key {
        name: "https.certificate",
        help: "PEM file with the certificate chain, for *.SUFFIX and SUFFIX.",
        shape: Shape::Text,
        set: |c, w| optional(w, &mut c.https.certificate, path),
        text: |c| optional_path(c.https.certificate.as_deref()),
    },
    Key {
        name: "https.key",
        help: "PEM file with the private key.",
        shape: Shape::Text,
        set: |c, w| optional(w, &mut c.https.key, path),
        text: |c| optional_path(c.https.key.as_deref()),
    },
    Key {
        name: "dns.listen",
        help: "Addresses to listen on, UDP and TCP. Name each address of a host that has several, \
               so that answers leave from the one that was asked.",
        shape: Shape::List,
        set: |c, w| each(w, &mut c.dns.listen, socket_addr),
        text: |c| list(&c.dns.listen),
    },
    Key {
        name: "dns.ttl",
        help: "Time to live of address records, 1s to 1h. Short enough to leave a dead node soon, \
               long enough for resolvers to be spared.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.dns.ttl, |t| duration(t, DNS_TTL)),
        text: |c| quoted(format_duration(c.dns.ttl)),
    },
    Key {
        name: "dns.answers",
        help: "Addresses in one answer at the most, 1 to 8. Clients try two or three of them.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.dns.answers, |t| count(t, DNS_ANSWERS)),
        text: |c| c.dns.answers.to_string(),
    },
    Key {
        name: "overlay.listen",
        help: "UDP address to listen on.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.overlay.listen, socket_addr),
        text: |c| quoted(c.overlay.listen),
    },
    Key {
        name: "overlay.seeds",
        help: "Nodes to join by, as host:port; none means that this is the first node.",
        shape: Shape::List,
        set: |c, w| each(w, &mut c.overlay.seeds, str::parse),
        text: |c| list(&c.overlay.seeds),
    },
    Key {
        name: "overlay.levels",
        help: "Round-trip bounds of the clusters, nearest first, at most four; the global level is \
               implied. The defaults are Coral's: a metropolitan area, and half a continent.",
        shape: Shape::List,
        set: |c, w| each(w, &mut c.overlay.levels, |t| duration(t, LEVEL_RTT)),
        text: |c| list(c.overlay.levels.iter().copied().map(format_duration)),
    },
    Key {
        name: "overlay.as_database",
        help: "MMDB file that names the autonomous system of an address, as GeoLite2 ASN does. With it a \
               newcomer soon meets the others of its provider; without, those of its own /24 or /48.",
        shape: Shape::Text,
        set: |c, w| optional(w, &mut c.overlay.as_database, path),
        text: |c| optional_path(c.overlay.as_database.as_deref()),
    },
    Key {
        name: "overlay.values_per_key",
        help: "Values of a key that make a node full, 1 to 8 (Coral's l). This and what follows \
               are the constants of the index: the nodes of a network had better share them.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.overlay.rules.values_per_key, |t| count(t, VALUES_PER_KEY)),
        text: |c| c.overlay.rules.values_per_key.to_string(),
    },
    Key {
        name: "overlay.beta",
        help: "Gets of one key in a minute that do not yet make a node loaded, 1 to 120 (Coral).",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.overlay.rules.beta, |t| count(t, A_MINUTE)),
        text: |c| c.overlay.rules.beta.to_string(),
    },
    Key {
        name: "overlay.passes",
        help: "Puts of one key that pass a node in a minute, 1 to 120. Coral let beta of them pass, \
               which leads more than its bound to the root where ids are uneven.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.overlay.rules.passes, |t| count(t, A_MINUTE)),
        text: |c| c.overlay.rules.passes.to_string(),
    },
    Key {
        name: "overlay.hop_bits",
        help: "Bits of the distance that one hop towards a hot key takes off, 1 to 8 (Coral's b). \
               More make ways shorter, and the load at the root (2^b - 1) / b times as large.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.overlay.rules.hop_bits, |t| count(t, HOP_BITS)),
        text: |c| c.overlay.rules.hop_bits.to_string(),
    },
    Key {
        name: "overlay.copies",
        help: "Nodes that store a put, 1 to 6: with one liar in five, five lose one key in three thousand.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.overlay.rules.copies, |t| count(t, COPIES)),
        text: |c| c.overlay.rules.copies.to_string(),
    },
    Key {
        name: "overlay.max_values",
        help: "Values stored here for the network, 1024 to 1048576, at some 400 octets each.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.overlay.rules.max_values, |t| count(t, VALUES)),
        text: |c| c.overlay.rules.max_values.to_string(),
    },
    Key {
        name: "overlay.max_ttl",
        help: "Longest time to live of a value, 1m to 1d: a wrong pointer must not live for days.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.overlay.rules.max_ttl, |t| duration(t, VALUE_TTL)),
        text: |c| quoted(format_duration(c.overlay.rules.max_ttl)),
    },
    Key {
        name: "overlay.accept_percent",
        help: "Share of a cluster's members that must be near for this node to join it (Coral).",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.overlay.rules.accept_percent, |t| count(t, PERCENT)),
        text: |c| c.overlay.rules.accept_percent.to_string(),
    },
    Key {
        name: "overlay.abandon_percent",
        help: "Share up to which this node leaves its cluster (Coral); less than accept_percent.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.overlay.rules.abandon_percent, |t| count(t, PERCENT)),
        text: |c| c.overlay.rules.abandon_percent.to_string(),
    },
    Key {
        name: "overlay.review_every",
        help: "Between two reviews of the own clusters, 30s to 1d (Coral).",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.overlay.rules.review_every, |t| duration(t, REVIEW)),
        text: |c| quoted(format_duration(c.overlay.rules.review_every)),
    },
    Key {
        name: "peer.listen",
        help: "TCP address to listen on.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.peer.listen, socket_addr),
        text: |c| quoted(c.peer.listen),
    },
    Key {
        name: "peer.audit_one_in",
        help: "Of responses that came from peers, one in so many is fetched again from its origin, which \
               finds out nodes that sign what is not true; 0 for none. Enough to find a liar soon, too \
               few to burden an origin.",
        shape: Shape::Number,
        set: |c, w| one(w, &mut c.peer.audit_one_in, |t| count(t, AUDITS)),
        text: |c| c.peer.audit_one_in.to_string(),
    },
    Key {
        name: "admin.listen",
        help: "TCP address to listen on. Keep it on loopback or a private network.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.admin.listen, socket_addr),
        text: |c| quoted(c.admin.listen),
    },
    Key {
        name: "origin.allow_private",
        help: "Networks that may be origins although private, as in \"127.0.0.0/8\". None by \
               default: a proxy open to the world must not reach into the operator's own network.",
        shape: Shape::List,
        set: |c, w| each(w, &mut c.origin.allow_private, network),
        text: |c| list(&c.origin.allow_private),
    },
    Key {
        name: "origin.nameservers",
        help: "Name servers to ask for origins; the system's own when empty.",
        shape: Shape::List,
        set: |c, w| each(w, &mut c.origin.nameservers, socket_addr),
        text: |c| list(&c.origin.nameservers),
    },
    Key {
        name: "origin.ca_file",
        help: "PEM file of authorities to trust beside the public ones. A site's own certificate does too, \
               unless it says CA:TRUE, as openssl makes it when not told otherwise.",
        shape: Shape::Text,
        set: |c, w| optional(w, &mut c.origin.ca_file, path),
        text: |c| optional_path(c.origin.ca_file.as_deref()),
    },
    Key {
        name: "origin.connect_timeout",
        help: "Time for name, connection and TLS handshake together.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.origin.connect_timeout, |t| duration(t, TIMEOUT)),
        text: |c| quoted(format_duration(c.origin.connect_timeout)),
    },
    Key {
        name: "origin.response_timeout",
        help: "Time from the request to the head of the response.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.origin.response_timeout, |t| duration(t, TIMEOUT)),
        text: |c| quoted(format_duration(c.origin.response_timeout)),
    },
    Key {
        name: "origin.stall_timeout",
        help: "Longest silence within a body.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.origin.stall_timeout, |t| duration(t, TIMEOUT)),
        text: |c| quoted(format_duration(c.origin.stall_timeout)),
    },
    Key {
        name: "cache.memory",
        help: "Memory for bodies, at least 8MiB: half for what is stored, half for what arrives.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.cache.memory, memory),
        text: |c| quoted(c.cache.memory),
    },
    Key {
        name: "cache.disk",
        help: "Disk for responses, in the directory cache in state_dir; \"0\" for none, else at least \\
               \"16MiB\". Full means that the least asked for goes. Its index takes up to a quarter of \\
               cache.memory beside it.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.cache.disk, disk),
        text: |c| quoted(c.cache.disk),
    },
    Key {
        name: "cache.default_ttl",
        help: "Freshness of a response that states none and has no Last-Modified, for suffixed names \
               only. Enough to carry a crowd over such a page, short enough to be harmless.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.cache.default_ttl, |t| duration(t, FRESHNESS)),
        text: |c| quoted(format_duration(c.cache.default_ttl)),
    },
    Key {
        name: "cache.max_heuristic_ttl",
        help: "Upper bound of a freshness guessed from Last-Modified.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.cache.max_heuristic_ttl, |t| duration(t, FRESHNESS)),
        text: |c| quoted(format_duration(c.cache.max_heuristic_ttl)),
    },
    Key {
        name: "cache.stale_if_error",
        help: "How long past its freshness a copy may stand in for a failing origin.",
        shape: Shape::Text,
        set: |c, w| one(w, &mut c.cache.stale_if_error, |t| duration(t, FRESHNESS)),
        text: |c| quoted(format_duration(c.cache.stale_if_error)),
    },
];

pub(crate) static SITE_KEYS: &[Key<Site>] = &[
    Key {
        name: "site.host",
        help: "The host name that clients ask for; its origin is asked by it too.",
        shape: Shape::Text,
        set: |s, w| one(w, &mut s.host, site_host),
        text: |s| quoted(&s.host),
    },
    Key {
        name: "site.origin",
        help: "Its origin: http:// or https://, a host, an optional port. May be private.",
        shape: Shape::Text,
        set: |s, w| one(w, &mut s.origin, parse_origin),
        text: |s| quoted(&s.origin),
    },
];

/// The variable of the environment for a key: `http.listen` is `CORALLINE_HTTP_LISTEN`.
pub(crate) fn environment_name(key: &str) -> String {
    format!("CORALLINE_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Text as a TOML string.
pub(crate) fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

fn optional_path(path: Option<&Path>) -> String {
    quoted(path.map_or(String::new(), |path| path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_known_sections() {
        let mut variables: Vec<String> = KEYS.iter().map(|k| environment_name(k.name)).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), KEYS.len());
        for key in KEYS {
            if let Some((section, _)) = key.name.split_once('.') {
                assert!(SECTIONS.iter().any(|(name, _)| *name == section), "{}", key.name);
            }
        }
    }
}
