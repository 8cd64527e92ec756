use anyhow::{Result, ensure};

use crate::case::{Case, Facade, SOON, numbers_in, write_numbered};

#[tokio::test]
async fn a_closed_pipe_ends_it_quietly_even_when_nothing_more_comes() -> Result<()> {
    let case = Case::new().await?;
    write_numbered(&case.commands, 0..1).await?;
    let program = case.program().env("PACKAGE_FACADE_HTTP_ADDR", "127.0.0.1:0");
    let ended = program.output(&["-c", "{ \"$FACADE\" run; echo code $? >&2; } | head -3"]).await?;
    ensure!(ended.stdout == "{\n    \"n\": 0\n}\n" && ended.stderr.ends_with("code 0\n"), "{ended:?}");
    ensure!(case.members().await? == 0 && case.committed_now(&case.commands).await? == 1, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_pipe_that_closes_in_the_middle_of_many_records_ends_it_quietly() -> Result<()> {
    let case = Case::new().await?;
    write_numbered(&case.commands, 0..3_000).await?;
    let program = case.program().env("PACKAGE_FACADE_HTTP_ADDR", "127.0.0.1:0");
    let ended = program.output(&["-c", "{ \"$FACADE\" run; echo code $? >&2; } | head -3"]).await?;
    ensure!(ended.stdout == "{\n    \"n\": 0\n}\n" && ended.stderr.ends_with("code 0\n"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn an_output_that_breaks_ends_it_with_an_error_and_loses_nothing() -> Result<()> {
    let case = Case::new().await?;
    write_numbered(&case.commands, 0..3).await?;
    let mut facade = Facade::start(case.program(), "/dev/full".as_ref())?;
    let ended = facade.process.exit(SOON).await?;
    let log = facade.process.log();
    ensure!(ended.code() == Some(1) && log.contains("No space left on device"), "{ended}: {log}");
    ensure!(case.committed_now(&case.commands).await? == 0 && case.members().await? == 0);
    let mut next = case.start()?;
    next.prints("\"n\": 2\n").await?;
    ensure!(numbers_in(&next.printed()) == [0, 1, 2]);
    next.stop().await
}
