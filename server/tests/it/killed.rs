//! Calls that are killed at random: an event for every committed change, and none without.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use logistic_package_proto::package_api::{
    CreatePackageV1Request, RemovePackageV1Request, UpdatePackageV1Request,
};
use rand::{RngExt, SeedableRng};
use tokio::time::timeout;
use tonic::Code;

use crate::support::{Client, Setup, box_of_wood};

const CALLERS: u64 = 24;
const CALLS: u64 = 150;

/// What a caller was told.
#[derive(Default)]
struct Told {
    created: BTreeSet<i64>,
    changes: u64,
}

/// Creates, updates and removes; half of the calls are dropped after a random while.
async fn caller(mut client: Client, seed: u64, ids: u64) -> Told {
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let mut told = Told::default();
    for number in 0..CALLS {
        let patience = match random.random_range(0..2) {
            0 => Duration::from_micros(random.random_range(0..4_000)),
            _ => Duration::from_secs(20),
        };
        let package_id = random.random_range(1..=ids);
        let made = match random.random_range(0..10) {
            0..5 => {
                let request = CreatePackageV1Request { title: format!("{seed} {number}"), ..box_of_wood() };
                let made = timeout(patience, client.create_package_v1(request)).await;
                if let Ok(Ok(answer)) = &made {
                    told.created.insert(answer.get_ref().id.cast_signed());
                }
                made.map(|answer| answer.map(drop))
            }
            5..9 => {
                let request = UpdatePackageV1Request {
                    package_id,
                    title: format!("{seed} {number}"),
                    ..Default::default()
                };
                timeout(patience, client.update_package_v1(request)).await.map(|answer| answer.map(drop))
            }
            _ => {
                let request = RemovePackageV1Request { package_id };
                timeout(patience, client.remove_package_v1(request)).await.map(|answer| answer.map(drop))
            }
        };
        match made {
            Ok(Ok(())) => told.changes += 1,
            Ok(Err(status)) => assert!(is_harmless(&status), "{status:?}"),
            Err(_) => {}
        }
    }
    told
}

/// Not there; or its server, or its statement's backend, was killed.
fn is_harmless(status: &tonic::Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::Unavailable | Code::Cancelled | Code::Unknown)
}

/// Every package is what its last event says, every missing one was removed, and nothing else left an event.
async fn events_are_the_changes(setup: &Setup, told: &[Told]) -> Result<()> {
    let client = setup.database.client().await?;
    let odd = "with last as (
            select distinct on (package_id) package_id, event_type::text as type, payload
            from package_event order by package_id, package_event_id desc)
        select count(*) from package full join last using (package_id)
        where (package.package_id is null) <> (last.type = 'Removed')
            or last.package_id is null or package.title <> last.payload->>'Title'";
    assert_eq!(client.query_one(odd, &[]).await?.get::<_, i64>(0), 0, "packages and their events differ");
    let repeated = "select count(*) from (
        select package_id, event_type::text as type from package_event
        where event_type <> 'Updated' group by 1, 2 having count(*) > 1) as twice";
    assert_eq!(client.query_one(repeated, &[]).await?.get::<_, i64>(0), 0, "created or removed twice");
    // Each call has a title of its own.
    let twice = "select count(*) from (
        select from package_event where event_type <> 'Removed'
        group by event_type, payload->>'Title' having count(*) > 1) as twice";
    assert_eq!(client.query_one(twice, &[]).await?.get::<_, i64>(0), 0, "a call was carried out twice");
    let created = "select package_id from package_event where event_type = 'Created'";
    let events: BTreeSet<i64> = client.query(created, &[]).await?.iter().map(|row| row.get(0)).collect();
    assert!(told.iter().all(|told| told.created.is_subset(&events)), "an answered creation has no event");
    let count: i64 = client.query_one("select count(*) from package_event", &[]).await?.get(0);
    let answered: u64 = told.iter().map(|told| told.changes).sum();
    assert!(count.cast_unsigned() >= answered, "{count} events, {answered} answered changes");
    Ok(())
}

#[tokio::test]
async fn calls_killed_at_random_leave_an_event_for_each_change_and_no_other() -> Result<()> {
    let setup = Setup::new().await?;
    let killer = setup.database.client().await?;
    let kills = async {
        let one = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
            and application_name = 'logistic-package-api' order by random() limit 1";
        loop {
            tokio::time::sleep(Duration::from_millis(25)).await;
            killer.query(one, &[]).await.unwrap();
        }
    };
    let calls = join_all(
        (0..CALLERS).map(|seed| tokio::spawn(caller(setup.client.clone(), seed, CALLERS * CALLS / 4))),
    );
    let told: Vec<Told> = tokio::select! {
        told = calls => told.into_iter().collect::<Result<_, _>>()?,
        () = kills => unreachable!("it goes on for ever"),
    };
    let database = setup.database;
    // What nobody waits for may still be under way: the server ends, then it is counted.
    setup.server.stop().await?;
    let left = Setup::over(database).await?;
    events_are_the_changes(&left, &told).await
}

#[tokio::test]
async fn a_stop_under_load_answers_what_was_accepted() -> Result<()> {
    let setup = Setup::new().await?;
    let calls = (0..CALLERS).map(|seed| {
        let mut client = setup.client.clone();
        tokio::spawn(async move {
            let mut told = Told::default();
            for number in 0.. {
                let request = CreatePackageV1Request { title: format!("{seed} {number}"), ..box_of_wood() };
                match client.create_package_v1(request).await {
                    Ok(answer) => {
                        told.created.insert(answer.into_inner().id.cast_signed());
                        told.changes += 1;
                    }
                    // The connection was told to go before this call was accepted, or nobody listens any more.
                    Err(_) => break,
                }
            }
            told
        })
    });
    let calls: Vec<_> = calls.collect();
    let events = setup.database.client().await?;
    harness::wait_until("there is load", crate::support::DEADLINE, async || {
        Ok(events.query_one("select count(*) from package_event", &[]).await?.get::<_, i64>(0) > 500)
    })
    .await?;
    let database = setup.database;
    setup.server.stop().await?;
    let told: Vec<Told> = join_all(calls).await.into_iter().collect::<Result<_, _>>()?;
    let left = Setup::over(database).await?;
    events_are_the_changes(&left, &told).await?;
    // Whoever was accepted was answered: no change without its answer.
    let answered: u64 = told.iter().map(|told| told.changes).sum();
    let events = left.database.client().await?.query_one("select count(*) from package_event", &[]).await?;
    assert_eq!(events.get::<_, i64>(0).cast_unsigned(), answered);
    Ok(())
}
