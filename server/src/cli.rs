//! What can be typed: `logistic-package-api serve | migrate | check-config`.

use clap::{Arg, ArgAction, Command};

use crate::config::TABLE;

/// The flag of `serve` that leaves the migrations out.
pub const NO_MIGRATE: &str = "no-migrate";

/// The program's name, its settings and its subcommands.
#[must_use]
pub fn command() -> Command {
    let no_migrate = Arg::new(NO_MIGRATE)
        .long(NO_MIGRATE)
        .action(ArgAction::SetTrue)
        .help("Serve on the tables as they are; the same as --migrate=false");
    Command::new(env!("CARGO_PKG_NAME"))
        .version(program::VERSION)
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(TABLE.args())
        .subcommand(Command::new("serve").about("Apply the migrations, then serve").arg(no_migrate))
        .subcommand(Command::new("migrate").about("Apply the migrations and exit"))
        .subcommand(Command::new("check-config").about("Judge the settings, show where they lead, and exit"))
}
