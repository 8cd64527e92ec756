use anyhow::Result;
use harness::http::Response;
use harness::{PrivateKafka, Proxy, port, wait_until};
use tokio::net::TcpListener;

use crate::case::{Case, SOON, write_concurrently};

pub(crate) fn stands_by(response: &Response) -> bool {
    response.status == 503 && response.body.contains("\"standby\"")
}

#[tokio::test]
async fn a_second_relay_on_the_slot_stands_by_and_takes_over() -> Result<()> {
    let case = Case::new().await?;
    let mut first = case.relay.init_and_run().await?;
    case.commit(20, 5, 1).await?;
    let mut second = case.relay.beside()?.run()?;
    second.status("the second relay stands by", stands_by).await?;
    assert_eq!(second.get("/live").await?.status, 200);
    assert_eq!(second.get("/healthy").await?.status, 200, "a rolling update waits for it");
    assert_eq!(first.get("/healthy").await?.status, 200);
    assert!(second.get("/status").await?.body.contains("\"standby\""));
    assert!(second.get("/metrics").await?.body.contains("walpost_state{state=\"standby\"} 1"));

    assert!(!second.log().contains("ERROR"), "standing by is no error: {}", second.log_tail());

    first.kill()?;
    second.ready().await?;
    case.commit(20, 5, 1).await?;
    assert_eq!(case.audit().await?.published, 40);
    Ok(())
}

#[tokio::test]
async fn a_relay_that_ends_in_good_order_hands_over_without_a_repetition() -> Result<()> {
    let case = Case::new().await?;
    let mut first = case.relay.init_and_run().await?;
    let mut second = case.relay.beside()?.run()?;
    second.status("the second relay stands by", stands_by).await?;
    case.commit(100, 5, 1).await?;
    first.terminate(SOON).await?;
    second.ready().await?;
    case.commit(100, 5, 1).await?;
    assert_eq!(case.audit().await?.duplicates, 0);
    Ok(())
}

/// A machine that swaps, a container that is frozen: to Postgres the relay is dead, and it does not know.
#[tokio::test]
async fn a_paused_relay_that_wakes_behind_its_successor_breaks_no_order() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_PEER_TIMEOUT_MS", "2000");
    let mut first = case.relay.init_and_run().await?;
    let mut second = case.relay.beside()?.run()?;
    second.status("the second relay stands by", stands_by).await?;
    let pause_and_resume = async {
        let what = "the stream is in full flow";
        wait_until(what, SOON, async || Ok(case.topic.ends().await?.values().sum::<i64>() >= 100)).await?;
        first.pause().await?;
        second.ready().await?;
        first.resume().await?;
        first.status("the first relay stands by", stands_by).await.map(drop)
    };
    tokio::try_join!(write_concurrently(&case.database, 4, 200, 5), pause_and_resume)?;
    assert_eq!(case.audit().await?.published, 800);
    Ok(())
}

/// A relay that slept through the loss of its slot has a queue that is its successor's by now. Its way to Kafka is cut
/// until it has noticed: what its producer sends in the first instant of waking up is repeated and cannot be helped.
#[tokio::test]
async fn a_relay_that_was_paused_for_too_long_gives_up_its_queue_and_stands_by() -> Result<()> {
    let target = port::free()?;
    let proxy = Proxy::on(TcpListener::bind("127.0.0.1:0").await?, target)?;
    let kafka = PrivateKafka::start_behind(target.port(), proxy.addr().port()).await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_PEER_TIMEOUT_MS", "2000");
    let cut_off = case.relay.clone().env("WALPOST_KAFKA_BROKERS", proxy.addr().to_string());
    let mut first = cut_off.init_and_run().await?;
    let mut second = case.relay.beside()?.run()?;
    second.status("the second relay stands by", stands_by).await?;
    case.commit(50, 5, 1).await?;
    case.audit().await?;

    // What is committed now waits in the first relay's queue.
    proxy.refuse();
    case.commit(500, 5, 1).await?;
    wait_until("the queue is filled", SOON, async || {
        Ok(first.metric("logistic_package_api_retranslator_events_processing").await? >= 500.0)
    })
    .await?;
    first.pause().await?;
    second.ready().await?;
    let before = case.audit().await?.duplicates;

    first.resume().await?;
    first
        .status("the first relay has noticed", |answer| {
            answer.body.contains("stood still") || stands_by(answer)
        })
        .await?;
    proxy.heal();
    first.status("the first relay stands by", stands_by).await?;
    assert!(first.log().contains("stood still"), "{}", first.log_tail());
    case.commit(50, 5, 1).await?;
    let audit = case.audit().await?;
    assert_eq!((audit.published, audit.duplicates), (600, before), "{}", first.log_tail());
    Ok(())
}
