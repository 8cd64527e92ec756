//! The memory that the relay needs, at its default settings, when there is as much to do as there can be.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Database, PrivateKafka, Relay, RelayProcess, Topic};

use crate::section::{Section, Table};
use crate::{Bench, PARTITIONS, load};

/// A drain that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(900);

/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(120);

/// What is to be done: a database and a topic, both fresh.
struct Case {
    relay: Relay,
    database: Database,
    topic: Topic,
}

impl Case {
    async fn new(bench: &Bench, brokers: &str) -> Result<Self> {
        let database = Database::with_outbox(&bench.stack.database_url).await?;
        let topic = Topic::fresh(brokers, PARTITIONS).await?;
        let relay = bench.relay(&database, &topic)?;
        relay.init().await?;
        Ok(Self { relay, database, topic })
    }

    /// Waits until every event is in the topic; gives the most memory that it took.
    async fn drained(&self, process: RelayProcess, events: u64) -> Result<u64> {
        let (started, wanted) = (Instant::now(), i64::try_from(events)?);
        loop {
            let arrived: i64 = self.topic.ends().await?.values().sum();
            if arrived >= wanted {
                return Ok(process.memory("VmHWM")? >> 20);
            }
            ensure!(started.elapsed() < DEADLINE, "{arrived} of {wanted} arrived\n{}", process.log_tail());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    println!("memory of walpost at its default settings");
    let mut table = Table::new(&["", "peak RSS", "events"]);
    for (what, (peak, events)) in [
        ("one-row transactions, all behind", behind(bench).await?),
        ("one transaction", one_transaction(bench).await?),
        ("the broker away for 2 minutes, writers go on", broker_away(bench).await?),
    ] {
        table.row([what.to_owned(), format!("{peak} MiB"), events.to_string()]);
    }
    Ok(Section {
        name: "memory".into(),
        title: "Memory".into(),
        text: "The most memory that walpost had in RAM, at its default settings, when there is as much to do as there \
               can be."
            .into(),
        tables: vec![table],
        plots: Vec::new(),
    })
}

async fn behind(bench: &Bench) -> Result<(u64, u64)> {
    let case = Case::new(bench, &bench.stack.brokers).await?;
    load::rows(&case.database, bench.events).await?;
    let process = case.relay.run_ready().await?;
    Ok((case.drained(process, bench.events).await?, bench.events))
}

async fn one_transaction(bench: &Bench) -> Result<(u64, u64)> {
    let case = Case::new(bench, &bench.stack.brokers).await?;
    let process = case.relay.run_ready().await?;
    let sql = "insert into package_event (package_id, event_type, payload) \
               select 1 + n % 10000, 'Updated', jsonb_build_object('ID', n, 'Title', repeat('x', 200)) \
               from generate_series(1, $1::bigint) n";
    case.database.client().await?.execute(sql, &[&i64::try_from(bench.events)?]).await?;
    Ok((case.drained(process, bench.events).await?, bench.events))
}

async fn broker_away(bench: &Bench) -> Result<(u64, u64)> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::new(bench, kafka.brokers()).await?;
    let process = case.relay.run_ready().await?;
    kafka.kill().await?;
    let (started, client) = (Instant::now(), case.database.client().await?);
    let mut events = 0;
    while started.elapsed() < AWAY {
        let sql = "insert into package_event (package_id, event_type, payload) \
                   select 1 + n % 1000, 'Updated', jsonb_build_object('ID', n, 'Title', repeat('x', 200)) \
                   from generate_series(1, 100) n";
        events += client.execute(sql, &[]).await.context("a writer")?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kafka.start_again().await?;
    Ok((case.drained(process, events).await?, events))
}
