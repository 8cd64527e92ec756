use anyhow::Result;
use harness::wait_until;

use crate::case::{Case, SOON, write_concurrently};

#[tokio::test]
async fn a_relay_killed_in_mid_stream_loses_nothing() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    let kill_and_restart = async {
        for arrived in [100, 400] {
            wait_until("the stream is in full flow", SOON, async || {
                Ok(case.topic.ends().await?.values().sum::<i64>() >= arrived)
            })
            .await?;
            relay.kill()?;
            relay = case.relay.run_ready().await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(write_concurrently(&case.database, 8, 150, 5), kill_and_restart)?;
    assert_eq!(case.audit().await?.published, 1200);
    Ok(())
}

#[tokio::test]
async fn a_terminated_relay_drains_confirms_and_repeats_nothing() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(500, 7, 1).await?;
    let status = relay.terminate(SOON).await?;
    assert_eq!(status.code(), Some(0), "{}", relay.log_tail());
    let drained = case.audit_now().await?.published;

    let _relay = case.relay.run_ready().await?;
    case.commit_one(1).await?;
    let audit = case.audit().await?;
    assert_eq!((audit.published, audit.duplicates), (501, 0), "{drained} had arrived before the restart");
    Ok(())
}

#[tokio::test]
async fn what_happens_while_no_relay_runs_is_published_later() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    case.commit(300, 7, 10).await?;
    let _relay = case.relay.run_ready().await?;
    assert_eq!(case.audit().await?.duplicates, 0);
    Ok(())
}

#[tokio::test]
async fn init_is_safe_to_repeat_even_while_the_relay_streams() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    case.relay.init().await?;
    case.commit(10, 3, 1).await?;
    case.relay.init().await?;
    assert_eq!(case.audit().await?.duplicates, 0);
    Ok(())
}
