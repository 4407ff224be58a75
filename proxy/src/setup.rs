//! What a proxy is made of, from its configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use coralline_config::Config;
use http::HeaderValue;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why the proxy could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `[https]` listens without a certificate.
    #[error("https.listen needs https.certificate and https.key")]
    NoCertificate,
    /// A PEM file is missing or wrong.
    #[error("{key}: {} cannot be used: {error}", path.display())]
    Pem {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The name servers of the system are not known.
    #[error("the system's name servers cannot be read: {0}; set origin.nameservers")]
    Resolver(String),
    /// The directory of the disk cache cannot be used.
    #[error("cache.disk: {0}")]
    Disk(#[from] coralline_disk::OpenError),
    /// The file of purges cannot be used.
    #[error("{}: {error}; check state_dir", path.display())]
    Purges {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A metric was registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Tells an origin what asks, and whom to turn to.
pub(crate) fn user_agent(config: &Config) -> HeaderValue {
    let version = env!("CARGO_PKG_VERSION");
    let contact = config.contact.iter().map(|contact| format!("; {contact}")).collect::<String>();
    let text = format!("coralline/{version} (+http://{}/{contact})", config.suffix);
    HeaderValue::from_str(&text).expect("suffix and contact are visible ASCII")
}

/// Where this node listens: no origin is there.
pub(crate) fn own_addresses(config: &Config) -> Vec<SocketAddr> {
    let mut own = Vec::new();
    own.extend_from_slice(&config.http.listen);
    own.extend_from_slice(&config.https.listen);
    own.extend_from_slice(&config.dns.listen);
    own.extend([config.overlay.listen, config.peer.listen, config.admin.listen]);
    let public = config.public_addr.into_iter();
    let reached: Vec<_> = public
        .flat_map(|ip| own.iter().map(move |addr| SocketAddr::new(ip, addr.port())))
        .collect();
    own.extend(reached);
    own
}

/// The one provider of cryptography, named wherever one is needed, so that none has to be global.
pub(crate) fn crypto() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Trusts the public authorities, and those of `origin.ca_file`.
pub(crate) fn origin_tls(config: &Config) -> Result<Arc<rustls::ClientConfig>, StartError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = &config.origin.ca_file {
        let wrong =
            |error: String| StartError::Pem { key: "origin.ca_file", path: path.clone(), error };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(error.to_string()))?;
        for certificate in certificates {
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let tls = rustls::ClientConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(tls))
}
