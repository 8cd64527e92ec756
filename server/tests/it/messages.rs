//! Events as logical messages: the same events, in the WAL and in no table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result};
use futures::future::join_all;
use harness::program::sibling;
use harness::{Database, Received, Relay, Stack, Topic};
use logistic_package_proto::package_api::{
    CreatePackageV1Request, RemovePackageV1Request, UpdatePackageV1Request,
};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::support::{self, DEADLINE, Setup, box_of_wood, new_title, rfc3339, utc};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Calls that share statements.
const CALLS: usize = 200;

/// A server that writes messages, over a database with a slot that keeps them.
async fn setup() -> Result<Setup> {
    let database = support::database().await?;
    make_slot(&database).await?;
    Setup::over_with(database, &["--outbox=messages"]).await
}

/// Up to 17 Postgres reads nothing from where the publication did not exist yet, and that of the table comes with the server.
async fn make_slot(database: &Database) -> Result<()> {
    database.execute("create publication of_no_table").await?;
    let make = format!("select pg_create_logical_replication_slot('{}', 'pgoutput')", database.slot_name());
    database.execute(&make).await
}

/// The contents of the messages with the default prefix, in the order in which they were committed.
async fn messages(database: &Database) -> Result<Vec<Value>> {
    let peek = "select data from pg_logical_slot_peek_binary_changes($1::text::name, null, null, \
        'proto_version', '1', 'publication_names', 'of_no_table', 'messages', 'true')";
    let rows = database.client().await?.query(peek, &[&database.slot_name()]).await?;
    rows.iter()
        .filter_map(|row| content(row.get(0)))
        .map(|found| Ok(serde_json::from_slice(found?)?))
        .collect()
}

/// What a `Message` of the protocol holds (PostgreSQL, "Logical Replication Message Formats"); `None` for others.
fn content(message: &[u8]) -> Option<Result<&[u8]>> {
    const FLAGS_AND_LSN: usize = 1 + 8;
    const LENGTH: usize = 4;
    let rest = message.strip_prefix(b"M")?;
    let is_transactional = rest.first() == Some(&1);
    let content = rest[FLAGS_AND_LSN..].strip_prefix(b"package_event\0").map(|rest| &rest[LENGTH..]);
    Some(content.filter(|_| is_transactional).with_context(|| format!("unexpected: {message:?}")))
}

/// A member of each.
fn all<'a>(messages: &'a [Value], member: &str) -> Vec<&'a Value> {
    messages.iter().map(|message| &message[member]).collect()
}

async fn rows(database: &Database) -> Result<i64> {
    Ok(database.client().await?.query_one("select count(*) from package_event", &[]).await?.get(0))
}

fn remove(package_id: u64) -> RemovePackageV1Request {
    RemovePackageV1Request { package_id }
}

fn with<T>(message: T, name: &'static str, value: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn each_change_is_one_message_with_the_package_after_it_and_no_row() -> Result<()> {
    let mut setup = setup().await?;
    let id = setup.create("box").await?;
    let created = setup.describe(id).await?;
    let change = UpdatePackageV1Request { maximum_volume: 0.1, ..new_title(id, "\"crate\" \\ ящик") };
    setup.client.update_package_v1(with(change, "traceparent", TRACEPARENT)).await?;
    let updated = setup.describe(id).await?;
    setup.client.remove_package_v1(remove(id)).await?;

    let events = messages(&setup.database).await?;
    assert_eq!(all(&events, "event_type"), ["Created", "Updated", "Removed"]);
    assert_eq!(all(&events, "package_event_id"), [1, 2, 3]);
    assert!(events.iter().all(|event| event["package_id"] == id));
    assert_eq!(all(&events, "traceparent"), [&json!(null), &json!(TRACEPARENT), &json!(null)]);
    let ids: BTreeSet<_> = all(&events, "event_id").into_iter().map(Value::as_str).collect();
    assert!(ids.len() == 3 && !ids.contains(&None), "{ids:?}");

    // The time of an event is the time of its change, and the payload is the package after it.
    let micros = |time: Option<prost_types::Timestamp>| json!(rfc3339(utc(time.unwrap())));
    let (created_at, updated_at) = (micros(created.created), micros(updated.updated.unwrap().time));
    assert_eq!(all(&events, "created_at")[..2], [&created_at, &updated_at]);
    let payload = json!({
        "ID": id, "Title": "\"crate\" \\ ящик", "Material": "wood", "MaximumVolume": 0.1, "Reusable": true,
        "Created": created_at, "Updated": updated_at,
    });
    assert_eq!(events[0]["payload"]["Title"], "box");
    assert_eq!(all(&events, "payload")[1..], [&payload, &json!(null)]);
    assert_eq!(rows(&setup.database).await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_or_not_found_gives_no_message() -> Result<()> {
    let mut setup = setup().await?;
    // At the commit: the message has been written by then.
    let refuse = "create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'refused at the commit'; end $$;
        create constraint trigger refuse after insert on package deferrable initially deferred
            for each row when (new.title = 'refused') execute function refuse()";
    setup.database.execute(refuse).await?;
    assert_eq!(
        setup.create("refused").await.unwrap_err().downcast::<tonic::Status>()?.code(),
        Code::Internal
    );
    let missing = setup.client.update_package_v1(new_title(77, "x")).await.unwrap_err();
    let also_missing =
        setup.client.remove_package_v1(with(remove(77), "idempotency-key", "k")).await.unwrap_err();
    assert_eq!((missing.code(), also_missing.code()), (Code::NotFound, Code::NotFound));
    assert!(messages(&setup.database).await?.is_empty());

    setup.create("box").await?;
    assert_eq!(messages(&setup.database).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_repeat_with_its_key_writes_no_second_message() -> Result<()> {
    let mut setup = setup().await?;
    for _ in 0..3 {
        setup.client.create_package_v1(with(box_of_wood(), "idempotency-key", "once")).await?;
    }
    assert_eq!(messages(&setup.database).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn each_of_calls_that_share_a_statement_has_its_own_message() -> Result<()> {
    let setup = setup().await?;
    let create = |number: usize| {
        let mut client = setup.client.clone();
        let title = format!("box {number}");
        let request = CreatePackageV1Request { title, ..box_of_wood() };
        async move { client.create_package_v1(request).await.map(|answer| answer.into_inner().id) }
    };
    let ids: Vec<u64> = join_all((0..CALLS).map(create)).await.into_iter().collect::<Result<_, _>>()?;
    let update = |id: u64| {
        let mut client = setup.client.clone();
        async move { client.update_package_v1(new_title(id, &format!("crate {id}"))).await }
    };
    let updates = join_all(ids.iter().map(|id| update(*id))).await;
    updates.into_iter().collect::<Result<Vec<_>, _>>()?;

    let events = messages(&setup.database).await?;
    assert_eq!(events.len(), 2 * CALLS);
    let mut titles = BTreeMap::<_, Vec<_>>::new();
    for event in &events {
        titles.entry(event["package_id"].as_u64().unwrap()).or_default().push(&event["payload"]["Title"]);
    }
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(titles[id], [&json!(format!("box {number}")), &json!(format!("crate {id}"))]);
    }
    let event_ids: BTreeSet<_> = all(&events, "package_event_id").into_iter().map(Value::as_u64).collect();
    assert_eq!(event_ids.len(), 2 * CALLS);
    Ok(())
}

#[tokio::test]
async fn without_a_slot_that_keeps_messages_it_is_not_ready() -> Result<()> {
    let setup = Setup::over_with(support::database().await?, &["--outbox=messages"]).await?;
    let (status, reason) = setup.server.status("/ready").await?;
    assert!(status == 503 && reason.contains("walpost init"), "{status} {reason}");
    // A slot of another database keeps none of this one.
    let other = support::database().await?;
    make_slot(&other).await?;
    assert_eq!(setup.server.status("/ready").await?.0, 503);
    make_slot(&setup.database).await?;
    assert_eq!(setup.server.status("/ready").await?.0, 200);
    Ok(())
}

/// walpost makes a record of each message; then the same events are written as rows, and it makes records of these.
#[tokio::test]
async fn a_message_and_a_row_with_the_same_event_are_the_same_record() -> Result<()> {
    let stack = Stack::shared().await?;
    let database = Database::fresh(&stack.database_url).await?;
    make_slot(&database).await?;
    let mut setup = Setup::over_with(database, &["--outbox=messages"]).await?;
    let topic = Topic::fresh(&stack.brokers, 1).await?;
    let relay = relay(&setup.database, &topic)?;
    relay.init().await?;
    let mut relay = relay.run_ready().await?;

    let created = with(box_of_wood(), "traceparent", TRACEPARENT);
    let id = setup.client.create_package_v1(created).await?.into_inner().id;
    let change = UpdatePackageV1Request { maximum_volume: 0.1, ..new_title(id, "\"crate\" \\ ящик") };
    setup.client.update_package_v1(change).await?;
    setup.client.remove_package_v1(remove(id)).await?;
    let events = messages(&setup.database).await?;
    let insert = "insert into package_event select (jsonb_populate_record(null::package_event, $1)).*";
    let client = setup.database.client().await?;
    for event in &events {
        client.execute(insert, &[event]).await?;
    }

    let wanted = 2 * events.len();
    let records = topic.read(wanted, DEADLINE).await.context(relay.log_tail())?;
    let (of_messages, of_rows) = records.split_at(events.len());
    for (message, row) in of_messages.iter().zip(of_rows) {
        assert_eq!(shown(message), shown(row));
    }
    assert_eq!(
        of_messages.iter().map(|record| record.header("traceparent")).collect::<Vec<_>>(),
        [Some(TRACEPARENT), None, None]
    );
    relay.expect_running()
}

/// walpost on the table and on messages, both with the preset.
fn relay(database: &Database, topic: &Topic) -> Result<Relay> {
    let path = std::env::temp_dir().join(format!("package-api-{}.toml", database.name()));
    let mut settings = String::from("publication = \"package_event_pub\"\n");
    for outbox in ["", "messages = \"package_event\"\n"] {
        write!(settings, "[[outbox]]\npreset = \"package-event\"\ntopic = \"{}\"\n{outbox}", topic.name)?;
    }
    std::fs::write(&path, settings)?;
    // A slot of its own, since that of `make_slot` is read by the test.
    let relay = Relay::of_settings(sibling("walpost")?, database, &topic.brokers, &path)?;
    Ok(relay.env("WALPOST_SLOT", format!("relay_{}", database.slot_name())))
}

/// All of a record but its place in the WAL and in the topic.
fn shown(record: &Received) -> (String, Vec<u8>, Vec<(String, String)>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = record.headers.iter().filter(|(name, _)| !name.starts_with("wal-"));
    let headers = headers.map(|(name, value)| (name.clone(), text(value))).collect();
    (text(&record.key), record.value.clone(), headers)
}
