//! The walpost program.

use std::process::ExitCode;

use walpost::cli;
use walpost::config::{Settings, TABLE, TailSettings};

fn main() -> ExitCode {
    // Both Postgres clients use rustls; without a default the first to ask would choose for the other.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("walpost: a TLS provider was installed already");
    }
    let matches = cli::command().get_matches();
    let env = settings::environment();
    if let Some(ended) = cli::without_settings(&matches) {
        return ended;
    }
    let values = TABLE.load_without(cli::own_flags(&matches), &matches, &env);
    let ended = match matches.subcommand() {
        Some(("tail", matches)) => TailSettings::read(values).map(|settings| cli::tail(matches, settings)),
        _ => Settings::read(values, &env).map(|settings| cli::run(&matches, settings)),
    };
    ended.unwrap_or_else(|mistakes| {
        eprintln!("walpost: {mistakes}");
        ExitCode::from(cli::WRONG_USAGE)
    })
}
