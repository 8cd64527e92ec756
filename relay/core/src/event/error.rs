//! What can be wrong with the outbox or a row of it, and what to do.

use crate::pgoutput::Oid;

/// Which column of which table is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtColumn {
    /// Schema and table, as they were called when the rows were written.
    pub table: String,
    /// The column, or the names looked for, as the setting has them.
    pub column: String,
    /// The setting that names it.
    pub setting: String,
}

/// The table or a row of it is not what the settings say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// A column is not there.
    #[error("table {} has no column `{}` (the setting {}); it has: {has}", .at.table, .at.column, .at.setting)]
    MissingColumn {
        /// What was looked for.
        at: Box<AtColumn>,
        /// The columns the table has, or had when the rows were written.
        has: String,
    },
    /// More than one of a setting's columns are there.
    #[error("table {} has more than one column of the setting {}: `{}`", .0.table, .0.setting, .0.column)]
    AmbiguousColumn(Box<AtColumn>),
    /// A column has a type that its role or the format cannot take.
    #[error(
        "column `{}` of table {} has the type {found}, which cannot be {} in the format {format}: expected {expected}",
        .at.column, .at.table, .at.setting
    )]
    WrongType {
        /// The column.
        at: Box<AtColumn>,
        /// Its type.
        found: String,
        /// The format.
        format: &'static str,
        /// The types that fit.
        expected: String,
    },
    /// A type that neither the catalogue nor the stream explains.
    #[error(
        "column `{}` of table {} (the setting {}) had the type {found} when its rows were written, which the \
            catalogue does not have",
        .at.column, .at.table, .at.setting
    )]
    UnknownType {
        /// The column.
        at: Box<AtColumn>,
        /// What is known of the type: its name, where the stream gave one, and its object id.
        found: String,
        /// Its object id.
        oid: Oid,
    },
    /// No label of an enum is one that the format knows.
    #[error(
        "column `{}` of table {} (the setting {}) has the labels {labels}, of which the format {format} knows none, \
            only {known}",
        .at.column, .at.table, .at.setting
    )]
    ForeignLabels {
        /// The column.
        at: Box<AtColumn>,
        /// The enum's labels.
        labels: String,
        /// The format.
        format: &'static str,
        /// The labels that the format knows.
        known: String,
    },
    /// Another table had the outbox' name.
    #[error(
        "the stream holds rows of another table that was called {table} when they were written (oid {was}); the \
            table of that name has the oid {is} now: made anew, or renamed into its place"
    )]
    Replaced {
        /// The outbox, as the settings have it.
        table: String,
        /// The table in the stream.
        was: Oid,
        /// The table in the catalogue.
        is: Oid,
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

/// What to do about a row that is not an event: it stays in the stream as it was written, whatever becomes of its table.
pub const REMEDY_FOR_A_ROW: &str = "nothing was skipped, and nothing behind it is confirmed; a row in the stream stays as it was \
    written, so let such rows go to a topic of their own: start walpost with --poison=dead-letter and \
    --dead-letter-topic=NAME, and the rows behind it go on";

impl OutboxError {
    /// What the operator can do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::MissingColumn { at, .. } => format!(
                "if it was renamed, start walpost with both names, --{}=NEW,{}: a row in the stream has the name of the \
                    moment at which it was written; else put the column back, or name another; where rows of the stream \
                    were written without it, `walpost recover --anew` publishes them from the table",
                at.setting, at.column
            ),
            Self::AmbiguousColumn(at) => format!(
                "name the one that is meant in --{}; where the rows of the stream disagree, `walpost recover --anew` \
                    publishes them from the table",
                at.setting
            ),
            Self::WrongType { at, .. } => format!(
                "name another column with --{}, or change its type, as in `alter table {} alter column {} type … using \
                    …`; where rows of the stream were written with it, `walpost recover --anew` publishes them from the \
                    table",
                at.setting, at.table, at.column
            ),
            Self::UnknownType { .. } => {
                "the rows of the table can be published all the same: `walpost recover --anew` \
                leaves the stream, makes a new slot and publishes what the table holds and Kafka may lack"
                    .into()
            }
            Self::ForeignLabels { .. } => {
                "name another column with --column-type, or another --format".into()
            }
            Self::Replaced { was, .. } => format!(
                "if those rows are events, start walpost with --table-was={was}: they are published in their turn; if \
                 they are not, `walpost recover --anew` leaves the stream, makes a new slot and publishes what the \
                 table holds and Kafka may lack"
            ),
            Self::Null(_) | Self::Malformed { .. } => REMEDY_FOR_A_ROW.into(),
        }
    }
}

/// A row of the outbox that is not an event.
#[derive(Debug, thiserror::Error)]
#[error("{place} of {table} is not an event: {error}")]
pub struct BadRow {
    /// Which row, as far as it can be told.
    pub place: String,
    /// The outbox.
    pub table: String,
    /// What is wrong with it.
    pub error: OutboxError,
}
