//! Rows of the table against records of the topics: what is missing, altered, there twice, out of order, or in no row.
//!
//! Both sides give *entries* of a fixed size ([`entry`]), whose identity is the same for a row and for its record
//! ([`identity`]). Somebody else sorts them (there may be more than memory holds); here what stands together is compared
//! ([`compare`]), and the first appearances of each key are held against the order of the WAL ([`order`]). All of it looks at
//! one entry after the other, so memory does not depend on how many there are.

pub mod compare;
pub mod entry;
pub mod identity;
pub mod order;

pub use compare::{Comparison, Finding, Part};
pub use entry::{Entry, RecordAt, RowAt, Side};
pub use identity::{Fingerprints, Seen, View};
pub use order::{Appearance, Inversion, Order};

#[cfg(test)]
mod tests;
