//! The walpost program.

use std::process::ExitCode;

use walpost::cli;
use walpost::config::{Fleet, TABLE, TailSettings, values_of};

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
    let loaded = TABLE.load_parts(cli::own_flags(&matches), &matches, &env);
    let source = cli::chosen_source(&matches);
    let ended = match matches.subcommand() {
        Some(("tail", matches)) => values_of(loaded, "tail", source)
            .and_then(TailSettings::read)
            .and_then(|settings| cli::tail(matches, settings)),
        _ => Fleet::read(loaded, &env, source).and_then(|fleet| cli::run(&matches, fleet)),
    };
    ended.unwrap_or_else(|mistakes| {
        eprintln!("walpost: {mistakes}");
        ExitCode::from(cli::WRONG_USAGE)
    })
}
