//! Spans to a collector, by OTLP over gRPC.

use std::time::Duration;

use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

/// A collector that takes longer has failed. Spans wait in a bounded queue that a thread of its own empties.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the last spans, when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes spans for the collector at `endpoint`, `http://localhost:4317`. Needs a Tokio runtime.
///
/// # Errors
/// When the endpoint is no address.
pub fn provider(endpoint: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build()?;
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
