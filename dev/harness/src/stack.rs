//! Where Postgres and Kafka are, started when nothing says so.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::process::tail;

/// The first start fetches both servers (some 200 MB) on a line that may be slow.
const FIRST_START_DEADLINE: Duration = Duration::from_secs(600);

/// The servers that tests share: those of `DATABASE_URL` and `KAFKA_BROKERS`, and what is missing from `dev/stack`.
#[derive(Debug, Clone)]
pub struct Stack {
    /// A URL of Postgres, by a role that may create databases and replication slots.
    pub database_url: String,
    /// Kafka's bootstrap servers.
    pub brokers: String,
}

impl Stack {
    /// The servers, started once per process and left running: the next test run finds them up.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Stack> = OnceCell::const_new();
        SHARED.get_or_try_init(async || Self::up(Output::Quiet).await).await
    }

    /// Brings the servers up, where the environment does not name them.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn up(output: Output) -> Result<Self> {
        if let Some(named) = Self::named(&|name| std::env::var(name).ok()) {
            return Ok(named);
        }
        // The script leaves out by itself what the environment names.
        script(&["up"], output).await?;
        let printed = script(&["env"], Output::Quiet).await?;
        Self::named(&|name| exported(&printed, name))
            .with_context(|| format!("`{} env` does not say where the servers are", script_path().display()))
    }

    fn named(variable: &impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        Some(Self { database_url: set("DATABASE_URL")?, brokers: set("KAFKA_BROKERS")? })
    }
}

/// What becomes of what the script says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Kept, and shown when it fails.
    Quiet,
    /// Its progress goes to the terminal as it comes.
    Shown,
}

/// Runs `dev/stack/stack.py` with `arguments`, and gives what it printed.
///
/// # Errors
/// When it fails: with the end of what it said.
pub async fn script(arguments: &[&str], output: Output) -> Result<String> {
    script_with(&[], arguments, output).await
}

/// The same, with further environment variables.
///
/// # Errors
/// When it fails: with the end of what it said.
pub async fn script_with(environment: &[(&str, &str)], arguments: &[&str], output: Output) -> Result<String> {
    let mut command = Command::new("python3");
    command.arg(script_path()).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.envs(environment.iter().copied());
    if output == Output::Shown {
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    } else {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let name = format!("dev/stack/stack.py {}", arguments.join(" "));
    let child = command.spawn().context("python3 does not start: dev/stack needs Python 3.9 or newer")?;
    let ended = tokio::time::timeout(FIRST_START_DEADLINE, child.wait_with_output()).await;
    let ended = ended.with_context(|| format!("{name} did not end in {FIRST_START_DEADLINE:?}"))??;
    let said = match output {
        Output::Quiet => format!(":\n{}", tail(&String::from_utf8_lossy(&ended.stderr))),
        Output::Shown => ": see above".to_owned(),
    };
    ensure!(ended.status.success(), "{name} failed ({}){said}", ended.status);
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// The script that gives a machine without containers its servers.
#[must_use]
pub fn script_path() -> PathBuf {
    repository().join("dev/stack/stack.py")
}

/// The root of the repository this was built from.
#[must_use]
pub fn repository() -> PathBuf {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.ancestors().nth(2).unwrap_or(harness).to_owned()
}

/// The value of `name` among lines of the form `export name=value`, as a shell would read it.
pub(crate) fn exported(lines: &str, name: &str) -> Option<String> {
    let value = lines
        .lines()
        .find_map(|line| line.trim().trim_start_matches("export ").strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_source_is_read() {
        let lines = "# servers\nexport DATABASE_URL='postgres://a@b/c?x=y'\nexport KAFKA_BROKERS=h:1,h:2\n";
        let stack = Stack::named(&|name| exported(lines, name)).expect("both");
        assert_eq!(stack.database_url, "postgres://a@b/c?x=y");
        assert_eq!(stack.brokers, "h:1,h:2");
        assert!(exported(lines, "KAFKA").is_none());
    }
}
