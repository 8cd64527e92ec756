//! Between the stream and the sink: what comes in, where an event stands in the WAL, and which commit is wholly
//! acknowledged.

pub mod copied;
pub mod intake;
pub mod outboxes;
pub mod progress;
pub mod transaction;
