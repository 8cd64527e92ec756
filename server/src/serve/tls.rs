//! TLS of the servers that clients reach: who they are, and whose clients they serve.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The roots of the clients' certificates; with it, a client without one is refused.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or holds something else.
    #[error("cannot read `{}`: {cause}; --{setting} must name a PEM file that this user may read", path.display())]
    File {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: pem::Error,
    },
    /// They do not go together.
    #[error("TLS: {0}; do --tls-cert, --tls-key and --tls-client-ca belong together?")]
    Unusable(String),
}

/// Accepts with the protocols `alpn`, the one that is liked best first.
pub(super) fn acceptor(settings: &TlsSettings, alpn: &[&str]) -> Result<TlsAcceptor, TlsError> {
    let certificates = certificates("tls-cert", &settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|cause| TlsError::File {
        setting: "tls-key",
        path: settings.key.clone(),
        cause,
    })?;
    let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
    // Said here rather than left to the process: a library that brings another provider must not decide.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in self::certificates("tls-client-ca", path)? {
                roots.add(root).map_err(unusable)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| TlsError::Unusable(error.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(unusable)?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |cause| TlsError::File { setting, path: path.to_owned(), cause };
    let found: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}
