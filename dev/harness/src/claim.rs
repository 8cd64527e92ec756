//! Topics whose names a test cannot choose, as when it tries settings that name them.
//!
//! Tests run beside each other on one broker, in one process or in several, and may claim the same name. So a name is
//! locked in the shared Postgres, which frees it when the test ends, however it ends. What was there before is left as
//! it is, since the broker may be somebody's: its records are not counted, and only a topic that was made is deleted.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::database;
use crate::reader::Received;
use crate::stack::Stack;
use crate::topic::Topic;
use crate::wait::{wait_for, wait_until};

/// Every test in front takes its seconds, and there may be ten of them on a busy machine.
const TURN_DEADLINE: Duration = Duration::from_secs(600);

/// The broker has yet to forget a topic of the same name that the last test deleted.
const EMPTY_DEADLINE: Duration = Duration::from_secs(60);

/// Topics of given names, with one partition each, for one test at a time.
pub struct Claim {
    // In this order: the next test is let in when the topics are gone.
    topics: Vec<Claimed>,
    _turn: Client,
}

struct Claimed {
    topic: Topic,
    /// How many records there were before.
    before: i64,
}

impl Claim {
    /// Waits until nobody else has one of `names`, and makes the topics that are missing.
    ///
    /// # Errors
    /// When the turn does not come, or a topic cannot be made or has more than one partition.
    pub async fn new(stack: &Stack, names: &[&str]) -> Result<Self> {
        let mut names = names.to_vec();
        // In the same order for all, so that no two wait for each other.
        names.sort_unstable();
        names.dedup();
        let turn = database::connect(&stack.database_url).await?;
        let mut topics = Vec::new();
        for name in &names {
            wait_for_turn(&turn, name).await?;
        }
        for name in &names {
            topics.push(Claimed::new(name, &stack.brokers).await?);
        }
        Ok(Self { topics, _turn: turn })
    }

    /// How many records have arrived on all of them since.
    ///
    /// # Errors
    /// When Kafka does not say.
    pub async fn count(&self) -> Result<usize> {
        let mut count = 0;
        for claimed in &self.topics {
            count += claimed.topic.ends().await?.values().sum::<i64>() - claimed.before;
        }
        usize::try_from(count).context("records are gone from a topic")
    }

    /// Topic by topic, in the order of their names, the records that have arrived since.
    ///
    /// # Errors
    /// When Kafka does not hand them out.
    pub async fn read_all(&self) -> Result<Vec<(String, Vec<Received>)>> {
        let mut read = Vec::new();
        for Claimed { topic, before } in &self.topics {
            let mut records = topic.read_all().await?;
            records.drain(..usize::try_from(*before)?.min(records.len()));
            read.push((topic.name.clone(), records));
        }
        Ok(read)
    }
}

impl Claimed {
    async fn new(name: &str, brokers: &str) -> Result<Self> {
        let topic = Topic::made_or_found(name, brokers).await?;
        let held = async || anyhow::Ok(topic.ends().await?.values().sum::<i64>());
        if topic.was_found() {
            let before = held().await?;
            return Ok(Self { topic, before });
        }
        let empty = async || Ok(held().await? == 0);
        wait_until(&format!("the new topic {name} is empty"), EMPTY_DEADLINE, empty).await?;
        Ok(Self { topic, before: 0 })
    }
}

/// The lock is the session's: it goes with its connection.
async fn wait_for_turn(turn: &Client, name: &str) -> Result<()> {
    let lock = "select pg_try_advisory_lock(hashtext('harness.topic.' || $1))";
    wait_for(&format!("no other test uses the topic {name}"), TURN_DEADLINE, async || {
        let locked = turn.query_one(lock, &[&name]).await?.get(0);
        Ok(Some(()).filter(|()| locked))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::Written;

    #[tokio::test]
    async fn what_was_on_a_topic_before_is_neither_counted_nor_deleted() -> Result<()> {
        let stack = Stack::shared().await?;
        let found = Topic::fresh(&stack.brokers, 1).await?;
        let made = Topic::unused_name();
        found.write(&[Written::text("k", "before")]).await?;
        let claim = Claim::new(stack, &[&found.name, &made]).await?;
        assert_eq!(claim.count().await?, 0);
        found.write(&[Written::text("k", "after")]).await?;
        assert_eq!(claim.count().await?, 1);
        let read = claim.read_all().await?;
        let values = |name: &str| {
            let records = read.iter().filter(|(topic, _)| topic == name).flat_map(|(_, records)| records);
            records.map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!((values(&found.name), values(&made)), (vec!["after".to_owned()], vec![]));
        drop(claim);
        assert_eq!(found.read_all().await?.len(), 2);
        // It was deleted, and can be made again.
        let again = Claim::new(stack, &[&made]).await?;
        assert!(!again.topics[0].topic.was_found());
        Ok(())
    }
}
