use anyhow::{Context, Result, ensure};
use harness::database::version;
use harness::{Database, Stack, events};

use crate::case::{Case, SOON};
use crate::halt::halts;

/// A case around an outbox with types of its own: `before` makes them, and each of `columns` stands in the place of one.
pub(crate) async fn odd_case(before: &str, columns: &[(&str, &str)]) -> Result<Case> {
    let database = Database::fresh(&Stack::shared().await?.database_url).await?;
    odd_table(&database, before, columns).await?;
    around_odd(database).await
}

async fn around_odd(database: Database) -> Result<Case> {
    let case = Case::of(database, &Stack::shared().await?.brokers).await?;
    Ok(case.with("WALPOST_TABLE", "public.odd").with("WALPOST_PUBLICATION", "odd_pub"))
}

async fn odd_table(database: &Database, before: &str, columns: &[(&str, &str)]) -> Result<()> {
    let usual = [
        ("package_event_id", "bigserial primary key"),
        ("package_id", "bigint"),
        ("event_type", "text"),
        ("payload", "jsonb"),
        ("created_at", "timestamptz default now()"),
        ("event_id", "uuid default gen_random_uuid()"),
        ("traceparent", "text"),
    ];
    let definition = |(name, usual): (&str, &str)| {
        let own = columns.iter().find(|(own, _)| *own == name).map_or(usual, |(_, own)| own);
        format!("{name} {own}")
    };
    let columns = usual.map(definition).join(", ");
    database.execute(&format!("{before}; create table odd ({columns})")).await
}

/// `walpost init` refuses, and says all of `says`.
pub(crate) async fn refused(case: &Case, says: &[&str]) -> Result<()> {
    for command in ["init", "check"] {
        let ended = case.relay.command(&[command]).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.code() == 1, "{command} does not refuse: {said}");
        for part in says {
            ensure!(said.contains(part), "{command} does not say {part}: {said}");
        }
    }
    Ok(())
}

const INSERT: &str = "insert into odd (package_id, event_type, payload) values";

#[tokio::test]
async fn a_domain_is_published_as_its_base_type_whatever_it_is_of() -> Result<()> {
    let domains = "create domain event_payload as jsonb check (value ? 'ID'); \
        create domain package as bigint check (value > 0); create domain parcel as package; \
        create domain moment as timestamptz; create type kind as enum ('Created', 'Removed'); \
        create domain label as kind; create domain event_uuid as uuid";
    let case = odd_case(
        domains,
        &[
            ("payload", "event_payload"),
            ("package_id", "parcel"),
            ("event_type", "label"),
            ("created_at", "moment default now()"),
            ("event_id", "event_uuid default gen_random_uuid()"),
        ],
    )
    .await?;
    // One from the table, one from the stream.
    case.database.execute(&format!("{INSERT} (7, 'Created', '{{\"ID\": 7}}')")).await?;
    let _relay = case.relay.init_and_run().await?;
    case.topic.read(1, SOON).await?;
    case.database.execute(&format!("{INSERT} (8, 'Removed', '{{\"ID\": 8}}')")).await?;
    for (record, id) in case.topic.read(2, SOON).await?.iter().zip([7_u64, 8]) {
        let event = events::decode(record)?;
        ensure!(event.package_id == id, "{event:?}");
        ensure!(event.payload == format!("{{\"ID\": {id}}}").into_bytes(), "{:?}", event.payload);
        ensure!(event.created.is_some() && record.header("ce_id").is_some_and(|id| id.len() == 36));
    }
    Ok(())
}

#[tokio::test]
async fn a_type_that_cannot_be_read_is_refused_by_name_with_the_cure() -> Result<()> {
    let pair =
        "create type pair as (a bigint, b text); create domain pairs as pair; create domain numbers as int[]";
    for (own, what) in [
        ("pair", "public.pair (a composite type)"),
        ("pairs", "public.pairs (a domain over pair, a composite type)"),
        ("numbers", "public.numbers (a domain over integer[], an array type)"),
        ("int8range", "int8range"),
        ("point", "point"),
        ("xml", "xml"),
    ] {
        let case = odd_case(pair, &[("payload", own)]).await?;
        refused(&case, &[what, "fields.Payload", "cast it in the insert"]).await?;
    }
    // The cure.
    let case = odd_case(pair, &[("payload", "pair")]).await?;
    case.database.execute("alter table odd alter column payload type jsonb using to_jsonb(payload)").await?;
    case.relay.init().await
}

#[tokio::test]
async fn a_column_that_gets_an_unreadable_type_under_load_halts_and_nothing_is_published_of_it() -> Result<()>
{
    let case = odd_case("create type pair as (a bigint, b text)", &[]).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database
        .execute(&format!(
            "begin; {INSERT} (1, 'Created', '{{}}'); alter table odd alter column payload type pair using null; \
             {INSERT} (2, 'Created', (1, 'x')); commit"
        ))
        .await?;
    halts(&mut relay, &["public.pair (a composite type)", "fields.Payload"]).await?;
    ensure!(case.topic.read_all().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_enum_that_is_dropped_and_made_anew_goes_on_by_its_name() -> Result<()> {
    let kind = "create type kind as enum ('Created', 'Removed')";
    let case = odd_case(kind, &[("event_type", "kind")]).await?;
    let mut relay = case.relay.init_and_run().await?;
    let anew = "alter table odd alter column event_type type text; drop type kind; create type kind as enum \
                ('Removed', 'Created'); alter table odd alter column event_type type kind using event_type::kind";
    // While it runs; then, with rows under the old one that were not read before.
    case.database
        .execute(&format!("{INSERT} (1, 'Created', null); {anew}; {INSERT} (2, 'Removed', null)"))
        .await?;
    case.topic.read(2, SOON).await?;
    relay.terminate(SOON).await?;
    case.database.execute(&format!("{INSERT} (3, 'Created', null)")).await?;
    case.database.execute(&format!("{anew}; {INSERT} (4, 'Removed', null)")).await?;
    let mut relay = case.relay.run_ready().await?;
    let records = case.topic.read(4, SOON).await?;
    let types: Vec<_> = records.iter().filter_map(|record| record.header("ce_type")).collect();
    ensure!(types.iter().filter(|kind| kind.ends_with(".created")).count() == 2, "{types:?}");
    relay.expect_running()
}

#[tokio::test]
async fn a_domain_that_was_dropped_before_its_rows_were_read_is_what_it_was() -> Result<()> {
    let case = odd_case("create domain event_payload as jsonb", &[("payload", "event_payload")]).await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    case.database.execute(&format!("{INSERT} (1, 'Created', '{{\"ID\": 1}}')")).await?;
    case.database
        .execute("alter table odd alter column payload type jsonb; drop domain event_payload")
        .await?;
    let _relay = case.relay.run_ready().await?;
    let record = &case.topic.read(1, SOON).await?[0];
    ensure!(events::decode(record)?.payload == b"{\"ID\": 1}");
    Ok(())
}

#[tokio::test]
async fn a_type_that_nothing_explains_any_more_halts_and_the_table_has_its_rows() -> Result<()> {
    let case = odd_case("create type kind as enum ('Created', 'Removed')", &[("event_type", "kind")]).await?;
    case.relay.init_and_run().await?.terminate(SOON).await?;
    case.database.execute(&format!("{INSERT} (1, 'Created', null)")).await?;
    case.database
        .execute(&format!(
            "alter table odd alter column event_type type text; drop type kind; {INSERT} (2, 'Removed', null)"
        ))
        .await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["`event_type`", "public.kind (oid ", "walpost recover --anew"]).await?;
    relay.terminate(SOON).await?;
    let mut recovered = case.relay.recover_with(&["--anew"])?;
    recovered.ready().await?;
    let mut keys: Vec<_> = case.topic.read(2, SOON).await?.into_iter().map(|record| record.key).collect();
    keys.sort_unstable();
    ensure!(keys == [b"1", b"2"], "{keys:?}");
    Ok(())
}

/// Debian's and most others' servers have citext and hstore; the one of the tests may not.
#[tokio::test]
async fn text_that_ignores_case_is_text_and_hstore_is_refused() -> Result<()> {
    let database = Database::fresh(&Stack::shared().await?.database_url).await?;
    if database.execute("create extension citext; create extension hstore").await.is_err() {
        eprintln!("citext and hstore are not there");
        return Ok(());
    }
    odd_table(&database, "select 1", &[("event_type", "citext"), ("payload", "hstore")]).await?;
    let case = around_odd(database).await?;
    refused(&case, &["public.hstore (a base type)", "fields.Payload"]).await?;
    case.database.execute("alter table odd alter column payload type citext using payload::text").await?;
    let _relay = case.relay.init_and_run().await?;
    case.database.execute(&format!("{INSERT} (1, 'Created', 'a text')")).await?;
    ensure!(events::decode(&case.topic.read(1, SOON).await?[0])?.payload == b"a text");
    Ok(())
}

#[tokio::test]
async fn a_key_or_type_that_the_format_can_never_hold_is_refused_before_any_row() -> Result<()> {
    for (column, own, says) in [
        ("package_id", "text", "fields.PackageID: `package_id` has the type text"),
        ("package_id", "uuid", "fields.PackageID: `package_id` has the type uuid"),
        ("package_event_id", "uuid primary key", "fields.ID: `package_event_id` has the type uuid"),
    ] {
        let case = odd_case("select 1", &[(column, own)]).await?;
        refused(&case, &[says, "expected smallint, integer or bigint"]).await?;
    }
    let orders = "create type kind as enum ('order.created', 'order.paid')";
    let case = odd_case(orders, &[("event_type", "kind")]).await?;
    refused(&case, &["order.created, order.paid", "fields.Type", "Created, Updated, Removed"]).await
}

#[tokio::test]
async fn a_column_that_the_stream_leaves_out_because_it_is_generated_is_named_as_such() -> Result<()> {
    let database = Database::fresh(&Stack::shared().await?.database_url).await?;
    let key = "bigint generated always as ((payload->>'ID')::bigint) stored";
    odd_table(&database, "select 1", &[("package_id", key)]).await?;
    let case = around_odd(database).await?;
    let publishes = version(&case.database.url).await? >= 18;
    let publish = "alter publication odd_pub set (publish_generated_columns = stored)";
    let cure = if publishes { publish } else { "fill an ordinary one" };
    let ended = case.relay.command(&["init"]).await?;
    for part in ["`package_id`", "generated", cure] {
        ensure!(ended.code() == 1 && ended.stderr.contains(part), "no {part}: {}", ended.stderr);
    }
    if !publishes {
        return Ok(());
    }
    case.database.execute(publish).await?;
    let _relay = case.relay.init_and_run().await?;
    case.database.execute("insert into odd (event_type, payload) values ('Created', '{\"ID\": 9}')").await?;
    let record = case.topic.read(1, SOON).await?.into_iter().next().context("a record")?;
    ensure!(record.key == b"9");
    Ok(())
}
