#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::WindowSettings;
use crate::kafka::statistics::{BrokerNumbers, KafkaNumbers};
use crate::kafka::tally::{Tally, TopicNumbers};
use crate::observe::board::{Limits, Vitals};
use crate::observe::sampler::{OutboxSample, Sample};
use crate::observe::state::State;
use walpost_core::lsn::Lsn;

fn view() -> View {
    let long = Duration::from_secs(60);
    let limits = Limits {
        window: WindowSettings { records: 20_000, bytes: 1 << 26 },
        stall_timeout: long,
        sample_age_max: long,
        preset: Some(walpost_core::event::presets::PACKAGE),
    };
    Vitals::new(limits).view()
}

/// Of one source without a name.
fn text(view: &View) -> String {
    super::text(&[Labelled { source: None, view: view.clone() }])
}

/// A view in which everything is known.
fn full_view() -> View {
    let mut view = view();
    let slot = serde_json::json!({
        "slot_name": "s", "active": false, "restart_lsn": "0/100", "confirmed_flush_lsn": "0/180",
        "wal_status": "extended", "safe_wal_size": 4096, "invalidation_reason": "a_new_reason", "failover": true,
        "synced": false, "inactive_since": "2026-11-25T02:38:09.5+00:00",
    });
    view.doing.state = State::Streaming;
    view.lag_seconds = 3.5;
    view.numbers.received = Lsn(0x200);
    view.numbers.acknowledged = Lsn(0x190);
    view.numbers.counts.latency.observe(2_500);
    view.confirmed = Lsn(0x180);
    view.sample = Some(Sample {
        at_ms: 1_700_000_000_500,
        server_version: "18.6".into(),
        wal_end: Lsn(0x200),
        wal_directory_bytes: Some(1 << 24),
        wal_keep_max_bytes: Some(1 << 30),
        slot: Some(serde_json::from_value(slot).unwrap()),
        outbox: OutboxSample { rows: Some(7), oldest_row_ms: Some(1_600_000_000_000) },
    });
    let broker = BrokerNumbers { id: 1, up: Some(true), rtt_p50: Some(0.001), rtt_p99: Some(0.002) };
    let topic = TopicNumbers { name: "t".into(), stored: 3, is_awaited: true, ..TopicNumbers::default() };
    view.topics = Tally { topics: vec![topic], others: 2, others_stored: 5 };
    view.kafka = Some(KafkaNumbers { brokers: vec![broker], ..KafkaNumbers::default() });
    view
}

/// Name, type and labels of each metric in a text that Prometheus scrapes.
fn served(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.split_once(' ').unwrap();
            name = family.to_owned();
            families.insert(name.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((_, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let labels = labels.rsplit_once('}').unwrap().0.split(',').filter(|label| !label.is_empty());
            let names = labels.map(|label| label.split_once('=').unwrap().0.to_owned());
            families.get_mut(&name).unwrap().1.extend(names.filter(|name| name != "le"));
        }
    }
    families
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

fn document() -> String {
    let mut text = String::from(
        "# Metrics of walpost\n\nServed at `/metrics` of `--http-addr` (:9101) in Prometheus' text format. What is not \
         known is absent, never 0. Beside these there are `process_*`: CPU seconds, memory, files, start time. With several \
         `[[source]]` each of these has the label `source` as well: its name.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in TABLE {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = kind_name(metric.kind);
        text += &format!("| `{}` | {kind} | {} | {} |\n", metric.name, labels.join(", "), metric.help);
    }
    text
}

/// `UPDATE_DOCS=1 cargo test -p walpost` writes it.
#[test]
fn the_documented_metrics_are_those_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        written,
        document(),
        "docs/metrics.md differs from the table: UPDATE_DOCS=1 cargo test -p walpost writes it"
    );
}

#[test]
fn what_is_served_is_what_the_table_says() {
    let families = served(&text(&full_view()));
    for metric in TABLE {
        let (kind, labels) =
            families.get(metric.name).unwrap_or_else(|| panic!("{} is not served", metric.name));
        assert_eq!(kind, kind_name(metric.kind), "{}", metric.name);
        assert_eq!(
            *labels,
            metric.labels.iter().map(|label| (*label).to_owned()).collect(),
            "{}",
            metric.name
        );
    }
    let others: Vec<_> =
        families.keys().filter(|name| TABLE.iter().all(|metric| metric.name != **name)).collect();
    assert!(others.iter().all(|name| name.starts_with("process_")), "not documented: {others:?}");
    assert!(others.iter().any(|name| *name == "process_cpu_seconds_total"));
}

#[test]
fn several_sources_have_a_label_each_and_no_family_comes_twice() {
    let of = |name: &str, view: View| Labelled { source: Some(name.to_owned()), view };
    let text = super::text(&[of("orders", full_view()), of("billing", view())]);
    for line in [
        "walpost_ready{source=\"orders\"} 1",
        "walpost_ready{source=\"billing\"} 0",
        "walpost_state{source=\"orders\",state=\"streaming\"} 1",
        "walpost_retained_wal_bytes{source=\"orders\"} 256",
        "walpost_commit_to_acknowledge_seconds_bucket{source=\"orders\",le=\"+Inf\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let own = |line: &&str| line.starts_with("walpost_") || line.starts_with("logistic_");
    assert!(text.lines().filter(own).all(|line| line.contains("source=\"")), "{text}");
    assert!(!text.contains("walpost_retained_wal_bytes{source=\"billing\"}"), "not known, and not zero");
    let mut families: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let all = families.len();
    families.dedup();
    assert_eq!(families.len(), all, "{text}");
    assert_eq!(text.matches("\nprocess_cpu_seconds_total ").count(), 1);
}

#[test]
fn names_are_as_prometheus_wants_them() {
    for metric in TABLE {
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        assert!(metric.help.ends_with('.') || metric.help.contains(": "), "{}", metric.name);
    }
}

#[test]
fn what_is_not_known_is_absent_and_not_zero() {
    let text = text(&view());
    for absent in ["walpost_retained_wal_bytes", "walpost_slot_", "walpost_kafka_", "walpost_confirmed_lsn"] {
        assert!(!text.contains(absent), "{absent} in\n{text}");
    }
    assert!(text.contains("\nlogistic_package_api_retranslator_events_processing 0\n"), "{text}");
}

#[test]
fn the_lags_are_kept_apart() {
    let text = text(&full_view());
    assert!(text.contains("\nwalpost_retained_wal_bytes 256\n"), "{text}");
    assert!(text.contains("\nwalpost_confirm_lag_bytes 128\n"), "{text}");
    assert!(text.contains("\nwalpost_lag_seconds 3.5\n"), "{text}");
}

#[test]
fn there_is_a_series_for_each_state_and_status_and_an_unknown_reason_is_other() {
    let text = text(&full_view());
    for line in [
        "walpost_state{state=\"streaming\"} 1",
        "walpost_state{state=\"halted\"} 0",
        "walpost_slot_wal_status{status=\"extended\"} 1",
        "walpost_slot_wal_status{status=\"lost\"} 0",
        "walpost_slot_invalidation{reason=\"other\"} 1",
        "walpost_slot_invalidation{reason=\"wal_removed\"} 0",
        "walpost_events_total{outcome=\"published\"} 0",
        "walpost_commit_to_acknowledge_seconds_bucket{le=\"0.002\"} 0",
        "walpost_commit_to_acknowledge_seconds_bucket{le=\"0.003\"} 1",
        "walpost_commit_to_acknowledge_seconds_bucket{le=\"+Inf\"} 1",
        "walpost_slot_inactive_since_timestamp_seconds 1795574289.5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

/// Of two meanings of a word, one is too many at night: the WAL is never called a log here.
#[test]
fn what_is_read_at_night_says_wal() {
    for line in text(&full_view()).lines().filter(|line| line.starts_with("# HELP")) {
        assert!(
            !line.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("log")),
            "{line}"
        );
    }
}
