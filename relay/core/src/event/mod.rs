//! Which column means what: a row of the outbox table becomes an [`OutboxEvent`].
//!
//! Columns are mapped by name each time Postgres describes the table, so one may be added, moved or widened at any
//! time, and renamed where the settings have both names. A column that is gone, a type that does not fit and a value that
//! does not decode are errors: the relay halts on them and never skips a row.

pub mod dead_letter;
pub mod encode;
mod error;
mod plan;
pub mod position;
mod table;
mod types;
mod value;

use bytes::Bytes;
use uuid::Uuid;

pub use error::{AtColumn, BadRow, OutboxError, REMEDY_FOR_A_ROW};
pub use plan::Plan;
pub use table::{EventColumn, OutboxTable, Role};
pub use types::{TypeFact, Types};
pub use value::Kind;

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

#[cfg(test)]
mod tests;
