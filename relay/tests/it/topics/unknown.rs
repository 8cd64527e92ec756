//! Topics that do not exist, and rows that name them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::{Received, Topic, wait_until};
use serde_json::Value;

use super::{insert, of_rows, values};
use crate::case::{Case, SOON};

/// The case with a topic for the rows of topics that do not exist.
async fn that_gives_up() -> Result<(Case, Topic)> {
    let case = of_rows().await?;
    let letters = Topic::fresh(&case.topic.brokers, 1).await?;
    let case = case.with("WALPOST_POISON", "dead-letter").with("WALPOST_DEAD_LETTER_TOPIC", &letters.name);
    Ok((case.with("WALPOST_UNKNOWN_TOPIC", "dead-letter"), letters))
}

/// What the rows of dead letters were to say.
fn payloads(letters: &[Received]) -> Result<Vec<String>> {
    let payload = |letter: &Received| {
        let row: Value = serde_json::from_slice(&letter.value).context("a dead letter is JSON")?;
        Ok(row["payload"].as_str().context("a payload")?.to_owned())
    };
    letters.iter().map(payload).collect()
}

/// Everything until now is published, one way or another.
async fn all_is_confirmed(case: &Case) -> Result<()> {
    let until_now = case.wal_end().await?;
    // Others write to the log as well: without a row of its own behind it the slot may stay before that.
    case.database.execute(&insert(&case.topic.name, "the last")).await?;
    case.confirmed_to(until_now).await
}

#[tokio::test]
async fn a_row_of_an_unknown_topic_becomes_a_dead_letter_that_names_topic_and_setting_and_the_others_go_on()
-> Result<()> {
    let (case, letters) = that_gives_up().await?;
    let (one, other) = (Topic::unused_name(), Topic::unused_name());
    // One from before the slot, too.
    case.database.execute(&insert(&one, "0")).await?;
    let mut relay = case.relay.init_and_run().await?;
    let rows = [(&case.topic.name, "1"), (&one, "2"), (&case.topic.name, "3"), (&other, "4"), (&one, "5")];
    for (topic, value) in rows {
        case.database.execute(&insert(topic, value)).await?;
    }
    ensure!(values(&case.topic.read(2, SOON).await?) == ["1", "3"]);
    let letters = letters.read(4, SOON).await.with_context(|| relay.log_tail())?;
    let of = |topic: &str| {
        let named: Vec<_> = letters
            .iter()
            .filter(|letter| letter.header("walpost-reason").unwrap_or_default().contains(topic))
            .cloned()
            .collect();
        payloads(&named)
    };
    ensure!(of(&one)? == ["0", "2", "5"] && of(&other)? == ["4"], "{:?}", payloads(&letters)?);
    let reason = letters[0].header("walpost-reason").unwrap_or_default();
    ensure!(reason.contains("does not exist") && reason.contains("unknown_topic = dead-letter"), "{reason}");
    all_is_confirmed(&case).await.context("nothing is left")?;
    ensure!(relay.get("/ready").await?.status == 200);

    // It is looked for anew with each row.
    let made = Topic::named(&one, &case.topic.brokers, 1).await?;
    case.database.execute(&insert(&one, "6")).await?;
    ensure!(values(&made.read(1, SOON).await?) == ["6"]);
    relay.expect_running()
}

/// An application that makes a topic and names it at once.
#[tokio::test]
async fn no_row_of_a_topic_that_was_made_just_before_becomes_a_dead_letter() -> Result<()> {
    let (case, letters) = that_gives_up().await?;
    let mut relay = case.relay.init_and_run().await?;
    let mut made = Vec::new();
    for round in 0..10 {
        let name = Topic::unused_name();
        // Half of them are known to be missing by now.
        if round % 2 == 0 {
            case.database.execute(&insert(&name, "early")).await?;
        }
        let topic = Topic::named(&name, &case.topic.brokers, 1).await?;
        case.database.execute(&insert(&name, "in time")).await?;
        made.push(topic);
    }
    for topic in &made {
        let arrived = topic.read_until("the row", SOON, |record| record.value == b"in time").await?;
        ensure!(arrived.len() <= 2);
    }
    let letters = payloads(&letters.read_all().await?)?;
    ensure!(letters.iter().all(|letter| letter == "early"), "{letters:?}");
    relay.expect_running()
}

#[tokio::test]
async fn a_topic_that_is_deleted_in_mid_stream_loses_no_row_and_what_comes_of_it_keeps_its_order()
-> Result<()> {
    let (case, letters) = that_gives_up().await?;
    // So long the client waits for a topic that it knows and that is gone: 30 s by default.
    let case = case.with("WALPOST_KAFKA_PROPERTY_TOPIC_METADATA_PROPAGATION_MAX_MS", "2000");
    let doomed = Topic::fresh(&case.topic.brokers, 2).await?;
    let mut relay = case.relay.init_and_run().await?;
    let fill = |from: u32, to: u32, topic: &str| {
        format!(
            "insert into outbox (topic, key, payload) select '{topic}', 'k', n from generate_series({from}, {to}) n"
        )
    };
    case.database.execute(&fill(1, 100, &doomed.name)).await?;
    let arrived = doomed.read(100, SOON).await?;
    doomed.delete().await?;
    for from in [101, 201, 301] {
        case.database.execute(&fill(from, from + 99, &doomed.name)).await?;
        case.database.execute(&insert(&case.topic.name, "beside")).await?;
    }
    all_is_confirmed(&case).await.with_context(|| relay.log_tail())?;
    // What a broker took in the moment before it heard of the end is gone with the topic, by no fault of walpost's.
    let letters = payloads(&letters.read_all().await?)?;
    let mut seen = BTreeSet::new();
    let first: Vec<u32> = letters.iter().map(|letter| letter.parse()).collect::<Result<_, _>>()?;
    let first: Vec<u32> = first.into_iter().filter(|row| seen.insert(*row)).collect();
    let expected: Vec<u32> = (first[0]..=400).collect();
    ensure!(arrived.len() == 100 && first == expected && first[0] <= 201, "{first:?}");
    relay.expect_running()
}

/// The topic of all rows is no row's mistake.
#[tokio::test]
async fn a_topic_that_the_settings_name_is_waited_for_whatever_becomes_of_others() -> Result<()> {
    let (case, letters) = that_gives_up().await?;
    let name = Topic::unused_name();
    let doomed = Topic::named(&name, &case.topic.brokers, 1).await?;
    let case = case.with("WALPOST_TOPIC", &name);
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&insert("unheeded", "1")).await?;
    doomed.read(1, SOON).await?;
    doomed.delete().await?;
    case.database.execute(&insert("unheeded", "2")).await?;
    super::waits(&mut relay, &[&name, "does not exist"]).await?;
    let made = wait_until("the topic is gone", SOON, async || {
        Ok(Topic::named(&name, &case.topic.brokers, 1).await.map(std::mem::forget).is_ok())
    });
    made.await?;
    relay.ready().await?;
    let made = super::of_walpost(&case, &name, 1);
    ensure!(values(&made.read(1, SOON).await?) == ["2"] && letters.read_all().await?.is_empty());
    relay.expect_running()
}
