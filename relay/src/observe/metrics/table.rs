//! Every metric of the relay, in one table: what is served and what is documented both come from it.

use super::series::{Samples, each, flag, latency, many, number, one, some};
use crate::observe::board::View;
use crate::observe::sampler::Sample;
use crate::observe::state::{Peer, State};
use crate::postgres::preflight::SlotFacts;
use walpost_core::event::presets;
use walpost_core::publish::counts::Counts;

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only, but for a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by buckets.
    Histogram,
}

/// A metric.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The names of its labels. Each has a bounded number of values.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    /// Its values now; none when they are not known.
    pub(super) read: fn(&View) -> Samples,
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&View) -> Samples) -> Metric {
    Metric { name, kind: Kind::Gauge, labels: &[], help, read }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&View) -> Samples) -> Metric {
    Metric { name, kind: Kind::Counter, labels: &[], help, read }
}

impl Metric {
    const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }
}

/// `wal_status` of `pg_replication_slots`.
const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// `invalidation_reason` of `pg_replication_slots`; what a later version adds is `other`.
const INVALIDATIONS: [&str; 5] =
    ["wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout", "other"];

/// Every metric, but for those of the process.
pub const TABLE: &[Metric] = &[
    gauge("walpost_unconfirmed_events", "Events read and not yet confirmed to Postgres.", |view| {
        one(number(view.numbers.unconfirmed))
    }),
    gauge(
        presets::PACKAGE_GAUGE,
        "The same under the name that the package API's dashboards know; with `preset = \"package-event\"` only.",
        |view| if view.preset == Some(presets::PACKAGE) { one(number(view.numbers.unconfirmed)) } else { Vec::new() },
    ),
    gauge("walpost_build_info", "1, with the version and the commit it was built from.", |_| {
        vec![(vec![super::VERSION.into(), super::REVISION.into()], 1.0.into())]
    })
    .by(&["version", "revision"]),
    gauge("walpost_state", "1 for what the relay is doing, 0 for the others.", |view| {
        let name = view.doing.state.name();
        each(&State::NAMES, |state| flag(state == name))
    })
    .by(&["state"]),
    gauge(
        "walpost_ready",
        "1 when `/ready` answers 200: events flow. A relay that stands by for another is not ready, which is its job.",
        |view| one(flag(view.doing.state.is_ready())),
    ),
    gauge(
        "walpost_lag_seconds",
        "Seconds since the commit of the oldest event that is not acknowledged; 0 when there is none, or in standby. \
            While nothing can be read and nothing is in flight: since the relay last got on or had nothing to do, which is \
            the most that an event can have waited.",
        |view| one(view.lag_seconds),
    ),
    gauge(
        "walpost_received_lsn_bytes",
        "End of what Postgres has sent on this connection, as a number.",
        |view| some(position(view.numbers.received.0)),
    ),
    gauge("walpost_acknowledged_lsn_bytes", "Position before which Kafka has acknowledged everything.", |view| {
        some(position(view.numbers.acknowledged.0))
    }),
    gauge("walpost_confirmed_lsn_bytes", "Position confirmed to Postgres.", |view| {
        some(position(view.confirmed.0))
    }),
    counter(
        "walpost_events_total",
        "Events read, by what became of them: `published`; `dead_letter`, for the topic of dead letters; \
            `repeat_avoided`, sent again by Postgres after a reconnect and not published twice.",
        |view| outcomes(&view.numbers.counts, |counts| [counts.published, counts.dead_letters, counts.repeated]),
    )
    .by(&["outcome"]),
    counter("walpost_event_bytes_total", "Bytes of their rows.", |view| {
        outcomes(&view.numbers.counts, |counts| {
            [counts.published_bytes, counts.dead_letter_bytes, counts.repeated_bytes]
        })
    })
    .by(&["outcome"]),
    Metric {
        name: "walpost_commit_to_acknowledge_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "From the commit in Postgres to Kafka's acknowledgement; rows that stood in the table before the slot are \
            not in it. By the clocks of two machines.",
        read: |view| latency(&view.numbers.counts.latency),
    },
    gauge("walpost_window_records", "Records in flight.", |view| one(number(view.numbers.window_records))),
    gauge("walpost_window_records_max", "Records in flight at most: --window-records.", |view| {
        one(number(view.window.records as u64))
    }),
    gauge("walpost_window_bytes", "Bytes in flight.", |view| one(number(view.numbers.window_bytes))),
    gauge("walpost_window_bytes_max", "Bytes in flight at most: --window-bytes.", |view| {
        one(number(view.window.bytes as u64))
    }),
    counter(
        "walpost_reconnects_total",
        "Sessions that ended with an error and were begun again, by whose fault it was: `postgres`, `kafka`, `registry`, or `self`, \
            a relay that stood still or lost the slot to another.",
        |view| each(&Peer::ALL.map(Peer::name), |name| {
            let peer = Peer::ALL.into_iter().find(|peer| peer.name() == name);
            number(peer.map_or(0, |peer| view.reconnects[peer as usize]))
        }),
    )
    .by(&["peer"]),
    counter("walpost_halts_total", "Halts for safety.", |view| one(number(view.halts))),
    counter("walpost_records_retried_total", "Records handed to a producer again after it was replaced.", |view| {
        one(number(view.numbers.counts.retried))
    }),
    counter("walpost_producer_restarts_total", "Kafka producers replaced.", |view| {
        one(number(view.numbers.counts.restarts))
    }),
    counter("walpost_outbox_rows_removed_total", "Published rows removed from the outbox.", |view| {
        one(number(view.rows_removed))
    }),
    gauge(
        "walpost_outbox_rows_overdue",
        "Rows past the retention that stay, since nothing proves that they are in Kafka; of the last look of --clean.",
        |view| one(number(view.rows_overdue)),
    ),
    gauge(
        "walpost_sample_timestamp_seconds",
        "When Postgres was last asked what follows, seconds since 1970-01-01 UTC. All of it is absent when the answer is \
            too old.",
        |view| of_sample(view, |sample| Some(seconds(sample.at_ms))),
    ),
    counter("walpost_sample_errors_total", "Times that Postgres was asked in vain.", |view| {
        one(number(view.sample_errors))
    }),
    gauge("walpost_wal_end_lsn_bytes", "Current end of the WAL as a number of bytes: its rate is the WAL written per second.", |view| {
        of_sample(view, |sample| Some(number(sample.wal_end.0)))
    }),
    gauge("walpost_wal_directory_bytes", "Size of pg_wal. Needs pg_monitor.", |view| {
        of_sample(view, |sample| sample.wal_directory_bytes.map(number))
    }),
    gauge(
        "walpost_retained_wal_bytes",
        "WAL that is kept for the slot, from its restart_lsn to the end: what it costs on the disk of Postgres. A \
            transaction that is open elsewhere keeps WAL, too.",
        |view| of_sample(view, |sample| sample.retained_wal_bytes().map(number)),
    ),
    gauge(
        "walpost_confirm_lag_bytes",
        "WAL that is written and not confirmed, from confirmed_flush_lsn to the end: how far the relay is behind.",
        |view| of_sample(view, |sample| sample.confirm_lag_bytes().map(number)),
    ),
    gauge("walpost_slot_exists", "1 when the slot exists.", |view| {
        of_sample(view, |sample| Some(flag(sample.slot.is_some())))
    }),
    gauge("walpost_slot_active", "1 while a relay is connected to the slot, this one or another.", |view| {
        of_slot(view, |slot| Some(flag(slot.active)))
    }),
    gauge("walpost_slot_wal_status", "1 for the slot's wal_status, 0 for the others.", |view| {
        let status = slot(view).and_then(|slot| slot.wal_status.as_deref());
        status.map_or_else(Vec::new, |status| each(&WAL_STATUSES, |name| flag(name == status)))
    })
    .by(&["status"]),
    gauge(
        "walpost_slot_safe_wal_bytes",
        "WAL that may be written before the slot is in danger; absent without max_slot_wal_keep_size.",
        #[allow(clippy::cast_precision_loss)]
        |view| of_slot(view, |slot| slot.safe_wal_size.map(|bytes| bytes as f64)),
    ),
    gauge("walpost_slot_wal_keep_max_bytes", "max_slot_wal_keep_size; absent without a limit.", |view| {
        of_sample(view, |sample| sample.wal_keep_max_bytes.map(number))
    }),
    gauge(
        "walpost_slot_inactive_since_timestamp_seconds",
        "Since when no relay is connected; absent while one is, and before PostgreSQL 17.",
        |view| of_slot(view, |slot| slot.inactive_since_ms().map(seconds)),
    ),
    gauge("walpost_slot_invalidation", "1 for the reason for which the slot is lost, 0 for the others.", |view| {
        let Some(slot) = slot(view) else { return Vec::new() };
        let reason = slot.invalidation_reason.as_deref();
        let reason = reason.map(|reason| if INVALIDATIONS.contains(&reason) { reason } else { "other" });
        each(&INVALIDATIONS, |name| flag(Some(name) == reason))
    })
    .by(&["reason"]),
    gauge("walpost_slot_failover", "1 when the slot is copied to standbys; absent before PostgreSQL 17.", |view| {
        of_slot(view, |slot| slot.failover.map(flag))
    }),
    gauge("walpost_slot_synced", "1 when the slot is such a copy; absent before PostgreSQL 17.", |view| {
        of_slot(view, |slot| slot.synced.map(flag))
    }),
    gauge("walpost_outbox_rows", "Rows of the outbox, as the statistics of Postgres have it.", |view| {
        of_sample(view, |sample| sample.outbox.rows.map(number))
    }),
    gauge(
        "walpost_outbox_oldest_row_timestamp_seconds",
        "When the row with the lowest number was written; absent when there is none, or it may not be read.",
        |view| of_sample(view, |sample| sample.outbox.oldest_row_ms.map(seconds)),
    ),
    counter(
        "walpost_topic_records_total",
        "Records that Kafka has stored, by topic, dead letters and repeats among them: the first 100 topics that records \
            were written to; all others are `(others)`.",
        |view| {
            let told = view.topics.topics.iter().map(|topic| (vec![topic.name.clone()], number(topic.stored)));
            let others = (view.topics.others > 0).then(|| (vec!["(others)".to_owned()], number(view.topics.others_stored)));
            many(told.chain(others))
        },
    )
    .by(&["topic"]),
    gauge("walpost_topic_awaited", "1 while the topic is not there and a record waits for it, of the first 100.", |view| {
        many(view.topics.topics.iter().map(|topic| (vec![topic.name.clone()], flag(topic.is_awaited))))
    })
    .by(&["topic"]),
    gauge("walpost_kafka_queue_messages", "Records in librdkafka's queue, those under way among them.", |view| {
        many(view.kafka.iter().map(|kafka| (vec![], number(kafka.queue_messages))))
    }),
    gauge("walpost_kafka_queue_bytes", "Their bytes.", |view| {
        many(view.kafka.iter().map(|kafka| (vec![], number(kafka.queue_bytes))))
    }),
    gauge(
        "walpost_kafka_broker_up",
        "1 while the connection to a broker is up, 0 while it is to be; absent while none is needed.",
        |view| {
            let brokers = view.kafka.iter().flat_map(|kafka| &kafka.brokers);
            many(brokers.filter_map(|broker| Some((vec![broker.id.to_string()], flag(broker.up?)))))
        },
    )
    .by(&["broker"]),
    gauge("walpost_kafka_broker_rtt_seconds", "Round trips of requests, of the last seconds.", |view| {
        let brokers = view.kafka.iter().flat_map(|kafka| &kafka.brokers);
        many(brokers.flat_map(|broker| {
            let quantiles = [("0.5", broker.rtt_p50), ("0.99", broker.rtt_p99)];
            let known = quantiles.into_iter().filter_map(|(name, value)| Some((name, value?)));
            known.map(|(name, value)| (vec![broker.id.to_string(), name.to_owned()], value)).collect::<Vec<_>>()
        }))
    })
    .by(&["broker", "quantile"]),
    counter("walpost_kafka_requests_failed_total", "Requests to brokers that failed.", |view| {
        many(view.kafka.iter().map(|kafka| (vec![], number(kafka.requests.failed))))
    }),
    counter("walpost_kafka_requests_timed_out_total", "Requests that no broker answered in time.", |view| {
        many(view.kafka.iter().map(|kafka| (vec![], number(kafka.requests.timed_out))))
    }),
    counter("walpost_kafka_requests_retried_total", "Requests that were sent again.", |view| {
        many(view.kafka.iter().map(|kafka| (vec![], number(kafka.requests.retried))))
    }),
];

/// A position that is known.
fn position(lsn: u64) -> Option<f64> {
    (lsn > 0).then(|| number(lsn))
}

#[allow(clippy::cast_precision_loss)]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}

fn outcomes(counts: &Counts, of: impl Fn(&Counts) -> [u64; 3]) -> Samples {
    let outcomes = ["published", "dead_letter", "repeat_avoided"].into_iter().zip(of(counts));
    many(outcomes.map(|(name, count)| (vec![name.to_owned()], number(count))))
}

fn of_sample(view: &View, read: impl Fn(&Sample) -> Option<f64>) -> Samples {
    some(view.sample.as_ref().and_then(read))
}

fn slot(view: &View) -> Option<&SlotFacts> {
    view.sample.as_ref()?.slot.as_ref()
}

fn of_slot(view: &View, read: impl Fn(&SlotFacts) -> Option<f64>) -> Samples {
    some(slot(view).and_then(read))
}
