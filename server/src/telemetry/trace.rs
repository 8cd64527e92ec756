//! Spans: call → service → repository → statement, sent to a collector by OTLP.
//!
//! Where no collector is set, no span is made.

use http::HeaderMap;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;
use settings::Collector;
use spans::Exporting;
use tonic::Code;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::calls::{Rpc, SERVICE};
use crate::domain::Traceparent;

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

/// The layer that makes spans of ours into spans for the collector, where one is named; or why that is in vain, which
/// keeps nobody from calls. Needs a Tokio runtime.
pub(super) fn layer<S>(
    settings: &TraceSettings,
) -> Result<Option<(impl Layer<S> + use<S>, Exporting)>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let resource = Resource::builder()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("deployment.environment.name", settings.environment.clone()))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    let provider = spans::provider(&settings.collector, resource, sampler)?;
    Ok(provider.map(|provider| spans::layer(provider, env!("CARGO_PKG_NAME"))))
}

/// The span of a call, beneath the one its client names. <https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>
pub(crate) fn rpc_span(rpc: &Rpc, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: spans::TARGET,
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
        && let Some(parent) = traceparent_in(headers).and_then(|parent| spans::context_of(parent.as_str()))
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
        if let Some(current) = spans::traceparent_of(context.span().span_context()) {
            return Traceparent::parse(&current);
        }
    }
    traceparent_in(headers)
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
}
