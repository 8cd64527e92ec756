use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::wait::holds_for;
use harness::{PrivateKafka, PrivatePostgres, Topic, wait_until};

use crate::case::{Case, SOON, write_concurrently};

#[tokio::test]
async fn nothing_is_confirmed_while_kafka_is_away_and_nothing_is_lost() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?;
    let _relay = case.relay.init_and_run().await?;
    case.commit(50, 5, 1).await?;
    case.audit().await?;

    kafka.stop().await?;
    case.commit_one(1).await?;
    let behind_first_unpublished = case.wal_end().await?;
    case.commit(200, 5, 10).await?;
    holds_for("the slot stays before the first unpublished event", Duration::from_secs(4), async || {
        Ok(case.confirmed().await? <= behind_first_unpublished)
    })
    .await?;
    kafka.start_again().await?;

    let audit = case.audit().await?;
    assert_eq!(audit.published, 251);
    Ok(())
}

#[tokio::test]
async fn a_crash_of_kafka_under_load_loses_nothing_and_keeps_the_order() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?;
    let mut relay = case.relay.init_and_run().await?;
    let crash = async {
        wait_until("the stream is in full flow", SOON, async || {
            Ok(case.topic.ends().await?.values().sum::<i64>() >= 100)
        })
        .await?;
        kafka.kill().await?;
        kafka.start_again().await
    };
    tokio::try_join!(write_concurrently(&case.database, 4, 500, 5), crash)?;
    assert_eq!(case.audit().await?.published, 2_000);
    relay.expect_running()
}

#[tokio::test]
async fn a_topic_that_was_deleted_and_made_again_gets_what_was_not_acknowledged() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 5, 1).await?;
    case.audit().await?;
    case.topic.delete().await?;
    case.commit(10, 5, 1).await?;
    let again = Topic::named(&case.topic.name, &case.topic.brokers, case.topic.partitions).await?;
    let received = again.read(10, 2 * SOON).await?;
    relay.ready().await?;
    assert_eq!(received.len(), 10);
    Ok(())
}

#[tokio::test]
async fn a_restart_of_postgres_repeats_nothing_that_was_acknowledged() -> Result<()> {
    survives_postgres(async |postgres| postgres.restart().await).await
}

#[tokio::test]
async fn a_crash_of_postgres_repeats_nothing_that_was_acknowledged() -> Result<()> {
    survives_postgres(async |postgres| {
        postgres.kill().await?;
        postgres.start_again().await
    })
    .await
}

async fn survives_postgres(fault: impl AsyncFn(&PrivatePostgres) -> Result<()>) -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(300, 5, 3).await?;
    case.audit().await?;
    fault(&postgres).await?;
    case.commit(300, 5, 3).await?;
    let audit = case.audit().await?;
    relay.expect_running()?;
    assert_eq!((audit.published, audit.duplicates), (600, 0), "{}", relay.log_tail());
    Ok(())
}

#[tokio::test]
async fn postgres_stops_promptly_while_the_relay_streams() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(1000, 5, 10).await?;
    let started = Instant::now();
    postgres.stop().await?;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}\n{}", relay.log_tail());
    relay.expect_running()?;

    postgres.start_again().await?;
    assert_eq!(case.audit().await?.published, 1000);
    Ok(())
}

#[tokio::test]
async fn a_relay_that_lost_postgres_is_not_ready_until_it_is_back() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let mut relay = case.relay.init_and_run().await?;
    postgres.stop().await?;
    let answer = relay.status("the relay says that it lost Postgres", |answer| answer.status == 503).await?;
    assert!(answer.body.contains("\"reason\""), "{}", answer.body);
    assert_eq!(relay.get("/live").await?.status, 200);
    postgres.start_again().await?;
    tokio::time::timeout(SOON, relay.ready()).await??;
    Ok(())
}

#[tokio::test]
async fn a_stream_that_breaks_again_and_again_under_load_never_stalls() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    let breaking = async {
        let end = "select count(pg_terminate_backend(active_pid)) from pg_replication_slots \
                   where slot_name = $1 and active_pid is not null";
        let (client, slot) = (case.client().await?, case.database.slot_name());
        let mut broken = 0;
        wait_until("the stream has been broken 60 times", 6 * SOON, async || {
            broken += client.query_one(end, &[&slot]).await?.get::<_, i64>(0);
            Ok(broken >= 60)
        })
        .await
    };
    tokio::try_join!(case.commit(60_000, 5, 300), breaking)?;
    relay.expect_running()?;
    assert_eq!(case.audit().await?.published, 60_000);
    Ok(())
}

#[tokio::test]
async fn whichever_session_is_terminated_events_and_metrics_go_on() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_SAMPLE_INTERVAL_MS", "200");
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    let role = case.database.relay_role();
    // Those of the stream, of what watches it, and of what asks for the metrics; then all of them.
    let sessions = "from pg_stat_activity where datname = current_database() and usename in ($1, $2)";
    let monitor = role.replacen("relay_", "monitor_", 1);
    let mut committed = 0;
    for nth in 0..12_i64 {
        let all = format!("select count(*) {sessions}");
        wait_until("all sessions are there", SOON, async || {
            Ok(client.query_one(&all, &[&role, &monitor]).await?.get::<_, i64>(0) >= 3)
        })
        .await?;
        let which = if nth % 4 == 3 { "true".to_owned() } else { format!("nth % 3 = {}", nth % 4) };
        let end = format!(
            "select count(pg_terminate_backend(pid)) from (select pid, row_number() over (order by backend_start) nth \
             {sessions}) s where {which}"
        );
        ensure!(client.query_one(&end, &[&role, &monitor]).await?.get::<_, i64>(0) > 0, "none was there");
        let sampled = relay.metric("walpost_sample_timestamp_seconds").await?;
        case.commit(20, 5, 1).await?;
        committed += 20;
        relay.ready().await?;
        wait_until("the metrics go on", SOON, async || {
            Ok(relay.metric("walpost_sample_timestamp_seconds").await? > sampled + 0.2)
        })
        .await?;
        ensure!(case.audit().await?.published == committed, "not all came after session {nth}");
    }
    Ok(())
}

/// `producer.id.expiration.ms` is a day by default.
#[tokio::test]
async fn a_broker_that_forgot_an_idle_producer_gets_every_event_in_order() -> Result<()> {
    let settings = ["producer.id.expiration.ms=1000", "producer.id.expiration.check.interval.ms=200"];
    let kafka = PrivateKafka::start_with(&settings).await?;
    let case = Case::on_kafka(kafka.brokers()).await?;
    let _relay = case.relay.init_and_run().await?;
    for night in 1..=3 {
        case.commit(100, 5, 10).await?;
        ensure!(case.audit().await?.published == night * 100, "not all came after night {night}");
        // Its state is gone after a second without a record, of which nobody outside can see anything.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    Ok(())
}

fn copied(from: &str, to: &str) -> Result<()> {
    let _ = std::fs::remove_dir_all(to);
    ensure!(
        std::process::Command::new("cp").args(["-a", from, to]).status()?.success(),
        "{from} is not copied"
    );
    Ok(())
}

/// The disk of a Postgres at some time.
pub(crate) struct Snapshot {
    folder: String,
    kept: String,
}

impl Snapshot {
    /// As of a volume, in the midst of a session.
    pub(crate) async fn of(postgres: &PrivatePostgres, case: &Case) -> Result<Self> {
        let folder = "select current_setting('data_directory')";
        let folder: String = case.client().await?.query_one(folder, &[]).await?.get(0);
        let kept = format!("{folder}.snapshot");
        postgres.pause().await?;
        copied(&folder, &kept)?;
        postgres.resume().await?;
        Ok(Self { folder, kept })
    }

    /// The server must not run.
    pub(crate) fn put_back(&self) -> Result<()> {
        copied(&self.kept, &self.folder)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.kept);
    }
}

/// A snapshot of a machine that is put back, a failover to a copy of a volume that was behind, a cache that lied.
#[tokio::test]
async fn a_server_that_went_back_in_time_loses_nothing_that_it_commits_afterwards() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(20, 5, 1).await?;
    case.audit().await?;
    let snapshot = Snapshot::of(&postgres, &case).await?;
    case.commit(500, 5, 1).await?;
    case.audit().await?;
    let before = case.confirmed().await?;

    postgres.kill().await?;
    snapshot.put_back()?;
    postgres.start_again().await?;
    relay.ready().await?;
    ensure!(case.confirmed().await? < before, "it did not go back: the test tests nothing");
    // Others, where those stood that it lost.
    case.commit(100, 5, 1).await?;
    wait_until("all of them are published", SOON, async || {
        Ok(case.topic.ends().await?.values().sum::<i64>() >= 20 + 500 + 100)
    })
    .await?;
    Ok(())
}
