use std::time::Duration;

use anyhow::Result;
use harness::wait::holds_for;
use harness::{Database, PrivatePostgres, wait_until};

use crate::case::{Case, SOON};

/// Small moves of a quiet slot are not worth a write: what the relay lets stand.
const UNCONFIRMED_MAX: u64 = 1 << 20;

/// Longer than any timer of the relay.
const QUIET: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_idle_slot_advances_while_a_neighbour_writes() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let _relay = case.relay.init_and_run().await?;
    let neighbour = Database::fresh(postgres.url()).await?;
    neighbour.execute("create table noise (text text)").await?;
    let before = case.confirmed().await?;
    neighbour.execute("insert into noise select repeat('x', 1000) from generate_series(1, 20000)").await?;
    let end = case.wal_end().await?;
    assert!(end - before > 10 * UNCONFIRMED_MAX, "the neighbour wrote too little to tell");
    case.confirmed_to(end - UNCONFIRMED_MAX).await
}

#[tokio::test]
async fn an_idle_system_writes_no_wal() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let _relay = case.relay.init_and_run().await?;
    case.commit(100, 5, 1).await?;
    case.audit().await?;
    // Postgres itself has some things to write after a burst: a snapshot of running transactions, a checkpoint.
    wait_until("the log comes to rest", 2 * SOON, async || {
        let (end, confirmed) = (case.wal_end().await?, case.confirmed().await?);
        let at_rest = holds_for("nothing is written", QUIET, async || Ok(case.wal_end().await? == end)).await;
        Ok(at_rest.is_ok() && case.confirmed().await? == confirmed)
    })
    .await
}
