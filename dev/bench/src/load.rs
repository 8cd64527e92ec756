//! Writes the changes, with pgbench, which is not what is measured.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::Database;
use harness::stack::{Output, script};
use tokio::process::{Child, Command};

/// A payload such that key and payload are about 300 bytes, as an event of the package API is with a long title.
/// `created_at` is taken just before the commit.
const INSERT: &str = "\\set package random(1, 10000)\n\
    insert into package_event (package_id, event_type, payload, created_at) values (:package, 'Updated', \
    jsonb_build_object('ID', :package::bigint, 'Title', repeat('x', 200), 'Material', 'cardboard', \
    'MaximumVolume', 700.5), clock_timestamp());\n";

/// pgbench with a script of its own.
pub(crate) struct Pgbench {
    command: Command,
    script: PathBuf,
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.script);
    }
}

impl Pgbench {
    /// Prepared statements, `clients` connections, two threads.
    pub(crate) async fn new(database: &Database, statements: &str, clients: u64) -> Result<Self> {
        let name = format!("{}-{}.sql", database.name(), uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, statements)?;
        let program = script(&["bin", "pgbench"], Output::Quiet).await?;
        let mut command = Command::new(program.trim());
        let threads = clients.min(2).to_string();
        command.args(["--no-vacuum", "--protocol=prepared", "--jobs", &threads]);
        command.args(["--client", &clients.to_string(), "--file"]).arg(&path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(Self { command, script: path })
    }

    /// The same script with events as the package API writes them.
    pub(crate) async fn inserts(database: &Database, clients: u64) -> Result<Self> {
        Self::new(database, INSERT, clients).await
    }

    pub(crate) fn arg(mut self, name: &str, value: &str) -> Self {
        self.command.arg(name).arg(value);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs to the end; returns what it printed.
    pub(crate) async fn run(mut self, database: &Database) -> Result<String> {
        let output = self.command.arg(&database.url).output().await?;
        ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts it; it ends when the child is dropped.
    pub(crate) fn start(&mut self, database: &Database) -> Result<Child> {
        Ok(self.command.arg(&database.url).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }
}

/// Transactions a second, of what pgbench printed.
pub(crate) fn rate(printed: &str) -> Result<f64> {
    let line = printed.lines().find(|line| line.starts_with("tps = ")).context("pgbench printed no rate")?;
    Ok(line.split_whitespace().nth(2).context("a rate")?.parse()?)
}

/// How many transactions there were, of what pgbench printed.
pub(crate) fn transactions(printed: &str) -> Result<u64> {
    let line =
        printed.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    let count = line.context("pgbench did not count")?.split('/').next().unwrap_or_default();
    Ok(count.trim().parse()?)
}

/// Writes one-row transactions; commits are not waited for. Returns the end of the log.
pub(crate) async fn rows(database: &Database, events: u64) -> Result<String> {
    const CLIENTS: u64 = 4;
    let each = (events / CLIENTS).to_string();
    let bench = Pgbench::inserts(database, CLIENTS).await?.arg("--transactions", &each);
    bench.env("PGOPTIONS", "-c synchronous_commit=off").run(database).await?;
    end(database, events).await
}

/// Writes transactions of 10,000 rows. Returns the end of the log.
pub(crate) async fn bulk(database: &Database, events: u64) -> Result<String> {
    const ROWS: i64 = 10_000;
    let client = database.client().await?;
    let sql = "insert into package_event (package_id, event_type, payload) \
               select 1 + n % 10000, 'Updated', jsonb_build_object('ID', n, 'Title', repeat('x', 200), \
               'Material', 'cardboard', 'MaximumVolume', 700.5) from generate_series(1, $1::bigint) n";
    let mut left = i64::try_from(events)?;
    while left > 0 {
        client.execute(sql, &[&ROWS.min(left)]).await.context("a transaction of many rows")?;
        left -= ROWS;
    }
    end(database, events).await
}

async fn end(database: &Database, events: u64) -> Result<String> {
    let client = database.client().await?;
    let found: i64 = client.query_one("select count(*) from package_event", &[]).await?.get(0);
    ensure!(found == i64::try_from(events)?, "{found} events were written");
    flush(database, "package_event").await
}

/// Flushes the WAL up to now, and returns its end. Vacuums the table.
pub(crate) async fn flush(database: &Database, table: &str) -> Result<String> {
    let client = database.client().await?;
    // What is not flushed yet is not sent; an own commit, waited for, flushes it.
    client.batch_execute("create table flushed ()").await?;
    let row = client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await?;
    // Neither a checkpoint nor autovacuum is to begin in the midst of a measurement.
    client.batch_execute(&format!("vacuum (analyze) {table}")).await?;
    client.batch_execute("checkpoint").await?;
    Ok(row.get(0))
}

/// For how long a measurement lasts, in words for pgbench.
pub(crate) fn seconds(time: Duration) -> String {
    time.as_secs().to_string()
}
