use anyhow::{Context, Result, ensure};
use harness::{Finished, PrivatePostgres, Relay};
use serde_json::Value;

use crate::case::Case;

async fn check(case: &Case, arguments: &[&str]) -> Result<Finished> {
    case.relay.command(&[&["check"], arguments].concat()).await
}

/// What `walpost check` thinks of `name`, from its JSON.
async fn finding(relay: &Relay, name: &str) -> Result<Value> {
    let said: Value =
        serde_json::from_str(&relay.command(&["check", "--json"]).await?.stdout).context("JSON")?;
    let findings = said["findings"].as_array().context("findings")?;
    findings
        .iter()
        .find(|finding| finding["name"] == name)
        .cloned()
        .with_context(|| format!("no {name}: {said}"))
}

pub(crate) async fn is(case: &Case, name: &str, verdict: &str, says: &str) -> Result<()> {
    says_of(&case.relay, name, verdict, says).await
}

/// The same of a relay with other settings than the case's.
pub(crate) async fn says_of(relay: &Relay, name: &str, verdict: &str, says: &str) -> Result<()> {
    let finding = finding(relay, name).await?;
    ensure!(finding["verdict"] == verdict, "{finding}");
    ensure!(finding.to_string().contains(says), "it does not say {says}: {finding}");
    ensure!(verdict == "ok" || finding["remedy"].is_string(), "without a remedy: {finding}");
    Ok(())
}

#[tokio::test]
async fn a_system_that_is_ready_passes_and_warnings_count_when_told_to() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let ended = check(&case, &[]).await?;
    ensure!(ended.code() == 0, "{}", ended.stdout);
    ensure!(ended.stderr.is_empty(), "nothing to warn of: {}", ended.stderr);
    for line in ["ok       postgres  wal_level", "ok       kafka     topic", "0 failed"] {
        ensure!(ended.stdout.contains(line), "no {line} in\n{}", ended.stdout);
    }
    ensure!(!ended.stdout.contains('\x1b'), "colours only on a terminal");
    // The servers of tests have one replica and no limit on what slots keep.
    ensure!(check(&case, &["--strict"]).await?.code() == 1);
    for name in ["version", "rights", "table", "publication", "slot", "id index", "payload bound"] {
        is(&case, name, "ok", "").await?;
    }
    is(&case, "WAL for slots", "warning", "max_slot_wal_keep_size").await?;
    is(&case, "in-sync replicas", "warning", "one replica").await?;
    case.topic.configure("unclean.leader.election.enable", "true").await?;
    is(&case, "leader election", "warning", "lacks what was acknowledged").await?;
    is(&case, "write access", "ok", "").await?;
    ensure!(case.topic.read_all().await?.is_empty(), "a check writes nothing");
    Ok(())
}

#[tokio::test]
async fn before_init_it_names_init_and_everything_else_that_is_missing() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_TOPIC", "no-such-topic");
    let ended = check(&case, &[]).await?;
    ensure!(ended.code() == 1, "{}", ended.stdout);
    is(&case, "slot", "failure", "walpost init").await?;
    is(&case, "topic", "failure", "no-such-topic").await?;
    is(&case, "publication", "ok", "").await
}

#[tokio::test]
async fn what_is_wrong_on_postgres_is_named_with_its_remedy() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let change = async |sql: &str| case.database.execute(sql).await;
    change("alter publication package_event_pub set (publish = 'insert, delete')").await?;
    is(&case, "publication", "warning", "publish = 'insert'").await?;
    change("alter table package_event drop constraint package_event_payload_fits_kafka").await?;
    is(&case, "payload bound", "warning", "octet_length").await?;
    change("drop publication package_event_pub").await?;
    is(&case, "publication", "failure", "walpost init").await?;
    change("alter table package_event rename package_id to parcel").await?;
    is(&case, "table", "failure", "package_id").await
}

#[tokio::test]
async fn a_server_that_is_away_does_not_hide_the_other() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let case = case.with("WALPOST_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none?sslmode=disable");
    is(&case, "connection", "failure", "127.0.0.1:1").await?;
    is(&case, "topic", "ok", "").await?;

    let case = Case::new().await?.with("WALPOST_KAFKA_BROKERS", "127.0.0.1:1");
    let case = case.with("WALPOST_CONNECT_TIMEOUT_MS", "2000");
    is(&case, "wal_level", "ok", "").await?;
    let said: Value = serde_json::from_str(&check(&case, &["--json"]).await?.stdout)?;
    let kafka = said["findings"].as_array().into_iter().flatten().find(|finding| finding["side"] == "kafka");
    ensure!(kafka.is_some_and(|finding| finding["verdict"] == "failure"), "{said}");
    Ok(())
}

/// As services of Amazon have it: the attribute stays off there.
#[tokio::test]
async fn the_right_to_replicate_may_come_by_membership() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    case.relay.init().await?;
    let role = case.database.relay_role();
    case.database.execute(&format!("alter role {role} noreplication")).await?;
    is(&case, "rights", "failure", "replication").await?;
    case.database.execute(&format!("create role rds_replication; grant rds_replication to {role}")).await?;
    is(&case, "rights", "ok", "").await
}
