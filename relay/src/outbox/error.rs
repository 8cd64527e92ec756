//! What can be wrong with the outbox or a row of it, and what to do.

use crate::pgoutput::Oid;

/// The table or a row of it is not what the settings say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// A column is not there.
    #[error("table {table} has no column {column} (the setting {setting}); it has: {has}")]
    MissingColumn {
        /// Schema and table, as they were called.
        table: String,
        /// The names looked for.
        column: String,
        /// The setting that gives them.
        setting: String,
        /// Those names as the setting has them.
        names: String,
        /// The columns the table has, or had when the rows were written.
        has: String,
    },
    /// More than one of a setting's columns are there.
    #[error("table {table} has more than one column of the setting {setting}: {column}")]
    AmbiguousColumn {
        /// Schema and table, as they were called.
        table: String,
        /// The columns.
        column: String,
        /// The setting.
        setting: String,
    },
    /// A column has a type that its role or the format cannot take.
    #[error(
        "column `{column}` of table {table} has the type {found}, which cannot be {setting} in the format {format}: \
         expected {expected}"
    )]
    WrongType {
        /// Schema and table, as they were called.
        table: String,
        /// The column.
        column: String,
        /// The setting that names it.
        setting: String,
        /// Its type.
        found: String,
        /// The format.
        format: &'static str,
        /// The types that fit.
        expected: String,
    },
    /// A type that neither the catalogue nor the stream explains.
    #[error(
        "column `{column}` of table {table} (the setting {setting}) had the type {found} when its rows were written, \
         which the catalogue does not have"
    )]
    UnknownType {
        /// Schema and table, as they were called.
        table: String,
        /// The column.
        column: String,
        /// The setting that names it.
        setting: String,
        /// What is known of the type: its name, where the stream gave one, and its object id.
        found: String,
        /// Its object id.
        oid: Oid,
    },
    /// No label of an enum is one that the format knows.
    #[error(
        "column `{column}` of table {table} (the setting column-type) has the labels {labels}; the format {format} \
         knows none of them, only {known}"
    )]
    ForeignLabels {
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
        /// The enum's labels.
        labels: String,
        /// The format.
        format: &'static str,
        /// The labels that the format knows.
        known: String,
    },
    /// Another table had the outbox' name.
    #[error(
        "the stream holds rows of another table that was called {table} when they were written (oid {was}); the table \
         of that name is oid {is} now: made anew, or renamed into its place"
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
            Self::MissingColumn { setting, names, .. } => format!(
                "if it was renamed, start walpost with both names, --{setting}=NEW,{names}: a row in the stream has the \
                 name of the moment at which it was written; else put the column back, or name another"
            ),
            Self::AmbiguousColumn { setting, .. } => format!(
                "name the one that is meant in --{setting}; where the rows of the stream disagree, \
                 `walpost recover --anew` publishes them from the table"
            ),
            Self::WrongType { table, column, setting, .. } => format!(
                "name another column with --{setting}, or change its type, as in `alter table {table} alter column \
                 {column} type … using …`"
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
