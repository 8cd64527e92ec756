//! Between the stream and the sink: where an event stands in the WAL, and which commit is wholly acknowledged.

pub mod copied;
pub mod progress;
pub mod transaction;
