//! Where a connection string is written. It is read again for each connection: passwords are rotated, and tokens run out,
//! be they in the string or in a file of passwords.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use crate::Conninfo;

/// A connection string, or a file that holds one, and the variables for what it leaves out.
pub struct Source {
    text: Text,
    env: Vec<(String, String)>,
    /// What it said last.
    last: Mutex<Conninfo>,
}

enum Text {
    Given(SecretString),
    File(PathBuf),
}

impl fmt::Debug for Source {
    /// Passwords are in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Source {
    /// A string that stays as it is, read as `conninfo` just now; what it leaves out may still come from files.
    #[must_use]
    pub fn given(text: SecretString, env: &[(String, String)], conninfo: Conninfo) -> Self {
        Self::new(Text::Given(text), env, conninfo)
    }

    /// A file, read as `conninfo` just now.
    #[must_use]
    pub fn file(path: PathBuf, env: &[(String, String)], conninfo: Conninfo) -> Self {
        Self::new(Text::File(path), env, conninfo)
    }

    fn new(text: Text, env: &[(String, String)], conninfo: Conninfo) -> Self {
        let env = env.iter().filter(|(name, _)| name.starts_with("PG") || name == "HOME").cloned().collect();
        Self { text, env, last: Mutex::new(conninfo) }
    }

    /// What it says now or, where it cannot be read or makes no sense, what it said last.
    pub fn current(&self) -> Conninfo {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read() {
            Ok(conninfo) => *last = conninfo,
            Err(error) => {
                tracing::warn!(error, "what says where Postgres is cannot be read: what it said last counts")
            }
        }
        last.clone()
    }

    fn read(&self) -> Result<Conninfo, String> {
        let conninfo = match &self.text {
            Text::Given(text) => Conninfo::parse(text.expose_secret(), &self.env),
            Text::File(path) => {
                let text = settings::read_secret(path).map_err(|error| error.to_string())?;
                // A file that is being written: with no words at all the defaults would lead anywhere.
                if text.trim().is_empty() {
                    return Err("it is empty".into());
                }
                Conninfo::parse(&text, &self.env)
            }
        }?;
        conninfo.for_writes()
    }
}
