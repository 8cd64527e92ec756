//! Spans to a collector, by OTLP over gRPC.

use std::time::Duration;

use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use settings::Collector;

/// A collector that takes longer has failed. Spans wait in a bounded queue that a thread of its own empties.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the last spans, when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes spans for the collector, where one is named. One that cannot be used makes none: what has to get through are
/// events. Needs a Tokio runtime.
#[must_use]
pub fn provider(collector: &Collector) -> Option<SdkTracerProvider> {
    let made = match collector {
        Collector::Absent => return None,
        Collector::At(endpoint) => exporting(endpoint).map_err(|error| error.to_string()),
        Collector::Unusable(reason) => Err(reason.clone()),
    };
    made.inspect_err(|reason| tracing::warn!(reason, "no spans are sent")).ok()
}

fn exporting(endpoint: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
    let exporter = if endpoint.starts_with("https://") {
        exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots()).build()?
    } else {
        exporter.build()?
    };
    // The request that made the change has decided.
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let resource = Resource::builder().with_service_name(env!("CARGO_PKG_NAME")).build();
    Ok(SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build())
}

/// Sends what is left.
pub async fn shut_down(provider: SdkTracerProvider) {
    // In a thread: the runtime has to go on meanwhile.
    let sending = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
    let _ = tokio::time::timeout(FLUSH_TIMEOUT, sending).await;
}
