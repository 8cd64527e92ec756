//! Logical messages: an outbox without a table.

use anyhow::{Context, Result, ensure};
use harness::{Database, Received, Relay, Stack, Topic, wait_until};

use crate::case::{Case, SOON};
use crate::halt::halts;

/// Around a database whose outbox are messages.
async fn messages() -> Result<Case> {
    let stack = Stack::shared().await?;
    let database = Database::fresh(&stack.database_url).await?;
    let mut case = Case::of(database, &stack.brokers).await?;
    case.relay = of_messages(case.relay);
    Ok(case)
}

fn of_messages(relay: Relay) -> Relay {
    relay
        .without_env("WALPOST_PRESET")
        .env("WALPOST_MESSAGES", "outbox")
        .env("WALPOST_KEY", "key")
        .env("WALPOST_VALUE", "value")
        .env("WALPOST_ID", "id")
}

/// A call that writes a message.
fn emit(is_transactional: bool, key: &str, value: &str) -> String {
    format!(
        "select pg_logical_emit_message({is_transactional}, 'outbox', \
         json_build_object('key', '{key}', 'value', '{value}', 'id', '{value}')::text)"
    )
}

fn values(records: &[Received]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
}

/// Each once, in the order in which they first came.
fn first_values(records: &[Received]) -> Vec<String> {
    let mut firsts = Vec::new();
    for value in values(records) {
        if !firsts.contains(&value) {
            firsts.push(value);
        }
    }
    firsts
}

/// Waits until these are the values of the topic, in this order where they have one key.
async fn has(topic: &Topic, expected: &[&str]) -> Result<()> {
    let mut last = Vec::new();
    let arrived = wait_until("the messages arrive", SOON, async || {
        last = first_values(&topic.read_all().await?);
        Ok(last.len() >= expected.len())
    });
    arrived.await.with_context(|| format!("{last:?}"))?;
    ensure!(last == expected, "{last:?}");
    Ok(())
}

#[tokio::test]
async fn messages_and_rows_of_a_transaction_arrive_in_the_order_in_which_they_were_written() -> Result<()> {
    let stack = Stack::shared().await?;
    let database = Database::fresh(&stack.database_url).await?;
    database.execute("create table outbox (id bigserial primary key, key text, value text)").await?;
    let mut case = Case::of(database, &stack.brokers).await?;
    let path = std::env::temp_dir().join(format!("walpost-{}.toml", case.database.name()));
    std::fs::write(
        &path,
        "key = \"key\"\nvalue = \"value\"\nid = \"id\"\n\
         [[outbox]]\ntable = \"outbox\"\n[[outbox]]\nmessages = \"outbox\"\n",
    )?;
    case.relay = case.relay.without_env("WALPOST_PRESET").env("WALPOST_CONFIG", path);
    let said = case.relay.command(&["init"]).await?.success()?.stdout;
    ensure!(said.contains("messages `outbox`") && said.contains("no second copy"), "{said}");
    let mut relay = case.relay.run_ready().await?;

    let row = |value: &str| format!("insert into outbox (key, value) values ('k', '{value}')");
    let client = case.client().await?;
    let transaction = [
        "begin".to_owned(),
        row("1"),
        emit(true, "k", "2"),
        "savepoint s".into(),
        emit(true, "k", "never"),
        "rollback to s".into(),
        row("3"),
        "select pg_logical_emit_message(true, 'another', 'no JSON')".into(),
        emit(true, "k", "4"),
        "commit".into(),
    ];
    client.batch_execute(&transaction.join(";")).await?;
    client.batch_execute(&["begin".into(), emit(true, "k", "never"), "rollback".into()].join(";")).await?;
    // Of another prefix, and no part of a transaction.
    client.batch_execute("select pg_logical_emit_message(false, 'another', 'no JSON')").await?;
    client.batch_execute(&emit(true, "k", "5")).await?;
    has(&case.topic, &["1", "2", "3", "4", "5"]).await?;
    let records = case.topic.read_all().await?;
    let ordinals: Vec<_> = records.iter().map(|record| record.header("wal-seq").unwrap_or("none")).collect();
    ensure!(ordinals == ["0", "1", "2", "3", "0"], "{ordinals:?}");
    relay.expect_running()
}

#[tokio::test]
async fn a_kill_loses_no_message_and_keeps_their_order() -> Result<()> {
    let case = messages().await?;
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    let emit_some = |from: i32, to: i32| {
        format!(
            "do $$ begin for n in {from}..{to} loop perform pg_logical_emit_message(true, 'outbox', \
             json_build_object('key', n % 7, 'value', n, 'id', n)::text); \
             if n % 3 = 0 then commit; end if; end loop; end $$"
        )
    };
    client.batch_execute(&emit_some(1, 3_000)).await?;
    wait_until("some have arrived", SOON, async || Ok(case.topic.ends().await?.values().sum::<i64>() > 100))
        .await?;
    relay.kill()?;
    client.batch_execute(&emit_some(3_001, 3_300)).await?;
    // A large transaction, which goes out while it is being read.
    let many = "select pg_logical_emit_message(true, 'outbox', \
                json_build_object('key', n % 7, 'value', n, 'id', n)::text) from generate_series(3301, 6000) n";
    client.batch_execute(&format!("set statement_timeout = 0; {many}")).await?;
    let mut relay = case.relay.run_ready().await?;
    let mut firsts: Vec<i32> = Vec::new();
    wait_until("all have arrived", 2 * SOON, async || {
        firsts.clear();
        for value in values(&case.topic.read_all().await?) {
            let value = value.parse()?;
            if !firsts.contains(&value) {
                firsts.push(value);
            }
        }
        Ok(firsts.len() >= 6_000)
    })
    .await?;
    for key in 0..7 {
        let of_key: Vec<_> = firsts.iter().copied().filter(|number| number % 7 == key).collect();
        ensure!(of_key.is_sorted(), "the order of the key {key}");
    }
    relay.expect_running()
}

#[tokio::test]
async fn a_message_that_is_not_transactional_halts_and_takes_its_turn_among_the_dead_letters() -> Result<()> {
    let case = messages().await?;
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    client.batch_execute(&emit(true, "k", "1")).await?;
    // In the WAL its commit record begins where the message ends.
    let last = ["begin".into(), emit(true, "k", "2"), emit(false, "k", "never"), "commit".into()];
    client.batch_execute(&last.join(";")).await?;
    halts(&mut relay, &["not transactional", "pg_logical_emit_message(true", "--poison=dead-letter"]).await?;
    has(&case.topic, &["1"]).await?;
    relay.terminate(SOON).await?;

    let letters = Topic::fresh(&case.topic.brokers, 1).await?;
    let as_told = ["run", "--poison=dead-letter", &format!("--dead-letter-topic={}", letters.name)];
    let mut relay = case.relay.run_with(&as_told[1..])?;
    has(&case.topic, &["1", "2"]).await?;
    // Nothing is behind it, and its transaction is taken back.
    client.batch_execute(&["begin".into(), emit(false, "k", "never"), "rollback".into()].join(";")).await?;
    let found = letters.read(2, SOON).await?;
    ensure!(found[0].header("walpost-table") == Some("outbox"));
    ensure!(found[0].header("ce_id") == Some("never"));
    let row: serde_json::Value = serde_json::from_slice(&found[0].value)?;
    ensure!(row["content"].as_str().is_some_and(|content| content.contains("never")), "{row}");
    // They are confirmed like any other: they do not come again.
    let ended = relay.terminate(SOON).await?;
    ensure!(ended.success(), "{ended}\n{}", relay.log_tail());
    let mut relay = case.relay.run_with(&as_told[1..])?;
    relay.ready().await?;
    client.batch_execute(&emit(true, "k", "3")).await?;
    has(&case.topic, &["1", "2", "3"]).await?;
    ensure!(letters.read_all().await?.len() == 2);
    relay.expect_running()
}

#[tokio::test]
async fn a_prefix_that_is_brought_in_beside_a_running_relay_is_not_passed_over() -> Result<()> {
    let case = messages().await?.with("WALPOST_WATCH_INTERVAL_MS", "3600000");
    let mut relay = case.relay.init_and_run().await?;
    let path = std::env::temp_dir().join(format!("walpost-{}.toml", case.database.name()));
    std::fs::write(&path, "[[outbox]]\nmessages = \"outbox\"\n[[outbox]]\nmessages = \"second\"\n")?;
    let both = case.relay.beside()?.without_env("WALPOST_MESSAGES").env("WALPOST_CONFIG", path);
    both.command(&["init"]).await?.success()?;
    let client = case.client().await?;
    client.batch_execute(&emit(true, "k", "1").replace("'outbox'", "'second'")).await?;
    // Of a prefix that it knows: with this it would confirm what is before.
    client.batch_execute(&emit(true, "k", "2")).await?;
    halts(&mut relay, &["`second`", "passed over"]).await?;
    relay.terminate(SOON).await?;
    let mut relay = both.run_ready().await?;
    wait_until("both have arrived", SOON, async || {
        Ok(values(&case.topic.read_all().await?).contains(&"1".into()))
    })
    .await?;
    relay.expect_running()
}

#[tokio::test]
async fn a_database_whose_messages_are_not_in_utf_8_is_refused() -> Result<()> {
    let case = messages().await?;
    let (name, client) = (format!("{}_latin1", case.database.name()), case.client().await?);
    client
        .batch_execute(&format!("create database {name} encoding 'LATIN1' locale 'C' template template0"))
        .await?;
    let there = harness::database::with_database(&case.database.url, &name)?;
    let refused = case.relay.beside()?.env("WALPOST_DATABASE_URL", there).command(&["init"]).await?;
    client.batch_execute(&format!("drop database {name} with (force)")).await?;
    ensure!(refused.code() != 0 && refused.stderr.contains("LATIN1"), "{}", refused.stderr);
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_no_json_object_halts_and_names_its_place() -> Result<()> {
    let case = messages().await?;
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    client.batch_execute("select pg_logical_emit_message(true, 'outbox', 'no JSON')").await?;
    halts(&mut relay, &["message 0 of the transaction", "the prefix `outbox`", "it is no JSON object"]).await
}

#[tokio::test]
async fn messages_that_the_settings_do_not_name_any_more_are_not_passed_over() -> Result<()> {
    let case = messages().await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    let client = case.client().await?;
    client.batch_execute(&emit(true, "k", "1")).await?;
    client.batch_execute("create table public.outbox (id bigint primary key, key text, value text)").await?;
    client.batch_execute("alter publication walpost add table outbox").await?;
    let other = case.relay.beside()?.without_env("WALPOST_MESSAGES");
    let mut relay = other.run()?;
    halts(&mut relay, &["`outbox`", "passed over", "array_remove(messages, 'outbox') where slot_name"])
        .await?;
    relay.terminate(SOON).await?;
    let refused = other.command(&["init"]).await?;
    ensure!(refused.code() != 0 && refused.stderr.contains("passed over"), "{}", refused.stderr);

    // Named again they are published.
    let mut relay = case.relay.run_ready().await?;
    has(&case.topic, &["1"]).await?;
    relay.terminate(SOON).await?;
    client.batch_execute("update walpost.slot set messages = array_remove(messages, 'outbox')").await?;
    client.batch_execute(&emit(true, "k", "2")).await?;
    let mut relay = other.run_ready().await?;
    client.batch_execute("insert into outbox values (1, 'k', 'row')").await?;
    has(&case.topic, &["1", "row"]).await?;
    relay.expect_running()
}

#[tokio::test]
async fn a_slot_that_is_lost_takes_messages_with_it_and_recovery_does_not_hide_that() -> Result<()> {
    let case = messages().await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    let client = case.client().await?;
    client.batch_execute(&emit(true, "k", "lost")).await?;
    case.database.drop_slot(&case.database.slot_name()).await?;
    let plan = case.relay.command(&["recover", "--dry-run"]).await?.success()?.stdout;
    ensure!(plan.contains("lost     messages with the prefix `outbox`"), "{plan}");
    let refused = case.relay.command(&["recover"]).await?;
    ensure!(refused.code() == 1 && refused.stderr.contains("--messages-lost"), "{}", refused.stderr);
    let slots: i64 = client
        .query_one(
            "select count(*) from pg_replication_slots where slot_name = $1",
            &[&case.database.slot_name()],
        )
        .await?
        .get(0);
    ensure!(slots == 0, "nothing was changed");
    let refused = case.relay.command(&["init"]).await?;
    ensure!(refused.code() != 0 && refused.stderr.contains("--messages-lost"), "{}", refused.stderr);
    let mut relay = case.relay.recover_with(&["--messages-lost"])?;
    relay.ready().await?;
    client.batch_execute(&emit(true, "k", "next")).await?;
    has(&case.topic, &["next"]).await?;
    relay.expect_running()
}

#[tokio::test]
async fn check_says_that_there_is_no_second_copy() -> Result<()> {
    let case = messages().await?;
    case.relay.init().await?;
    let said = case.relay.command(&["check"]).await?;
    ensure!(said.stdout.contains("no second copy") && said.code() == 0, "{}", said.stdout);
    let refused = case.relay.beside()?.env("WALPOST_CLEAN", "age").env("WALPOST_WHERE", "true");
    let said = refused.command(&["check"]).await?;
    let said = format!("{}{}", said.stdout, said.stderr);
    for part in ["messages and where do not go together", "nothing to remove"] {
        ensure!(said.contains(part), "{part} is not in:\n{said}");
    }
    Ok(())
}
