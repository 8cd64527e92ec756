//! One trace, from the message of a person to the record in Kafka, in one collector.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::collector::{Collector, Span};
use harness::{Received, Relay, program, wait_until};

use crate::support::{DEADLINE, World, message, package};

/// A collector that a busy machine keeps from its work costs spans: then another message is followed.
const ATTEMPTS: usize = 5;
/// Programs send their spans every five seconds.
const ARRIVE_WITHIN: Duration = Duration::from_secs(60);

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
    let mut traced = None;
    for nth in 1..=ATTEMPTS {
        traced = follow(&world, &collector, nth).await?;
        if traced.is_some() {
            break;
        }
    }
    let (spans, traceparent) = traced.context("no trace is whole")?;
    let trace_id = spans[0].trace_id.clone();

    let update = beneath(&spans, "", "update")?;
    let client = beneath(&spans, &update.span_id, "update_package_v1")?;
    let server = beneath(&spans, &client.span_id, "LogisticPackageApiService/UpdatePackageV1")?;
    let service = beneath(&spans, &server.span_id, "UpdatePackageV1")?;
    let topic = &world.package_events.name;
    beneath(&spans, &service.span_id, &format!("send {topic}"))?;
    beneath(&spans, &service.span_id, &format!("process {topic}"))?;
    assert_eq!(traceparent, format!("00-{trace_id}-{}-01", service.span_id));
    // What the bot itself writes belongs to it as well.
    let of_update = format!("00-{trace_id}-{}-01", update.span_id);
    let is_command = |record: &Received| record.header("traceparent") == Some(&of_update);
    world.commands.read_until("the record of the message", DEADLINE, is_command).await.map(drop)
}

/// The spans of the `nth` message, and the `traceparent` of its record; nothing where they do not all arrive.
async fn follow(world: &World, collector: &Collector, nth: usize) -> Result<Option<(Vec<Span>, String)>> {
    let reply = world.reply(message(i64::try_from(nth)?, "/edit 1; название=new")).await?;
    assert_eq!(reply.text("text"), "Упаковка ID=1 успешно отредактирована");
    let record = world.package_events.read(nth, DEADLINE).await?.remove(nth - 1);
    let traceparent = record.header("traceparent").context("the record names no trace")?;
    let trace_id = traceparent.split('-').nth(1).context("a trace id")?;
    let whole = wait_until("the trace is whole", ARRIVE_WITHIN, async || {
        let spans = collector.trace(trace_id);
        // Of each program, its last: the bot reads the record after walpost has sent it.
        Ok(["update", "hablof.", "send ", "process "]
            .iter()
            .all(|name| spans.iter().any(|span| span.name.starts_with(name))))
    });
    let whole = whole.await.inspect_err(|_| println!("{nth}: {:#?}", collector.trace(trace_id)));
    Ok(whole.is_ok().then(|| (collector.trace(trace_id), traceparent.to_owned())))
}
