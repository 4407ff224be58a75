//! One node: its sockets, its parts, and their end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use coralline_config::Config;
use coralline_dns::Responder;
use coralline_overlay::Services;
use coralline_proxy::{Door, Proxy, StartError as ProxyError};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admin;
use crate::exit::{Code, Failure};
use crate::health::Health;
use crate::limits::{DRAIN_DEADLINE, FAREWELL_DEADLINE};
use crate::metrics;
use crate::status::View;
use crate::token::Token;

/// A running node. Dropping it ends its tasks without farewell; [`Node::shutdown`] says goodbye.
pub(crate) struct Node {
    view: Arc<View>,
    /// What serves clients and peers; each ends by itself once `closing` and drained.
    doors: JoinSet<&'static str>,
    /// What must outlive the drain: the overlay and the admin listener.
    roots: JoinSet<&'static str>,
    closing: CancellationToken,
    /// Ends the overlay and the admin listener, at the latest when the node is dropped.
    last: CancellationToken,
    _end: DropGuard,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A TCP socket could not be bound.
    #[error("{key}: cannot listen on {addr}: {}", remedy(source))]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address that was wanted.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The DNS sockets could not be bound.
    #[error(transparent)]
    Dns(#[from] coralline_dns::BindError),
    /// The overlay could not start.
    #[error(transparent)]
    Overlay(#[from] coralline_overlay::StartError),
    /// The proxy could not start.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The token of the admin listener could not be read or made.
    #[error("{}: {source}", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two parts chose the same name for a metric.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Node {
    /// Binds every socket of the configuration, joins, and serves.
    ///
    /// # Errors
    /// When a socket cannot be bound, state cannot be kept, or a certificate cannot be read; nothing
    /// is left running then.
    pub(crate) async fn start(config: Config) -> Result<Self, StartError> {
        let sockets = Sockets::bind(&config).await?;
        let https = match sockets.https.as_slice() {
            [] => None,
            _ => Some(Door::https(&config.https)?),
        };
        let (closing, last) = (CancellationToken::new(), CancellationToken::new());
        let end = last.clone().drop_guard();
        let (index, overlay) =
            coralline_overlay::start(&config, services(&config), last.clone().cancelled_owned())
                .await?;
        let mut roots = JoinSet::new();
        roots.spawn(async {
            // A panic of the driver ends this task like any other end of it.
            let _ = overlay.await;
            "the overlay"
        });

        let path = Token::path(&config.state_dir);
        let token = Token::load_or_create(&config.state_dir)
            .map_err(|source| StartError::Token { path, source })?;
        let registry = Registry::new();
        let health = Arc::new(Health::new(index.clone()));
        metrics::register(&registry, Arc::clone(&health))?;
        let proxy = Proxy::new(&config, index.clone(), &registry, token.into_text())?;
        let mut doors = JoinSet::new();
        let names = coralline_dns::Metrics::register(&registry)?;
        let (stop, peers) = (closing.clone(), index.clone());
        let dns = sockets.dns.serve(
            Responder::new(&config),
            names,
            move || index.directory(),
            stop.cancelled_owned(),
        );
        doors.spawn(async {
            dns.await;
            "the name server"
        });
        let peer = Door::peer(&peers);
        let plain = sockets.http.into_iter().map(|listener| (listener, Door::Http));
        let https = sockets.https.into_iter().zip(https.into_iter().cycle());
        for (listener, door) in plain.chain(https).chain([(sockets.peer, peer)]) {
            let serving = Arc::clone(&proxy).serve(listener, door, closing.clone());
            doors.spawn(async {
                serving.await;
                "a listener of the proxy"
            });
        }
        let view = Arc::new(View::new(config, health, proxy, registry));
        roots.spawn(admin::serve(sockets.admin, Arc::clone(&view), last.clone()));
        Ok(Self { view, doors, roots, closing, last, _end: end })
    }

    /// What is asked at the admin listener.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Waits until a part ends although nobody asked it to, and names it.
    pub(crate) async fn ended(&mut self) -> &'static str {
        let part = tokio::select! {
            Some(part) = self.doors.join_next() => part,
            Some(part) = self.roots.join_next() => part,
            else => return "the node",
        };
        part.unwrap_or("a part of the node")
    }

    /// Unready first, then no new connections, pointers withdrawn, and what is in flight ends by itself
    /// or at the deadline; the overlay and the admin listener go last.
    pub(crate) async fn shutdown(&mut self) {
        self.view.health().end();
        self.closing.cancel();
        let farewell = self.view.proxy().close();
        let drained = async { while self.doors.join_next().await.is_some() {} };
        if timeout(DRAIN_DEADLINE, async { tokio::join!(farewell, drained) }).await.is_err() {
            tracing::warn!("requests still in flight after {DRAIN_DEADLINE:?} are cut off");
            self.doors.abort_all();
        }
        self.last.cancel();
        let ended = async { while self.roots.join_next().await.is_some() {} };
        if timeout(FAREWELL_DEADLINE, ended).await.is_err() {
            self.roots.abort_all();
        }
    }

    /// Two or three lines for whoever has just started it: what listens where, and a URL to try.
    pub(crate) fn welcome(&self) -> String {
        let config = self.view.config();
        let listens = [
            ("http", config.http.listen.as_slice()),
            ("https", &config.https.listen),
            ("dns", &config.dns.listen),
            ("overlay", &[config.overlay.listen]),
            ("peer", &[config.peer.listen]),
            ("admin", &[config.admin.listen]),
        ];
        let listens =
            listens.into_iter().filter(|(_, addrs)| !addrs.is_empty()).map(|(name, addrs)| {
                let addrs: Vec<_> = addrs.iter().map(ToString::to_string).collect();
                format!("{name} {}", addrs.join(" "))
            });
        let listens = listens.collect::<Vec<_>>().join(", ");
        let id = self.view.health().index().local().id();
        format!("node {id:?} listens: {listens}; try {}", self.view.sample_url())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::Listen { .. } | StartError::Dns(_) => Code::Unavailable,
            StartError::Token { .. } => Code::CannotCreate,
            StartError::Overlay(error) => overlay_code(error),
            StartError::Metrics(_) | StartError::Proxy(ProxyError::Metrics(_)) => Code::Software,
            StartError::Proxy(_) => Code::Config,
        };
        Self::new(code, error.to_string())
    }
}

fn overlay_code(error: &coralline_overlay::StartError) -> Code {
    use coralline_overlay::StartError as E;
    match error {
        E::Bind { .. } => Code::Unavailable,
        E::State { .. } => Code::CannotCreate,
        E::Address { .. } | E::Database { .. } => Code::Config,
    }
}

/// Every socket but the overlay's own, which it binds before it does anything else.
struct Sockets {
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    peer: TcpListener,
    admin: TcpListener,
    dns: coralline_dns::Bound,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            http: bind_all("http.listen", &config.http.listen).await?,
            https: bind_all("https.listen", &config.https.listen).await?,
            peer: bind("peer.listen", config.peer.listen).await?,
            admin: bind("admin.listen", config.admin.listen).await?,
            dns: coralline_dns::bind(&config.dns.listen)?,
        })
    }
}

async fn bind_all(key: &'static str, addrs: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::with_capacity(addrs.len());
    for addr in addrs {
        listeners.push(bind(key, *addr).await?);
    }
    Ok(listeners)
}

async fn bind(key: &'static str, addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Listen { key, addr, source })
}

/// What the system said, and what to do about it.
fn remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use; free it or choose another".into(),
        io::ErrorKind::AddrNotAvailable => {
            "the address is not of this machine; choose one of its own".into()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE or root".into()
        }
        _ => error.to_string(),
    }
}

fn services(config: &Config) -> Services {
    let clients = !config.http.listen.is_empty() || !config.https.listen.is_empty();
    [(clients, Services::PROXY), (!config.dns.listen.is_empty(), Services::DNS)]
        .into_iter()
        .filter(|(offered, _)| *offered)
        .fold(Services::default(), |all, (_, service)| all.with(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_what_it_listens_for() {
        let mut config = Config::default();
        assert_eq!(services(&config), Services::PROXY.with(Services::DNS));
        config.dns.listen.clear();
        assert_eq!(services(&config), Services::PROXY);
        config.http.listen.clear();
        assert_eq!(services(&config), Services::default());
    }
}
