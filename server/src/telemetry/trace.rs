//! Spans: call → service → repository → statement, sent to a collector by OTLP.
//!
//! Where no collector is set, no span is made. Where one is, spans go into a bounded queue that a thread of its own
//! empties; a collector that is away or slow costs spans, which are counted in the log, and no call waits for it.

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use settings::Collector;
use tonic::Code;
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::calls::{Rpc, SERVICE};
use crate::domain::Traceparent;

/// What a span is made under: the log shows none of it, the collector nothing else.
pub(crate) const SPANS: &str = "spans";

/// A collector that takes longer has failed.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the last spans, when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where spans go, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// Who takes them.
    pub collector: Collector,
    /// Of the calls that bring no decision of their own, 0 to 1.
    pub sample_ratio: f64,
    /// The environment that the spans name.
    pub environment: String,
}

/// Sends the last spans when it is dropped.
#[derive(Debug)]
pub struct Exporting(SdkTracerProvider);

impl Drop for Exporting {
    fn drop(&mut self) {
        let _ = self.0.shutdown_with_timeout(FLUSH_TIMEOUT);
    }
}

/// The layer that makes spans of ours into spans for the collector, where one is named; or why that is in vain, which
/// keeps nobody from calls. Needs a Tokio runtime.
pub(super) fn layer<S>(
    settings: &TraceSettings,
) -> Result<Option<(impl Layer<S> + use<S>, Exporting)>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let endpoint = match &settings.collector {
        Collector::Absent => return Ok(None),
        Collector::At(endpoint) => endpoint,
        Collector::Unusable(reason) => return Err(reason.clone()),
    };
    let exporter = exporter(endpoint).map_err(|error| error.to_string())?;
    let resource = Resource::builder()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("deployment.environment.name", settings.environment.clone()))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build();
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

/// The span of a call, beneath the one its client names. <https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>
pub(crate) fn rpc_span(rpc: &Rpc, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: SPANS,
        "rpc",
        otel.name = format_args!("{SERVICE}/{}", rpc.method),
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = SERVICE,
        rpc.method = rpc.method,
        rpc.grpc.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    );
    if !span.is_disabled()
        && let Some(parent) = traceparent_in(headers).as_ref().and_then(span_context)
    {
        // Where spans are made at all, this one has not begun yet.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    span
}

/// Notes how a call ended. Only the server's own failures are errors of its span.
pub(crate) fn ended(span: &Span, code: Code) {
    span.record("rpc.grpc.status_code", i32::from(code));
    let failed = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}

/// The trace a request belongs to. Two headers name none: the standard has them ignored.
pub(crate) fn traceparent_in(headers: &HeaderMap) -> Option<Traceparent> {
    let mut values = headers.get_all("traceparent").iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Traceparent::parse(only.to_str().ok()?),
        _ => None,
    }
}

/// What the event of a change continues: the span that is under way, or else what the request brought.
pub(crate) fn traceparent_of_event(headers: &HeaderMap) -> Option<Traceparent> {
    let span = Span::current();
    if !span.is_disabled() {
        let context = span.context();
        let current = context.span().span_context().clone();
        if current.is_valid() {
            let text = format!(
                "00-{}-{}-{:02x}",
                current.trace_id(),
                current.span_id(),
                current.trace_flags().to_u8()
            );
            return Traceparent::parse(&text);
        }
    }
    traceparent_in(headers)
}

fn span_context(traceparent: &Traceparent) -> Option<SpanContext> {
    let mut fields = traceparent.as_str().split('-').skip(1);
    let trace = TraceId::from_hex(fields.next()?).ok()?;
    let parent = SpanId::from_hex(fields.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(fields.next()?, 16).ok()?);
    Some(SpanContext::new(trace, parent, flags, true, TraceState::default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const VALUE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_repeated_traceparent_is_none() {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", VALUE.parse().unwrap());
        assert_eq!(traceparent_in(&headers).unwrap().as_str(), VALUE);
        headers.append("traceparent", VALUE.parse().unwrap());
        assert_eq!(traceparent_in(&headers), None);
    }

    #[test]
    fn without_spans_an_event_continues_what_the_request_brought() {
        let mut headers = HeaderMap::new();
        assert_eq!(traceparent_of_event(&headers), None);
        headers.append("traceparent", VALUE.parse().unwrap());
        assert_eq!(traceparent_of_event(&headers).unwrap().as_str(), VALUE);
    }

    #[test]
    fn a_parent_keeps_its_ids_and_its_decision() {
        let context = span_context(&Traceparent::parse(VALUE).unwrap()).unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled() && context.is_remote());
    }
}
