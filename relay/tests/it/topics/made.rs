//! Topics that walpost makes.

use anyhow::{Context, Result, ensure};
use harness::secure::Certificates;
use harness::{SecretFile, Topic};

use super::{insert, of_rows, of_walpost, values, waits};
use crate::case::{Case, SOON};
use crate::check;
use crate::secure::that_denies;

/// The case with this under `[create_topics]` in its settings file, which is there as long as what is returned.
fn making(case: Case, made: &str) -> Result<(Case, SecretFile)> {
    let file = SecretFile::new(case.database.name(), &format!("[create_topics]\n{made}\n"))?;
    let path = file.path().to_string_lossy().into_owned();
    Ok((case.with("WALPOST_CONFIG", &path), file))
}

/// What `walpost check` says of a topic, as if it were that of all rows.
async fn is(case: &Case, topic: &str, name: &str, verdict: &str, says: &str) -> Result<()> {
    let relay = case.relay.clone().env("WALPOST_TOPIC", topic);
    check::says_of(&relay, name, verdict, says).await
}

#[tokio::test]
async fn a_missing_topic_is_made_as_the_pattern_says_that_fits_best_and_no_other_topic_is() -> Result<()> {
    let prefix = Topic::unused_name();
    let (case, _file) = making(
        of_rows().await?,
        &format!(
            "\"{prefix}.*\" = {{ partitions = 2 }}\n\
             \"{prefix}.orders.*\" = {{ partitions = 5, replication = 1, \"cleanup.policy\" = \"compact\", \"segment.ms\" = 600000 }}"
        ),
    )?;
    let (orders, carts, other) =
        (format!("{prefix}.orders.eu"), format!("{prefix}.carts"), format!("{prefix}-other"));
    let made = [of_walpost(&case, &orders, 5), of_walpost(&case, &carts, 2)];
    let mut relay = case.relay.init_and_run().await?;
    for (topic, value) in [(&orders, "1"), (&carts, "2"), (&orders, "3"), (&other, "4")] {
        case.database.execute(&insert(topic, value)).await?;
    }
    waits(&mut relay, &[&other, "does not exist"]).await?;
    ensure!(values(&made[0].read(2, SOON).await?) == ["1", "3"], "{}", relay.log_tail());
    ensure!(values(&made[1].read(1, SOON).await?) == ["2"]);
    ensure!(relay.log().matches("made a topic").count() == 2, "{}", relay.log_tail());
    is(&case, &orders, "topic", "ok", "5 partitions, 1 replicas").await?;
    is(&case, &orders, "cleanup", "warning", "compacted").await?;
    is(&case, &carts, "topic", "ok", "2 partitions").await?;
    let other = Topic::named(&other, &case.topic.brokers, 1).await?;
    ensure!(values(&other.read(1, SOON).await?) == ["4"]);
    relay.ready().await?;
    relay.expect_running()
}

#[tokio::test]
async fn topics_that_the_settings_name_are_made_and_check_says_before_that_they_will_be() -> Result<()> {
    let (events, letters) = (Topic::unused_name(), Topic::unused_name());
    let (case, _file) = making(
        Case::new().await?,
        &format!("\"{events}\" = {{ partitions = 4 }}\n\"{letters}\" = {{ \"retention.ms\" = 60000 }}"),
    )?;
    let case = case
        .with("WALPOST_TOPIC", &events)
        .with("WALPOST_POISON", "dead-letter")
        .with("WALPOST_DEAD_LETTER_TOPIC", &letters);
    let made = (of_walpost(&case, &events, 4), of_walpost(&case, &letters, 1));
    case.relay.init().await?;
    check::is(&case, "topic", "ok", "walpost makes it: partitions: 4").await?;
    check::is(&case, "dead letters", "ok", "retention.ms=60000").await?;
    let mut relay = case.relay.run()?;
    relay.ready().await?;
    case.commit_one(1).await?;
    ensure!(made.0.read(1, SOON).await?[0].key == b"1");
    check::is(&case, "topic", "ok", "4 partitions").await?;
    relay.expect_running()
}

#[tokio::test]
async fn a_topic_that_kafka_does_not_make_is_waited_for_with_its_word_and_a_way_out() -> Result<()> {
    for (made, parts) in [
        ("{ replication = 3 }", ["InvalidReplicationFactor", "start brokers"]),
        ("{ \"cleanup.policy\" = \"compat\" }", ["InvalidConfig", "cleanup.policy=compat"]),
        ("{ \"no.such.setting\" = 1 }", ["InvalidConfig", "no.such.setting=1"]),
    ] {
        let name = Topic::unused_name();
        let (case, _file) = making(of_rows().await?, &format!("\"{name}\" = {made}"))?;
        let mut relay = case.relay.init_and_run().await?;
        case.database.execute(&insert(&case.topic.name, "before")).await?;
        case.database.execute(&insert(&name, "1")).await?;
        let all = [&name, "[create_topics]", "kafka-topics.sh", parts[0], parts[1]];
        waits(&mut relay, &all).await?;
        ensure!(values(&case.topic.read(1, SOON).await?) == ["before"]);
        is(&case, &name, "topic", "failure", parts[1]).await?;
        // As the remedy says.
        let by_hand = Topic::named(&name, &case.topic.brokers, 1).await?;
        ensure!(values(&by_hand.read(1, SOON).await?) == ["1"]);
        relay.ready().await?;
        relay.expect_running()?;
    }
    Ok(())
}

/// With dead letters for unknown topics: one that is to be made is not unknown.
#[tokio::test]
async fn a_topic_that_may_not_be_made_is_waited_for_names_the_right_and_is_made_once_it_is_granted()
-> Result<()> {
    let certificates = Certificates::for_name("localhost")?;
    let (case, kafka) = that_denies(&certificates).await?;
    let name = Topic::unused_name();
    let (case, _file) = making(case, &format!("\"{name}\" = {{ partitions = 2 }}"))?;
    let case = case.with("WALPOST_TOPIC", &name);
    let allow = async |operation: &str| {
        let rule = ["--add", "--force", "--allow-principal", "User:walpost", "--operation", operation];
        kafka.tool("org.apache.kafka.tools.AclCommand", &[&rule[..], &["--topic", &name]].concat()).await
    };
    allow("Describe").await?;
    allow("Write").await?;
    let made = of_walpost(&case, &name, 2);
    case.relay.init().await?;
    case.commit_one(1).await?;
    check::is(&case, "topic", "failure", "CREATE").await?;
    let mut relay = case.relay.run()?;
    waits(&mut relay, &[&name, "TopicAuthorizationFailed", "CREATE"]).await?;
    allow("Create").await?;
    ensure!(made.read(1, SOON).await?[0].key == b"1");
    relay.ready().await
}

#[tokio::test]
async fn two_relays_that_need_the_same_topics_at_once_both_publish_to_them() -> Result<()> {
    let prefix = Topic::unused_name();
    let made = format!("\"{prefix}.*\" = {{ partitions = 1 }}");
    let (one, _file) = making(of_rows().await?, &made)?;
    let (other, _another) = making(of_rows().await?, &made)?;
    let names: Vec<_> = (0..30).map(|topic| format!("{prefix}.{topic}")).collect();
    let topics: Vec<_> = names.iter().map(|name| of_walpost(&one, name, 1)).collect();
    let (mut first, mut second) = (one.relay.init_and_run().await?, other.relay.init_and_run().await?);
    let rows = |value: &str| names.iter().map(|name| insert(name, value)).collect::<Vec<_>>().join("; ");
    let (from_one, from_other) = (rows("1"), rows("2"));
    tokio::try_join!(one.database.execute(&from_one), other.database.execute(&from_other))?;
    for topic in &topics {
        let mut arrived = values(&topic.read(2, SOON).await.context(first.log_tail())?);
        arrived.sort();
        ensure!(arrived == ["1", "2"], "{arrived:?}");
    }
    let made = [&first, &second].map(|relay| relay.log().matches("made a topic").count());
    ensure!(made.iter().sum::<usize>() == names.len(), "each is made once: {made:?}");
    // As a rule the other one made some of them between the question and the making.
    for relay in [&first, &second] {
        ensure!(!relay.log().contains("a topic is not made"), "{}", relay.log_tail());
    }
    first.ready().await?;
    second.ready().await?;
    first.expect_running()?;
    second.expect_running()
}
