//! Where spans go.

use crate::Values;

/// The collector that a setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collector {
    /// None is named: no spans.
    Absent,
    /// The URL of its port for OTLP over gRPC.
    At(String),
    /// A variable that is meant for all programs of a cluster names one that this one cannot use: no spans, and why.
    Unusable(String),
}

impl Values {
    /// Reads the setting of a collector. What stands in the setting's own names must make sense; a variable of
    /// OpenTelemetry, which one sets for a whole cluster, keeps no program from its work.
    pub fn collector(&mut self, name: &'static str) -> Option<Collector> {
        let Some(text) = self.text(name) else { return Some(Collector::Absent) };
        match parse(&text) {
            Err(reason) if self.is_from(name, "OTEL_") => {
                Some(Collector::Unusable(format!("OTEL_EXPORTER_OTLP_ENDPOINT: {reason}")))
            }
            parsed => self.parse_with(name, |_| parsed).map(Collector::At),
        }
    }
}

/// `http://host:4317`, `https://host:4317` or `host:4317`.
fn parse(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(scheme, "http" | "https") || authority.is_empty() || rest.contains(char::is_whitespace) {
        return Err("expected the URL of a collector, such as http://localhost:4317".into());
    }
    if !matches!(path, "" | "/") {
        return Err("spans are sent by OTLP over gRPC, which has no path: give the collector's port for gRPC, usually \
            4317, as in http://localhost:4317"
            .into());
    }
    Ok(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_the_forms_in_which_people_write_them() {
        assert_eq!(parse("otel:4317"), Ok("http://otel:4317".into()));
        assert_eq!(parse("https://otel:4317"), Ok("https://otel:4317".into()));
        assert_eq!(parse("http://[::1]:4317/"), Ok("http://[::1]:4317".into()));
        for text in ["http://otel:4318/v1/traces", "grpc://otel:4317", "", "http://", "http://a b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
