//! The logistic package API: gRPC over packages, each change with its event in one transaction.
//!
//! A call passes through the modules in this order: [`grpc`] turns a request into what [`domain`] can judge, [`store`]
//! makes the change, and [`outbox`](mod@outbox) is the part of that statement that writes the event. What is not there
//! yet has its place: REST transcoding beside `grpc`, spans and a log level per request in [`telemetry`], limits on
//! calls where [`serve`] builds the gRPC server.

/// What the program is set to do: every setting in one table, read and judged at once.
pub mod config;
/// What a package is and which requests about it are valid: pure, no I/O.
pub mod domain;
/// The five rpcs, their status codes, health and reflection.
pub mod grpc;
/// The counters, and their text for Prometheus.
pub mod metrics;
mod outbox;
/// Listening, serving, draining.
pub mod serve;
/// When to stop: the signals that ask for it.
pub mod shutdown;
/// `/live`, `/ready`, `/version` and `/metrics` over HTTP.
pub mod status;
/// Packages in Postgres: one statement, one round trip, for each rpc.
pub mod store;
/// Logs as events with fields.
pub mod telemetry;
/// What this build is.
pub mod version;
