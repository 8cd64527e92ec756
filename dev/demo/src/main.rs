//! The README's first command: the whole system, from a package that changes to its event in Kafka.
//!
//! `demo` tells the story and ends: it changes packages through gRPC and by the Telegram bot, shows each event as it arrives,
//! kills the relay under load, and counts what arrived. `demo run` leaves the same system up for a person to play with.
//!
//! Whatever is started is owned by a value and stopped in its `drop`, so an error, a panic and Ctrl-C all leave nothing
//! behind. With `DATABASE_URL` or `KAFKA_BROKERS` set, the demo stays within a database, a slot and a topic of its own.

/// What is printed, and when.
mod screen;

/// Postgres and Kafka: the ones there are, or started here and stopped again.
mod servers;

/// The service and the relay between a fresh database and a fresh topic.
mod system;

/// What arrives on the topic, as it arrives.
mod arrivals;

/// First part: a few changes, and the event of each.
mod story;

/// Second part: a person talks to the bot, and the facade prints the event.
mod person;

/// Third part: SIGKILL under load, and the audit.
mod crash;

/// Concurrent writers through gRPC.
mod load;

/// What Postgres keeps for the relay.
mod slot;

/// `demo run`: up until Ctrl-C.
mod stay;

use std::process::ExitCode;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::screen::Screen;

/// A shell's code for "ended by SIGINT".
const EXIT_INTERRUPTED: u8 = 130;

const USAGE: &str = "usage: demo [run]

  demo       change packages, watch their events, kill the relay under load, count what arrived
  demo run   bring the same system up and keep it until Ctrl-C

DATABASE_URL and KAFKA_BROKERS, where set, are used instead of servers of its own.";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let screen = Screen::new();
    let ended = match arguments.as_slice() {
        [] | ["demo"] => until_interrupted(Box::pin(demo(&screen))).await,
        ["run"] => until_interrupted(Box::pin(stay::run(&screen))).await,
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(Some(())) => ExitCode::SUCCESS,
        Ok(None) => {
            screen.note("interrupted; what was started is stopped");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            screen.failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn demo(screen: &Screen) -> Result<()> {
    let servers = servers::Servers::up(screen).await?;
    let mut system = system::System::start(screen, &servers, &system::Ports::free()?).await?;
    story::tell(screen, &system).await?;
    person::talks(screen, &system).await?;
    let audit = crash::survive(screen, &mut system).await?;
    slot::show(screen, &system).await?;

    screen.section("Stop");
    system.stop(screen).await?;
    drop(servers);
    screen.verdict(&audit)
}

/// Drives `work`, and drops it half-way when the person or the machine wants an end.
async fn until_interrupted(work: impl Future<Output = Result<()>>) -> Result<Option<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        ended = work => ended.map(Some),
        _ = tokio::signal::ctrl_c() => Ok(None),
        _ = terminate.recv() => Ok(None),
        _ = hang_up.recv() => Ok(None),
    }
}
