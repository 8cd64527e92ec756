//! What the settings say of the outbox: the table, and how its rows become records.

use std::sync::Arc;

use super::mapping::{Mapping, lone_column};
use super::template::Template;
use super::{OutboxError, Types, guess, plan};
use crate::pgoutput::{Oid, Relation};

/// The table, and how its rows become records.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxTable {
    /// The table's schema.
    pub schema: String,
    /// The table, as it is called now.
    pub table: String,
    /// Its database, which is part of the default of `ce_source`; known once there was a connection.
    pub database: String,
    /// How its rows become records.
    pub mapping: Arc<Mapping>,
    /// The column by which rows that stand in the table are read: a number that rises with each insert. Known once the
    /// table was looked at; `None` where it has none, and is read in one go.
    pub order: Option<String>,
    /// The columns of its primary key; known once the table was looked at.
    pub primary_key: Vec<String>,
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
            database: String::new(),
            mapping: Arc::new(mapping),
            order: None,
            primary_key: Vec::new(),
            predecessors: Vec::new(),
        }
    }

    /// `schema.table`, as messages show it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// What `ce_source` is where nothing is said of it.
    #[must_use]
    pub fn source(&self) -> String {
        format!("/{}/{}", self.database, self.name())
    }

    /// The same table with all that was guessed of it.
    ///
    /// # Errors
    /// What cannot be guessed.
    pub fn guessed(&self, relation: &Relation, types: &Types) -> Result<Self, OutboxError> {
        let mapping = plan::guessed(self, relation, types)?;
        let order = self
            .order
            .as_deref()
            .map(|order| mapping.name_among(order, |name| relation.has(name)).to_owned());
        Ok(Self { mapping: Arc::new(mapping), order, ..self.clone() })
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

    /// Whether rows of this relation are events: `oid` is that of the table now. It is the table that counts and not its
    /// name: under the name that it had when its rows were written, it is the outbox.
    ///
    /// # Errors
    /// When it is another table that had the outbox' name when its rows were written: dropped and made anew, or swapped.
    /// Whether its rows are events is nothing that could be guessed.
    pub fn is(&self, relation: &Relation, oid: Oid) -> Result<bool, OutboxError> {
        if relation.id == oid || self.predecessors.contains(&relation.id) {
            return Ok(true);
        }
        if relation.namespace == self.schema && relation.name == self.table {
            return Err(OutboxError::Replaced { table: self.name(), was: relation.id, is: oid });
        }
        Ok(false)
    }
}
