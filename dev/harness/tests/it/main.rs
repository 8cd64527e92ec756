//! The harness against real servers: what it makes is there, and what it drops is gone.

use std::time::Duration;

use anyhow::Result;
use harness::{Database, PrivatePostgres, Stack, Topic};

mod cluster;
mod kafka_proxy;

#[tokio::test]
async fn a_dropped_database_takes_its_slots_with_it() -> Result<()> {
    let stack = Stack::shared().await?;
    let database = Database::with_outbox(&stack.database_url).await?;
    let slot = database.slot_name();
    let client = database.client().await?;
    client.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot]).await?;
    drop(database);

    let server = harness::database::connect(&stack.database_url).await?;
    let left = server.query("select from pg_replication_slots where slot_name = $1", &[&slot]).await?;
    assert!(left.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_fresh_topic_is_empty_and_a_read_that_is_in_vain_says_so() -> Result<()> {
    let stack = Stack::shared().await?;
    let topic = Topic::fresh(&stack.brokers, 3).await?;
    assert!(topic.read_all().await?.is_empty());
    let error = topic.read(1, Duration::from_millis(100)).await.expect_err("nothing was written");
    assert!(error.to_string().contains("for 1 records"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_private_server_comes_back_with_its_data() -> Result<()> {
    let postgres = PrivatePostgres::start_with(&["max_wal_senders=3"]).await?;
    let database = Database::fresh(postgres.url()).await?;
    database.execute("create table t(); insert into t default values").await?;
    postgres.kill().await?;
    assert!(database.client().await.is_err());
    postgres.start_again().await?;
    let client = database.client().await?;
    assert_eq!(client.query("select from t", &[]).await?.len(), 1);
    let senders: String = client.query_one("show max_wal_senders", &[]).await?.get(0);
    assert_eq!(senders, "3");
    Ok(())
}
