//! A slot that another tool has used, taken over.

use anyhow::{Result, ensure};
use harness::{Database, Stack, wait_until};

use crate::case::{Case, SOON};

/// As a connector of Debezium leaves them: a publication, a slot of pgoutput, and rows of which it has published some.
async fn left_behind() -> Result<Case> {
    let stack = Stack::shared().await?;
    let database = Database::fresh(&stack.database_url).await?;
    database
        .execute(
            "create table outbox (id uuid primary key default gen_random_uuid(), aggregatetype text not null, \
             aggregateid text not null, type text not null, payload jsonb); \
             create publication dbz_publication for table outbox",
        )
        .await?;
    let mut case = Case::of(database, &stack.brokers).await?;
    case.relay = case.relay.env("WALPOST_PRESET", "debezium").env("WALPOST_TABLE", "public.outbox");
    case.relay = case.relay.env("WALPOST_PUBLICATION", "dbz_publication");
    Ok(case)
}

fn row(number: u32) -> String {
    format!(
        "insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', '1', 'Changed', '{{\"n\": {number}}}')"
    )
}

async fn slot_by_another(case: &Case) -> Result<()> {
    let sql = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    case.client().await?.execute(sql, &[&case.database.slot_name()]).await?;
    Ok(())
}

#[tokio::test]
async fn rows_that_the_other_tool_has_published_are_not_published_again_and_those_behind_them_are()
-> Result<()> {
    let case = left_behind().await?;
    case.database.execute(&row(1)).await?;
    slot_by_another(&case).await?;
    case.database.execute(&row(2)).await?;
    for _ in 0..2 {
        // A new slot looks as old as the oldest of the server, and other tests have theirs there.
        let takes_over = ["init", "--rows-before", "published", "--publication-is-older"];
        let said = case.relay.command(&takes_over).await?.success()?.stdout;
        ensure!(said.contains("taken over") || said.contains("changes nothing"), "{said}");
    }
    let mut relay = case.relay.run()?;
    relay.ready().await?;
    case.database.execute(&row(3)).await?;
    let values = || async {
        let records = case.topic.read_all().await?;
        Ok::<_, anyhow::Error>(
            records
                .iter()
                .map(|record| String::from_utf8_lossy(&record.value).into_owned())
                .collect::<Vec<_>>(),
        )
    };
    wait_until("the rows arrive", SOON, async || Ok(values().await?.len() >= 2)).await?;
    ensure!(values().await? == ["{\"n\": 2}", "{\"n\": 3}"], "{:?}", values().await?);
    Ok(())
}

#[tokio::test]
async fn without_that_word_every_row_of_the_table_is_published() -> Result<()> {
    let case = left_behind().await?;
    case.database.execute(&row(1)).await?;
    slot_by_another(&case).await?;
    case.relay.init().await?;
    let _relay = case.relay.run_ready().await?;
    ensure!(case.topic.read(1, SOON).await?.len() == 1);
    Ok(())
}

/// Rows that were written behind the slot's position and before the publication are in nobody's stream.
#[tokio::test]
async fn rows_from_before_the_publication_are_not_taken_for_published() -> Result<()> {
    let case = left_behind().await?;
    slot_by_another(&case).await?;
    case.database.execute(&row(1)).await?;
    let takes_over = async |publication: &str| {
        let relay = case.relay.clone().env("WALPOST_PUBLICATION", publication);
        relay.command(&["init", "--rows-before", "published"]).await
    };
    // A name that nobody has is not made one here.
    let outcome = takes_over("mistyped").await?;
    ensure!(outcome.code() == 1 && outcome.stderr.contains("`mistyped`"), "{}", outcome.stderr);
    for made in [
        "create publication young for table outbox",
        "alter publication dbz_publication set (publish = 'insert')",
    ] {
        case.database.execute(made).await?;
        case.database.execute(&row(2)).await?;
        let name = made.split(' ').nth(2).unwrap_or_default();
        let outcome = takes_over(name).await?;
        ensure!(
            outcome.code() == 1 && outcome.stderr.contains("would be taken for published"),
            "{}",
            outcome.stderr
        );
    }
    // The other tool goes on until the slot is past all that: once with a word of the server on what runs, once to be told.
    let client = case.client().await?;
    let passes = "select pg_replication_slot_advance($1, pg_current_wal_lsn())";
    wait_until("the slot is past the alteration", SOON, async || {
        client.execute("checkpoint", &[]).await?;
        client.execute(passes, &[&case.database.slot_name()]).await?;
        Ok(takes_over("dbz_publication").await?.code() == 0)
    })
    .await?;
    case.database.execute(&row(3)).await?;
    let _relay = case.relay.run_ready().await?;
    let arrived = case.topic.read(1, SOON).await?;
    ensure!(arrived[0].value == b"{\"n\": 3}", "{arrived:?}");
    Ok(())
}

#[tokio::test]
async fn what_nobody_can_have_published_is_not_taken_for_published() -> Result<()> {
    let case = left_behind().await?;
    let outcome = case.relay.command(&["init", "--rows-before", "published"]).await?;
    ensure!(outcome.code() == 1 && outcome.stderr.contains("to take over"), "{}", outcome.stderr);
    let made: i64 = case
        .client()
        .await?
        .query_one(
            "select count(*) from pg_replication_slots where slot_name = $1",
            &[&case.database.slot_name()],
        )
        .await?
        .get(0);
    ensure!(made == 0, "a slot was made");
    Ok(())
}
