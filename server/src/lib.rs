//! The logistic package API: gRPC over packages, each change with its event in one transaction.
//!
//! A call passes through [`grpc`], which turns a request into what [`domain`] can judge, and [`store`], which makes
//! the change; `outbox` is the part of that statement that writes the event. What is not there yet has its place: REST
//! transcoding beside `grpc`, spans and a log level per request in [`telemetry`], limits on calls where [`serve`]
//! builds the gRPC server.

// In the order in which a process passes through them: what it is set to do, how it starts and stops, ...
pub mod config; // every setting in one table, read and judged at once
pub mod serve; // listening, serving, draining
pub mod shutdown; // the signals that ask to stop

// ... what a call passes through, ...
pub mod grpc; // the five rpcs, their status codes, health and reflection
pub mod domain; // what a package is and which requests are valid: pure
pub mod store; // packages in Postgres: one statement, one round trip, for each rpc
mod outbox; // the event that goes with every change

// ... and what is seen from outside.
pub mod metrics; // the counters
pub mod status; // /live, /ready, /version and /metrics
pub mod telemetry; // logs as events with fields
pub mod version; // what this build is
