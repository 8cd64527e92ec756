//! Writes the changes that are drained.

use std::fs;

use anyhow::{Result, ensure};
use harness::Database;
use harness::stack::{Output, script};
use tokio::process::Command;

const CLIENTS: u64 = 4;

/// A payload such that key and payload are about 300 bytes, as an event of the package API is with a long title.
const INSERT: &str = "\\set package random(1, 10000)\n\
    insert into package_event (package_id, event_type, payload) values (:package, 'Updated', \
    jsonb_build_object('ID', :package::bigint, 'Title', repeat('x', 200), 'Material', 'cardboard', 'MaximumVolume', 700.5));\n";

/// Writes one-row transactions with pgbench, which is not what is measured: commits are not waited for. Returns the
/// end of the log.
pub(crate) async fn write(database: &Database, events: u64) -> Result<String> {
    let file = std::env::temp_dir().join(format!("{}.sql", database.name()));
    fs::write(&file, INSERT)?;
    let pgbench = script(&["bin", "pgbench"], Output::Quiet).await?;
    let each = (events / CLIENTS).to_string();
    let clients = CLIENTS.to_string();
    let output = Command::new(pgbench.trim())
        .args([
            "--no-vacuum",
            "--protocol=prepared",
            "--jobs=2",
            "--client",
            &clients,
            "--transactions",
            &each,
        ])
        .arg("--file")
        .arg(&file)
        .arg(&database.url)
        .env("PGOPTIONS", "-c synchronous_commit=off")
        .output()
        .await?;
    fs::remove_file(&file)?;
    ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
    let client = database.client().await?;
    let row =
        client.query_one("select count(*), pg_current_wal_flush_lsn()::text from package_event", &[]).await?;
    ensure!(row.get::<_, i64>(0) == i64::try_from(events)?, "pgbench wrote {} events", row.get::<_, i64>(0));
    // What is not flushed yet is not sent; an own commit, waited for, flushes it.
    client.batch_execute("create table flushed ()").await?;
    let row = client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await?;
    Ok(row.get(0))
}
