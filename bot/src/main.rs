//! `package-bot run | check-config`.

use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use package_bot::config::{Settings, TABLE};
use package_bot::{run, shutdown, telemetry};

/// Wrong usage or settings; clap uses the same.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    // Process-wide, before any client looks for a provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

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
        if settings.allowed.0.is_empty() {
            println!("everybody who finds the bot may change packages: allowed-ids names nobody");
        }
        return ExitCode::SUCCESS;
    }
    match start(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For a person, beside the log.
            eprintln!("{error:#}");
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
        .subcommand(Command::new("run").about("Answer people until SIGTERM or SIGINT"))
        .subcommand(
            Command::new("check-config").about("Judge the settings, show where they come from, and exit"),
        )
}

fn start(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let _guard = runtime.enter();
    // Dropped last: it sends the spans that are left.
    let _exporting = telemetry::init(&settings.telemetry);
    runtime.block_on(async {
        let stop = shutdown::on_signal().context("cannot listen for signals")?;
        run::run(settings, stop).await
    })
}
