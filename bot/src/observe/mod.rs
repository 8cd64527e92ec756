//! What is seen from outside: whether it is ready, and what it counts.

pub mod health;
pub mod http;
pub mod metrics;
