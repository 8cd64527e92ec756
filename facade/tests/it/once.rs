use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::wait::holds_for;
use harness::wait_until;

use crate::case::{Case, Facade, numbers_in, write, write_numbered};

/// More than a pipe holds: its write stands still until somebody reads.
const MORE_THAN_A_PIPE: usize = 300_000;

/// Longer than two commits are apart.
const TWO_COMMITS: Duration = Duration::from_millis(2_500);

/// `O_NONBLOCK` of Linux: a pipe is opened for reading whether anybody writes to it or not.
const O_NONBLOCK: i32 = 0o4000;

#[tokio::test]
async fn a_record_is_committed_only_when_it_was_written() -> Result<()> {
    let case = Case::new().await?;
    let pipe = case.file("pipe");
    ensure!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    let _held_open = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&pipe)?;
    let mut facade = Facade::start(case.program(), &pipe)?;
    facade.is_ready().await?;
    let large = format!(r#"{{"n":1,"text":"{}"}}"#, "x".repeat(MORE_THAN_A_PIPE));
    write(&case.commands, &[b"{\"n\":0}", large.as_bytes(), b"{\"n\":2}"]).await?;

    // The pipe has all of the first and a part of the second.
    case.committed(&case.commands, 1).await?;
    let stands = async || Ok(case.committed_now(&case.commands).await? == 1);
    holds_for("what is not written is not committed", TWO_COMMITS, stands).await?;
    facade.answers(503, "standard output has taken nothing").await?;

    facade.process.kill()?;
    let mut next = case.start()?;
    next.prints("\"n\": 2").await?;
    ensure!(
        numbers_in(&next.printed().replace("\"n\": 1,", "\"n\": 1")) == [1, 2],
        "{}",
        numbers_in(&next.printed()).len()
    );
    next.stop().await
}

#[tokio::test]
async fn a_kill_repeats_what_was_not_committed_and_loses_nothing() -> Result<()> {
    const COUNT: usize = 3_000;
    let case = Case::new().await?;
    write_numbered(&case.commands, 0..COUNT).await?;
    let mut facade = case.start()?;
    // In the middle of them, or behind them all: before the next commit, in either case.
    wait_until("some are printed", crate::case::SOON, async || Ok(!numbers_in(&facade.printed()).is_empty()))
        .await?;
    facade.process.kill()?;
    let committed = usize::try_from(case.committed_now(&case.commands).await?)?;
    let before = numbers_in(&facade.printed());
    ensure!(before.len() >= committed, "{committed} are committed, {} printed", before.len());
    ensure!(before == (0..before.len()).collect::<Vec<_>>());

    let mut next = case.start()?;
    next.prints(&format!("\"n\": {}\n", COUNT - 1)).await?;
    ensure!(numbers_in(&next.printed()) == (committed..COUNT).collect::<Vec<_>>(), "from {committed} on");
    next.stop().await
}

#[tokio::test]
async fn what_was_committed_is_not_printed_again() -> Result<()> {
    let case = Case::new().await?;
    let mut facade = case.start()?;
    write_numbered(&case.cache, 0..10).await?;
    // One that cannot be read is done with when it is logged.
    write(&case.cache, &[b"garbage"]).await?;
    case.committed(&case.cache, 11).await?;
    facade.process.kill()?;
    write_numbered(&case.cache, 11..12).await?;
    let mut next = case.start()?;
    next.prints("\"n\": 11\n").await?;
    ensure!(numbers_in(&next.printed()) == [11] && !next.process.log().contains("cannot be read"));
    next.stop().await
}

#[tokio::test]
async fn a_new_group_begins_with_the_oldest_record() -> Result<()> {
    let case = Case::new().await?;
    write_numbered(&case.cache, 0..3).await?;
    let mut facade = case.start()?;
    facade.prints("\"n\": 2\n").await?;
    ensure!(numbers_in(&facade.printed()) == [0, 1, 2]);
    facade.stop().await
}
