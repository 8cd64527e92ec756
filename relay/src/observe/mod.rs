//! What people and machines see of a relay.

pub mod board;
pub mod health;
mod history;
pub mod http;
pub mod metrics;
pub mod sampler;
pub mod snapshot;
pub mod state;
