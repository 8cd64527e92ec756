//! A span for each record of a sampled trace: from its hand-over to the producer to its acknowledgement.
//!
//! It hangs beneath the span that the row's `traceparent` names, the request that made the change. Records without a
//! sampled trace cost a look at their context, and nothing at all where no collector is set.

use std::collections::HashMap;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use walpost_core::event::record::{Content, Record};
use walpost_core::publish::sink::Reach;
use walpost_core::publish::sink::{Batching, Report, Sink, SinkError, Transaction};
use walpost_core::window::progress::Sequence;

/// Where spans are made.
#[derive(Debug)]
pub struct Tracing {
    /// Makes them.
    pub tracer: SdkTracer,
}

/// A sink whose records are traced, where that is wanted.
#[derive(Debug)]
pub struct Traced<S> {
    inner: S,
    tracing: Option<Tracing>,
    /// As many as are in flight at most.
    under_way: HashMap<Sequence, Span>,
}

impl<S: Sink> Traced<S> {
    /// Around `inner`.
    pub fn new(inner: S, tracing: Option<Tracing>) -> Self {
        Self { inner, tracing, under_way: HashMap::new() }
    }

    /// The sink itself.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    fn end(&mut self, reports: &[Report]) {
        if self.under_way.is_empty() {
            return;
        }
        for report in reports {
            let Some(mut span) = self.under_way.remove(&report.sequence) else { continue };
            if let Err(error) = &report.outcome {
                span.set_status(Status::error(error.to_string()));
            }
            span.end();
        }
    }
}

impl Tracing {
    /// <https://opentelemetry.io/docs/specs/semconv/messaging/kafka/>
    fn begin(&self, record: &Record<'_>) -> Option<Span> {
        if record.content != Content::Event {
            return None;
        }
        let parent = sampled(record.traceparent?)?;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let topic = record.topic.name;
        let mut attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", topic.to_owned()),
        ];
        attributes.extend(record.key.map(|key| KeyValue::new("messaging.kafka.message.key", text(key))));
        for (attribute, name) in [("messaging.message.id", "ce_id"), ("walpost.wal_lsn", "wal-lsn")] {
            attributes.extend(record.headers.get(name).map(|value| KeyValue::new(attribute, text(value))));
        }
        let builder = SpanBuilder::from_name(format!("send {topic}"))
            .with_kind(SpanKind::Producer)
            .with_attributes(attributes);
        let parent = Context::new().with_remote_span_context(parent);
        Some(self.tracer.build_with_context(builder, &parent))
    }
}

/// The context that a `traceparent` names, where its trace is recorded.
fn sampled(traceparent: &[u8]) -> Option<SpanContext> {
    let context = spans::context_of(std::str::from_utf8(traceparent).ok()?)?;
    context.is_sampled().then_some(context)
}

impl<S: Sink + Send> Sink for Traced<S> {
    fn send(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<(), SinkError> {
        self.inner.send(sequence, record)?;
        // Only now: a record that is not taken is offered again, and a span that is dropped is exported.
        if let Some(span) = self.tracing.as_ref().and_then(|tracing| tracing.begin(record)) {
            self.under_way.insert(sequence, span);
        }
        Ok(())
    }

    fn idle(&mut self) {
        self.inner.idle();
    }

    fn transaction(&self) -> Transaction {
        self.inner.transaction()
    }

    fn close(&mut self, reach: Reach) -> Result<(), SinkError> {
        self.inner.close(reach)
    }

    fn forget(&mut self) {
        self.inner.forget();
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        let before = into.len();
        self.inner.reports(into).await;
        self.end(into.get(before..).unwrap_or_default());
    }

    async fn restart(&mut self, batching: Batching, into: &mut Vec<Report>) -> Result<(), SinkError> {
        let before = into.len();
        let restarted = self.inner.restart(batching, into).await;
        self.end(into.get(before..).unwrap_or_default());
        restarted
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use walpost_core::event::record::{Headers, TopicId, TopicName};

    use super::*;

    #[test]
    fn an_event_with_a_trace_has_a_span_and_a_dead_letter_has_none() {
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let (tracing, headers) = (Tracing { tracer }, Headers::default());
        let traceparent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let event = Record {
            topic: TopicName { id: TopicId(0), name: "orders" },
            partition: None,
            key: None,
            value: None,
            headers: &headers,
            timestamp_ms: 0,
            traceparent: Some(traceparent),
            content: Content::Event,
        };
        let span = tracing.begin(&event).expect("a span");
        assert_eq!(span.span_context().trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(tracing.begin(&Record { traceparent: None, ..event }).is_none());
        assert!(tracing.begin(&Record { content: Content::DeadLetter, ..event }).is_none());
    }

    #[test]
    fn only_a_recorded_trace_is_continued() {
        let cases: [(&[u8], bool); 5] = [
            (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", false),
            (b"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            (b"anything", false),
            (b"", false),
        ];
        for (traceparent, continued) in cases {
            assert_eq!(sampled(traceparent).is_some(), continued, "{traceparent:?}");
        }
    }
}
