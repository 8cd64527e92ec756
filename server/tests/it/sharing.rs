//! Calls that share a statement under load: each has its own answer, its own event, and its own failure.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::future::join_all;
use harness::wait_until;
use logistic_package_proto::package_api::{
    CreatePackageV1Request, DescribePackageV1Request, UpdatePackageV1Request,
};
use tonic::{Code, Request};

use crate::support::{DEADLINE, Setup, box_of_wood, new_title, statements_that_wait};

const CALLS: usize = 500;

/// Nothing but what is tested ends a statement.
const NO_TIMEOUTS: [&str; 4] =
    ["--database-lock-timeout-ms", "600000", "--database-statement-timeout-ms", "600000"];

fn traceparent(number: usize) -> String {
    format!("00-{:032x}-{:016x}-01", number + 1, number + 1)
}

fn traced<T>(message: T, number: usize) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent(number).parse().unwrap());
    request
}

/// Statements that share a transaction, at least once.
async fn transactions_are_fewer_than_events(setup: &Setup) -> Result<()> {
    let count = "select count(distinct xmin::text), count(*) from package_event";
    let row = setup.database.client().await?.query_one(count, &[]).await?;
    let (transactions, events): (i64, i64) = (row.get(0), row.get(1));
    assert!(transactions < events, "{transactions} transactions wrote {events} events: nothing was shared");
    Ok(())
}

#[tokio::test]
async fn each_of_many_creations_has_its_own_id_event_and_trace() -> Result<()> {
    let setup = Setup::new().await?;
    let calls = join_all((0..CALLS).map(|number| {
        let mut client = setup.client.clone();
        async move {
            let request = CreatePackageV1Request { title: format!("box {number}"), ..box_of_wood() };
            Ok::<_, tonic::Status>(client.create_package_v1(traced(request, number)).await?.into_inner().id)
        }
    }));
    let ids: Vec<u64> = calls.await.into_iter().collect::<Result<_, _>>()?;

    let select =
        "select p.package_id, p.title, e.payload->>'Title', e.traceparent, e.created_at = p.created_at
        from package p join package_event e using (package_id)";
    let rows = setup.database.client().await?.query(select, &[]).await?;
    assert_eq!(rows.len(), CALLS);
    let found: BTreeMap<i64, _> = rows.iter().map(|row| (row.get(0), row)).collect();
    for (number, id) in ids.iter().enumerate() {
        let row = found[&id.cast_signed()];
        let title = format!("box {number}");
        assert_eq!((row.get::<_, &str>(1), row.get::<_, &str>(2)), (title.as_str(), title.as_str()));
        assert_eq!(row.get::<_, &str>(3), traceparent(number));
        assert!(row.get::<_, bool>(4));
    }
    transactions_are_fewer_than_events(&setup).await
}

#[tokio::test]
async fn each_of_many_updates_changes_its_own_package_or_finds_none() -> Result<()> {
    let setup = Setup::new().await?;
    let insert = format!(
        "insert into package (title, material, max_volume, reusable, created_at) \
         select 'x', 'y', 1, false, now() from generate_series(1, {CALLS})"
    );
    setup.database.execute(&insert).await?;
    let calls = join_all((0..2 * CALLS).map(|number| {
        let mut client = setup.client.clone();
        let id = u64::try_from(number + 1).unwrap();
        let mut request = UpdatePackageV1Request { package_id: id, ..Default::default() };
        match number % 3 {
            0 => request.title = format!("box {id}"),
            1 => request.material = format!("wood {id}"),
            _ => request.maximum_volume = 2.5,
        }
        async move { (id, client.update_package_v1(traced(request, number)).await) }
    }));
    for (id, answer) in calls.await {
        let known = id <= u64::try_from(CALLS)?;
        assert_eq!(
            answer.map(drop).map_err(|status| status.code()),
            if known { Ok(()) } else { Err(Code::NotFound) }
        );
    }
    let wrong = "select count(*), count(*) filter (where not case (package_id - 1) % 3
            when 0 then (p.title, p.material, max_volume) = ('box ' || package_id, 'y', 1)
            when 1 then (p.title, p.material, max_volume) = ('x', 'wood ' || package_id, 1)
            else (p.title, p.material, max_volume) = ('x', 'y', 2.5) end
          or e.payload->>'Title' <> p.title or e.payload->>'Material' <> p.material
          or e.traceparent <> format('00-%s-%s-01', lpad(to_hex(package_id), 32, '0'), lpad(to_hex(package_id), 16, '0'))
          or e.created_at <> p.updated_at)
        from package p join package_event e using (package_id)";
    let row = setup.database.client().await?.query_one(wrong, &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (i64::try_from(CALLS)?, 0));
    transactions_are_fewer_than_events(&setup).await
}

#[tokio::test]
async fn each_of_many_descriptions_is_of_its_own_package() -> Result<()> {
    let setup = Setup::new().await?;
    let insert = "insert into package (title, material, max_volume, reusable, created_at) \
         select 'box ' || n, 'y', 1, false, now() from generate_series(1, 50) n";
    setup.database.execute(insert).await?;
    let calls =
        join_all(
            (0..CALLS).map(|number| {
                let mut client = setup.client.clone();
                let package_id = u64::try_from(number % 60 + 1).unwrap();
                async move {
                    (package_id, client.describe_package_v1(DescribePackageV1Request { package_id }).await)
                }
            }),
        );
    for (id, answer) in calls.await {
        match answer {
            Ok(found) => {
                let package = found.into_inner().value.unwrap();
                assert_eq!((package.id, package.title), (id, format!("box {id}")));
            }
            Err(status) => assert!(status.code() == Code::NotFound && id > 50, "{id}: {status}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_that_is_refused_fails_alone() -> Result<()> {
    let setup = Setup::new().await?;
    setup.database.execute("alter table package add constraint odd check (title <> 'box 77')").await?;
    let calls = join_all((0..CALLS).map(|number| {
        let mut client = setup.client.clone();
        let request = CreatePackageV1Request { title: format!("box {number}"), ..box_of_wood() };
        async move { client.create_package_v1(request).await.map(drop).map_err(|status| status.code()) }
    }));
    for (number, answer) in calls.await.into_iter().enumerate() {
        assert_eq!(answer, if number == 77 { Err(Code::Internal) } else { Ok(()) }, "{number}");
    }
    let count = "select count(*), count(distinct package_id) from package_event";
    let row = setup.database.client().await?.query_one(count, &[]).await?;
    let made = i64::try_from(CALLS - 1)?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (made, made));
    Ok(())
}

#[tokio::test]
async fn a_package_that_is_locked_holds_up_no_other() -> Result<()> {
    let mut setup = Setup::with(&NO_TIMEOUTS).await?;
    let mut ids = Vec::new();
    for number in 0..100 {
        ids.push(setup.create(&format!("box {number}")).await?);
    }
    let locked = ids[7];
    let holder = setup.database.client().await?;
    holder
        .batch_execute(&format!("begin; select from package where package_id = {locked} for update"))
        .await?;

    let call = |id: u64| {
        let mut client = setup.client.clone();
        async move { client.update_package_v1(new_title(id, "crate")).await.map(drop) }
    };
    let waiting = tokio::spawn(call(locked));
    let others = ids.iter().copied().filter(|id| *id != locked);
    for answer in join_all(others.map(call)).await {
        answer?;
    }
    assert!(!waiting.is_finished());
    let observer = setup.database.client().await?;
    wait_until(
        "it waits for its own row",
        DEADLINE,
        async || Ok(statements_that_wait(&observer).await? == 1),
    )
    .await?;
    holder.batch_execute("commit").await?;
    waiting.await??;
    assert_eq!(setup.describe(locked).await?.title, "crate");
    Ok(())
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_cancels_its_statement() -> Result<()> {
    let mut setup = Setup::with(&[&NO_TIMEOUTS[..], &["--database-connections", "1"]].concat()).await?;
    let id = setup.create("box").await?;
    let holder = setup.database.client().await?;
    holder.batch_execute("begin; select from package for update").await?;
    let mut client = setup.client.clone();
    let call = tokio::spawn(async move { client.update_package_v1(new_title(id, "crate")).await });
    let observer = setup.database.client().await?;
    wait_until("it waits", DEADLINE, async || Ok(statements_that_wait(&observer).await? == 1)).await?;

    call.abort();
    wait_until("its statement is gone", DEADLINE, async || Ok(statements_that_wait(&observer).await? == 0))
        .await?;
    // The only connection is free for others, while the lock is still held.
    assert_eq!(setup.describe(id).await?.title, "box");
    holder.batch_execute("commit").await?;
    assert_eq!(setup.describe(id).await?.title, "box");
    Ok(())
}
