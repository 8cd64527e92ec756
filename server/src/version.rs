//! What this build is.

use serde::Serialize;

use crate::config::Settings;

/// The answer of `/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Of the program.
    pub name: &'static str,
    /// Of the crate, in semantic versioning.
    pub version: &'static str,
    /// The commit it was built from, or `unknown`.
    pub commit_hash: &'static str,
    /// A mark from the settings.
    pub debug: bool,
    /// A name from the settings.
    pub environment: String,
}

impl Version {
    /// Of this build, with the marks from the settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            commit_hash: program::COMMIT_HASH,
            debug: settings.debug,
            environment: settings.environment.clone(),
        }
    }
}
