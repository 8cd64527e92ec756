//! What a registry knows.

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use serde_json::Value;

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The subject.
    pub subject: String,
    /// Counted from 1.
    pub version: u32,
    /// The same schema has the same id under every subject.
    pub id: u32,
    /// `AVRO`, `JSON` or `PROTOBUF`.
    pub kind: String,
    /// The schema.
    pub schema: String,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET` or `POST`.
    pub method: String,
    /// Its path.
    pub path: String,
}

/// Why a registry does not register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Invalid(String),
    Incompatible(String),
}

/// What a registry knows, and what it was asked.
#[derive(Debug, Default)]
pub struct Store {
    versions: Vec<Version>,
    /// In the order of the questions.
    pub asked: Vec<Asked>,
}

impl Store {
    /// A version as it is to be: with its number and its id.
    pub fn put(&mut self, version: Version) {
        self.versions.push(version);
    }

    /// Registers a schema without asking whether it is compatible; its id.
    pub fn add(&mut self, subject: &str, kind: &str, schema: &str) -> u32 {
        if let Some(known) = self.lookup(subject, kind, schema) {
            return known.id;
        }
        let same = self
            .versions
            .iter()
            .find(|version| version.kind == kind && is_same(kind, &version.schema, schema));
        let free = self.versions.iter().map(|version| version.id).max().unwrap_or_default() + 1;
        let id = same.map_or(free, |same| same.id);
        let version = self.of_subject(subject).map(|version| version.version).max().unwrap_or_default() + 1;
        let (subject, kind, schema) = (subject.to_owned(), kind.to_owned(), schema.to_owned());
        self.versions.push(Version { subject, version, id, kind, schema });
        id
    }

    /// The versions of a subject.
    pub fn of_subject<'a>(&'a self, subject: &str) -> impl Iterator<Item = &'a Version> {
        self.versions.iter().filter(move |version| version.subject == subject)
    }

    /// Whether anything was ever asked to be written.
    #[must_use]
    pub fn was_written_to(&self) -> bool {
        self.asked.iter().any(|asked| asked.method == "POST" && asked.path.ends_with("/versions"))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter()
    }

    pub(super) fn by_id(&self, id: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.id == id)
    }

    pub(super) fn version(&self, subject: &str, version: &str) -> Option<&Version> {
        match version {
            "latest" => self.of_subject(subject).max_by_key(|found| found.version),
            number => self.of_subject(subject).find(|found| found.version.to_string() == number),
        }
    }

    pub(super) fn lookup(&self, subject: &str, kind: &str, schema: &str) -> Option<&Version> {
        self.of_subject(subject).find(|known| known.kind == kind && is_same(kind, &known.schema, schema))
    }

    /// Registers a schema by the default rule, BACKWARD: who has the new one reads what was written by the one before.
    pub(super) fn register(&mut self, subject: &str, kind: &str, schema: &str) -> Result<u32, Refusal> {
        if let Some(known) = self.lookup(subject, kind, schema) {
            return Ok(known.id);
        }
        check(kind, schema).map_err(|what| Refusal::Invalid(format!("Invalid schema: {what}")))?;
        if let Some(last) = self.version(subject, "latest") {
            let refuse = |what: String| {
                Refusal::Incompatible(format!(
                    "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: \
                     [{what}, {{oldSchemaVersion: {}}}]",
                    last.version
                ))
            };
            if last.kind != kind {
                return Err(refuse(format!("the earlier schema is in {}", last.kind)));
            }
            if kind == "AVRO" {
                can_read(schema, &last.schema).map_err(refuse)?;
            }
        }
        Ok(self.add(subject, kind, schema))
    }
}

fn can_read(reader: &str, writer: &str) -> Result<(), String> {
    let parse = |text: &str| Schema::parse_str(text).map_err(|error| error.to_string());
    SchemaCompatibility::can_read(&parse(writer)?, &parse(reader)?)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn check(kind: &str, schema: &str) -> Result<(), String> {
    match kind {
        "AVRO" => Schema::parse_str(schema).map(drop).map_err(|error| error.to_string()),
        "JSON" => serde_json::from_str::<Value>(schema).map(drop).map_err(|error| error.to_string()),
        "PROTOBUF" => super::routes::descriptor(schema).map(drop).map_err(|error| error.to_string()),
        other => Err(format!("no such type: {other}")),
    }
}

/// Spacing makes no other schema.
fn is_same(kind: &str, one: &str, other: &str) -> bool {
    if kind == "PROTOBUF" {
        return one.trim() == other.trim();
    }
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    parse(one).is_some() && parse(one) == parse(other)
}
