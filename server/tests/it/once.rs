//! Changes with an idempotency key are made once.

use anyhow::Result;
use futures::future::join_all;
use harness::http::send;
use logistic_package_proto::package_api::{CreatePackageV1Request, RemovePackageV1Request};
use tonic::{Code, Request};

use crate::support::{Setup, box_of_wood, new_title};

fn keyed<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

async fn events(setup: &Setup) -> Result<i64> {
    Ok(setup.database.client().await?.query_one("select count(*) from package_event", &[]).await?.get(0))
}

#[tokio::test]
async fn a_repeat_returns_the_first_answer_and_writes_no_second_event() -> Result<()> {
    let mut setup = Setup::new().await?;
    let calls = (0..40).map(|_| {
        let mut client = setup.client.clone();
        async move {
            client
                .create_package_v1(keyed(box_of_wood(), "create-1"))
                .await
                .map(|answer| answer.into_inner().id)
        }
    });
    let ids: Vec<u64> = join_all(calls).await.into_iter().collect::<Result<_, _>>()?;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(events(&setup).await?, 1);

    let rest = [("Idempotency-Key", "update-1")];
    let path = format!("/v1/packages/{}?Title=crate", ids[0]);
    for _ in 0..3 {
        assert_eq!(send(setup.server.addresses.rest, "PUT", &path, &rest, "").await?.body, r#"{"Suc":true}"#);
        let remove = RemovePackageV1Request { package_id: ids[0] };
        setup.client.update_package_v1(keyed(new_title(ids[0], "a"), "update-2")).await?;
        if events(&setup).await? > 3 {
            setup.client.remove_package_v1(keyed(remove, "remove-1")).await?;
        }
    }
    assert_eq!(events(&setup).await?, 3);
    for _ in 0..2 {
        let remove = RemovePackageV1Request { package_id: ids[0] };
        assert!(setup.client.remove_package_v1(keyed(remove, "remove-1")).await?.into_inner().suc);
    }
    assert_eq!(events(&setup).await?, 4);
    assert_eq!(setup.server.metric("logistic_package_api_cud_event_total").await?, 4.0);
    Ok(())
}

#[tokio::test]
async fn a_key_stands_for_one_request() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.client.create_package_v1(keyed(box_of_wood(), "k")).await?;
    let other = CreatePackageV1Request { title: "other".into(), ..box_of_wood() };
    let status = setup.client.create_package_v1(keyed(other, "k")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "idempotency-key: it was used for another request");
    let status = setup.client.update_package_v1(keyed(new_title(1, "x"), "k")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for key in ["", "two words", &"x".repeat(256)] {
        let status = setup.client.create_package_v1(keyed(box_of_wood(), key)).await.unwrap_err();
        assert!(status.message().starts_with("idempotency-key: expected"), "{status}");
    }
    assert_eq!(events(&setup).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_change_that_failed_leaves_its_key_free() -> Result<()> {
    let mut setup = Setup::new().await?;
    let status = setup.client.update_package_v1(keyed(new_title(1, "x"), "k")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "package not found"));
    setup.create("box").await?;
    setup.client.update_package_v1(keyed(new_title(1, "x"), "k")).await?;
    assert_eq!(setup.describe(1).await?.title, "x");
    Ok(())
}

#[tokio::test]
async fn an_old_key_is_free_again_and_old_keys_go() -> Result<()> {
    let mut setup = Setup::new().await?;
    let first = setup.client.create_package_v1(keyed(box_of_wood(), "k0")).await?.into_inner().id;
    for number in 1..5 {
        setup.client.create_package_v1(keyed(box_of_wood(), &format!("k{number}"))).await?;
    }
    setup.database.execute("update package_request set created_at = created_at - interval '2 days'").await?;
    let second = setup.client.create_package_v1(keyed(box_of_wood(), "k0")).await?.into_inner().id;
    assert_ne!(first, second);
    setup.client.create_package_v1(keyed(box_of_wood(), "new")).await?;
    let rows = "select count(*) from package_request";
    assert_eq!(setup.database.client().await?.query_one(rows, &[]).await?.get::<_, i64>(0), 2);
    Ok(())
}
