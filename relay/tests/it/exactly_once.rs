//! `--delivery exactly-once`: consumers that read what is committed see each event once, in order.

use anyhow::{Context, Result, ensure};
use harness::secure::Certificates;
use harness::{Audit, KafkaProxy, PrivateKafka, PrivatePostgres, Topic, events, wait_until};

use crate::case::{Case, SOON, write_concurrently};
use crate::dead_letter::{with_a_large_one, with_dead_letters};
use crate::failover::{Failover, copies_slots, slot_is_copied};
use crate::halt::halts;
use crate::mapping::around;
use crate::outage::Snapshot;
use crate::secure::{is_denied, rule_on, that_denies};
use crate::standby::stands_by;

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

    /// On a Kafka of its own, whose answers can be cut off, and not waited for long.
    async fn behind_a_proxy() -> Result<(Self, PrivateKafka, KafkaProxy)> {
        let (kafka, proxy) = PrivateKafka::start_behind_proxy().await?;
        let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_PEER_TIMEOUT_MS", "2000");
        let once = Self::of(case.with("WALPOST_KAFKA_BROKERS", &proxy.addr().to_string()));
        Ok((once, kafka, proxy))
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

#[tokio::test]
async fn a_relay_that_ends_in_good_order_hands_over_without_a_repetition() -> Result<()> {
    let once = Once::new().await?;
    let mut first = once.case.relay.init_and_run().await?;
    let mut second = once.case.relay.beside()?.run()?;
    second.status("the second relay stands by", stands_by).await?;
    once.case.commit(100, 5, 1).await?;
    first.terminate(SOON).await?;
    second.ready().await?;
    once.case.commit(100, 5, 1).await?;
    ensure!(once.audit().await? == 200);
    Ok(())
}

/// What its producer sends as it wakes is refused: its successor has its name.
#[tokio::test]
async fn a_paused_relay_that_wakes_behind_its_successor_repeats_nothing() -> Result<()> {
    let once = Once::of(Case::new().await?.with("WALPOST_PEER_TIMEOUT_MS", "2000"));
    let case = &once.case;
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
    tokio::try_join!(write_concurrently(&case.database, 4, 400, 5), pause_and_resume)?;
    ensure!(once.audit().await? == 1_600, "{}", first.log_tail());
    Ok(())
}

/// Whether a transaction is committed whose answer was lost, the position in it says.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_to_be_one() -> Result<()> {
    let (once, _kafka, proxy) = Once::behind_a_proxy().await?;
    let case = &once.case;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(50, 5, 5).await?;
    once.audit().await?;
    proxy.cut_in_place_of_the_end(1_000_000);
    case.commit(50, 5, 5).await?;
    wait_until("the producer is replaced", SOON, async || {
        Ok(relay.metric("walpost_producer_restarts_total").await? >= 1.0)
    })
    .await
    .with_context(|| format!("{:?}", proxy.faults_made()))?;
    proxy.heal();
    ensure!(proxy.faults_made().cut > 0, "no answer was cut");
    case.commit(50, 5, 5).await?;
    ensure!(once.audit().await? == 150, "{}", relay.log_tail());
    ensure!(case.confirmed().await? > 0);
    relay.expect_running()
}

#[tokio::test]
async fn a_large_transaction_is_there_once_though_the_relay_is_killed_in_its_midst() -> Result<()> {
    let once = Once::of(Case::new().await?.with("WALPOST_WINDOW_RECORDS", "500"));
    let mut relay = once.case.relay.init_and_run().await?;
    once.case.commit(30_000, 7, 30_000).await?;
    for arrived in [1_000, 10_000] {
        wait_until("some have arrived", SOON, async || {
            Ok(once.case.topic.ends().await?.values().sum::<i64>() >= arrived)
        })
        .await?;
        relay.kill()?;
        relay = once.case.relay.run_ready().await?;
    }
    ensure!(once.audit().await? == 30_000);
    Ok(())
}

#[tokio::test]
async fn rows_from_before_the_slot_are_there_once_though_the_relay_is_killed_in_their_midst() -> Result<()> {
    let once = Once::of(Case::new().await?.with("WALPOST_WINDOW_RECORDS", "200"));
    once.case.commit(20_000, 10, 20_000).await?;
    once.case.relay.init().await?;
    let mut relay = once.case.relay.run()?;
    for arrived in [1, 5_000] {
        wait_until("some have arrived", SOON, async || {
            relay.expect_running()?;
            Ok(once.case.topic.ends().await?.values().sum::<i64>() >= arrived)
        })
        .await?;
        relay.kill()?;
        relay = once.case.relay.run()?;
    }
    relay.ready().await?;
    once.case.commit(100, 10, 10).await?;
    ensure!(once.audit().await? == 20_100);
    Ok(())
}

#[tokio::test]
async fn a_row_that_kafka_refuses_becomes_one_dead_letter_and_the_others_are_there_once() -> Result<()> {
    let (case, letters) = with_dead_letters(Case::new().await?).await?;
    let once = Once::of(case.with("WALPOST_KAFKA_PROPERTY_COMPRESSION_TYPE", "none"));
    once.case.topic.refuse_batches_above(50_000).await?;
    let relay = once.case.relay.init_and_run().await?;
    with_a_large_one(&once.case).await?;
    once.case.commit(100, 10, 10).await?;
    let arrived = once.case.topic.read(119, SOON).await?;
    ensure!(arrived.len() == 119 && once.case.topic.count().await? == 119, "{}", relay.log_tail());
    letters.read(1, SOON).await?;
    ensure!(letters.count().await? == 1, "{}", relay.log_tail());
    Ok(())
}

/// Two outboxes with one topic for their position would skip each other's events.
#[tokio::test]
async fn a_position_of_another_slot_is_not_taken_for_ones_own() -> Result<()> {
    let once = Once::new().await?;
    let mut relay = once.case.relay.init_and_run().await?;
    once.case.commit(10, 5, 1).await?;
    once.audit().await?;
    let other = Case::new().await?.with("WALPOST_DELIVERY", "exactly-once");
    let other = other.with("WALPOST_POSITION_TOPIC", &once.position.name);
    other.relay.init().await?;
    let mut taken_in = other.relay.run()?;
    halts(&mut taken_in, &["the position of the slot", "--position-topic"]).await?;
    taken_in.terminate(SOON).await?;
    once.case.commit(10, 5, 1).await?;
    ensure!(once.audit().await? == 20, "{}", relay.log_tail());
    relay.expect_running()
}

#[tokio::test]
async fn a_failover_with_the_slot_copied_repeats_nothing() -> Result<()> {
    if !copies_slots().await? {
        return Ok(());
    }
    let mut failover = Failover::with_standby(&["sync_replication_slots=on"]).await?;
    failover.case = failover.case.with("WALPOST_DELIVERY", "exactly-once");
    let name = format!("walpost-position-{}", failover.case.database.slot_name());
    let position = Topic::expected(&name, &failover.case.topic.brokers, 1);
    let mut relay = failover.case.relay.init_and_run().await?;
    slot_is_copied(&failover).await?;
    failover.load_and_fail_over().await?;
    let (case, _servers) = failover.case_after()?;
    let once = Once { case, position };
    relay.ready().await?;
    once.case.commit(100, 5, 10).await?;
    let published = once.audit().await.with_context(|| relay.log_tail())?;
    ensure!(published >= 600, "{published}");
    // And by a process that knows of it by the position alone.
    relay.kill()?;
    let relay = once.case.relay.run_ready().await?;
    once.case.commit(100, 5, 10).await?;
    once.audit().await.with_context(|| relay.log_tail()).map(drop)
}

/// The position is of another history then: what it says of transactions that the server has lost says nothing of those that
/// stand in their place.
async fn goes_back_in_time(confirm_interval_ms: &str, commits: i64, says: &str) -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let once = Once::of(case.with("WALPOST_CONFIRM_INTERVAL_MS", confirm_interval_ms));
    let case = &once.case;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(20, 5, 1).await?;
    once.audit().await?;
    let snapshot = Snapshot::of(&postgres, case).await?;
    case.commit(500, 5, 1).await?;
    once.audit().await?;
    // The process that knows of it is gone as well.
    relay.kill()?;
    postgres.kill().await?;
    snapshot.put_back()?;
    postgres.start_again().await?;
    case.commit(commits, 5, 1).await?;
    let relay = case.relay.run_ready().await?;
    let committed = events::committed(&case.client().await?).await?;
    wait_until("all that it has committed since is published", SOON, async || {
        let audit = Audit::new(&committed, &case.topic.read_all().await?);
        Ok(audit.lost.is_empty())
    })
    .await
    .with_context(|| relay.log_tail())?;
    ensure!(relay.log().contains(says), "{}", relay.log_tail());
    Ok(())
}

#[tokio::test]
async fn a_server_that_went_back_in_time_loses_nothing_to_the_position() -> Result<()> {
    goes_back_in_time("100", 600, "of another history of the server").await
}

/// Nothing but the stream can tell.
#[tokio::test]
async fn another_history_that_only_the_stream_shows_loses_nothing_to_the_position() -> Result<()> {
    goes_back_in_time("60000", 600, "the stream has another history there").await
}

#[tokio::test]
async fn a_shorter_history_loses_nothing_to_the_position() -> Result<()> {
    goes_back_in_time("60000", 100, "of another history of the server").await
}

/// The client is replaced more than once before it can ask what became of the commit.
#[tokio::test]
async fn a_commit_that_is_found_out_when_kafka_is_back_repeats_nothing_and_holds_up_nothing() -> Result<()> {
    let (once, kafka, proxy) = Once::behind_a_proxy().await?;
    let case = &once.case;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(50, 5, 5).await?;
    once.audit().await?;
    proxy.cut_in_place_of_the_end(1_000_000);
    case.commit(5, 5, 5).await?;
    wait_until("an answer is cut", SOON, async || Ok(proxy.faults_made().cut > 0)).await?;
    kafka.pause().await?;
    let says = |answer: &harness::http::Response| answer.body.contains("without an acknowledgement");
    relay.status("it tries again in another session", says).await?;
    kafka.resume().await?;
    proxy.heal();
    relay.ready().await?;
    case.commit(50, 5, 5).await?;
    ensure!(once.audit().await? == 105, "{}", relay.log_tail());
    relay.expect_running()
}

#[tokio::test]
async fn a_position_that_kafka_refuses_is_named_and_it_goes_on_when_it_takes_it() -> Result<()> {
    let once = Once::new().await?;
    let mut relay = once.case.relay.init_and_run().await?;
    once.case.commit(10, 5, 1).await?;
    once.audit().await?;
    once.position.configure("max.message.bytes", "100").await?;
    once.case.commit(10, 5, 1).await?;
    let says = |answer: &harness::http::Response| answer.body.contains("refuses the record of the position");
    relay.status("what is refused is named", says).await?;
    once.position.configure("cleanup.policy", "compact").await?;
    ensure!(once.audit().await? == 20, "{}", relay.log_tail());
    relay.expect_running()
}

#[tokio::test]
async fn rows_of_one_number_that_fill_the_window_hold_up_nothing() -> Result<()> {
    let once = Once::of(Case::new().await?.with("WALPOST_WINDOW_BYTES", "65536"));
    let large = "insert into package_event (package_id, event_type, payload) values (1, 'Updated', \
                 jsonb_build_object('t', repeat(md5('1'), 4000)))";
    once.case.commit(5, 5, 5).await?;
    once.case.database.execute(large).await?;
    once.case.commit(5, 5, 5).await?;
    let _relay = once.case.relay.init_and_run().await?;
    ensure!(once.audit().await? == 11);
    Ok(())
}

/// What the client gives back of a transaction says no more than that it is given back.
#[tokio::test]
async fn rights_that_are_missing_are_named_and_it_goes_on_when_they_are_there() -> Result<()> {
    let certificates = Certificates::for_name("localhost")?;
    let (case, kafka) = that_denies(&certificates).await?;
    let once = Once::of(case);
    let case = &once.case;
    let (topic, position) = (["--topic", &case.topic.name], ["--topic", &once.position.name]);
    case.relay.init().await?;
    let mut relay = case.relay.run()?;
    rule_on(&kafka, topic, "--add", "Write").await?;
    rule_on(&kafka, position, "--add", "All").await?;
    case.commit(10, 3, 1).await?;
    is_denied(&mut relay).await?;
    let named = |answer: &harness::http::Response| answer.body.contains("transactional id");
    relay.status("the transactional id is named", named).await?;
    rule_on(&kafka, ["--transactional-id", &once.position.name], "--add", "All").await?;
    let second = format!("{}~2", once.position.name);
    let named = |answer: &harness::http::Response| answer.body.contains(&second);
    relay.status("the other one is named, which has no rights yet", named).await?;
    rule_on(&kafka, ["--transactional-id", &second], "--add", "All").await?;
    ensure!(once.audit().await? == 10, "{}", relay.log_tail());

    rule_on(&kafka, topic, "--remove", "Write").await?;
    case.commit(10, 3, 1).await?;
    is_denied(&mut relay).await?;
    rule_on(&kafka, topic, "--add", "Write").await?;
    ensure!(once.audit().await? == 20, "{}", relay.log_tail());
    relay.ready().await
}

/// Each of the two producers has heard of the partitions by itself: one that has not would refuse the record, and be replaced.
#[tokio::test]
async fn partitions_that_are_added_are_known_to_both_producers_before_records_go_there() -> Result<()> {
    let case =
        around("create table outbox (id bigserial primary key, key text, payload text, lane int)").await?;
    let mut once = Once::of(case.with("WALPOST_PARTITION", "lane"));
    let relay = once.case.relay.init_and_run().await?;
    let lanes = [0, 0, 1, 1, 5, 5, 5, 5, 5, 5, 5, 5];
    for (row, lane) in lanes.into_iter().enumerate() {
        if lane == 5 && lanes[row - 1] == 1 {
            once.case.topic.grow(6).await?;
        }
        let insert = format!("insert into outbox (key, payload, lane) values ('k', '{row}', {lane})");
        once.case.database.execute(&insert).await?;
        // One after the other, so that each producer has its turn.
        once.case.topic.read(row + 1, SOON).await?;
    }
    ensure!(relay.metric("walpost_producer_restarts_total").await? == 0.0, "{}", relay.log_tail());
    Ok(())
}
