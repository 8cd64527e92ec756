//! Which metrics a query names.

use std::collections::BTreeSet;

/// How the names of our metrics begin.
const OURS: [&str; 6] = [
    "walpost_",
    "logistic_package_api_",
    "grpc_server_",
    "http_microservice_",
    "package_bot_",
    "package_facade_",
];

/// Our metrics that a query names. What stands in quotes is a label's value.
#[must_use]
pub fn in_query(query: &str) -> BTreeSet<String> {
    let bare: String = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words = bare.split(|one: char| !(one.is_ascii_alphanumeric() || one == '_'));
    words.filter(|word| OURS.iter().any(|ours| word.starts_with(ours))).map(str::to_owned).collect()
}

/// The metrics of a page in Prometheus' text format, with the series that a histogram has.
#[must_use]
pub fn served(page: &str) -> BTreeSet<String> {
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let series = families.flat_map(|(name, kind)| {
        let suffixes: &[&str] = if kind == "histogram" { &["", "_bucket", "_sum", "_count"] } else { &[""] };
        suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_labels() {
        let query =
            r#"sum by (job) (rate(walpost_events_total{outcome="walpost_x"}[5m])) > on() grpc_server_y"#;
        assert_eq!(in_query(query), ["grpc_server_y", "walpost_events_total"].map(str::to_owned).into());
    }

    #[test]
    fn a_histogram_is_three_series() {
        let page = "# HELP a b\n# TYPE a histogram\na_bucket{le=\"1\"} 2\n# TYPE c counter\nc 1\n";
        assert_eq!(served(page), ["a", "a_bucket", "a_count", "a_sum", "c"].map(str::to_owned).into());
    }
}
