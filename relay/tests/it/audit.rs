//! `walpost audit` finds what is planted, and is silent where nothing is.

use anyhow::{Context, Result, ensure};
use harness::writer::Written;
use harness::{Received, RelayProcess, Topic};
use serde_json::Value;

use crate::case::{Case, SOON, committed_at};
use crate::several::named_two;

/// A relay has published `events`, and is gone.
pub(crate) async fn published(events: i64, keys: i64) -> Result<Case> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(events, keys, 50).await?;
    case.audit().await?;
    stop(&case, &mut relay).await?;
    Ok(case)
}

/// Ends the relay once the slot is confirmed up to what the topic holds.
async fn stop(case: &Case, relay: &mut RelayProcess) -> Result<()> {
    let records = case.topic.read_all().await?;
    let last = records.iter().map(committed_at).collect::<Result<Vec<_>>>()?.into_iter().max();
    case.confirmed_to(last.unwrap_or_default()).await?;
    relay.terminate(SOON).await?;
    Ok(())
}

/// What `walpost audit` found, and its exit code.
async fn audit(case: &Case, options: &[&str]) -> Result<(Value, i32)> {
    let ended = case.relay.command(&[&["audit", "--json"], options].concat()).await?;
    let found = serde_json::from_str(&ended.stdout)
        .with_context(|| format!("no report: {}{}", ended.stdout, ended.stderr))?;
    Ok((found, ended.code()))
}

/// Numbers of the report by their pointers; what is not named must be 0, but for rows that are present.
fn counts(found: &Value, expected: &[(&str, u64)]) -> Result<()> {
    for part in ["rows", "records"] {
        for (name, number) in found[part].as_object().context("counts")? {
            let wanted = expected.iter().find(|(known, _)| known == name).map(|(_, wanted)| *wanted);
            if wanted.is_none() && name == "present" {
                continue;
            }
            let wanted = wanted.unwrap_or(0);
            ensure!(number.as_u64() == Some(wanted), "{part}.{name} is {number} and not {wanted}: {found:#}");
        }
    }
    Ok(())
}

/// Writes records to a topic as they were received.
async fn write_again(topic: &Topic, records: &[&Received]) -> Result<()> {
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| Ok((name.as_str(), std::str::from_utf8(value)?)))
            .collect::<Result<_>>()?;
        let value = (!record.nulls.value).then_some(record.value.as_slice());
        topic.write(&[Written { key: Some(&record.key), value, headers: &headers }]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_good_stream_is_told_to_be_one_beside_a_relay_that_runs() -> Result<()> {
    let case = Case::new().await?;
    // Some come from the table.
    case.commit(300, 7, 50).await?;
    case.relay.init().await?;
    let mut relay = case.relay.run_ready().await?;
    case.commit(300, 7, 50).await?;
    let writing = tokio::spawn({
        let client = case.client().await?;
        async move {
            loop {
                crate::case::insert(&client, 3).await?;
            }
            #[allow(unreachable_code)]
            anyhow::Ok(())
        }
    });
    let audited = audit(&case, &[]).await;
    writing.abort();
    let (found, code) = audited?;
    let number = |pointer: &str| found.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    counts(&found, &[("twice", number("/records/twice")), ("behind", number("/rows/behind"))])?;
    ensure!(code == 0 && found["holds"] == true, "{found:#}\n{}", relay.log_tail());
    ensure!(found["rows"]["present"].as_u64() >= Some(600), "{found:#}");
    relay.expect_running()
}

#[tokio::test]
async fn records_that_were_deleted_are_missing_and_their_rows_are_named() -> Result<()> {
    let case = published(60, 7).await?;
    let (found, code) = audit(&case, &["--strict"]).await?;
    counts(&found, &[("present", 60)])?;
    ensure!(code == 0, "{found:#}");
    let records = case.topic.read_all().await?;
    let partition = records.first().context("records")?.partition;
    let deleted = records.iter().filter(|record| record.partition == partition && record.offset < 5).count();
    case.topic.delete_records(partition, 5).await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("missing", deleted as u64), ("present", 60 - deleted as u64)])?;
    ensure!(code == 1 && deleted == 5, "{found:#}");
    let lost = found["found"]["missing"][0]["row"].as_str().context("a row")?.to_owned();
    // It is a condition that finds the row.
    let sql = format!("select count(*) from package_event where {lost}");
    ensure!(case.client().await?.query_one(&sql, &[]).await?.get::<_, i64>(0) == 1, "{lost}");
    ensure!(found["notes"].to_string().contains("first 5 offsets"), "{found:#}");
    let said = case.relay.command(&["audit", "--show", "2"]).await?;
    for part in ["\"package_event_id\" = ", "and 3 more (--show)", "NOT every row"] {
        ensure!(said.code() == 1 && said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_the_slot_has_passed_is_missing_and_one_behind_it_is_not() -> Result<()> {
    let case = published(10, 3).await?;
    case.commit_one(1).await?;
    let passed = "select pg_replication_slot_advance($1, pg_current_wal_lsn())";
    let slot = case.database.slot_name();
    case.client().await?.query_one(passed, &[&slot]).await?;
    case.commit_one(1).await?;
    case.commit_one(2).await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("missing", 1), ("behind", 2), ("present", 10)])?;
    ensure!(code == 1, "{found:#}");
    // Nothing was made, and nothing moved.
    let slots = "select count(*) from pg_replication_slots where database = current_database()";
    ensure!(case.client().await?.query_one(slots, &[]).await?.get::<_, i64>(0) == 1, "a slot was left");
    Ok(())
}

/// They are in no stream, so the slot says nothing of them.
#[tokio::test]
async fn rows_that_the_first_copy_has_not_reached_are_not_called_missing() -> Result<()> {
    let case = Case::new().await?;
    case.commit(20, 3, 5).await?;
    case.relay.init().await?;
    case.commit(5, 2, 1).await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("unknown", 20), ("behind", 5), ("present", 0)])?;
    ensure!(code == 1 && found["notes"].to_string().contains("first copy"), "{found:#}");
    let mut relay = case.relay.run_ready().await?;
    case.audit().await?;
    stop(&case, &mut relay).await?;
    let (found, code) = audit(&case, &["--strict"]).await?;
    counts(&found, &[("present", 25)])?;
    ensure!(code == 0 && !found["notes"].to_string().contains("first copy"), "{found:#}");
    Ok(())
}

/// All rows from then on are read once more.
#[tokio::test]
async fn a_transaction_that_is_open_hides_neither_repeats_nor_order() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.ready().await?;
    let open = case.client().await?;
    open.batch_execute("begin; select pg_current_xact_id()").await?;
    case.commit(12, 1, 3).await?;
    case.topic.read(12, SOON).await?;
    let records = case.topic.read_all().await?;
    let partition = records[0].partition;
    case.topic.delete_records(partition, i64::try_from(records.len())?).await?;
    let mut order: Vec<&Received> = records.iter().collect();
    order.swap(4, 5);
    order.push(&records[0]);
    write_again(&case.topic, &order).await?;
    let (found, code) = audit(&case, &["--wait-ms", "2000"]).await?;
    ensure!(found["records"]["twice"] == 1 && found["records"]["out_of_order"] == 1, "{found:#}");
    ensure!(code == 1 && found["notes"].to_string().contains("transactions are open"), "{found:#}");
    open.batch_execute("rollback").await?;
    relay.terminate(SOON).await?;
    Ok(())
}

#[tokio::test]
async fn rows_that_a_stopped_relay_has_not_reached_are_no_fault() -> Result<()> {
    let case = published(10, 3).await?;
    case.commit(5, 2, 1).await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("behind", 5), ("present", 10)])?;
    ensure!(code == 0, "{found:#}");
    Ok(())
}

#[tokio::test]
async fn a_record_that_comes_twice_is_counted_and_fails_only_where_that_is_asked_for() -> Result<()> {
    let case = published(20, 3).await?;
    let records = case.topic.read_all().await?;
    write_again(&case.topic, &[&records[3], &records[4]]).await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("twice", 2), ("present", 20)])?;
    ensure!(code == 0, "{found:#}");
    let last = &found["found"]["twice"][0];
    ensure!(last["topic"] == case.topic.name && last["offset"].as_i64() > Some(0), "{found:#}");
    ensure!(audit(&case, &["--strict"]).await?.1 == 1);
    Ok(())
}

#[tokio::test]
async fn altered_content_is_named_in_the_table_and_in_the_topic() -> Result<()> {
    let case = published(20, 3).await?;
    case.database
        .execute("update package_event set payload = '{\"Title\": \"another\"}' where package_event_id = 5")
        .await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("altered", 1), ("present", 19)])?;
    let altered = &found["found"]["altered"][0];
    ensure!(code == 1 && altered["row"] == "\"package_event_id\" = 5", "{found:#}");
    ensure!(altered["topic"] == case.topic.name && altered["what"] == "topic, key or value", "{found:#}");

    let mut record = case.topic.read_all().await?[7].clone();
    for (name, value) in &mut record.headers {
        if name == "ce_type" {
            *value = b"another".to_vec();
        }
    }
    write_again(&case.topic, &[&record]).await?;
    let (found, _) = audit(&case, &[]).await?;
    ensure!(found["records"]["altered"] == 2, "{found:#}");
    ensure!(found["found"]["altered"].to_string().contains("\"headers\""), "{found:#}");
    Ok(())
}

#[tokio::test]
async fn a_foreign_record_is_in_no_row_and_records_of_removed_rows_are_older() -> Result<()> {
    let case = published(20, 3).await?;
    case.topic.write(&[Written::text("7", "somebody else's")]).await?;
    case.database.execute("delete from package_event where package_event_id <= 10").await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("in_no_row", 1), ("older", 10), ("present", 10)])?;
    ensure!(code == 0 && audit(&case, &["--strict"]).await?.1 == 1, "{found:#}");
    ensure!(found["found"]["in_no_row"][0]["what"].to_string().contains("wal-lsn"), "{found:#}");
    // In the midst of what the table holds a row is missed.
    case.database.execute("delete from package_event where package_event_id = 15").await?;
    let (found, _) = audit(&case, &[]).await?;
    counts(&found, &[("in_no_row", 2), ("older", 10), ("present", 9)])
}

#[tokio::test]
async fn records_of_a_key_in_another_order_than_that_of_commits_are_named() -> Result<()> {
    let case = published(12, 1).await?;
    let records = case.topic.read_all().await?;
    let partition = records[0].partition;
    case.topic.delete_records(partition, 12).await?;
    let mut order: Vec<&Received> = records.iter().collect();
    order.swap(4, 5);
    // A repeat stands where it likes.
    order.push(&records[0]);
    write_again(&case.topic, &order).await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("out_of_order", 1), ("twice", 1), ("present", 12)])?;
    ensure!(code == 1, "{found:#}");
    // Another client's partitioner: they lie in a partition that had none.
    let named = &found["found"]["out_of_order"][0];
    ensure!(named["offset"] == 5 && named["what"].to_string().contains("@4"), "{found:#}");
    Ok(())
}

#[tokio::test]
async fn several_outboxes_and_rows_without_an_id_are_compared_by_their_content() -> Result<()> {
    let case = named_two(&["tenant_a", "tenant_b"]).await?;
    let insert = |table: &str, key: &str, value: &str| {
        format!("insert into {table}.outbox (key, payload) values ('{key}', {value});")
    };
    // The same in both tables, twice in one of them, and one whose value is null: half of it from the table.
    let rows = [
        insert("tenant_a", "k", "'same'"),
        insert("tenant_b", "k", "'same'"),
        insert("tenant_a", "k", "'same'"),
    ];
    case.database.execute(&rows.concat()).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database
        .execute(&[insert("tenant_b", "k", "null"), insert("tenant_b", "l", "'b'")].concat())
        .await?;
    case.topic.read(5, SOON).await?;
    stop(&case, &mut relay).await?;
    let (found, code) = audit(&case, &["--strict"]).await?;
    counts(&found, &[("present", 5)])?;
    ensure!(code == 0 && found["tables"].as_array().map(Vec::len) == Some(2), "{found:#}");
    case.database.execute("update tenant_b.outbox set payload = 'c' where key = 'l'").await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("missing", 1), ("in_no_row", 1), ("present", 4)])?;
    ensure!(code == 1 && found["found"]["missing"][0]["table"] == "tenant_b.outbox", "{found:#}");
    let (found, code) = audit(&case, &["--outbox", "tenant_a.outbox"]).await?;
    ensure!(code == 0 && found["rows"]["present"] == 2, "{found:#}");
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_counts_as_there_and_is_named() -> Result<()> {
    let case = crate::halt::loose_case().await?;
    let letters = Topic::fresh(&case.topic.brokers, 1).await?;
    let case = case.with("WALPOST_POISON", "dead-letter").with("WALPOST_DEAD_LETTER_TOPIC", &letters.name);
    let insert = "insert into loose (package_id, event_type) values";
    case.database.execute(&format!("{insert} (-1, 'Updated')")).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&format!("{insert} (1, 'Removed'), (2, 'Exploded'), (3, 'Removed')")).await?;
    letters.read(2, SOON).await?;
    stop(&case, &mut relay).await?;
    let (found, code) = audit(&case, &["--strict"]).await?;
    counts(&found, &[("dead_letters", 2), ("letters", 2), ("present", 2)])?;
    ensure!(code == 0 && found["found"]["dead_letters"][1]["topic"] == letters.name, "{found:#}");
    letters.delete_records(0, 1).await?;
    let (found, code) = audit(&case, &[]).await?;
    counts(&found, &[("dead_letters", 1), ("letters", 1), ("missing", 1), ("present", 2)])?;
    ensure!(code == 1 && found["found"]["missing"][0]["what"].to_string().contains("no record"), "{found:#}");
    Ok(())
}

#[tokio::test]
async fn a_range_of_rows_is_audited_alone() -> Result<()> {
    let case = published(30, 3).await?;
    for (options, rows) in [
        (vec!["--from-id", "11", "--to-id", "15"], 5),
        (vec!["--where", "package_id = 1 -- of them"], 10),
        (vec!["--since", "1h"], 30),
        (vec!["--since", "2999-01-01T00:00:00Z"], 0),
    ] {
        let (found, code) = audit(&case, &options).await?;
        ensure!(code == 0 && found["rows"]["present"] == rows, "{options:?}: {found:#}");
        ensure!(found["records"]["in_no_row"] == 0, "{options:?}: {found:#}");
    }
    for (options, part) in [
        (vec!["--where", "nothing = 1"], "nothing"),
        (vec!["--since", "soon"], "--since: `soon`"),
        (vec!["--outbox", "public.another"], "package_event"),
        (vec!["--from-id", "x"], "--from-id"),
        (vec!["--topics", "a b"], "--topics"),
    ] {
        let ended = case.relay.command(&[&["audit"], options.as_slice()].concat()).await?;
        ensure!(ended.code() == 2 && ended.stderr.contains(part), "{options:?}: {}", ended.stderr);
    }
    Ok(())
}

/// What does not fit into a mebibyte goes to disk, and nothing is left there.
#[tokio::test]
async fn what_memory_does_not_hold_is_compared_all_the_same() -> Result<()> {
    let case = published(20_000, 50).await?;
    let scratch = std::env::temp_dir().join(format!("audit-{}", case.database.name()));
    std::fs::create_dir(&scratch)?;
    let path = scratch.to_string_lossy().into_owned();
    let (found, code) = audit(&case, &["--memory-mib", "1", "--scratch", &path]).await?;
    counts(&found, &[("present", 20_000)])?;
    ensure!(code == 0 && found["spilled_bytes"].as_u64() > Some(1 << 20), "{found:#}");
    ensure!(std::fs::read_dir(&scratch)?.count() == 0, "files are left");
    std::fs::remove_dir(&scratch)?;
    Ok(())
}
