//! `package-facade run | check-config`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Command;
use package_facade::board::Board;
use package_facade::config::{Settings, TABLE};
use package_facade::consumer::Member;
use package_facade::metrics::Metrics;
use package_facade::printer::{Ended, PrintError, Printer};
use package_facade::status::{self, Shown};
use package_facade::{output, shutdown, telemetry};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Wrong usage or settings; clap uses the same.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let env = settings::environment();
    let settings = match Settings::load(&matches, &env) {
        Ok(settings) => settings,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if matches.subcommand_name() == Some("check-config") {
        println!("the settings are good\n\n{}", settings.shown);
        return ExitCode::SUCCESS;
    }
    match start(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For a person, beside the log.
            eprintln!("package-facade: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_PKG_NAME"))
        .version(program::VERSION)
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(TABLE.args())
        .subcommand(Command::new("run").about("Print records until SIGTERM or SIGINT"))
        .subcommand(Command::new("check-config").about("Judge the settings, show them, and exit"))
}

fn start(settings: &Settings) -> anyhow::Result<()> {
    telemetry::init(settings.telemetry);
    // For signals and the pages; records have a thread of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(run(settings));
    // A write that blocks is not waited for.
    runtime.shutdown_timeout(Duration::ZERO);
    ended
}

async fn run(settings: &Settings) -> anyhow::Result<()> {
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    let addr = settings.http_addr;
    let listener = TcpListener::bind(addr).await;
    let listener = listener.with_context(|| format!("cannot listen on {addr} (http-addr)"))?;
    tracing::info!(addr = %listener.local_addr().unwrap_or(addr), "/live, /ready and /metrics are served");

    let board = Arc::new(Board::new(settings.ready_lag_max));
    let metrics = Metrics::new(names(settings))?;
    tokio::spawn(status::serve(listener, Shown { board: board.clone(), metrics: metrics.clone() }));
    let mut printing = print(settings, &board, metrics, &stop)?;

    let ended = tokio::select! {
        ended = &mut printing => return judge(ended),
        () = stop.cancelled() => Ended::Stopped,
        () = output::nobody_reads() => Ended::NobodyReads,
    };
    board.stop();
    stop.cancel();
    let finished = tokio::time::timeout(settings.drain_timeout, printing).await;
    let Ok(finished) = finished else {
        anyhow::bail!(
            "the stop took longer than {:?} (drain-timeout-ms): standard output takes nothing, or Kafka does not answer; \
             what was not committed is printed again",
            settings.drain_timeout
        );
    };
    tracing::info!(?ended, "stopped");
    judge(finished)
}

fn names(settings: &Settings) -> impl Iterator<Item = &str> {
    settings.topics.iter().map(|(name, _)| name.as_str())
}

type Printing = oneshot::Receiver<Result<Ended, PrintError>>;

/// Starts the thread that prints; it sends how it ended after the group was left.
fn print(
    settings: &Settings,
    board: &Arc<Board>,
    metrics: Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<Printing> {
    let member = Member::join(&settings.kafka, names(settings), board, &metrics)?;
    let printer = Printer {
        member,
        out: output::unbuffered().context("standard output is closed")?,
        topics: settings.topics.iter().cloned().collect(),
        board: board.clone(),
        metrics,
    };
    let (sender, receiver) = oneshot::channel();
    let stop = stop.clone();
    let thread = std::thread::Builder::new().name("printer".to_owned());
    thread.spawn(move || {
        // `run` takes the printer: when it returns, the member has left the group.
        let _ = sender.send(printer.run(&stop));
    })?;
    Ok(receiver)
}

fn judge(ended: Result<Result<Ended, PrintError>, oneshot::error::RecvError>) -> anyhow::Result<()> {
    let ended = ended.context("the thread that prints has panicked; its message is above")?;
    ended.map(drop).map_err(Into::into)
}
