//! The subcommands: what was typed is run, and how it ends becomes an exit code.

mod arguments;
mod asking;
pub mod audit;
pub mod check;
mod each;
pub mod from_debezium;
pub mod init;
pub mod preset;
pub mod preview;
mod progress;
pub mod recover;
pub mod replay;
mod running;
pub mod selection;
mod settings_file;
pub mod status;
pub mod tail;

pub use arguments::command;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::init::{RowsBefore, Schemas};
use self::running::Serving;
use self::selection::CommandError;
use self::tail::{Filter, TailOptions};
use crate::config::{Fleet, Settings, TailSettings};
use crate::error::Error;
use crate::kafka::consumer::TopicReader;
use crate::kafka::refused_properties;
use crate::registry;
use crate::telemetry::{self, label};
use ::settings::Mistakes;
use clap::ArgMatches;
use program::service;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Wrong usage or settings.
pub const WRONG_USAGE: u8 = 2;

/// For threads of clients that wait for a server that is away.
const CLIENTS_TIMEOUT: Duration = Duration::from_millis(200);

/// Runs the subcommand that was given and turns its outcome into an exit code.
///
/// # Errors
/// When it is of one source, there are several, and none is named; when librdkafka does not take a property.
pub fn run(matches: &ArgMatches, fleet: Fleet) -> Result<ExitCode, Mistakes> {
    let fleet = fleet.judged(|settings| refused_properties(&settings.kafka))?;
    telemetry::start(&fleet.process().log_level, fleet.process().log_json);
    let Some((name, matches)) = matches.subcommand() else { unreachable!("clap asks for a subcommand") };
    if name == "init"
        && let Some(said) = of_a_slot_taken_over(matches)
    {
        // What another tool has done is known of one slot: where it is taken for done, rows are not published.
        fleet.clone().only(&said)?;
    }
    let of_one = match name {
        "run" | "init" | "check" | "status" => None,
        _ => Some(fleet.clone().only(name)?),
    };
    let runtime = match runtime_of_one_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return Ok(failed(&error.into())),
    };
    let outcome = runtime.block_on(async {
        match of_one {
            Some(settings) => {
                let span = label::span(settings.name.as_deref());
                Box::pin(of_one_source(name, matches, settings)).instrument(span).await
            }
            None => Box::pin(of_all(name, matches, fleet)).await,
        }
    });
    Ok(ended(runtime, outcome))
}

/// `init` with what it is told of a slot that another tool has used.
fn of_a_slot_taken_over(matches: &ArgMatches) -> Option<String> {
    let is_published = matches.get_one::<String>("rows-before").is_some_and(|rows| rows == "published");
    let said = [
        (is_published, "--rows-before published"),
        (matches.get_flag("publication-is-older"), "--publication-is-older"),
    ];
    let said: Vec<_> = said.iter().filter(|(is_said, _)| *is_said).map(|(_, flag)| *flag).collect();
    (!said.is_empty()).then(|| format!("init {}", said.join(" ")))
}

async fn of_all(name: &str, matches: &ArgMatches, fleet: Fleet) -> anyhow::Result<ExitCode> {
    match name {
        "run" => running::run(fleet, Serving::Required).await,
        "init" => {
            let rows = matches.get_one::<String>("rows-before").map(String::as_str);
            let publication_is_older = matches.get_flag("publication-is-older");
            let before = match rows {
                Some("published") => RowsBefore::Published { publication_is_older },
                _ => RowsBefore::Unpublished,
            };
            let schemas = if matches.get_flag("register") { Schemas::Register } else { Schemas::Find };
            each::initialise(&fleet, before, schemas).await
        }
        "check" => each::check(&fleet, matches.get_flag("json"), matches.get_flag("strict")).await,
        _ => each::show_status(&fleet, matches.get_flag("json"), matches.get_flag("watch")).await,
    }
}

async fn of_one_source(name: &str, matches: &ArgMatches, settings: Settings) -> anyhow::Result<ExitCode> {
    match name {
        "recover" => recover_slot(settings, matches).await,
        "preview" => {
            let count = matches.get_one::<u32>("rows").copied().unwrap_or_default();
            show_preview(&settings, count, matches.get_flag("json")).await
        }
        "audit" => compare(settings, matches).await,
        "replay" => send_again(settings, matches).await,
        _ => unreachable!("clap asks for one of the subcommands, and `tail` is another function"),
    }
}

/// What `--source` names.
#[must_use]
pub fn chosen_source(matches: &ArgMatches) -> Option<&str> {
    matches.get_one::<String>("source").map(String::as_str)
}

/// See `Relay::run`.
fn runtime_of_one_thread() -> tokio::runtime::Builder {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all();
    runtime
}

fn ended(runtime: Runtime, outcome: anyhow::Result<ExitCode>) -> ExitCode {
    runtime.shutdown_timeout(CLIENTS_TIMEOUT);
    outcome.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("walpost: {error:#}");
    ExitCode::FAILURE
}

/// SIGTERM and SIGINT ask to stop; the second one does not ask.
fn stop_on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                tracing::warn!("stopped at once: what is not confirmed comes again");
                std::process::exit(1);
            }
            tracing::info!("stopping");
            service::stopping();
            cancelled.cancel();
        }
    });
    Ok(stop)
}

async fn show_preview(settings: &Settings, count: u32, json: bool) -> anyhow::Result<ExitCode> {
    let preview = preview::run(settings, count).await.map_err(|error| with_remedy(settings, error))?;
    print(if json { preview.json() } else { preview.render() })?;
    Ok(if preview.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs what needs no settings; `None` for any other subcommand.
#[must_use]
pub fn without_settings(matches: &ArgMatches) -> Option<ExitCode> {
    let (subcommand, matches) = matches.subcommand()?;
    let argument = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    match subcommand {
        "preset" => Some(printed(preset::print(argument("name")))),
        "from-debezium" => {
            let path = argument("file");
            let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
            let translated = read.and_then(|text| from_debezium::translate(&text));
            Some(printed(translated.map_err(|error| format!("{path}: {error}"))))
        }
        _ => None,
    }
}

fn printed(text: Result<String, String>) -> ExitCode {
    match text.map(print) {
        Ok(Ok(_)) => ExitCode::SUCCESS,
        Ok(Err(error)) => failed(&error.into()),
        Err(mistake) => {
            eprintln!("walpost: {mistake}");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// Settings whose flags mean something else for the subcommand that was given.
#[must_use]
pub fn own_flags(matches: &ArgMatches) -> &'static [&'static str] {
    match matches.subcommand_name() {
        Some("audit" | "replay") => &["where"],
        _ => &[],
    }
}

async fn compare(settings: Settings, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let options = match asking::audit(matches) {
        Ok(options) => options,
        Err(error) => return refused(error),
    };
    let settings = with_schemas(settings).await?;
    let stopped = Arc::new(AtomicBool::new(false));
    let (stop, flag) = (stop_on_signal()?, Arc::clone(&stopped));
    let report = tokio::select! {
        report = Box::pin(audit::run(&settings, &options, flag)) => report,
        () = stop.cancelled() => Err(CommandError::Stopped),
    };
    stopped.store(true, Ordering::Relaxed);
    let report = match report {
        Ok(report) => report,
        Err(error) => return refused(error),
    };
    print(if matches.get_flag("json") { serde_json::to_string_pretty(&report)? } else { report.render() })?;
    Ok(if report.is_well(matches.get_flag("strict")) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn send_again(settings: Settings, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let options = match asking::replay(matches) {
        Ok(options) => options,
        Err(error) => return refused(error),
    };
    let settings = with_schemas(settings).await?;
    let stop = stop_on_signal()?;
    match Box::pin(replay::run(settings, &options, &stop, &mut |text| print(text).map(drop))).await {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) => refused(error),
    }
}

/// The same settings with the schemas that values have.
async fn with_schemas(settings: Settings) -> anyhow::Result<Settings> {
    let source =
        registry::with_schemas(&settings).await.map_err(|error| with_remedy(&settings, error.into()))?;
    Ok(Settings { source, ..settings })
}

/// What was asked for and cannot be is wrong usage.
fn refused(error: CommandError) -> anyhow::Result<ExitCode> {
    match error {
        CommandError::Usage(mistake) => {
            eprintln!("walpost: {mistake}");
            Ok(ExitCode::from(WRONG_USAGE))
        }
        error => Err(error.into()),
    }
}

/// Recovers, and goes on as `run` does.
async fn recover_slot(settings: Settings, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let plan = recover::plan(&settings, matches.get_flag("anew"))
        .await
        .map_err(|error| with_remedy(&settings, error))?;
    print(&plan)?;
    if matches.get_flag("dry-run") || !plan.is_needed() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(lost) = plan.lost_messages().filter(|_| !matches.get_flag("messages-lost")) {
        anyhow::bail!(
            "nothing was changed: {lost}, and no table holds them; where the application can emit them again, have it do so \
             afterwards; to go on without them run this with --messages-lost"
        );
    }
    recover::prepare(&settings, &plan).await.map_err(|error| with_remedy(&settings, error))?;
    print("ready    publishing; it then goes on as `walpost run` does, until it is stopped")?;
    running::run(settings.into(), Serving::WhereFree).await
}

/// Prints a text; whether somebody still reads it (`walpost status | head -1` does not).
fn print(text: impl Display) -> std::io::Result<bool> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// What went wrong with a source, and what to do.
fn with_remedy(settings: &Settings, error: Error) -> anyhow::Error {
    anyhow::anyhow!(settings.with_source(error.told()))
}

/// Prints the topics. It is the one command that needs no database, so it has settings of its own.
///
/// # Errors
/// When librdkafka does not take a property.
pub fn tail(matches: &ArgMatches, settings: TailSettings) -> Result<ExitCode, Mistakes> {
    let refused = refused_properties(&settings.kafka);
    if !refused.is_empty() {
        return Err(Mistakes(refused));
    }
    telemetry::start(&settings.log_level, settings.log_json);
    let runtime = match runtime_of_one_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return Ok(failed(&error.into())),
    };
    let outcome = runtime.block_on(follow(settings, matches));
    Ok(ended(runtime, outcome))
}

async fn follow(settings: TailSettings, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    let from_start = matches.get_flag("from-start");
    let options = TailOptions {
        until_end: matches.get_flag("until-end"),
        json: matches.get_flag("json"),
        colours: is_coloured(),
        filter: Filter {
            key: matches.get_one::<String>("key").cloned(),
            types: matches.get_many::<String>("type").into_iter().flatten().cloned().collect(),
        },
    };
    let stop = stop_on_signal()?;
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = nobody_reads() => {}
        }
        STOPPED.store(true, Ordering::Relaxed);
    });
    tokio::task::spawn_blocking(move || {
        let TailSettings { kafka, topics, connect_timeout, .. } = settings;
        let reader = TopicReader::open(&kafka, &topics, from_start, connect_timeout)?;
        announce(&reader, from_start, options.until_end);
        tail::run(reader, &options, &mut std::io::stdout().lock(), &|| STOPPED.load(Ordering::Relaxed))
    })
    .await??;
    Ok(ExitCode::SUCCESS)
}

/// Says what is about to be shown, to a person, and what is not, to anyone.
fn announce(reader: &TopicReader, from_start: bool, until_end: bool) {
    if std::io::stderr().is_terminal() {
        let from = if from_start { "from the start" } else { "from now" };
        let until = if until_end { "to the end" } else { "until Ctrl-C" };
        eprintln!("walpost: {} {from} {until}", reader.topics().join(", "));
    }
    if !reader.left_out().is_empty() {
        eprintln!(
            "walpost: without {}, which Kafka does not have or does not let this user read (--tail-topics)",
            reader.left_out().join(", ")
        );
    }
}

/// Returns when standard output is a pipe whose reader is gone: where nothing is written, no write would tell.
async fn nobody_reads() {
    // Linux opens the pipe anew, so that the writes themselves go on to block. What is no pipe has no reader to lose.
    let Ok(pipe) = pipe::OpenOptions::new().open_sender("/proc/self/fd/1") else {
        return std::future::pending().await;
    };
    if pipe.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}
