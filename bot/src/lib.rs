//! The Telegram bot of the logistic package API: people show, make, change and remove packages by command.
//!
//! An update comes by [`source`], which confirms it only when it is handled. [`handler`] takes it through [`route`] (what is
//! wanted; pure), [`command`] (what came of it, by the ports [`packages`] and [`cache`]) and [`reply`] (what is said; pure)
//! to [`telegram::sender`]. Beside that, [`journal`] records it for Kafka.

// In the order in which the process passes through them, ...
pub mod config; // every setting in one table, read and judged at once
pub mod run; // from the start to the end
pub mod setup; // what Telegram is told of the bot
pub mod shutdown; // the signals that ask to stop

// ... then in the order of an update: in, ...
pub mod telegram; // the Bot API: calls, types, sending
pub mod source; // polling, order within chats, confirming
pub mod handler; // from an update to its reply

// ... what is wanted, ...
pub mod route; // text and buttons → command or mistake: pure
pub mod command; // command → outcome
pub mod pages; // which packages are on a page
pub mod packages; // the package API
pub mod cache; // descriptions in Redis

// ... what is said, ...
pub mod reply; // outcome → message: pure
pub mod texts; // every text that people see
pub mod rich; // text with parts in code font

// ... and what is seen of it.
pub mod journal; // records of updates and of the cache's uses
pub mod kafka; // writing them; reading package events
pub mod observe; // readiness and metrics
pub mod telemetry; // logs and spans

#[cfg(test)]
mod fakes;
