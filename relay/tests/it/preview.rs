use anyhow::{Context, Result, ensure};
use harness::{Database, Relay, Stack};
use serde_json::Value;

/// A relay around a table that was made by hand; there is no slot, and no broker.
async fn around(table: &str, settings: &[(&str, &str)]) -> Result<(Database, Relay)> {
    let stack = Stack::shared().await?;
    let database = Database::fresh(&stack.database_url).await?;
    database.execute(table).await?;
    let folder = std::env::temp_dir();
    let path = folder.join(format!("preview-{}.toml", database.name()));
    let lines: String = settings.iter().map(|(key, value)| format!("{key} = {value:?}\n")).collect();
    std::fs::write(&path, lines)?;
    let relay = Relay::of_settings(env!("CARGO_BIN_EXE_walpost"), &database, "127.0.0.1:1", &path)?;
    Ok((database, relay))
}

const OUTBOX: &str = "create table outbox (id bigint generated always as identity primary key, \
    aggregate_type text, aggregate_id text not null, event_type text not null, payload jsonb not null, \
    created_at timestamptz not null default now())";

#[tokio::test]
async fn the_newest_rows_are_shown_as_the_records_that_they_would_give() -> Result<()> {
    let (database, relay) = around(OUTBOX, &[("topic", "shop.{aggregate_type}.events")]).await?;
    let empty = relay.command(&["preview"]).await?.success()?.stdout;
    ensure!(empty.contains("guessed    key = \"{aggregate_id}\"") && empty.contains("no rows"), "{empty}");
    let insert = "insert into outbox (aggregate_type, aggregate_id, event_type, payload) values";
    database
        .execute(&format!(
            "{insert} ('order', 'o-1', 'order.made', '{{\"n\": 1}}'), ('order', 'o-2', 'order.paid', '{{}}'), \
             (null, 'o-3', 'order.lost', '{{}}')"
        ))
        .await?;
    let shown = relay.command(&["preview", "-n", "2"]).await?;
    let said = &shown.stdout;
    ensure!(shown.code() == 1, "a row that gives no record is no success: {said}");
    for part in
        ["no record  topic: {aggregate_type}: it is NULL", "topic      shop.order.events", "key        o-2"]
    {
        ensure!(said.contains(part), "{part}\n{said}");
    }
    ensure!(!said.contains("o-1"), "more than two rows: {said}");

    database.execute("delete from outbox where aggregate_type is null").await?;
    let lines = relay.command(&["preview", "--json"]).await?.success()?.stdout;
    let records = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    ensure!(records.len() == 2 && records[1]["value"] == "{\"n\": 1}", "{records:?}");
    ensure!(records[0]["headers"]["ce_type"] == "order.paid", "{records:?}");
    let slots = "select count(*) from pg_replication_slots where database = current_database()";
    let slots: i64 = database.client().await?.query_one(slots, &[]).await?.get(0);
    ensure!(slots == 0, "a slot was made");
    Ok(())
}

#[tokio::test]
async fn every_setting_that_does_not_fit_the_table_is_named_at_once() -> Result<()> {
    let settings = [("topic", "{agregate_type}"), ("value", "body"), ("timestamp", "aggregate_id.x")];
    let (_database, relay) = around(OUTBOX, &settings).await?;
    for command in ["preview", "init", "check"] {
        let ended = relay.command(&[command]).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.code() != 0, "{command}: {said}");
        for part in [
            "topic: {agregate_type} is not a column",
            "nearest: aggregate_type",
            "value: {body} is not a column",
        ] {
            ensure!(said.contains(part), "{command} does not say {part}: {said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_table_is_found_without_regard_to_case_where_there_is_one_such() -> Result<()> {
    let table = "create table \"Shop Outbox\" (id int primary key, topic text, key text, payload text); \
                 insert into \"Shop Outbox\" values (1, 't', 'k', 'v')";
    let (database, relay) = around(table, &[("table", "public.shop outbox")]).await?;
    let said = relay.command(&["preview"]).await?.success()?.stdout;
    ensure!(said.contains("table      public.Shop Outbox"), "{said}");
    relay.init().await?;
    database.execute("create table \"shop OUTBOX\" (id int primary key)").await?;
    let ended = relay.command(&["preview"]).await?;
    ensure!(ended.code() == 1 && ended.stderr.contains("public.shop outbox"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn a_preset_is_printed_as_a_settings_file_that_does_the_same() -> Result<()> {
    let (database, relay) = around("select 1", &[]).await?;
    let printed = relay.command(&["preset", "debezium"]).await?.success()?.stdout;
    database
        .execute(
            "create table outbox (id uuid primary key, aggregatetype text, aggregateid text, type text, payload jsonb); \
             insert into outbox values (gen_random_uuid(), 'Order', '7', 'Made', '{}')",
        )
        .await?;
    let path = std::env::temp_dir().join(format!("preset-{}.toml", database.name()));
    std::fs::write(&path, &printed)?;
    let by_name = relay.clone().env("WALPOST_PRESET", "debezium").command(&["preview", "--json"]).await?;
    let by_file = relay.clone().env("WALPOST_CONFIG", &path).command(&["preview", "--json"]).await?;
    let (by_name, by_file) = (by_name.success()?.stdout, by_file.success()?.stdout);
    ensure!(by_name == by_file && by_name.contains("outbox.event.Order"), "{by_name}\n{by_file}");
    let ended = relay.command(&["preset", "nothing"]).await?;
    ensure!(ended.code() == 2 && ended.stderr.contains("there are debezium"), "{}", ended.stderr);
    std::fs::remove_file(path).context("the file of the preset")
}
