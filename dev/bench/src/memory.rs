//! The memory that the relay needs, at its default settings, when there is as much to do as there can be.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Database, PrivateKafka, Relay, RelayProcess, Stack, Topic};

use crate::{PARTITIONS, load};

/// A drain that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(900);

/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(120);

/// Events that are in the slot when the relay starts, or in one transaction.
const EVENTS: u64 = 1_000_000;

/// What is to be done: a database and a topic, both fresh.
struct Case {
    relay: Relay,
    database: Database,
    topic: Topic,
}

impl Case {
    async fn new(brokers: &str) -> Result<Self> {
        let database = Database::with_outbox(&Stack::shared().await?.database_url).await?;
        let topic = Topic::fresh(brokers, PARTITIONS).await?;
        let binary = std::env::current_exe()?.with_file_name("walpost");
        let relay = Relay::new(binary, &database, &topic)?.with_program(|program| program.log_on_drop(false));
        relay.init().await?;
        Ok(Self { relay, database, topic })
    }

    /// Waits until every event is in the topic; tells the most memory that it took.
    async fn drained(&self, what: &str, process: RelayProcess, events: u64) -> Result<()> {
        let (started, wanted) = (Instant::now(), i64::try_from(events)?);
        loop {
            let arrived: i64 = self.topic.ends().await?.values().sum();
            if arrived >= wanted {
                break;
            }
            ensure!(started.elapsed() < DEADLINE, "{arrived} of {wanted} arrived\n{}", process.log_tail());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        println!("  {what:<44} {:>4} MiB peak RSS, {events} events", process.memory("VmHWM")? >> 20);
        Ok(())
    }
}

/// Measures and prints.
///
/// # Errors
/// When an event does not arrive in time.
pub(crate) async fn run() -> Result<()> {
    let brokers = &Stack::shared().await?.brokers;
    println!("memory of walpost at its default settings");
    behind(brokers).await?;
    one_transaction(brokers).await?;
    broker_away().await
}

async fn behind(brokers: &str) -> Result<()> {
    let case = Case::new(brokers).await?;
    load::write(&case.database, EVENTS).await?;
    let process = case.relay.run_ready().await?;
    case.drained("1,000,000 one-row transactions behind", process, EVENTS).await
}

async fn one_transaction(brokers: &str) -> Result<()> {
    let case = Case::new(brokers).await?;
    let process = case.relay.run_ready().await?;
    let sql = "insert into package_event (package_id, event_type, payload) \
               select 1 + n % 10000, 'Updated', jsonb_build_object('ID', n, 'Title', repeat('x', 200)) \
               from generate_series(1, 1000000) n";
    case.database.execute(sql).await?;
    case.drained("one transaction of 1,000,000 rows", process, EVENTS).await
}

async fn broker_away() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::new(kafka.brokers()).await?;
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
    case.drained("broker away for 2 minutes, writers go on", process, events).await
}
