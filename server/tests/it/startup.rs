//! The program as an operator starts it: one clear message for what is wrong, and exit codes.

use std::process::{Output, Stdio};

use anyhow::{Context, Result};
use harness::wait_until;
use rstest::rstest;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::{self, DEADLINE};

const LOOPBACK: [&str; 10] = [
    "--grpc-addr",
    "127.0.0.1:0",
    "--rest-addr",
    "127.0.0.1:0",
    "--status-addr",
    "127.0.0.1:0",
    "--metrics-addr",
    "127.0.0.1:0",
    "--shutdown-delay-ms",
    "0",
];

/// The program in an environment of nothing but the database.
fn program(arguments: &[&str], database_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logistic-package-api"));
    command.args(arguments).env_clear().env("PACKAGE_API_LOG_LEVEL", "error").kill_on_drop(true);
    if !database_url.is_empty() {
        command.env("PACKAGE_API_DATABASE_URL", database_url);
    }
    command
}

async fn run(arguments: &[&str], database_url: &str) -> Result<(i32, String)> {
    let output: Output = tokio::time::timeout(DEADLINE, program(arguments, database_url).output())
        .await
        .context("the program does not end")??;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().context("killed")?, String::from_utf8(text)?))
}

/// The URL with another password, user or database in it.
fn with_user_and_password(url: &str, user_and_password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let place = rest.split_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{user_and_password}@{place}")
}

#[rstest]
#[case::no_database(&["serve"], "", "database-url is not set: give PACKAGE_API_DATABASE_URL")]
#[case::no_url(&["serve"], "hunter2", "a word in the connection string has no `=`")]
#[case::bad_value(&["serve", "--log-level", "loud"], "postgres://db/x", "`loud`: expected off, error")]
#[case::unknown_flag(&["serve", "--frobnicate"], "postgres://db/x", "unexpected argument '--frobnicate'")]
#[case::no_command(&[], "postgres://db/x", "Usage: logistic-package-api")]
#[case::no_file(&["serve", "--config", "/none.toml"], "postgres://db/x", "cannot read the settings file `/none.toml`")]
#[tokio::test]
async fn wrong_settings_exit_with_2(
    #[case] arguments: &[&str],
    #[case] url: &str,
    #[case] message: &str,
) -> Result<()> {
    let (code, text) = run(arguments, url).await?;
    assert!(text.contains(message), "{message:?} is not in {text:?}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(code, 2);
    Ok(())
}

#[tokio::test]
async fn an_unreachable_server_is_named() -> Result<()> {
    let address = harness::port::free()?;
    let (code, text) = run(&["serve"], &format!("postgres://me:hunter2@{address}/packages")).await?;
    assert_eq!(code, 1);
    assert!(text.contains(&format!("database `packages` at {address} as `me`: cannot be reached")), "{text}");
    assert!(text.contains("is Postgres running there"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_role_that_is_not_let_in_is_named() -> Result<()> {
    let database = support::database().await?;
    let url = with_user_and_password(&database.url, "nobody_at_all:hunter2");
    let (code, text) = run(&["serve"], &url).await?;
    assert_eq!(code, 1);
    assert!(text.contains("nobody_at_all"), "{text}");
    assert!(text.contains("check user and password in PACKAGE_API_DATABASE_URL"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_missing_table_leads_to_the_migrations() -> Result<()> {
    let database = support::database().await?;
    let (code, text) = run(&[&["serve", "--no-migrate"], &LOOPBACK[..]].concat(), &database.url).await?;
    assert_eq!(code, 1);
    assert!(text.contains("relation \"package\" does not exist"), "{text}");
    assert!(text.contains("run `logistic-package-api migrate`"), "{text}");
    assert_eq!(run(&["migrate"], &database.url).await?.0, 0);
    Ok(())
}

#[tokio::test]
async fn a_newer_database_is_left_as_it_is_and_named() -> Result<()> {
    let database = support::database().await?;
    assert_eq!(run(&["migrate"], &database.url).await?, (0, String::new()));
    let later = "insert into _sqlx_migrations(version, description, success, checksum, execution_time)
        values (9999, 'later', true, '\\x00', 0)";
    database.execute(later).await?;
    let (code, text) = run(&["migrate"], &database.url).await?;
    assert_eq!(code, 0);
    assert!(
        text.contains("is newer than this build") && text.contains("9999 (later): nothing to do"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() -> Result<()> {
    let database = support::database().await?;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let arguments = [&["serve"], &LOOPBACK[2..], &["--grpc-addr", &address]].concat();
    let (code, text) = run(&arguments, &database.url).await?;
    assert_eq!(code, 1);
    assert!(text.contains(&format!("cannot listen on {address}")) && text.contains("--grpc-addr"), "{text}");
    Ok(())
}

#[tokio::test]
async fn good_settings_are_shown_without_the_password() -> Result<()> {
    let (code, text) = run(&["check-config"], "postgres://me:hunter2@db:5433/packages").await?;
    assert_eq!(code, 0);
    assert!(text.contains("database `packages` at db:5433 as `me`"), "{text}");
    assert!(text.contains("grpc-addr = 0.0.0.0:8082  (the default of grpc-addr)"), "{text}");
    assert!(text.contains("database-url = <hidden>  (PACKAGE_API_DATABASE_URL)"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    Ok(())
}

#[tokio::test]
async fn every_mistake_is_named_at_once() -> Result<()> {
    let arguments = [
        "check-config",
        "--grpc-addr=here",
        "--calls-max=0",
        "--cors-origins=shop.example",
        "--tls-cert=x.pem",
        "--trace-sample-ratio=2",
        "--otlp-endpoint=grpc://jaeger",
        "--auth-token=hunter2",
        "--log-level-by-client=maybe",
    ];
    let (code, text) = run(&arguments, "postgres://me:hunter2@db/packages").await?;
    assert_eq!(code, 2);
    for setting in [
        "grpc-addr",
        "calls-max",
        "cors-origins",
        "tls-key",
        "trace-sample-ratio",
        "otlp-endpoint",
        "auth-token",
        "log-level-by-client",
    ] {
        assert!(text.contains(setting), "{setting} is not in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    Ok(())
}

#[rstest]
#[case("TERM")]
#[case("INT")]
#[tokio::test]
async fn a_signal_ends_it_with_0(#[case] signal: &str) -> Result<()> {
    let database = support::database().await?;
    let mut command = program(&[&["serve"], &LOOPBACK[..]].concat(), &database.url);
    let mut child = command.env("PACKAGE_API_LOG_LEVEL", "info").stderr(Stdio::piped()).spawn()?;
    let mut log = BufReader::new(child.stderr.take().context("no log")?).lines();
    wait_until("it serves", DEADLINE, async || {
        let line = log.next_line().await?.context("it ended")?;
        Ok(serde_json::from_str::<serde_json::Value>(&line)?["message"] == "serving")
    })
    .await?;

    let process = child.id().context("it ended")?.to_string();
    Command::new("kill").args([&format!("-{signal}"), &process]).status().await?;
    let status = tokio::time::timeout(DEADLINE, child.wait()).await.context("it does not end")??;
    assert_eq!(status.code(), Some(0));
    let mut rest = Vec::new();
    while let Some(line) = log.next_line().await? {
        rest.push(line);
    }
    assert!(rest.last().is_some_and(|line| line.contains("\"stopped\"")), "{rest:?}");
    Ok(())
}
