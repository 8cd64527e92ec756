use anyhow::{Context, Result};
use harness::wait_until;
use serde_json::Value;

use crate::case::{Case, SOON};

async fn json(case: &Case) -> Result<(i32, Value)> {
    let ended = case.relay.command(&["status", "--json"]).await?;
    let status = serde_json::from_str(&ended.stdout).with_context(|| ended.stderr.clone())?;
    Ok((ended.code(), status))
}

#[tokio::test]
async fn status_shows_slot_and_relay_on_one_screen() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_SAMPLE_INTERVAL_MS", "200");
    let _relay = case.relay.init_and_run().await?;
    case.commit(7, 2, 1).await?;
    case.audit().await?;
    wait_until("the relay has counted them", SOON, async || {
        Ok(json(&case).await?.1["relay"]["relay"]["events_published"] == 7)
    })
    .await?;
    let (code, status) = json(&case).await?;
    assert_eq!(code, 0, "{status}");
    assert_eq!(status["relay"]["state"], "streaming");
    assert_eq!(
        (&status["slot"]["active"], &status["slot"]["wal_status"]),
        (&true.into(), &"reserved".into())
    );
    assert_eq!(status["problem"], Value::Null);
    assert_eq!(status["backfilled"], true);

    let screen = case.relay.command(&["status"]).await?.stdout;
    for shown in [
        "relay       streaming for",
        "database",
        "slot",
        "retained",
        "window",
        "kafka",
        "7 published",
        "none",
    ] {
        assert!(screen.contains(shown), "{shown} is not in\n{screen}");
    }
    assert!(!screen.contains('\x1b'), "colours in a pipe");
    Ok(())
}

#[tokio::test]
async fn status_without_a_relay_says_so_and_fails() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let (code, status) = json(&case).await?;
    assert_eq!(code, 1);
    assert!(status["problem"].as_str().is_some_and(|problem| problem.contains("walpost run")), "{status}");
    assert_eq!(status["relay"], Value::Null);
    assert_eq!(status["slot"]["active"], false);
    Ok(())
}

#[tokio::test]
async fn status_tells_the_reason_and_the_remedy_of_a_halt() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute("alter publication package_event_pub drop table package_event").await?;
    relay.halted().await?;
    let (code, status) = json(&case).await?;
    assert_eq!(code, 1);
    let problem = status["problem"].as_str().unwrap_or_default();
    assert!(problem.starts_with("halted: ") && problem.contains("alter publication"), "{problem}");
    Ok(())
}

#[tokio::test]
async fn status_without_postgres_shows_what_the_relay_knows() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    let away = case.relay.clone().env("WALPOST_DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/none");
    let ended = away.command(&["status"]).await?;
    assert_eq!(ended.code(), 1);
    assert!(ended.stdout.contains("streaming") && ended.stdout.contains("cannot"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("hunter2"));
    Ok(())
}
