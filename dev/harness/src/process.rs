//! A program that runs: its log, its signals, and no orphans.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::wait::wait_for;

/// Where a process says what it says, in a folder of its own.
pub(crate) const LOG_FILE: &str = "log";

/// How much of a log a failure shows.
const TAIL_LINES: usize = 40;

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    folder: PathBuf,
    log_path: PathBuf,
    log_on_drop: bool,
}

impl Process {
    /// Takes over a child that writes its log into [`LOG_FILE`] of `folder`.
    pub(crate) fn new(name: String, child: Child, folder: PathBuf, log_on_drop: bool) -> Self {
        Self { name, child, log_path: folder.join(LOG_FILE), folder, log_on_drop }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log_path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Where it says so.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// The last lines of its log, for a failure's message.
    #[must_use]
    pub fn log_tail(&self) -> String {
        format!("--- the log of {} ends with\n{}---", self.name, tail(&self.log()))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// # Errors
    /// When it has ended: with how, and the end of its log.
    pub fn expect_running(&mut self) -> Result<()> {
        if let Some(status) = self.try_wait()? {
            bail!("{} has ended ({status})\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub async fn exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        match wait_for(&what, within, async || self.try_wait()).await {
            Ok(status) => Ok(status),
            Err(error) => Err(error.context(self.log_tail())),
        }
    }

    /// SIGKILL: it ends in mid-sentence. Returns when it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for its end.
    ///
    /// # Errors
    /// When it does not end within `within`.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal("TERM").await?;
        self.exit(within).await
    }

    /// SIGSTOP: it stands still, as on a machine that swaps or a node that is frozen.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn pause(&self) -> Result<()> {
        self.signal("STOP").await
    }

    /// SIGCONT: it goes on.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn resume(&self) -> Result<()> {
        self.signal("CONT").await
    }

    /// Sends a signal through the `kill` program: the standard library knows only SIGKILL, and the call is unsafe.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let process = self.child.id().to_string();
        let sent =
            tokio::process::Command::new("kill").args([&format!("-{signal}"), &process]).output().await?;
        ensure!(
            sent.status.success(),
            "kill -{signal} {}: {}",
            self.name,
            tail(&String::from_utf8_lossy(&sent.stderr))
        );
        Ok(())
    }

    /// A line of `/proc/PID/status` that counts kilobytes, in bytes: `VmRSS` for the memory it holds, `VmHWM` for the
    /// most it ever held. Linux only.
    ///
    /// # Errors
    /// When there is no such line.
    pub fn memory(&self, line: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
        let kilobytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        Ok(kilobytes.with_context(|| format!("no {line} in /proc/{}/status", self.id()))? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
        if self.log_on_drop || std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The last lines of `text`, each ended.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("{line}\n")).collect()
}
