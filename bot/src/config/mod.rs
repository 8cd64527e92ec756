//! What the program is set to do: every setting read and judged at once.

mod table;

use std::net::SocketAddr;
use std::time::Duration;

use clap::ArgMatches;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use settings::{Mistakes, Values};

use crate::cache::CacheSettings;
use crate::command::Allowed;
use crate::kafka::KafkaSettings;
use crate::packages::GrpcSettings;
use crate::telemetry::TelemetrySettings;

pub use table::TABLE;

/// librdkafka's properties on which a promise rests.
const OWN_PROPERTIES: [&str; 8] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
];

/// The settings, judged.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bot at Telegram.
    pub telegram: TelegramSettings,
    /// Who may change packages.
    pub allowed: Allowed,
    /// Packages on a page.
    pub page_size: u64,
    /// The package API.
    pub grpc: GrpcSettings,
    /// Kafka.
    pub kafka: KafkaSettings,
    /// Redis.
    pub cache: CacheSettings,
    /// Where it is watched.
    pub http_addr: SocketAddr,
    /// How long the end may take.
    pub drain_timeout: Duration,
    /// Logs and spans.
    pub telemetry: TelemetrySettings,
    /// Every setting and where it comes from, for people; secrets are hidden.
    pub shown: String,
}

/// The bot at Telegram.
#[derive(Debug, Clone)]
pub struct TelegramSettings {
    /// Its token.
    pub token: SecretString,
    /// Where the Bot API is.
    pub url: String,
    /// How long a poll waits.
    pub poll_timeout: Duration,
}

impl Settings {
    /// Reads them from the command line, the environment and the file.
    ///
    /// # Errors
    /// Every mistake, together.
    pub fn load(matches: &ArgMatches, env: &[(String, String)]) -> Result<Self, Mistakes> {
        let mut values = TABLE.load(matches, env);
        let shown = values.shown();
        let settings = Self::read(&mut values);
        values.finish()?;
        // `read` gives nothing only where it has noted why.
        settings.map(|settings| Self { shown, ..settings }).ok_or_else(Mistakes::default)
    }

    /// Each setting is read before any is missed, so that all mistakes are noted.
    fn read(values: &mut Values) -> Option<Self> {
        let telegram = telegram(values);
        let allowed = allowed(values);
        let page_size = values.number("page-size", 1..=35);
        let grpc = grpc(values);
        let kafka = kafka(values);
        let cache = cache(values);
        let http_addr = values.parse_with("http-addr", |text| {
            text.parse().map_err(|_| "expected IP:PORT, such as 0.0.0.0:9102".to_owned())
        });
        let drain_timeout = values.number("drain-timeout-ms", 0..=600_000).map(Duration::from_millis);
        let telemetry = telemetry(values);
        Some(Self {
            telegram: telegram?,
            allowed: allowed?,
            page_size: page_size?,
            grpc: grpc?,
            kafka: kafka?,
            cache: cache?,
            http_addr: http_addr?,
            drain_timeout: drain_timeout?,
            telemetry: telemetry?,
            shown: String::new(),
        })
    }
}

fn telegram(values: &mut Values) -> Option<TelegramSettings> {
    let token = secret(values, "telegram-token");
    if values.text("telegram-token").is_none_or(|token| token.is_empty()) {
        values.missing(
            "telegram-token",
            "give PACKAGE_BOT_TELEGRAM_TOKEN, PACKAGE_BOT_TELEGRAM_TOKEN_FILE or TOKEN",
        );
    }
    let token_is_one = values.parse_with("telegram-token", |text| {
        let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte));
        if fits {
            Ok(())
        } else {
            Err("expected a token as @BotFather gives it, such as 110201543:AAHdqT…".to_owned())
        }
    });
    let url = values.parse_with("telegram-api-url", |text| web_url(text, "https://api.telegram.org"));
    let poll_timeout = values.number("poll-timeout-s", 1..=50).map(Duration::from_secs);
    token_is_one?;
    Some(TelegramSettings { token: token?, url: url?, poll_timeout: poll_timeout? })
}

fn allowed(values: &mut Values) -> Option<Allowed> {
    if values.text("allowed-ids").is_none() {
        return Some(Allowed::default());
    }
    values.parse_with("allowed-ids", |text| {
        let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
        let ids: Result<_, _> = ids.map(str::parse).collect();
        ids.map(Allowed)
            .map_err(|_| "expected numbers with commas between them, such as 7,-1001234".to_owned())
    })
}

fn grpc(values: &mut Values) -> Option<GrpcSettings> {
    let url = values.parse_with("grpc-url", |text| web_url(text, "http://logistic-package-api:8082"));
    let token = secret(values, "grpc-auth-token");
    let token_is_one = values.parse_with("grpc-auth-token", |text| {
        let fits = text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(()) } else { Err("expected printable ASCII characters without blanks".to_owned()) }
    });
    let ca = match values.text("grpc-ca") {
        None => Some(None),
        Some(_) => values.parse_with("grpc-ca", |path| certificate(path).map(Some)),
    };
    let timeout = values.number("call-timeout-ms", 100..=60_000).map(Duration::from_millis);
    if token.is_some() {
        token_is_one?;
    }
    let settings = GrpcSettings { url: url?, token, ca: ca?, timeout: timeout? };
    if let Err(reason) = settings.check() {
        values.mistake(format!("grpc-url, grpc-ca: {reason}"));
    }
    Some(settings)
}

/// A file with a certificate in it at least. One without would let no server in.
fn certificate(path: &str) -> Result<Vec<u8>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err("expected a certificate, PEM".to_owned()),
    }
}

fn kafka(values: &mut Values) -> Option<KafkaSettings> {
    let properties = values.map("kafka-property");
    for name in properties.keys().filter(|name| OWN_PROPERTIES.contains(&name.as_str())) {
        values.mistake(format!("kafka-property {name}: the bot sets it itself"));
    }
    let settings = KafkaSettings {
        brokers: values.text("kafka-brokers")?,
        commands_topic: values.text("commands-topic")?,
        cache_events_topic: values.text("cache-events-topic")?,
        package_events_topic: values.text("package-events-topic")?,
        group: values.text("kafka-group")?,
        properties,
    };
    if let Err(reason) = settings.check() {
        values.mistake(format!("kafka-property: {reason}"));
    }
    Some(settings)
}

fn cache(values: &mut Values) -> Option<CacheSettings> {
    // Of a URL, the password alone is a secret.
    let url = match values.secret("redis-url") {
        Some(url) if url.expose_secret().contains('@') => secret(values, "redis-url"),
        url => url,
    };
    let client = values.parse_with("redis-url", |_| {
        let url = url.as_ref().map_or("", |url| url.expose_secret());
        redis::Client::open(url).map_err(|_| "expected redis://host:6379/0 or unix:///path".to_owned())
    });
    let ttl_s = values.number("cache-ttl-s", 1..=2_592_000);
    let timeout = values.number("cache-timeout-ms", 10..=10_000).map(Duration::from_millis);
    Some(CacheSettings { client: client?, ttl_s: ttl_s?, timeout: timeout? })
}

fn telemetry(values: &mut Values) -> Option<TelemetrySettings> {
    let log_level = values.parse("log-level");
    let log_format = values.parse("log-format");
    let collector = values.collector("otlp-endpoint");
    Some(TelemetrySettings { log_level: log_level?, log_format: log_format?, collector: collector? })
}

/// A secret that must not stand on the command line.
fn secret(values: &mut Values, name: &'static str) -> Option<SecretString> {
    if values.from_flag(name) {
        let variable = format!("PACKAGE_BOT_{}", name.replace('-', "_").to_uppercase());
        values.mistake(format!(
            "--{name}: other users of the machine can read the command line: give it as {variable} or {variable}_FILE"
        ));
    }
    values.secret(name)
}

fn web_url(text: &str, example: &str) -> Result<String, String> {
    let is_one = |url: http::Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
    let good = text.parse().is_ok_and(is_one);
    good.then(|| text.to_owned()).ok_or_else(|| format!("expected a URL, such as {example}"))
}

#[cfg(test)]
mod tests;
