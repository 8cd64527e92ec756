//! The figures at the top of the README are those of the pages that they come from.

#![allow(clippy::unwrap_used)]

use std::fs;

use harness::stack::repository;

const PEERS: &str = "## Compared with Debezium Server and a polling loop";

fn page(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// The cells of the first row behind `heading` that begins with `first`.
fn cells(text: &str, heading: &str, first: &str) -> Vec<String> {
    let (_, section) = text.split_once(heading).unwrap_or_else(|| panic!("no section {heading}"));
    let row = section.lines().find(|line| line.starts_with(&format!("| {first}")));
    let row = row.unwrap_or_else(|| panic!("{heading}: no row {first}"));
    row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The first table of a text, row by row.
fn table(text: &str) -> Vec<&str> {
    let rows = text.lines().skip_while(|line| !line.starts_with('|'));
    rows.take_while(|line| line.starts_with('|')).collect()
}

/// 188,737 for 188737.
fn grouped(number: &str) -> String {
    let mut grouped = String::new();
    for (index, digit) in number.chars().enumerate() {
        if index > 0 && (number.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn count(folder: &str, wanted: impl Fn(&fs::DirEntry) -> bool) -> usize {
    fs::read_dir(repository().join(folder)).unwrap().filter(|entry| wanted(entry.as_ref().unwrap())).count()
}

#[test]
fn the_readme_has_the_figures_of_the_benchmarks_and_of_chaos() {
    let (readme, benchmarks, chaos) = (page("README.md"), page("BENCHMARKS.md"), page("docs/chaos.md"));
    let drain = cells(&benchmarks, "## Draining one-row transactions", "walpost");
    let latency = cells(&benchmarks, "## From commit to consumer", "walpost, 1000 events/s");
    let killed = cells(&benchmarks, "## After a SIGKILL", "SIGKILL");
    let faults = cells(&chaos, "\n## Figures\n", "all");
    let events = cells(&chaos, "\n| events |", "");
    for figure in [
        format!("{} events/s", grouped(&drain[2])),
        drain[6].clone(),
        format!("p99 {} ms at 1,000 events/s", latency[3]),
        format!("{} ms from a SIGKILL", killed[1]),
        format!("{} of {} events", events[2], grouped(&events[0])),
        format!("{} random faults, {} out of order", grouped(&faults[1]), events[4]),
    ] {
        assert!(readme.contains(&figure), "README.md does not say: {figure}");
    }
}

#[test]
fn the_readme_counts_what_is_there() {
    let readme = page("README.md");
    let outboxes = count("examples/outboxes", |entry| entry.path().is_dir());
    let metrics = page("docs/metrics.md").lines().filter(|line| line.starts_with("| `walpost_")).count();
    let alerts = page("deploy/prometheus/rules/walpost.yml").matches("alert:").count();
    for figure in [format!("{outboxes} outboxes"), format!("{metrics} metrics"), format!("{alerts} alerts")] {
        assert!(readme.contains(&figure), "README.md does not say: {figure}");
    }
}

/// `make bench ONLY=peers` writes both; where it has not run there is neither.
#[test]
fn the_readme_compares_by_the_table_of_the_benchmarks() {
    let (readme, benchmarks) = (page("README.md"), page("BENCHMARKS.md"));
    let (_, marked) = readme.split_once("<!-- peers").expect("a line that begins the table of the peers");
    let (marked, _) = marked.split_once("<!-- end of peers -->").expect("a line that ends it");
    let measured = benchmarks.split_once(PEERS).map_or("", |(_, section)| section);
    assert_eq!(table(marked), table(measured));
}
