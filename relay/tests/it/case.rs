use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use harness::{Audit, Database, Received, Relay, Stack, Topic, events, wait_until};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

/// How long anything may take that is to happen soon, on two busy cores.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// More than one, so that order per key means something.
const PARTITIONS: i32 = 3;

/// A database with an outbox, a topic, and a relay between them that is yet to be started. A test declares its relay
/// process after it, so that the relay is gone before what it uses.
pub(crate) struct Case {
    pub(crate) relay: Relay,
    pub(crate) topic: Topic,
    pub(crate) database: Database,
}

impl Case {
    /// On the servers that tests share.
    pub(crate) async fn new() -> Result<Self> {
        let stack = Stack::shared().await?;
        Self::on(&stack.database_url, &stack.brokers).await
    }

    /// On the Postgres of a test's own.
    pub(crate) async fn on_postgres(database_url: &str) -> Result<Self> {
        Self::on(database_url, &Stack::shared().await?.brokers).await
    }

    /// On the Kafka of a test's own.
    pub(crate) async fn on_kafka(brokers: &str) -> Result<Self> {
        Self::on(&Stack::shared().await?.database_url, brokers).await
    }

    async fn on(database_url: &str, brokers: &str) -> Result<Self> {
        let database = Database::with_outbox(database_url).await?;
        Self::of(database, brokers).await
    }

    /// Around a database that is there.
    pub(crate) async fn of(database: Database, brokers: &str) -> Result<Self> {
        let topic = Topic::fresh(brokers, PARTITIONS).await?;
        let relay = Relay::new(env!("CARGO_BIN_EXE_walpost"), &database, &topic)?;
        // Tests wait for what a production system leaves to a timer.
        let relay = relay.env("WALPOST_CONFIRM_INTERVAL_MS", "100").env("WALPOST_WATCH_INTERVAL_MS", "200");
        Ok(Self { relay: relay.env("WALPOST_RETRY_MAX_MS", "500"), topic, database })
    }

    /// Tells the relay two names of a column, by a file: no variable can.
    pub(crate) fn renamed(mut self, one: &str, other: &str) -> Self {
        let path = std::env::temp_dir().join(format!("walpost-{}.toml", self.database.name()));
        std::fs::write(&path, format!("[renamed_columns]\n{one} = \"{other}\"\n")).expect("a file in /tmp");
        self.relay = self.relay.env("WALPOST_CONFIG", path);
        self
    }

    /// Changes a setting of the relay.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.relay = self.relay.env(name, value);
        self
    }

    /// Publishes to a topic with so many partitions, in place of three.
    pub(crate) async fn with_partitions(mut self, partitions: i32) -> Result<Self> {
        self.topic = Topic::fresh(&self.topic.brokers, partitions).await?;
        let name = self.topic.name.clone();
        Ok(self.with("WALPOST_TOPIC", &name))
    }

    /// The topic takes no time that lies more than an hour ahead: Kafka's default from 4.0 on; up to 3.9 there is no limit.
    pub(crate) async fn refuses_times_ahead(&self) -> Result<()> {
        self.topic.configure("message.timestamp.after.max.ms", "3600000").await
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        self.database.client().await
    }

    /// One event in a transaction of its own.
    pub(crate) async fn commit_one(&self, key: i64) -> Result<()> {
        insert(&self.client().await?, key).await
    }

    /// `events` events over `keys` keys, `per_transaction` in each transaction.
    pub(crate) async fn commit(&self, events: i64, keys: i64, per_transaction: i64) -> Result<()> {
        let client = self.client().await?;
        let mut from = 0;
        while from < events {
            let to = events.min(from + per_transaction);
            let sql = "insert into package_event (package_id, event_type, payload) \
                       select 1 + n % $3::bigint, 'Updated', jsonb_build_object('ID', 1 + n % $3, 'Title', 'event ' || n) \
                       from generate_series($1::bigint, $2::bigint - 1) n";
            client.execute(sql, &[&from, &to, &keys]).await.context("inserting events")?;
            from = to;
        }
        Ok(())
    }

    /// What arrived against what was committed, now.
    pub(crate) async fn audit_now(&self) -> Result<Audit> {
        let committed = events::committed(&self.client().await?).await?;
        Ok(Audit::new(&committed, &self.topic.read_all().await?))
    }

    /// What arrived, once nothing is missing.
    pub(crate) async fn audit(&self) -> Result<Audit> {
        let committed = events::committed(&self.client().await?).await?;
        let what = format!("all {} committed events", committed.len());
        let mut missing: HashSet<String> = committed.into_iter().map(|event| event.event_id).collect();
        let complete = |record: &Received| {
            missing.remove(record.header("ce_id").unwrap_or_default());
            missing.is_empty()
        };
        self.topic.read_until(&what, 2 * SOON, complete).await?;
        let audit = self.audit_now().await?;
        ensure!(audit.holds(), "the promise was broken: {audit}");
        Ok(audit)
    }

    /// The position up to which Postgres was told that all is done.
    pub(crate) async fn confirmed(&self) -> Result<u64> {
        let sql = "select confirmed_flush_lsn from pg_replication_slots where slot_name = $1";
        let row =
            self.client().await?.query_one(sql, &[&self.database.slot_name()]).await.context("the slot")?;
        Ok(u64::from(row.get::<_, PgLsn>(0)))
    }

    /// The end of the write-ahead log.
    pub(crate) async fn wal_end(&self) -> Result<u64> {
        let row = self.client().await?.query_one("select pg_current_wal_lsn()", &[]).await?;
        Ok(u64::from(row.get::<_, PgLsn>(0)))
    }

    /// Waits until everything up to `lsn` is confirmed.
    pub(crate) async fn confirmed_to(&self, lsn: u64) -> Result<()> {
        wait_until("the slot is confirmed", SOON, async || Ok(self.confirmed().await? >= lsn)).await
    }
}

/// Where the transaction of a record committed. The end of the WAL may lie far behind it: other tests write there, too.
pub(crate) fn committed_at(record: &Received) -> Result<u64> {
    let lsn: PgLsn = record
        .header("wal-lsn")
        .context("a record has its position")?
        .parse()
        .map_err(|_| anyhow!("no LSN"))?;
    Ok(u64::from(lsn))
}

/// One event in a transaction of its own.
pub(crate) async fn insert(client: &Client, key: i64) -> Result<()> {
    let sql = "insert into package_event (package_id, event_type, payload) values ($1, 'Updated', '{}')";
    client.execute(sql, &[&key]).await.context("inserting an event")?;
    Ok(())
}

/// The events of `writers` writers at once, `each` from every one, over `keys` keys. Writers of one key wait for each
/// other, as the row lock of a package makes them: so the order of its ids is the order of its commits.
pub(crate) async fn write_concurrently(
    database: &Database,
    writers: i64,
    each: i64,
    keys: i64,
) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let client = database.client().await?;
        tasks.spawn(async move {
            for round in 0..each {
                let key = 1 + (writer + round) % keys;
                let sql = format!(
                    "begin; select pg_advisory_xact_lock({key}); \
                     insert into package_event (package_id, event_type, payload) values ({key}, 'Updated', '{{}}'); \
                     commit"
                );
                client.batch_execute(&sql).await.context("a concurrent writer")?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a writer panicked")??;
    }
    Ok(())
}
