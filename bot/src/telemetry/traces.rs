//! Spans: update → rpc, sent to a collector by OTLP; and the trace that each call carries on, collector or not.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use settings::Collector;
use tonic::Status;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::packages::Call;
use crate::telegram::types::Update;

/// What a span is made under: the log shows none of it, the collector nothing else.
pub(crate) const SPANS: &str = "spans";
/// A collector that takes longer has failed.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the last spans, when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the last spans when it is dropped.
#[derive(Debug)]
pub struct Exporting(SdkTracerProvider);

impl Drop for Exporting {
    fn drop(&mut self) {
        let _ = self.0.shutdown_with_timeout(FLUSH_TIMEOUT);
    }
}

/// The layer that makes spans of ours into spans for the collector, where one is named; or why that is in vain, which keeps
/// nobody from an answer. Needs a Tokio runtime.
pub(super) fn layer<S>(collector: &Collector) -> Result<Option<(impl Layer<S> + use<S>, Exporting)>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let endpoint = match collector {
        Collector::Absent => return Ok(None),
        Collector::At(endpoint) => endpoint,
        Collector::Unusable(reason) => return Err(reason.clone()),
    };
    let exporter = exporter(endpoint).map_err(|error| error.to_string())?;
    let resource = Resource::builder().with_service_name("logistic-package-api-bot").build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let ours = Targets::new().with_target(SPANS, LevelFilter::INFO);
    let layer = OpenTelemetryLayer::new(provider.tracer(env!("CARGO_PKG_NAME")))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_filter(ours);
    Ok(Some((layer, Exporting(provider))))
}

fn exporter(endpoint: &str) -> Result<SpanExporter, ExporterBuildError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("https://") {
        exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots()).build()
    } else {
        exporter.build()
    }
}

/// The span of an update, the root of its trace.
#[must_use]
pub fn update_span(update: &Update) -> Span {
    tracing::info_span!(target: SPANS, "update", otel.kind = "consumer", update.id = update.id, update.kind = update.kind())
}

/// What the calls of an update bring along. The trace is the span's, or, where none is made, one of this update's own, so
/// that there always is a code to quote.
#[must_use]
pub fn call(span: &Span, bot_id: i64, update_id: i64) -> Call {
    let context = span.context();
    let current = context.span().span_context().clone();
    let (trace_id, span_id, flags) = if current.is_valid() {
        (current.trace_id().to_string(), current.span_id().to_string(), current.trace_flags().to_u8())
    } else {
        // Version 4 has bits that are not random, and so is never zero.
        let (trace, span) = (uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        (trace.to_string(), span.to_string()[..16].to_owned(), 0)
    };
    Call {
        key: Arc::from(format!("tgbot-{bot_id}-{update_id}")),
        traceparent: Arc::from(format!("00-{trace_id}-{span_id}-{flags:02x}")),
        trace_id: Arc::from(trace_id),
    }
}

/// Follows an rpc with all its tries.
pub(crate) async fn rpc<T>(
    method: &'static str,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let span = tracing::info_span!(
        target: SPANS,
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
