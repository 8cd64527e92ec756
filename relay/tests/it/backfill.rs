use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use harness::{Received, events, wait_until};

use crate::case::{Case, SOON};

/// The ids on each partition in the order of their first appearance.
fn first_appearances(received: &[Received]) -> Result<BTreeMap<i32, Vec<u64>>> {
    let (mut seen, mut ids) = (HashSet::new(), BTreeMap::new());
    for record in received {
        let id = events::decode(record)?.id;
        if seen.insert(id) {
            ids.entry(record.partition).or_insert_with(Vec::new).push(id);
        }
    }
    Ok(ids)
}

#[tokio::test]
async fn rows_from_before_the_slot_are_published_first_in_id_order_and_once() -> Result<()> {
    let case = Case::new().await?;
    case.commit(1_000, 10, 100).await?;
    case.relay.init().await?;
    // In the stream, and in the table that is read first: these may be repeated.
    case.commit(100, 10, 10).await?;
    let mut relay = case.relay.run_ready().await?;
    case.commit(100, 10, 10).await?;
    let audit = case.audit().await?;
    assert_eq!(audit.published, 1_200);
    assert!(audit.duplicates <= 200, "rows from before the slot are not in the stream: {audit}");
    for (partition, ids) in first_appearances(&case.topic.read_all().await?)? {
        assert!(ids.is_sorted(), "partition {partition}");
    }

    relay.terminate(SOON).await?;
    let _relay = case.relay.run_ready().await?;
    case.commit_one(1).await?;
    let again = case.audit().await?;
    assert_eq!(again.duplicates, audit.duplicates, "what is finished is not done again");
    Ok(())
}

#[tokio::test]
async fn a_relay_killed_while_it_publishes_earlier_rows_loses_none() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_WINDOW_RECORDS", "200");
    case.commit(20_000, 10, 20_000).await?;
    case.relay.init().await?;
    let mut relay = case.relay.run()?;
    wait_until("some have arrived", SOON, async || {
        relay.expect_running()?;
        Ok(case.topic.ends().await?.values().sum::<i64>() > 0)
    })
    .await?;
    relay.kill()?;
    let _relay = case.relay.run_ready().await?;
    case.commit(100, 10, 10).await?;
    assert_eq!(case.audit().await?.published, 20_100);
    Ok(())
}

#[tokio::test]
async fn a_lost_slot_loses_no_event_that_the_table_holds() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(100, 10, 10).await?;
    relay.terminate(SOON).await?;
    case.database.drop_slot(&case.database.slot_name()).await?;
    case.commit(100, 10, 10).await?;

    case.relay.init().await?;
    let _relay = case.relay.run_ready().await?;
    case.commit(100, 10, 10).await?;
    assert_eq!(case.audit().await?.published, 300);
    Ok(())
}

#[tokio::test]
async fn a_slot_that_someone_else_made_is_taken_over_with_the_rows_before_it() -> Result<()> {
    let case = Case::new().await?;
    case.commit(100, 10, 10).await?;
    let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    case.client().await?.execute(create, &[&case.database.slot_name()]).await?;
    case.commit(100, 10, 10).await?;
    let _relay = case.relay.init_and_run().await?;
    assert_eq!(case.audit().await?.published, 200);
    Ok(())
}
