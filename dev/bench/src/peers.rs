//! walpost, Debezium Server and a polling loop, in turn, on the same outbox: the table that Debezium's documentation
//! describes.
//!
//! All of them publish the payload under the aggregate's id, with `acks=all` and an idempotent producer, to a topic of as
//! many partitions. What they took is read off the same way: from the ends of the topic and from `/proc`. Debezium is
//! measured as it comes and with [`TUNED`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use harness::{
    Asker, Database, DebeziumDistribution, DebeziumServer, Process, Program, Received, Relay, Topic,
    wait_until,
};
use serde::Deserialize;

use crate::drain::LOOK;
use crate::latency::Consumer;
use crate::load::{self, Pgbench, seconds};
use crate::poller::{Poll, Polled};
use crate::section::{Section, Table, median, percentile};
use crate::{Bench, cpu, setting};

/// The first argument by which this program is the poller.
const LOOP: &str = "loop-poll";

/// The table, with the columns, names and types of Debezium's documentation.
const OUTBOX: &str = "create table outbox (id uuid primary key default gen_random_uuid(), \
    aggregatetype varchar(255) not null, aggregateid varchar(255) not null, type varchar(255) not null, payload jsonb)";

/// What a poller needs besides: an order, and a status. Free room on each page, so that locking a row writes to no index:
/// the faster of the two variants that `poller` tries.
const POLLABLE: &str = "create type status as enum ('Locked', 'Unlocked'); \
    alter table outbox add column number bigint generated always as identity unique, \
        add column status status not null default 'Unlocked'; \
    alter table outbox set (fillfactor = 50)";

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

/// About 300 bytes. The clients of pgbench write keys of their own, and count, so that the order of each key is known.
const INSERT: &str = "\\set n :n + 1\n\\set key random(1, 2500)\n\
    insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', \
    :client_id::text || '-' || :key::text, 'Changed', jsonb_build_object('client', :client_id::int, 'n', :n::bigint, \
    'written', (extract(epoch from clock_timestamp()) * 1000000)::bigint, 'title', repeat('x', 200), \
    'material', 'cardboard'));\n";

/// The client of events that are written one by one.
const PROBES: u32 = 1_000_000;

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

const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A drain that takes longer has failed.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1_800);

/// No record for this long: the topic has no more.
const SILENCE: Duration = Duration::from_secs(20);

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

/// How a subject is started.
enum Start {
    Walpost(Relay),
    Debezium(DebeziumServer),
    Poller(Program, Vec<String>),
}

impl Start {
    fn start(&self) -> Result<Process> {
        match self {
            Self::Walpost(relay) => relay.start(&["run"]),
            Self::Debezium(server) => server.start(),
            Self::Poller(program, arguments) => {
                program.spawn(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
            }
        }
    }
}

/// Figures of one drain.
struct Drained {
    start_ms: f64,
    rate: f64,
    /// CPU seconds per million events.
    own_cpu: f64,
    postgres_cpu: f64,
    broker_cpu: f64,
    peak_rss: f64,
}

/// Figures of the steady load.
struct Steady {
    p50: f64,
    p99: f64,
    /// Of one core.
    cpu_percent: f64,
}

/// Counters at one moment: records in the topic, and CPU seconds since each process started.
struct Sample {
    at: Instant,
    arrived: i64,
    own_cpu: f64,
    postgres_cpu: f64,
    broker_cpu: f64,
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
         is that of its section: up to {POLLER_BATCH} rows at a time, {POLLER_PAUSE_MS} ms between two polls of an empty \
         table. Steady load: {} s, the first {} are not counted. Backlog: {} one-row transactions that were written \
         while it was stopped, from the first in the topic to the last, so without its start; {} rounds, medians. Start: \
         from the start of the process to an event that waits for it, in the topic. Every event was looked for: none was \
         missing, none of a key out of order.",
        (WARM_UP + lasts).as_secs(),
        WARM_UP.as_secs(),
        bench.events,
        bench.rounds
    )
}

/// A subject on a database and a topic of its own.
struct Case<'a> {
    bench: &'a Bench,
    database: Database,
    topic: Topic,
    asker: Asker,
    start: Start,
}

impl<'a> Case<'a> {
    /// Has run it once: slot and publication exist, and an event has arrived.
    async fn new(
        bench: &'a Bench,
        subject: Subject,
        debezium: Option<&DebeziumDistribution>,
    ) -> Result<Self> {
        let database = Database::fresh(&bench.stack.database_url).await?;
        database.execute(OUTBOX).await?;
        let topic = bench.topic().await?;
        let server = |properties: &[(&str, &str)], java_options: &[&str]| {
            let debezium = debezium.context("Debezium Server")?;
            anyhow::Ok(Start::Debezium(DebeziumServer::new(
                debezium,
                &database,
                &topic,
                properties,
                java_options,
            )?))
        };
        let start = match subject {
            Subject::Walpost => {
                let relay = bench.relay(&database, &topic)?.env("WALPOST_PRESET", "debezium");
                relay.init().await?;
                Start::Walpost(relay)
            }
            Subject::Debezium => server(&[], &[])?,
            Subject::TunedDebezium => server(&TUNED, &TUNED_JAVA)?,
            Subject::Poller => {
                database.execute(POLLABLE).await?;
                let arguments = [LOOP, &database.url, &topic.brokers, &topic.name].map(str::to_owned);
                Start::Poller(Program::new(std::env::current_exe()?), arguments.to_vec())
            }
        };
        let asker = topic.asker()?;
        let case = Self { bench, database, topic, asker, start };
        let mut process = case.start.start()?;
        // Debezium takes no snapshot here: what is written before its slot is made never comes.
        case.followed(&mut process).await?;
        case.stop(process).await?;
        Ok(case)
    }

    async fn arrived(&self) -> Result<i64> {
        Ok(self.topic.ends_by(&self.asker).await?.values().sum())
    }

    /// Writes an event by itself.
    async fn probe(&self) -> Result<()> {
        let sql = format!(
            "insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', 'probe', 'Changed', \
             jsonb_build_object('client', {PROBES}, 'n', 0, 'written', \
             (extract(epoch from clock_timestamp()) * 1000000)::bigint))"
        );
        self.database.execute(&sql).await
    }

    /// Writes events until one arrives.
    async fn followed(&self, process: &mut Process) -> Result<()> {
        let started = Instant::now();
        while self.arrived().await? == 0 {
            process.expect_running()?;
            ensure!(started.elapsed() < START_DEADLINE, "nothing arrives\n{}", process.log_tail());
            self.probe().await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        // Those that were written after the one that arrived.
        let mut last = 0;
        wait_until("nothing more arrives", START_DEADLINE, async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(std::mem::replace(&mut last, self.arrived().await?) == last && last > 0)
        })
        .await
    }

    /// Stops it, and waits until its slot is free.
    async fn stop(&self, mut process: Process) -> Result<()> {
        process.terminate(STOP_DEADLINE).await?;
        let client = self.database.client().await?;
        wait_until("the slot is free", STOP_DEADLINE, async || {
            let sql = "select 1 from pg_replication_slots where database = current_database() and active";
            Ok(client.query_opt(sql, &[]).await?.is_none())
        })
        .await
    }

    /// Waits until so many records are in the topic.
    async fn reached(&self, process: &mut Process, wanted: i64, pause: Duration) -> Result<Sample> {
        let started = Instant::now();
        loop {
            let arrived = self.arrived().await?;
            if arrived >= wanted {
                return self.sample(process, arrived);
            }
            process.expect_running()?;
            let in_time = started.elapsed() < DRAIN_DEADLINE;
            ensure!(in_time, "{arrived} of {wanted} arrived\n{}", process.log_tail());
            tokio::time::sleep(pause).await;
        }
    }

    fn sample(&self, process: &Process, arrived: i64) -> Result<Sample> {
        Ok(Sample {
            at: Instant::now(),
            arrived,
            own_cpu: cpu::of_process(process.id())?,
            postgres_cpu: self.bench.servers.postgres()?,
            broker_cpu: self.bench.servers.broker()?,
        })
    }

    /// Milliseconds from the start of the process to an event that was written before, in the topic.
    async fn start_ms(&self) -> Result<f64> {
        let before = self.arrived().await?;
        self.probe().await?;
        let started = Instant::now();
        let mut process = self.start.start()?;
        let sample = self.reached(&mut process, before + 1, Duration::from_millis(2)).await?;
        let took = sample.at.duration_since(started).as_secs_f64() * 1_000.0;
        self.stop(process).await?;
        Ok(took)
    }

    async fn drain(&self) -> Result<Drained> {
        const CLIENTS: u64 = 4;
        let start_ms = self.start_ms().await?;
        let before = self.arrived().await?;
        let each = (self.bench.events / CLIENTS).to_string();
        let inserts = self.inserts(CLIENTS).await?.arg("--transactions", &each);
        inserts.env("PGOPTIONS", "-c synchronous_commit=off").run(&self.database).await?;
        load::flush(&self.database, "outbox").await?;
        let written = self.bench.events / CLIENTS * CLIENTS;
        let mut process = self.start.start()?;
        let first = self.reached(&mut process, before + 1, LOOK).await?;
        let last = self.reached(&mut process, before + i64::try_from(written)?, LOOK).await?;
        let peak_rss = f64::from(u32::try_from(process.memory("VmHWM")? >> 10)?) * 1_024.0;
        self.stop(process).await?;
        self.complete(written).await?;
        ensure!(
            last.arrived > first.arrived,
            "all arrived at once: more BENCH_EVENTS than {written} are needed"
        );
        let events = f64::from(i32::try_from(last.arrived - first.arrived)?);
        let per_million = |figure: fn(&Sample) -> f64| (figure(&last) - figure(&first)) * 1e6 / events;
        Ok(Drained {
            start_ms,
            rate: events / last.at.duration_since(first.at).as_secs_f64(),
            own_cpu: per_million(|sample| sample.own_cpu),
            postgres_cpu: per_million(|sample| sample.postgres_cpu),
            broker_cpu: per_million(|sample| sample.broker_cpu),
            peak_rss,
        })
    }

    async fn steady(&self, lasts: Duration) -> Result<Steady> {
        let mut process = self.start.start()?;
        let before = self.arrived().await?;
        self.probe().await?;
        self.reached(&mut process, before + 1, LOOK).await?;
        let consumer = Consumer::of(&self.topic, |record| {
            let event = Event::of(record)?;
            let written = DateTime::from_timestamp_micros(event.written).context("a time")?;
            Ok((written, format!("{}:{}", event.client, event.n)))
        })?;
        let (rate, clients) = RATE;
        let begins = Utc::now() + WARM_UP;
        let inserts = self.inserts(clients).await?.arg("--rate", &rate.to_string());
        let inserts = inserts.arg("--time", &seconds(WARM_UP + lasts));
        let cpu = async {
            tokio::time::sleep(WARM_UP).await;
            let (at, then) = (Instant::now(), cpu::of_process(process.id())?);
            tokio::time::sleep(lasts.saturating_sub(Duration::from_secs(1))).await;
            let taken = cpu::of_process(process.id())? - then;
            Ok::<_, anyhow::Error>(taken * 100.0 / at.elapsed().as_secs_f64())
        };
        let (printed, cpu_percent) = tokio::try_join!(inserts.run(&self.database), cpu)?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let arrivals = consumer.end().await?;
        self.stop(process).await?;
        self.complete(load::transactions(&printed)?).await?;
        let counted = arrivals.iter().filter(|arrival| arrival.is_new && arrival.written >= begins);
        let mut latencies: Vec<f64> = counted.map(|arrival| arrival.latency_ms).collect();
        ensure!(!latencies.is_empty(), "nothing arrived");
        latencies.sort_by(f64::total_cmp);
        Ok(Steady { p50: percentile(&latencies, 0.5), p99: percentile(&latencies, 0.99), cpu_percent })
    }

    async fn inserts(&self, clients: u64) -> Result<Pgbench> {
        Ok(Pgbench::new(&self.database, INSERT, clients).await?.arg("--define", "n=0"))
    }

    /// All that pgbench has written is in the topic, and the events of each key in their order. The table cannot be asked:
    /// the poller has emptied it.
    async fn complete(&self, written: u64) -> Result<()> {
        let (mut seen, mut repeated) = (HashSet::new(), 0);
        let mut newest: HashMap<Vec<u8>, u64> = HashMap::new();
        let reader = self.topic.reader()?;
        while seen.len() < usize::try_from(written)? {
            let record = reader.next(SILENCE).await?;
            let record = record.with_context(|| format!("{} of {written} events arrived", seen.len()))?;
            let event = Event::of(&record)?;
            if event.client == PROBES {
                continue;
            }
            if !seen.insert((event.client, event.n)) {
                repeated += 1;
                continue;
            }
            let before = newest.insert(record.key, event.n).unwrap_or(0);
            ensure!(before < event.n, "the event {} came after the later {before} of its key", event.n);
        }
        // Each client counts from 1, and none is there that was not written.
        let most = seen.iter().fold(HashMap::<u32, u64>::new(), |mut most, (client, n)| {
            most.entry(*client).and_modify(|most| *most = (*most).max(*n)).or_insert(*n);
            most
        });
        ensure!(most.values().sum::<u64>() == written, "events of {most:?} for {written}");
        if repeated > 0 {
            println!("  {repeated} events came twice");
        }
        Ok(())
    }
}

/// What a payload says of its event.
#[derive(Deserialize)]
struct Event {
    client: u32,
    n: u64,
    /// Microseconds since 1970.
    written: i64,
}

impl Event {
    fn of(record: &Received) -> Result<Self> {
        let value = || String::from_utf8_lossy(&record.value).into_owned();
        serde_json::from_slice(&record.value).with_context(value)
    }
}
