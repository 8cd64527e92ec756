//! TLS for both connections, by the rules of libpq's `sslmode`.

use std::path::Path;
use std::sync::Arc;

use conninfo::{Roots, SslMode, Tls, TlsVersion};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

/// The client's side, which verifies what the mode asks for.
///
/// # Errors
/// When a file cannot be read, or holds something else.
pub(crate) fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(tls))
        .map_err(|error| error.to_string())?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier(tls, provider)?);
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("cannot read sslkey `{}`: {error}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("sslcert and sslkey do not go together: {error}"))?
        }
    };
    config.enable_sni = tls.sni;
    if tls.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

fn versions(tls: &Tls) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V1_2, &TLS12), (TlsVersion::V1_3, &TLS13)];
    let spoken = all.into_iter().filter(|(version, _)| (tls.oldest..=tls.newest).contains(version));
    spoken.map(|(_, version)| version).collect()
}

fn verifier(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let algorithms = provider.signature_verification_algorithms;
    if tls.mode < SslMode::VerifyCa {
        return Ok(Arc::new(Verifier { algorithms, chains: None }));
    }
    let trusted = match &tls.roots {
        Roots::File(path) => certificates(path, "sslrootcert")?,
        Roots::Unnamed | Roots::System => Vec::new(),
    };
    let roots = if trusted.is_empty() { system_roots() } else { roots(&trusted)? };
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| format!("cannot trust the authorities of sslrootcert: {error}"))?;
    let chains = Some(Chains { chains, trusted, names: tls.mode == SslMode::VerifyFull });
    Ok(Arc::new(Verifier { algorithms, chains }))
}

fn certificates(path: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable =
        |error: &dyn std::fmt::Display| format!("cannot read {option} `{}`: {error}", path.display());
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&error))?;
    if read.is_empty() {
        return Err(unreadable(&"no certificate in it"));
    }
    Ok(read)
}

fn roots(trusted: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("sslrootcert holds what is no authority's certificate: {error}"))?;
    }
    Ok(roots)
}

/// Those that the system trusts; where it has none, as in an image without them, those that browsers trust.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Who the server must be, by the mode. That it has the key of its certificate is verified always.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// None for `allow`, `prefer` and `require`: they encrypt against listeners, and trust whoever answers, which is what
    /// libpq promises for them.
    chains: Option<Chains>,
}

/// `verify-ca` and `verify-full`: the chain leads to an authority that is trusted, and the name is the server's.
#[derive(Debug)]
struct Chains {
    chains: Arc<WebPkiServerVerifier>,
    /// What the file of authorities holds. A server's own certificate in it is trusted as it is, as OpenSSL does.
    trusted: Vec<CertificateDer<'static>>,
    /// Whether the name matters. Some services make certificates that name no host.
    names: bool,
}

impl Chains {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(rustls::Error::InvalidCertificate(fault)) = &verified else { return verified };
        let is_about_name = matches!(
            fault,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        );
        // The chain is looked at first, so that with this fault it is well.
        if is_about_name && !self.names {
            return Ok(ServerCertVerified::assertion());
        }
        let is_about_issuer = matches!(fault, CertificateError::UnknownIssuer | CertificateError::Other(_));
        if is_about_issuer && self.trusted.iter().any(|trusted| trusted == end_entity) {
            if self.names {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        verified
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.chains {
            None => Ok(ServerCertVerified::assertion()),
            Some(chains) => chains.verify(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
