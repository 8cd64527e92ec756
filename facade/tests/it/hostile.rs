use anyhow::{Result, ensure};

use crate::case::{Case, Facade, event, write};

/// Just below what a topic takes by default.
const LARGE_BYTES: usize = 990_000;

#[tokio::test]
async fn a_large_record_is_printed_whole_and_large_garbage_is_logged_in_part() -> Result<()> {
    let case = Case::new().await?;
    let mut facade = case.start()?;
    let text = "x".repeat(LARGE_BYTES);
    write(&case.commands, &[format!(r#"{{"MessageText":"{text}"}}"#).as_bytes(), b"\"printed\""]).await?;
    facade.prints("\"printed\"").await?;
    ensure!(facade.printed() == format!("{{\n    \"MessageText\": \"{text}\"\n}}\n\"printed\"\n"));

    write(&case.events, &[&vec![0xff; LARGE_BYTES], &event(4711, b"")]).await?;
    facade.prints("\"ID\": 4711").await?;
    let log = facade.process.log();
    let complaint = log.lines().find(|line| line.contains("cannot be read")).unwrap_or_default();
    ensure!(
        complaint.contains(&format!("\"bytes\":{LARGE_BYTES}")) && complaint.contains("\"hex_is_cut\":true")
    );
    ensure!(complaint.len() < 10_000 && complaint.contains(&"ff".repeat(4096)), "{}", complaint.len());
    facade.stop().await
}

#[tokio::test]
async fn memory_stays_bounded_however_much_waits() -> Result<()> {
    const BATCHES: usize = 8;
    let case = Case::new().await?;
    // 63 MB in all: by its defaults librdkafka would fetch all of it ahead.
    let value = format!("\"{}\"", "x".repeat(LARGE_BYTES));
    for _ in 0..BATCHES {
        write(&case.other, &[value.as_bytes(); 8]).await?;
    }
    let mut facade = Facade::start(case.program(), "/dev/null".as_ref())?;
    case.committed(&case.other, 8 * i64::try_from(BATCHES)?).await?;
    let most = facade.process.memory("VmHWM")?;
    ensure!(most < 56 << 20, "{} MiB", most >> 20);
    facade.stop().await
}
