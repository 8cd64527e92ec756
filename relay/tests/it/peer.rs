use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::wait::holds_for;
use harness::{PrivateKafka, Proxy, port, wait_until};
use tokio::net::TcpListener;

use crate::case::{Case, SOON, write_concurrently};

/// How long a peer may be silent in these tests.
const PEER_TIMEOUT_MS: &str = "2000";

/// A case whose relay comes to Postgres by way of a proxy.
async fn behind_a_proxy(case: Case) -> Result<(Case, Proxy)> {
    let proxy = Proxy::start(case.database.addr()?).await?;
    let url = case.database.relay_url_by(proxy.addr())?;
    Ok((case.with("WALPOST_DATABASE_URL", &url).with("WALPOST_PEER_TIMEOUT_MS", PEER_TIMEOUT_MS), proxy))
}

#[tokio::test]
async fn a_postgres_that_falls_silent_is_given_up_after_the_time_out_and_nothing_is_lost() -> Result<()> {
    let (case, proxy) = behind_a_proxy(Case::new().await?).await?;
    // The statements on the other connection must not be what notices.
    let case = case.with("WALPOST_WATCH_INTERVAL_MS", "600000");
    let mut relay = case.relay.init_and_run().await?;
    case.commit(50, 5, 1).await?;
    case.audit().await?;
    proxy.black_hole();
    let since = Instant::now();
    relay.status("the silence is noticed", |answer| answer.body.contains("no answer within")).await?;
    let noticed = since.elapsed();
    assert!(noticed < Duration::from_secs(8), "only after {noticed:?}");
    case.commit(50, 5, 1).await?;
    proxy.heal();
    let audit = case.audit().await?;
    assert_eq!((audit.published, audit.duplicates), (100, 0), "{}", relay.log_tail());
    Ok(())
}

/// A machine that gives the relay a fifth of its time, as a busy one does, or a container's limit.
#[tokio::test]
async fn a_relay_with_little_time_of_the_machine_goes_on_asking_while_it_catches_up() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_PEER_TIMEOUT_MS", "10000");
    let relay = case.relay.init_and_run().await?;
    case.commit_one(1).await?;
    case.audit().await?;
    let work = async {
        case.commit(50_000, 5, 200).await?;
        let written = case.wal_end().await?;
        wait_until("the backlog is confirmed", 3 * SOON, async || Ok(case.confirmed().await? >= written))
            .await
    };
    let starve = async {
        loop {
            relay.pause().await?;
            tokio::time::sleep(Duration::from_millis(80)).await;
            relay.resume().await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = work => done.with_context(|| relay.log_tail())?,
        ended = starve => return ended,
    }
    relay.resume().await?;
    // Each time it gave up the server it would begin where it had begun before.
    let lost = relay.metric("walpost_reconnects_total{peer=\"postgres\"}").await?;
    ensure!(lost == 0.0, "the server was given up {lost} times\n{}", relay.log_tail());
    case.audit().await?;
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_is_not_taken_for_a_dead_one() -> Result<()> {
    let (case, _proxy) = behind_a_proxy(Case::new().await?).await?;
    let relay = case.relay.init_and_run().await?;
    holds_for("no session is lost", Duration::from_secs(7), async || {
        Ok(relay.metric("walpost_reconnects_total").await? == 0.0)
    })
    .await
}

/// Unconfirmed events in flight, and keepalives that ask for a reply: each answer with an old position used to bring the
/// next question at once, 24,000 a second.
#[tokio::test]
async fn questions_are_answered_without_a_storm() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let (case, proxy) = behind_a_proxy(Case::on_kafka(kafka.brokers()).await?).await?;
    // What is asked of the catalogue, and how often, is not what is looked at here.
    let case = case.with("WALPOST_WATCH_INTERVAL_MS", "600000");
    let relay = case.relay.init_and_run().await?;
    kafka.stop().await?;
    case.commit(10, 5, 1).await?;
    wait_until("they are in flight", SOON, async || {
        Ok(relay.metric("logistic_package_api_retranslator_events_processing").await? >= 10.0)
    })
    .await?;
    let (before, since) = (proxy.passed_bytes(), Instant::now());
    holds_for("a few bytes a second pass", Duration::from_secs(5), async || {
        Ok(proxy.passed_bytes() - before < 200_000)
    })
    .await?;
    let passed = proxy.passed_bytes() - before;
    assert!(passed > 0, "no question was asked in {:?}", since.elapsed());
    kafka.start_again().await?;
    assert_eq!(case.audit().await?.published, 10);
    Ok(())
}

#[tokio::test]
async fn postgres_frees_the_slot_of_a_relay_that_falls_silent_and_another_takes_over() -> Result<()> {
    let (case, proxy) = behind_a_proxy(Case::new().await?).await?;
    let _first = case.relay.init_and_run().await?;
    let direct = case.relay.beside()?.env("WALPOST_DATABASE_URL", &case.database.relay_url);
    let mut second = direct.run()?;
    second.status("the second stands by", |answer| answer.body.contains("\"standby\"")).await?;
    proxy.black_hole();
    let since = Instant::now();
    second.ready().await?;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(8), "only after {took:?}");
    case.commit(10, 5, 1).await?;
    assert_eq!(case.audit().await?.published, 10);
    Ok(())
}

#[tokio::test]
async fn a_full_window_never_makes_postgres_take_the_relay_for_dead() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?;
    let case = case.with("WALPOST_WINDOW_RECORDS", "100").with("WALPOST_PEER_TIMEOUT_MS", PEER_TIMEOUT_MS);
    let relay = case.relay.init_and_run().await?;
    kafka.stop().await?;
    case.commit(5_000, 5, 1).await?;
    wait_until("the window is full", SOON, async || {
        Ok(relay.metric("logistic_package_api_retranslator_events_processing").await? >= 100.0)
    })
    .await?;
    holds_for("the session goes on", Duration::from_secs(7), async || {
        Ok(relay.metric("walpost_reconnects_total").await? == 0.0)
    })
    .await?;
    kafka.start_again().await?;
    assert_eq!(case.audit().await?.published, 5_000);
    Ok(())
}

/// Nothing is read from a stream while the window is full, so nothing is read of its end either.
#[tokio::test]
async fn a_stream_that_ends_behind_a_full_window_is_noticed_and_nothing_is_lost() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?;
    let case = case.with("WALPOST_WINDOW_RECORDS", "100").with("WALPOST_PEER_TIMEOUT_MS", PEER_TIMEOUT_MS);
    let relay = case.relay.init_and_run().await?;
    kafka.pause().await?;
    case.commit(5_000, 5, 1).await?;
    wait_until("the window is full", SOON, async || {
        Ok(relay.metric("logistic_package_api_retranslator_events_processing").await? >= 100.0)
    })
    .await?;
    let end = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1";
    case.client().await?.query_one(end, &[&case.database.slot_name()]).await?;
    let postgres = "walpost_reconnects_total{peer=\"postgres\"}";
    wait_until("it is noticed", SOON, async || Ok(relay.metric(postgres).await? > 0.0)).await?;
    kafka.resume().await?;
    assert_eq!(case.audit().await?.published, 5_000);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_given_up_and_nothing_is_lost_or_reordered() -> Result<()> {
    let target = port::free()?;
    let proxy = Proxy::on(TcpListener::bind("127.0.0.1:0").await?, target)?;
    let kafka = PrivateKafka::start_behind(target.port(), proxy.addr().port()).await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_PEER_TIMEOUT_MS", PEER_TIMEOUT_MS);
    let case = case.with("WALPOST_KAFKA_BROKERS", &proxy.addr().to_string());
    let relay = case.relay.init_and_run().await?;
    let fall_silent = async {
        wait_until("the stream is in full flow", SOON, async || {
            Ok(case.topic.ends().await?.values().sum::<i64>() >= 100)
        })
        .await?;
        proxy.black_hole();
        wait_until("the silence is noticed", SOON, async || Ok(relay.log().contains("Timed out"))).await?;
        proxy.reset();
        proxy.heal();
        anyhow::Ok(())
    };
    tokio::try_join!(write_concurrently(&case.database, 4, 300, 5), fall_silent)?;
    assert_eq!(case.audit().await?.published, 1_200);
    Ok(())
}

/// The client's own time-out is set so long that it would not notice: it stands for whatever makes it stick.
#[tokio::test]
async fn a_producer_that_is_stuck_while_kafka_answers_is_replaced() -> Result<()> {
    let target = port::free()?;
    let proxy = Proxy::on(TcpListener::bind("127.0.0.1:0").await?, target)?;
    let kafka = PrivateKafka::start_behind(target.port(), proxy.addr().port()).await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_PEER_TIMEOUT_MS", PEER_TIMEOUT_MS);
    let case = case.with("WALPOST_KAFKA_BROKERS", &proxy.addr().to_string());
    let case = case.with("WALPOST_KAFKA_PROPERTY_SOCKET_TIMEOUT_MS", "120000");
    let mut relay = case.relay.init_and_run().await?;
    case.commit(50, 5, 1).await?;
    case.audit().await?;
    proxy.freeze();
    case.commit(50, 5, 1).await?;
    assert_eq!(case.audit().await?.published, 100);
    assert!(relay.metric("walpost_producer_restarts_total").await? >= 1.0, "{}", relay.log_tail());
    relay.expect_running()
}
