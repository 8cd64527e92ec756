use anyhow::{Context, Result};
use harness::{Received, Topic, events};
use serde_json::Value;

use crate::case::{Case, SOON};
use crate::halt::{halts, loose_case};

/// The case with a topic for dead letters.
pub(crate) async fn with_dead_letters(case: Case) -> Result<(Case, Topic)> {
    let topic = Topic::fresh(&case.topic.brokers, 1).await?;
    let case = case.with("WALPOST_POISON", "dead-letter").with("WALPOST_DEAD_LETTER_TOPIC", &topic.name);
    Ok((case, topic))
}

fn row(letter: &Received) -> Result<Value> {
    serde_json::from_slice(&letter.value).context("a dead letter is JSON")
}

#[tokio::test]
async fn a_row_that_does_not_decode_goes_to_the_dead_letters_with_its_reason_and_the_next_go_on() -> Result<()>
{
    let (case, letters) = with_dead_letters(loose_case().await?).await?;
    // One stood there before the slot, one comes in the stream.
    let insert = |row: &str| format!("insert into loose (package_id, event_type) values {row}");
    case.database.execute(&insert("(-1, 'Updated')")).await?;
    let relay = case.relay.init_and_run().await?;
    case.database
        .execute(&insert("(1, 'Removed'), (2, 'Exploded'), (-1, 'Removed'), (3, 'Removed')"))
        .await?;

    let keys: Vec<_> = case.topic.read(2, SOON).await?.into_iter().map(|record| record.key).collect();
    assert!(keys.contains(&b"1".to_vec()) && keys.contains(&b"3".to_vec()), "{keys:?}");
    let letters = letters.read(3, SOON).await?;
    let reasons: Vec<_> =
        letters.iter().map(|letter| letter.header("walpost-reason").unwrap_or_default()).collect();
    assert!(
        reasons[0].contains("the row that was read with wal-seq 0 (id ")
            && reasons[0].contains("-1 is not in the range"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("Exploded"), "{reasons:?}");
    assert!(reasons[2].contains("row 2 of the transaction"), "{reasons:?}");
    assert_eq!(row(&letters[1])?["event_type"], "Exploded");
    assert_eq!(row(&letters[1])?["package_id"], 2);
    assert_eq!(letters[1].key, b"2");
    assert_eq!(row(&letters[2])?["package_id"], -1);
    assert_eq!(letters[2].header("walpost-table"), Some("public.loose"));
    assert_eq!(letters[2].header("wal-seq"), Some("2"));
    assert_eq!(row(&letters[2])?["event_id"], letters[2].header("ce_id").context("a ce_id")?);
    assert!((relay.metric("walpost_events_total{outcome=\"dead_letter\"}").await? - 3.0).abs() < 0.5);
    assert!(relay.log().contains("dead letters"), "{}", relay.log_tail());
    Ok(())
}

/// Three hundred transactions of one row, and behind them one whose row gives no record.
const UP_TO_ONE_THAT_EXPLODES: &str = "do $$ begin for n in 1..300 loop \
     insert into loose (package_id, event_type) values (n, 'Removed'); commit; end loop; \
     insert into loose (package_id, event_type) values (1, 'Exploded'); end $$";

#[tokio::test]
async fn what_stands_before_a_row_that_halts_is_in_kafka_confirmed_and_not_repeated_afterwards() -> Result<()>
{
    let case = loose_case().await?;
    case.relay.init().await?;
    case.database.execute(UP_TO_ONE_THAT_EXPLODES).await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["row 0 of the transaction that committed at", "Exploded", "dead-letter"]).await?;
    assert_eq!(case.topic.read_all().await?.len(), 300, "{}", relay.log_tail());
    relay.terminate(SOON).await?;

    let (case, letters) = with_dead_letters(case).await?;
    let relay = case.relay.run_ready().await?;
    assert_eq!(letters.read(1, SOON).await?.len(), 1);
    assert_eq!(case.topic.read_all().await?.len(), 300, "they came again: {}", relay.log_tail());
    Ok(())
}

#[tokio::test]
async fn rows_of_a_transaction_in_front_of_one_that_halts_wait_with_it_and_come_once() -> Result<()> {
    let case = loose_case().await?;
    let rows =
        "insert into loose (package_id, event_type) values (1, 'Removed'), (2, 'Removed'), (3, 'Exploded')";
    case.relay.init().await?;
    case.database.execute(rows).await?;
    // Whoever runs it starts it again.
    for _ in 0..2 {
        let mut relay = case.relay.run()?;
        halts(&mut relay, &["row 2 of the transaction that committed at", "Exploded"]).await?;
        relay.terminate(SOON).await?;
    }
    let (case, letters) = with_dead_letters(case).await?;
    let _relay = case.relay.run_ready().await?;
    assert_eq!(letters.read(1, SOON).await?.len(), 1);
    assert_eq!(case.topic.read_all().await?.len(), 2);
    Ok(())
}

/// Events in one transaction, of which the second is too large for the topic: the broker refuses their whole batch.
pub(crate) async fn with_a_large_one(case: &Case) -> Result<()> {
    let sql = "insert into package_event (package_id, event_type, payload) \
               select n, 'Updated', jsonb_build_object('Title', case n when 2 then \
                   (select string_agg(md5(i::text), '') from generate_series(1, 3000) i) else 'small' end) \
               from generate_series(1, 20) n";
    case.database.execute(sql).await
}

#[tokio::test]
async fn only_the_record_that_kafka_refuses_becomes_a_dead_letter_and_not_its_batch() -> Result<()> {
    let (case, letters) = with_dead_letters(Case::new().await?).await?;
    let case = case.with("WALPOST_KAFKA_PROPERTY_COMPRESSION_TYPE", "none");
    case.topic.refuse_batches_above(50_000).await?;
    letters.refuse_batches_above(60_000).await?;
    let relay = case.relay.init_and_run().await?;
    with_a_large_one(&case).await?;
    case.commit(100, 10, 10).await?;

    let arrived = case.topic.read(119, SOON).await?;
    assert!(arrived.iter().all(|record| record.value.len() < 50_000));
    let letters = letters.read(1, SOON).await?;
    assert_eq!(letters.len(), 1, "{}", relay.log_tail());
    assert_eq!(letters[0].key, b"2");
    let reason = letters[0].header("walpost-reason").unwrap_or_default();
    assert!(reason.contains("Kafka refuses the record"), "{reason}");
    // Its own topic would not have taken the whole of it either.
    assert!(letters[0].header("walpost-row-cut-from-bytes").is_some());
    assert_eq!(row(&letters[0])?["package_id"], 2);
    Ok(())
}

#[tokio::test]
async fn a_batch_that_is_refused_only_because_of_its_size_is_sent_one_by_one() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_KAFKA_PROPERTY_COMPRESSION_TYPE", "none");
    let case = case.with("WALPOST_KAFKA_PROPERTY_LINGER_MS", "100");
    case.topic.refuse_batches_above(2_000).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(200, 3, 50).await?;
    let audit = case.audit().await?;
    assert_eq!(audit.published, 200);
    assert!(relay.metric("walpost_producer_restarts_total").await? > 0.0, "no batch was refused");
    relay.expect_running()
}

#[tokio::test]
async fn a_record_that_kafka_refuses_halts_the_relay_by_default_and_names_the_row() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_KAFKA_PROPERTY_COMPRESSION_TYPE", "none");
    case.topic.refuse_batches_above(50_000).await?;
    let mut relay = case.relay.init_and_run().await?;
    with_a_large_one(&case).await?;
    halts(&mut relay, &["Kafka refuses the record", "(row 1 of the transaction at", "max.message.bytes"])
        .await?;
    for record in case.topic.read_all().await? {
        assert_ne!(events::decode(&record)?.id, 2);
    }
    Ok(())
}

/// An event of three hours ahead in the table, which Kafka 4 refuses by its time, and others behind it.
async fn with_one_ahead_of_its_time(case: &Case) -> Result<()> {
    case.refuses_times_ahead().await?;
    case.database
        .execute(
            "insert into package_event (package_id, event_type, created_at) values \
             (1, 'Removed', now() + interval '3 hours'), (1, 'Removed', now()), (2, 'Removed', now())",
        )
        .await
}

#[tokio::test]
async fn a_record_whose_time_kafka_refuses_halts_the_relay_names_the_row_and_arrives_when_the_topic_takes_it()
-> Result<()> {
    let case = Case::new().await?;
    with_one_ahead_of_its_time(&case).await?;
    case.relay.init().await?;
    let mut relay = case.relay.run()?;
    halts(
        &mut relay,
        &["InvalidTimestamp", "(row 1 of the transaction at", "message.timestamp.after.max.ms"],
    )
    .await?;
    let restarts = relay.metric("walpost_producer_restarts_total").await?;
    assert!(restarts < 4.0, "{restarts} producers for one row");
    for record in case.topic.read_all().await? {
        assert_eq!(record.key, b"2", "nothing of its key is ahead of it");
    }
    // As the remedy says.
    case.topic.configure("message.timestamp.after.max.ms", "86400000").await?;
    relay.terminate(SOON).await?;
    let _relay = case.relay.run_ready().await?;
    assert_eq!(case.audit().await?.published, 3);
    Ok(())
}

#[tokio::test]
async fn a_record_whose_time_kafka_refuses_becomes_a_dead_letter_with_another_time() -> Result<()> {
    let (case, letters) = with_dead_letters(Case::new().await?).await?;
    with_one_ahead_of_its_time(&case).await?;
    let _relay = case.relay.init_and_run().await?;
    let letters = letters.read(1, SOON).await?;
    assert_eq!(letters[0].key, b"1");
    assert_eq!(case.topic.read(2, SOON).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_record_larger_than_twice_the_window_is_published() -> Result<()> {
    let case = loose_case().await?.with("WALPOST_WINDOW_BYTES", "1048576");
    let case = case.with("WALPOST_KAFKA_PROPERTY_MESSAGE_MAX_BYTES", "10000000");
    let case = case.with("WALPOST_KAFKA_PROPERTY_COMPRESSION_TYPE", "none");
    case.topic.refuse_batches_above(10_000_000).await?;
    let mut relay = case.relay.init_and_run().await?;
    let row = "insert into loose (package_id, event_type, payload) \
               select 1, 'Updated', jsonb_build_object('t', repeat('x', 3000000))";
    case.database.execute(row).await?;
    let arrived = case.topic.read(1, SOON).await?;
    assert!(arrived[0].value.len() > 3_000_000);
    relay.expect_running()
}
