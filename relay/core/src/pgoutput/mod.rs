//! The pgoutput plugin's messages, protocol version 1.
//!
//! Source: PostgreSQL, "Logical Replication Message Formats"
//! (<https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>).
//!
//! Every read is checked against what is left, so no bytes whatever make the decoder panic. Nothing is copied: a
//! [`Tuple`] is a view into the message it came in.

mod reader;
mod tuple;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::lsn::Lsn;
use reader::Reader;
pub use tuple::{Datum, Place, Tuple};

/// The object id of a table or type.
pub type Oid = u32;

/// A message of the stream.
#[derive(Debug, Clone)]
pub enum Message {
    /// A transaction follows.
    Begin(Begin),
    /// The table that rows refer to from now on; sent before its first row and after each change of it.
    Relation(Arc<Relation>),
    /// The name of a type that is not built in; sent before the relation that has it.
    Type(TypeName),
    /// A row was inserted.
    Insert(Insert),
    /// A message that was written into the WAL itself, by `pg_logical_emit_message`.
    Logical(LogicalMessage),
    /// The transaction is complete.
    Commit(Commit),
    /// What an insert-only outbox has no use for: updates, deletes, truncates, origins.
    Ignored(u8),
}

/// The start of a transaction. The stream holds committed transactions only, so its commit is known here already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Where the commit record starts.
    pub commit_lsn: Lsn,
    /// When it committed, microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// The transaction's id.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Where the commit record starts.
    pub commit_lsn: Lsn,
    /// Where it ends: what is confirmed when the whole transaction is done.
    pub end_lsn: Lsn,
}

/// A type's name as it was when the rows that have it were written. For a domain, it is the name of its base type, though
/// the object id is the domain's (`logicalrep_write_typ` in the Postgres sources).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeName {
    /// The object id that descriptions of columns have.
    pub oid: Oid,
    /// The schema.
    pub namespace: String,
    /// The name in `pg_type`.
    pub name: String,
}

/// A table as it was when the rows that refer to it were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its object id, which rows carry.
    pub id: Oid,
    /// The schema.
    pub namespace: String,
    /// The table.
    pub name: String,
    /// In the order in which rows give them.
    pub columns: Vec<Column>,
}

impl Relation {
    /// Whether it has a column of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// The table as it is shown, with its schema, where it has one.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            schema => format!("{schema}.{}", self.name),
        }
    }
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The column's name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
}

/// An inserted row.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The table it went into.
    pub relation: Oid,
    /// Its values.
    pub row: Tuple,
}

/// A message that was written into the WAL itself.
#[derive(Debug, Clone)]
pub struct LogicalMessage {
    /// Whether it is part of the transaction around it. One that is not is in the stream as soon as it was written, whatever
    /// becomes of the transaction that wrote it, and outside of every transaction.
    pub is_transactional: bool,
    /// Where its record in the WAL ends (`logicalmsg_decode` in the Postgres sources).
    pub lsn: Lsn,
    /// Whose message it is.
    pub prefix: Bytes,
    /// Its content, as the one value of a row.
    pub content: Tuple,
}

/// The bytes are not what the protocol promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before it is complete.
    #[error("the message ends where {0} was expected")]
    Truncated(&'static str),
    /// A name is not text.
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    /// The value has a kind that the protocol does not know.
    #[error("unknown kind of {what}: {kind:#04x}")]
    UnknownKind {
        /// Message, tuple or column.
        what: &'static str,
        /// The byte found.
        kind: u8,
    },
    /// A row refers to a table that was not described.
    #[error("a row refers to relation {0}, which was not described on this connection")]
    UnknownRelation(Oid),
    /// A row has another number of columns than its table.
    #[error("a row of {relation} has {row} columns, the table was described with {described}")]
    ColumnCount {
        /// Schema and table.
        relation: String,
        /// Columns of the row.
        row: usize,
        /// Columns of the table.
        described: usize,
    },
    /// Bytes are left behind the message.
    #[error("{0} bytes are left behind the message")]
    Trailing(usize),
}

/// Decodes one connection's stream; it keeps the tables that were described on it.
#[derive(Debug, Default)]
pub struct Decoder {
    relations: HashMap<Oid, Arc<Relation>>,
}

impl Decoder {
    /// Decodes one message.
    ///
    /// # Errors
    /// When the bytes are not a message of protocol version 1, or a row does not fit its table.
    pub fn decode(&mut self, data: &Bytes) -> Result<Message, DecodeError> {
        let mut reader = Reader::new(data);
        let kind = reader.u8("the message's kind")?;
        let message = match kind {
            b'B' => Message::Begin(begin(&mut reader)?),
            b'C' => Message::Commit(commit(&mut reader)?),
            b'R' => Message::Relation(self.relation(&mut reader)?),
            b'I' => Message::Insert(self.insert(&mut reader)?),
            b'Y' => Message::Type(type_name(&mut reader)?),
            b'M' => Message::Logical(logical(&mut reader)?),
            b'U' | b'D' | b'T' | b'O' => return Ok(Message::Ignored(kind)),
            _ => return Err(DecodeError::UnknownKind { what: "message", kind }),
        };
        reader.finish()?;
        Ok(message)
    }

    fn relation(&mut self, reader: &mut Reader<'_>) -> Result<Arc<Relation>, DecodeError> {
        let relation = Arc::new(relation(reader)?);
        self.relations.insert(relation.id, Arc::clone(&relation));
        Ok(relation)
    }

    fn insert(&self, reader: &mut Reader<'_>) -> Result<Insert, DecodeError> {
        let id = reader.u32("the row's relation")?;
        let relation = self.relations.get(&id).ok_or(DecodeError::UnknownRelation(id))?;
        match reader.u8("the tuple's kind")? {
            b'N' => {}
            kind => return Err(DecodeError::UnknownKind { what: "tuple", kind }),
        }
        let row = Tuple::read(reader)?;
        if row.len() == relation.columns.len() {
            return Ok(Insert { relation: id, row });
        }
        Err(DecodeError::ColumnCount {
            relation: relation.full_name(),
            row: row.len(),
            described: relation.columns.len(),
        })
    }
}

fn begin(reader: &mut Reader<'_>) -> Result<Begin, DecodeError> {
    Ok(Begin {
        commit_lsn: reader.lsn("the commit LSN")?,
        commit_time: reader.i64("the commit time")?,
        xid: reader.u32("the transaction id")?,
    })
}

fn commit(reader: &mut Reader<'_>) -> Result<Commit, DecodeError> {
    reader.u8("the flags")?;
    let commit_lsn = reader.lsn("the commit LSN")?;
    let end_lsn = reader.lsn("the end LSN")?;
    reader.i64("the commit time")?;
    Ok(Commit { commit_lsn, end_lsn })
}

fn relation(reader: &mut Reader<'_>) -> Result<Relation, DecodeError> {
    let id = reader.u32("the relation's id")?;
    let namespace = reader.text("the schema")?;
    let name = reader.text("the table")?;
    reader.u8("the replica identity")?;
    let count = reader.u16("the number of columns")?;
    let columns = (0..count).map(|_| column(reader)).collect::<Result<_, _>>()?;
    Ok(Relation { id, namespace: schema(namespace), name, columns })
}

fn type_name(reader: &mut Reader<'_>) -> Result<TypeName, DecodeError> {
    let oid = reader.u32("the type's id")?;
    let namespace = reader.text("the type's schema")?;
    let name = reader.text("the type's name")?;
    Ok(TypeName { oid, namespace: schema(namespace), name })
}

fn logical(reader: &mut Reader<'_>) -> Result<LogicalMessage, DecodeError> {
    let is_transactional = reader.u8("the message's flags")? & 1 == 1;
    let lsn = reader.lsn("the message's LSN")?;
    let prefix = reader.until_zero("the message's prefix")?;
    Ok(LogicalMessage { is_transactional, lsn, prefix, content: Tuple::read_content(reader)? })
}

/// An empty name stands for `pg_catalog`.
fn schema(name: String) -> String {
    if name.is_empty() { "pg_catalog".to_owned() } else { name }
}

fn column(reader: &mut Reader<'_>) -> Result<Column, DecodeError> {
    reader.u8("the column's flags")?;
    let name = reader.text("the column")?;
    let type_oid = reader.u32("the column's type")?;
    reader.u32("the type's modifier")?;
    Ok(Column { name, type_oid })
}

#[cfg(test)]
mod tests;
