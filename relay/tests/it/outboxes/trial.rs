use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness::registry::Version;
use harness::{Claim, Database, Relay, RelayProcess, SchemaRegistry, Stack, Topic, wait_for, wait_until};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use super::compare::difference;
use super::descriptor;
use super::example::{BadRow, Example, Record, Registry, Subject};
use crate::case::SOON;
use crate::halt::halts;

/// When the application writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// After `walpost init`: all that it writes is in the stream.
    Streamed,
    /// Before `walpost init`: only what is in the table is there.
    FromBeforeTheSlot,
}

/// Tries `example`, and prints what that took.
pub(super) async fn try_out(example: &Example, mode: Mode) -> Result<()> {
    let trial = Trial::prepare(example).await?;
    let started = Instant::now();
    trial.run(mode).await?;
    eprintln!("{}, {mode:?}: {} ms", example.name, started.elapsed().as_millis());
    Ok(())
}

/// An example, and the servers and topics that it is tried with.
struct Trial<'a> {
    example: &'a Example,
    relay: Relay,
    database: Database,
    /// For dead letters, where there are to be any.
    letters: Option<Topic>,
    topics: Claim,
    _registry: Option<SchemaRegistry>,
    _settings: Settings,
}

/// A settings file where it can be used, with the files that it names beside it.
struct Settings {
    path: PathBuf,
    /// A folder of this test's own, which goes with it.
    scratch: Option<PathBuf>,
}

impl<'a> Trial<'a> {
    async fn prepare(example: &'a Example) -> Result<Self> {
        let (stack, expected) = (Stack::shared().await?, &example.expected);
        let names: Vec<&str> = expected.topics.iter().map(String::as_str).collect();
        let topics = Claim::new(stack, &names).await?;
        let database = Database::fresh(&stack.database_url).await?;
        database.execute(&example.table).await?;
        let settings = Settings::of(example)?;
        let mut relay =
            Relay::of_settings(env!("CARGO_BIN_EXE_walpost"), &database, &stack.brokers, &settings.path)?
                // Tests wait for what a production system leaves to a timer.
                .env("WALPOST_CONFIRM_INTERVAL_MS", "100")
                .env("WALPOST_WATCH_INTERVAL_MS", "200")
                .env("WALPOST_RETRY_MAX_MS", "500");
        let registry = match &expected.registry {
            Some(known) => Some(registry_with(known).await?),
            None => None,
        };
        if let Some(registry) = &registry {
            relay = relay.env("WALPOST_REGISTRY_URL", registry.url());
        }
        let mut letters = None;
        if !expected.dead_letters.is_empty() {
            let topic = Topic::fresh(&stack.brokers, 1).await?;
            relay = relay.env("WALPOST_POISON", "dead-letter").env("WALPOST_DEAD_LETTER_TOPIC", &topic.name);
            letters = Some(topic);
        }
        Ok(Self { example, relay, database, letters, topics, _registry: registry, _settings: settings })
    }

    async fn run(&self, mode: Mode) -> Result<()> {
        if mode == Mode::FromBeforeTheSlot {
            self.write().await?;
        }
        if !self.example.expected.mistakes.is_empty() {
            return self.is_refused().await;
        }
        self.relay.init().await?;
        if mode == Mode::Streamed {
            self.write().await?;
        }
        let client = self.database.client().await?;
        let written: PgLsn = client.query_one("select pg_current_wal_lsn()", &[]).await?.get(0);
        let mut process = self.relay.run()?;
        let expected: Vec<&Record> = match mode {
            Mode::Streamed => self.example.expected.records.iter().collect(),
            Mode::FromBeforeTheSlot => self.example.expected.left_in_the_table(),
        };
        let ended = match &self.example.expected.halts {
            Some(row) => self.has_halted(&mut process, row, expected.len()).await,
            None => self.has_published(&mut process, &client, written).await,
        };
        // What arrived says most about what went wrong, so it is told even where the wait for it was in vain.
        let mut received = self.topics.read_all().await?;
        let mut expected = expected;
        if mode == Mode::FromBeforeTheSlot {
            // A table does not say in which order its rows were committed, but for those of one key.
            expected.sort_by_key(|record| record.key.clone());
            received.iter_mut().for_each(|(_, records)| records.sort_by_key(|record| record.key.clone()));
        }
        match (difference(&expected, &received), ended) {
            (None, ended) => ended?,
            (Some(difference), Ok(())) => bail!("the records are not as expected\n{difference}"),
            (Some(difference), Err(error)) => return Err(error.context(difference)),
        }
        self.has_dead_letters().await
    }

    /// What the application does: each statement is a transaction, unless the statements say where one begins.
    async fn write(&self) -> Result<()> {
        let client = self.database.client().await?;
        for statement in &self.example.rows {
            client.batch_execute(statement).await.with_context(|| format!("executing: {statement}"))?;
        }
        Ok(())
    }

    /// Waits until everything up to `written` is in Kafka and Postgres was told so: nothing else can arrive.
    async fn has_published(&self, process: &mut RelayProcess, client: &Client, written: PgLsn) -> Result<()> {
        let slot = self.database.slot_name();
        let done = "select confirmed_flush_lsn >= $1 from pg_replication_slots where slot_name = $2";
        let mut last = String::from("nothing");
        let waited = wait_for("everything is published", 2 * SOON, async || {
            process.expect_running()?;
            let Ok(answer) = process.get("/ready").await else { return Ok(None) };
            last = answer.body;
            if last.contains("\"halted\"") {
                bail!("walpost has halted");
            }
            let confirmed = client.query_one(done, &[&written, &slot]).await?.get(0);
            Ok(Some(()).filter(|()| confirmed && last.contains("\"streaming\"")))
        });
        waited.await.map_err(|error| error.context(format!("/ready says: {last}")))
    }

    /// Waits for the halt at `row`, and for the `records` before it, which may still be on their way then.
    async fn has_halted(&self, process: &mut RelayProcess, row: &BadRow, records: usize) -> Result<()> {
        let names: Vec<&str> = row.names.iter().map(String::as_str).collect();
        let at = row.at_row.map_or(String::new(), |row| format!(" at row {row}"));
        halts(process, &names).await.with_context(|| format!("walpost is to halt{at}"))?;
        wait_until(&format!("{records} records have arrived"), SOON, async || {
            Ok(self.topics.count().await? >= records)
        })
        .await
    }

    /// `walpost init` names every mistake at once, and makes no slot.
    async fn is_refused(&self) -> Result<()> {
        let expected = &self.example.expected;
        let ended = self.relay.command(&["init"]).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        match expected.exit_code.as_ref().and_then(serde_json::Value::as_i64) {
            Some(code) => ensure!(i64::from(ended.code()) == code, "the code is {}:\n{said}", ended.code()),
            None => ensure!(ended.code() != 0, "it is not refused:\n{said}"),
        }
        for mistake in &expected.mistakes {
            for name in std::iter::once(&mistake.setting).chain(&mistake.names) {
                ensure!(said.contains(name.as_str()), "{}: {name} is not named:\n{said}", mistake.setting);
            }
        }
        let slots = "select count(*) from pg_replication_slots where slot_name = $1";
        let client = self.database.client().await?;
        let slots: i64 = client.query_one(slots, &[&self.database.slot_name()]).await?.get(0);
        ensure!(slots == 0, "it was refused, and a slot was made");
        Ok(())
    }

    async fn has_dead_letters(&self) -> Result<()> {
        let Some(topic) = &self.letters else { return Ok(()) };
        let expected = &self.example.expected.dead_letters;
        let letters = topic.read_all().await?;
        let reasons: Vec<&str> =
            letters.iter().map(|letter| letter.header("walpost-reason").unwrap_or("none")).collect();
        let wrong = || anyhow!("the dead letters are not as expected: {expected:#?}\n{reasons:#?}");
        ensure!(reasons.len() == expected.len(), wrong());
        for (row, reason) in expected.iter().zip(&reasons) {
            ensure!(row.names.iter().all(|name| reason.contains(name.as_str())), wrong());
        }
        Ok(())
    }
}

/// A registry that knows the schemas of an example and no others.
async fn registry_with(known: &Registry) -> Result<SchemaRegistry> {
    let registry = SchemaRegistry::start().await?;
    for Subject { subject, id, version, kind, schema } in known.subjects.clone() {
        registry.store().put(Version { subject, version, id, kind, schema });
    }
    Ok(registry)
}

impl Settings {
    /// Those of `example` in its own folder, or in one of this test's own where files must be built first.
    fn of(example: &Example) -> Result<Self> {
        let path = example.settings();
        if example.expected.files.is_empty() {
            return Ok(Self { path, scratch: None });
        }
        let scratch = std::env::temp_dir().join(format!("outbox-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir_all(&scratch)?;
        let made = Self { path: scratch.join("walpost.toml"), scratch: Some(scratch.clone()) };
        fs::copy(&path, &made.path)?;
        for (setting, source) in &example.expected.files {
            ensure!(setting == "descriptor", "nothing builds the file of `{setting}`");
            let descriptor = descriptor::of(&path.with_file_name(source))?;
            fs::write(scratch.join(Path::new(source).with_extension("binpb")), descriptor)?;
        }
        Ok(made)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if let Some(scratch) = &self.scratch {
            let _ = fs::remove_dir_all(scratch);
        }
    }
}
