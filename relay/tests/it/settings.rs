use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::Result;
use harness::{http, wait_until};

use crate::case::{Case, SOON};

#[tokio::test]
async fn every_mistake_in_the_settings_is_told_at_once() -> Result<()> {
    let case = Case::new().await?;
    let wrong = [
        ("WALPOST_HTTP_ADDR", "nowhere"),
        ("WALPOST_SLOT", "Bad Slot"),
        ("WALPOST_WINDOW_RECORDS", "0"),
        ("WALPOST_CONFIRM_INTERVAL_MS", "soon"),
    ];
    let case = wrong.iter().fold(case, |case, (name, value)| case.with(name, value));
    let ended = case.relay.command(&["run"]).await?;
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    for (name, value) in wrong {
        assert!(ended.stderr.contains(name), "{name} is not named: {}", ended.stderr);
        assert!(ended.stderr.contains(value), "{value} is not shown: {}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_kafka_property_that_would_break_a_promise_is_refused_by_name() -> Result<()> {
    let case = Case::new().await?;
    for property in ["enable.idempotence=false", "acks=1", "message.timeout.ms=1000", "partitioner=random"] {
        let ended = case.relay.command(&["run", "--kafka-property", property]).await?;
        let name = property.split('=').next().unwrap_or_default();
        assert_eq!(ended.code(), 2, "{property}: {}", ended.stderr);
        assert!(ended.stderr.contains(name), "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_kafka_property_that_is_mistyped_is_named_without_its_value() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_KAFKA_PROPERTY_SASL_PASWORD", "hunter2hunter2");
    for arguments in [&["run"][..], &["check"], &["tail", "--until-end"]] {
        let ended = case.relay.command(arguments).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(ended.code() == 2 && said.contains("sasl.pasword"), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2"), "{arguments:?} tells the value: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2() -> Result<()> {
    let case = Case::new().await?;
    for arguments in [&["runn"] as &[&str], &["run", "--no-such-flag"], &[]] {
        assert_eq!(case.relay.command(arguments).await?.code(), 2, "{arguments:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_database_url_is_named() -> Result<()> {
    let case = Case::new().await?;
    let relay = case.relay.clone().without_env("WALPOST_DATABASE_URL");
    let ended = relay.command(&["run"]).await?;
    assert_ne!(ended.code(), 0);
    assert!(ended.stderr.contains("WALPOST_DATABASE_URL"), "{}", ended.stderr);
    Ok(())
}

/// Other programs of the cluster speak OTLP over HTTP.
#[tokio::test]
async fn a_collector_for_the_whole_cluster_keeps_no_relay_from_its_work() -> Result<()> {
    let case = Case::new().await?;
    let case = case.with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318/v1/traces");
    let relay = case.relay.init_and_run().await?;
    case.commit_one(1).await?;
    assert_eq!(case.audit().await?.published, 1);
    assert!(relay.log().contains("no spans are sent"), "{}", relay.log_tail());
    let own = case.with("WALPOST_OTLP_ENDPOINT", "http://otel:4318/v1/traces");
    let ended = own.relay.command(&["run"]).await?;
    assert!(ended.code() == 2 && ended.stderr.contains("WALPOST_OTLP_ENDPOINT"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn the_pages_are_served_to_ipv4_and_ipv6() -> Result<()> {
    let case = Case::new().await?;
    let port = harness::port::free()?.port();
    let relay = case.relay.clone().at(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    relay.init().await?;
    let mut relay = relay.run()?;
    let by_ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_until("the pages are served", SOON, async || {
        relay.expect_running()?;
        Ok(http::get(by_ipv4, "/live").await.is_ok_and(|answer| answer.status == 200))
    })
    .await?;
    let by_ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return Ok(());
    }
    assert_eq!(http::get(by_ipv6, "/live").await?.status, 200);
    Ok(())
}
