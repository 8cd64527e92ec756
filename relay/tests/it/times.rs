use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use harness::{PrivateKafka, Topic, wait_until};

use crate::case::{Case, SOON};
use crate::check::is;
use crate::halt::halts;
use crate::types::odd_case;

fn now_ms() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// A broker that looks for records to delete all the time.
async fn eager_kafka() -> Result<PrivateKafka> {
    PrivateKafka::start_with(&["log.retention.check.interval.ms=300", "log.initial.task.delay.ms=300"]).await
}

/// A case whose topic keeps records for an hour, and a row that was written two hours ago.
async fn born_late(kafka: &PrivateKafka) -> Result<Case> {
    let case = Case::on_kafka(kafka.brokers()).await?;
    case.topic.configure("retention.ms", "3600000").await?;
    let sql = "insert into package_event (package_id, event_type, created_at) \
               values (7, 'Removed', now() - interval '2 hours')";
    case.database.execute(sql).await?;
    Ok(case)
}

/// How many records the topic holds.
async fn held(case: &Case) -> Result<i64> {
    Ok(case.topic.ends().await?.values().sum())
}

#[tokio::test]
async fn a_late_record_is_gone_at_once_with_its_own_time_and_is_kept_with_that_of_its_publishing()
-> Result<()> {
    let kafka = eager_kafka().await?;
    let case = born_late(&kafka).await?;
    let relay = case.relay.init_and_run().await?;
    wait_until("the event is acknowledged", SOON, async || {
        Ok(relay.metric("walpost_events_total{outcome=\"published\"}").await? > 0.5)
    })
    .await?;
    wait_until("the record is deleted", SOON, async || Ok(held(&case).await? == 0)).await?;

    // The same with the setting; a record of the other kind shows when the broker has looked again.
    let kept = born_late(&kafka).await?.with("WALPOST_LATE_AFTER_MS", "60000");
    let _relay = kept.relay.init_and_run().await?;
    let record = kept.topic.read(1, SOON).await?.pop().context("a record")?;
    ensure!((now_ms()? - record.timestamp_ms).abs() < 120_000, "{record:?}");
    let time = record.header("ce_time").context("a ce_time")?.to_owned();
    let again = born_late(&kafka).await?;
    let _other = again.relay.init_and_run().await?;
    wait_until("the broker has looked again", SOON, async || Ok(held(&again).await? == 0)).await?;
    ensure!(held(&kept).await? == 1, "it is deleted");
    let row = "select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from package_event";
    ensure!(kept.client().await?.query_one(row, &[]).await?.get::<_, String>(0) == time, "{time}");
    Ok(())
}

#[tokio::test]
async fn an_event_of_the_stream_that_comes_late_has_the_time_of_its_publishing_too() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    case.commit_one(1).await?;
    let committed_ms = now_ms()?;
    // The relay is started some time after that; by the setting a moment is late.
    let late = case.relay.clone().env("WALPOST_LATE_AFTER_MS", "1").run_ready().await?;
    let record = case.topic.read(1, SOON).await?.pop().context("a record")?;
    ensure!(record.timestamp_ms > committed_ms, "{} is not after {committed_ms}", record.timestamp_ms);
    drop(late);
    let case = Case::new().await?;
    case.relay.init().await?;
    case.commit_one(1).await?;
    let committed_ms = now_ms()?;
    let _relay = case.relay.run_ready().await?;
    let record = case.topic.read(1, SOON).await?.pop().context("a record")?;
    ensure!(record.timestamp_ms <= committed_ms, "by default it is the commit's");
    Ok(())
}

#[tokio::test]
async fn check_warns_of_a_topic_that_deletes_or_refuses_late_records_until_either_cure() -> Result<()> {
    const NAME: &str = "record times";
    let case = Case::new().await?;
    case.relay.init().await?;
    case.topic.configure("retention.ms", "3600000").await?;
    is(&case, NAME, "warning", "60 min").await?;
    is(&case, NAME, "warning", "message.timestamp.type=LogAppendTime").await?;
    let case = case.with("WALPOST_LATE_AFTER_MS", "3600000");
    is(&case, NAME, "warning", "--late-after-ms=360000").await?;
    let case = case.with("WALPOST_LATE_AFTER_MS", "360000");
    is(&case, NAME, "ok", "").await?;
    let case = case.with("WALPOST_LATE_AFTER_MS", "0");
    case.topic.configure("message.timestamp.type", "LogAppendTime").await?;
    is(&case, NAME, "ok", "arrival").await?;
    case.topic.configure("message.timestamp.before.max.ms", "7200000").await?;
    let case = case.with("WALPOST_LATE_AFTER_MS", "7200001");
    is(&case, NAME, "warning", "message.timestamp.before.max.ms").await
}

#[tokio::test]
async fn check_warns_of_a_row_that_the_topic_refuses_because_its_time_lies_ahead() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_LATE_AFTER_MS", "60000");
    case.refuses_times_ahead().await?;
    let sql = "insert into package_event (package_id, event_type, created_at) \
               values (7, 'Removed', now() + interval '3 hours')";
    case.database.execute(sql).await?;
    is(&case, "record times", "warning", "message.timestamp.after.max.ms").await
}

const INSERT: &str = "insert into odd (package_id, event_type, created_at) values";

#[tokio::test]
async fn a_time_outside_of_the_years_1_to_9999_is_a_row_that_does_not_fit() -> Result<()> {
    let case = odd_case("select 1", &[]).await?;
    let letters = Topic::fresh(&case.topic.brokers, 1).await?;
    let case = case.with("WALPOST_POISON", "dead-letter").with("WALPOST_DEAD_LETTER_TOPIC", &letters.name);
    let odd = "(1, 'Created', '10000-01-01Z'), (2, 'Created', '0044-03-15Z BC'), (3, 'Created', 'infinity'), \
               (4, 'Created', '-infinity'), (5, 'Created', '0001-01-01Z')";
    // From the table, then from the stream.
    case.database.execute(&format!("{INSERT} {odd}")).await?;
    let _relay = case.relay.init_and_run().await?;
    case.database.execute(&format!("{INSERT} {odd}, (6, 'Created', '9999-12-31T23:59:59.999999Z')")).await?;

    let records = case.topic.read(3, SOON).await?;
    let mut times: Vec<_> = records.iter().filter_map(|record| record.header("ce_time")).collect();
    times.sort_unstable();
    ensure!(
        times
            == ["0001-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"],
        "{times:?}"
    );
    for letter in letters.read(8, SOON).await? {
        let reason = letter.header("walpost-reason").unwrap_or_default();
        ensure!(reason.contains("{created_at}"), "{reason}");
        ensure!(reason.contains("years 1 to 9999") || reason.contains("infinite"), "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_does_not_fit_halts_by_default_and_the_remedy_leads_out() -> Result<()> {
    let case = odd_case("select 1", &[]).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database
        .execute(&format!("{INSERT} (1, 'Created', '10000-01-01Z'); {INSERT} (2, 'Created', now())"))
        .await?;
    halts(&mut relay, &["years 1 to 9999", "--poison=dead-letter", "--dead-letter-topic="]).await?;
    ensure!(case.topic.read_all().await?.is_empty(), "nothing behind it");
    relay.terminate(SOON).await?;
    let letters = Topic::fresh(&case.topic.brokers, 1).await?;
    let option = format!("--dead-letter-topic={}", letters.name);
    let mut relay = case.relay.run_with(&["--poison=dead-letter", &option])?;
    relay.ready().await?;
    ensure!(letters.read(1, SOON).await?[0].key == b"1");
    ensure!(case.topic.read(1, SOON).await?[0].key == b"2");
    Ok(())
}
