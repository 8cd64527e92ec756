//! walpost as a process.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::clock::OffClock;
use crate::database::Database;
use crate::process::Process;
use crate::program::{Finished, Program};
use crate::topic::Topic;
use crate::wait::wait_for;
use crate::{http, port};

/// From the start of the process to the first streamed byte: two connections and a producer, in a debug build, beside
/// other tests.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// How a relay is to run: the settings of every life it will have.
#[derive(Debug, Clone)]
pub struct Relay {
    program: Program,
    http_addr: SocketAddr,
}

impl Relay {
    /// The walpost at `binary`, from the package API's `database` to `topic`, with a slot and a port of its own.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn new(binary: impl Into<PathBuf>, database: &Database, topic: &Topic) -> Result<Self> {
        let relay = Self::between(binary, database, &topic.brokers)?.env("WALPOST_PRESET", "package-event");
        Ok(relay.env("WALPOST_TOPIC", &topic.name))
    }

    /// The walpost at `binary` with the settings file at `settings`, which alone says what of `database` becomes which
    /// records. It runs in the folder of the file, so that names of files in it are found.
    ///
    /// # Errors
    /// When there is no free port, or the path has no folder.
    pub fn of_settings(
        binary: impl Into<PathBuf>,
        database: &Database,
        brokers: &str,
        settings: &Path,
    ) -> Result<Self> {
        let folder = settings.parent().context("a settings file is in a folder")?.to_owned();
        let relay = Self::between(binary, database, brokers)?.env("WALPOST_CONFIG", settings);
        Ok(relay.with_program(|program| program.in_folder(folder)))
    }

    /// What depends on the servers and on other tests, and on nothing that a user would decide.
    fn between(binary: impl Into<PathBuf>, database: &Database, brokers: &str) -> Result<Self> {
        let http_addr = port::free()?;
        let program = Program::new(binary)
            .env("WALPOST_DATABASE_URL", &database.relay_url)
            .env("WALPOST_SLOT", database.slot_name())
            .env("WALPOST_KAFKA_BROKERS", brokers)
            .env("WALPOST_HTTP_ADDR", http_addr.to_string());
        Ok(Self { program: program.log_on_drop(true), http_addr })
    }

    /// Where it serves its pages.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.program = self.program.env(name, value);
        self
    }

    /// Unsets an environment variable.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.program = self.program.without_env(name);
        self
    }

    /// A second relay with the same settings at a port of its own.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn beside(&self) -> Result<Self> {
        Ok(self.clone().at(port::free()?))
    }

    /// Serves `/live`, `/ready` and `/metrics` at `http_addr`.
    #[must_use]
    pub fn at(mut self, http_addr: SocketAddr) -> Self {
        self.http_addr = http_addr;
        self.env("WALPOST_HTTP_ADDR", http_addr.to_string())
    }

    /// Its clock is so many hours ahead, or behind.
    #[must_use]
    pub fn with_clock_off_by(self, hours: i32, clock: &OffClock) -> Self {
        self.with_program(|program| program.with_clock_off_by(hours, clock))
    }

    /// Changes how the program is started.
    #[must_use]
    pub fn with_program(mut self, change: impl FnOnce(Program) -> Program) -> Self {
        self.program = change(self.program);
        self
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it does not end in time. A failure exit status is not an error here.
    pub async fn command(&self, arguments: &[&str]) -> Result<Finished> {
        self.program.output(arguments).await
    }

    /// Starts a command that is not awaited.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        self.program.spawn(arguments)
    }

    /// Makes publication, schema and slot.
    ///
    /// # Errors
    /// When that fails.
    pub async fn init(&self) -> Result<()> {
        self.command(&["init"]).await?.success().map(drop)
    }

    /// Starts `walpost run`; it may not be ready yet.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&self) -> Result<RelayProcess> {
        self.run_with(&[])
    }

    /// Starts `walpost run` with further arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run_with(&self, arguments: &[&str]) -> Result<RelayProcess> {
        let process = self.program.spawn(&[&["run"], arguments].concat())?;
        Ok(RelayProcess { process, http_addr: self.http_addr })
    }

    /// Starts `walpost recover`, which goes on as `walpost run` does.
    ///
    /// # Errors
    /// When it does not start.
    pub fn recover(&self) -> Result<RelayProcess> {
        self.recover_with(&[])
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub fn recover_with(&self, arguments: &[&str]) -> Result<RelayProcess> {
        let process = self.program.spawn(&[&["recover"], arguments].concat())?;
        Ok(RelayProcess { process, http_addr: self.http_addr })
    }

    /// Starts `walpost run` and waits until it streams.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn run_ready(&self) -> Result<RelayProcess> {
        let mut process = self.run()?;
        process.ready().await?;
        Ok(process)
    }

    /// Makes what it needs, runs it and waits until it streams: the start of most tests.
    ///
    /// # Errors
    /// When either fails.
    pub async fn init_and_run(&self) -> Result<RelayProcess> {
        self.init().await?;
        let mut process = self.run_ready().await?;
        // It is ready before: while it waits for earlier transactions, those of other tests among them, and copies the
        // table.
        process.status("the relay streams", |response| response.body.contains("\"streaming\"")).await?;
        Ok(process)
    }
}

/// A relay that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct RelayProcess {
    process: Process,
    http_addr: SocketAddr,
}

impl RelayProcess {
    /// Where it serves `/live`, `/ready` and `/metrics`.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Waits until it is ready: it streams.
    ///
    /// # Errors
    /// When it does not become so, or ends: with the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        self.status("the relay is ready", |response| response.status == 200).await.map(drop)
    }

    /// Waits until it has halted, and gives what `/ready` says of it.
    ///
    /// # Errors
    /// When it does not halt, or ends: with the end of its log.
    pub async fn halted(&mut self) -> Result<Value> {
        let halted = |response: &http::Response| {
            response.status == 503 && state(response).is_some_and(|state| state == "halted")
        };
        let response = self.status("the relay has halted", halted).await?;
        serde_json::from_str(&response.body).context("/ready of a halted relay")
    }

    /// Waits until `/ready` answers as `enough` wants it.
    ///
    /// # Errors
    /// When it does not: with its last answer and the end of its log.
    pub async fn status(
        &mut self,
        what: &str,
        enough: impl Fn(&http::Response) -> bool,
    ) -> Result<http::Response> {
        let mut last = String::from("none");
        let waited = wait_for(what, READY_DEADLINE, async || {
            self.process.expect_running()?;
            let Ok(response) = http::get(self.http_addr, "/ready").await else { return Ok(None) };
            last = format!("{} {}", response.status, response.body);
            Ok(enough(&response).then_some(response))
        })
        .await;
        waited.map_err(|error| {
            let tail = self.process.log_tail();
            error.context(format!("the last answer of /ready was: {last}\n{tail}"))
        })
    }

    /// Its answer to GET `path` now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<http::Response> {
        http::get(self.http_addr, path).await
    }

    /// A metric, added up over its label sets.
    ///
    /// # Errors
    /// When there is no such metric.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = self.get("/metrics").await?;
        ensure!(page.status == 200, "/metrics answers {}", page.status);
        http::metric(&page.body, name).with_context(|| format!("/metrics has no {name}"))
    }
}

/// One `[[source]]` of a settings file.
#[must_use]
pub fn source_entry(name: &str, database_url: &str, slot: &str, topic: &Topic) -> String {
    let topic = &topic.name;
    format!(
        "[[source]]\nname = \"{name}\"\ndatabase_url = \"{database_url}\"\nslot = \"{slot}\"\ntopic = \"{topic}\"\n"
    )
}

/// The `state` in what `/ready` answers.
fn state(response: &http::Response) -> Option<String> {
    let body: Value = serde_json::from_str(&response.body).ok()?;
    Some(body.get("state")?.as_str()?.to_owned())
}

impl Deref for RelayProcess {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for RelayProcess {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
