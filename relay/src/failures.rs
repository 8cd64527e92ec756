//! `docs/failures.md` names a test for what it says; here it is held to that.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How many failures there are.
const FAILURES: usize = 136;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The rows of the tables: number, failure, answer, proof.
fn rows() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("../docs/failures.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| F"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The `file::test` of a cell.
fn tests(cell: &str) -> Vec<(&str, &str)> {
    cell.split('`').skip(1).step_by(2).map(|name| name.split_once("::").unwrap_or((name, ""))).collect()
}

/// A file of the integration tests by its name, one of the sources by its path.
fn source(file: &str) -> PathBuf {
    if file.ends_with(".rs") {
        let places = ["src", "core/src", ".."].map(|folder| root().join(folder).join(file));
        places.into_iter().find(|path| path.exists()).unwrap_or_default()
    } else {
        root().join("tests/it").join(file).with_extension("rs")
    }
}

#[test]
fn every_failure_is_there_once() {
    let numbers: Vec<_> = rows().iter().map(|row| row[0].clone()).collect();
    let expected: BTreeSet<_> = (1..=FAILURES).map(|number| format!("F{number}")).collect();
    assert_eq!(numbers.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(numbers.len(), FAILURES, "{numbers:?}");
    for row in rows() {
        assert!(row.len() == 4 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

#[test]
fn every_test_that_is_named_exists_and_is_run() {
    for row in rows() {
        for (file, test) in tests(&row[3]) {
            let text = fs::read_to_string(source(file));
            let text = text.unwrap_or_else(|_| panic!("{}: there is no file for `{file}::{test}`", row[0]));
            let is_test = is_test(&text, test);
            assert!(is_test, "{}: {file} has no test `{test}`", row[0]);
        }
    }
}

/// A function under a test attribute, or in a `proptest!` block, whose attribute stands above it in the same way.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let starts = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|line| line.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let Some(at) = lines.iter().position(|line| starts(line)) else { return false };
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

#[test]
fn a_failure_without_a_test_says_why() {
    for row in rows().iter().filter(|row| tests(&row[3]).is_empty()) {
        let reasons = ["documented: ", "Postgres' own", "not yet"];
        assert!(reasons.iter().any(|reason| row[3].starts_with(reason)), "{}: {}", row[0], row[3]);
    }
}
