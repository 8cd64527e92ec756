//! The subcommands.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ArgMatches;
use opentelemetry::trace::TracerProvider as _;
use tokio_util::sync::CancellationToken;
use walpost::config::Settings;
use walpost::error::Error;
use walpost::pages::Pages;
use walpost::relay::{Halt, Relay, Stopped};
use walpost::sink::kafka::reader::TopicReader;
use walpost::status::{self, Colours};
use walpost::tail::TailOptions;
use walpost::telemetry::traces;
use walpost::vitals::{Limits, Vitals};
use walpost::{check, init, recover, tail, telemetry};

/// `--exit-on-halt`.
const HALTED: u8 = 3;

/// Runs the subcommand that was given and turns its outcome into an exit code.
pub(crate) fn run(matches: &ArgMatches, settings: Settings) -> ExitCode {
    telemetry::start(&settings.log_level, settings.log_json);
    // One thread: see `Relay::run`.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let outcome = match matches.subcommand() {
        Some(("run", _)) => runtime.block_on(relay(settings, Serving::Required)),
        Some(("recover", matches)) => runtime.block_on(recover_slot(settings, matches.get_flag("dry-run"))),
        Some(("init", _)) => runtime.block_on(initialise(&settings)),
        Some(("check", matches)) => {
            runtime.block_on(check_all(&settings, matches.get_flag("json"), matches.get_flag("strict")))
        }
        Some(("status", matches)) => {
            runtime.block_on(show_status(&settings, matches.get_flag("json"), matches.get_flag("watch")))
        }
        Some(("tail", matches)) => runtime.block_on(follow(settings, matches)),
        _ => unreachable!("clap asks for one of the subcommands"),
    };
    // Threads of clients that wait for a server that is away are not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("walpost: {error:#}");
    ExitCode::FAILURE
}

/// Whether the relay runs without its pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serving {
    Required,
    /// A relay that has halted may still be serving there.
    WhereFree,
}

async fn relay(settings: Settings, serving: Serving) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let vitals = Vitals::new(Limits::of(&settings));
    let addr = settings.http_addr;
    let listener = match Pages::bind(addr) {
        Ok(listener) => Some(listener),
        Err(error) if serving == Serving::WhereFree => {
            tracing::warn!(%addr, %error, "no pages are served");
            None
        }
        Err(error) => anyhow::bail!("cannot listen on {addr} (--http-addr): {error}"),
    };
    let _pages = Pages::start(listener, &settings, &vitals, &stop)?;
    let exit_on_halt = settings.exit_on_halt;
    let traces = settings.otlp_endpoint.as_deref().map(traces::provider).transpose()?;
    let tracer = traces.as_ref().map(|traces| traces.tracer(env!("CARGO_PKG_NAME")));
    let relay = Relay::new(settings, vitals, tracer)?;
    let ended = Box::pin(relay.run(stop.clone())).await;
    if let Some(traces) = traces {
        traces::shut_down(traces).await;
    }
    match ended {
        Ok(Stopped::Drained) => Ok(ExitCode::SUCCESS),
        Ok(Stopped::CutShort) => Ok(ExitCode::FAILURE),
        Err(Halt { .. }) if exit_on_halt => Ok(ExitCode::from(HALTED)),
        Err(Halt { .. }) => {
            // It stays up to say why: in /ready, in the metrics and in the log.
            stop.cancelled().await;
            Ok(ExitCode::FAILURE)
        }
    }
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
            cancelled.cancel();
        }
    });
    Ok(stop)
}

async fn initialise(settings: &Settings) -> anyhow::Result<ExitCode> {
    for step in init::run(settings).await.map_err(with_remedy)? {
        print(step)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn check_all(settings: &Settings, json: bool, strict: bool) -> anyhow::Result<ExitCode> {
    let findings = check::run(settings).await;
    if json {
        print(serde_json::to_string_pretty(&findings)?)?;
    } else {
        print(findings.render(is_coloured()))?;
    }
    Ok(if findings.pass(strict) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Recovers, and goes on as `run` does.
async fn recover_slot(settings: Settings, dry_run: bool) -> anyhow::Result<ExitCode> {
    let plan = recover::plan(&settings).await.map_err(with_remedy)?;
    print(&plan)?;
    if dry_run || !plan.is_needed() {
        return Ok(ExitCode::SUCCESS);
    }
    recover::prepare(&settings, &plan).await.map_err(with_remedy)?;
    print("ready    publishing; it then goes on as `walpost run` does, until it is stopped")?;
    relay(settings, Serving::WhereFree).await
}

async fn show_status(settings: &Settings, json: bool, watch: bool) -> anyhow::Result<ExitCode> {
    let mut reader = status::Reader::new(settings);
    let colours = if is_coloured() { Colours::Shown } else { Colours::None };
    loop {
        let status = reader.read().await;
        let shown = if json {
            serde_json::to_string_pretty(&status)?
        } else if watch && std::io::stdout().is_terminal() {
            // Home, each line to its end, and clear what is below: nothing flickers.
            let screen = status::render(&status, colours).replace('\n', "\x1b[K\n");
            format!("\x1b[H{screen}\x1b[K\n\x1b[J")
        } else {
            status::render(&status, colours)
        };
        let is_read = print(shown)?;
        if !watch || !is_read {
            let code = if status.problem.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            return Ok(code);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
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

fn with_remedy(error: Error) -> anyhow::Error {
    anyhow::anyhow!(error.told())
}

async fn follow(settings: Settings, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    let options = TailOptions {
        from_start: matches.get_flag("from-start"),
        json: matches.get_flag("json"),
        until_end: matches.get_flag("until-end"),
    };
    let stop = stop_on_signal()?;
    tokio::spawn(async move {
        stop.cancelled().await;
        STOPPED.store(true, Ordering::Relaxed);
    });
    tokio::task::spawn_blocking(move || {
        let reader = TopicReader::open(&settings.kafka, options.from_start, settings.timing.connect_timeout)?;
        tail::run(reader, options, &mut std::io::stdout().lock(), &|| STOPPED.load(Ordering::Relaxed))
    })
    .await??;
    Ok(ExitCode::SUCCESS)
}
