//! Spans to a collector, by OTLP over gRPC.

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use settings::Collector;
use spans::FLUSH_TIMEOUT;

/// Makes spans for the collector, where one is named. One that cannot be used makes none: what has to get through are
/// events. Needs a Tokio runtime.
#[must_use]
pub fn provider(collector: &Collector) -> Option<SdkTracerProvider> {
    // The request that made the change has decided.
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let resource = Resource::builder().with_service_name(env!("CARGO_PKG_NAME")).build();
    let made = spans::provider(collector, resource, sampler);
    made.inspect_err(|reason| tracing::warn!(reason, "no spans are sent")).ok().flatten()
}

/// Sends what is left.
pub async fn shut_down(provider: SdkTracerProvider) {
    // In a thread: the runtime has to go on meanwhile.
    let sending = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
    let _ = tokio::time::timeout(FLUSH_TIMEOUT, sending).await;
}
