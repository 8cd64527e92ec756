//! From commit to consumer under a steady load.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use harness::{Database, Received, Topic};
use tokio::task::JoinHandle;

use crate::load::{Pgbench, seconds};
use crate::section::{Plot, Section, Table, median, percentile};
use crate::{Bench, verify};

/// How long the load lasts; the first two seconds are not counted.
const LASTS: Duration = Duration::from_secs(22);
const WARM_UP: Duration = Duration::from_secs(2);

/// An arrival: when, since the start, after how many milliseconds, and whether it was the first of its event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) written: DateTime<Utc>,
    pub(crate) latency_ms: f64,
    pub(crate) is_new: bool,
}

/// When the event of a record was written, and its id.
pub(crate) type Stamp = fn(&Received) -> Result<(DateTime<Utc>, String)>;

/// Reads a topic to the end and notes what arrives.
pub(crate) struct Consumer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Vec<Arrival>>>,
}

impl Consumer {
    /// Of events of the package API.
    pub(crate) fn start(topic: &Topic) -> Result<Self> {
        Self::of(topic, |record| {
            let written = record.header("ce_time").context("ce_time")?.parse()?;
            Ok((written, record.header("ce_id").context("ce_id")?.to_owned()))
        })
    }

    /// Of events of which `stamp` says when they were written, and which they are.
    pub(crate) fn of(topic: &Topic, stamp: Stamp) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (reader, stopped) = (topic.reader()?, Arc::clone(&stop));
        let clock = (Instant::now(), Utc::now());
        let task = tokio::spawn(async move {
            let (mut arrivals, mut seen) = (Vec::new(), HashSet::new());
            loop {
                match reader.next(Duration::from_millis(300)).await? {
                    Some(record) => arrivals.push(arrival(&record, stamp, clock, &mut seen)?),
                    None if stopped.load(Ordering::Relaxed) => return Ok(arrivals),
                    None => {}
                }
            }
        });
        Ok(Self { stop, task })
    }

    /// What has arrived, once nothing more does.
    pub(crate) async fn end(self) -> Result<Vec<Arrival>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

fn arrival(
    record: &Received,
    stamp: Stamp,
    (start, start_utc): (Instant, DateTime<Utc>),
    seen: &mut HashSet<String>,
) -> Result<Arrival> {
    let (written, id) = stamp(record)?;
    let arrived = start_utc + record.arrived.duration_since(start);
    let latency = (arrived - written).num_microseconds().context("a latency")?;
    let is_new = seen.insert(id);
    #[allow(clippy::cast_precision_loss)]
    Ok(Arrival { written, latency_ms: latency as f64 / 1_000.0, is_new })
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let (mut table, mut bars) = (table(), Vec::new());
    for (rate, clients) in [(100, 2), (1_000, 4), (10_000, 16)] {
        println!("latency at {rate} events/s");
        let database = Database::with_outbox(&bench.stack.database_url).await?;
        let topic = bench.topic().await?;
        let mut relay = bench.relay(&database, &topic)?.init_and_run().await?;
        let latencies = steady(&database, &topic, rate, clients).await?;
        verify::complete(&database, &topic).await?;
        relay.terminate(Duration::from_secs(20)).await?;
        let figures = Figures::of(&latencies);
        table.row(figures.row(&format!("walpost, {rate} events/s")));
        bars.push((format!("{rate}/s, p50"), figures.p50));
        bars.push((format!("{rate}/s, p99"), figures.p99));
    }
    Ok(Section {
        name: "latency".into(),
        title: "From commit to consumer".into(),
        text: format!(
            "`pgbench --rate` writes one-row transactions with `synchronous_commit=on` for {} s; the first two are not \
             counted. Measured from just before the commit (`clock_timestamp()` of the insert) to the record in the \
             hands of a consumer, so the flush of the log is in it. Database, broker, relay, load and consumer share \
             two cores. Every event was looked for in the topic.",
            LASTS.as_secs()
        ),
        tables: vec![table],
        plots: vec![Plot { file: "latency".into(), title: "Commit to consumer, milliseconds".into(), bars }],
    })
}

/// A table that takes rows of [`Figures`].
pub(crate) fn table() -> Table {
    Table::new(&["", "arrived a second", "p50 ms", "p99 ms", "p99.9 ms", "max ms"])
}

/// What is told of a run, in milliseconds; and how many events arrived a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    rate: f64,
    p50: f64,
    pub(crate) p99: f64,
    p999: f64,
    max: f64,
}

impl Figures {
    /// Of latencies, which must be sorted.
    pub(crate) fn of(latencies: &[f64]) -> Self {
        let counted = u32::try_from(latencies.len()).map_or(f64::NAN, f64::from);
        let at = |share| percentile(latencies, share);
        let rate = counted / (LASTS - WARM_UP).as_secs_f64();
        Self { rate, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }

    /// The median of each figure by itself.
    pub(crate) fn medians(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            rate: of(|round| round.rate),
            p50: of(|round| round.p50),
            p99: of(|round| round.p99),
            p999: of(|round| round.p999),
            max: of(|round| round.max),
        }
    }

    /// A row of a [`table`].
    pub(crate) fn row(&self, who: &str) -> [String; 6] {
        let ms = |figure: f64| format!("{figure:.1}");
        let rate = format!("{:.0}", self.rate);
        [who.to_owned(), rate, ms(self.p50), ms(self.p99), ms(self.p999), ms(self.max)]
    }
}

/// Latencies under a steady load, sorted.
pub(crate) async fn steady(database: &Database, topic: &Topic, rate: u32, clients: u64) -> Result<Vec<f64>> {
    let consumer = Consumer::start(topic)?;
    let begins = Utc::now() + WARM_UP;
    let load = Pgbench::inserts(database, clients).await?.arg("--rate", &rate.to_string());
    load.arg("--time", &seconds(LASTS)).run(database).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let arrivals = consumer.end().await?;
    let counted = arrivals.iter().filter(|arrival| arrival.is_new && arrival.written >= begins);
    let mut latencies: Vec<f64> = counted.map(|arrival| arrival.latency_ms).collect();
    ensure!(!latencies.is_empty(), "nothing arrived");
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}
