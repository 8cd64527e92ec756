//! How the table is copied: where it goes on, what watches it meanwhile, and what it needs.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::database::has;
use harness::wait::holds_for;
use harness::{PrivateKafka, PrivatePostgres, RelayProcess, wait_for, wait_until};

use crate::case::{Case, SOON};

const ROWS: i64 = 20_000;

/// A copy that takes its time: few records are in flight at once.
async fn slow_copy() -> Result<Case> {
    let case = Case::new().await?.with("WALPOST_WINDOW_RECORDS", "100");
    with_rows(case).await
}

async fn with_rows(case: Case) -> Result<Case> {
    case.commit(ROWS, 10, ROWS).await?;
    case.relay.init().await?;
    Ok(case)
}

async fn arrived(case: &Case) -> Result<i64> {
    Ok(case.topic.ends().await?.values().sum())
}

async fn more_arrive(case: &Case) -> Result<()> {
    let before = arrived(case).await?;
    wait_until("more have arrived", SOON, async || Ok(arrived(case).await? > before)).await
}

/// 200 of them, of 800 kB.
async fn large_rows(case: &Case) -> Result<()> {
    let insert = "insert into package_event (package_id, event_type, payload) \
                  select n, 'Updated', jsonb_build_object('t', repeat(md5(n::text), 25000)) \
                  from generate_series(1, 200) n";
    case.database.execute(insert).await
}

async fn copied_through(case: &Case) -> Result<Option<i64>> {
    Ok(case.client().await?.query_one("select copied_through from walpost.outbox", &[]).await?.get(0))
}

#[tokio::test]
async fn a_stop_during_the_copy_drains_and_the_next_start_goes_on_there() -> Result<()> {
    let case = slow_copy().await?;
    let mut relay = case.relay.run()?;
    more_arrive(&case).await?;
    relay.signal("TERM").await?;
    let status = relay.exit(SOON).await?;
    assert_eq!(status.code(), Some(1), "rows are left: {}", relay.log_tail());
    let (arrived, through) = (arrived(&case).await?, copied_through(&case).await?);
    ensure!(arrived < ROWS, "the copy was too fast for this test");
    // Whether the last row was the last of its id is known only when another has come.
    ensure!(through >= Some(arrived - 1), "{through:?} is written down, and {arrived} rows are acknowledged");

    let _relay = case.relay.run_ready().await?;
    let audit = case.audit().await?;
    ensure!(audit.published == 20_000 && audit.duplicates <= 1, "{audit}");
    Ok(())
}

/// What the server sends on and nobody takes fills the connection, on which the place has to be written down.
#[tokio::test]
async fn a_stop_in_the_midst_of_a_page_writes_down_how_far_the_copy_is() -> Result<()> {
    let (kafka, proxy) = PrivateKafka::start_behind_proxy().await?;
    let case = Case::on_kafka(kafka.brokers()).await?;
    let case = case.with("WALPOST_KAFKA_BROKERS", &proxy.addr().to_string());
    let case = case.with("WALPOST_WINDOW_RECORDS", "100000");
    let case = case.with("WALPOST_WINDOW_BYTES", "8388608").with("WALPOST_DRAIN_TIMEOUT_MS", "1000");
    // After small rows a page of many is asked for, and these turn out to be large: the window is full in its midst.
    case.commit(8_000, 10, 8_000).await?;
    large_rows(&case).await?;
    case.relay.init().await?;
    // All of them would have arrived before a busy machine has stopped the broker.
    proxy.delay_answers(Duration::from_millis(500));
    let mut relay = case.relay.run()?;
    wait_until("some have arrived", SOON, async || Ok(arrived(&case).await? > 100)).await?;
    kafka.pause().await?;
    let sql = "select exists (select from pg_stat_activity where datname = current_database() \
               and query like '%walpost: copy%' and wait_event = 'ClientWrite')";
    let client = case.client().await?;
    wait_until("a page waits to be taken", SOON, async || Ok(client.query_one(sql, &[]).await?.get(0)))
        .await?;
    relay.signal("TERM").await?;
    relay.exit(SOON).await?;
    kafka.resume().await?;
    proxy.heal();
    let log = relay.log_tail();
    ensure!(log.contains("through=Some") && !log.contains("could not be written down"), "{log}");
    let _relay = case.relay.run_ready().await?;
    assert_eq!(case.audit().await?.published, 8_200);
    Ok(())
}

#[tokio::test]
async fn a_kill_during_the_copy_repeats_little_and_with_the_same_bytes() -> Result<()> {
    let case = slow_copy().await?;
    let mut relay = case.relay.run()?;
    wait_until("it is written down how far it is", SOON, async || Ok(copied_through(&case).await?.is_some()))
        .await?;
    relay.kill()?;
    let through = copied_through(&case).await?.context("written down")?;
    let again = arrived(&case).await? - through;
    let _relay = case.relay.run_ready().await?;
    let audit = case.audit().await?;
    ensure!(i64::try_from(audit.duplicates)? <= again + 100, "{audit}, {again} behind {through}");

    let mut seen = HashMap::new();
    for record in case.topic.read_all().await? {
        let bytes = (record.key, record.headers, record.timestamp_ms);
        let first = seen.entry(record.value).or_insert_with(|| bytes.clone());
        assert_eq!(*first, bytes, "a repeat is another record");
    }
    Ok(())
}

#[tokio::test]
async fn a_lost_connection_during_the_copy_repeats_nothing() -> Result<()> {
    let case = slow_copy().await?;
    let mut relay = case.relay.run()?;
    let terminate = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
                     and application_name = 'walpost' and query like '%walpost: copy%'";
    let client = case.client().await?;
    more_arrive(&case).await?;
    wait_until("its session is ended", SOON, async || Ok(!client.query(terminate, &[]).await?.is_empty()))
        .await?;
    let audit = case.audit().await?;
    relay.ready().await?;
    ensure!(relay.metric("walpost_reconnects_total").await? >= 1.0, "nothing was lost");
    ensure!(audit.published == 20_000 && audit.duplicates <= 1, "{audit}");
    Ok(())
}

/// Limits that would end any long transaction, and a Kafka that takes longer.
#[tokio::test]
async fn the_limits_of_a_role_do_not_end_a_copy_that_waits_for_kafka() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case =
        with_rows(Case::on_kafka(kafka.brokers()).await?.with("WALPOST_WINDOW_RECORDS", "100")).await?;
    let mut limits = vec!["statement_timeout = '2s'", "idle_in_transaction_session_timeout = '1s'"];
    if has(&case.database.url, "transaction_timeout", 17).await? {
        limits.push("transaction_timeout = '2s'");
    }
    for limit in limits {
        let alter = format!("alter role relay_{} set {limit}", case.database.name());
        case.database.execute(&alter).await?;
    }
    // Rows that were touched since are read by one statement, which is larger than what sockets hold.
    let large = "update package_event set payload = coalesce(payload, '{}') || \
                 jsonb_build_object('t', repeat(md5(package_event_id::text), 100))";
    case.database.execute(large).await?;
    let mut relay = case.relay.run()?;
    more_arrive(&case).await?;
    kafka.pause().await?;
    holds_for("the relay goes on", Duration::from_secs(5), async || {
        relay.expect_running()?;
        Ok(true)
    })
    .await?;
    kafka.resume().await?;
    let audit = case.audit().await?;
    relay.ready().await?;
    assert_eq!((audit.published, audit.duplicates), (20_000, 0), "{}", relay.log_tail());
    ensure!(relay.metric("walpost_reconnects_total").await.unwrap_or_default() < 1.0, "{}", relay.log_tail());
    Ok(())
}

async fn is_not_ready(relay: &mut RelayProcess) -> Result<()> {
    relay.status("it is not ready", |ready| ready.status == 503).await?;
    Ok(())
}

#[tokio::test]
async fn a_lock_on_what_the_copy_writes_is_noticed_and_passes() -> Result<()> {
    let case = slow_copy().await?.with("WALPOST_PEER_TIMEOUT_MS", "3000");
    let mut relay = case.relay.run()?;
    relay.ready().await?;
    more_arrive(&case).await?;
    let mut client = case.client().await?;
    let holding = client.transaction().await?;
    holding.execute("select from walpost.slot for update", &[]).await?;
    is_not_ready(&mut relay).await?;
    holding.rollback().await?;
    relay.ready().await?;
    assert_eq!(case.audit().await?.published, 20_000);
    Ok(())
}

#[tokio::test]
async fn a_server_that_falls_silent_during_the_copy_is_noticed() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?.with("WALPOST_WINDOW_RECORDS", "100");
    let case = with_rows(case).await?.with("WALPOST_PEER_TIMEOUT_MS", "3000");
    let mut relay = case.relay.run()?;
    relay.ready().await?;
    more_arrive(&case).await?;
    let client = case.client().await?;
    let sql = "select pid from pg_stat_activity where application_name = 'walpost' \
               and query like '%walpost: copy%'";
    let pid = wait_for("the reading session", SOON, async || Ok(client.query_opt(sql, &[]).await?)).await?;
    let pid = pid.get::<_, i32>(0).to_string();
    signal("-STOP", &pid).await?;
    let noticed = is_not_ready(&mut relay).await;
    signal("-CONT", &pid).await?;
    noticed?;
    relay.ready().await?;
    assert_eq!(case.audit().await?.published, 20_000);
    Ok(())
}

async fn signal(signal: &str, process: &str) -> Result<()> {
    let sent = tokio::process::Command::new("kill").args([signal, process]).status().await?;
    ensure!(sent.success(), "kill {signal} {process}");
    Ok(())
}

/// As a second relay does that took the slot while the first one did not look.
#[tokio::test]
async fn a_relay_whose_slot_was_taken_during_the_copy_gives_up_what_it_holds() -> Result<()> {
    let case = slow_copy().await?;
    let mut relay = case.relay.run()?;
    more_arrive(&case).await?;
    case.database.execute("update walpost.slot set epoch = epoch + 1").await?;
    wait_until("it notices", SOON, async || Ok(relay.log().contains("another relay has taken the slot")))
        .await?;
    relay.ready().await?;
    assert_eq!(case.audit().await?.published, 20_000);
    Ok(())
}

#[tokio::test]
async fn a_copy_whose_publication_is_dropped_halts() -> Result<()> {
    let case = slow_copy().await?;
    let mut relay = case.relay.run()?;
    more_arrive(&case).await?;
    case.database.execute("drop publication package_event_pub").await?;
    crate::halt::halts(&mut relay, &["package_event_pub"]).await?;
    ensure!(arrived(&case).await? < ROWS, "it halted only behind the copy");
    Ok(())
}

/// Rows that are as large as the table takes them: memory follows the window, not their number.
#[tokio::test]
async fn a_copy_of_large_rows_is_bounded_by_the_window() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_WINDOW_BYTES", "8388608");
    large_rows(&case).await?;
    case.relay.init().await?;
    let relay = case.relay.run()?;
    more_arrive(&case).await?;
    // There would be time to read all of it.
    kafka.pause().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    kafka.resume().await?;
    assert_eq!(case.audit().await?.published, 200);
    let peak = relay.memory("VmHWM")?;
    ensure!(peak < 128 << 20, "{} MiB for a window of 8 MiB", peak >> 20);
    Ok(())
}
