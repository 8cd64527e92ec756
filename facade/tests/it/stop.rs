use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Result, ensure};

use crate::case::{Case, Facade, SOON, numbers_in, write, write_numbered};

#[tokio::test]
async fn a_stop_commits_what_was_printed_and_leaves_the_group() -> Result<()> {
    for signal in ["TERM", "INT"] {
        let case = Case::new().await?;
        let mut facade = case.start()?;
        facade.is_ready().await?;
        write_numbered(&case.commands, 0..100).await?;
        facade.prints("\"n\": 99\n").await?;
        // At once: well before the next commit.
        facade.process.signal(signal).await?;
        let ended = facade.process.exit(SOON).await?;
        ensure!(ended.success(), "{ended}\n{}", facade.process.log_tail());
        ensure!(case.committed_now(&case.commands).await? == 100, "SIG{signal}");
        ensure!(
            case.members().await? == 0,
            "the group is left: the next start need not wait for the session to end"
        );

        write_numbered(&case.commands, 100..101).await?;
        let mut next = case.start()?;
        next.prints("\"n\": 100\n").await?;
        ensure!(numbers_in(&next.printed()) == [100], "{}", next.printed());
        next.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stop_under_load_prints_nothing_that_it_does_not_commit() -> Result<()> {
    const COUNT: usize = 3_000;
    let case = Case::new().await?;
    tokio::try_join!(
        write_numbered(&case.commands, 0..COUNT),
        write_numbered(&case.cache, COUNT..2 * COUNT)
    )?;
    let mut facade = case.start()?;
    // Of either topic, whichever is fetched first.
    facade.prints("\"n\": ").await?;
    facade.stop().await?;
    let committed = case.committed_now(&case.commands).await? + case.committed_now(&case.cache).await?;
    let printed = numbers_in(&facade.printed()).len();
    ensure!(usize::try_from(committed)? == printed, "{committed} are committed, {printed} printed");
    Ok(())
}

#[tokio::test]
async fn a_stop_that_standard_output_holds_up_ends_in_time_and_says_so() -> Result<()> {
    let case = Case::new().await?;
    let pipe = case.file("pipe");
    ensure!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    // O_NONBLOCK: it is opened whether anybody writes or not.
    let _held_open = OpenOptions::new().read(true).custom_flags(0o4000).open(&pipe)?;
    let program = case.program().env("PACKAGE_FACADE_DRAIN_TIMEOUT_MS", "500");
    let mut facade = Facade::start(program, &pipe)?;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(300_000));
    write(&case.commands, &[b"1", large.as_bytes()]).await?;
    case.committed(&case.commands, 1).await?;
    let ended = facade.process.terminate(SOON).await?;
    ensure!(ended.code() == Some(1), "{ended}");
    ensure!(facade.process.log().contains("drain-timeout-ms"), "{}", facade.process.log_tail());
    ensure!(case.committed_now(&case.commands).await? == 1);
    Ok(())
}

#[tokio::test]
async fn a_stop_before_kafka_was_ever_there_is_a_good_end() -> Result<()> {
    let case = Case::new().await?;
    let program = case.program().env("PACKAGE_FACADE_KAFKA_BROKERS", "127.0.0.1:1");
    let mut facade = case.start_with(program)?;
    facade.answers(503, "it waits for Kafka").await?;
    facade.stop().await
}
