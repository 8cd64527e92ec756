//! Spans: update → rpc, and a package event that is read; and the trace that each call carries on, collector or not.

use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;
use settings::Collector;
use spans::Exporting;
use tonic::Status;
use tracing::{Instrument, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::packages::Call;
use crate::telegram::types::Update;

/// The layer that makes spans of ours into spans for the collector, where one is named; or why that is in vain, which keeps
/// nobody from an answer. Needs a Tokio runtime.
pub(super) fn layer<S>(collector: &Collector) -> Result<Option<(impl Layer<S> + use<S>, Exporting)>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let resource = Resource::builder().with_service_name("logistic-package-api-bot").build();
    // An update is where a trace begins.
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
    let provider = spans::provider(collector, resource, sampler)?;
    Ok(provider.map(|provider| spans::layer(provider, env!("CARGO_PKG_NAME"))))
}

/// The span of an update, the root of its trace.
#[must_use]
pub fn update_span(update: &Update) -> Span {
    tracing::info_span!(
        target: spans::TARGET,
        "update",
        otel.kind = "consumer",
        update.id = update.id,
        update.kind = update.kind()
    )
}

/// What the calls of an update bring along. The trace is the span's, or, where none is made, one of this update's own, so
/// that there always is a code to quote.
#[must_use]
pub fn call(span: &Span, bot_id: i64, update_id: i64) -> Call {
    let traceparent = traceparent_of(span).unwrap_or_else(|| {
        // Version 4 has bits that are not random, and so is never zero.
        let (trace, span) = (uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        format!("00-{trace}-{}-00", &span.to_string()[..16])
    });
    Call {
        key: Arc::from(format!("tgbot-{bot_id}-{update_id}")),
        trace_id: Arc::from(traceparent.split('-').nth(1).unwrap_or_default()),
        traceparent: Arc::from(traceparent),
    }
}

/// What the request of an rpc says of its trace: the server's span hangs beneath that of the rpc, which is under way, or
/// what the update brought where no spans are made.
pub(crate) fn traceparent_of_request(call: &Call) -> Arc<str> {
    traceparent_of(&Span::current()).map_or_else(|| Arc::clone(&call.traceparent), Arc::from)
}

fn traceparent_of(span: &Span) -> Option<String> {
    spans::traceparent_of(span.context().span().span_context())
}

/// Follows an rpc with all its tries.
pub(crate) async fn rpc<T>(
    method: &'static str,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let span = tracing::info_span!(
        target: spans::TARGET,
        "rpc",
        otel.name = method,
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.grpc.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    );
    let outcome = call.instrument(span.clone()).await;
    if let Err(status) = &outcome {
        span.record("rpc.grpc.status_code", i32::from(status.code()));
        span.record("otel.status_code", "ERROR");
    }
    outcome
}

/// The span of a package event that was read, beneath the change that it tells of.
/// <https://opentelemetry.io/docs/specs/semconv/messaging/kafka/>
pub(crate) fn event_span(topic: &str, traceparent: Option<&[u8]>) -> Span {
    let span = tracing::info_span!(
        target: spans::TARGET,
        "process",
        otel.name = format_args!("process {topic}"),
        otel.kind = "consumer",
        messaging.system = "kafka",
        messaging.operation.type = "process",
        messaging.destination.name = topic,
    );
    let parent = traceparent.and_then(|text| spans::context_of(std::str::from_utf8(text).ok()?));
    if !span.is_disabled()
        && let Some(parent) = parent
    {
        // Where spans are made at all, this one has not begun yet.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_update_has_the_same_key_and_a_trace_of_its_own() {
        let (first, again) = (call(&Span::none(), 1, 530), call(&Span::none(), 1, 530));
        assert_eq!(&*first.key, "tgbot-1-530");
        assert_eq!(first.key, again.key);
        assert_ne!(first.trace_id, again.trace_id);
        let parts: Vec<_> = first.traceparent.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{}", first.traceparent);
        assert_ne!(call(&Span::none(), 2, 530).key, first.key);
    }
}
