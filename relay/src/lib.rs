//! walpost: every event committed to an outbox table, published to Kafka, exactly as it was committed.
//!
//! It follows the write-ahead log through a logical replication slot and confirms a position to Postgres only when
//! Kafka has acknowledged everything up to it. The modules stand in the order in which an event passes through them.

// The path of an event.
pub mod replication; // bytes in; the one call that confirms a position
pub mod pgoutput; //    the plugin's messages
pub mod outbox; //      a row becomes an event
pub mod transaction; // an event's place in the log
pub mod encode; //      an event becomes a record
pub mod dead_letter; // a row that cannot be published
pub mod sink; //        records out; a report for each
pub mod progress; //    which commit is wholly acknowledged
pub mod publish; //     window → records → sink → acknowledgements
pub mod backfill; //    rows that stood in the table before the slot
pub mod relay; //       the loop that joins them

// What stands beside it.
pub mod config; //      every setting
pub mod database; //    SQL connections
pub mod catalogue; //   columns and their types, as the catalogue has them
pub mod preflight; //   what must hold before anything is streamed
pub mod ledger; //      what is remembered beside the outbox
pub mod published; //   which rows are in Kafka
pub mod cleaner; //     removes them
pub mod guard; //       remembers, and watches the ground, while streaming
pub mod error; //       what ends a session, and what follows from it
pub mod retry; //       waits between tries
pub mod lsn; //         a position in the log
pub mod clock; //       the time of day, to be shown

// What people and machines see.
pub mod measure; //     what is counted of every event
pub mod state; //       what the relay is doing, in a word
pub mod health; //      whether it gets on
pub mod sample; //      what Postgres says of slot, log and outbox
pub mod vitals; //      all of these, for those who look
pub mod snapshot; //    the same at one moment, as JSON
pub mod metrics; //     the same for Prometheus
pub mod pages; //       what is served on :9101
pub mod telemetry; //   its log
pub mod init; //        publication, schema and slot
pub mod recover; //     after a lost slot
pub mod check; //       every precondition
pub mod status; //      the facts on one screen
pub mod tail; //        the topics, as they grow

#[cfg(test)]
mod failures; // what docs/failures.md says is proved
#[cfg(test)]
mod imports; // the rules of who may name what
#[cfg(test)]
mod replay; //  what the fuzzer does, over what it found
