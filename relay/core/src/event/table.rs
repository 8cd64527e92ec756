//! What the settings say of the outbox: the table, and which of its columns mean what.

use super::{Kind, OutboxError};
use crate::pgoutput::{Oid, Relation};

/// The table and the columns that make an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxTable {
    /// The table's schema.
    pub schema: String,
    /// The table, as it is called now.
    pub table: String,
    /// The column for each role; the roles without one are absent in the event.
    pub columns: Vec<EventColumn>,
    /// Object ids of tables that were the outbox before this one: rows of theirs in the stream are events as well.
    pub predecessors: Vec<Oid>,
    /// The name of the values' format, for messages.
    pub format: &'static str,
    /// The types of event that the format knows; empty: any.
    pub labels: &'static [&'static str],
}

/// The column for one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventColumn {
    /// What it is for.
    pub role: Role,
    /// The names it has, had or will have: a table has one of them at a time. A row in the stream has the name of the
    /// moment at which it was written, so a column that is renamed has two for a while.
    pub names: Vec<String>,
    /// The kinds of value that the format can hold in this role.
    pub kinds: &'static [Kind],
}

impl EventColumn {
    /// The setting that names it.
    #[must_use]
    pub fn setting(&self) -> String {
        format!("column-{}", self.role.name())
    }
}

impl OutboxTable {
    /// A table whose columns have one name each, and a format that takes every kind that a role may have.
    #[must_use]
    pub fn new(schema: &str, table: &str, columns: &[(Role, &str)]) -> Self {
        let column = |(role, name): &(Role, &str)| EventColumn {
            role: *role,
            names: vec![(*name).to_owned()],
            kinds: role.kinds(),
        };
        Self {
            schema: schema.to_owned(),
            table: table.to_owned(),
            columns: columns.iter().map(column).collect(),
            predecessors: Vec::new(),
            format: "any",
            labels: &[],
        }
    }

    /// `schema.table`, as messages show it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// The first name of a role's column: the only one, in a table that is [`resolved`](Self::resolved).
    #[must_use]
    pub fn column(&self, role: Role) -> Option<&str> {
        let column = self.columns.iter().find(|column| column.role == role)?;
        column.names.first().map(String::as_str)
    }

    /// Whether a column has several names, so that it must be looked up which one it has now.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.columns.iter().any(|column| column.names.len() > 1)
    }

    /// The same table with those names only that a column of the table `has`.
    #[must_use]
    pub fn resolved(&self, has: impl Fn(&str) -> bool) -> Self {
        let column = |column: &EventColumn| EventColumn {
            names: column.names.iter().filter(|name| has(name)).cloned().collect(),
            ..column.clone()
        };
        Self { columns: self.columns.iter().map(column).collect(), ..self.clone() }
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

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The row's number, by which rows that stood before the slot are ordered.
    Id,
    /// What the event is about: the record's key.
    Key,
    /// What happened.
    Type,
    /// The event's content.
    Payload,
    /// When the row was written.
    CreatedAt,
    /// The UUID to deduplicate by.
    EventId,
    /// The W3C trace context of the request that caused the event.
    Traceparent,
}

impl Role {
    /// All of them; a role's place here is its place in a row that is being read.
    pub const ALL: [Self; 7] =
        [Self::Id, Self::Key, Self::Type, Self::Payload, Self::CreatedAt, Self::EventId, Self::Traceparent];

    /// The role as the settings name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Key => "key",
            Self::Type => "type",
            Self::Payload => "payload",
            Self::CreatedAt => "created-at",
            Self::EventId => "event-id",
            Self::Traceparent => "traceparent",
        }
    }

    /// The kinds of value that can be read in this role, whatever the format.
    #[must_use]
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Id => &[Kind::Integer],
            Self::Key => &[Kind::Integer, Kind::Text, Kind::Uuid],
            Self::Type | Self::Traceparent => &[Kind::Text],
            Self::Payload => &[Kind::Jsonb, Kind::Text, Kind::Bytea],
            Self::CreatedAt => &[Kind::Timestamp],
            Self::EventId => &[Kind::Uuid],
        }
    }
}
