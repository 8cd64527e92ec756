//! What can be typed.

use clap::{Arg, ArgAction, Command};

use crate::cli::asking::{audit_command, replay_command};
use crate::config::TABLE;

/// The program's name, its settings and its subcommands.
#[must_use]
pub fn command() -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    Command::new("walpost")
        .version(program::VERSION)
        .about(
            "Follows an outbox table through a Postgres replication slot and publishes every committed \
            event to Kafka.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(TABLE.args())
        .arg(
            Arg::new("source")
                .long("source")
                .value_name("NAME")
                .global(true)
                .help("Of several [[source]] of the file this one alone"),
        )
        .subcommand(Command::new("run").about("Publish events until stopped"))
        .subcommand(
            Command::new("init").about("Make publication, schema and slot; safe to repeat").args([
                Arg::new("rows-before")
                    .long("rows-before")
                    .value_name("WHAT")
                    .value_parser(["unpublished", "published"])
                    .default_value("unpublished")
                    .help(
                        "Of a slot that another tool has used and that is taken over: whether that tool has published the rows \
                         from before the slot's position. `unpublished`: they are published from the table",
                    ),
                Arg::new("publication-is-older")
                    .long("publication-is-older")
                    .action(ArgAction::SetTrue)
                    .help(
                        "With `--rows-before published`: the publication was made, and last altered, before the slot had its \
                         position; say so where `init` cannot see it",
                    ),
                Arg::new("register")
                    .long("register")
                    .action(ArgAction::SetTrue)
                    .help("Register the schemas of --schema in the registry, where it does not have them"),
            ]),
        )
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
            Command::new("preview")
                .about("Show the records that the newest rows would give; needs no slot and no Kafka, changes nothing")
                .arg(
                    Arg::new("rows")
                        .long("rows")
                        .short('n')
                        .value_name("N")
                        .default_value("5")
                        .value_parser(clap::value_parser!(u32).range(1..=1_000))
                        .help("How many rows, the newest first, at most 1000"),
                )
                .arg(json()),
        )
        .subcommand(
            Command::new("preset")
                .about("Print what a preset sets, as a settings file")
                .arg(Arg::new("name").value_name("NAME").required(true).help("debezium, eventuate, …")),
        )
        .subcommand(
            Command::new("from-debezium")
                .about("Print the settings that do what a Debezium connector with the outbox EventRouter did")
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .required(true)
                        .help("The connector's JSON, or the properties of Debezium Server"),
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
                    Arg::new("messages-lost")
                        .long("messages-lost")
                        .action(ArgAction::SetTrue)
                        .help("Go on without the logical messages that the slot held and Kafka lacks: they are nowhere else"),
                )
                .arg(
                    Arg::new("dry-run")
                        .long("dry-run")
                        .action(ArgAction::SetTrue)
                        .help("Say what it would do, and change nothing"),
                ),
        )
        .subcommand(audit_command())
        .subcommand(replay_command())
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
