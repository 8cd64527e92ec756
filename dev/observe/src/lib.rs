//! Holds dashboards and alert rules against the running system, in a real Prometheus: a query that nothing answers and an
//! alert that nothing can fire look just like a system that is well.

/// What a dashboard asks.
pub mod dashboard;

/// A Prometheus of a test's own.
pub mod prometheus;

/// Which metrics a query names.
pub mod names;
