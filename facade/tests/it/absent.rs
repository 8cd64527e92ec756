use anyhow::{Result, ensure};
use harness::{PrivateKafka, Topic};

use crate::case::{Case, SOON, numbers_in, write, write_numbered};

#[tokio::test]
async fn a_topic_that_appears_later_is_read_from_its_first_record() -> Result<()> {
    let case = Case::new().await?;
    let later = Topic::unused_name();
    let mut facade = case.start_with(case.program().env("PACKAGE_FACADE_COMMANDS_TOPIC", &later))?;
    facade.answers(503, &format!("no such topic: {later}")).await?;
    facade.logs("there is no such topic").await?;
    // The others are printed meanwhile.
    write(&case.cache, &[b"\"meanwhile\""]).await?;
    facade.prints("\"meanwhile\"").await?;

    let topic = Topic::named(&later, &case.brokers, 2).await?;
    write_numbered(&topic, 0..10).await?;
    facade.prints_times("\"n\": ", 10).await?;
    facade.is_ready().await?;
    facade.logs("the topic is there").await?;
    facade.stop().await
}

#[tokio::test]
async fn kafka_that_comes_later_is_waited_for_and_one_that_goes_away_as_well() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on(kafka.brokers()).await?;
    write_numbered(&case.commands, 0..1).await?;
    kafka.stop().await?;

    let mut facade = case.start()?;
    facade.answers(503, "it waits for Kafka").await?;
    facade.logs("no broker answers").await?;
    ensure!(facade.get("/live").await?.status == 200);
    kafka.start_again().await?;
    facade.prints("\"n\": 0\n").await?;
    facade.is_ready().await?;

    kafka.kill().await?;
    facade.answers(503, "it waits for Kafka").await?;
    kafka.start_again().await?;
    write_numbered(&case.commands, 1..2).await?;
    facade.prints("\"n\": 1\n").await?;
    facade.is_ready().await?;
    ensure!(numbers_in(&facade.printed()) == [0, 1], "{}", facade.printed());
    case.committed(&case.commands, 2).await?;
    facade.stop().await
}

#[tokio::test]
async fn a_stop_while_kafka_is_away_ends_in_time_and_loses_nothing() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on(kafka.brokers()).await?;
    let mut facade = case.start_with(case.program().env("PACKAGE_FACADE_DRAIN_TIMEOUT_MS", "3000"))?;
    facade.is_ready().await?;
    write_numbered(&case.commands, 0..1).await?;
    facade.prints("\"n\": 0\n").await?;
    // A broker that is silent, most likely before the next commit.
    kafka.pause().await?;
    let ended = facade.process.terminate(SOON).await?;
    ensure!(ended.code() == Some(1) && facade.process.log().contains("drain-timeout-ms"), "{ended}");
    kafka.resume().await?;

    write_numbered(&case.commands, 1..2).await?;
    let mut next = case.start()?;
    next.prints("\"n\": 1\n").await?;
    // What the broker found in its connection when it went on may have been a commit.
    let printed = numbers_in(&next.printed());
    ensure!(printed == [0, 1] || printed == [1], "{printed:?}");
    next.stop().await
}
