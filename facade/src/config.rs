//! What the program is set to do: every setting in one table, read and judged at once.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ArgMatches;
use settings::{MapSetting, Mistakes, Setting, Table, Values};

use crate::consumer::KafkaSettings;
use crate::show::Kind;
use crate::telemetry::TelemetrySettings;

/// The settings: flags, `PACKAGE_FACADE_*` variables, keys of the file, defaults and documentation.
pub const TABLE: Table = Table {
    env_prefix: "PACKAGE_FACADE",
    default_file: "package-facade.toml",
    settings: &SETTINGS,
    repeated: None,
    parts: None,
    maps: &[MapSetting {
        name: "kafka-property",
        section: "kafka.properties",
        from_env: true,
        of_tables: false,
        help: "Any property of librdkafka, such as `security.protocol`, except those that would break a promise.",
    }],
};

const SETTINGS: [Setting; 11] = [
    Setting::new("kafka-brokers", "HOST:PORT,…", "localhost:9092", "The brokers to ask first.")
        .or_env(&["KAFKA_BROKERS"]),
    Setting::new(
        "group",
        "NAME",
        "logistic-package-api",
        "The consumer group. Instances of one group share the partitions; a new group begins with the oldest record.",
    ),
    Setting::new(
        "package-events-topic",
        "TOPIC",
        "omp-package-events",
        "The topic of package events, protobuf. Empty on the command line or in the file: not read.",
    ),
    Setting::new(
        "commands-topic",
        "TOPIC",
        "omp-tgbot-commands",
        "The topic of the bot's commands, JSON. Empty: as above.",
    ),
    Setting::new(
        "cache-events-topic",
        "TOPIC",
        "omp-tgbot-cache-events",
        "The topic of what the bot does with its cache, JSON. Empty: as above.",
    ),
    Setting::optional(
        "other-topics",
        "TOPIC,…",
        "Further topics; a value is taken for what it looks like: JSON, a package event, a text, bytes.",
    ),
    Setting::new(
        "ready-lag-max",
        "N",
        "1000",
        "/ready says no while more records than this wait to be printed, 0 to 1000000000.",
    ),
    Setting::new(
        "http-addr",
        "IP:PORT",
        "0.0.0.0:9103",
        "Where /live, /ready and /metrics are served. Port 0 takes a free one.",
    ),
    Setting::new(
        "drain-timeout-ms",
        "MS",
        "10000",
        "How long a stop may take to finish the record in hand, commit and leave the group, 0 to 600000.",
    ),
    Setting::new(
        "log-level",
        "LEVEL",
        "info",
        "What is logged: off, error, warn, info, debug or trace. `off` hides records that cannot be read.",
    ),
    Setting::new("log-format", "FORMAT", "json", "How it is logged, on standard error: json or pretty."),
];

/// The settings, judged.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where records come from.
    pub kafka: KafkaSettings,
    /// The topics, and how the values of each are read.
    pub topics: Vec<(String, Kind)>,
    /// Records that may wait before `/ready` says no.
    pub ready_lag_max: u64,
    /// Where `/live`, `/ready` and `/metrics` are served.
    pub http_addr: SocketAddr,
    /// How long a stop may take.
    pub drain_timeout: Duration,
    /// The log.
    pub telemetry: TelemetrySettings,
    /// Every setting and where it comes from, for people; secrets are hidden.
    pub shown: String,
}

impl Settings {
    /// Reads them from the command line, the environment and the file.
    ///
    /// # Errors
    /// Every mistake, together.
    pub fn load(matches: &ArgMatches, env: &[(String, String)]) -> Result<Self, Mistakes> {
        let mut values = TABLE.load(matches, env);
        let settings = Self::read(&mut values);
        values.finish()?;
        // `read` gives nothing only where it has noted why.
        settings.ok_or_else(Mistakes::default)
    }

    /// Each setting is read before any is missed, so that all mistakes are noted.
    fn read(values: &mut Values) -> Option<Self> {
        let kafka = kafka(values);
        let topics = topics(values);
        let ready_lag_max = values.number("ready-lag-max", 0..=1_000_000_000);
        let http_addr = values.parse_with("http-addr", |text| {
            text.parse().map_err(|_| "expected IP:PORT, such as 0.0.0.0:9103".to_owned())
        });
        let drain_timeout = values.number("drain-timeout-ms", 0..=600_000).map(Duration::from_millis);
        let log_level = values.parse("log-level");
        let log_format = values.parse("log-format");
        Some(Self {
            kafka: kafka?,
            topics: topics?,
            ready_lag_max: ready_lag_max?,
            http_addr: http_addr?,
            drain_timeout: drain_timeout?,
            telemetry: TelemetrySettings { log_level: log_level?, log_format: log_format? },
            shown: values.shown(),
        })
    }
}

fn kafka(values: &mut Values) -> Option<KafkaSettings> {
    let brokers = values.parse_with("kafka-brokers", broker_list);
    let group = values.parse_with("group", |text| match text.trim() {
        "" => Err("expected a name: without one no offset is kept".to_owned()),
        name => Ok(name.to_owned()),
    });
    // Judged even where the others are wrong, so that all mistakes are noted.
    let properties = values.map("kafka-property");
    let kafka = KafkaSettings {
        brokers: brokers.clone().unwrap_or_default(),
        group: group.clone().unwrap_or_default(),
        properties,
    };
    for mistake in kafka.mistakes() {
        values.mistake(mistake);
    }
    (brokers.is_some() && group.is_some()).then_some(kafka)
}

fn broker_list(text: &str) -> Result<String, String> {
    let is_address = |address: &str| {
        let parts = address.trim().rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if text.split(',').all(is_address) {
        Ok(text.to_owned())
    } else {
        Err("expected HOST:PORT, or several with commas between".to_owned())
    }
}

fn topics(values: &mut Values) -> Option<Vec<(String, Kind)>> {
    let named = [
        ("package-events-topic", Kind::PackageEvent),
        ("commands-topic", Kind::Json),
        ("cache-events-topic", Kind::Json),
        ("other-topics", Kind::Guess),
    ];
    let mut topics: Vec<(String, Kind)> = Vec::new();
    let mut is_good = true;
    for (setting, kind) in named {
        let Some(text) = values.text(setting) else { continue };
        let names =
            if kind == Kind::Guess { text.split(',').map(str::trim).collect() } else { vec![text.trim()] };
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            is_good &= values.parse_with(setting, |_| topic_name(name)).is_some();
            if topics.iter().any(|(known, _)| known == name) {
                values.mistake(format!(
                    "{setting}: the topic `{name}` is named twice: each topic is read in one way"
                ));
            }
            topics.push((name.to_owned(), kind));
        }
    }
    if topics.is_empty() {
        values.mistake("there is no topic to read: give one of package-events-topic, commands-topic, cache-events-topic and other-topics");
    }
    is_good.then_some(topics)
}

/// Kafka's own rule (`Topic.validate` in its sources).
fn topic_name(text: &str) -> Result<(), String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.len() <= 249 && text.bytes().all(is_allowed) && text != "." && text != ".." {
        Ok(())
    } else {
        Err("expected 1 to 249 letters, digits, dots, underscores and hyphens".to_owned())
    }
}

#[cfg(test)]
mod tests;
