//! A file that holds a secret, as Kubernetes, Vault or a token refresher writes it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// It is removed when this is dropped.
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// The file of this name, among those of the machine's other tests.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(name: &str, secret: &str) -> Result<Self> {
        let file = Self(std::env::temp_dir().join(format!("walpost-{name}.secret")));
        file.write(secret)?;
        Ok(file)
    }

    /// Replaces the secret.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, secret: &str) -> Result<()> {
        std::fs::write(&self.0, format!("{secret}\n")).with_context(|| format!("{}", self.0.display()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
