//! The public Python clients of Kafka and its schema registry: what reads the records as others do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::process::tail;
use crate::stack::{Output, exported, script};

/// Python with confluent-kafka and what its deserializers need.
#[derive(Debug)]
pub struct RegistryClients {
    python: String,
    path: PathBuf,
}

impl RegistryClients {
    /// `None` where they are not to be had and nobody insists (`REQUIRE_REGISTRY_CLIENTS`).
    ///
    /// # Errors
    /// When somebody insists.
    pub async fn fetched() -> Result<Option<Self>> {
        let printed = match script(&["registry-clients"], Output::Quiet).await {
            Ok(printed) => printed,
            Err(error) if std::env::var_os("REQUIRE_REGISTRY_CLIENTS").is_some() => return Err(error),
            Err(error) => {
                eprintln!(
                    "SKIPPED: the public clients are not to be had, nothing is known of what they read: {error:#}"
                );
                return Ok(None);
            }
        };
        let of =
            |name| exported(&printed, name).with_context(|| format!("no {name} in what stack.py printed"));
        Ok(Some(Self { python: of("PYTHON")?, path: of("PYTHONPATH")?.into() }))
    }

    /// Runs a program of theirs to its end; a line of JSON that it prints is an answer.
    ///
    /// # Errors
    /// When it fails: with the end of what it said.
    pub async fn run(&self, program: &Path, arguments: &[&str]) -> Result<Vec<Value>> {
        let mut command = Command::new(&self.python);
        command
            .arg(program)
            .args(arguments)
            .env("PYTHONPATH", &self.path)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let ended = command.kill_on_drop(true).output().await.context("python3")?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        ensure!(ended.status.success(), "{} failed ({}):\n{}", program.display(), ended.status, tail(&said));
        let lines = String::from_utf8(ended.stdout)?;
        lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}
