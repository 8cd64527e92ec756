use anyhow::Result;
use harness::http::Response;
use harness::{Received, RelayProcess, Topic};

use crate::case::Case;
use crate::mapping::around;

mod facts;
mod made;
mod unknown;

/// A case whose rows name their topics.
async fn of_rows() -> Result<Case> {
    let mut case =
        around("create table outbox (id bigserial primary key, topic text, key text, payload text)").await?;
    case.relay = case.relay.without_env("WALPOST_TOPIC");
    Ok(case)
}

/// A row for a topic.
fn insert(topic: &str, value: &str) -> String {
    format!("insert into outbox (topic, key, payload) values ('{topic}', 'k', '{value}')")
}

fn values(records: &[Received]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
}

/// A topic that walpost made, or is to make: it goes with the test.
fn of_walpost(case: &Case, name: &str, partitions: i32) -> Topic {
    Topic::expected(name, &case.topic.brokers, partitions)
}

/// The relay is not ready, and says all of these.
async fn waits(relay: &mut RelayProcess, parts: &[&str]) -> Result<()> {
    let says =
        |answer: &Response| answer.status == 503 && parts.iter().all(|part| answer.body.contains(part));
    relay.status(&format!("it waits and says {parts:?}"), says).await.map(drop)
}
