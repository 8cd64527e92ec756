//! The publication holds the outbox, inserts only; and the roles have what they need of all this, no more.

use anyhow::Result;
use harness::{Database, PrivatePostgres};
use logistic_package_api::store;
use tonic::Code;

use crate::support::{self, Client, DEADLINE, Setup, TestServer, new_title, settings};

const ROLES: &str = include_str!("../../../migrations/roles/roles.sql");

async fn migrate(database: &Database) -> Result<()> {
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    Ok(())
}

/// Tables, and whether insert, update, delete and truncate are published.
async fn publication(database: &Database) -> Result<(Vec<String>, [bool; 4])> {
    let select = "select pubinsert, pubupdate, pubdelete, pubtruncate,
        (select array_agg(tablename::text order by tablename) from pg_publication_tables where pubname = p.pubname)
        from pg_publication p where pubname = 'package_event_pub'";
    let row = database.client().await?.query_one(select, &[]).await?;
    Ok((row.get(4), [row.get(0), row.get(1), row.get(2), row.get(3)]))
}

#[tokio::test]
async fn the_publication_is_the_outbox_and_inserts_only() -> Result<()> {
    let database = support::database().await?;
    migrate(&database).await?;
    assert_eq!(
        publication(&database).await?,
        (vec!["package_event".to_owned()], [true, false, false, false])
    );
    Ok(())
}

#[tokio::test]
async fn a_publication_that_is_there_is_taken_over() -> Result<()> {
    let database = support::database().await?;
    database.execute("create publication package_event_pub").await?;
    migrate(&database).await?;
    assert_eq!(
        publication(&database).await?,
        (vec!["package_event".to_owned()], [true, false, false, false])
    );
    Ok(())
}

#[tokio::test]
async fn a_publication_of_all_tables_is_refused() -> Result<()> {
    let database = support::database().await?;
    database.execute("create publication package_event_pub for all tables").await?;
    let error = migrate(&database).await.unwrap_err().to_string();
    assert!(error.contains("for all tables") && error.contains("Drop or rename it"), "{error}");
    Ok(())
}

/// On a server of its own: roles belong to the whole of it.
#[tokio::test]
async fn each_role_may_do_its_part_and_no_more() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let database = Database::fresh(postgres.url()).await?;
    migrate(&database).await?;
    database.execute(ROLES).await?;
    // Again, as each start does it: a dump or a backfill that reads meanwhile is not waited for, nor anybody behind it.
    let mut client = database.client().await?;
    let dump = client.transaction().await?;
    dump.batch_execute("lock table package, package_event, package_request in access share mode").await?;
    database.execute(ROLES).await?;
    dump.rollback().await?;
    let passwords =
        "alter role logistic_package_server password 'pw'; alter role logistic_package_relay password 'pw'";
    database.execute(passwords).await?;

    let url = as_role(&database, "logistic_package_server");
    let server = TestServer::start(settings(&url, &["--migrate=false"])).await?;
    let client = Client::new(server.channel().await?);
    let mut setup = Setup { client, server, database };
    let id = setup.create("box").await?;
    setup.client.update_package_v1(new_title(id, "crate")).await?;
    let remove = logistic_package_proto::package_api::RemovePackageV1Request { package_id: id };
    setup.client.remove_package_v1(remove).await?;

    let as_server = harness::database::connect(&url).await?;
    let relay = harness::database::connect(&as_role(&setup.database, "logistic_package_relay")).await?;
    assert!(as_server.execute("select from package_event", &[]).await.is_err());
    assert!(as_server.execute("delete from package_event", &[]).await.is_err());
    assert!(relay.execute("select from package", &[]).await.is_err());
    assert!(
        relay
            .execute("insert into package_event (package_id, event_type) values (1, 'Created')", &[])
            .await
            .is_err()
    );
    assert_eq!(relay.execute("delete from package_event", &[]).await?, 3);
    relay.batch_execute("create schema walpost").await?;

    // A right that is missing is noticed at the start, not at the first call.
    setup.database.execute("revoke insert on package_event from logistic_package_server").await?;
    let refused = TestServer::start(settings(&url, &["--migrate=false"])).await.err().unwrap().to_string();
    assert!(refused.contains("permission denied") && refused.contains("roles.sql"), "{refused}");
    let status = setup.client.create_package_v1(support::box_of_wood()).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    setup.server.stop().await?;

    // A message needs no right on the table, and one that can be taken away.
    let as_messages = || TestServer::start(settings(&url, &["--migrate=false", "--outbox=messages"]));
    let server = as_messages().await?;
    Client::new(server.channel().await?).create_package_v1(support::box_of_wood()).await?;
    server.stop().await?;
    let emit = "function pg_logical_emit_message(boolean, text, text";
    let arguments =
        if harness::database::version(&setup.database.url).await? < 17 { ")" } else { ", boolean)" };
    setup.database.execute(&format!("revoke execute on {emit}{arguments} from public")).await?;
    let refused = as_messages().await.err().unwrap().to_string();
    assert!(refused.contains("permission denied"), "{refused}");
    Ok(())
}

/// The URL of `database` with another role in it.
fn as_role(database: &Database, role: &str) -> String {
    let (scheme, rest) = database.url.split_once("://").unwrap();
    let place = rest.split_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{role}:pw@{place}")
}
