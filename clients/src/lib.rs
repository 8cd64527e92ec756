//! Connections of clients that may stop anywhere: how many there are, and how long each is waited for.

mod pages;
mod patience;
mod places;

pub use pages::serve_pages;
pub use patience::Patient;
pub use places::{Place, Places, WhenFull};
