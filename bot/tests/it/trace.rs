//! One trace, from the message of a person to the record in Kafka, in one collector.

use anyhow::{Context, Result};
use harness::collector::{Collector, Span};
use harness::{Relay, program, wait_until};

use crate::support::{DEADLINE, World, message, package};

/// The only span beneath `parent` whose name has `name` in it.
fn beneath<'a>(spans: &'a [Span], parent: &str, name: &str) -> Result<&'a Span> {
    let mut found = spans.iter().filter(|span| span.parent_id == parent && span.name.contains(name));
    let span = found.next().with_context(|| format!("no `{name}` beneath `{parent}`: {spans:#?}"))?;
    assert!(found.next().is_none(), "two spans `{name}` beneath `{parent}`: {spans:#?}");
    Ok(span)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_one_trace_from_the_message_to_the_record_and_whoever_reads_it() -> Result<()> {
    let (collector, addr) = Collector::start()?;
    let endpoint = format!("http://{addr}");
    let world = World::traced(&endpoint).await?;
    world.package_api.insert(&package(1)).await?;
    let walpost = program::sibling("walpost")?;
    let relay = Relay::new(walpost, &world.package_api.database, &world.package_events)?
        .env("WALPOST_OTLP_ENDPOINT", &endpoint);
    let _relay = relay.init_and_run().await?;
    let _bot = world.bot().await?;
    let reply = world.reply(message(1, "/edit 1; название=new")).await?;
    assert_eq!(reply.text("text"), "Упаковка ID=1 успешно отредактирована");

    let record = world.package_events.read(1, DEADLINE).await?.remove(0);
    let traceparent = record.header("traceparent").context("the record names no trace")?;
    let trace_id = traceparent.split('-').nth(1).context("a trace id")?;
    // Of each program, its last: the bot reads the record after walpost has sent it.
    wait_until("the trace is whole", DEADLINE, async || {
        let spans = collector.trace(trace_id);
        let has = |name: &str| spans.iter().any(|span| span.name.starts_with(name));
        Ok(has("update") && has("hablof.") && has("send ") && has("process "))
    })
    .await
    .with_context(|| format!("{:#?}", collector.trace(trace_id)))?;

    let spans = collector.trace(trace_id);
    let update = beneath(&spans, "", "update")?;
    let client = beneath(&spans, &update.span_id, "update_package_v1")?;
    let server = beneath(&spans, &client.span_id, "LogisticPackageApiService/UpdatePackageV1")?;
    let service = beneath(&spans, &server.span_id, "UpdatePackageV1")?;
    let topic = &world.package_events.name;
    beneath(&spans, &service.span_id, &format!("send {topic}"))?;
    beneath(&spans, &service.span_id, &format!("process {topic}"))?;
    assert_eq!(traceparent, format!("00-{trace_id}-{}-01", service.span_id));
    // What the bot itself writes belongs to it as well.
    let command = world.commands.read(1, DEADLINE).await?.remove(0);
    assert_eq!(command.header("traceparent"), Some(format!("00-{trace_id}-{}-01", update.span_id).as_str()));
    Ok(())
}
