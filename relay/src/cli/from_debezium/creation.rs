//! `topic.creation.*`, by which Kafka Connect makes topics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cli::settings_file::quoted;

/// What all its options begin with.
pub(super) const PREFIX: &str = "topic.creation.";

/// How topics are made.
#[derive(Debug, Default)]
pub(super) struct Creation {
    /// What `[create_topics]` says of every topic, as TOML.
    all: Vec<String>,
    /// What is not carried over.
    pub(super) notes: Vec<String>,
}

impl Creation {
    pub(super) fn of(options: &BTreeMap<String, String>) -> Self {
        let mut creation = Self::default();
        for (name, value) in options {
            let Some(option) = name.strip_prefix(PREFIX) else { continue };
            match option.strip_prefix("default.") {
                // That is the brokers' own number, which is what walpost asks for where it is told nothing.
                Some("partitions" | "replication.factor") if value == "-1" => {}
                Some("partitions") => creation.all.push(format!("partitions = {value}")),
                Some("replication.factor") => creation.all.push(format!("replication = {value}")),
                None if option == "enable" => {}
                Some(property) => creation.all.push(format!("{} = {}", quoted(property), quoted(value))),
                None => creation.notes.push(format!(
                    "{name} = {value} is not carried over: say it in [create_topics], by a pattern of names"
                )),
            }
        }
        creation
    }

    /// The section, where it says something.
    pub(super) fn toml(&self) -> String {
        let mut text = String::new();
        if !self.all.is_empty() {
            // Writing into a String cannot fail.
            let _ = write!(text, "\n\n[create_topics]\n\"*\" = {{ {} }}", self.all.join(", "));
        }
        text
    }
}
