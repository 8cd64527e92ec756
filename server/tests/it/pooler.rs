//! The way through a pooler: what it refuses, and what it drops.

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use harness::database::by_way_of;
use harness::pooler::{PgBouncer, door_of_a_pooler};
use harness::{Database, wait_until};
use logistic_package_api::store;
use logistic_package_proto::package_api::{DescribePackageV1Request, RemovePackageV1Request};
use tonic::{Code, Request};

use crate::support::{self, Client, DEADLINE, Setup, TestServer, box_of_wood, new_title, settings};

/// A database that says of each package under which settings it was made, and whose own defaults would be wrong ones.
async fn telling_database() -> Result<Database> {
    let database = support::database().await?;
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    let telling = format!(
        "create function tells() returns trigger language plpgsql as $$
         begin
             new.material := concat_ws(' ', current_setting('transaction_isolation'),
                 current_setting('lock_timeout'), current_setting('enable_seqscan'));
             return new;
         end $$;
         create trigger tells before insert on package for each row execute function tells();
         alter database {name} set default_transaction_isolation = 'serializable';
         alter database {name} set extra_float_digits = 0;",
        name = database.name()
    );
    database.execute(&telling).await?;
    Ok(database)
}

/// Every rpc, and what each runs under.
async fn every_call_is_as_it_is_without(server: &TestServer, database: &Database) -> Result<()> {
    let mut client = Client::new(server.channel().await?);
    for number in 0..3 {
        let request = logistic_package_proto::package_api::CreatePackageV1Request {
            maximum_volume: 700.123_4,
            ..box_of_wood()
        };
        let id = client.create_package_v1(request).await?.into_inner().id;
        let describe = DescribePackageV1Request { package_id: id };
        let package = client.describe_package_v1(describe).await?.into_inner().value.context("no package")?;
        assert_eq!(package.material, "read committed 1234ms off");
        for _ in 0..2 {
            let mut once = Request::new(new_title(id, "once"));
            once.metadata_mut().insert("idempotency-key", format!("{id}-{number}").parse()?);
            client.update_package_v1(once).await?;
        }
        client.update_package_v1(new_title(id, "crate")).await?;
        client.remove_package_v1(RemovePackageV1Request { package_id: id }).await?;
        let removed = client.remove_package_v1(RemovePackageV1Request { package_id: id }).await.unwrap_err();
        assert_eq!(removed.code(), Code::NotFound);
    }
    let events = "select count(*), bool_and((payload->>'MaximumVolume') = '700.1234') from package_event";
    let row = database.client().await?.query_one(events, &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (12, true));
    many_at_once(&client).await?;
    wait_until("it is ready", DEADLINE, async || Ok(server.status("/ready").await?.0 == 200)).await
}

/// Calls that share statements, over more connections than the pooler has.
async fn many_at_once(client: &Client) -> Result<()> {
    let calls = (0..300).map(|_| {
        let mut client = client.clone();
        async move {
            let id = client.create_package_v1(box_of_wood()).await?.into_inner().id;
            client.update_package_v1(new_title(id, "crate")).await?;
            let describe = DescribePackageV1Request { package_id: id };
            let package =
                client.describe_package_v1(describe).await?.into_inner().value.context("no package")?;
            ensure!(
                package.title == "crate" && package.material == "read committed 1234ms off",
                "{package:?}"
            );
            Ok(())
        }
    });
    join_all(calls).await.into_iter().collect()
}

/// A bound that is seen in what a package says of itself; the others are wide, for a slow machine.
const BOUNDS: [&str; 6] = [
    "--database-lock-timeout-ms",
    "1234",
    "--database-acquire-timeout-ms",
    "60000",
    "--call-timeout-ms",
    "60000",
];
const TRANSACTION: [&str; 2] = ["--database-pooling", "transaction"];

#[tokio::test]
async fn no_startup_parameter_is_sent_that_a_pooler_refuses() -> Result<()> {
    let database = telling_database().await?;
    let url = by_way_of(&database.url, door_of_a_pooler(database.addr()?).await?)?;
    store::migrate(&settings(&url, &[]).database, DEADLINE).await?;
    let server = TestServer::start(settings(&url, &BOUNDS)).await?;
    every_call_is_as_it_is_without(&server, &database).await?;
    // What the operator asks for is his to leave out.
    let error = TestServer::start(settings(&format!("{url}?options=-c%20geqo%3Doff"), &[])).await;
    let error = error.err().context("it started")?.to_string();
    assert!(
        error.contains("unsupported startup parameter") && error.contains("leave `options` out"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn the_transaction_mode_is_as_good_without_a_pooler() -> Result<()> {
    let database = telling_database().await?;
    let server = TestServer::start(settings(&database.url, &[&BOUNDS[..], &TRANSACTION].concat())).await?;
    every_call_is_as_it_is_without(&server, &database).await
}

#[tokio::test]
async fn a_pool_in_session_mode_is_as_good_as_none() -> Result<()> {
    let database = telling_database().await?;
    let Some(bouncer) = PgBouncer::before(&database, "pool_mode = session\ndefault_pool_size = 40").await?
    else {
        return Ok(());
    };
    let url = by_way_of(&database.url, bouncer.addr())?;
    let server = TestServer::start(settings(&url, &BOUNDS)).await.with_context(|| bouncer.log())?;
    every_call_is_as_it_is_without(&server, &database).await
}

#[tokio::test]
async fn a_pool_in_transaction_mode_is_refused_in_plain_words() -> Result<()> {
    let database = support::database().await?;
    let Some(bouncer) = PgBouncer::before(&database, "pool_mode = transaction").await? else { return Ok(()) };
    let url = by_way_of(&database.url, bouncer.addr())?;
    let migrated = store::migrate(&settings(&url, &[]).database, DEADLINE).await;
    let started = TestServer::start(settings(&url, &[])).await;
    let errors =
        [migrated.err().map(|error| error.to_string()), started.err().map(|error| error.to_string())];
    for error in errors {
        let error = error.context("it was not refused")?;
        assert!(error.contains("a pooler in transaction mode is on the way"), "{error}");
        assert!(error.contains("PACKAGE_API_DATABASE_POOLING=transaction"), "{error}");
    }
    Ok(())
}

/// A pooler that hands its backends out in turn, so that two sessions at the start do not meet.
#[tokio::test]
async fn a_pool_in_transaction_mode_is_found_out_at_the_latest_by_readiness() -> Result<()> {
    let database = support::database().await?;
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    let modest = "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 4\ndefault_pool_size = 4";
    let Some(bouncer) = PgBouncer::before(&database, modest).await? else { return Ok(()) };
    let url = by_way_of(&database.url, bouncer.addr())?;
    let busy = async || Ok(harness::database::connect(&url).await.is_ok());
    wait_until("it has backends", DEADLINE, busy).await?;
    let server = match TestServer::start(settings(&url, &[])).await {
        Ok(server) => server,
        Err(error) => {
            assert!(error.to_string().contains("a pooler in transaction mode"), "{error}");
            return Ok(());
        }
    };
    wait_until("it is found out", DEADLINE, async || {
        let (code, text) = server.status("/ready").await?;
        Ok(code == 503 && text.contains("a pooler in transaction mode"))
    })
    .await
}

#[tokio::test]
async fn through_a_pool_in_transaction_mode_no_setting_and_no_statement_is_lost() -> Result<()> {
    let database = support::database().await?;
    let mode = "pool_mode = transaction\ndefault_pool_size = 3";
    let Some(bouncer) = PgBouncer::before(&database, mode).await? else { return Ok(()) };
    let url = by_way_of(&database.url, bouncer.addr())?;
    let error =
        TestServer::start(settings(&url, &TRANSACTION)).await.err().context("it started")?.to_string();
    assert!(error.contains("1, 2, 3") && error.contains("`logistic-package-api migrate`"), "{error}");

    let database = telling_database().await?;
    let Some(bouncer) = PgBouncer::before(&database, mode).await? else { return Ok(()) };
    let url = by_way_of(&database.url, bouncer.addr())?;
    let server = TestServer::start(settings(&url, &[&BOUNDS[..], &TRANSACTION].concat())).await?;
    every_call_is_as_it_is_without(&server, &database).await.with_context(|| bouncer.log())?;
    // Nothing was left to whoever has the backends next.
    let stranger = harness::database::connect(&url).await?;
    let left = stranger
        .simple_query("select current_setting('lock_timeout'), current_setting('enable_seqscan')")
        .await?;
    let row = left.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.context("no row")?;
    assert_eq!((row.get(0), row.get(1)), (Some("0"), Some("on")));
    Ok(())
}

#[tokio::test]
async fn a_lock_is_waited_for_no_longer_in_transaction_mode() -> Result<()> {
    let database = support::database().await?;
    store::migrate(&settings(&database.url, &[]).database, DEADLINE).await?;
    let mut setup =
        Setup::over_with(database, &[&TRANSACTION[..], &["--database-lock-timeout-ms", "100"]].concat())
            .await?;
    let id = setup.create("box").await?;
    let holder = setup.database.client().await?;
    holder.batch_execute("begin; select from package for update").await?;
    let status = setup.client.update_package_v1(new_title(id, "crate")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    holder.batch_execute("commit").await?;
    setup.client.update_package_v1(new_title(id, "crate")).await?;
    assert_eq!(setup.describe(id).await?.title, "crate");
    Ok(())
}
