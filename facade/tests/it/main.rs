//! The facade as its users see it: the program, a real Kafka, and the faults that befall it. Each test is named for the
//! promise that it holds the facade to.

#![allow(clippy::unwrap_used)]

/// What most tests start from.
mod case;

/// What is printed for each kind of record: every row of `cases.json`.
mod cases;

/// Records are large, garbage, or out to drive a terminal.
mod hostile;

/// Nothing is committed that was not printed, and nothing that was printed is forgotten.
mod once;

/// It is told to stop.
mod stop;

/// Standard output breaks, or nobody reads it.
mod output;

/// Instances share a group.
mod group;

/// Kafka or a topic is not there yet, or goes away.
mod absent;

/// Passwords and rights.
mod secure;

/// What is seen from outside: readiness and numbers.
mod status;

/// Settings, exit codes, and the documents that name them.
mod settings;
