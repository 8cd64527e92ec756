//! `--delivery exactly-once`: consumers that read what is committed see each event once, in order.

use anyhow::{Result, ensure};
use harness::{Topic, wait_until};

use crate::case::{Case, SOON, write_concurrently};

/// With the topic of the position, which is deleted with it.
struct Once {
    case: Case,
    position: Topic,
}

impl Once {
    async fn new() -> Result<Self> {
        Ok(Self::of(Case::new().await?))
    }

    fn of(case: Case) -> Self {
        let name = format!("walpost-position-{}", case.database.slot_name());
        let position = Topic::expected(&name, &case.topic.brokers, 1);
        Self { case: case.with("WALPOST_DELIVERY", "exactly-once"), position }
    }

    /// Once nothing is missing: nothing is there twice.
    async fn audit(&self) -> Result<usize> {
        let audit = self.case.audit().await?;
        ensure!(audit.duplicates == 0, "the promise was broken: {audit}");
        Ok(audit.published)
    }
}

#[tokio::test]
async fn each_event_is_seen_once_and_the_position_is_kept_beside_it() -> Result<()> {
    let once = Once::new().await?;
    let _relay = once.case.relay.init_and_run().await?;
    once.case.commit(500, 7, 1).await?;
    once.case.commit(3_000, 7, 1_500).await?;
    ensure!(once.audit().await? == 3_500);
    let positions = once.position.read_all().await?;
    let last = positions.last().map(|record| String::from_utf8_lossy(&record.value).into_owned());
    let last = last.unwrap_or_default();
    ensure!(last.contains("\"events\":1500,\"whole\":true"), "{last}");
    Ok(())
}

#[tokio::test]
async fn a_relay_killed_in_mid_stream_repeats_nothing() -> Result<()> {
    let once = Once::new().await?;
    let mut relay = once.case.relay.init_and_run().await?;
    let kill_and_restart = async {
        for arrived in [100, 400, 700] {
            wait_until("the stream is in full flow", SOON, async || {
                Ok(once.case.topic.ends().await?.values().sum::<i64>() >= arrived)
            })
            .await?;
            relay.kill()?;
            relay = once.case.relay.run_ready().await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(write_concurrently(&once.case.database, 8, 150, 5), kill_and_restart)?;
    ensure!(once.audit().await? == 1200);
    Ok(())
}
