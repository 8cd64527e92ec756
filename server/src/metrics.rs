//! The counters, and their text for Prometheus.

use prometheus::{IntCounter, Registry, TextEncoder};

/// What is counted. A value that is passed around, not a global: tests beside each other count apart.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Calls that found no package.
    pub not_found: IntCounter,
    /// Packages that were created, updated or removed: as many events.
    pub cud_event: IntCounter,
}

impl Metrics {
    /// All counters at 0.
    ///
    /// # Errors
    /// When two share a name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let not_found = IntCounter::new(
            "logistic_package_api_not_found_total",
            "Describe, update and remove calls that found no package.",
        )?;
        let cud_event = IntCounter::new(
            "logistic_package_api_cud_event_total",
            "Packages created, updated or removed; each made one event.",
        )?;
        registry.register(Box::new(not_found.clone()))?;
        registry.register(Box::new(cud_event.clone()))?;
        Ok(Self { registry, not_found, cud_event })
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn counters_are_there_before_the_first_event() {
        let text = Metrics::new().unwrap().text().unwrap();
        assert!(text.contains("\nlogistic_package_api_not_found_total 0\n"), "{text}");
        assert!(text.contains("\nlogistic_package_api_cud_event_total 0\n"), "{text}");
    }
}
