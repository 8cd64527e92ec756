//! The facade: prints the records of the package events and of the Telegram bot's topics, for people to look at.
//!
//! A record is read by a consumer of a group, shown, written to standard output, and only then its offset is stored, to be
//! committed within a second. So a record that was committed was printed, and one that was printed just before a crash is
//! printed again: at least once. This is the whole of it:
//!
//! ```text
//! consumer: poll ──► show: text ──► output: write ──► consumer: store the offset ──► (librdkafka) commit
//! ```

// In the order in which a record passes through them: what is read, ...
pub mod config; // every setting in one table, read and judged at once
pub mod consumer; // the member of the group: the settings and the callbacks of librdkafka

// ... what is shown of it, ...
pub mod show; // a value becomes a text: pure
pub mod output; // standard output, and whether anybody reads it

// ... the loop that joins them, ...
pub mod printer; // poll, show, write, store

// ... how it starts and stops, and what is seen from outside.
pub mod board; // what the printer does, for all who look: ready or not, and why
pub mod metrics; // the numbers
pub mod shutdown; // the signals that ask to stop
pub mod status; // /live, /ready and /metrics
pub mod telemetry; // the log: events with fields
