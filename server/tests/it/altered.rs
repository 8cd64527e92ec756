//! A migration of another process beside a running server: its prepared statements are of another table from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use futures::future::join_all;
use harness::http::send;
use harness::wait_until;
use logistic_package_proto::package_api::{DescribePackageV1Request, ListPackagesV1Request};
use tonic::Request;

use crate::support::{Client, DEADLINE, Setup, box_of_wood, new_title};

/// Another type of a column, there and back.
const TYPES: [&str; 4] = ["varchar(64)", "text", "varchar(63)", "varchar(32)"];

async fn alter(setup: &Setup, to: &str) -> Result<()> {
    setup.database.execute(&format!("alter table package alter column title type {to}")).await
}

#[tokio::test]
async fn what_was_prepared_before_a_migration_is_prepared_again() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?;
    let rest = setup.server.addresses.rest;
    let (one, page) = (format!("/v1/packages/{id}"), "/v1/packages");
    for to in TYPES {
        for _ in 0..5 {
            for path in [&one, page] {
                let answer = send(rest, "GET", path, &[], "").await?;
                assert_eq!(answer.status, 200, "before {to}: {path} {}", answer.body);
            }
            assert_eq!(setup.describe(id).await?.title, "box");
            setup.client.update_package_v1(new_title(id, "box")).await?;
        }
        alter(&setup, to).await?;
    }
    assert_eq!(setup.server.status("/ready").await?.0, 200);
    Ok(())
}

/// Describes, lists and changes until it is told to stop; how many calls it made.
async fn caller(
    mut client: Client,
    id: u64,
    number: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Result<usize> {
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        client.describe_package_v1(DescribePackageV1Request { package_id: id }).await?;
        client.list_packages_v1(ListPackagesV1Request::default()).await?;
        client.create_package_v1(box_of_wood()).await?;
        let mut once = Request::new(new_title(id, "crate"));
        once.metadata_mut().insert("idempotency-key", format!("{number}-{calls}").parse()?);
        client.update_package_v1(once).await?;
        calls += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(calls)
}

/// On a slow machine the migration itself may take its time, with everybody waiting for its lock.
const PATIENT: [&str; 6] = [
    "--database-acquire-timeout-ms",
    "60000",
    "--database-lock-timeout-ms",
    "60000",
    "--call-timeout-ms",
    "60000",
];

#[tokio::test]
async fn no_call_fails_for_a_migration_under_load() -> Result<()> {
    let mut setup = Setup::with(&PATIENT).await?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(setup.create("box").await?);
    }
    let callers: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(number, id)| {
            tokio::spawn(caller(setup.client.clone(), *id, number, stop.clone(), done.clone()))
        })
        .collect();
    for to in TYPES {
        let before = done.load(Ordering::Relaxed);
        wait_until("calls were made", DEADLINE, async || {
            Ok(done.load(Ordering::Relaxed) >= before + 80
                || callers.iter().any(tokio::task::JoinHandle::is_finished))
        })
        .await?;
        alter(&setup, to).await?;
    }
    let before = done.load(Ordering::Relaxed);
    wait_until("calls were made", DEADLINE, async || {
        Ok(done.load(Ordering::Relaxed) >= before + 80
            || callers.iter().any(tokio::task::JoinHandle::is_finished))
    })
    .await?;
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for called in join_all(callers).await {
        calls += called??;
    }
    // Each was carried out once: an event for each creation and each change.
    let count = "select count(*) from package_event";
    let events: i64 = setup.database.client().await?.query_one(count, &[]).await?.get(0);
    assert_eq!(usize::try_from(events)?, ids.len() + 2 * calls);
    Ok(())
}
