use anyhow::{Context, Result, ensure};
use harness::{Database, Received, Stack, Topic, wait_until};

use crate::case::{Case, SOON, committed_at};
use crate::halt::halts;

/// A case around a table of somebody's own, without a preset.
pub(crate) async fn around(table: &str) -> Result<Case> {
    let stack = Stack::shared().await?;
    let database = Database::fresh(&stack.database_url).await?;
    database.execute(table).await?;
    let mut case = Case::of(database, &stack.brokers).await?;
    case.relay = case.relay.without_env("WALPOST_PRESET").env("WALPOST_TABLE", "public.outbox");
    Ok(case)
}

async fn values(topic: &Topic, count: usize) -> Result<Vec<String>> {
    let records = topic.read(count, SOON).await?;
    let mut values: Vec<_> =
        records.into_iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect();
    values.sort_unstable();
    Ok(values)
}

/// The number up to which a copy goes is of one column, and says nothing of another.
#[tokio::test]
async fn a_table_that_is_ordered_by_another_column_than_at_init_loses_no_row() -> Result<()> {
    let case = around(
        "create table outbox (id bigint primary key, seq bigint not null, key text, payload text); \
         insert into outbox select n, 100 + n, 'k', 'row ' || n from generate_series(1, 3) n",
    )
    .await?;
    case.relay.init().await?;
    let mut relay = case.relay.run_with(&["--order=seq"])?;
    relay.ready().await?;
    ensure!(values(&case.topic, 3).await? == ["row 1", "row 2", "row 3"]);
    Ok(())
}

/// A table without any number, and one that was empty at first: whatever is inserted comes once.
#[tokio::test]
async fn a_table_without_a_number_that_was_empty_is_published_once() -> Result<()> {
    let case = around("create table outbox (id uuid primary key, key text, payload text)").await?;
    let insert = |value: &str| format!("insert into outbox values (gen_random_uuid(), 'k', '{value}')");
    let said = case.relay.command(&["init"]).await?.success()?.stdout;
    ensure!(said.contains("no integer orders public.outbox") && said.contains("--order"), "{said}");
    case.database.execute(&insert("before run")).await?;
    let relay = case.relay.run_ready().await?;
    case.database.execute(&insert("streamed")).await?;
    ensure!(values(&case.topic, 2).await? == ["before run", "streamed"]);
    let records = case.topic.read_all().await?;
    ensure!(records.len() == 2, "{} records\n{}", records.len(), relay.log_tail());
    Ok(())
}

/// What was guessed is kept with the slot.
#[tokio::test]
async fn a_column_that_is_added_halts_nothing_and_changes_no_record() -> Result<()> {
    let case =
        around("create table outbox (id bigserial primary key, key text, payload text, type text)").await?;
    let mut relay = case.relay.init_and_run().await?;
    let insert =
        |value: &str| format!("insert into outbox (key, payload, type) values ('k', '{value}', 't')");
    case.database.execute(&insert("1")).await?;
    // One that would be the value as well, one that would be the id; rows of both times in the stream.
    case.database.execute("alter table outbox add column message text, add column event_id uuid").await?;
    case.database.execute(&insert("2")).await?;
    let records = case.topic.read(2, SOON).await?;
    relay.kill()?;
    case.database.execute(&insert("3")).await?;
    case.database.execute("alter table outbox add column event_type text, add column headers jsonb").await?;
    case.database.execute(&insert("4")).await?;
    let mut relay = case.relay.run()?;
    relay.ready().await?;
    let all = case.topic.read(4, SOON).await?;
    for record in records.iter().chain(&all) {
        ensure!(record.header("ce_id").is_some_and(|id| id.len() < 4), "another id: {:?}", record.headers);
        ensure!(record.header("ce_type") == Some("t"), "another type: {:?}", record.headers);
    }
    relay.expect_running()
}

/// Topics that rows name: one is there, one is not, until somebody makes it.
#[tokio::test]
async fn a_topic_that_is_missing_is_waited_for_and_what_came_before_is_confirmed() -> Result<()> {
    let case =
        around("create table outbox (id bigserial primary key, topic text, key text, payload text)").await?;
    let mut case = case;
    case.relay = case.relay.without_env("WALPOST_TOPIC");
    let missing = Topic::unused_name();
    let mut relay = case.relay.init_and_run().await?;
    let insert = |topic: &str, value: &str| {
        format!("insert into outbox (topic, key, payload) values ('{topic}', 'k', '{value}')")
    };
    case.database.execute(&insert(&case.topic.name, "first")).await?;
    let first = case.topic.read(1, SOON).await?;
    case.database.execute(&insert(&missing, "waits")).await?;
    case.database.execute(&insert(&case.topic.name, "behind")).await?;
    let waits = wait_until("it says which topic is missing", SOON, async || {
        let ready = relay.get("/ready").await?;
        Ok(ready.status == 503 && ready.body.contains(&missing))
    });
    waits.await.with_context(|| relay.log_tail())?;
    case.confirmed_to(committed_at(&first[0])?).await.context("the row before it is confirmed")?;
    ensure!(values(&case.topic, 1).await? == ["first"]);
    // A stop meanwhile loses nothing, and neither does another start.
    relay.terminate(SOON).await?;
    let mut relay = case.relay.run()?;
    let made = Topic::named(&missing, &case.topic.brokers, 2).await?;
    relay.ready().await?;
    ensure!(values(&made, 1).await? == ["waits"]);
    ensure!(values(&case.topic, 2).await? == ["behind", "first"]);
    relay.expect_running()
}

/// Whatever an application writes where a topic or a key is expected, it ends in a letter where that is the policy.
#[tokio::test]
async fn a_row_that_is_too_large_in_any_part_becomes_a_dead_letter() -> Result<()> {
    let case =
        around("create table outbox (id bigserial primary key, topic text, key text, payload text)").await?;
    let letters = Topic::fresh(&case.topic.brokers, 1).await?;
    let mut case =
        case.with("WALPOST_POISON", "dead-letter").with("WALPOST_DEAD_LETTER_TOPIC", &letters.name);
    case.relay = case.relay.without_env("WALPOST_TOPIC");
    let mut relay = case.relay.init_and_run().await?;
    let name = &case.topic.name;
    case.database
        .execute(&format!(
            "insert into outbox (topic, key, payload) values (repeat('x y', 700000), 'k', '1'), \
             ('{name}', repeat('k', 2000000), '2'), ('__consumer_offsets', 'k', '3'), (null, 'k', '4'), ('{name}', 'k', '5')"
        ))
        .await?;
    ensure!(values(&case.topic, 1).await? == ["5"]);
    let letters = letters.read(4, SOON).await?;
    let reason = |letter: &Received| letter.header("walpost-reason").unwrap_or_default().to_owned();
    let reasons: Vec<_> = letters.iter().map(reason).collect();
    for (reason, part) in
        reasons.iter().zip(["is no topic's name", "Kafka refuses", "keeps for itself", "it is NULL"])
    {
        ensure!(reason.contains(part) && reason.len() < 3_000, "{reasons:?}");
    }
    relay.expect_running()
}

#[tokio::test]
async fn a_partition_that_the_topic_does_not_have_halts_and_is_named() -> Result<()> {
    let case =
        around("create table outbox (id bigserial primary key, key text, payload text, lane int)").await?;
    let case = case.with("WALPOST_PARTITION", "lane");
    let mut relay = case.relay.init_and_run().await?;
    case.database
        .execute("insert into outbox (key, payload, lane) values ('a', '1', 2), ('a', '2', null)")
        .await?;
    let partitions: Vec<_> = case.topic.read(2, SOON).await?.iter().map(|record| record.partition).collect();
    ensure!(partitions.contains(&2), "{partitions:?}");
    case.database.execute("insert into outbox (key, payload, lane) values ('a', '3', 9)").await?;
    halts(&mut relay, &["partition 9 is not there", "has 3"]).await
}

const PARTED: &str = "create table outbox (id bigserial, key text, payload text, day int not null) partition by list (day); \
    create table outbox_1 partition of outbox for values in (1); create table outbox_2 partition of outbox for values in (2)";

#[tokio::test]
async fn a_partitioned_table_is_followed_whole_and_only_under_its_own_name() -> Result<()> {
    let case = around(PARTED).await?;
    let insert = |day: u32, value: &str| {
        format!("insert into outbox (key, payload, day) values ('k', '{value}', {day})")
    };
    case.database.execute(&insert(1, "from before")).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&insert(2, "streamed")).await?;
    case.database.execute("create table outbox_3 partition of outbox for values in (3)").await?;
    case.database.execute(&insert(3, "in a new partition")).await?;
    ensure!(values(&case.topic, 3).await? == ["from before", "in a new partition", "streamed"]);
    case.database.execute("alter publication walpost set (publish_via_partition_root = false)").await?;
    halts(
        &mut relay,
        &["under the names of its partitions", "publish_via_partition_root = true", "walpost recover"],
    )
    .await?;
    case.database.execute(&insert(1, "passed over")).await?;
    relay.terminate(SOON).await?;
    case.database.execute("alter publication walpost set (publish_via_partition_root = true)").await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    wait_until("the row that was passed over is there", SOON, async || {
        let records = case.topic.read_all().await?;
        Ok(records.iter().any(|record| record.value == b"passed over"))
    })
    .await
}

#[tokio::test]
async fn a_row_filter_that_the_publication_does_not_have_is_refused() -> Result<()> {
    let case = around(
        "create table outbox (id bigserial primary key, key text, payload text, epoch bool not null); \
         insert into outbox (key, payload, epoch) values ('k', 'hidden before', true), ('k', 'from before', false)",
    )
    .await?;
    let case = case.with("WALPOST_WHERE", "not epoch");
    if !harness::database::has(&case.database.url, "row filters of publications", 15).await? {
        let ended = case.relay.command(&["init"]).await?;
        ensure!(
            ended.stderr.contains("where: row filters of publications came with PostgreSQL 15"),
            "{}",
            ended.stderr
        );
        return Ok(());
    }
    let mut relay = case.relay.init_and_run().await?;
    case.database
        .execute(
            "insert into outbox (key, payload, epoch) values ('k', 'hidden', true), ('k', 'streamed', false)",
        )
        .await?;
    ensure!(values(&case.topic, 2).await? == ["from before", "streamed"]);
    relay.terminate(SOON).await?;

    // Another condition than the publication has, none, and one that Postgres does not take.
    for (condition, says) in [
        ("epoch", "where: it is epoch and was not epoch"),
        ("", "filters rows"),
        ("nothing = 1", "where: cannot try the condition"),
        ("true)) x; select * from (select 1 where (true", "multiple commands"),
        ("key = $1", "where: it has parameters"),
    ] {
        let case = case.relay.clone().env("WALPOST_WHERE", condition);
        let ended = case.command(&["init"]).await?;
        ensure!(ended.code() == 1 && ended.stderr.contains(says), "{condition}: {}", ended.stderr);
    }
    // The way out that is named leads out.
    let case = case.with("WALPOST_WHERE", "epoch");
    case.database.execute("alter publication walpost set table outbox where (epoch)").await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    wait_until("rows of the other condition are there", SOON, async || {
        let records = case.topic.read_all().await?;
        Ok(records.iter().filter(|record| record.value.starts_with(b"hidden")).count() >= 2)
    })
    .await?;
    recovered.terminate(SOON).await?;
    case.relay.run_ready().await?.expect_running()
}

/// The copy waits for an older transaction, and meanwhile the payload becomes another type.
#[tokio::test]
async fn a_type_that_changes_before_the_copy_begins_is_read_as_what_it_is() -> Result<()> {
    let case = around(
        "create table outbox (id bigserial primary key, key text, payload json); create table other (n int); \
         insert into outbox (key, payload) values ('k', '{\"a\": 1}')",
    )
    .await?;
    case.relay.init().await?;
    // Whatever init fixed is forgotten, so that the copy has to wait.
    case.database.execute("update walpost.outbox set copy_through = null, streamed_from = null").await?;
    let holder = case.client().await?;
    holder.batch_execute("begin; insert into other values (1)").await?;
    let mut relay = case.relay.run()?;
    wait_until("the copy has begun", SOON, async || {
        Ok(relay.log().contains("publishing the rows from before"))
    })
    .await?;
    case.database.execute("alter table outbox alter column payload type jsonb").await?;
    holder.batch_execute("commit").await?;
    relay.ready().await?;
    ensure!(values(&case.topic, 1).await? == ["{\"a\": 1}"]);
    relay.expect_running()
}

#[tokio::test]
async fn rows_of_a_table_without_a_number_are_removed_by_their_age_once_they_are_published() -> Result<()> {
    let case = around(
        "create table outbox (id uuid primary key default gen_random_uuid(), key text, payload text, created_at timestamp)",
    )
    .await?;
    // A time without a zone is UTC, whatever the server's zone is.
    let name = case.database.name().to_owned();
    case.database.execute(&format!("alter database {name} set timezone = 'Asia/Tokyo'")).await?;
    let case = case.with("WALPOST_CLEAN", "age").with("WALPOST_CLEAN_AGE_S", "3600");
    let case = case.with("WALPOST_CLEAN_INTERVAL_MS", "100").with("WALPOST_CLEAN_BATCH_ROWS", "2");
    let _relay = case.relay.init_and_run().await?;
    let insert =
        "insert into outbox (key, payload, created_at) select 'k', n::text, now() at time zone 'utc'";
    case.database.execute(&format!("{insert} - interval '2 hours' from generate_series(1, 5) n")).await?;
    case.database.execute(&format!("{insert} from generate_series(6, 8) n")).await?;
    let client = case.client().await?;
    let rows =
        async || -> Result<i64> { Ok(client.query_one("select count(*) from outbox", &[]).await?.get(0)) };
    wait_until("the old rows are removed", SOON, async || Ok(rows().await? == 3)).await?;
    ensure!(values(&case.topic, 8).await?.len() == 8);
    ensure!(rows().await? == 3, "a young row was removed");
    Ok(())
}
