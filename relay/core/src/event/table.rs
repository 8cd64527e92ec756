//! What the settings say of the outbox: the table, and how its rows become records.

use std::sync::Arc;

use super::error::{Mistake, Mistakes, OutboxError};
use super::guess;
use super::mapping::{Guesses, Mapping, lone_column};
use super::pattern::Pattern;
use super::template::Template;
use crate::pgoutput::{Oid, Relation};

/// Logical messages have no table (`InvalidOid`).
pub(super) const NO_TABLE: Oid = 0;

/// Under this name the row filter is kept with what was guessed.
pub(super) const FILTER: &str = "where";

/// The table, and how its rows become records.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxTable {
    /// The table's schema; with `*` in it where it stands for many and was not looked for yet.
    pub schema: String,
    /// The table, as it is called now; the same.
    pub table: String,
    /// The pattern that it was found by.
    pub found_by: Option<Pattern>,
    /// Its database, which is part of the default of `ce_source`; known once there was a connection.
    pub database: String,
    /// How its rows become records.
    pub mapping: Arc<Mapping>,
    /// The column by which rows that stand in the table are read: a number that rises with each insert. Known once the
    /// table was looked at; `None` where it has none, and is read in one go.
    pub order: Option<String>,
    /// The integer columns of its primary key; known once the table was looked at.
    pub key_integers: Vec<String>,
    /// The slot in whose row of the ledger it is kept what was guessed.
    pub slot: String,
    /// What was guessed, now or before.
    pub guesses: Guesses,
    /// Which of its rows are events: a condition in SQL, the publication's row filter.
    pub filter: Option<String>,
    /// Whether its rows are never updated, as the settings say.
    pub append_only: bool,
    /// Whether its rows stand in partitions; known once the table was looked at.
    pub is_partitioned: bool,
    /// Object ids of tables that were the outbox before this one: rows of theirs in the stream are events as well.
    pub predecessors: Vec<Oid>,
}

impl OutboxTable {
    /// A table of which only its name and the mapping are known.
    #[must_use]
    pub fn new(schema: &str, table: &str, mapping: Mapping) -> Self {
        Self {
            schema: schema.to_owned(),
            table: table.to_owned(),
            found_by: None,
            database: String::new(),
            mapping: Arc::new(mapping),
            order: None,
            key_integers: Vec::new(),
            slot: String::new(),
            guesses: Guesses::new(),
            filter: None,
            append_only: false,
            is_partitioned: false,
            predecessors: Vec::new(),
        }
    }

    /// `schema.table`, as messages show it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// The pattern, where the settings stand for many tables.
    #[must_use]
    pub fn pattern(&self) -> Option<Pattern> {
        Pattern::of(&self.schema, &self.table)
    }

    /// The table of this name, of many that a pattern stands for.
    #[must_use]
    pub fn named(&self, schema: &str, table: &str) -> Self {
        let (schema, table) = (schema.to_owned(), table.to_owned());
        Self { schema, table, found_by: self.pattern(), ..self.clone() }
    }

    /// What `ce_source` is where nothing is said of it, for rows of such a description: with the name that the table had when
    /// they were written, so that a row that comes again has the same.
    #[must_use]
    pub fn source(&self, relation: &Relation) -> String {
        format!("/{}/{}", self.database, relation.full_name())
    }

    /// The condition stands in the publication, and is what it was when that was made; `kept` has it from then.
    ///
    /// # Errors
    /// When it is another.
    pub fn check_filter(&self, kept: &Guesses) -> Result<(), OutboxError> {
        match kept.get(FILTER) {
            Some(known) if *known != self.filter => {
                let shown = |filter: &Option<String>| filter.clone().unwrap_or_else(|| "none".into());
                let what = format!(
                    "it is {} and was {} when the publication was made, which has it still: alter the publication (`drop table \
                     …`, `add table … where (…)`) and run `walpost recover`, or set it back",
                    shown(&self.filter),
                    shown(known)
                );
                let mistakes = vec![Mistake::new("where", what)];
                Err(OutboxError::Mistakes(Box::new(Mistakes {
                    table: self.name(),
                    columns: String::new(),
                    mistakes,
                })))
            }
            _ => Ok(()),
        }
    }

    /// The columns of the table that a record is made of.
    pub fn needed<'a>(&'a self, relation: &'a Relation) -> impl Iterator<Item = &'a str> {
        let (named, all) = (self.mapping.columns(), self.mapping.has_every_column());
        let is_needed = move |name: &&str| all || named.contains(name);
        relation.columns.iter().map(|column| column.name.as_str()).filter(is_needed)
    }

    /// The column that says when an event happened, where it is a column and nothing else.
    #[must_use]
    pub fn time_column(&self) -> Option<&str> {
        self.mapping.time.given().and_then(lone_column)
    }

    /// The column that is the value, or goes into it under such a name: the one that may be large.
    #[must_use]
    pub fn value_column(&self) -> Option<&str> {
        let fields =
            || self.mapping.fields.values().filter_map(lone_column).find(|name| guess::is_value(name));
        self.mapping.value.given().and_then(lone_column).or_else(fields)
    }

    /// The topic, where every record has the same.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        let topic = self.mapping.topic.given().and_then(Template::as_constant)?;
        Some(self.mapping.topics.get(topic).map_or(topic, String::as_str))
    }

    /// The topic as people read it, expressions and all.
    #[must_use]
    pub fn shown_topic(&self) -> String {
        let source = self.mapping.topic.given().map(|topic| topic.source.clone());
        self.topic().map(str::to_owned).or(source).unwrap_or_else(|| "by each row".to_owned())
    }

    /// It is the table that counts and not its name: under the name that it had when its rows were written, it is the outbox.
    /// So another table that had the outbox' name is none: dropped and made anew since, or swapped. `oid` is the table's now.
    ///
    /// # Errors
    /// When it is such a table: whether its rows are events is nothing that could be guessed. With a pattern it is: the name
    /// says it.
    pub fn check_name(&self, relation: &Relation, oid: Oid) -> Result<(), OutboxError> {
        if self.found_by.is_none() && relation.namespace == self.schema && relation.name == self.table {
            return Err(OutboxError::Replaced { table: self.name(), was: relation.id, is: oid });
        }
        Ok(())
    }
}
