//! How to start a program, and how one ended that ran to its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{LOG_FILE, Process, tail};

/// A command that has not ended by then hangs.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// A program of the workspace, which cargo puts beside this one, or a test's program one folder below.
///
/// # Errors
/// When it was not built.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where is this program?")?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "{name} is not there: build it with `cargo build -p walpost -p logistic-package-api -p package-bot -p package-facade`"
        )
    })
}

/// How to start a program: its arguments, and an environment that holds what is set here and nothing that would make a
/// test depend on the shell it was started from.
#[derive(Debug, Clone)]
pub struct Program {
    binary: PathBuf,
    environment: BTreeMap<String, OsString>,
    folder: Option<PathBuf>,
    own_group: bool,
    log_on_drop: bool,
}

impl Program {
    /// The program at `binary`.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let inherited = ["PATH", "HOME", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"];
        let environment =
            inherited.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?)));
        let environment = environment.collect();
        Self { binary: binary.into(), environment, folder: None, own_group: false, log_on_drop: false }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Unsets an environment variable.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Runs it in `folder`, in place of an empty one of its own.
    #[must_use]
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Keeps the terminal's Ctrl-C from the child: the parent decides in which order things stop. Not for tests: a
    /// test program that is interrupted stops nothing, and its children would outlive it.
    #[must_use]
    pub fn in_own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Whether the end of the log is printed when the process is dropped. The test runner shows it for tests that fail, and only for those.
    #[must_use]
    pub fn log_on_drop(mut self, log_on_drop: bool) -> Self {
        self.log_on_drop = log_on_drop;
        self
    }

    /// Starts it with `arguments`; standard output and error go to a log file.
    ///
    /// # Errors
    /// When it is not there or does not start.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Process> {
        let folder = scratch_folder()?;
        let log = File::options().create(true).append(true).open(folder.join(LOG_FILE))?;
        let mut command = self.command(arguments, &folder)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let name = name_of(&self.binary);
        let child = command.spawn().with_context(|| format!("{name} does not start"))?;
        Ok(Process::new(name, child, folder, self.log_on_drop))
    }

    /// Runs it with `arguments` to its end.
    ///
    /// # Errors
    /// When it does not start or does not end within a minute. A failure exit status is not an error here.
    pub async fn output(&self, arguments: &[&str]) -> Result<Finished> {
        let folder = scratch_folder()?;
        let mut command = tokio::process::Command::from(self.command(arguments, &folder)?);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let name = format!("{} {}", name_of(&self.binary), arguments.join(" "));
        let output = tokio::time::timeout(COMMAND_DEADLINE, command.output()).await;
        let output = output
            .with_context(|| format!("{name} did not end in {COMMAND_DEADLINE:?}"))?
            .with_context(|| format!("{name} does not start"))?;
        let _ = fs::remove_dir_all(&folder);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Finished {
            name,
            status: output.status,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// Where no folder was given it runs in one of its own, so that it finds no settings file of somebody else's.
    fn command(&self, arguments: &[&str], scratch: &Path) -> Result<Command> {
        ensure!(self.binary.exists(), "{} is not built: run `cargo build` first", self.binary.display());
        let mut command = Command::new(&self.binary);
        let folder = self.folder.as_deref().unwrap_or(scratch);
        command.args(arguments).env_clear().envs(&self.environment).current_dir(folder);
        if self.own_group {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        Ok(command)
    }
}

/// A program that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on standard output.
    pub stdout: String,
    /// What it said on standard error.
    pub stderr: String,
}

impl Finished {
    /// Its exit code, or -1 when a signal ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Itself, when it succeeded.
    ///
    /// # Errors
    /// When it did not, with what it said.
    pub fn success(self) -> Result<Self> {
        ensure!(
            self.status.success(),
            "{} failed ({}):\n{}{}",
            self.name,
            self.status,
            tail(&self.stdout),
            tail(&self.stderr)
        );
        Ok(self)
    }
}

fn name_of(binary: &Path) -> String {
    binary.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn scratch_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("harness-{}", uuid::Uuid::new_v4().simple()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
