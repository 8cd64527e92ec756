//! What the records say, and whether all of them arrived in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use anyhow::{Context, Result};
use prost::Message;
use tokio_postgres::Client;

pub use logistic_package_proto::package_event::{EventType, PackageEvent};

use crate::reader::Received;

/// The event in a record's value.
///
/// # Errors
/// When the value is not a `PackageEvent`.
pub fn decode(record: &Received) -> Result<PackageEvent> {
    PackageEvent::decode(record.value.as_slice()).with_context(|| {
        format!("partition {} offset {} holds no PackageEvent", record.partition, record.offset)
    })
}

/// An event that stands in the outbox, and so was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// `package_event_id`. Ids are handed out before the commit, so they order the events of one key only where its
    /// writers wait for each other (the row lock of the package).
    pub id: i64,
    /// The key of its record.
    pub key: String,
    /// `ce_id`: what to deduplicate by.
    pub event_id: String,
}

/// Every event in the outbox. Its rows must not have been removed yet.
///
/// # Errors
/// When the table cannot be read.
pub async fn committed(client: &Client) -> Result<Vec<Committed>> {
    let query = "select package_event_id, package_id::text, event_id::text from package_event order by 1";
    let rows = client.query(query, &[]).await.context("reading the outbox")?;
    let committed =
        rows.iter().map(|row| Committed { id: row.get(0), key: row.get(1), event_id: row.get(2) });
    Ok(committed.collect())
}

/// What was committed against what arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Events that were committed.
    pub committed: usize,
    /// Of them, those that arrived at least once.
    pub published: usize,
    /// Records that repeat an event.
    pub duplicates: usize,
    /// `ce_id` of events that were committed and did not arrive.
    pub lost: Vec<String>,
    /// `ce_id` of events that arrived and were not committed.
    pub unknown: Vec<String>,
    /// `ce_id` of events that first appeared after a later one of their key.
    pub inversions: Vec<String>,
    /// Keys that were seen on more than one partition.
    pub split_keys: Vec<String>,
}

impl Audit {
    /// Compares. `received` must be in offset order within each partition, as every reader hands it out; a key's
    /// events share a partition, so that is the order of the key.
    #[must_use]
    pub fn new(committed: &[Committed], received: &[Received]) -> Self {
        let by_event: HashMap<&str, &Committed> =
            committed.iter().map(|event| (event.event_id.as_str(), event)).collect();
        let mut audit = Self { committed: committed.len(), ..Self::default() };
        let (mut seen, mut newest) = (BTreeSet::new(), HashMap::new());
        let mut partitions: BTreeMap<&[u8], BTreeSet<i32>> = BTreeMap::new();
        for record in received {
            let event_id = record.header("ce_id").unwrap_or("");
            partitions.entry(&record.key).or_default().insert(record.partition);
            if !seen.insert(event_id) {
                audit.duplicates += 1;
                continue;
            }
            match by_event.get(event_id) {
                Some(event) if event.key.as_bytes() == record.key => audit.place(event, &mut newest),
                _ => audit.unknown.push(event_id.to_owned()),
            }
        }
        let lost = committed.iter().filter(|event| !seen.contains(event.event_id.as_str()));
        audit.lost = lost.map(|event| event.event_id.clone()).collect();
        let split = partitions.iter().filter(|(_, partitions)| partitions.len() > 1);
        audit.split_keys = split.map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
        audit
    }

    /// Notes the first appearance of `event` and whether it came too late.
    fn place<'a>(&mut self, event: &'a Committed, newest: &mut HashMap<&'a str, i64>) {
        self.published += 1;
        let newest = newest.entry(&event.key).or_insert(event.id);
        if event.id < *newest {
            self.inversions.push(event.event_id.clone());
        }
        *newest = event.id.max(*newest);
    }

    /// Whether the promise held: each committed event arrived, and in order per key.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost.is_empty()
            && self.unknown.is_empty()
            && self.inversions.is_empty()
            && self.split_keys.is_empty()
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} committed, {} arrived, {} lost, ", self.committed, self.published, self.lost.len())?;
        write!(out, "{} out of order, {} duplicates", self.inversions.len(), self.duplicates)?;
        let oddities = [("unknown", &self.unknown), ("keys on two partitions", &self.split_keys)];
        for (what, found) in oddities.iter().filter(|(_, found)| !found.is_empty()) {
            write!(out, ", {} {what} (first: {})", found.len(), found[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::reader::Nulls;

    fn event(id: i64, key: &str) -> Committed {
        Committed { id, key: key.to_owned(), event_id: format!("e{id}") }
    }

    fn record(event_id: &str, key: &str, partition: i32) -> Received {
        Received {
            partition,
            offset: 0,
            key: key.as_bytes().to_vec(),
            value: Vec::new(),
            headers: vec![("ce_id".to_owned(), event_id.as_bytes().to_vec())],
            timestamp_ms: 0,
            arrived: Instant::now(),
            nulls: Nulls::default(),
        }
    }

    #[test]
    fn a_repeated_suffix_is_no_inversion() {
        let committed = [event(1, "a"), event(2, "a"), event(3, "a")];
        let received = ["e1", "e2", "e1", "e2", "e3"].map(|id| record(id, "a", 0));
        let audit = Audit::new(&committed, &received);
        assert!(audit.holds(), "{audit}");
        assert_eq!((audit.published, audit.duplicates), (3, 2));
    }

    #[test]
    fn keys_do_not_order_each_other() {
        let committed = [event(1, "a"), event(2, "b")];
        assert!(Audit::new(&committed, &[record("e2", "b", 1), record("e1", "a", 0)]).holds());
    }

    #[test]
    fn each_broken_promise_is_counted() {
        let committed = [event(1, "a"), event(2, "a"), event(3, "b"), event(4, "b")];
        let received =
            [record("e2", "a", 0), record("e1", "a", 0), record("e3", "b", 0), record("e9", "b", 1)];
        let audit = Audit::new(&committed, &received);
        assert_eq!(audit.lost, ["e4"]);
        assert_eq!(audit.inversions, ["e1"]);
        assert_eq!(audit.unknown, ["e9"]);
        assert_eq!(audit.split_keys, ["b"]);
        assert!(!audit.holds());
    }
}
