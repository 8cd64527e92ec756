//! What walpost replaces: a poller that locks rows, publishes them, and removes them.
//!
//! Written as well as we know how: one statement locks and returns a batch (`for update skip locked`), the producer is
//! idempotent and waits for the whole batch once, one statement removes it, an empty table is asked again after a
//! pause, a full batch at once. It does not even encode: the value is the row's JSON. Batch and index are chosen by
//! trial. One poller, since with two the order of a key is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::database::connect;
use harness::{Database, Topic};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::drain::published;
use crate::latency::{Figures, steady};
use crate::section::{Plot, Section, Table, percentile};
use crate::{Bench, load};

/// A drain that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(600);

/// How long the idle load is looked at.
const IDLE: Duration = Duration::from_secs(15);

/// How the poller finds the rows that are not locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    /// A partial index on what is unlocked.
    Partial,
    /// The primary key alone, and room on each page, so that locking a row writes to no index.
    PrimaryKey,
}

#[derive(Debug, Clone, Copy)]
struct Way {
    index: Index,
    batch: i64,
}

impl Way {
    fn name(self) -> String {
        let index = match self.index {
            Index::Partial => "partial index",
            Index::PrimaryKey => "primary key, fillfactor 50",
        };
        format!("{index}, {} rows", self.batch)
    }

    async fn prepare(self, database: &Database) -> Result<()> {
        let status = "create type status as enum ('Locked', 'Unlocked'); \
                      alter table package_event add column status status not null default 'Unlocked';";
        let index = match self.index {
            Index::Partial => "create index on package_event (package_event_id) where status = 'Unlocked'",
            Index::PrimaryKey => "alter table package_event set (fillfactor = 50)",
        };
        database.execute(&format!("{status} {index}")).await
    }
}

/// How a table is polled.
pub(crate) struct Polled {
    /// Locks so many rows (`$1`) and returns of each its number, its key, its value, and a text for each header.
    pub(crate) lock: &'static str,
    /// Removes the rows with these numbers (`$1`).
    pub(crate) remove: &'static str,
    pub(crate) headers: &'static [&'static str],
}

const PACKAGE_EVENT: Polled = Polled {
    lock: "update package_event set status = 'Locked' where package_event_id in ( \
               select package_event_id from package_event where status = 'Unlocked' \
               order by package_event_id limit $1 for update skip locked) \
           returning package_event_id, package_id::text, payload::text, event_id::text, \
               to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    remove: "delete from package_event where package_event_id = any($1)",
    headers: &["ce_id", "ce_time"],
};

/// The poller's task.
struct Poller {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Poller {
    async fn start(database: &Database, topic: &Topic, way: Way, pause: Duration) -> Result<Self> {
        let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut poll =
            Poll::new(&database.url, &topic.brokers, &topic.name, PACKAGE_EVENT, way.batch).await?;
        poll.published = Arc::clone(&published);
        let task = tokio::spawn(poll.run(Arc::clone(&stop), pause));
        Ok(Self { stop, published, task })
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// The poller itself.
pub(crate) struct Poll {
    client: Client,
    producer: ThreadedProducer<Reports>,
    reports: UnboundedReceiver<bool>,
    topic: String,
    polled: Polled,
    batch: i64,
    published: Arc<AtomicU64>,
}

impl Poll {
    pub(crate) async fn new(
        url: &str,
        brokers: &str,
        topic: &str,
        polled: Polled,
        batch: i64,
    ) -> Result<Self> {
        let (producer, reports) = producer(brokers)?;
        let client = connect(url).await?;
        let published = Arc::new(AtomicU64::new(0));
        Ok(Self { client, producer, reports, topic: topic.to_owned(), polled, batch, published })
    }

    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>, pause: Duration) -> Result<()> {
        let lock = self.client.prepare(self.polled.lock).await?;
        let remove = self.client.prepare(self.polled.remove).await?;
        while !stop.load(Ordering::Relaxed) {
            let mut rows = self.client.query(&lock, &[&self.batch]).await?;
            if rows.is_empty() {
                tokio::time::sleep(pause).await;
                continue;
            }
            rows.sort_by_key(|row| row.get::<_, i64>(0));
            for row in &rows {
                let mut headers = OwnedHeaders::new_with_capacity(self.polled.headers.len());
                for (number, &key) in self.polled.headers.iter().enumerate() {
                    headers = headers.insert(Header { key, value: Some(row.get::<_, &str>(3 + number)) });
                }
                let record: BaseRecord<'_, str, str> =
                    BaseRecord::to(&self.topic).key(row.get(1)).payload(row.get(2)).headers(headers);
                self.producer.send(record).map_err(|(error, _)| error)?;
            }
            for _ in &rows {
                let delivered = tokio::time::timeout(DEADLINE, self.reports.recv()).await?;
                ensure!(delivered == Some(true), "a record was not delivered");
            }
            let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            self.client.execute(&remove, &[&ids]).await?;
            self.published.fetch_add(rows.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// For each record whether it was delivered.
struct Reports(UnboundedSender<bool>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        // The poller has ended when nobody listens.
        let _ = self.0.send(result.is_ok());
    }
}

fn producer(brokers: &str) -> Result<(ThreadedProducer<Reports>, UnboundedReceiver<bool>)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("compression.type", "lz4");
    config.set("linger.ms", "1").set("partitioner", "murmur2_random");
    let (sender, reports) = unbounded_channel();
    Ok((config.create_with_context(Reports(sender))?, reports))
}

/// What publishing a backlog took.
struct Cost {
    rate: f64,
    postgres_cpu: f64,
    wal_bytes: f64,
    table_bytes: i64,
    dead_rows: i64,
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let ways = [Index::Partial, Index::PrimaryKey]
        .into_iter()
        .flat_map(|index| [500, 2_000, 10_000].map(|batch| Way { index, batch }));
    let mut trial = Table::new(&["poller: index and batch", "events/s"]);
    let mut best: Option<(Way, f64)> = None;
    for way in ways {
        let rate = drain(bench, way, 50_000).await?.rate;
        println!("poller, {}: {rate:.0} events/s", way.name());
        trial.row([way.name(), format!("{rate:.0}")]);
        if best.is_none_or(|(_, most)| rate > most) {
            best = Some((way, rate));
        }
    }
    let (way, _) = best.context("a way")?;
    let (costs, rates) = backlog(bench, way).await?;
    let (latency, bars) = latencies(bench, way).await?;
    Ok(Section {
        name: "poller".into(),
        title: "What it replaces: locking, polling, deleting".into(),
        text: format!(
            "The same events, broker and machine. The poller locks a batch (`for update skip locked`), publishes it \
             idempotently, waits once for all of it, deletes it. First its best batch and index for 50,000 events are \
             found, then it is compared with walpost: a backlog of {} events, and 100 events a second at several pauses \
             between two polls of an empty table. WAL and table are what publishing cost beyond the insert; walpost \
             leaves rows where they are (see *Cleaning*). Idle: nothing is written for {} s.",
            bench.events / 5,
            IDLE.as_secs()
        ),
        tables: vec![trial, costs, latency],
        plots: vec![
            Plot { file: "poller-rate".into(), title: "A backlog, events a second".into(), bars: rates },
            Plot { file: "poller-latency".into(), title: "p99 at 100 events/s, milliseconds".into(), bars },
        ],
    })
}

async fn backlog(bench: &Bench, way: Way) -> Result<(Table, Vec<(String, f64)>)> {
    let events = bench.events / 5;
    println!("poller and walpost: a backlog of {events} events");
    let poller = drain(bench, way, events).await?;
    let relay = relayed(bench, events).await?;
    let columns = [
        "",
        "events/s",
        "times the poller",
        "Postgres CPU s/M",
        "WAL bytes/event",
        "table afterwards",
        "dead rows",
    ];
    let mut table = Table::new(&columns);
    for (who, cost) in [("poller", &poller), ("walpost", &relay)] {
        table.row([
            who.to_owned(),
            format!("{:.0}", cost.rate),
            format!("{:.1}", cost.rate / poller.rate),
            format!("{:.1}", cost.postgres_cpu),
            format!("{:.0}", cost.wal_bytes),
            format!("{} MiB", cost.table_bytes >> 20),
            cost.dead_rows.to_string(),
        ]);
    }
    let bars = vec![("poller".to_owned(), poller.rate.round()), ("walpost".to_owned(), relay.rate.round())];
    Ok((table, bars))
}

async fn drain(bench: &Bench, way: Way, events: u64) -> Result<Cost> {
    let (database, topic) = (Database::with_outbox(&bench.stack.database_url).await?, bench.topic().await?);
    way.prepare(&database).await?;
    load::rows(&database, events).await?;
    let meter = Meter::start(bench, &database).await?;
    let poller = Poller::start(&database, &topic, way, Duration::from_millis(1)).await?;
    while poller.published.load(Ordering::Relaxed) < events {
        ensure!(meter.started.elapsed() < DEADLINE && !poller.task.is_finished(), "the poller did not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cost = meter.stop(bench, &database, events).await?;
    poller.end().await?;
    Ok(cost)
}

async fn relayed(bench: &Bench, events: u64) -> Result<Cost> {
    let (database, topic) = (Database::with_outbox(&bench.stack.database_url).await?, bench.topic().await?);
    let relay = bench.relay(&database, &topic)?;
    relay.init().await?;
    let mut first = relay.run_ready().await?;
    first.terminate(Duration::from_secs(20)).await?;
    load::rows(&database, events).await?;
    let meter = Meter::start(bench, &database).await?;
    let mut process = relay.run_ready().await?;
    published(std::slice::from_ref(&process), events).await?;
    let cost = meter.stop(bench, &database, events).await?;
    process.terminate(Duration::from_secs(20)).await?;
    Ok(cost)
}

/// What Postgres does meanwhile.
struct Meter {
    started: Instant,
    postgres_cpu: f64,
    wal: i64,
}

const WAL: &str = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";

impl Meter {
    async fn start(bench: &Bench, database: &Database) -> Result<Self> {
        let wal = database.client().await?.query_one(WAL, &[]).await?.get(0);
        Ok(Self { postgres_cpu: bench.servers.postgres()?, wal, started: Instant::now() })
    }

    async fn stop(self, bench: &Bench, database: &Database, events: u64) -> Result<Cost> {
        let seconds = self.started.elapsed().as_secs_f64();
        let postgres_cpu = bench.servers.postgres()? - self.postgres_cpu;
        let client = database.client().await?;
        let wal: i64 = client.query_one(WAL, &[]).await?.get(0);
        let sql = "select pg_total_relation_size('package_event'), n_dead_tup from pg_stat_user_tables \
                   where relname = 'package_event'";
        // Counts of what a session did are given out when it has been idle for a moment.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let table = client.query_one(sql, &[]).await?;
        let events = u32::try_from(events).map(f64::from)?;
        #[allow(clippy::cast_precision_loss)]
        let wal_bytes = (wal - self.wal) as f64 / events;
        Ok(Cost {
            rate: events / seconds,
            postgres_cpu: postgres_cpu * 1e6 / events,
            wal_bytes,
            table_bytes: table.get(0),
            dead_rows: table.get(1),
        })
    }
}

async fn latencies(bench: &Bench, way: Way) -> Result<(Table, Vec<(String, f64)>)> {
    let columns = ["100 events/s", "arrived a second", "p50 ms", "p99 ms", "p99.9 ms", "max ms"];
    let (mut table, mut bars) = (Table::new(&columns), Vec::new());
    let mut idle = Table::new(&["idle", "Postgres CPU, ms a second", "WAL bytes a second"]);
    let (database, topic) = (Database::with_outbox(&bench.stack.database_url).await?, bench.topic().await?);
    let mut relay = bench.relay(&database, &topic)?.init_and_run().await?;
    let arrived = steady(&database, &topic, 100, 2).await?;
    table.row(Figures::of(&arrived).row("walpost"));
    bars.push(("walpost".to_owned(), percentile(&arrived, 0.99)));
    idle.row(at_rest(bench, &database, "walpost").await?);
    relay.terminate(Duration::from_secs(20)).await?;
    for pause in [10, 100, 1_000] {
        let who = format!("poller, every {pause} ms");
        println!("{who}");
        let (database, topic) =
            (Database::with_outbox(&bench.stack.database_url).await?, bench.topic().await?);
        way.prepare(&database).await?;
        let poller = Poller::start(&database, &topic, way, Duration::from_millis(pause)).await?;
        let arrived = steady(&database, &topic, 100, 2).await?;
        table.row(Figures::of(&arrived).row(&who));
        bars.push((who.clone(), percentile(&arrived, 0.99)));
        idle.row(at_rest(bench, &database, &who).await?);
        poller.end().await?;
    }
    // Both have four rows, in the same order.
    table.columns.extend(idle.columns.drain(1..).map(|column| format!("idle: {column}")));
    for (row, idle) in table.rows.iter_mut().zip(idle.rows) {
        row.extend(idle.into_iter().skip(1));
    }
    Ok((table, bars))
}

async fn at_rest(bench: &Bench, database: &Database, who: &str) -> Result<[String; 3]> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let meter = Meter::start(bench, database).await?;
    tokio::time::sleep(IDLE).await;
    let seconds = meter.started.elapsed().as_secs_f64();
    let cpu = bench.servers.postgres()? - meter.postgres_cpu;
    let wal: i64 = database.client().await?.query_one(WAL, &[]).await?.get(0);
    #[allow(clippy::cast_precision_loss)]
    let wal = (wal - meter.wal) as f64 / seconds;
    Ok([who.to_owned(), format!("{:.1}", cpu * 1_000.0 / seconds), format!("{wal:.0}")])
}
