use anyhow::{Result, ensure};
use harness::{Database, PrivatePostgres, Stack, Topic};

use crate::case::{Case, SOON};
use crate::halt::halts;

/// `init` fails with exit code 1 and names `names` on standard error.
async fn init_fails(case: &Case, names: &[&str]) -> Result<()> {
    let ended = case.relay.command(&["init"]).await?;
    ensure!(ended.code() == 1, "exit code {}: {}", ended.code(), ended.stderr);
    for name in names {
        ensure!(ended.stderr.contains(name), "init does not name {name}: {}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_wal_level_below_logical_is_named() -> Result<()> {
    let postgres = PrivatePostgres::start_with(&["wal_level=replica"]).await?;
    let case = Case::on_postgres(postgres.url()).await?;
    init_fails(&case, &["wal_level", "replica", "logical"]).await?;
    halts(&mut case.relay.run()?, &["wal_level", "logical"]).await
}

#[tokio::test]
async fn a_missing_table_is_named() -> Result<()> {
    let stack = Stack::shared().await?;
    let case = Case::of(Database::fresh(&stack.database_url).await?, &stack.brokers).await?;
    init_fails(&case, &["public.package_event"]).await?;
    halts(&mut case.relay.run()?, &["public.package_event"]).await
}

#[tokio::test]
async fn a_missing_publication_is_named() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    case.database.execute("drop publication package_event_pub").await?;
    halts(&mut case.relay.run()?, &["package_event_pub", "walpost init"]).await
}

#[tokio::test]
async fn a_missing_slot_is_named_and_never_made_by_run() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let slot = case.database.slot_name();
    case.database.drop_slot(&slot).await?;
    halts(&mut case.relay.run()?, &[&slot, "walpost init"]).await?;
    let slots = "select from pg_replication_slots where slot_name = $1";
    assert!(case.client().await?.query(slots, &[&slot]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_database_without_init_halts_with_the_remedy() -> Result<()> {
    let case = Case::new().await?;
    halts(&mut case.relay.run()?, &["walpost init"]).await
}

#[tokio::test]
async fn a_wrong_password_is_said_and_waited_for_and_not_told() -> Result<()> {
    let case = Case::new().await?;
    let (user, rest) = case.database.url.rsplit_once('@').unwrap_or_default();
    let user = user.rsplit_once(':').map_or(user, |(user, _)| user);
    let case_url = format!("{user}:hunter2@{rest}");
    let case = case.with("WALPOST_DATABASE_URL", &case_url);
    let mut relay = case.relay.run()?;
    let refused = |answer: &harness::http::Response| {
        answer.status == 503 && answer.body.contains("\"retrying\"") && answer.body.contains("pg_hba.conf")
    };
    relay.status("the refusal is said", refused).await?;
    assert!(!relay.log().contains("hunter2"), "{}", relay.log_tail());
    Ok(())
}

#[tokio::test]
async fn a_slot_of_another_plugin_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let slot = case.database.slot_name();
    case.database.drop_slot(&slot).await?;
    let create = "select pg_create_logical_replication_slot($1, 'test_decoding')";
    case.client().await?.execute(create, &[&slot]).await?;
    init_fails(&case, &[&slot, "test_decoding"]).await?;
    halts(&mut case.relay.run()?, &[&slot, "test_decoding"]).await
}

#[tokio::test]
async fn a_slot_of_another_database_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let slot = case.database.slot_name();
    case.database.drop_slot(&slot).await?;
    let other = Database::fresh(&Stack::shared().await?.database_url).await?;
    let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    other.client().await?.execute(create, &[&slot]).await?;
    init_fails(&case, &[&slot, other.name()]).await?;
    halts(&mut case.relay.run()?, &[&slot, other.name()]).await
}

#[tokio::test]
async fn an_unknown_topic_is_waited_for() -> Result<()> {
    let case = Case::new().await?;
    let name = Topic::unused_name();
    let case = case.with("WALPOST_TOPIC", &name);
    case.relay.init().await?;
    let mut relay = case.relay.run()?;
    let waits = |response: &harness::http::Response| {
        response.status == 503 && response.body.contains("retrying") && response.body.contains(&name)
    };
    relay.status("the relay names the missing topic", waits).await?;
    case.commit_one(1).await?;
    let topic = Topic::named(&name, &case.topic.brokers, 2).await?;
    relay.ready().await?;
    assert_eq!(topic.read(1, SOON).await?[0].key, b"1");
    Ok(())
}

#[tokio::test]
async fn init_gives_up_on_the_slot_after_its_time_out_and_names_the_open_transaction() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_SLOT_TIMEOUT_MS", "1000");
    let writer = case.client().await?;
    writer.batch_execute("set application_name = 'a_long_report'; begin").await?;
    writer.batch_execute("insert into package_event (package_id, event_type) values (1, 'Removed')").await?;
    init_fails(&case, &["make the replication slot", "waits for transactions"]).await?;
    writer.batch_execute("commit").await?;
    Ok(())
}
