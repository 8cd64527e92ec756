//! A row of the outbox becomes a record: where each part stands in the row is said by a [`Mapping`], which is compiled
//! against each description of the table that Postgres gives into a [`Plan`].
//!
//! Columns are found by name, so one may be added, moved or widened at any time, and renamed where the settings have both names. A
//! column that is gone, a type that does not fit and a value that does not decode are errors: the relay halts on them
//! and never skips a row.
//!
//! | file | what |
//! |---|---|
//! | `template` | `{column\|filter}`, parsed |
//! | `mapping`, `guess`, `presets` | what the settings say, and what follows from names |
//! | `table`, `messages` | which rows they are |
//! | `plan`, `compile`, `complete` | columns by their number, types checked, and what was guessed |
//! | `entry`, `placed`, `position`, `bad_row` | what is in flight, where it stands in the WAL, and why it gives no record |
//! | `render`, `headers`, `cloudevent`, `reader` | a row's record, or single parts of it |
//! | `row`, `text`, `json`, `content`, `protobuf`, `avro` | what a template says of a row, by format |
//! | `framing`, `typed` | the id of a registry's schema before it |
//! | `value`, `write`, `types` | values out of Postgres' binary form, and as text and JSON |

pub mod avro;
mod bad_row;
mod buffers;
mod cloudevent;
mod compile;
mod complete;
mod content;
pub mod dead_letter;
mod entry;
mod error;
#[cfg(any(test, feature = "replay"))]
pub mod fixture;
pub mod framing;
mod guess;
mod headers;
mod json;
pub mod mapping;
mod messages;
pub mod pattern;
mod placed;
mod plan;
mod position;
pub mod presets;
pub mod protobuf;
pub mod protobuf_json;
pub mod reader;
pub mod record;
pub mod render;
mod row;
mod table;
pub mod template;
mod text;
mod topic;
mod typed;
mod types;
mod value;
mod write;

pub use bad_row::BadRow;
pub use entry::Entry;
pub use error::{Mistake, Mistakes, OutboxError, REMEDY_FOR_A_ROW};
pub use mapping::Mapping;
pub use messages::OutboxMessages;
pub use pattern::Pattern;
pub use placed::PlacedRow;
pub use plan::Plan;
pub use position::Position;
pub use table::OutboxTable;
pub use types::{TypeFact, Types};
pub use value::Kind;

#[cfg(test)]
mod tests;
