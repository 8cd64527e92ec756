//! The walpost program.

mod commands;

use std::process::ExitCode;

use clap::{Arg, ArgAction, Command};
use walpost::config::{Settings, TABLE, TailSettings};

/// Wrong usage or settings (CONTRACT of exit codes: 0 done, 1 failed, 2 wrong usage, 3 halted).
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    // Both Postgres clients use rustls; without a default the first to ask would choose for the other.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("walpost: a TLS provider was installed already");
    }
    let matches = command().get_matches();
    let env: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let values = TABLE.load(&matches, &env);
    let ended = match matches.subcommand() {
        Some(("tail", matches)) => {
            TailSettings::read(values).map(|settings| commands::tail(matches, settings))
        }
        _ => Settings::read(values, &env).map(|settings| commands::run(&matches, settings)),
    };
    ended.unwrap_or_else(|mistakes| {
        eprintln!("walpost: {mistakes}");
        ExitCode::from(WRONG_USAGE)
    })
}

fn command() -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    Command::new("walpost")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Follows an outbox table through a Postgres replication slot and publishes every committed \
            event to Kafka.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(TABLE.args())
        .subcommand(Command::new("run").about("Publish events until stopped"))
        .subcommand(Command::new("init").about("Make publication, schema and slot; safe to repeat"))
        .subcommand(
            Command::new("check")
                .about("Go through every precondition on Postgres and Kafka; changes nothing")
                .arg(json())
                .arg(
                    Arg::new("strict")
                        .long("strict")
                        .action(ArgAction::SetTrue)
                        .help("Warnings fail, too"),
                ),
        )
        .subcommand(
            Command::new("recover")
                .about("After a lost slot: make a new one, publish what the table holds and Kafka may lack, go on")
                .arg(
                    Arg::new("anew")
                        .long("anew")
                        .action(ArgAction::SetTrue)
                        .help("Leave the slot that is there, too: its stream holds what cannot be read"),
                )
                .arg(
                    Arg::new("dry-run")
                        .long("dry-run")
                        .action(ArgAction::SetTrue)
                        .help("Say what it would do, and change nothing"),
                ),
        )
        .subcommand(
            Command::new("status")
                .about("Show the slot, its lags and what is wrong, if anything")
                .arg(json())
                .arg(
                    Arg::new("watch")
                        .long("watch")
                        .action(ArgAction::SetTrue)
                        .conflicts_with("json")
                        .help("Refresh every second"),
                ),
        )
        .subcommand(
            Command::new("tail")
                .about("Print the records of the topics as they come; needs no database")
                .arg(json())
                .arg(Arg::new("key").long("key").value_name("KEY").help("Only records with this key"))
                .arg(
                    Arg::new("type")
                        .long("type")
                        .value_name("TYPE")
                        .action(ArgAction::Append)
                        .help("Only events of this type, such as Created, in any case; repeatable"),
                )
                .arg(
                    Arg::new("from-start")
                        .long("from-start")
                        .action(ArgAction::SetTrue)
                        .help("Begin with the oldest record"),
                )
                .arg(
                    Arg::new("until-end")
                        .long("until-end")
                        .action(ArgAction::SetTrue)
                        .help("Stop at the end instead of waiting"),
                ),
        )
}
