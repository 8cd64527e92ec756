//! walpost, Debezium Server and a polling loop, in turn, on the same outbox: the table that Debezium's documentation
//! describes.
//!
//! All of them publish the payload under the aggregate's id, with `acks=all` and an idempotent producer, to a topic of as
//! many partitions. What they took is read off the same way: from the ends of the topic and from `/proc`. Debezium is
//! measured as it comes and with [`TUNED`].

mod case;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use case::{Case, Drained, Steady};
use harness::DebeziumDistribution;

use crate::poller::{Poll, Polled};
use crate::section::{Section, Table, median};
use crate::{Bench, setting};

/// The first argument by which this program is the poller.
const LOOP: &str = "loop-poll";

const POLLED: Polled = Polled {
    lock: "update outbox set status = 'Locked' where number in ( \
               select number from outbox where status = 'Unlocked' order by number limit $1 for update skip locked) \
           returning number, aggregateid::text, payload::text, id::text",
    remove: "delete from outbox where number = any($1)",
    headers: &["id"],
};

/// The fastest batch of those that `poller` tries.
const POLLER_BATCH: i64 = 10_000;

/// Between two polls of an empty table: a hundred queries a second, for the sake of its latency.
const POLLER_PAUSE_MS: u64 = 10;

/// Settings of the tuned Debezium, with [`TUNED_JAVA`]. The defaults are, in this order: 500, 2048, 8192, 5, none and 16384;
/// why these: docs/performance.md.
const TUNED: [(&str, &str); 6] = [
    ("debezium.source.poll.interval.ms", "5"),
    ("debezium.source.max.batch.size", "8192"),
    ("debezium.source.max.queue.size", "32768"),
    ("debezium.sink.kafka.producer.linger.ms", "1"),
    ("debezium.sink.kafka.producer.compression.type", "lz4"),
    ("debezium.sink.kafka.producer.batch.size", "262144"),
];

/// Bounds the heap, which may take a quarter of the machine's memory by default.
const TUNED_JAVA: [&str; 1] = ["-Xmx512m"];

/// The rate of the steady load, and how many clients write it.
const RATE: (u32, u64) = (1_000, 4);

/// The start of the steady load, not counted: Java compiles meanwhile.
const WARM_UP: Duration = Duration::from_secs(10);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Walpost,
    Debezium,
    TunedDebezium,
    Poller,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Walpost => "walpost",
            Self::Debezium => "Debezium Server",
            Self::TunedDebezium => "Debezium Server, tuned",
            Self::Poller => "polling loop",
        }
    }
}

/// Runs the poller where the arguments say so.
pub(crate) async fn run_loop(arguments: &[String]) -> Option<Result<()>> {
    match arguments {
        [name, url, brokers, topic] if name == LOOP => Some(poll(url, brokers, topic).await),
        _ => None,
    }
}

async fn poll(url: &str, brokers: &str, topic: &str) -> Result<()> {
    let poll = Poll::new(url, brokers, topic, POLLED, POLLER_BATCH).await?;
    poll.run(Arc::new(AtomicBool::new(false)), Duration::from_millis(POLLER_PAUSE_MS)).await
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let lasts = Duration::from_secs(setting("BENCH_SECONDS", 30)?);
    let debezium = match DebeziumDistribution::fetched().await {
        Ok(debezium) => Some(debezium),
        Err(error) => {
            eprintln!("NOT COMPARED WITH DEBEZIUM SERVER, which is not to be had:\n{error:#}\n");
            None
        }
    };
    let mut subjects = vec![Subject::Walpost, Subject::Debezium, Subject::TunedDebezium, Subject::Poller];
    if debezium.is_none() {
        subjects.retain(|subject| matches!(subject, Subject::Walpost | Subject::Poller));
    }
    let mut drained: Vec<Vec<Drained>> = subjects.iter().map(|_| Vec::new()).collect();
    for round in 0..bench.rounds {
        for (subject, rounds) in subjects.iter().zip(&mut drained) {
            let case = Case::new(bench, *subject, debezium.as_ref()).await?;
            let found = case.drain().await.with_context(|| format!("{} drains", subject.name()))?;
            println!(
                "{}, round {}: {:.0} events/s, {:.1} CPU s/M, first event after {:.0} ms",
                subject.name(),
                round + 1,
                found.rate,
                found.own_cpu,
                found.start_ms
            );
            rounds.push(found);
        }
    }
    let mut steady = Vec::new();
    for subject in &subjects {
        let case = Case::new(bench, *subject, debezium.as_ref()).await?;
        let found = case.steady(lasts).await.with_context(|| format!("{} under load", subject.name()))?;
        println!("{}: p50 {:.1} ms, p99 {:.1} ms", subject.name(), found.p50, found.p99);
        steady.push(found);
    }
    Ok(Section {
        name: "peers".into(),
        title: "Compared with Debezium Server and a polling loop".into(),
        text: text(bench, debezium.as_ref(), lasts),
        tables: vec![table(&subjects, &drained, &steady)],
        plots: Vec::new(),
    })
}

fn table(subjects: &[Subject], drained: &[Vec<Drained>], steady: &[Steady]) -> Table {
    let columns: Vec<&str> = [""].into_iter().chain(subjects.iter().map(|subject| subject.name())).collect();
    let mut table = Table::new(&columns);
    let mut row = |what: String, cells: Vec<String>| table.row([what].into_iter().chain(cells));
    let of_steady = |cell: fn(&Steady) -> String| steady.iter().map(cell).collect::<Vec<_>>();
    let of_drains = |figure: fn(&Drained) -> f64, cell: fn(f64) -> String| {
        let of = |rounds: &Vec<Drained>| cell(median(rounds.iter().map(figure).collect()));
        drained.iter().map(of).collect::<Vec<_>>()
    };
    let tenth = |value: f64| format!("{value:.1}");
    let rate = RATE.0;
    row(
        format!("commit to consumer at {rate} events/s, p50"),
        of_steady(|found| format!("{:.1} ms", found.p50)),
    );
    row(
        format!("commit to consumer at {rate} events/s, p99"),
        of_steady(|found| format!("{:.1} ms", found.p99)),
    );
    row(
        format!("CPU at {rate} events/s, of a core"),
        of_steady(|found| format!("{:.1} %", found.cpu_percent)),
    );
    row("events/s, draining a backlog".into(), of_drains(|found| found.rate, |value| format!("{value:.0}")));
    row("CPU s per million: the relay itself".into(), of_drains(|found| found.own_cpu, tenth));
    row("CPU s per million: Postgres".into(), of_drains(|found| found.postgres_cpu, tenth));
    row("CPU s per million: Kafka".into(), of_drains(|found| found.broker_cpu, tenth));
    let mebibytes = |bytes: f64| format!("{:.0} MiB", bytes / f64::from(1 << 20));
    row("peak RSS, draining".into(), of_drains(|found| found.peak_rss, mebibytes));
    row("start to first event".into(), of_drains(|found| found.start_ms, |value| format!("{value:.0} ms")));
    table
}

fn text(bench: &Bench, debezium: Option<&DebeziumDistribution>, lasts: Duration) -> String {
    let listed = |names: Vec<String>| names.join(", ");
    let debezium = debezium.map_or_else(
        || "Debezium Server was not to be had on this machine.".to_owned(),
        |debezium| {
            let short = |name: &str| {
                let name = name.trim_start_matches("debezium.source.");
                name.trim_start_matches("debezium.sink.kafka.").to_owned()
            };
            let tuned = TUNED.iter().map(|(name, value)| format!("`{}={value}`", short(name))).collect();
            format!(
                "Debezium Server {} runs with pgoutput, its Kafka sink, the outbox event router and string converters, at \
                 its defaults otherwise; tuned: {}, and Java's `{}`.",
                debezium.version,
                listed(tuned),
                TUNED_JAVA.join(" ")
            )
        },
    );
    format!(
        "The same events in the outbox table that Debezium's documentation describes, the same broker and machine, \
         `acks=all` and idempotent producers, in turn. walpost has `preset = \"debezium\"`. {debezium} The polling loop \
         is the one of *What it replaces*: up to {POLLER_BATCH} rows at a time, {POLLER_PAUSE_MS} ms \
         between two polls of an empty table; for it the table has a number and a status besides. Steady load: {} s, the \
         first {} are not counted. Backlog: {} one-row transactions that were written while it was stopped, from the \
         first in the topic to the last, so without its start; {} rounds, medians. Start: from the start of the process \
         to an event that waits for it, in the topic. Every event was looked for: none was missing, none of a key out of \
         order. Each setting of Debezium with its reason: \
         [docs/performance.md](docs/performance.md#compared-with-debezium-server).",
        (WARM_UP + lasts).as_secs(),
        WARM_UP.as_secs(),
        bench.events,
        bench.rounds
    )
}
