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
    if !matches!(scheme, "http" | "https") || !is_host_and_port(authority) {
        return Err("expected the URL of a collector, such as http://localhost:4317".into());
    }
    if !matches!(path, "" | "/") {
        return Err("spans are sent by OTLP over gRPC, which has no path: give the collector's port for gRPC, usually \
            4317, as in http://localhost:4317"
            .into());
    }
    Ok(format!("{scheme}://{authority}"))
}

/// `host`, `host:4317` or `[::1]:4317`.
fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("", port),
        Some(_) => return false,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let port_is_one =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    port_is_one && host.chars().all(is_name) && (!host.is_empty() || authority.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_the_forms_in_which_people_write_them() {
        assert_eq!(parse("otel:4317"), Ok("http://otel:4317".into()));
        assert_eq!(parse("https://otel:4317"), Ok("https://otel:4317".into()));
        assert_eq!(parse("http://[::1]:4317/"), Ok("http://[::1]:4317".into()));
        for text in [
            "http://otel:4318/v1/traces",
            "grpc://otel:4317",
            "",
            "http://",
            "http://a b",
            "http://[::1:4317",
            "http://a:b:c",
            "http://user@",
            "http://otel:43l7",
            ":4317",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
