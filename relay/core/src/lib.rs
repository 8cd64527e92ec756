//! The pure part of walpost: what a stream of Postgres means, which records it makes, and which position may be confirmed.
//!
//! No runtime, no client, no clock that decides anything: what stands here is driven by property tests and the fuzzer, and
//! by [`walpost`](https://docs.rs/walpost) with real servers. Rooms, in the order in which an event passes through them:
//!
//! | room | what |
//! |---|---|
//! | [`pgoutput`] | the plugin's messages |
//! | [`event`] | a row becomes an event, and an event a record |
//! | [`window`] | an event's position, and which commit is wholly acknowledged |
//! | [`publish`] | window → records → sink → acknowledgements |
//!
//! Beside the path stands [`audit`]: rows of the table against records of the topics.
//!
//! Beneath them: [`lsn`], a position in the WAL; [`time`], how times are written; [`clock`], the time of day, to be shown.

pub mod audit;
pub mod clock;
pub mod event;
pub mod lsn;
pub mod pgoutput;
pub mod publish;
#[cfg(any(test, feature = "replay"))]
pub mod replay;
pub mod time;
pub mod window;

#[cfg(test)]
mod imports;
