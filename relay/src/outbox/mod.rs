//! Which column means what: a row of the outbox table becomes an [`OutboxEvent`].
//!
//! Columns are mapped by name each time Postgres describes the table, so one may be added, moved or widened at any
//! time. A column that is gone, a type that does not fit and a value that does not decode are errors: the relay halts
//! on them and never skips a row.

mod value;

use bytes::Bytes;
use uuid::Uuid;

use crate::pgoutput::{Datum, Oid, Relation, Tuple};
pub use value::Kind;
pub(crate) use value::POSTGRES_EPOCH_US;

/// The table and the columns that make an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxTable {
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The column for each role; the roles without one are absent in the event.
    pub columns: Vec<(Role, String)>,
}

impl OutboxTable {
    /// `schema.table`, as messages show it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// The name of a role's column.
    #[must_use]
    pub fn column(&self, role: Role) -> Option<&str> {
        self.columns.iter().find(|(known, _)| *known == role).map(|(_, column)| column.as_str())
    }

    /// Whether rows of this relation are events. `oid` is that of the table when streaming began: under another name it
    /// is still the outbox, and to take its rows for another table's would lose them.
    ///
    /// # Errors
    /// When it is the outbox under another name.
    pub fn is(&self, relation: &Relation, oid: Oid) -> Result<bool, OutboxError> {
        if relation.namespace == self.schema && relation.name == self.table {
            return Ok(true);
        }
        if relation.id == oid {
            let now = format!("{}.{}", relation.namespace, relation.name);
            return Err(OutboxError::Renamed { table: self.name(), now });
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

    /// The kinds of value it takes.
    fn kinds(self) -> &'static [Kind] {
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

/// What the event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// An integer column.
    Integer(i64),
    /// A text column.
    Text(Bytes),
    /// A UUID column.
    Uuid(Uuid),
}

/// A row of the outbox. The large values are views into the message it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The row's number.
    pub id: i64,
    /// What it is about.
    pub key: Key,
    /// What happened: the label of the type column, UTF-8.
    pub kind: Bytes,
    /// The content; `None` for SQL NULL.
    pub payload: Option<Bytes>,
    /// When the row was written, microseconds since 1970-01-01 UTC.
    pub created_at: i64,
    /// The UUID to deduplicate by.
    pub event_id: Uuid,
    /// The trace context, where the row has one.
    pub traceparent: Option<Bytes>,
}

/// The table or a row of it is not what the settings say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// A column is not there.
    #[error("table {table} has no column `{column}` (the setting column-{role}); it has: {has}")]
    MissingColumn {
        /// Schema and table.
        table: String,
        /// The column looked for.
        column: String,
        /// What for.
        role: &'static str,
        /// The columns it has.
        has: String,
    },
    /// A column has a type that its role cannot take.
    #[error(
        "column `{column}` of table {table} has a type (oid {oid}) that does not fit column-{role}: expected \
            {expected}"
    )]
    WrongType {
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
        /// Its role.
        role: &'static str,
        /// Its type.
        oid: u32,
        /// The types that fit.
        expected: String,
    },
    /// The table has another name now.
    #[error("table {table} was renamed to {now} while it was followed")]
    Renamed {
        /// As the settings have it.
        table: String,
        /// As it is called now.
        now: String,
    },
    /// A value is NULL that an event needs.
    #[error("NULL in its {0} column")]
    Null(&'static str),
    /// A value does not decode.
    #[error("its {role} column does not decode: {reason}")]
    Malformed {
        /// The column's role.
        role: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Where each role's value is in the rows of one description of the table.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For each column of the table, the role it has.
    roles: Vec<Option<(Role, Kind)>>,
}

impl Plan {
    /// Finds the columns in a table as Postgres describes it.
    ///
    /// # Errors
    /// When a column is missing or its type does not fit its role.
    pub fn new(table: &OutboxTable, relation: &Relation) -> Result<Self, OutboxError> {
        let mut roles = vec![None; relation.columns.len()];
        for (role, column) in &table.columns {
            let index = relation
                .columns
                .iter()
                .position(|candidate| candidate.name == *column)
                .ok_or_else(|| missing_column(table, relation, *role, column))?;
            let oid = relation.columns[index].type_oid;
            let kind = Kind::of(oid);
            if !role.kinds().contains(&kind) {
                return Err(wrong_type(table, *role, column, oid));
            }
            roles[index] = Some((*role, kind));
        }
        Ok(Self { roles })
    }

    /// Reads a row.
    ///
    /// # Errors
    /// When a value that an event needs is NULL or does not decode.
    pub fn event(&self, row: &Tuple) -> Result<OutboxEvent, OutboxError> {
        let reader = self.values(row);
        Ok(OutboxEvent {
            id: reader.integer(Role::Id)?,
            key: reader.key()?,
            kind: reader.text(Role::Type)?.ok_or(OutboxError::Null(Role::Type.name()))?,
            payload: reader.payload()?,
            created_at: reader.timestamp(Role::CreatedAt)?,
            event_id: reader.uuid(Role::EventId)?,
            traceparent: reader.text(Role::Traceparent)?,
        })
    }
}

impl Plan {
    /// Key and UUID of a row that is not an event, as far as they can be read.
    #[must_use]
    pub fn identity(&self, row: &Tuple) -> (Option<Key>, Option<Uuid>) {
        let reader = self.values(row);
        (reader.key().ok(), reader.uuid(Role::EventId).ok())
    }

    fn values<'a>(&self, row: &'a Tuple) -> value::Values<'a> {
        let mut values = [(Datum::Null, Kind::Other); Role::ALL.len()];
        for (datum, role) in row.iter().zip(&self.roles) {
            if let Some((role, kind)) = role {
                values[*role as usize] = (datum, *kind);
            }
        }
        value::Values { row, values }
    }
}

fn missing_column(table: &OutboxTable, relation: &Relation, role: Role, column: &str) -> OutboxError {
    let has: Vec<_> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    OutboxError::MissingColumn {
        table: table.name(),
        column: column.to_owned(),
        role: role.name(),
        has: has.join(", "),
    }
}

fn wrong_type(table: &OutboxTable, role: Role, column: &str, oid: u32) -> OutboxError {
    let expected: Vec<_> = role.kinds().iter().map(|kind| kind.types()).collect();
    OutboxError::WrongType {
        table: table.name(),
        column: column.to_owned(),
        role: role.name(),
        oid,
        expected: expected.join(", "),
    }
}

#[cfg(test)]
mod tests;
