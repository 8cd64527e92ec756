//! All that there is to see at one moment, as JSON: the page shows it, `/status` serves it, `walpost status` prints it. A
//! field whose value is not known is null. Times are milliseconds since 1970-01-01 UTC.

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::kafka::tally::{Tally, TopicNumbers};
use crate::observe::board::View;
use crate::observe::metrics;
use crate::observe::sampler::Sample;
use crate::observe::state::LastError;
use crate::postgres::preflight::SlotFacts;
use walpost_core::lsn::Lsn;
use walpost_core::publish::counts::{Recent, Seen};

/// All that there is to see.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// The source's name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The version of walpost.
    pub version: String,
    /// The commit it was built from.
    pub revision: String,
    /// The moment.
    pub now_ms: i64,
    /// When the process began.
    pub started_ms: i64,
    /// What the relay is doing: a name of [`State`](crate::observe::state::State).
    pub state: String,
    /// Since when.
    pub since_ms: i64,
    /// Whether `/ready` answers 200.
    pub ready: bool,
    /// Why it does what it does, where there is something to say.
    pub reason: Option<String>,
    /// Who is away, while it tries again: `postgres`, `kafka`, `registry`, or `self`.
    pub peer: Option<String>,
    /// What the operator can do.
    pub remedy: Option<String>,
    /// What went wrong last; it stays when it is over.
    pub last_error: Option<LastError>,
    /// The first station.
    pub database: DatabaseFacts,
    /// The table.
    pub outbox: OutboxFacts,
    /// The second station.
    pub slot: SlotView,
    /// The third.
    pub window: WindowFacts,
    /// The relay's own numbers.
    pub relay: RelayFacts,
    /// The fourth.
    pub kafka: KafkaFacts,
    /// The latest acknowledged events, newest first.
    pub recent: Vec<EventFacts>,
    /// When Postgres was asked.
    pub sampled_ms: Option<i64>,
    /// How often it is asked; null when it is not.
    pub sample_interval_ms: Option<u64>,
}

/// The database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// `host:port/database as role`.
    pub place: String,
    /// The server's version.
    pub server_version: Option<String>,
    /// The end of the log.
    pub wal_end: Option<String>,
    /// Log written per second.
    pub wal_bytes_per_second: Option<f64>,
    /// Size of `pg_wal`; needs `pg_monitor`.
    pub wal_directory_bytes: Option<u64>,
}

/// The outbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboxFacts {
    /// `schema.table`.
    pub table: String,
    /// Rows, as the statistics of Postgres have it.
    pub rows: Option<u64>,
    /// When the row with the lowest number was written.
    pub oldest_row_ms: Option<i64>,
    /// Published rows that this process has removed.
    pub rows_removed: u64,
}

/// The slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SlotView {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub exists: Option<bool>,
    /// Whether a relay is connected.
    pub active: Option<bool>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// From where log is kept for it.
    pub restart_lsn: Option<String>,
    /// Up to where a relay has confirmed.
    pub confirmed_lsn: Option<String>,
    /// Log that is kept for it: what it costs on disk. A transaction that is open elsewhere keeps log, too.
    pub retained_wal_bytes: Option<u64>,
    /// Log that is written and not confirmed: how far the relay is behind.
    pub confirm_lag_bytes: Option<u64>,
    /// Log that may be written before the slot is in danger; absent without a limit.
    pub safe_wal_bytes: Option<i64>,
    /// The limit, `max_slot_wal_keep_size`.
    pub wal_keep_max_bytes: Option<u64>,
    /// When the room is used up, at the rate of the last minutes.
    pub exhausted_in_seconds: Option<f64>,
    /// Since when no relay is connected.
    pub inactive_since_ms: Option<i64>,
    /// Why it is lost.
    pub invalidation_reason: Option<String>,
    /// Whether it is copied to standbys.
    pub failover: Option<bool>,
    /// Whether it is such a copy.
    pub synced: Option<bool>,
}

/// The window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WindowFacts {
    /// Records in flight.
    pub records: u64,
    /// At most.
    pub records_max: u64,
    /// Bytes in flight.
    pub bytes: u64,
    /// At most.
    pub bytes_max: u64,
    /// Seconds since the commit of the oldest event that is not acknowledged.
    pub lag_seconds: f64,
}

/// The relay's own numbers, since the process began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayFacts {
    /// The end of what Postgres has sent.
    pub received_lsn: Option<String>,
    /// Before here Kafka has acknowledged everything.
    pub acknowledged_lsn: Option<String>,
    /// Confirmed to Postgres.
    pub confirmed_lsn: Option<String>,
    /// Events published.
    pub events_published: u64,
    /// In the last seconds.
    pub events_per_second: f64,
    /// In the last seconds.
    pub bytes_per_second: f64,
    /// Rows that went to the topic of dead letters.
    pub dead_letters: u64,
    /// Events sent again by Postgres and not published twice.
    pub repeats_avoided: u64,
    /// Records handed to a producer again.
    pub records_retried: u64,
    /// Sessions begun again.
    pub reconnects: u64,
    /// Halts for safety.
    pub halts: u64,
    /// Producers replaced.
    pub producer_restarts: u64,
    /// Half of the events of the last seconds were acknowledged within so many milliseconds of their commit.
    pub latency_p50_ms: Option<f64>,
    /// 99 of 100 of them.
    pub latency_p99_ms: Option<f64>,
}

/// Kafka.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KafkaFacts {
    /// The brokers that are asked first.
    pub brokers: String,
    /// The topic of events, as the settings have it.
    pub topic: String,
    /// Its partitions, where the settings name it.
    pub partitions: Option<u64>,
    /// With exactly-once delivery: the topic that holds the position.
    #[serde(default)]
    pub position_topic: Option<String>,
    /// Topics that records were written to: those that a record waits for, then those with the most records.
    pub topics: Vec<TopicFacts>,
    /// How many more there are.
    pub more_topics: u64,
    /// Records in the producer's queue.
    pub queue_messages: Option<u64>,
    /// Brokers that are connected, of those that are needed.
    pub brokers_up: Option<u64>,
    /// Those that are needed.
    pub brokers_known: Option<u64>,
    /// The slowest broker's round trips, milliseconds.
    pub rtt_p50_ms: Option<f64>,
    /// The same, for 99 of 100 requests.
    pub rtt_p99_ms: Option<f64>,
}

/// A topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// Its partitions, once they are known.
    pub partitions: Option<u64>,
    /// Records that Kafka has stored since the process began, repeats among them.
    pub records: u64,
    /// When the last one was stored.
    pub stored_ms: Option<i64>,
    /// Whether it is not there and a record waits for it.
    pub awaited: bool,
}

impl TopicFacts {
    fn of(topic: &TopicNumbers) -> Self {
        Self {
            name: topic.name.clone(),
            partitions: Some(topic.partitions as u64).filter(|partitions| *partitions > 0),
            records: topic.stored,
            stored_ms: Some(topic.stored_ms).filter(|at| *at > 0),
            awaited: topic.is_awaited,
        }
    }
}

/// So many topics are shown: a person reads no more.
const TOPICS_SHOWN: usize = 8;

/// An event: which it was, never what was in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventFacts {
    /// The record's key, where it has one.
    pub key: Option<String>,
    /// What happened, where the rows say it.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The event's id, where the rows have one.
    pub event_id: Option<String>,
    /// Its position in the log.
    pub lsn: String,
    /// Its ordinal in the transaction.
    pub seq: u64,
    /// When its transaction committed.
    pub committed_ms: i64,
    /// From the commit to the acknowledgement.
    pub latency_ms: f64,
}

/// How fast things change now.
#[derive(Debug, Default, Clone)]
pub struct Rates {
    /// Events published per second.
    pub events_per_second: f64,
    /// Bytes of their rows per second.
    pub bytes_per_second: f64,
    /// From commit to acknowledgement, of half of them.
    pub latency_p50_ms: Option<f64>,
    /// Of 99 of 100.
    pub latency_p99_ms: Option<f64>,
    /// Log written per second.
    pub wal_bytes_per_second: Option<f64>,
    /// Until the slot is in danger, when it goes on so.
    pub exhausted_in_seconds: Option<f64>,
}

/// What does not change: where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    source: Option<String>,
    database: String,
    table: String,
    slot: String,
    brokers: String,
    position_topic: Option<String>,
    topic: String,
    sample_interval_ms: Option<u64>,
}

impl Places {
    /// As the settings have it.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            source: settings.name.clone(),
            database: settings.database.to_string(),
            table: settings.source.shown_tables(),
            slot: settings.source.slot.clone(),
            brokers: settings.kafka.brokers.clone(),
            position_topic: settings.kafka.position_topic.clone(),
            topic: settings.source.shown_topics(),
            sample_interval_ms: settings
                .timing
                .sampling()
                .map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The source's name, where it has one.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The database, as it was found.
    #[must_use]
    pub fn database(&self, sample: Option<&Sample>, rates: &Rates) -> DatabaseFacts {
        DatabaseFacts {
            place: self.database.clone(),
            server_version: sample.map(|sample| sample.server_version.clone()),
            wal_end: sample.map(|sample| sample.wal_end.to_string()),
            wal_bytes_per_second: rates.wal_bytes_per_second,
            wal_directory_bytes: sample.and_then(|sample| sample.wal_directory_bytes),
        }
    }

    /// The outbox, as it was found.
    #[must_use]
    pub fn outbox(&self, sample: Option<&Sample>, rows_removed: u64) -> OutboxFacts {
        let outbox = sample.map(|sample| &sample.outbox);
        OutboxFacts {
            table: self.table.clone(),
            rows: outbox.and_then(|outbox| outbox.rows),
            oldest_row_ms: outbox.and_then(|outbox| outbox.oldest_row_ms),
            rows_removed,
        }
    }

    /// The slot, as it was found.
    #[must_use]
    pub fn slot(&self, sample: Option<&Sample>, rates: &Rates) -> SlotView {
        let slot = sample.and_then(|sample| sample.slot.as_ref());
        let text = |of: fn(&SlotFacts) -> &Option<String>| slot.and_then(|slot| of(slot).clone());
        SlotView {
            name: self.slot.clone(),
            exists: sample.map(|sample| sample.slot.is_some()),
            active: slot.map(|slot| slot.active),
            wal_status: text(|slot| &slot.wal_status),
            restart_lsn: text(|slot| &slot.restart_lsn),
            confirmed_lsn: text(|slot| &slot.confirmed_flush_lsn),
            retained_wal_bytes: sample.and_then(Sample::retained_wal_bytes),
            confirm_lag_bytes: sample.and_then(Sample::confirm_lag_bytes),
            safe_wal_bytes: slot.and_then(|slot| slot.safe_wal_size),
            wal_keep_max_bytes: sample.and_then(|sample| sample.wal_keep_max_bytes),
            exhausted_in_seconds: rates.exhausted_in_seconds,
            inactive_since_ms: slot.and_then(SlotFacts::inactive_since_ms),
            invalidation_reason: text(|slot| &slot.invalidation_reason),
            failover: slot.and_then(|slot| slot.failover),
            synced: slot.and_then(|slot| slot.synced),
        }
    }

    fn kafka(&self, view: &View) -> KafkaFacts {
        let kafka = view.kafka.as_ref();
        let brokers = || kafka.into_iter().flat_map(|kafka| &kafka.brokers);
        let count =
            |up: fn(bool) -> bool| brokers().filter(|broker| broker.up.is_some_and(up)).count() as u64;
        let slowest = |rtt: Option<f64>| rtt.map(|seconds| seconds * 1e3);
        KafkaFacts {
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            partitions: view.partitions,
            position_topic: self.position_topic.clone(),
            more_topics: (view.topics.topics.len().saturating_sub(TOPICS_SHOWN) + view.topics.others) as u64,
            topics: topics(&view.topics),
            queue_messages: kafka.map(|kafka| kafka.queue_messages),
            brokers_up: kafka.map(|_| count(|up| up)),
            brokers_known: kafka.map(|_| count(|_| true)),
            rtt_p50_ms: slowest(brokers().filter_map(|broker| broker.rtt_p50).reduce(f64::max)),
            rtt_p99_ms: slowest(brokers().filter_map(|broker| broker.rtt_p99).reduce(f64::max)),
        }
    }
}

impl Snapshot {
    /// What is to be seen of the relay.
    #[must_use]
    pub fn of(view: &View, recent: &Recent, places: &Places, rates: &Rates) -> Self {
        let (state, sample) = (&view.doing.state, view.sample.as_ref());
        Self {
            source: places.source.clone(),
            version: metrics::VERSION.to_owned(),
            revision: metrics::REVISION.to_owned(),
            now_ms: view.now_ms,
            started_ms: view.started_ms,
            state: state.name().to_owned(),
            since_ms: view.doing.since_ms,
            ready: state.is_ready(),
            reason: state.reason().map(str::to_owned),
            peer: state.peer().map(|peer| peer.name().to_owned()),
            remedy: state.remedy().map(str::to_owned),
            last_error: view.doing.last_error.clone(),
            database: places.database(sample, rates),
            outbox: places.outbox(sample, view.rows_removed),
            slot: places.slot(sample, rates),
            window: window(view),
            relay: relay(view, rates),
            kafka: places.kafka(view),
            recent: recent.newest_first().map(event).collect(),
            sampled_ms: sample.map(|sample| sample.at_ms),
            sample_interval_ms: places.sample_interval_ms,
        }
    }
}

fn topics(tally: &Tally) -> Vec<TopicFacts> {
    let mut topics: Vec<_> = tally.topics.iter().collect();
    topics.sort_by_key(|topic| (!topic.is_awaited, std::cmp::Reverse(topic.stored)));
    topics.into_iter().take(TOPICS_SHOWN).map(TopicFacts::of).collect()
}

fn window(view: &View) -> WindowFacts {
    WindowFacts {
        records: view.numbers.window_records,
        records_max: view.window.records as u64,
        bytes: view.numbers.window_bytes,
        bytes_max: view.window.bytes as u64,
        lag_seconds: view.lag_seconds,
    }
}

fn relay(view: &View, rates: &Rates) -> RelayFacts {
    let counts = &view.numbers.counts;
    let position = |lsn: Lsn| (lsn > Lsn::ZERO).then(|| lsn.to_string());
    RelayFacts {
        received_lsn: position(view.numbers.received),
        acknowledged_lsn: position(view.numbers.acknowledged),
        confirmed_lsn: position(view.confirmed),
        events_published: counts.published,
        events_per_second: rates.events_per_second,
        bytes_per_second: rates.bytes_per_second,
        dead_letters: counts.dead_letters,
        repeats_avoided: counts.repeated,
        records_retried: counts.retried,
        reconnects: view.reconnects.iter().sum(),
        halts: view.halts,
        producer_restarts: counts.restarts,
        latency_p50_ms: rates.latency_p50_ms,
        latency_p99_ms: rates.latency_p99_ms,
    }
}

#[allow(clippy::cast_precision_loss)]
fn event(seen: &Seen) -> EventFacts {
    EventFacts {
        key: seen.key(),
        kind: seen.kind(),
        event_id: seen.id(),
        lsn: seen.lsn.to_string(),
        seq: seen.ordinal,
        committed_ms: seen.committed_at / 1_000,
        latency_ms: (seen.acknowledged_at - seen.committed_at).max(0) as f64 / 1e3,
    }
}
