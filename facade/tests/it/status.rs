use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Result, ensure};

use crate::case::{Case, Facade, event, write, write_numbered};

#[tokio::test]
async fn what_was_printed_is_counted() -> Result<()> {
    let case = Case::new().await?;
    let mut facade = case.start()?;
    write(&case.events, &[b"\xff", &event(1, b"{}")]).await?;
    write_numbered(&case.commands, 0..3).await?;
    facade.prints("\"n\": 2\n").await?;
    facade.prints("\"ID\": 1,\n").await?;
    let records = |topic: &str, outcome| {
        format!("package_facade_records_total{{outcome=\"{outcome}\",topic=\"{topic}\"}}")
    };
    ensure!(facade.metric(&records(&case.commands.name, "printed")).await? == 3.0);
    ensure!(facade.metric(&records(&case.events.name, "printed")).await? == 1.0);
    ensure!(facade.metric(&records(&case.events.name, "unreadable")).await? == 1.0);
    ensure!(facade.metric(&records(&case.cache.name, "printed")).await? == 0.0);
    let bytes = facade.printed().len();
    ensure!((facade.metric("package_facade_printed_bytes_total").await? - bytes as f64).abs() < 0.5);
    ensure!(facade.metric("package_facade_last_record_timestamp_seconds").await? > 1.7e9);

    case.committed(&case.commands, 3).await?;
    facade.is_ready().await?;
    ensure!(facade.metric("package_facade_ready").await? == 1.0);
    ensure!(facade.metric("package_facade_lag_records").await? == 0.0);
    ensure!(facade.metric("package_facade_partitions").await? == 4.0);
    ensure!(facade.metric("package_facade_commits_total").await? >= 1.0);
    ensure!(facade.metric("package_facade_rebalances_total").await? >= 1.0);
    ensure!(facade.metric("process_resident_memory_bytes").await? > 0.0);
    facade.stop().await
}

#[tokio::test]
async fn one_that_is_behind_is_not_ready_until_it_has_caught_up() -> Result<()> {
    let case = Case::new().await?;
    write_numbered(&case.commands, 0..500).await?;
    let pipe = case.file("pipe");
    ensure!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    // A pipe that takes a tenth of the records. O_NONBLOCK: it is opened whether anybody writes or not.
    let reader = OpenOptions::new().read(true).custom_flags(0o4000).open(&pipe)?;
    let filler = vec![b'x'; 65_536 - 600];
    let writer = OpenOptions::new().write(true).open(&pipe)?;
    std::io::Write::write_all(&mut &writer, &filler)?;
    let program = case.program().env("PACKAGE_FACADE_READY_LAG_MAX", "50");
    let mut facade = Facade::start(program, &pipe)?;
    facade.answers(503, "standard output has taken nothing").await?;
    // Somebody reads on.
    let reading = std::thread::spawn(move || drain(&reader));
    facade.answers(200, "ready: 4 partitions, 0 records wait").await?;
    facade.stop().await?;
    drop(writer);
    let _ = reading.join();
    Ok(())
}

/// Reads until nobody writes.
fn drain(mut reader: &std::fs::File) {
    let mut buffer = [0; 4096];
    loop {
        match std::io::Read::read(&mut reader, &mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(_) => std::thread::yield_now(),
        }
    }
}
