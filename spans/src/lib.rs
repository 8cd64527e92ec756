//! Spans to a collector by OTLP over gRPC, and the `traceparent` that carries a trace from one program to the next.
//!
//! Where no collector is set, no span is made. Where one is, spans go into a bounded queue that a thread of its own empties:
//! a collector that is away or slow costs spans, which are counted in the log, and nobody waits for it.

mod traceparent;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use settings::Collector;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

pub use traceparent::{context_of, traceparent_of};

/// What a span is made under: the log shows none of it, the collector nothing else.
pub const TARGET: &str = "spans";

/// A collector that takes longer has failed.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the last spans, when the program ends.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What makes spans for the collector, where one is named. Needs a Tokio runtime.
///
/// # Errors
/// When the collector cannot be used, with the reason. It should keep no program from its work.
pub fn provider(
    collector: &Collector,
    resource: Resource,
    sampler: Sampler,
) -> Result<Option<SdkTracerProvider>, String> {
    let endpoint = match collector {
        Collector::Absent => return Ok(None),
        Collector::At(endpoint) => endpoint,
        Collector::Unusable(reason) => return Err(reason.clone()),
    };
    let exporter = exporter(endpoint).map_err(|error| error.to_string())?;
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        .with_batch_exporter(exporter);
    Ok(Some(provider.build()))
}

fn exporter(endpoint: &str) -> Result<SpanExporter, ExporterBuildError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("https://") {
        exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots()).build()
    } else {
        exporter.build()
    }
}

/// The layer that hands spans of `tracing` under [`TARGET`] to `provider`, in the name of the program `name`.
pub fn layer<S>(provider: SdkTracerProvider, name: &'static str) -> (impl Layer<S> + use<S>, Exporting)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = OpenTelemetryLayer::new(provider.tracer(name))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO));
    (layer, Exporting(provider))
}

/// Sends the last spans when it is dropped.
#[derive(Debug)]
pub struct Exporting(SdkTracerProvider);

impl Drop for Exporting {
    fn drop(&mut self) {
        let _ = self.0.shutdown_with_timeout(FLUSH_TIMEOUT);
    }
}
