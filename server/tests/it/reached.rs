//! How the database is reached: its addresses in turn, and a password that is rotated.

use anyhow::{Context, Result};
use harness::database::{connect, with_database};
use harness::http::send;
use harness::port::Silent;
use harness::{Database, PrivatePostgres, SecretFile, wait_until};

use crate::support::{self, DEADLINE, TestServer, settings, settings_with};

const BOX: &str = r#"{"Title":"box","Material":"wood","MaximumVolume":700.5}"#;

async fn post(server: &TestServer) -> Result<u16> {
    Ok(send(server.addresses.rest, "POST", "/v1/packages", &[], BOX).await?.status)
}

/// `url`, with these places in place of its own.
fn at(url: &str, places: &[String]) -> Result<String> {
    let (before, rest) = url.rsplit_once('@').context("a URL")?;
    let (_, name) = rest.split_once('/').context("a URL with a database")?;
    Ok(format!("{before}@{}/{name}", places.join(",")))
}

#[tokio::test]
async fn of_several_servers_the_primary_is_taken_and_the_one_that_is_promoted() -> Result<()> {
    let primary = PrivatePostgres::start().await?;
    let standby = primary.standby_with(&[]).await?;
    let database = Database::fresh(primary.url()).await?;
    let gone = Silent::new()?;
    let places = [gone.addr(), standby.addr()?, primary.addr()?].map(|addr| addr.to_string());
    let server = TestServer::start(settings(&at(&database.url, &places)?, &[])).await?;
    assert_eq!(post(&server).await?, 200);
    assert_eq!(server.status("/ready").await?.0, 200);

    let replica = with_database(standby.url(), database.name())?;
    wait_until("the standby has the package", DEADLINE, async || {
        let Ok(replica) = connect(&replica).await else { return Ok(false) };
        Ok(replica.query("select from package", &[]).await.is_ok_and(|rows| rows.len() == 1))
    })
    .await?;
    primary.kill().await?;
    connect(standby.url()).await?.batch_execute("select pg_promote()").await?;
    wait_until("the new primary is written", DEADLINE, async || Ok(post(&server).await? == 200)).await
}

#[tokio::test]
async fn a_start_where_none_of_several_servers_is_the_primary_says_so() -> Result<()> {
    let primary = PrivatePostgres::start().await?;
    let standby = primary.standby_with(&[]).await?;
    let places = [standby.addr()?, standby.addr()?].map(|addr| addr.to_string());
    let settings = settings(&at(standby.url(), &places)?, &["--migrate=false"]);
    let error = logistic_package_api::serve::Server::start(settings).await.err().context("it started")?;
    let text = error.to_string();
    assert!(text.contains("standby") && text.contains("primary"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_password_that_is_rotated_is_read_anew_and_nobody_restarts_anything() -> Result<()> {
    let database = support::database().await?;
    let role = format!("rotating_{}", database.name());
    let make = format!("create role {role} login superuser password 'first'");
    database.execute(&make).await?;
    let (_, place) = database.url.rsplit_once('@').context("a URL")?;
    let url = |password: &str| format!("postgres://{role}:{password}@{place}");
    let file = SecretFile::new(&role, &url("first"))?;
    let path = file.path().to_str().context("a path")?;
    let variables = [("PACKAGE_API_DATABASE_URL_FILE", path)];
    let server = TestServer::start(settings_with(&database.url, &[], &variables)).await?;
    assert_eq!(post(&server).await?, 200);

    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
    database.execute(&format!("alter role {role} password 'second'; {end}")).await?;
    wait_until("the refusal is said", DEADLINE, async || Ok(server.status("/ready").await?.0 == 503)).await?;
    file.write(&url("second"))?;
    wait_until("it is written again", DEADLINE, async || Ok(post(&server).await? == 200)).await?;

    // What makes no sense leaves what it said last.
    file.write("")?;
    database.execute(&end).await?;
    wait_until("it is written with what was said last", DEADLINE, async || Ok(post(&server).await? == 200))
        .await?;
    server.stop().await?;
    database.execute(&format!("drop owned by {role}; drop role {role}")).await
}
