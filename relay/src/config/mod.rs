//! The settings: what may be given, and what it means.
//!
//! [`TABLE`] is the one place where a setting is defined; flags, variables, file keys and the documentation come from
//! it. [`Settings::read`] turns what was typed into what it means and reports every mistake in one go; [`Fleet::read`] does so for
//! each `[[source]]`.

mod database;
mod fleet;
mod kafka;
mod mapping;
mod registry;
mod shard;
mod table;
mod tail;
mod topics;

use std::net::SocketAddr;
use std::time::Duration;

use settings::{Collector, Mistakes, Values};

pub use database::DatabaseSettings;
pub use fleet::{Fleet, values_of};
pub use kafka::KafkaSettings;
pub(crate) use kafka::LATE_AFTER_MS_MAX;
pub use registry::{RegistrySettings, RegistryUrl, RegistryUser};
pub use table::TABLE;
pub use tail::TailSettings;
pub(crate) use tail::topic_list;
pub use topics::{MissingTopics, NewTopic, UnknownTopic};
use walpost_core::event::{OutboxMessages, OutboxTable};
use walpost_core::pgoutput::Oid;

/// What the settings mean.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name among several `[[source]]`; `None` where there are none.
    pub name: Option<String>,
    /// Where Postgres is.
    pub database: DatabaseSettings,
    /// The same, by the role that asks how things are.
    pub monitor_database: DatabaseSettings,
    /// Where Kafka is, and how records are sent.
    pub kafka: KafkaSettings,
    /// Where the schemas of values are, if they have any.
    pub registry: Option<RegistrySettings>,
    /// What is followed, and from where.
    pub source: SourceSettings,
    /// The preset that the settings began with.
    pub preset: Option<&'static str>,
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
    pub collector: Collector,
}

/// What is followed, and from where.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// The outboxes, in the order in which they were named; one of them may stand for many tables.
    pub tables: Vec<OutboxTable>,
    /// Logical messages that are events, by their prefixes.
    pub messages: Vec<OutboxMessages>,
    /// The slots of all shards, this one's among them; none where there are no shards.
    pub shards: Vec<String>,
}

/// One of the tables that are followed.
#[derive(Debug, Clone)]
pub struct TableSource {
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// The outbox.
    pub table: OutboxTable,
}

impl SourceSettings {
    /// One of the tables.
    #[must_use]
    pub fn of(&self, table: OutboxTable) -> TableSource {
        TableSource { slot: self.slot.clone(), publication: self.publication.clone(), table }
    }

    /// Their names, as people read them.
    #[must_use]
    pub fn shown_tables(&self) -> String {
        let messages =
            self.messages.iter().map(|messages| format!("messages `{}` (no second copy)", messages.prefix()));
        shown(self.tables.iter().map(OutboxTable::name).chain(messages))
    }

    /// Their topics, as people read them.
    #[must_use]
    pub fn shown_topics(&self) -> String {
        let messages = self.messages.iter().map(OutboxMessages::shown_topic);
        shown(self.tables.iter().map(OutboxTable::shown_topic).chain(messages))
    }

    /// Whether values have a schema that is yet to be asked for.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        let tables = self.tables.iter().map(|table| table.mapping.as_ref());
        let messages = self.messages.iter().map(OutboxMessages::mapping);
        tables.chain(messages).any(|mapping| mapping.wanted().is_some())
    }

    /// The prefixes of messages that are events.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        self.messages.iter().map(|messages| messages.prefix().to_owned()).collect()
    }
}

/// Each once.
fn shown(names: impl Iterator<Item = String>) -> String {
    let mut shown: Vec<String> = Vec::new();
    for name in names {
        if !shown.contains(&name) {
            shown.push(name);
        }
    }
    shown.join(", ")
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
        let preset = mapping::read_preset(&mut values);
        shard::check(&mut values);
        let timing = TimingSettings::read(&mut values);
        let peer_timeout = timing.map_or(Duration::ZERO, |timing| timing.peer_timeout);
        let database = DatabaseSettings::read(&mut values, env, peer_timeout);
        let database_name = database.as_ref().map_or("", |database| &database.conninfo.database).to_owned();
        let monitor_database = match values.text("monitor-database-url") {
            Some(_) => DatabaseSettings::read_monitor(&mut values, env, peer_timeout),
            None => database.clone(),
        };
        let kafka = KafkaSettings::read(&mut values, peer_timeout);
        let registry = RegistrySettings::read(&mut values);
        let source = SourceSettings::read(&mut values, preset.is_some(), &database_name);
        if let (Some(Some(_)), Some(false)) = (&registry, source.as_ref().map(SourceSettings::is_typed)) {
            values.mistake(
                "registry-url is set, and no outbox has framing = confluent: nothing would be asked there",
            );
        }
        let clean = CleanSettings::read(&mut values);
        let may_be_updated = |table: &OutboxTable| table.filter.is_some() && !table.append_only;
        let filters = source.as_ref().is_some_and(|source| source.tables.iter().any(may_be_updated));
        if filters && clean.is_some_and(|clean| clean.is_some()) {
            values.mistake(
                "clean does not go together with where or shard: a row that is updated into the condition was never published, and would \
                 be removed; where rows are never updated, say so by append_only",
            );
        }
        let has_table = source.as_ref().is_none_or(|source| !source.tables.is_empty());
        if !has_table && clean.is_some_and(|clean| clean.is_some()) {
            values.mistake("clean: messages are in no table, so there is nothing to remove");
        }
        let window = WindowSettings::read(&mut values);
        let http_addr = values.parse_with("http-addr", address);
        let exit_on_halt = values.flag("exit-on-halt");
        let log_level = values.parse_with("log-level", log_level);
        let log_json = values.parse_with("log-format", log_format);
        let collector = values.collector("otlp-endpoint");
        let read = || {
            Some(Self {
                name: None,
                database: database?,
                monitor_database: monitor_database?,
                kafka: kafka?,
                registry: registry?,
                source: source?,
                preset: preset.map(|preset| preset.name),
                clean: clean?,
                window: window?,
                timing: timing?,
                http_addr: http_addr?,
                exit_on_halt: exit_on_halt?,
                log_level: log_level?,
                log_json: log_json?,
                collector: collector?,
            })
        };
        let read = read();
        values.finish()?;
        read.ok_or_else(|| Mistakes(vec!["a setting is absent that has no default".into()]))
    }
}

impl SourceSettings {
    fn read(values: &mut Values, is_preset: bool, database: &str) -> Option<Self> {
        let (slot, publication) = (shard::slot(values), shard::publication(values));
        let shards = shard::slots(values);
        let entries = mapping::entries(values);
        let outboxes = match entries.is_empty() {
            true => {
                mapping::refuse_with_messages(values);
                vec![outbox(values, is_preset, database)]
            }
            false => entries
                .into_iter()
                .map(|(mut entry, is_preset)| {
                    let read = outbox(&mut entry, is_preset, database);
                    values.note(entry);
                    read
                })
                .collect(),
        };
        let (slot, publication) = (slot?, publication?);
        let outboxes = outboxes.into_iter().collect::<Option<Vec<_>>>()?;
        for (index, outbox) in outboxes.iter().enumerate() {
            if outboxes[..index].iter().any(|other| other.name() == outbox.name()) {
                values.mistake(format!("[[outbox]] {}: {} is named twice", index + 1, outbox.name()));
            }
        }
        let mut source =
            Self { slot: slot.clone(), publication, tables: Vec::new(), messages: Vec::new(), shards };
        for outbox in outboxes {
            match outbox {
                Outbox::Table(table) => source.tables.push(OutboxTable { slot: slot.clone(), ..table }),
                Outbox::Messages(messages) => source.messages.push(messages),
            }
        }
        Some(source)
    }
}

/// What one outbox is.
enum Outbox {
    Table(OutboxTable),
    Messages(OutboxMessages),
}

impl Outbox {
    fn name(&self) -> String {
        match self {
            Self::Table(table) => format!("the table {}", table.name()),
            Self::Messages(messages) => format!("the prefix `{}`", messages.prefix()),
        }
    }
}

/// One outbox.
fn outbox(values: &mut Values, is_preset: bool, database: &str) -> Option<Outbox> {
    match values.text("messages") {
        Some(_) => messages(values, is_preset, database).map(Outbox::Messages),
        None => table(values, is_preset).map(Outbox::Table),
    }
}

fn messages(values: &mut Values, is_preset: bool, database: &str) -> Option<OutboxMessages> {
    let prefix = values.parse_with("messages", |prefix| match prefix {
        "" => Err("expected the prefix that `pg_logical_emit_message` is called with".into()),
        _ => Ok(prefix.to_owned()),
    });
    if values.text("shard").is_some() {
        values.mistake("messages and shard do not go together: a publication filters rows, and every shard would have every message");
    }
    let mapping = mapping::read(values, is_preset);
    let messages = OutboxMessages::new(&prefix?, mapping?).of_database(database);
    // Of a table that is known only where it is.
    if let Err(mistakes) = messages.plan() {
        for mistake in mistakes {
            values.mistake(format!("messages `{}`: {mistake}", messages.prefix()));
        }
    }
    Some(messages)
}

fn table(values: &mut Values, is_preset: bool) -> Option<OutboxTable> {
    let table = values.parse_with("table", table_name);
    let predecessors = values.parse_with("table-was", oids);
    let order = match values.text("order") {
        Some(_) => values.parse_with("order", identifier).map(Some),
        None => Some(None),
    };
    let append_only = values.flag("append-only");
    let mapping = mapping::read(values, is_preset);
    let filter = shard::filter(values, mapping.as_ref());
    let (schema, table) = table?;
    if format!("{schema}.{table}").contains('*') && values.text("shard").is_some() {
        values.mistake(
            "a pattern and shard do not go together: a table that appears comes into each publication, whole",
        );
    }
    Some(OutboxTable {
        order: order?,
        predecessors: predecessors?,
        append_only: append_only?,
        filter,
        ..OutboxTable::new(&schema, &table, mapping?)
    })
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

fn oids(text: &str) -> Result<Vec<Oid>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parsed: Result<Vec<Oid>, _> = parts.map(str::parse).collect();
    parsed.map_err(|_| "expected object ids, as a halt names them, such as 16402 or 16402,16420".into())
}

fn size(values: &mut Values, name: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<usize> {
    values.number(name, bounds).and_then(|number| usize::try_from(number).ok())
}

fn millis(values: &mut Values, name: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<Duration> {
    values.number(name, bounds).map(Duration::from_millis)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an address and a port, as in [::]:9101 (IPv6 and IPv4) or 127.0.0.1:9101".into()
    })
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
