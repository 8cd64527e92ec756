//! What can be typed of `walpost audit` and `walpost replay`, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::cli::audit::AuditOptions;
use crate::cli::replay::ReplayOptions;
use crate::cli::selection::{self, CommandError, Selection};
use crate::config::topic_list;
use walpost_core::clock;

/// An option that says which rows. `--where` is one of the settings, too: here it is not the filter of the publication, which
/// is taken from file and environment alone.
fn of_rows(arg: Arg) -> Arg {
    arg.help_heading("Which rows")
}

fn which_rows(command: Command, is_required: bool) -> Command {
    let arg = |name: &'static str, value: &'static str, help: &'static str| {
        of_rows(Arg::new(name).long(name).value_name(value).help(help))
    };
    let number = |arg: Arg| arg.value_parser(clap::value_parser!(i64)).allow_hyphen_values(true);
    command
        .arg(
            arg(
                "where",
                "SQL",
                "Rows for which this condition holds, such as \"created_at > now() - interval '1 day'\". (The filter of the \
                 publication that has this name elsewhere is taken from WALPOST_WHERE and the file.)",
            )
            .required(is_required)
            .allow_hyphen_values(true),
        )
        .arg(arg("since", "TIME", "Rows of this time or later: 2026-03-01T10:00:00Z, or so long ago, as 90m, 12h or 7d"))
        .arg(number(arg("from-id", "N", "Rows from this number on of the column that orders the table")))
        .arg(number(arg("to-id", "N", "Rows up to this number of it")))
        .arg(
            arg("outbox", "SCHEMA.TABLE", "Rows of this table, where the settings stand for several; repeatable")
                .action(ArgAction::Append),
        )
}

/// `walpost audit` as it is typed.
pub(super) fn audit_command() -> Command {
    let arg = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let command = Command::new("audit").about(
        "Compare the rows of the tables with the records of the topics: what is missing, altered, twice, out of order, or in \
         no row; changes nothing",
    );
    which_rows(command, false)
        .arg(arg("topics", "TOPIC,…", "Topics to read beside those that settings and rows name"))
        .arg(
            arg("wait-ms", "MS", "How long to wait for a slot that is far behind what the tables hold")
                .default_value("30000")
                .value_parser(clap::value_parser!(u64).range(0..=3_600_000)),
        )
        .arg(
            arg("memory-mib", "MIB", "Memory for what is sorted; what does not fit goes to --scratch")
                .default_value("64")
                .value_parser(clap::value_parser!(u32).range(1..=65_536)),
        )
        .arg(
            arg("scratch", "FOLDER", "Where it goes: some 75 bytes for each row and 125 for each record [default: that of the system]")
                .value_parser(clap::value_parser!(PathBuf)),
        )
        .arg(
            arg("show", "N", "How many of each kind are named")
                .default_value("20")
                .value_parser(clap::value_parser!(u32).range(0..=100_000)),
        )
        .arg(switch("strict", "Records that come twice, or are in no row, fail, too"))
        .arg(switch("json", "Print JSON"))
}

/// `walpost replay` as it is typed.
pub(super) fn replay_command() -> Command {
    let command = Command::new("replay").about(
        "Send rows again: the same bytes and id, with the header walpost-replay; touches neither slot nor ledger",
    );
    which_rows(command, true)
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("TOPIC")
                .help("The topic that all of them go to, in place of their own"),
        )
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_name("ROWS")
                .default_value("1000")
                .value_parser(clap::value_parser!(u32))
                .help("Rows a second at most; 0 is without a limit"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Say how many rows, and where they would go; send nothing"),
        )
}

fn selected(matches: &ArgMatches) -> Result<Selection, CommandError> {
    let since = matches.get_one::<String>("since");
    Ok(Selection {
        condition: matches.get_one::<String>("where").cloned(),
        since: since.map(|text| selection::since(text, clock::unix_micros())).transpose()?,
        from: matches.get_one("from-id").copied(),
        to: matches.get_one("to-id").copied(),
        outboxes: matches.get_many("outbox").into_iter().flatten().cloned().collect(),
    })
}

/// What `walpost audit` was asked for.
///
/// # Errors
/// When a time or a topic is none.
pub(super) fn audit(matches: &ArgMatches) -> Result<AuditOptions, CommandError> {
    let number = |name: &str| matches.get_one::<u32>(name).map_or(0, |number| *number as usize);
    let topics = matches.get_one::<String>("topics").map_or("", String::as_str);
    Ok(AuditOptions {
        selection: selected(matches)?,
        topics: topic_list(topics).map_err(|mistake| CommandError::Usage(format!("--topics: {mistake}")))?,
        wait: Duration::from_millis(matches.get_one("wait-ms").copied().unwrap_or_default()),
        memory: number("memory-mib") << 20,
        scratch: matches.get_one("scratch").cloned().unwrap_or_else(std::env::temp_dir),
        shown: number("show"),
    })
}

/// What `walpost replay` was asked for.
///
/// # Errors
/// When the condition is blank, or a time or a topic is none.
pub(super) fn replay(matches: &ArgMatches) -> Result<ReplayOptions, CommandError> {
    let selection = selected(matches)?;
    if selection.condition.as_ref().is_none_or(|condition| condition.trim().is_empty()) {
        let what = "--where: say which rows, as a condition in SQL; `true` for all of them".to_owned();
        return Err(CommandError::Usage(what));
    }
    let to = matches.get_one::<String>("to").map(|name| topic_list(name)).transpose();
    let to = to.map_err(|mistake| CommandError::Usage(format!("--to: {mistake}")))?;
    let to = match to.as_deref() {
        None => None,
        Some([topic]) => Some(topic.clone()),
        Some(_) => return Err(CommandError::Usage("--to: expected one topic".into())),
    };
    Ok(ReplayOptions {
        selection,
        to,
        rate: matches.get_one("rate").copied().unwrap_or_default(),
        dry_run: matches.get_flag("dry-run"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::{command, own_flags};
    use crate::config::TABLE;

    fn page(name: &str) -> String {
        let path = format!("{}/../docs/{name}.md", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn every_option_of_its_own_is_on_the_page_of_a_subcommand() {
        for command in [audit_command(), replay_command()] {
            let page = page(command.get_name());
            for arg in command.get_arguments() {
                let long = format!("`--{}", arg.get_long().unwrap());
                assert!(page.contains(&long), "docs/{}.md does not have {long}", command.get_name());
                let default = arg.get_default_values().first().map(|value| value.to_string_lossy());
                let row = page.lines().filter(|line| line.contains(&long)).collect::<String>();
                let default = default.filter(|_| arg.get_action().takes_values());
                let is_there = default
                    .is_none_or(|default| row.contains(&*default) || page.contains(&format!("({default})")));
                assert!(is_there, "docs/{}.md has another default of {long}", command.get_name());
            }
        }
    }

    #[test]
    fn the_condition_of_a_command_is_not_the_filter_of_the_publication() {
        let env = [("WALPOST_WHERE".to_owned(), "not relayed".to_owned())];
        for (name, expected) in [("replay", "not relayed"), ("audit", "not relayed"), ("check", "id = 1")] {
            let arguments = ["walpost", name, "--where", "id = 1"];
            let matches = command().try_get_matches_from(arguments).unwrap();
            let values = TABLE.load_without(own_flags(&matches), &matches, &env);
            assert_eq!(values.text("where").as_deref(), Some(expected), "{name}");
        }
        let matches = command().try_get_matches_from(["walpost", "replay", "--where", "id = 1"]).unwrap();
        let options = replay(matches.subcommand().unwrap().1).unwrap();
        assert_eq!(options.selection.condition.as_deref(), Some("id = 1"));
        assert!(command().try_get_matches_from(["walpost", "replay"]).is_err(), "which rows is asked for");
    }
}
