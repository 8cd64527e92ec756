//! What can be wrong with the outbox or a row of it, and what to do.

use std::fmt;

use crate::pgoutput::{Oid, Relation};

/// A setting that does not fit the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The setting: `key`, `headers.eventType`.
    pub setting: String,
    /// What is wrong, and what would fit.
    pub what: String,
}

/// Of a value so many characters are quoted: enough to know it, and little enough for a header and a line of the log.
const QUOTED_CHARS: usize = 200;

/// A value as a message quotes it.
pub(super) fn quoted(value: &str) -> String {
    match value.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("`{}…` ({} bytes)", &value[..end], value.len()),
        None => format!("`{value}`"),
    }
}

impl Mistake {
    /// With what is wrong, and what would fit.
    #[must_use]
    pub fn new(setting: &str, what: impl Into<String>) -> Self {
        Self { setting: setting.to_owned(), what: what.into() }
    }
}

/// A mistake that names the nearest of what there is.
pub(super) fn unknown_column(setting: &str, shown: &str, name: &str, relation: &Relation) -> Mistake {
    let table = relation.full_name();
    let distance = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
    let names = relation.columns.iter().map(|column| column.name.as_str());
    let near = name.chars().count().div_ceil(2).max(2);
    let nearest = names.min_by_key(|known| distance(known)).filter(|known| distance(known) <= near);
    let nearest = nearest.map_or(String::new(), |nearest| format!("; nearest: {nearest}"));
    Mistake::new(setting, format!("{shown} is not a column of {table}{nearest}"))
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.what)
    }
}

/// All settings that do not fit the table, and the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// Schema and table, as they were called when the rows were written.
    pub table: String,
    /// Its columns with their types.
    pub columns: String,
    /// What does not fit.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings do not fit the table {}: ", self.table)?;
        for (index, mistake) in self.mistakes.iter().enumerate() {
            write!(f, "{}{mistake}", if index == 0 { "" } else { "; " })?;
        }
        if self.columns.is_empty() { Ok(()) } else { write!(f, "; the table has: {}", self.columns) }
    }
}

/// The table or a row of it is not what the settings say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// Settings do not fit the table.
    #[error("{0}")]
    Mistakes(Box<Mistakes>),
    /// A type that neither the catalogue nor the stream explains.
    #[error(
        "column `{column}` of table {table} (the setting {setting}) had the type {found} when its rows were written, which \
            the catalogue does not have"
    )]
    UnknownType {
        /// Schema and table.
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
    /// Rows of a table that was followed, and that the settings do not name any more.
    #[error(
        "the stream holds rows of {table} (oid {oid}), which walpost has followed by this slot, and the settings do not name it \
            any more"
    )]
    Forgotten {
        /// Schema and table.
        table: String,
        /// Its object id.
        oid: Oid,
    },
    /// A table that a pattern stands for, and that was not there when it was looked for.
    #[error("the table {table} (oid {oid}) has appeared in the stream")]
    Appeared {
        /// Schema and table.
        table: String,
        /// Its object id.
        oid: Oid,
    },
    /// A logical message that is no part of a transaction.
    #[error(
        "it is not transactional, so it is in the stream whether or not its transaction has committed: call \
            pg_logical_emit_message(true, …)"
    )]
    NotTransactional,
    /// A value is not what its setting needs.
    #[error("{setting}: {expression}: {reason}")]
    Value {
        /// The setting.
        setting: String,
        /// The expression that reads it.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What to do about a row that is not an event: it stays in the stream as it was written, whatever becomes of its table.
pub const REMEDY_FOR_A_ROW: &str = "nothing was skipped, and nothing behind it is confirmed; a row in the stream stays as it was \
    written, so let such rows go to a topic of their own: start walpost with --poison=dead-letter and \
    --dead-letter-topic=NAME, and the rows behind it go on";

impl OutboxError {
    /// A single setting that does not fit.
    #[must_use]
    pub fn mistake(relation: &Relation, mistake: Mistake) -> Self {
        let columns: Vec<_> = relation.columns.iter().map(|column| column.name.as_str()).collect();
        Self::Mistakes(Box::new(Mistakes {
            table: relation.full_name(),
            columns: columns.join(", "),
            mistakes: vec![mistake],
        }))
    }

    /// What the operator can do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Mistakes(_) => {
                "correct the settings, or the table; if a column was renamed, give both names \
                (`--renamed-column=OLD=NEW`); for rows of the stream from before a column was there, or had \
                this type, `walpost recover --anew` publishes them from the table"
                    .into()
            }
            Self::UnknownType { .. } => {
                "the rows of the table can be published all the same: `walpost recover --anew` \
                leaves the stream, makes a new slot and publishes what the table holds and Kafka may lack"
                    .into()
            }
            Self::Replaced { was, .. } => format!(
                "if those rows are events, start walpost with --table-was={was} (among several outboxes, `table_was` of this \
                 one): they are published in their turn; if \
                 they are not, `walpost recover --anew` leaves the stream, makes a new slot and publishes what the \
                 table holds and Kafka may lack"
            ),
            Self::Forgotten { oid, .. } => format!(
                "name it again; or, where its rows are to be passed over, run `delete from walpost.outbox where table_oid = \
                 {oid}`; then start walpost again"
            ),
            Self::Appeared { .. } => "start walpost again, which looks for it".into(),
            Self::Value { .. } | Self::NotTransactional => REMEDY_FOR_A_ROW.into(),
        }
    }
}
