//! walpost: every event committed to an outbox table, published to Kafka, exactly as it was committed.
//!
//! It follows the write-ahead log (WAL) through a logical replication slot and confirms a position to Postgres only when
//! Kafka has acknowledged everything up to it. The program is the interface: nothing here is a library for others.
//!
//! # Layout
//!
//! What can be decided without a server is in the crate [`walpost_core`]: messages, events, the window, publishing. Here
//! is what talks to servers and to people:
//!
//! | room | what |
//! |---|---|
//! | [`cli`] | the subcommands, a file or folder each |
//! | [`relay`] | the loop that joins all others, what it watches, the first copy, the cleaner |
//! | [`config`] | every setting: what was typed becomes what it means |
//! | [`replication`] | bytes in from the slot; the one call that confirms a position |
//! | [`postgres`] | SQL: sessions, the catalogue, what must hold before streaming, what is remembered |
//! | [`registry`] | which schema values have, asked before anything is sent |
//! | [`kafka`] | the sink that ships, a consumer, facts about topics |
//! | [`observe`] | what people and machines see: state, health, metrics, pages |
//! | [`error`] | what ends a session, and what follows from it |
//! | [`retry`], [`telemetry`] | waits between tries; the log and spans |
//!
//! Who may import whom is data in `imports.rs`, a test.

pub mod cli;
pub mod config;
pub mod error;
pub mod kafka;
pub mod observe;
pub mod postgres;
pub mod registry;
pub mod relay;
pub mod replication;
pub mod retry;
pub mod telemetry;

#[cfg(test)]
mod failures;
#[cfg(test)]
mod imports;
