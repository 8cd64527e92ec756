//! What each rpc answers, and its status when it refuses.

use anyhow::Result;
use logistic_package_proto::package_api::{
    CreatePackageV1Request, DescribePackageV1Request, ListPackagesV1Request, MaybeBool,
    RemovePackageV1Request, UpdatePackageV1Request,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Setup, box_of_wood, new_title};

const PAST_EVERY_ID: u64 = 1 << 63;

#[tokio::test]
async fn a_package_is_described_as_it_was_created() -> Result<()> {
    let mut setup = Setup::new().await?;
    let request = CreatePackageV1Request { title: "ящик 📦".into(), ..box_of_wood() };
    let id = setup.client.create_package_v1(request).await?.into_inner().id;

    let package = setup.describe(id).await?;
    assert_eq!((package.id, package.title.as_str(), package.material.as_str()), (id, "ящик 📦", "wood"));
    assert_eq!((package.maximum_volume, package.reusable), (700.5, true));
    assert!(package.created.is_some_and(|time| time.seconds > 0));
    assert_eq!(package.updated, None);
    setup.server.stop().await
}

#[tokio::test]
async fn an_update_sets_what_it_names_and_leaves_the_rest() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?;
    let before = setup.describe(id).await?;

    let reusable = UpdatePackageV1Request {
        package_id: id,
        reusable: Some(MaybeBool { reusable: false }),
        ..Default::default()
    };
    assert!(setup.client.update_package_v1(reusable).await?.into_inner().suc);
    let after = setup.describe(id).await?;
    assert!(!after.reusable);
    assert_eq!((&after.title, &after.material), (&before.title, &before.material));
    assert_eq!((after.maximum_volume, after.created), (before.maximum_volume, before.created));
    assert!(after.updated.is_some());

    let rest = UpdatePackageV1Request {
        package_id: id,
        title: "crate".into(),
        material: "pine".into(),
        maximum_volume: 0.25,
        reusable: None,
    };
    setup.client.update_package_v1(rest).await?;
    let after = setup.describe(id).await?;
    assert_eq!((after.title.as_str(), after.material.as_str()), ("crate", "pine"));
    assert_eq!((after.maximum_volume, after.reusable), (0.25, false));
    Ok(())
}

#[tokio::test]
async fn a_removed_package_is_gone() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?;
    assert!(
        setup.client.remove_package_v1(RemovePackageV1Request { package_id: id }).await?.into_inner().suc
    );
    assert_not_found(setup.describe(id).await);
    assert_not_found(setup.client.remove_package_v1(RemovePackageV1Request { package_id: id }).await);
    assert_not_found(setup.client.update_package_v1(new_title(id, "x")).await);
    Ok(())
}

#[tokio::test]
async fn a_list_is_a_page_in_the_order_of_ids() -> Result<()> {
    let mut setup = Setup::with(&["--page-size-default", "2"]).await?;
    for title in ["a", "b", "c", "d"] {
        setup.create(title).await?;
    }
    // (offset, limit) and the titles of the page.
    let cases: [(u64, u64, &[&str]); 8] = [
        (0, 0, &["a", "b"]),
        (0, 3, &["a", "b", "c"]),
        (1, 1, &["b"]),
        (3, 500, &["d"]),
        (0, u64::MAX, &["a", "b", "c", "d"]),
        (4, 10, &[]),
        (i64::MAX.unsigned_abs(), 10, &[]),
        (u64::MAX, u64::MAX, &[]),
    ];
    for (offset, limit, titles) in cases {
        let page = setup.client.list_packages_v1(ListPackagesV1Request { offset, limit }).await?.into_inner();
        let found: Vec<_> = page.packages.iter().map(|package| package.title.as_str()).collect();
        assert_eq!(found, titles, "offset {offset}, limit {limit}");
        assert!(page.package_title.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn a_page_holds_500_packages_at_most() -> Result<()> {
    let mut setup = Setup::new().await?;
    let insert = "insert into package (title, material, max_volume, created_at)
        select 'x', 'y', 1, now() from generate_series(1, 501)";
    setup.database.execute(insert).await?;
    for limit in [501, u64::MAX] {
        let page = setup.client.list_packages_v1(ListPackagesV1Request { offset: 0, limit }).await?;
        assert_eq!(page.into_inner().packages.len(), 500);
    }
    Ok(())
}

#[tokio::test]
async fn an_invalid_request_names_its_fields() -> Result<()> {
    let mut setup = Setup::new().await?;
    let create = CreatePackageV1Request { title: "x".repeat(33), material: String::new(), ..box_of_wood() };
    let status = setup.client.create_package_v1(create).await.unwrap_err();
    assert_fields(&status, &["Title", "Material"]);

    let update = UpdatePackageV1Request { maximum_volume: f32::NAN, ..Default::default() };
    let status = setup.client.update_package_v1(update).await.unwrap_err();
    assert_fields(&status, &["PackageID", "MaximumVolume"]);

    let status =
        setup.client.describe_package_v1(DescribePackageV1Request { package_id: 0 }).await.unwrap_err();
    assert_fields(&status, &["PackageID"]);
    let status = setup.client.remove_package_v1(RemovePackageV1Request { package_id: 0 }).await.unwrap_err();
    assert_fields(&status, &["PackageID"]);
    Ok(())
}

#[tokio::test]
async fn an_update_that_sets_nothing_is_refused_before_the_package_is_looked_for() -> Result<()> {
    let mut setup = Setup::new().await?;
    for package_id in [12_345, PAST_EVERY_ID, u64::MAX] {
        let empty = UpdatePackageV1Request { package_id, ..Default::default() };
        let status = setup.client.update_package_v1(empty).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "no changes specified"));
    }
    let nothing_for_nobody = UpdatePackageV1Request::default();
    let status = setup.client.update_package_v1(nothing_for_nobody).await.unwrap_err();
    assert_fields(&status, &["PackageID"]);
    Ok(())
}

#[tokio::test]
async fn an_id_that_no_package_has_is_not_found() -> Result<()> {
    let mut setup = Setup::new().await?;
    for package_id in [12_345, i64::MAX.unsigned_abs(), PAST_EVERY_ID, u64::MAX] {
        assert_not_found(setup.describe(package_id).await);
        assert_not_found(setup.client.remove_package_v1(RemovePackageV1Request { package_id }).await);
        assert_not_found(setup.client.update_package_v1(new_title(package_id, "x")).await);
    }
    Ok(())
}

#[tokio::test]
async fn what_the_database_refuses_is_internal_and_shows_no_sql() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.database.execute("alter table package add constraint odd check (title <> 'forbidden')").await?;
    let request = CreatePackageV1Request { title: "forbidden".into(), ..box_of_wood() };
    let status = setup.client.create_package_v1(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    assert!(status.details().is_empty());
    Ok(())
}

fn assert_fields(status: &Status, fields: &[&str]) {
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, fields[0]));
    let details = status.get_details_bad_request().unwrap();
    let found: Vec<_> = details.field_violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(found, fields);
    assert!(details.field_violations.iter().all(|violation| violation.description.starts_with("must be ")));
}

fn assert_not_found<T>(result: Result<T, Status>) {
    let status = result.err().unwrap();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "package not found"));
}
