//! Certificates, and servers that ask for them: Kafka with SASL_SSL, and TLS in front of a Postgres that has none.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use crate::PrivateKafka;

/// What a client that wants TLS says first: length 8, code 80877103 (PostgreSQL, "SSL Session Encryption").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// An authority, and a certificate of it for `name`; the files go when this is dropped.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn for_name(name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("harness-tls-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir_all(&folder)?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of its own: OpenSSL takes a certificate whose issuer has its own name for one that signed itself.
        authority.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let server = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &issuer)?;
        let made = Self { folder };
        fs::write(made.authority(), authority_pem)?;
        fs::write(made.server(), format!("{}{}", key.serialize_pem(), server.pem()))?;
        Ok(made)
    }

    /// The authority's certificate: what a client is to trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The server's key and certificate.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.pem")
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A Kafka with a second listener at `port`, for which `user` (`name:password`) needs TLS and SCRAM-SHA-512. `more` are
/// further properties.
///
/// # Errors
/// When it does not come up.
pub async fn kafka(
    certificates: &Certificates,
    port: u16,
    user: &str,
    more: &[&str],
) -> Result<PrivateKafka> {
    let listeners = format!(
        "listeners=PLAINTEXT://127.0.0.1:{{broker}},CONTROLLER://127.0.0.1:{{controller}},SECURE://127.0.0.1:{port}"
    );
    let advertised =
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},SECURE://localhost:{port}");
    let keystore = format!("listener.name.secure.ssl.keystore.location={}", certificates.server().display());
    let properties = [
        listeners.as_str(),
        &advertised,
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "listener.name.secure.ssl.keystore.type=PEM",
        &keystore,
        "listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512",
        "listener.name.secure.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;",
    ];
    PrivateKafka::start_with_user(&[&properties, more].concat(), user).await
}

/// A Kafka with a second listener at `port`, on which clients sign in with tokens (SASL/OAUTHBEARER). It believes any token
/// that has not expired: the brokers' own validator for tests, of tokens without a signature.
///
/// # Errors
/// When it does not come up.
pub async fn kafka_with_tokens(port: u16) -> Result<PrivateKafka> {
    let listeners = format!(
        "listeners=PLAINTEXT://127.0.0.1:{{broker}},CONTROLLER://127.0.0.1:{{controller}},TOKENS://127.0.0.1:{port}"
    );
    let advertised =
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},TOKENS://127.0.0.1:{port}");
    PrivateKafka::start_with(&[
        &listeners,
        &advertised,
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TOKENS:SASL_PLAINTEXT",
        "listener.name.tokens.sasl.enabled.mechanisms=OAUTHBEARER",
        "listener.name.tokens.oauthbearer.sasl.jaas.config=\
         org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
         unsecuredLoginStringClaim_sub=\"broker\";",
        // A connection ends with its token, unless the client signs in anew (KIP-368).
        "listener.name.tokens.oauthbearer.connections.max.reauth.ms=3600000",
    ])
    .await
}

/// A token that such a broker believes: of `user`, good for so many seconds.
#[must_use]
pub fn token(user: &str, seconds: i64) -> String {
    let encoded = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or_default();
    let claims = format!("{{\"sub\":\"{user}\",\"iat\":{now},\"exp\":{}}}", now + seconds);
    format!("{}.{}.", encoded("{\"alg\":\"none\"}".to_owned()), encoded(claims))
}

/// TLS in front of a server that speaks Postgres' protocol without it. Who does not ask for TLS is turned away.
#[derive(Debug)]
pub struct TlsFront {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// Starts one in front of `target`.
    ///
    /// # Errors
    /// When no port is free, or the certificate is none.
    pub async fn start(target: SocketAddr, certificates: &Certificates) -> Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&certificates.server())?));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for TLS")?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target, acceptor.clone()));
            }
        });
        Ok(Self { addr, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn server_config(path: &Path) -> Result<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(path).context("the server's key")?;
    let chain = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_single_cert(chain, key)?)
}

async fn serve(mut client: TcpStream, target: SocketAddr, acceptor: TlsAcceptor) -> Result<()> {
    let mut first = [0; 8];
    client.read_exact(&mut first).await?;
    if first != SSL_REQUEST {
        return Ok(());
    }
    client.write_all(b"S").await?;
    let mut encrypted = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(target).await?;
    copy_bidirectional(&mut encrypted, &mut server).await?;
    Ok(())
}
