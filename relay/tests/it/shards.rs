//! One outbox over several slots, by the hash of the key.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use harness::database::has;
use harness::{Relay, RelayProcess, Stack, wait_until};

use crate::case::{Case, SOON, write_concurrently};
use crate::check::says_of;

const SHARDS: u32 = 3;

/// From this version on publications have row filters.
const FILTERS: i32 = 15;

async fn filters_rows() -> Result<bool> {
    has(&Stack::shared().await?.database_url, "shards", FILTERS).await
}

/// One of the shards, with an address of its own. It owns the table, as who makes its publication must.
fn shard(case: &Case, number: u32) -> Result<Relay> {
    let relay = case.relay.beside()?.env("WALPOST_DATABASE_URL", &case.database.url);
    Ok(relay.env("WALPOST_SHARD", format!("{number}/{SHARDS}")))
}

fn shards(case: &Case) -> Result<Vec<Relay>> {
    (1..=SHARDS).map(|number| shard(case, number)).collect()
}

async fn start(shards: &[Relay]) -> Result<Vec<RelayProcess>> {
    let mut running = Vec::new();
    for shard in shards {
        running.push(shard.init_and_run().await?);
    }
    Ok(running)
}

#[tokio::test]
async fn each_event_comes_from_one_shard_and_those_of_a_key_stay_in_order() -> Result<()> {
    if !filters_rows().await? {
        return Ok(());
    }
    let case = Case::new().await?;
    // Rows from before the slots, too.
    case.commit(300, 20, 10).await?;
    let mut running = start(&shards(&case)?).await?;
    write_concurrently(&case.database, 4, 100, 20).await?;
    let audit = case.audit().await?;
    ensure!((audit.published, audit.duplicates) == (700, 0), "{audit}");
    for relay in &running {
        let published = relay.metric("walpost_events_total{outcome=\"published\"}").await?;
        ensure!((1.0..700.0).contains(&published), "a shard published {published} of 700");
    }
    // One that is away holds up no other.
    running[0].kill()?;
    let before = case.topic.count().await?;
    case.commit(200, 20, 1).await?;
    wait_until("the other shards go on", SOON, async || Ok(case.topic.count().await? > before)).await?;
    ensure!(!case.audit_now().await?.lost.is_empty(), "the shard that is away has no event");
    running[0] = shard(&case, 1)?.run_ready().await?;
    ensure!(case.audit().await?.published == 900);
    Ok(())
}

#[tokio::test]
async fn a_shard_removes_and_recovers_its_own_rows_only() -> Result<()> {
    if !filters_rows().await? {
        return Ok(());
    }
    let case = Case::new().await?.with("WALPOST_APPEND_ONLY", "true");
    let all = shards(&case)?;
    for shard in &all[..2] {
        shard.init().await?;
    }
    says_of(&all[0], "shards", "warning", "_3_of_3: nobody publishes").await?;
    all[2].init().await?;
    says_of(&all[0], "shards", "ok", "all 3").await?;
    case.commit(300, 30, 10).await?;
    // Two of three run, and remove what they have published at once.
    let cleaning = |relay: &Relay| {
        relay
            .clone()
            .env("WALPOST_CLEAN", "age")
            .env("WALPOST_CLEAN_AGE_S", "0")
            .env("WALPOST_CLEAN_INTERVAL_MS", "100")
    };
    let running = [cleaning(&all[0]).run_ready().await?, cleaning(&all[1]).run_ready().await?];
    let client = case.client().await?;
    let sql = format!(
        "select count(*) filter (where (hash_record(row(package_id)) & 2147483647) % {SHARDS} = 2), count(*) \
                       from package_event"
    );
    let rows = || async {
        let row = client.query_one(&sql, &[]).await?;
        Ok::<(i64, i64), anyhow::Error>((row.get(0), row.get(1)))
    };
    let (left, _) = rows().await?;
    ensure!(left > 0, "the third shard has no row: the test tests nothing");
    wait_until("the rows of two shards are removed", SOON, async || Ok(rows().await? == (left, left)))
        .await?;

    // The slot of the third is lost before it has run: what its rows say is published, and nothing of the others.
    case.database.drop_slot(&format!("{}_3_of_{SHARDS}", case.database.slot_name())).await?;
    let recovering = all[2].recover()?;
    let before: HashSet<_> = case
        .topic
        .read_all()
        .await?
        .into_iter()
        .filter_map(|record| record.header("ce_id").map(str::to_owned))
        .collect();
    ensure!(before.len() as i64 <= 300, "{}", before.len());
    wait_until("all of them are there", SOON, async || {
        let records = case.topic.read_all().await?;
        let ids: HashSet<_> = records.iter().filter_map(|record| record.header("ce_id")).collect();
        Ok(ids.len() == 300)
    })
    .await
    .with_context(|| recovering.log_tail())?;
    ensure!(case.topic.count().await? == 300, "a row was published by two shards");
    drop((running, recovering));
    Ok(())
}

#[tokio::test]
async fn shards_deliver_exactly_once_each_with_a_position_of_its_own() -> Result<()> {
    if !filters_rows().await? {
        return Ok(());
    }
    let case = Case::new().await?.with("WALPOST_DELIVERY", "exactly-once");
    let all = shards(&case)?;
    let mut running = start(&all).await?;
    case.commit(500, 20, 1).await?;
    for (relay, shard) in running.iter_mut().zip(&all) {
        relay.kill()?;
        *relay = shard.run_ready().await?;
    }
    case.commit(500, 20, 1).await?;
    let audit = case.audit().await?;
    ensure!((audit.published, audit.duplicates) == (1_000, 0), "{audit}");
    drop(running);
    for number in 1..=SHARDS {
        let name = format!("walpost-position-{}_{number}_of_{SHARDS}", case.database.slot_name());
        harness::Topic::expected(&name, &case.topic.brokers, 1).delete().await?;
    }
    Ok(())
}

/// Without the filter the shard would have the rows of all, and halt again for that.
#[tokio::test]
async fn a_shard_whose_publication_lacks_the_table_says_how_to_bring_it_back_with_its_filter() -> Result<()> {
    if !filters_rows().await? {
        return Ok(());
    }
    let case = Case::new().await?.with("WALPOST_WATCH_INTERVAL_MS", "100");
    let first = shard(&case, 1)?;
    let mut relay = first.init_and_run().await?;
    let publication = format!("package_event_pub_1_of_{SHARDS}");
    case.database.execute(&format!("alter publication {publication} drop table package_event")).await?;
    let halted = relay.halted().await?;
    let remedy = halted["remedy"].as_str().context("a remedy")?;
    let statement = remedy.split('`').nth(1).context("a statement")?;
    case.database.execute(statement).await?;
    relay.terminate(SOON).await?;
    let mut recovered = first.recover()?;
    recovered.ready().await.with_context(|| remedy.to_owned())
}

/// What was made for other settings is not taken for what these say.
#[tokio::test]
async fn a_publication_of_another_key_or_shard_is_not_taken_for_ones_own() -> Result<()> {
    if !filters_rows().await? {
        return Ok(());
    }
    let case = Case::new().await?;
    let first = shard(&case, 1)?;
    first.init().await?;
    case.database.drop_slot(&format!("{}_1_of_{SHARDS}", case.database.slot_name())).await?;
    let refused = first.clone().env("WALPOST_SHARD_BY", "event_type").command(&["init"]).await?;
    ensure!(
        refused.code() == 1 && refused.stderr.contains("which is not this shard's"),
        "{}",
        refused.stderr
    );
    first.init().await?;
    let unhashable = shard(&case, 2)?.env("WALPOST_SHARD_BY", "payload");
    case.database.execute("alter table package_event alter payload type json").await?;
    let refused = unhashable.command(&["init"]).await?;
    ensure!(refused.code() == 1 && refused.stderr.contains("hash function"), "{}", refused.stderr);
    Ok(())
}
