//! The Bot API over HTTP: the methods that the bot calls, and what it reads of their answers.
//!
//! The token is a part of each URL, so no error and no log line has the URL in it, and [`Api::redact`] removes the token
//! from whatever else is said.

pub mod sender;
pub mod types;

use std::fmt;
use std::time::Duration;

use rustls::RootCertStore;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use self::types::{Update, User};
use crate::observe::metrics::Metrics;

/// What `getUpdates` gives at most.
pub const UPDATES_MAX: usize = 100;
/// The kinds of updates that are asked for.
const ALLOWED_UPDATES: [&str; 3] = ["message", "edited_message", "callback_query"];
/// Short calls are answered in a fraction of that.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Beyond the time that Telegram was asked to wait: the answer is under way, or the connection is dead.
const POLL_SLACK: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// Telegram has answered, and refuses.
    Refused(Refusal),
    /// No answer of Telegram's: the connection failed, or something on the way has answered.
    Broken(String),
}

/// What Telegram says when it refuses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// As of HTTP.
    #[serde(rename = "error_code", default)]
    pub code: u16,
    /// In words.
    #[serde(default)]
    pub description: String,
    /// What to do about it.
    #[serde(default)]
    pub parameters: Parameters,
}

/// What to do about a refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Parameters {
    /// Seconds to wait.
    pub retry_after: Option<u64>,
    /// The chat has another id now.
    pub migrate_to_chat_id: Option<i64>,
}

impl ApiError {
    /// Telegram's code, or 0 where it has not answered.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Broken(_) => 0,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Refusal { code, description, .. }) => write!(out, "{code} {description}"),
            Self::Broken(reason) => out.write_str(reason),
        }
    }
}

impl std::error::Error for ApiError {}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    result: Option<Value>,
    #[serde(flatten)]
    refusal: Refusal,
}

/// The Bot API; copies share connections.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: SecretString,
    metrics: Metrics,
}

impl fmt::Debug for Api {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Api").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Api {
    /// At `base`, such as `https://api.telegram.org`. A proxy that the environment names is used.
    ///
    /// # Errors
    /// When the proxy's settings make no sense.
    pub fn new(base: &str, token: SecretString, metrics: Metrics) -> Result<Self, String> {
        let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let builder = reqwest::Client::builder();
        // A proxy for the outside leads nowhere for a Bot API of one's own beside the bot.
        let builder = if is_local(base) { builder.no_proxy() } else { builder };
        let http = builder
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("no HTTP client: {}", error.without_url()))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token, metrics })
    }

    /// `text` without the token.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        text.replace(self.token.expose_secret(), "<token>")
    }

    /// Makes a call once.
    ///
    /// # Errors
    /// When there is no answer, or Telegram refuses.
    pub async fn call(&self, method: &'static str, parameters: &Value) -> Result<Value, ApiError> {
        self.call_within(method, parameters, CALL_TIMEOUT).await
    }

    async fn call_within(
        &self,
        method: &'static str,
        parameters: &Value,
        within: Duration,
    ) -> Result<Value, ApiError> {
        let outcome = self.answer(method, parameters, within).await;
        match &outcome {
            Ok(_) => tracing::debug!(method, "Telegram has answered"),
            Err(error) => {
                self.metrics.telegram_errors.with_label_values(&[method, &error.code().to_string()]).inc();
                tracing::debug!(method, %error, "Telegram call failed");
            }
        }
        tracing::trace!(method, %parameters, ?outcome, "Telegram call");
        outcome
    }

    async fn answer(
        &self,
        method: &'static str,
        parameters: &Value,
        within: Duration,
    ) -> Result<Value, ApiError> {
        let broken = |reason: String| ApiError::Broken(self.redact(&reason));
        let url = format!("{}/bot{}/{method}", self.base, self.token.expose_secret());
        let request = self
            .http
            .post(url)
            .timeout(within)
            .header("content-type", "application/json")
            .body(parameters.to_string());
        let response = request.send().await.map_err(|error| broken(chain(&error.without_url())))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| broken(chain(&error.without_url())))?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| broken(format!("HTTP {} that is not of the Bot API", status.as_u16())))?;
        match answer {
            Answer { ok: true, result, .. } => Ok(result.unwrap_or_default()),
            Answer { mut refusal, .. } => {
                if refusal.code == 0 {
                    refusal.code = status.as_u16();
                }
                refusal.description = self.redact(&refusal.description);
                Err(ApiError::Refused(refusal))
            }
        }
    }

    /// The bot itself.
    ///
    /// # Errors
    /// As of each call.
    pub async fn me(&self) -> Result<User, ApiError> {
        let me = self.call("getMe", &json!({})).await?;
        serde_json::from_value(me).map_err(|error| ApiError::Broken(format!("getMe: {error}")))
    }

    /// Updates from `offset` on; those below are forgotten by Telegram. Waits for the first, for `timeout` at most.
    ///
    /// # Errors
    /// As of each call.
    pub async fn updates(
        &self,
        offset: Option<i64>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Vec<Update>, ApiError> {
        let mut parameters =
            json!({ "limit": limit, "timeout": timeout.as_secs(), "allowed_updates": ALLOWED_UPDATES });
        if let Some(offset) = offset {
            parameters["offset"] = offset.into();
        }
        let answer = self.call_within("getUpdates", &parameters, timeout + POLL_SLACK).await?;
        let Value::Array(updates) = answer else {
            return Err(ApiError::Broken("getUpdates: the result is no list".into()));
        };
        Ok(updates.into_iter().filter_map(Update::read).collect())
    }
}

/// Whether a URL leads to this machine.
fn is_local(url: &str) -> bool {
    let host =
        url.parse::<http::Uri>().ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An error with its reasons, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_this_machine_is_reached_without_a_proxy() {
        for url in ["http://localhost:8081", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(is_local(url), "{url}");
        }
        for url in ["https://api.telegram.org", "http://10.0.0.1:8081", "http://localhost.example"] {
            assert!(!is_local(url), "{url}");
        }
    }
}
