//! `walpost replay`: rows again, as they were, and never by mistake.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use harness::{Received, Topic, wait_until};

use crate::audit::published;
use crate::case::{Case, SOON};

/// Key, value and headers.
type Content = (Vec<u8>, Vec<u8>, BTreeMap<String, Vec<u8>>);

/// Key, value and all headers but those that say where a row stands, by `ce_id`.
fn contents(records: &[Received]) -> BTreeMap<String, Content> {
    let content = |record: &Received| {
        let own = |name: &str| name.starts_with("wal-") || name.starts_with("walpost-");
        let headers = record.headers.iter().filter(|(name, _)| !own(name)).cloned().collect();
        let id = record.header("ce_id").unwrap_or_default().to_owned();
        (id, (record.key.clone(), record.value.clone(), headers))
    };
    records.iter().map(content).collect()
}

/// Everything that walpost remembers, and where the slot is.
async fn remembered(case: &Case) -> Result<String> {
    let sql = "select (select jsonb_agg(to_jsonb(s)) from walpost.slot s)::text || \
               (select jsonb_agg(to_jsonb(o)) from walpost.outbox o)::text || \
               (select confirmed_flush_lsn from pg_replication_slots where slot_name = $1)::text";
    Ok(case.client().await?.query_one(sql, &[&case.database.slot_name()]).await?.get(0))
}

#[tokio::test]
async fn rows_come_again_as_they_were_in_the_order_of_the_table_and_say_so() -> Result<()> {
    let case = published(200, 7).await?;
    let first = case.topic.read_all().await?;
    let other = Topic::fresh(&case.topic.brokers, 3).await?;
    let before = remembered(&case).await?;
    let condition = "package_event_id > 50";
    let sent = case.relay.command(&["replay", "--where", condition, "--to", &other.name]).await?.success()?;
    ensure!(
        sent.stdout.contains(&format!("rows     150 of public.package_event, to {}", other.name)),
        "{}",
        sent.stdout
    );
    ensure!(sent.stdout.contains("sent     150 rows"), "{}", sent.stdout);
    ensure!(remembered(&case).await? == before, "slot or ledger were touched");
    let again = other.read_all().await?;
    let (first, again_by_id) = (contents(&first), contents(&again));
    ensure!(again.len() == 150 && again_by_id.len() == 150, "{}", again.len());
    for (id, content) in &again_by_id {
        ensure!(first.get(id) == Some(content), "{id} is another than it was: {content:?}");
    }
    let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for record in &again {
        ensure!(record.header("walpost-replay").is_some_and(|id| id.ends_with('Z')), "{record:?}");
        ensure!(record.header("wal-lsn").is_none() && record.header("wal-seq").is_none(), "{record:?}");
        let id = harness::events::decode(record)?.id;
        ensure!(last.insert(record.key.clone(), id).is_none_or(|before| before < id), "out of order");
    }
    ensure!(case.topic.read_all().await?.len() == 200, "they went to their own topic as well");
    let audit = case.relay.command(&["audit", "--json", "--topics", &other.name]).await?.success()?.stdout;
    let audit: serde_json::Value = serde_json::from_str(&audit)?;
    ensure!(audit["records"]["replayed"] == 150 && audit["records"]["altered"] == 0, "{audit:#}");

    // What was lost is there again, and the audit says so.
    let partition = case.topic.read_all().await?[0].partition;
    let end = case.topic.ends().await?[&partition];
    case.topic.delete_records(partition, end).await?;
    ensure!(case.relay.command(&["audit"]).await?.code() == 1);
    case.relay.command(&["replay", "--where", "true", "--rate", "0"]).await?.success()?;
    let audit = case.relay.command(&["audit", "--json", "--strict"]).await?.success()?.stdout;
    let audit: serde_json::Value = serde_json::from_str(&audit)?;
    ensure!(audit["records"]["replayed"] == 200 && audit["rows"]["present"] == 200, "{audit:#}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_by_mistake() -> Result<()> {
    let case = published(20, 3).await?;
    for (arguments, part) in [
        (vec!["replay"], "--where"),
        (vec!["replay", "--where", " "], "--where: say which rows"),
        (vec!["replay", "--where", "no_column"], "no_column"),
        (vec!["replay", "--where", "true", "--to", "a b"], "--to"),
        (vec!["replay", "--where", "true", "--rate", "fast"], "--rate"),
    ] {
        let ended = case.relay.command(&arguments).await?;
        ensure!(ended.code() == 2 && ended.stderr.contains(part), "{arguments:?}: {}", ended.stderr);
    }
    // Whatever a condition calls, nothing is changed.
    let writes = "create function writes() returns boolean language plpgsql as \
                  $$ begin delete from package_event; return true; end $$";
    case.database.execute(writes).await?;
    for command in ["replay", "audit"] {
        let ended = case.relay.command(&[command, "--where", "writes()"]).await?;
        ensure!(ended.code() == 1 && ended.stderr.contains("read-only"), "{}", ended.stderr);
    }
    // Nor does it end before its end, and begin another statement.
    let two = "true)) x; set default_transaction_read_only = off; commit; delete from package_event; \
               select * from (select 1 where (true";
    for command in ["replay", "audit"] {
        for (condition, part) in [(two, "multiple commands"), ("package_id = $1", "parameters")] {
            let ended = case.relay.command(&[command, "--where", condition]).await?;
            ensure!(ended.code() == 2 && ended.stderr.contains(part), "{command}: {}", ended.stderr);
        }
    }
    let rows = case.client().await?.query_one("select count(*) from package_event", &[]).await?;
    ensure!(rows.get::<_, i64>(0) == 20, "rows were deleted");
    let looked =
        case.relay.command(&["replay", "--where", "package_id = 1", "--dry-run"]).await?.success()?;
    for part in ["rows     7 of public.package_event", "7 records", "nothing was sent"] {
        ensure!(looked.stdout.contains(part), "{part}: {}", looked.stdout);
    }
    let nowhere = Topic::unused_name();
    let ended = case.relay.command(&["replay", "--where", "true", "--to", &nowhere]).await?;
    ensure!(ended.code() == 1 && ended.stderr.contains(&nowhere), "{}", ended.stderr);
    let none = case.relay.command(&["replay", "--where", "false"]).await?.success()?;
    ensure!(none.stdout.contains("there are no such rows"), "{}", none.stdout);
    ensure!(case.topic.read_all().await?.len() == 20);
    Ok(())
}

#[tokio::test]
async fn a_stop_ends_it_with_where_it_stood_and_the_rest_can_be_asked_for() -> Result<()> {
    let case = published(400, 5).await?;
    let other = Topic::fresh(&case.topic.brokers, 1).await?;
    let arguments = ["replay", "--where", "true", "--to", &other.name, "--rate", "50"];
    let mut replay = case.relay.start(&arguments)?;
    let some = wait_until("some have come", SOON, async || {
        replay.expect_running()?;
        Ok(other.ends().await?[&0] >= 20)
    });
    some.await.with_context(|| replay.log_tail())?;
    let status = replay.terminate(SOON).await?;
    let log = replay.log();
    ensure!(status.code() == Some(1), "{status}: {log}");
    let sent = usize::try_from(other.ends().await?[&0])?;
    ensure!(sent < 300, "{sent} rows in so short a time: there is no rate");
    let stood = format!(
        "stopped  {sent} of 400 rows are in Kafka: those of public.package_event up to package_event_id = {sent}"
    );
    ensure!(log.contains(&stood), "{stood}\n{log}");
    let rest = log.split("--where '").nth(1).and_then(|rest| rest.split('\'').next()).context("the rest")?;
    let arguments = ["replay", "--where", rest, "--to", &other.name, "--rate", "0"];
    case.relay.command(&arguments).await?.success()?;
    let records = other.read_all().await?;
    ensure!(records.len() == 400 && contents(&records).len() == 400, "{}", records.len());
    Ok(())
}

#[tokio::test]
async fn a_row_that_gives_no_record_is_left_out_and_named() -> Result<()> {
    let case = crate::halt::loose_case().await?;
    let insert = "insert into loose (package_id, event_type) values";
    case.database.execute(&format!("{insert} (1, 'Removed'), (2, 'Exploded'), (3, 'Removed')")).await?;
    for (more, said) in [(vec!["--dry-run"], "2 records"), (vec![], "sent     2 rows")] {
        let arguments = [&["replay", "--where", "true"], more.as_slice()].concat();
        let ended = case.relay.command(&arguments).await?;
        ensure!(ended.code() == 1, "{}{}", ended.stdout, ended.stderr);
        for part in [said, "left out 1 rows", "Exploded"] {
            ensure!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
        }
    }
    ensure!(case.topic.read_all().await?.len() == 2);
    Ok(())
}

#[tokio::test]
async fn a_limit_of_statements_that_the_database_has_does_not_end_it() -> Result<()> {
    let case = published(20, 3).await?;
    let limit = format!("alter database \"{}\" set statement_timeout = '1s'", case.database.name());
    case.database.execute(&limit).await?;
    let slow = "pg_sleep(0.1)::text = ''";
    let ended = case.relay.command(&["replay", "--where", slow, "--dry-run"]).await?.success()?;
    ensure!(ended.stdout.contains("rows     20 of"), "{}", ended.stdout);
    Ok(())
}
