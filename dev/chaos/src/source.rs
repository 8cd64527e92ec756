//! A database that is followed, the topic that it is published to, and the ledger of both.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Asker, Database, Reader, Topic, wait_until};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;
use uuid::Uuid;

use crate::audit::{Audit, Sample, Written};
use crate::event;
use crate::parts::{Delivery, Outbox, Parts};
use crate::relays::DEADLINE;

/// The keys of the markers begin here; no writer writes them.
const MARKER_KEY: i64 = 1_000_000;

/// Among so many keys each shard has one.
const MARKER_KEYS: i64 = 1_000;

/// How often the slots are compared with the topic.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// The last record of a partition is among so many offsets, but for aborted transactions in a row.
const TAIL: i64 = 200;

/// More than one, so that order per key means something, and each broker leads some.
const PARTITIONS: i32 = 4;

/// What is known of a source so far, for all that write it and look at it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Audit>>);

impl Ledger {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Audit) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A slot of a source.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) publication: String,
    /// The key of its markers.
    marker: i64,
}

/// A database that is followed.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) database: Database,
    pub(crate) topic: Topic,
    pub(crate) outbox: Outbox,
    delivery: Delivery,
    /// That of each shard, or the only one.
    pub(crate) slots: Vec<Slot>,
    /// Where it is not the first: the slot that has the events of a key.
    shard_of: HashMap<i64, usize>,
    pub(crate) ledger: Ledger,
}

impl Source {
    /// A new one on the server at `url`, with a topic of its own there.
    pub(crate) async fn start(url: &str, brokers: &str, parts: Parts) -> Result<Self> {
        let database = Database::with_outbox(url).await?;
        database.execute(event::TOKENS).await?;
        let topic = Topic::fresh(brokers, PARTITIONS).await?;
        let (Parts { outbox, delivery, shards, .. }, ledger) = (parts, Ledger::default());
        let (name, publication) = (database.slot_name(), "package_event_pub".to_owned());
        let mut source =
            Self { database, topic, outbox, delivery, slots: vec![], shard_of: HashMap::new(), ledger };
        if shards == 1 {
            source.slots.push(Slot { name, publication, marker: MARKER_KEY });
            return Ok(source);
        }
        source.shard_of = shard_of_keys(&source.database.client().await?, shards).await?;
        for shard in 0..shards {
            let own = |name: &str| format!("{name}_{}_of_{shards}", shard + 1);
            let marks = |key: &i64| source.shard_of.get(key) == Some(&shard);
            let marker = (MARKER_KEY..MARKER_KEY + MARKER_KEYS).find(marks).context("a shard has no key")?;
            source.slots.push(Slot { name: own(&name), publication: own(&publication), marker });
        }
        Ok(source)
    }

    /// Notes what a writer has committed of `key`.
    pub(crate) fn committed(&self, key: i64, events: Vec<Uuid>, bound: u64) {
        let slot = self.shard_of.get(&key).copied().unwrap_or_default();
        self.ledger.with(|ledger| ledger.committed(Written { events, bound, slot }));
    }

    /// Commits an event for a slot as soon as Postgres takes it.
    pub(crate) async fn mark(&self, slot: usize) -> Result<Uuid> {
        let (event, key) = (Uuid::new_v4(), self.slots[slot].marker);
        wait_until("Postgres takes a marker", DEADLINE, async || {
            Ok(event::commit(&self.database, self.outbox, key, event).await.is_ok())
        })
        .await?;
        self.committed(key, vec![event], u64::MAX);
        Ok(event)
    }

    pub(crate) fn has_seen(&self, event: Uuid) -> bool {
        self.ledger.with(|ledger| ledger.has_seen(event))
    }

    /// Takes every record of the topic into the ledger, for ever.
    pub(crate) async fn read(self: Arc<Self>, reader: Reader) {
        loop {
            match reader.next(Duration::from_secs(1)).await {
                Ok(Some(record)) => self.ledger.with(|ledger| {
                    if let Err(error) = ledger.arrived(&record) {
                        ledger.inversions.push(format!("a record that cannot be read: {error:#}"));
                    }
                }),
                Ok(None) => {}
                // The broker is away.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Compares slots and topic now and then, for ever.
    pub(crate) async fn sample(self: Arc<Self>) {
        let (mut client, mut asker) = (None, None);
        loop {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            if client.is_none() {
                client = self.database.client().await.ok();
            }
            let Some(connected) = &client else { continue };
            match self.confirmed(connected).await {
                // The slots first, then the topic.
                Ok(confirmed) => {
                    if asker.is_none() {
                        asker = self.topic.asker().ok();
                    }
                    if let Some(asker) = &asker
                        && let Ok(ends) = self.ends(asker).await
                    {
                        self.ledger.with(|ledger| ledger.sampled(Sample { confirmed, ends }));
                    }
                }
                Err(_) => client = None,
            }
            self.ledger.with(Audit::judge_sample);
        }
    }

    /// What each slot has confirmed.
    async fn confirmed(&self, client: &Client) -> Result<Vec<u64>> {
        let sql = "select slot_name::text, confirmed_flush_lsn from pg_replication_slots";
        let rows = client.query(sql, &[]).await?;
        let of = |slot: &Slot| {
            let row = rows.iter().find(|row| row.get::<_, String>(0) == slot.name);
            row.and_then(|row| row.get::<_, Option<PgLsn>>(1)).map_or(0, u64::from)
        };
        Ok(self.slots.iter().map(of).collect())
    }

    /// Behind the last record of each partition. Transactions leave marks of Kafka's own at the ends, which no reader sees.
    async fn ends(&self, asker: &Asker) -> Result<BTreeMap<i32, i64>> {
        match self.delivery {
            Delivery::AtLeastOnce => self.topic.ends_by(asker).await,
            Delivery::ExactlyOnce => self.topic.record_ends(TAIL).await,
        }
    }
}

/// The shard of each key that is written here, as the row filters have it.
async fn shard_of_keys(client: &Client, shards: usize) -> Result<HashMap<i64, usize>> {
    let sql = "select key, (hash_record(row(key)) & 2147483647) % $1::int from (select generate_series(0::bigint, 999) \
               union all select generate_series($2::bigint, $3::bigint)) keys (key)";
    let (shards, last) = (i32::try_from(shards)?, MARKER_KEY + MARKER_KEYS - 1);
    let rows = client.query(sql, &[&shards, &MARKER_KEY, &last]).await?;
    rows.iter().map(|row| Ok((row.get(0), usize::try_from(row.get::<_, i32>(1))?))).collect()
}
