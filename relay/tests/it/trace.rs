//! The trace of a request goes on to its event's delivery.

use anyhow::{Context, Result};
use harness::collector::Collector;
use harness::wait_until;

use crate::case::{Case, SOON};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn a_delivery_is_a_span_beneath_the_request_that_made_the_event() -> Result<()> {
    let (collector, addr) = Collector::start()?;
    let case = Case::new().await?.with("WALPOST_OTLP_ENDPOINT", &format!("http://{addr}"));
    let _relay = case.relay.init_and_run().await?;
    let insert = "insert into package_event (package_id, event_type, payload, traceparent) values ";
    let sampled = format!("(7, 'Updated', '{{}}', '00-{TRACE}-{PARENT}-01')");
    let other = "(8, 'Updated', '{}', '00-11111111111111111111111111111111-00f067aa0ba902b7-00'), \
        (9, 'Updated', '{}', null), (10, 'Updated', '{}', 'nonsense')";
    case.client().await?.batch_execute(&format!("{insert}{other}, {sampled}")).await?;
    case.audit().await?;

    wait_until("the span arrives", SOON, async || Ok(!collector.trace(TRACE).is_empty())).await?;
    let spans = collector.trace(TRACE);
    let span = spans.first().context("no span")?;
    assert_eq!((spans.len(), span.parent_id.as_str()), (1, PARENT));
    assert_eq!(span.attribute("messaging.kafka.message.key"), Some("7"));
    assert_eq!(span.attribute("messaging.destination.name"), span.name.strip_prefix("send "));
    assert!(span.time.1 > span.time.0, "{span:?}");
    assert!(collector.trace("11111111111111111111111111111111").is_empty());

    // The record itself still says what the row says: a repeat is the same, byte for byte.
    let records = case.topic.read_all().await?;
    let record =
        records.iter().find(|record| record.header("ce_subject") == Some("7")).context("no record")?;
    assert_eq!(record.header("traceparent"), Some(format!("00-{TRACE}-{PARENT}-01").as_str()));
    Ok(())
}
