//! One question and its answer, over a connection of its own: a registry is asked a few times in the life of a relay.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::config::{RegistrySettings, RegistryUser};

/// Schemas have kilobytes; whatever else may be listening there is not read for long.
const BODY_BYTES_MAX: usize = 8 << 20;

/// The media type of the interface (Confluent, "Schema Registry API Reference").
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Null where it is no JSON.
    pub(super) body: Value,
}

/// Asks; the error says why there is no answer.
pub(super) async fn ask(
    settings: &RegistrySettings,
    timeout: Duration,
    path: &str,
    body: Option<&Value>,
) -> Result<Answer, String> {
    let answer = tokio::time::timeout(timeout, exchange(settings, path, body)).await;
    answer.map_err(|_| format!("no answer within {} ms", timeout.as_millis()))?
}

async fn exchange(settings: &RegistrySettings, path: &str, body: Option<&Value>) -> Result<Answer, String> {
    let (url, request) = (&settings.url, request(settings, path, body)?);
    let stream =
        TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| error.to_string())?;
    if !url.is_secure {
        return send(stream, request).await;
    }
    let connector = TlsConnector::from(Arc::new(tls::client_config(settings.ca.as_deref())?));
    let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
    let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    send(stream, request).await
}

fn request(
    settings: &RegistrySettings,
    path: &str,
    body: Option<&Value>,
) -> Result<Request<Full<Bytes>>, String> {
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", settings.url.prefix))
        .header(HOST, settings.url.authority())
        .header(USER_AGENT, concat!("walpost/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, MEDIA_TYPE);
    if body.is_some() {
        request = request.header(CONTENT_TYPE, MEDIA_TYPE);
    }
    if let Some(user) = &settings.user {
        request = request.header(AUTHORIZATION, basic(user)?);
    }
    let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
    request.body(Full::from(body)).map_err(|error| error.to_string())
}

/// RFC 7617; marked, so that nothing that shows a request shows it.
fn basic(user: &RegistryUser) -> Result<HeaderValue, String> {
    let encoded = BASE64.encode(format!("{}:{}", user.name, user.password().expose_secret()));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        answered = exchange.as_mut() => answered,
        ended = connection.as_mut() => match ended {
            Err(error) => Err(error.to_string()),
            // The answer may be there all the same: it came with the end.
            Ok(()) => exchange.await,
        },
    }
}
