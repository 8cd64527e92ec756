//! One subject on a database and a topic of its own: its start, a drain, and a steady load.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use harness::{
    Asker, Database, DebeziumDistribution, DebeziumServer, Process, Program, Received, Relay, Topic,
    wait_until,
};
use serde::Deserialize;

use super::{LOOP, RATE, Subject, TUNED, TUNED_JAVA, WARM_UP};
use crate::drain::LOOK;
use crate::latency::Consumer;
use crate::load::{self, Pgbench, seconds};
use crate::section::percentile;
use crate::{Bench, cpu};

/// The table, with the columns, names and types of Debezium's documentation.
const OUTBOX: &str = "create table outbox (id uuid primary key default gen_random_uuid(), \
    aggregatetype varchar(255) not null, aggregateid varchar(255) not null, type varchar(255) not null, payload jsonb)";

/// What a poller needs besides: an order, and a status. Free room on each page, so that locking a row writes to no index:
/// the faster of the two variants that `poller` tries.
const POLLABLE: &str = "create type status as enum ('Locked', 'Unlocked'); \
    alter table outbox add column number bigint generated always as identity unique, \
        add column status status not null default 'Unlocked'; \
    alter table outbox set (fillfactor = 50)";

/// About 300 bytes. The clients of pgbench write keys of their own, and count, so that the order of each key is known.
const INSERT: &str = "\\set n :n + 1\n\\set key random(1, 2500)\n\
    insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', \
    :client_id::text || '-' || :key::text, 'Changed', jsonb_build_object('client', :client_id::int, 'n', :n::bigint, \
    'written', (extract(epoch from clock_timestamp()) * 1000000)::bigint, 'title', repeat('x', 200), \
    'material', 'cardboard'));\n";

/// The client of events that are written one by one.
const PROBES: u32 = 1_000_000;

const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A drain that takes longer has failed.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1_800);

/// No record for this long: the topic has no more.
const SILENCE: Duration = Duration::from_secs(20);

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
pub(super) struct Drained {
    pub(super) start_ms: f64,
    pub(super) rate: f64,
    /// CPU seconds per million events.
    pub(super) own_cpu: f64,
    pub(super) postgres_cpu: f64,
    pub(super) broker_cpu: f64,
    pub(super) peak_rss: f64,
}

/// Figures of the steady load.
pub(super) struct Steady {
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Of one core.
    pub(super) cpu_percent: f64,
}

/// Counters at one moment: records in the topic, and CPU seconds since each process started.
struct Sample {
    at: Instant,
    arrived: i64,
    own_cpu: f64,
    postgres_cpu: f64,
    broker_cpu: f64,
}

/// A subject on a database and a topic of its own.
pub(super) struct Case<'a> {
    bench: &'a Bench,
    database: Database,
    topic: Topic,
    asker: Asker,
    start: Start,
}

impl<'a> Case<'a> {
    /// Has run it once: slot and publication exist, and an event has arrived.
    pub(super) async fn new(
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

    pub(super) async fn drain(&self) -> Result<Drained> {
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

    pub(super) async fn steady(&self, lasts: Duration) -> Result<Steady> {
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
