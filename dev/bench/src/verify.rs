//! Whether everything arrived, and in order: a figure counts for nothing otherwise.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Database, Received, Topic};

/// A topic that hands out nothing for so long has nothing more.
const SILENCE: Duration = Duration::from_secs(20);

/// Every event of the table is in the topic, none other is, and each key's come in the order of their commits.
pub(crate) async fn complete(database: &Database, topic: &Topic) -> Result<()> {
    let client = database.client().await?;
    let rows = client.query("select event_id from package_event", &[]).await?;
    let mut missing: HashSet<u128> = rows.iter().map(|row| row.get::<_, uuid::Uuid>(0).as_u128()).collect();
    let all = missing.clone();
    let mut newest: HashMap<Vec<u8>, Place> = HashMap::new();
    let reader = topic.reader()?;
    while !missing.is_empty() {
        let record = reader.next(SILENCE).await?;
        let record = record.with_context(|| format!("{} events never arrived", missing.len()))?;
        let id: uuid::Uuid = record.header("ce_id").context("ce_id")?.parse()?;
        ensure!(all.contains(&id.as_u128()), "the event {id} was never committed");
        if missing.remove(&id.as_u128()) {
            let place = place(&record)?;
            if let Some(earlier) = newest.insert(record.key.clone(), place) {
                ensure!(earlier < place, "the event {id} came after a later one of its key");
            }
        }
    }
    Ok(())
}

/// Where an event stands in the log.
type Place = (u64, u64);

fn place(record: &Received) -> Result<Place> {
    let lsn = record.header("wal-lsn").context("wal-lsn")?;
    let (high, low) = lsn.split_once('/').context("an LSN")?;
    let lsn = (u64::from_str_radix(high, 16)? << 32) + u64::from_str_radix(low, 16)?;
    Ok((lsn, record.header("wal-seq").context("wal-seq")?.parse()?))
}
