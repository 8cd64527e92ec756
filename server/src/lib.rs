//! The logistic package API: gRPC over packages, each change with its event in one transaction.
//!
//! A call comes by [`grpc`] or by [`rest`], passes through [`calls`], which bounds and watches it, to its rpc in
//! [`grpc`], which turns a request into what [`domain`] can judge, and to [`store`], which makes the change; [`outbox`] is
//! the part of that statement that writes the event.

// In the order in which a process passes through them: what it is set to do, how it starts and stops, ...
pub mod cli; // what can be typed
pub mod config; // every setting in one table, read and judged at once
pub mod serve; // listening, serving, draining
pub mod shutdown; // the signals that ask to stop

// ... what a call passes through, ...
pub mod rest; // JSON over HTTP from the descriptors, and their OpenAPI document
pub mod calls; // tokens, limits, deadlines, counts, spans: for both
pub mod grpc; // the five rpcs, their status codes, health and reflection
pub mod domain; // what a package is and which requests are valid: pure
pub mod store; // packages in Postgres: one statement for each rpc, shared by calls that meet
pub mod outbox; // the event that goes with every change

// ... and what is seen from outside.
pub mod metrics; // the counters
pub mod status; // /live, /ready, /version and /metrics
pub mod telemetry; // logs as events with fields, spans
pub mod version; // what this build is
