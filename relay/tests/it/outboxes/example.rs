use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use harness::stack::repository;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Where the examples are.
pub(super) fn folder() -> PathBuf {
    repository().join("examples/outboxes")
}

/// A folder of `examples/outboxes`.
#[derive(Debug)]
pub(super) struct Example {
    /// The name of the folder.
    pub(super) name: String,
    /// The statements that make the table.
    pub(super) table: String,
    /// The statements of the application, in their order.
    pub(super) rows: Vec<String>,
    /// What is to come of them.
    pub(super) expected: Expected,
}

/// `expected.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// The topics that are to be there, with one partition each.
    #[serde(default)]
    pub(super) topics: Vec<String>,
    /// In the order of commits, if all rows are streamed.
    pub(super) records: Vec<Record>,
    /// Those of them that arrive if walpost is set up when all statements have run, in the order of the table's rows.
    #[serde(default)]
    pub(super) before_slot: Vec<usize>,
    /// Those of them, by their index, that are others then, since the row was changed after its insert.
    #[serde(default)]
    pub(super) changed: BTreeMap<usize, Record>,
    /// Rows that become dead letters, in their order.
    #[serde(default)]
    pub(super) dead_letters: Vec<BadRow>,
    /// The row at which walpost halts, where there is one; the records are those of the rows before.
    pub(super) halts: Option<BadRow>,
    /// What walpost refuses to start with, all of it at once.
    #[serde(default)]
    pub(super) mistakes: Vec<Mistake>,
    /// How it ends then, where that is a number.
    pub(super) exit_code: Option<Value>,
    /// By the setting that names a file: the source that the file is built from.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// What a schema registry answers.
    pub(super) registry: Option<Registry>,
}

/// A record.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) topic: String,
    /// `None` is a null key.
    #[serde(deserialize_with = "given")]
    pub(super) key: Option<String>,
    /// `None` is a null value.
    #[serde(deserialize_with = "given")]
    pub(super) value: Option<Content>,
    /// All of them, but for `wal-lsn` and `wal-seq`; `None` is a null value.
    pub(super) headers: BTreeMap<String, Option<String>>,
    /// Where the settings say where the time comes from.
    pub(super) timestamp_ms: Option<i64>,
}

/// What a value is to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Content {
    /// The bytes of this text.
    Text(String),
    /// These bytes.
    Base64(String),
    /// Any text of this JSON.
    Json(Value),
}

/// A row that cannot be published.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BadRow {
    /// Counted from 1, over all rows.
    pub(super) at_row: Option<usize>,
    /// What the reason names.
    pub(super) names: Vec<String>,
}

/// A setting that cannot be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mistake {
    /// The setting.
    pub(super) setting: String,
    /// What the message names besides.
    pub(super) names: Vec<String>,
}

/// What a schema registry knows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Registry {
    pub(super) subjects: Vec<Subject>,
}

/// A version of a subject.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    pub(super) subject: String,
    pub(super) id: u32,
    pub(super) version: u32,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) schema: String,
}

/// A part that may be null must be written: one that is left out is a mistake in the file.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

impl Example {
    /// Reads the folder `name`.
    pub(super) fn read(name: &str) -> Result<Self> {
        let read = |file: &str| {
            let path = folder().join(name).join(file);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let expected: Expected =
            serde_json::from_str(&read("expected.json")?).with_context(|| format!("{name}/expected.json"))?;
        read("walpost.toml")?;
        let example = Self {
            name: name.to_owned(),
            table: read("table.sql")?,
            rows: statements(&read("rows.sql")?),
            expected,
        };
        example.is_sound().with_context(|| format!("{name}/expected.json"))?;
        Ok(example)
    }

    /// Its settings file.
    pub(super) fn settings(&self) -> PathBuf {
        folder().join(&self.name).join("walpost.toml")
    }

    fn is_sound(&self) -> Result<()> {
        let Expected { topics, records, before_slot, .. } = &self.expected;
        for record in records {
            ensure!(topics.contains(&record.topic), "{} is not among the topics", record.topic);
        }
        for index in before_slot {
            ensure!(*index < records.len(), "before_slot: there is no record {index}");
        }
        Ok(())
    }
}

impl Expected {
    /// The records of rows that were in the table before the slot was made.
    pub(super) fn left_in_the_table(&self) -> Vec<&Record> {
        let record = |index: &usize| self.changed.get(index).unwrap_or_else(|| &self.records[*index]);
        self.before_slot.iter().map(record).collect()
    }
}

/// A statement ends with the line that ends with a semicolon: one within a line is part of a text.
fn statements(sql: &str) -> Vec<String> {
    let ended = sql.split_inclusive(";\n").map(str::trim);
    ended.filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_semicolon_in_a_text_ends_no_statement() {
    let sql = "begin;\ninsert into t\nvalues ('a;b');\ncommit;\n";
    assert_eq!(statements(sql), ["begin;", "insert into t\nvalues ('a;b');", "commit;"]);
}

#[test]
fn a_part_that_is_left_out_is_not_null() {
    let parse = |text| serde_json::from_str::<Record>(text);
    let record =
        parse(r#"{"topic": "t", "key": null, "value": null, "headers": {"h": null}}"#).expect("a record");
    assert!(record.key.is_none() && record.value.is_none() && record.headers["h"].is_none());
    assert!(parse(r#"{"topic": "t", "key": null, "headers": {}}"#).is_err());
    assert!(parse(r#"{"topic": "t", "key": null, "value": {"txt": ""}, "headers": {}}"#).is_err());
}
