//! The settings: what may be given, and what it means.
//!
//! [`TABLE`] is the one place where a setting is defined; flags, variables, file keys and the documentation come from
//! it. [`Settings::read`] turns what was typed into what it means and reports every mistake in one go.

mod database;
mod kafka;
mod tail;

use std::net::SocketAddr;
use std::time::Duration;

use settings::{MapSetting, Mistakes, Setting, Table, Values};

use crate::encode::{EncoderSettings, Format};
use crate::outbox::{OutboxTable, Role};
pub use database::{DatabaseSettings, SslMode};
pub use kafka::KafkaSettings;
pub use tail::TailSettings;

/// Every setting of walpost.
pub const TABLE: Table = Table {
    env_prefix: "WALPOST",
    default_file: "walpost.toml",
    settings: &[
        Setting::optional(
            "database-url",
            "URL",
            "The database with the outbox, \
            `postgres://user@host:5432/db?sslmode=verify-full` or `host=… user=…`; PGHOST, PGPORT, PGUSER, \
            PGPASSWORD, PGDATABASE, PGSSLMODE and PGSSLROOTCERT fill what is \
            absent.",
        )
        .secret()
        .or_env(&["DATABASE_URL"]),
        Setting::optional(
            "monitor-database-url",
            "URL",
            "The same database by a role with `pg_monitor`, to ask how slot, log and outbox are; absent: \
            --database-url, whose role may not see the size of pg_wal.",
        )
        .secret(),
        Setting::new("kafka-brokers", "HOST:PORT,…", "localhost:9092", "The brokers to ask first.")
            .or_env(&["KAFKA_BROKERS"]),
        Setting::new(
            "topic",
            "NAME",
            "omp-package-events",
            "The topic events are published to; it must exist.",
        ),
        Setting::new("slot", "NAME", "package_event_relay", "The replication slot, made by `walpost init`."),
        Setting::new(
            "publication",
            "NAME",
            "package_event_pub",
            "The publication that holds the outbox \
            table, insert only.",
        ),
        Setting::new(
            "http-addr",
            "HOST:PORT",
            "0.0.0.0:9101",
            "Where the page (/), /live, /ready, /status and /metrics are served.",
        ),
        Setting::new("table", "SCHEMA.TABLE", "public.package_event", "The outbox table."),
        Setting::new(
            "column-id",
            "COLUMN",
            "package_event_id",
            "The row's number; rows from before the slot \
            are published in its order.",
        ),
        Setting::new(
            "column-key",
            "COLUMN",
            "package_id",
            "What the event is about: the record's key and \
            `ce_subject`.",
        ),
        Setting::new(
            "column-type",
            "COLUMN",
            "event_type",
            "What happened: the end of `ce_type`, in lower \
            case.",
        ),
        Setting::new("column-payload", "COLUMN", "payload", "The event's content."),
        Setting::new("column-created-at", "COLUMN", "created_at", "When the row was written: `ce_time`."),
        Setting::new("column-event-id", "COLUMN", "event_id", "The UUID to deduplicate by: `ce_id`."),
        Setting::new(
            "column-traceparent",
            "COLUMN",
            "traceparent",
            "The W3C trace context; empty, by flag or file: the table \
            has none. An empty variable counts as absent.",
        ),
        Setting::new(
            "format",
            "FORMAT",
            "package-event",
            "The value's format: `package-event`, the protobuf \
            message hablof.proto.v1.PackageEvent.",
        ),
        Setting::new("ce-source", "URI", "/logistic-package-api", "The header `ce_source`."),
        Setting::new(
            "ce-type-prefix",
            "TEXT",
            "hablof.logistic_package_api.package.",
            "What stands before \
            the event's type in the header `ce_type`.",
        ),
        Setting::new(
            "poison",
            "POLICY",
            "halt",
            "What becomes of a row that cannot be published (it does not decode, does not fit the format, or \
            Kafka refuses it): `halt`, or `dead-letter`, to --dead-letter-topic, and the rows behind it go on.",
        ),
        Setting::optional(
            "dead-letter-topic",
            "NAME",
            "The topic for rows that cannot be published; it must exist. Give it a larger max.message.bytes.",
        ),
        Setting::new(
            "window-records",
            "N",
            "20000",
            "Records in flight at most, 1 to 1000000; when so many \
            await Kafka's acknowledgement, nothing more is read. A transaction of up to 1000 rows is taken \
            whole.",
        ),
        Setting::new(
            "window-bytes",
            "BYTES",
            "67108864",
            "Bytes of rows in flight at most, 65536 to \
            4294967296.",
        ),
        Setting::new(
            "confirm-interval-ms",
            "MS",
            "500",
            "At most this often is a position remembered and \
            then confirmed to Postgres, 10 to 60000.",
        ),
        Setting::new(
            "watch-interval-ms",
            "MS",
            "10000",
            "How often publication, table and slot are looked at \
            while streaming, 100 to 3600000.",
        ),
        Setting::new(
            "sample-interval-ms",
            "MS",
            "5000",
            "How often Postgres is asked how slot, log and outbox are, for the page and the metrics, at most 3600000; 0: \
            never.",
        ),
        Setting::new(
            "stall-timeout-ms",
            "MS",
            "60000",
            "How long nothing may be acknowledged, while events or log wait, until the relay counts as stalled and is \
            not ready, 1000 to 3600000. Keep it above half of --peer-timeout-ms, after which a busy Postgres is asked \
            whether it goes on.",
        ),
        Setting::new(
            "connect-timeout-ms",
            "MS",
            "10000",
            "How long a connection to Postgres or a question to \
            Kafka may take, 100 to 600000.",
        ),
        Setting::new(
            "peer-timeout-ms",
            "MS",
            "30000",
            "How long Postgres or a broker may be silent until it counts as gone, and the relay as gone to \
            Postgres (`wal_sender_timeout` of its connection), 1000 to 300000. A standby takes over from a \
            relay whose machine is gone after this time.",
        ),
        Setting::new(
            "slot-timeout-ms",
            "MS",
            "60000",
            "How long `init` waits for the slot while older \
            transactions are open, 100 to 3600000.",
        ),
        Setting::new(
            "clean",
            "RULE",
            "off",
            "Whether published rows are removed from the outbox: `off`, by `age` or by `count`. A row that is \
            not known to be in Kafka is never removed.",
        ),
        Setting::new(
            "clean-age-s",
            "SECONDS",
            "86400",
            "By age: rows stay so long after they were written, 0 to 31536000.",
        ),
        Setting::new(
            "clean-keep-rows",
            "N",
            "100000",
            "By count: so many of the newest rows stay, 0 to 1000000.",
        ),
        Setting::new(
            "clean-batch-rows",
            "N",
            "1000",
            "Rows removed in one transaction at most, 1 to 10000; after each the cleaner rests as long as it \
            took.",
        ),
        Setting::new(
            "clean-interval-ms",
            "MS",
            "10000",
            "How often the outbox is looked through for rows to remove, 100 to 3600000.",
        ),
        Setting::new(
            "tail-topics",
            "NAME,…",
            "omp-tgbot-commands,omp-tgbot-cache-events",
            "The topics that `walpost tail` shows beside --topic. One that does not exist is left out; `--tail-topics=`: none.",
        ),
        Setting::new("retry-max-ms", "MS", "5000", "The longest wait between two tries, 100 to 600000."),
        Setting::new(
            "drain-timeout-ms",
            "MS",
            "10000",
            "How long a stop waits for Kafka's acknowledgements, \
            0 to 600000.",
        ),
        Setting::switch("exit-on-halt", "Exit with code 3 on a halt instead of staying up to say why."),
        Setting::new(
            "log-level",
            "LEVEL",
            "info",
            "error, warn, info, debug, trace, or a filter such as \
            `info,walpost=debug`.",
        ),
        Setting::new("log-format", "FORMAT", "text", "`text` for people, `json` for collectors."),
        Setting::optional(
            "otlp-endpoint",
            "URL",
            "Where spans go, OTLP over gRPC: `http://localhost:4317`; nowhere when absent. Each record whose row has a \
            sampled `traceparent` has one, from its hand-over to its acknowledgement.",
        )
        .or_env(&["OTEL_EXPORTER_OTLP_ENDPOINT"]),
    ],
    maps: &[MapSetting {
        name: "kafka-property",
        section: "kafka.properties",
        help: "Any property of librdkafka, except those that would break a promise.",
    }],
};

/// What the settings mean.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Postgres is.
    pub database: DatabaseSettings,
    /// The same, by the role that asks how things are.
    pub monitor_database: DatabaseSettings,
    /// Where Kafka is, and how records are sent.
    pub kafka: KafkaSettings,
    /// What is followed, and from where.
    pub source: SourceSettings,
    /// How a record is made of an event.
    pub encoder: EncoderSettings,
    /// When published rows are removed.
    pub clean: Option<CleanSettings>,
    /// Bounds of what is in flight.
    pub window: WindowSettings,
    /// Intervals and deadlines.
    pub timing: TimingSettings,
    /// Where the status is served.
    pub http_addr: SocketAddr,
    /// Exit on a halt.
    pub exit_on_halt: bool,
    /// A filter of tracing-subscriber.
    pub log_level: String,
    /// JSON lines instead of text.
    pub log_json: bool,
    /// Where spans go, if anywhere.
    pub otlp_endpoint: Option<String>,
}

/// What is followed, and from where.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// The outbox.
    pub table: OutboxTable,
}

/// When published rows are removed from the outbox, and how.
#[derive(Debug, Clone, Copy)]
pub struct CleanSettings {
    /// Which of them.
    pub rule: CleanRule,
    /// In one transaction.
    pub batch_rows: i64,
    /// Between two looks.
    pub interval: Duration,
}

/// Which published rows are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanRule {
    /// Those written so many seconds ago.
    OlderThan(u32),
    /// Those that so many newer rows follow.
    AllButNewest(u32),
}

/// Bounds of what is in flight.
#[derive(Debug, Clone, Copy)]
pub struct WindowSettings {
    /// Records.
    pub records: usize,
    /// Bytes of their rows.
    pub bytes: usize,
}

/// Intervals and deadlines.
#[derive(Debug, Clone, Copy)]
pub struct TimingSettings {
    /// Between two confirms.
    pub confirm_interval: Duration,
    /// Between two looks at publication, table and slot.
    pub watch_interval: Duration,
    /// Between two questions how slot, log and outbox are; zero: none are asked.
    pub sample_interval: Duration,
    /// Without an acknowledgement, until the relay counts as stalled.
    pub stall_timeout: Duration,
    /// For a connection, and for a question to Kafka.
    pub connect_timeout: Duration,
    /// Of silence, until a peer counts as gone.
    pub peer_timeout: Duration,
    /// For the making of a slot.
    pub slot_timeout: Duration,
    /// Between two tries, at most.
    pub retry_max: Duration,
    /// For acknowledgements when stopping.
    pub drain_timeout: Duration,
}

impl Settings {
    /// Turns what was typed into what it means. `env` serves the libpq variables.
    ///
    /// # Errors
    /// Every mistake, together.
    pub fn read(mut values: Values, env: &[(String, String)]) -> Result<Self, Mistakes> {
        let timing = TimingSettings::read(&mut values);
        let peer_timeout = timing.map_or(Duration::ZERO, |timing| timing.peer_timeout);
        let database = DatabaseSettings::read(&mut values, env, peer_timeout);
        let monitor_database = match values.text("monitor-database-url") {
            Some(_) => DatabaseSettings::read_monitor(&mut values, env, peer_timeout),
            None => database.clone(),
        };
        let kafka = KafkaSettings::read(&mut values, peer_timeout);
        let source = SourceSettings::read(&mut values);
        let encoder = read_encoder(&mut values);
        let clean = CleanSettings::read(&mut values);
        let window = WindowSettings::read(&mut values);
        let http_addr = values.parse_with("http-addr", address);
        let exit_on_halt = values.flag("exit-on-halt");
        let log_level = values.parse_with("log-level", log_level);
        let log_json = values.parse_with("log-format", log_format);
        let otlp_endpoint = match values.text("otlp-endpoint") {
            Some(_) => values.parse_with("otlp-endpoint", endpoint).map(Some),
            None => Some(None),
        };
        let read = || {
            Some(Self {
                database: database?,
                monitor_database: monitor_database?,
                kafka: kafka?,
                source: source?,
                encoder: encoder?,
                clean: clean?,
                window: window?,
                timing: timing?,
                http_addr: http_addr?,
                exit_on_halt: exit_on_halt?,
                log_level: log_level?,
                log_json: log_json?,
                otlp_endpoint: otlp_endpoint?,
            })
        };
        let read = read();
        values.finish()?;
        read.ok_or_else(|| Mistakes(vec!["a setting is absent that has no default".into()]))
    }
}

impl SourceSettings {
    fn read(values: &mut Values) -> Option<Self> {
        let slot = values.parse_with("slot", slot_name);
        let publication = values.parse_with("publication", identifier);
        let table = values.parse_with("table", table_name);
        let columns: Vec<_> = Role::ALL.into_iter().filter_map(|role| column(values, role)).collect();
        let (schema, table) = table?;
        Some(Self { slot: slot?, publication: publication?, table: OutboxTable { schema, table, columns } })
    }
}

impl CleanSettings {
    fn read(values: &mut Values) -> Option<Option<Self>> {
        let rule = values.parse_with("clean", |text| match text {
            "off" | "age" | "count" => Ok(text.to_owned()),
            _ => Err("expected off, age or count".into()),
        });
        let age = values.number("clean-age-s", 0..=31_536_000).and_then(|age| u32::try_from(age).ok());
        let rows = values.number("clean-keep-rows", 0..=1_000_000).and_then(|rows| u32::try_from(rows).ok());
        let batch = values.number("clean-batch-rows", 1..=10_000).and_then(|rows| i64::try_from(rows).ok());
        let interval = millis(values, "clean-interval-ms", 100..=3_600_000);
        let (age, rows, batch_rows, interval) = (age?, rows?, batch?, interval?);
        let rule = match rule?.as_str() {
            "age" => CleanRule::OlderThan(age),
            "count" => CleanRule::AllButNewest(rows),
            _ => return Some(None),
        };
        Some(Some(Self { rule, batch_rows, interval }))
    }
}

impl WindowSettings {
    fn read(values: &mut Values) -> Option<Self> {
        let records = size(values, "window-records", 1..=1_000_000);
        let bytes = size(values, "window-bytes", 65_536..=4_294_967_296);
        Some(Self { records: records?, bytes: bytes? })
    }
}

impl TimingSettings {
    /// Between two questions how slot, log and outbox are, where any are asked.
    #[must_use]
    pub fn sampling(&self) -> Option<Duration> {
        (!self.sample_interval.is_zero()).then_some(self.sample_interval)
    }

    fn read(values: &mut Values) -> Option<Self> {
        let confirm_interval = millis(values, "confirm-interval-ms", 10..=60_000);
        let watch_interval = millis(values, "watch-interval-ms", 100..=3_600_000);
        let sample_interval = millis(values, "sample-interval-ms", 0..=3_600_000);
        let stall_timeout = millis(values, "stall-timeout-ms", 1_000..=3_600_000);
        let connect_timeout = millis(values, "connect-timeout-ms", 100..=600_000);
        let peer_timeout = millis(values, "peer-timeout-ms", 1_000..=300_000);
        let slot_timeout = millis(values, "slot-timeout-ms", 100..=3_600_000);
        let retry_max = millis(values, "retry-max-ms", 100..=600_000);
        let drain_timeout = millis(values, "drain-timeout-ms", 0..=600_000);
        Some(Self {
            confirm_interval: confirm_interval?,
            watch_interval: watch_interval?,
            sample_interval: sample_interval?,
            stall_timeout: stall_timeout?,
            connect_timeout: connect_timeout?,
            peer_timeout: peer_timeout?,
            slot_timeout: slot_timeout?,
            retry_max: retry_max?,
            drain_timeout: drain_timeout?,
        })
    }
}

fn read_encoder(values: &mut Values) -> Option<EncoderSettings> {
    let format = values.parse_with("format", |text| match text {
        "package-event" => Ok(Format::PackageEvent),
        _ => Err("expected package-event".into()),
    });
    let source = values.parse_with("ce-source", not_empty);
    let type_prefix = values.parse::<String>("ce-type-prefix");
    Some(EncoderSettings { format: format?, source: source?, type_prefix: type_prefix? })
}

fn column(values: &mut Values, role: Role) -> Option<(Role, String)> {
    let setting = format!("column-{}", role.name());
    let name = values.parse_with(&setting, |text| {
        if role == Role::Traceparent && text.is_empty() { Ok(String::new()) } else { identifier(text) }
    })?;
    (!name.is_empty()).then_some((role, name))
}

fn size(values: &mut Values, name: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<usize> {
    values.number(name, bounds).and_then(|number| usize::try_from(number).ok())
}

fn millis(values: &mut Values, name: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<Duration> {
    values.number(name, bounds).map(Duration::from_millis)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an address and a port, as in 0.0.0.0:9101 or [::]:9101".into())
}

fn log_level(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("not a log filter: {error}")),
    }
}

fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err("expected text or json".into()),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let host =
        text.strip_prefix("http://").filter(|host| !host.is_empty() && !host.contains(char::is_whitespace));
    host.map(|_| text.to_owned()).ok_or_else(|| "expected a URL such as http://localhost:4317".into())
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected a text that is not empty".into()) } else { Ok(text.to_owned()) }
}

/// Replication commands take no bind parameters, so a slot's name is held to what Postgres allows in one
/// (PostgreSQL, "Replication Slots"): it then needs no quoting.
fn slot_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 63 lower-case letters, digits and underscores".into())
    }
}

/// A name in the catalogue, without its quotes, in the case in which it is stored.
fn identifier(text: &str) -> Result<String, String> {
    if (1..=63).contains(&text.len()) && !text.contains(['\0', '"', '\'']) {
        Ok(text.to_owned())
    } else {
        Err("expected a name of 1 to 63 bytes, without quotes".into())
    }
}

fn table_name(text: &str) -> Result<(String, String), String> {
    let (schema, table) = text.split_once('.').unwrap_or(("public", text));
    Ok((identifier(schema)?, identifier(table)?))
}

#[cfg(test)]
mod tests;
