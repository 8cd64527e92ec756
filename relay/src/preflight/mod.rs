//! What must hold on Postgres before anything is streamed, and while it is.
//!
//! Each of these is a way in which a relay loses events in silence, or loops on an error that says little; here it has
//! a name and a remedy.

mod finding;
mod generated;
mod publication;
mod slot;
mod table;

pub use finding::{PreflightError, Unsafe};
pub use publication::{PublicationId, check_kept, check_publication};
pub use slot::{SlotFacts, check_memory, check_slot, slot_facts};
pub use table::check_table;
