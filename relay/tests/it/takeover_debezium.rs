//! The slot of a Debezium that ran, taken over with the settings that its own configuration gives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Database, Debezium, Process, Received, Relay, Stack, Topic, wait_until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_postgres::types::PgLsn;

/// Connect looks through its plugins and makes a slot, beside others' tests.
const STARTED: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

/// Each writes one key.
const WRITERS: u32 = 3;
const ROWS_PER_TRANSACTION: i64 = 2;

/// How Debezium ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// SIGTERM, in the middle of writes: its offsets are written.
    Stopped,
    /// The same, and the slot is then put behind the last transaction that its offsets name.
    StoppedAndAdvanced,
    /// SIGKILL: what it has published since its offsets were last written is not known.
    Killed,
}

struct Case {
    debezium: Debezium,
    topic: Topic,
    database: Database,
    folder: PathBuf,
}

/// What Debezium left: by id, the transactions of events that it published, and those that are behind the slot still.
struct Left {
    published: HashMap<String, u32>,
    behind: BTreeSet<u32>,
}

impl Case {
    /// None where Debezium is not to be had.
    async fn new(flush_ms: u32) -> Result<Option<Self>> {
        let stack = Stack::shared().await?;
        let database = Database::fresh(&stack.database_url).await?;
        database
            .execute(
                "create table outbox (id uuid primary key default gen_random_uuid(), aggregatetype text not null, \
                 aggregateid text not null, type text not null, payload jsonb)",
            )
            .await?;
        let topic = Topic::fresh(&stack.brokers, PARTITIONS).await?;
        let debezium = Debezium::with(&stack.brokers, flush_ms, &connector(&database)?).await?;
        let folder = std::env::temp_dir().join(format!("takeover-{}", database.name()));
        std::fs::create_dir_all(&folder)?;
        Ok(debezium.map(|debezium| Self { debezium, topic, database, folder }))
    }

    /// Writers that go on until they are told to end; each gives how many rows its key has.
    async fn write(&self, goes_on: &Arc<AtomicBool>) -> Result<Vec<JoinHandle<Result<i64>>>> {
        let aggregate = self.topic.name.strip_prefix("test-").context("a topic of a test")?;
        let mut writers = Vec::new();
        for key in 0..WRITERS {
            let (client, goes_on) = (self.database.client().await?, Arc::clone(goes_on));
            let sql = format!(
                "insert into outbox (aggregatetype, aggregateid, type, payload) \
                 select '{aggregate}', 'key-{key}', 'Changed', jsonb_build_object('n', n) \
                 from generate_series($1::bigint, $2::bigint) n"
            );
            writers.push(tokio::spawn(async move {
                let mut written = 0;
                while goes_on.load(Ordering::Relaxed) {
                    client.execute(&sql, &[&(written + 1), &(written + ROWS_PER_TRANSACTION)]).await?;
                    written += ROWS_PER_TRANSACTION;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(written)
            }));
        }
        Ok(writers)
    }

    async fn active(&self) -> Result<Option<bool>> {
        let sql = "select active from pg_replication_slots where slot_name = $1";
        let row = self.database.client().await?.query_opt(sql, &[&self.database.slot_name()]).await?;
        Ok(row.map(|row| row.get(0)))
    }

    async fn confirmed(&self) -> Result<PgLsn> {
        let sql = "select confirmed_flush_lsn from pg_replication_slots where slot_name = $1";
        Ok(self.database.client().await?.query_one(sql, &[&self.database.slot_name()]).await?.get(0))
    }

    async fn started(&self) -> Result<Process> {
        let mut process = self.debezium.start()?;
        wait_until("Debezium streams", STARTED, async || {
            process.expect_running()?;
            Ok(self.active().await? == Some(true))
        })
        .await
        .with_context(|| process.log_tail())?;
        Ok(process)
    }

    /// Waits for so many more records.
    async fn grows_by(&self, count: i64) -> Result<()> {
        let total = async || Ok::<_, anyhow::Error>(self.topic.ends().await?.values().sum::<i64>());
        let aim = total().await? + count;
        wait_until("the topic grows", SOON, async || Ok(total().await? >= aim)).await
    }

    async fn left(&self) -> Result<Left> {
        let client = self.database.client().await?;
        let transactions: HashMap<String, u32> = client
            .query("select id::text, xmin::text::bigint from outbox", &[])
            .await?
            .iter()
            .map(|row| Ok((row.get(0), u32::try_from(row.get::<_, i64>(1))?)))
            .collect::<Result<_>>()?;
        let published = self.topic.read_all().await?;
        let of = |record: &Received| {
            let id = id(record)?;
            let transaction = transactions.get(&id).with_context(|| format!("{id} is in no row"))?;
            Ok((id, *transaction))
        };
        let published = published.iter().map(of).collect::<Result<_>>()?;
        let sql = "select distinct xid::text::bigint from pg_logical_slot_peek_binary_changes($1, null, null, \
                   'proto_version', '1', 'publication_names', $2)";
        let rows = client.query(sql, &[&self.database.slot_name(), &self.publication()]).await?;
        let behind =
            rows.iter().map(|row| Ok(u32::try_from(row.get::<_, i64>(0))?)).collect::<Result<_>>()?;
        Ok(Left { published, behind })
    }

    fn publication(&self) -> String {
        format!("dbz_{}", self.database.name())
    }

    /// The statement that docs/from-debezium.md gives: it does nothing where Debezium has published a part of its last
    /// transaction alone.
    async fn advance(&self) -> Result<()> {
        let (transaction, lsn) = (self.debezium.offset("txId")?, self.debezium.offset("lsn")?);
        let sql = format!(
            "select pg_replication_slot_advance('{slot}', (select max(lsn) from pg_logical_slot_peek_binary_changes('{slot}', \
             null, null, 'proto_version', '1', 'publication_names', '{}') where xid = '{transaction}' \
             having max(lsn) filter (where get_byte(data, 0) = ascii('I')) <= '0/0'::pg_lsn + {lsn}))",
            self.publication(),
            slot = self.database.slot_name()
        );
        self.database.execute(&sql).await
    }

    /// walpost with what it says of the connector's configuration, and nothing else but where the servers are.
    async fn relay(&self) -> Result<Relay> {
        let settings = self.folder.join("walpost.toml");
        let path = self.debezium.connector_path();
        let path = path.to_str().context("a path")?;
        let relay = |settings| {
            Relay::of_settings(env!("CARGO_BIN_EXE_walpost"), &self.database, &self.topic.brokers, settings)
        };
        std::fs::write(&settings, "")?;
        let printed = relay(&settings)?.command(&["from-debezium", path]).await?.success()?.stdout;
        std::fs::write(&settings, printed)?;
        Ok(relay(&settings)?.without_env("WALPOST_SLOT").env("WALPOST_CONFIRM_INTERVAL_MS", "100"))
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The least that a connector with the outbox router needs.
fn connector(database: &Database) -> Result<Value> {
    let (user, password) = database
        .url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':'))
        .context("a user and a password")?;
    let addr = database.addr()?;
    Ok(json!({"name": "outbox", "config": {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": addr.ip().to_string(),
        "database.port": addr.port().to_string(),
        "database.user": user,
        "database.password": password,
        "database.dbname": database.name(),
        "topic.prefix": "shop",
        "table.include.list": "public.outbox",
        "slot.name": database.slot_name(),
        "publication.name": format!("dbz_{}", database.name()),
        "publication.autocreate.mode": "filtered",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.route.topic.replacement": "test-${routedByValue}",
        "transforms.outbox.table.fields.additional.placement": "type:header:eventType"
    }}))
}

fn id(record: &Received) -> Result<String> {
    Ok(record.header("id").with_context(|| format!("a record without an id: {record:?}"))?.to_owned())
}

fn number(record: &Received) -> Result<i64> {
    let value: Value = serde_json::from_slice(&record.value)?;
    value["n"].as_i64().with_context(|| format!("no number in {value}"))
}

/// Takes over, and gives what was left and what arrived twice; checks that all arrived, and in order.
async fn take_over(end: End) -> Result<Option<(Left, BTreeSet<String>)>> {
    // By default a worker writes its offsets every minute: whoever kills it loses as much.
    let Some(case) = Case::new(60_000).await? else { return Ok(None) };
    let goes_on = Arc::new(AtomicBool::new(true));
    let mut debezium = case.started().await?;
    let writers = case.write(&goes_on).await?;
    case.grows_by(100).await?;
    match end {
        End::Killed => debezium.kill()?,
        End::Stopped | End::StoppedAndAdvanced => drop(debezium.terminate(SOON).await?),
    }
    wait_until("the slot is free", SOON, async || Ok(case.active().await? == Some(false))).await?;
    if end == End::StoppedAndAdvanced {
        case.advance().await?;
    }
    let left = case.left().await?;
    println!("{end:?}: {} published, slot at {}", left.published.len(), case.confirmed().await?);
    let relay = case.relay().await?;
    // It has run for moments, which is too short for the slot to be seen past the publication.
    let takes_over = ["init", "--rows-before", "published", "--publication-is-older"];
    let said = relay.command(&takes_over).await?.success()?.stdout;
    println!("{said}");
    let mut running = relay.run_ready().await?;
    case.grows_by(100).await?;
    goes_on.store(false, Ordering::Relaxed);
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await??);
    }
    let twice = all_arrive_in_order(&case, &written).await?;
    running.expect_running()?;
    Ok(Some((left, twice)))
}

/// The ids that came twice.
async fn all_arrive_in_order(case: &Case, written: &[i64]) -> Result<BTreeSet<String>> {
    let mut missing: BTreeSet<(String, i64)> = (0..WRITERS)
        .zip(written)
        .flat_map(|(key, rows)| (1..=*rows).map(move |n| (format!("key-{key}"), n)))
        .collect();
    let all = |record: &Received| {
        missing.remove(&(record.key_text(), number(record).unwrap_or_default()));
        missing.is_empty()
    };
    case.topic.read_until("every committed event", SOON, all).await?;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut last: HashMap<String, (i64, i32)> = HashMap::new();
    for record in case.topic.read_all().await? {
        let count = counts.entry(id(&record)?).or_default();
        *count += 1;
        if *count > 1 {
            continue;
        }
        let (n, partition) = (number(&record)?, record.partition);
        let before = last.insert(record.key_text(), (n, partition));
        let (before, kept) = before.unwrap_or((0, partition));
        ensure!(n == before + 1, "{}: {n} came after {before}", record.key_text());
        ensure!(partition == kept, "{} went from partition {kept} to {partition}", record.key_text());
    }
    ensure!(counts.values().all(|count| *count <= 2), "an event came more than twice: {counts:?}");
    Ok(counts.into_iter().filter(|(_, count)| *count == 2).map(|(id, _)| id).collect())
}

/// What was published and is behind the slot: Postgres would send it to Debezium once more as well.
fn to_come_again(left: &Left) -> BTreeSet<String> {
    let again = left.published.iter().filter(|(_, transaction)| left.behind.contains(transaction));
    again.map(|(id, _)| id.clone()).collect()
}

#[tokio::test]
async fn of_a_debezium_that_is_stopped_only_its_last_transaction_comes_twice() -> Result<()> {
    let Some((left, twice)) = take_over(End::Stopped).await? else { return Ok(()) };
    ensure!(twice == to_come_again(&left), "{twice:?}");
    let transactions: BTreeSet<_> = twice.iter().filter_map(|id| left.published.get(id)).collect();
    println!("{} events of {} transactions came twice", twice.len(), transactions.len());
    ensure!(transactions.len() <= 1, "{transactions:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_comes_twice_where_the_slot_is_put_behind_the_last_transaction_of_the_offsets() -> Result<()>
{
    let Some((left, twice)) = take_over(End::StoppedAndAdvanced).await? else { return Ok(()) };
    ensure!(twice == to_come_again(&left), "{twice:?}");
    // Not all of a transaction: Debezium was stopped in the middle of it.
    ensure!(i64::try_from(twice.len())? < ROWS_PER_TRANSACTION, "{twice:?}");
    Ok(())
}

#[tokio::test]
async fn of_a_debezium_that_is_killed_comes_twice_what_its_slot_would_send_it_again() -> Result<()> {
    let Some((left, twice)) = take_over(End::Killed).await? else { return Ok(()) };
    println!("{} of {} events came twice", twice.len(), left.published.len());
    ensure!(twice == to_come_again(&left), "{} others", twice.len());
    Ok(())
}
