use anyhow::{Context, Result, ensure};

use crate::case::{Case, SOON};
use crate::halt::halts;
use crate::types::odd_case;

const INSERT: &str = "insert into odd (package_id, event_type) values";
const INSERT_NEW: &str = "insert into odd (parcel_id, event_type) values";
const RENAME: &str = "alter table odd rename package_id to parcel_id";
const RENAME_BACK: &str = "alter table odd rename parcel_id to package_id";

async fn odd() -> Result<Case> {
    odd_case("select 1", &[]).await
}

/// The keys on the topic, once there are `count`, in order.
async fn keys(case: &Case, count: usize) -> Result<Vec<u64>> {
    case.topic.read(count, SOON).await?;
    let mut keys = Vec::new();
    for record in case.topic.read_all().await? {
        keys.push(String::from_utf8(record.key)?.parse()?);
    }
    keys.sort_unstable();
    Ok(keys)
}

#[tokio::test]
async fn rows_under_both_names_of_one_transaction_are_read_with_both_names_in_the_setting() -> Result<()> {
    let case = odd().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&format!("{INSERT} (1, 'Created')")).await?;
    case.database
        .execute(&format!(
            "begin; {INSERT} (2, 'Created'); {RENAME}; {INSERT_NEW} (3, 'Created'); commit; {INSERT_NEW} (4, 'Created')"
        ))
        .await?;
    halts(&mut relay, &["key: {package_id} is not a column", "--renamed-column=OLD=NEW"]).await?;
    relay.terminate(SOON).await?;
    // With the new name alone it cannot go on: the rows of the transaction come again.
    let mut alone = case.relay.run_with(&["--key=parcel_id", "--field=PackageID={parcel_id}"])?;
    halts(&mut alone, &["key: {parcel_id} is not a column", "--renamed-column=OLD=NEW"]).await?;
    alone.terminate(SOON).await?;
    let mut relay = case.relay.run_with(&["--renamed-column=package_id=parcel_id"])?;
    relay.ready().await?;
    ensure!(keys(&case, 4).await? == [1, 2, 3, 4]);
    Ok(())
}

#[tokio::test]
async fn a_column_renamed_under_load_with_both_names_set_before_halts_nothing() -> Result<()> {
    let case = odd().await?.renamed("package_id", "parcel_id").with("WALPOST_CLEAN", "count");
    let case = case.with("WALPOST_CLEAN_KEEP_ROWS", "0").with("WALPOST_CLEAN_INTERVAL_MS", "100");
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    for round in 0..3_u64 {
        let (insert, rename) = if round % 2 == 0 { (INSERT, RENAME) } else { (INSERT_NEW, RENAME_BACK) };
        for n in 0..20 {
            client.batch_execute(&format!("{insert} ({}, 'Created')", 1 + round * 20 + n)).await?;
        }
        client.batch_execute(rename).await?;
    }
    ensure!(keys(&case, 60).await? == (1..=60).collect::<Vec<_>>());
    relay.ready().await?;
    relay.expect_running()
}

/// A look at the table and one at the publication are two questions, and the name is another by the second.
#[tokio::test]
async fn a_column_renamed_between_two_questions_is_not_taken_for_one_that_is_filtered() -> Result<()> {
    let case = odd().await?.renamed("package_id", "parcel_id").with("WALPOST_WATCH_INTERVAL_MS", "100");
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    for _ in 0..400 {
        client.batch_execute(&format!("{RENAME}; {INSERT_NEW} (1, 'Created')")).await?;
        client.batch_execute(&format!("{RENAME_BACK}; {INSERT} (1, 'Created')")).await?;
    }
    ensure!(keys(&case, 800).await?.len() == 800, "{}", relay.log_tail());
    relay.ready().await?;
    relay.expect_running()
}

/// The id as well, by which the cleaner goes.
#[tokio::test]
async fn a_column_that_the_cleaner_goes_by_may_be_renamed_too() -> Result<()> {
    let case = odd().await?.renamed("package_event_id", "number");
    let case = case.with("WALPOST_CLEAN", "count").with("WALPOST_CLEAN_KEEP_ROWS", "0");
    let case = case.with("WALPOST_CLEAN_INTERVAL_MS", "100");
    let relay = case.relay.init_and_run().await?;
    for rename in ["select 1", "alter table odd rename package_event_id to number"] {
        case.database.execute(&format!("{rename}; {INSERT} (1, 'Created')")).await?;
        let client = case.client().await?;
        harness::wait_until("the table is cleaned", SOON, async || {
            Ok(client.query_one("select count(*) from odd", &[]).await?.get::<_, i64>(0) == 0)
        })
        .await?;
    }
    ensure!(case.topic.read_all().await?.len() == 2, "{}", relay.log_tail());
    Ok(())
}

#[tokio::test]
async fn a_column_renamed_away_and_back_is_read_with_both_names_and_the_table_too() -> Result<()> {
    let case = odd().await?;
    case.relay.init_and_run().await?.terminate(SOON).await?;
    case.database
        .execute(&format!(
            "{INSERT} (1, 'Created'); {RENAME}; {INSERT_NEW} (2, 'Created'); {RENAME_BACK}; \
             alter table odd rename to away; insert into away (package_id, event_type) values (3, 'Created'); \
             alter table away rename to odd; {INSERT} (4, 'Created')"
        ))
        .await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["{package_id} is not a column of public.odd", "--renamed-column=OLD=NEW"]).await?;
    relay.terminate(SOON).await?;
    let mut relay = case.relay.run_with(&["--renamed-column=package_id=parcel_id"])?;
    relay.ready().await?;
    ensure!(keys(&case, 4).await? == [1, 2, 3, 4]);
    Ok(())
}

#[tokio::test]
async fn a_table_renamed_under_load_goes_on_under_its_new_name() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    let write = async |table: &str| -> Result<()> {
        for key in 0..20_i64 {
            let sql = format!(
                "insert into {table} (package_id, event_type, payload) values ({}, 'Updated', '{{}}')",
                1 + key % 3
            );
            client.batch_execute(&sql).await?;
        }
        Ok(())
    };
    write("package_event").await?;
    client.batch_execute("alter table package_event rename to parcel_event").await?;
    write("parcel_event").await?;
    halts(&mut relay, &["public.package_event", "--table"]).await?;
    relay.terminate(SOON).await?;
    let mut relay = case.relay.run_with(&["--table=public.parcel_event"])?;
    relay.ready().await?;
    relay.terminate(SOON).await?;

    // Rows under a name that is gone when they are read.
    write("parcel_event").await?;
    client.batch_execute("alter table parcel_event rename to package_event").await?;
    write("package_event").await?;
    let _relay = case.relay.run_ready().await?;
    ensure!(case.audit().await?.published == 80);
    Ok(())
}

/// The object id of a table.
async fn oid(case: &Case, table: &str) -> Result<u32> {
    Ok(case.client().await?.query_one("select to_regclass($1)::oid", &[&table]).await?.get(0))
}

#[tokio::test]
async fn rows_of_a_table_that_was_swapped_for_another_halt_and_come_when_they_are_called_events() -> Result<()>
{
    let case = odd().await?;
    case.relay.init_and_run().await?.terminate(SOON).await?;
    let was = oid(&case, "odd").await?;
    case.database
        .execute(&format!(
            "{INSERT} (1, 'Created'); alter table odd rename to odd_2025; \
             create table odd (like odd_2025 including all); alter publication odd_pub add table odd; \
             {INSERT} (2, 'Created')"
        ))
        .await?;
    // The publication has another entry for the table of that name, so rows may have passed: recover first.
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["walpost recover"]).await?;
    relay.terminate(SOON).await?;
    let mut recovered = case.relay.recover()?;
    let option = format!("--table-was={was}");
    halts(&mut recovered, &["another table that was called public.odd", &option, "walpost recover --anew"])
        .await?;
    recovered.terminate(SOON).await?;
    let published = case.topic.read_all().await?;
    ensure!(published.iter().all(|record| record.key == b"2"), "nothing of the old table");
    let mut relay = case.relay.run_with(&[&option])?;
    relay.ready().await?;
    case.database.execute(&format!("{INSERT} (3, 'Created')")).await?;
    let mut keys = keys(&case, published.len() + 3).await?;
    keys.dedup();
    ensure!(keys == [1, 2, 3], "{keys:?}");
    Ok(())
}

#[tokio::test]
async fn before_a_halt_by_the_stream_what_was_acknowledged_is_confirmed() -> Result<()> {
    let case = odd().await?.with("WALPOST_CONFIRM_INTERVAL_MS", "60000");
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&format!("{INSERT} (1, 'Created'), (2, 'Created')")).await?;
    let acknowledged = case.topic.read(2, SOON).await?.pop().context("a record")?;
    let (high, low) = acknowledged.header("wal-lsn").and_then(|lsn| lsn.split_once('/')).context("an LSN")?;
    let behind = (u64::from_str_radix(high, 16)? << 32) | u64::from_str_radix(low, 16)?;
    case.database.execute(&format!("{INSERT} (3, 'Created'); {RENAME}; {INSERT_NEW} (4, 'Created')")).await?;
    halts(&mut relay, &["key: {package_id} is not a column"]).await?;
    case.confirmed_to(behind).await.context("what was acknowledged would be read again")?;
    relay.terminate(SOON).await?;
    let mut relay = case.relay.run_with(&["--renamed-column=package_id=parcel_id"])?;
    relay.ready().await?;
    ensure!(keys(&case, 4).await? == [1, 2, 3, 4], "each once");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_can_be_read_under_no_name_is_left_and_the_table_published() -> Result<()> {
    let case = odd_case("create type pair as (a bigint, b text)", &[]).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database
        .execute(&format!(
            "{INSERT} (1, 'Created'); alter table odd alter column payload type pair using null; \
             {INSERT} (2, 'Created'); alter table odd alter column payload type jsonb using null; {INSERT} (3, 'Created')"
        ))
        .await?;
    halts(&mut relay, &["public.pair"]).await?;
    // Another life makes no difference.
    relay.terminate(SOON).await?;
    let mut beside = case.relay.run()?;
    halts(&mut beside, &["public.pair"]).await?;
    beside.terminate(SOON).await?;
    let slot = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1";
    let at = async || -> Result<String> {
        Ok(case.client().await?.query_one(slot, &[&case.database.slot_name()]).await?.get(0))
    };
    let before = at().await?;
    let said = case.relay.command(&["recover", "--anew", "--dry-run"]).await?.success()?.stdout;
    ensure!(said.contains("drop the slot") && said.contains("--anew"), "{said}");
    ensure!(at().await? == before, "a dry run changes nothing");
    let mut recovered = case.relay.recover_with(&["--anew"])?;
    recovered.ready().await?;
    case.database.execute(&format!("{INSERT} (4, 'Created')")).await?;
    ensure!(keys(&case, 4).await? == [1, 2, 3, 4]);
    // While it runs, nobody takes the slot from it.
    let refused = case.relay.command(&["recover", "--anew"]).await?;
    ensure!(refused.code() == 1 && refused.stderr.contains("in use"), "{}", refused.stderr);
    recovered.expect_running()
}
