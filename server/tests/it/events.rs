//! Every change leaves one event, in the transaction of the change and in the order of the changes.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::{DateTime, Utc};
use logistic_package_proto::package_api::{MaybeBool, RemovePackageV1Request, UpdatePackageV1Request};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::support::{Setup, box_of_wood, new_title, rfc3339, utc};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(Debug)]
struct Event {
    package_id: i64,
    event_type: String,
    payload: Option<Value>,
    created_at: DateTime<Utc>,
    event_id: String,
    traceparent: Option<String>,
}

async fn events(setup: &Setup) -> Result<Vec<Event>> {
    let select = "select package_id, event_type::text, payload, created_at, event_id::text, traceparent
        from package_event order by package_event_id";
    let rows = setup.database.client().await?.query(select, &[]).await?;
    let event = |row: &tokio_postgres::Row| Event {
        package_id: row.get(0),
        event_type: row.get(1),
        payload: row.get(2),
        created_at: row.get(3),
        event_id: row.get(4),
        traceparent: row.get(5),
    };
    Ok(rows.iter().map(event).collect())
}

#[tokio::test]
async fn each_change_is_one_event_with_the_package_after_it() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?;
    let created = utc(setup.describe(id).await?.created.unwrap());
    let change = UpdatePackageV1Request { maximum_volume: 0.1, ..new_title(id, "\"crate\" \\ ящик") };
    setup.client.update_package_v1(change).await?;
    let updated = utc(setup.describe(id).await?.updated.unwrap().time.unwrap());
    setup.client.remove_package_v1(RemovePackageV1Request { package_id: id }).await?;

    let events = events(&setup).await?;
    let types: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["Created", "Updated", "Removed"]);
    assert!(events.iter().all(|event| event.package_id == id.cast_signed() && event.traceparent.is_none()));

    let after_creation = json!({
        "ID": id, "Title": "box", "Material": "wood", "MaximumVolume": 700.5, "Reusable": true,
        "Created": rfc3339(created), "Updated": null,
    });
    let after_update = json!({
        "ID": id, "Title": "\"crate\" \\ ящик", "Material": "wood", "MaximumVolume": 0.1, "Reusable": true,
        "Created": rfc3339(created), "Updated": rfc3339(updated),
    });
    let payloads: Vec<_> = events.iter().map(|event| event.payload.clone()).collect();
    assert_eq!(payloads, [Some(after_creation), Some(after_update), None]);

    // The time of an event is the time of its change, and the removal comes last.
    assert_eq!((events[0].created_at, events[1].created_at), (created, updated));
    assert!(events[2].created_at >= updated);
    let ids: std::collections::BTreeSet<_> = events.iter().map(|event| &event.event_id).collect();
    assert_eq!(ids.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_payload_does_not_depend_on_the_zone_or_style_of_a_session() -> Result<()> {
    let mut setup = Setup::new().await?;
    let name = setup.database.name();
    let odd = format!(
        "alter database {name} set timezone = 'Asia/Kolkata';
         alter database {name} set datestyle = 'German';
         alter database {name} set extra_float_digits = 0;"
    );
    setup.database.execute(&odd).await?;
    setup.server.stop().await?;
    let server =
        crate::support::TestServer::start(crate::support::settings(&setup.database.url, &[])).await?;
    setup.client = crate::support::Client::new(server.channel().await?);
    setup.server = server;

    let id = setup.client.create_package_v1(box_of_wood()).await?.into_inner().id;
    let change =
        UpdatePackageV1Request { package_id: id, maximum_volume: 0.123_456_79, ..Default::default() };
    setup.client.update_package_v1(change).await?;
    let package = setup.describe(id).await?;
    let payload = events(&setup).await?[1].payload.clone().unwrap();
    assert_eq!(payload["Created"], json!(rfc3339(utc(package.created.unwrap()))));
    assert_eq!(payload["MaximumVolume"].to_string(), "0.12345679");
    Ok(())
}

#[tokio::test]
async fn setting_a_field_to_the_value_it_has_is_an_event() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?;
    let same =
        UpdatePackageV1Request { reusable: Some(MaybeBool { reusable: true }), ..new_title(id, "box") };
    setup.client.update_package_v1(same).await?;
    let events = events(&setup).await?;
    assert_eq!(events[1].event_type, "Updated");
    assert_eq!(events[1].payload.as_ref().unwrap()["Title"], "box");
    Ok(())
}

#[tokio::test]
async fn a_call_that_fails_leaves_no_event() -> Result<()> {
    let mut setup = Setup::new().await?;
    let _ = setup.client.update_package_v1(new_title(77, "x")).await.unwrap_err();
    let _ = setup.client.remove_package_v1(RemovePackageV1Request { package_id: 77 }).await.unwrap_err();
    assert!(events(&setup).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn without_its_event_no_change_is_made() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?;
    let before = setup.describe(id).await?;
    setup.database.execute("alter table package_event add constraint none check (false) not valid").await?;

    let failures = [
        setup.client.create_package_v1(box_of_wood()).await.unwrap_err(),
        setup.client.update_package_v1(new_title(id, "crate")).await.unwrap_err(),
        setup.client.remove_package_v1(RemovePackageV1Request { package_id: id }).await.unwrap_err(),
    ];
    assert!(failures.iter().all(|status| status.code() == Code::Internal), "{failures:?}");
    assert_eq!(setup.describe(id).await?, before);
    let packages: i64 =
        setup.database.client().await?.query_one("select count(*) from package", &[]).await?.get(0);
    assert_eq!((packages, events(&setup).await?.len()), (1, 1));
    assert_eq!(setup.server.metric("logistic_package_api_cud_event_total").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_traceparent_goes_with_the_event() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.client.create_package_v1(traced(box_of_wood(), TRACEPARENT)).await?.into_inner().id;
    setup.client.update_package_v1(traced(new_title(id, "a"), TRACEPARENT)).await?;
    setup.client.update_package_v1(traced(new_title(id, "b"), "not-a-traceparent")).await?;
    setup.client.remove_package_v1(traced(RemovePackageV1Request { package_id: id }, TRACEPARENT)).await?;
    let kept: Vec<_> = events(&setup).await?.into_iter().map(|event| event.traceparent).collect();
    let trace = Some(TRACEPARENT.to_owned());
    assert_eq!(kept, [trace.clone(), trace.clone(), None, trace]);
    Ok(())
}

fn traced<T>(message: T, traceparent: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

#[tokio::test]
async fn concurrent_updates_of_a_package_never_go_back_in_time() -> Result<()> {
    const UPDATES: usize = 200;
    let mut setup =
        Setup::with(&["--database-connections", "20", "--database-acquire-timeout-ms", "20000"]).await?;
    let id = setup.create("box").await?;
    let calls = (0..UPDATES).map(|number| {
        let mut client = setup.client.clone();
        tokio::spawn(async move { client.update_package_v1(new_title(id, &format!("box {number}"))).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await??;
    }

    let events = events(&setup).await?;
    assert_eq!(events.len(), UPDATES + 1);
    let times: Vec<_> = events.iter().map(|event| event.created_at).collect();
    assert!(times.is_sorted(), "an event's time is before that of the one before it");
    let payloads: Vec<_> = events[1..].iter().map(|event| event.payload.as_ref().unwrap()).collect();
    let updated: Vec<_> = payloads.iter().map(|payload| payload["Updated"].as_str().unwrap()).collect();
    assert!(updated.is_sorted());

    // Each update is there once, and the last event is the state of the package.
    let titles: BTreeMap<_, _> = payloads.iter().map(|payload| (payload["Title"].to_string(), ())).collect();
    assert_eq!(titles.len(), UPDATES);
    let package = setup.describe(id).await?;
    assert_eq!(payloads[UPDATES - 1]["Title"], package.title);
    Ok(())
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_turn_updates_back() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?;
    setup.database.execute("update package set updated_at = '2999-01-01T00:00:00Z'").await?;
    setup.client.update_package_v1(new_title(id, "crate")).await?;
    let events = events(&setup).await?;
    assert_eq!(events[1].payload.as_ref().unwrap()["Updated"], "2999-01-01T00:00:00.000000Z");
    Ok(())
}
