//! The migrations make the contract's tables out of nothing and out of what the Go service left.

use anyhow::Result;
use harness::Database;
use logistic_package_api::store;
use tokio_postgres::Client;

use crate::support::{self, DEADLINE, Setup, TestServer, new_title, settings};

const GO_SERVICE: &str = include_str!("go_service.sql");

/// Every row of the Go service, its times read as UTC.
const GO_PACKAGES: &str = "select package_id, title, material, max_volume, reusable,
    created_at at time zone 'UTC' as created_at, updated_at at time zone 'UTC' as updated_at
    from package order by package_id";
const GO_EVENTS: &str = "select package_event_id, package_id, event_type, payload,
    created_at at time zone 'UTC' as created_at from package_event order by package_event_id";
/// The same of ours.
const PACKAGES: &str = "select package_id, title, material, max_volume, reusable, created_at, updated_at
    from package order by package_id";
const EVENTS: &str = "select package_event_id, package_id, event_type, payload, created_at
    from package_event order by package_event_id";

/// Columns, defaults, indexes, constraints and enum labels.
const SHAPE: &str = "
    select format('%s.%s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull,
                  pg_get_expr(adbin, adrelid))
    from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid in ('package'::regclass, 'package_event'::regclass) and attnum > 0 and not attisdropped
    union all select indexdef from pg_indexes where tablename in ('package', 'package_event')
    union all select format('%s %s', conname, pg_get_constraintdef(oid)) from pg_constraint
    where conrelid in ('package'::regclass, 'package_event'::regclass)
    union all select format('%s %s', enumtypid::regtype, enumlabel) from pg_enum
    order by 1";

async fn migrate(database: &Database) -> Result<()> {
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    Ok(())
}

/// The rows of a query as text, one string each.
async fn rows(client: &Client, query: &str) -> Result<Vec<String>> {
    let wrapped = format!("select to_jsonb(rows)::text from ({query}) rows");
    Ok(client.query(&wrapped, &[]).await?.iter().map(|row| row.get(0)).collect())
}

async fn go_database() -> Result<Database> {
    let database = support::database().await?;
    database.execute(GO_SERVICE).await?;
    Ok(database)
}

#[tokio::test]
async fn a_go_database_keeps_every_package_and_every_unpublished_event() -> Result<()> {
    let database = go_database().await?;
    // Wherever the operator's session is: the times are UTC.
    database.execute(&format!("alter database {} set timezone = 'Asia/Kolkata'", database.name())).await?;
    let client = database.client().await?;
    let (packages, events) = (rows(&client, GO_PACKAGES).await?, rows(&client, GO_EVENTS).await?);
    assert_eq!((packages.len(), events.len()), (2, 3));

    migrate(&database).await?;
    assert_eq!(rows(&client, PACKAGES).await?, packages);
    assert_eq!(rows(&client, EVENTS).await?, events);
    let ids = "select count(distinct event_id) from package_event where traceparent is null";
    assert_eq!(client.query_one(ids, &[]).await?.get::<_, i64>(0), 3);
    let goose = client.query_one("select count(*) from goose_db_version", &[]).await?;
    assert_eq!(goose.get::<_, i64>(0), 3, "goose's own table is left alone");
    Ok(())
}

#[tokio::test]
async fn a_go_database_ends_in_the_same_shape_as_an_empty_one() -> Result<()> {
    let (taken_over, new) = (go_database().await?, support::database().await?);
    migrate(&taken_over).await?;
    migrate(&new).await?;
    let shape = rows(&new.client().await?, SHAPE).await?;
    assert_eq!(rows(&taken_over.client().await?, SHAPE).await?, shape);
    let indexes = shape.iter().filter(|line| line.contains("CREATE")).count();
    assert_eq!(indexes, 2, "primary keys and nothing else: {shape:#?}");
    Ok(())
}

#[tokio::test]
async fn a_go_database_is_served_after_the_take_over() -> Result<()> {
    let database = go_database().await?;
    let server = TestServer::start(settings(&database.url, &[])).await?;
    let client = support::Client::new(server.channel().await?);
    let mut setup = Setup { client, server, database };
    assert_eq!(setup.describe(1).await?.title, "ящик");
    setup.client.update_package_v1(new_title(1, "crate")).await?;
    assert_eq!(setup.create("new").await?, 4, "ids go on where the Go service left off");
    let events = rows(&setup.database.client().await?, EVENTS).await?;
    assert_eq!(events.len(), 5);
    Ok(())
}

#[tokio::test]
async fn a_second_run_changes_nothing() -> Result<()> {
    let database = go_database().await?;
    migrate(&database).await?;
    let client = database.client().await?;
    let written = "select xmin::text, * from package_event";
    let (shape, events) = (rows(&client, SHAPE).await?, rows(&client, written).await?);
    migrate(&database).await?;
    assert_eq!(rows(&client, SHAPE).await?, shape);
    assert_eq!(rows(&client, written).await?, events, "not even rewritten");
    Ok(())
}

#[tokio::test]
async fn instances_that_start_together_migrate_once() -> Result<()> {
    let database = support::database().await?;
    let (a, b, c) = tokio::join!(migrate(&database), migrate(&database), migrate(&database));
    a.and(b).and(c)
}

#[tokio::test]
async fn a_half_way_go_database_is_taken_over() -> Result<()> {
    let database = go_database().await?;
    let half = "drop index event_status_index; drop index package_id_index;
        alter table package alter column updated_at type timestamptz using updated_at at time zone 'UTC';
        update package set created_at = null where package_id = 1;
        update package_event set package_id = null where package_event_id = 2;";
    database.execute(half).await?;
    migrate(&database).await?;
    let client = database.client().await?;
    let about: i64 = client
        .query_one("select package_id from package_event where package_event_id = 2", &[])
        .await?
        .get(0);
    assert_eq!(about, 2, "from the payload");
    Ok(())
}

#[tokio::test]
async fn an_event_about_nothing_stops_the_take_over_and_says_so() -> Result<()> {
    let database = go_database().await?;
    database.execute("insert into package_event (event_type) values ('Removed')").await?;
    let before = rows(&database.client().await?, GO_EVENTS).await?;
    let error = migrate(&database).await.unwrap_err().to_string();
    for part in
        ["migration 2 was rolled back", "neither package_id nor an ID", "delete them, and migrate again"]
    {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    assert_eq!(rows(&database.client().await?, GO_EVENTS).await?, before);
    Ok(())
}

#[tokio::test]
async fn an_event_that_fits_no_kafka_message_is_refused_and_an_old_one_kept() -> Result<()> {
    let database = go_database().await?;
    let insert = |bytes: usize| {
        format!(
            "insert into package_event (package_id, event_type, payload)
                 values (1, 'Updated', to_jsonb(repeat('x', {bytes} - 2)))"
        )
    };
    database.execute(&insert(2_000_000)).await?;
    migrate(&database).await?;
    database.execute(&insert(900_000)).await?;
    let error = format!("{:#}", database.execute(&insert(900_001)).await.unwrap_err());
    assert!(error.contains("package_event_payload_fits_kafka"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_plain_insert_is_a_whole_event() -> Result<()> {
    let database = support::database().await?;
    migrate(&database).await?;
    database
        .execute("insert into package_event (package_id, event_type, payload) values (7, 'Created', '{}')")
        .await?;
    let whole = "select count(*) from package_event where created_at <= now() and event_id is not null";
    assert_eq!(database.client().await?.query_one(whole, &[]).await?.get::<_, i64>(0), 1);
    Ok(())
}

#[tokio::test]
async fn a_database_of_another_version_is_left_alone() -> Result<()> {
    let database = support::database().await?;
    migrate(&database).await?;
    database.execute("update _sqlx_migrations set checksum = '\\x00' where version = 1").await?;
    let error = migrate(&database).await.unwrap_err().to_string();
    assert!(error.contains("another version of this program"), "{error}");
    Ok(())
}
