use anyhow::Result;

use crate::case::{Case, SOON, insert, write_concurrently};

#[tokio::test]
async fn events_of_a_key_arrive_in_commit_order_under_concurrent_writers() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    write_concurrently(&case.database, 8, 100, 5).await?;
    let audit = case.audit().await?;
    assert_eq!((audit.published, audit.duplicates), (800, 0));
    Ok(())
}

#[tokio::test]
async fn the_order_is_that_of_commits_and_not_of_ids() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    let (mut slow, quick) = (case.client().await?, case.client().await?);
    let earlier_id = slow.transaction().await?;
    insert(earlier_id.client(), 1).await?;
    insert(&quick, 1).await?;
    earlier_id.commit().await?;

    let received = case.topic.read(2, SOON).await?;
    let ids: Vec<u64> =
        received.iter().map(|record| Ok(harness::events::decode(record)?.id)).collect::<Result<_>>()?;
    assert_eq!(ids, [2, 1]);
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    let insert =
        |key| format!("insert into package_event (package_id, event_type) values ({key}, 'Removed')");
    let whole = format!("begin; {}; rollback", insert(1));
    let part =
        format!("begin; {}; savepoint s; {}; rollback to s; {}; commit", insert(2), insert(3), insert(4));
    case.database.execute(&whole).await?;
    case.database.execute(&part).await?;
    // The stream is in order: once this one is there, the others would be.
    case.commit_one(5).await?;

    let mut keys: Vec<String> =
        case.topic.read(3, SOON).await?.iter().map(|record| record.key_text()).collect();
    keys.sort();
    assert_eq!(keys, ["2", "4", "5"]);
    assert!(case.audit_now().await?.holds());
    let received = case.topic.read_all().await?;
    let mut numbers: Vec<_> = received
        .iter()
        .filter(|record| record.key != b"5")
        .map(|record| (record.key_text(), record.header("wal-seq").unwrap_or_default().to_owned()))
        .collect();
    numbers.sort();
    let expected = [("2", "0"), ("4", "1")].map(|(key, number)| (key.to_owned(), number.to_owned()));
    assert_eq!(numbers, expected, "the ordinal counts what was committed");
    Ok(())
}
