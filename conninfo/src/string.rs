//! A connection string is in one of two forms.

use crate::keywords::Values;
use crate::{text, uri};

impl Values {
    /// Reads a string alone.
    ///
    /// # Errors
    /// When libpq would refuse it, or it asks for what is not to be had here.
    pub fn parse(text: &str) -> Result<Self, String> {
        match uri::after_scheme(text) {
            Some(rest) => uri::parse(rest),
            // libpq takes it for words and values, and says the first of them, with the password in it.
            None if text.split_once('=').map_or(text, |(first, _)| first).contains("://") => {
                Err("a URI begins with postgres:// or postgresql://, with no quote or blank in front".into())
            }
            None => text::parse(text),
        }
    }
}
