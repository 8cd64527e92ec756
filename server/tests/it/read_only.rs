//! A database that cannot be written for a while: a failover under way, a disk that is nearly full.

use std::time::Duration;

use anyhow::Result;
use harness::database::{by_way_of, with_database};
use harness::http::send;
use harness::{Database, PrivatePostgres, Proxy, wait_until};
use tokio::time::Instant;

use crate::support::{self, DEADLINE, Setup, TestServer, settings};

const BOX: &str = r#"{"Title":"box","Material":"wood","MaximumVolume":700.5}"#;

/// "Within seconds", on a machine that does other things as well.
const SECONDS: Duration = Duration::from_secs(5);

async fn post(server: &TestServer) -> Result<u16> {
    Ok(send(server.addresses.rest, "POST", "/v1/packages", &[], BOX).await?.status)
}

async fn get(server: &TestServer) -> Result<u16> {
    Ok(send(server.addresses.rest, "GET", "/v1/packages/1", &[], "").await?.status)
}

async fn is_written_again_within_seconds(server: &TestServer) -> Result<()> {
    let since = Instant::now();
    wait_until("it is written again", DEADLINE, async || Ok(post(server).await? == 200)).await?;
    wait_until("it is ready again", DEADLINE, async || Ok(server.status("/ready").await?.0 == 200)).await?;
    assert!(since.elapsed() < SECONDS, "{:?}", since.elapsed());
    Ok(())
}

/// Ends the API's sessions, so that the next ones have what the database says now.
async fn end_sessions(database: &Database) -> Result<()> {
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'logistic-package-api'";
    database.execute(end).await
}

async fn set_read_only(database: &Database, to: &str) -> Result<()> {
    let client = database.client().await?;
    client.batch_execute("set default_transaction_read_only = off").await?;
    let set = format!("alter database {} set default_transaction_read_only = {to}", database.name());
    Ok(client.batch_execute(&set).await?)
}

#[tokio::test]
async fn what_was_read_only_is_written_within_seconds_of_the_end_of_it() -> Result<()> {
    let setup = Setup::new().await?;
    assert_eq!(post(&setup.server).await?, 200);
    set_read_only(&setup.database, "on").await?;
    end_sessions(&setup.database).await?;
    // The first of them may still meet the session that was ended.
    wait_until("it is not ready", DEADLINE, async || Ok(setup.server.status("/ready").await?.0 == 503))
        .await?;
    // Every connection of the pool is made, or looked at again, while nothing can be written.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let (code, text) = setup.server.status("/ready").await?;
        assert!(code == 503 && text.contains("read-only"), "{code} {text}");
        let statuses = futures::future::join_all((0..20).map(|_| post(&setup.server))).await;
        for status in statuses {
            assert_eq!(status?, 503);
        }
        assert_eq!(get(&setup.server).await?, 200, "what is there can be read");
    }
    // Nobody ends the sessions now: those that were made meanwhile stay read-only for as long as they are kept.
    set_read_only(&setup.database, "off").await?;
    is_written_again_within_seconds(&setup.server).await
}

#[tokio::test]
async fn a_pool_that_was_led_to_a_standby_comes_back() -> Result<()> {
    let primary = PrivatePostgres::start().await?;
    let standby = primary.standby_with(&[]).await?;
    let database = Database::fresh(primary.url()).await?;
    let address = Proxy::start(primary.addr()?).await?;
    let url = by_way_of(&with_database(primary.url(), database.name())?, address.addr())?;
    let server = TestServer::start(settings(&url, &[])).await?;
    assert_eq!(post(&server).await?, 200);
    let replica = with_database(standby.url(), database.name())?;
    wait_until("the standby has the package", DEADLINE, async || {
        let Ok(replica) = harness::database::connect(&replica).await else { return Ok(false) };
        Ok(replica.query("select from package", &[]).await.is_ok_and(|rows| rows.len() == 1))
    })
    .await?;

    address.lead_to(standby.addr()?);
    address.reset();
    wait_until("it is not ready", DEADLINE, async || {
        Ok(server.status("/ready").await?.1.contains("the database is a standby"))
    })
    .await?;
    assert_eq!(post(&server).await?, 503);
    assert_eq!(get(&server).await?, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;

    // The connections to the standby stay whole, and answer every ping.
    address.lead_to(primary.addr()?);
    is_written_again_within_seconds(&server).await
}

/// What an operator, or a service whose disk is nearly full, has set is not overridden.
#[tokio::test]
async fn a_database_that_is_to_be_read_only_is_not_written() -> Result<()> {
    let database = support::database().await?;
    let server = TestServer::start(settings(&database.url, &[])).await?;
    set_read_only(&database, "on").await?;
    for pooling in ["session", "transaction"] {
        let server = TestServer::start(settings(&database.url, &["--database-pooling", pooling])).await;
        let error = server.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("read-only"), "{pooling}: {error}");
    }
    end_sessions(&database).await?;
    wait_until("it is not ready", DEADLINE, async || Ok(server.status("/ready").await?.0 == 503)).await?;
    assert_eq!(post(&server).await?, 503);
    let count: i64 = database.client().await?.query_one("select count(*) from package", &[]).await?.get(0);
    assert_eq!(count, 0);
    Ok(())
}
