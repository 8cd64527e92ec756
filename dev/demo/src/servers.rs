//! Postgres and Kafka: the ones there are, or started here and stopped again.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::Stack;
use harness::database::connect;
use harness::stack::{Output, script, script_path};

use crate::screen::Screen;

/// Where the servers are; those that were started for the demo are stopped when this is dropped.
pub(crate) struct Servers {
    pub(crate) stack: Stack,
    _ours: Ours,
}

impl Servers {
    pub(crate) async fn up(screen: &Screen) -> Result<Self> {
        screen.section("Postgres and Kafka");
        let given = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
        if given("DATABASE_URL") && given("KAFKA_BROKERS") {
            screen.line("those of DATABASE_URL and KAFKA_BROKERS");
            let stack = Stack::up(Output::Quiet).await?;
            check(&stack).await?;
            return Ok(Self { stack, _ours: Ours::nothing() });
        }
        screen.note("the first time they are fetched, which takes a minute");
        // Made before the start, so that an interrupted start is stopped as well.
        let ours = Ours::from_now(running().await?);
        let stack = Stack::up(Output::Shown).await?;
        check(&stack).await?;
        screen.line("both answer");
        Ok(Self { stack, _ours: ours })
    }
}

/// Whether a demo is possible here: better said now than by whatever fails first.
async fn check(stack: &Stack) -> Result<()> {
    let client = connect(&stack.database_url).await.context(
        "cannot connect to Postgres; start it, correct DATABASE_URL, or unset it to have a Postgres started",
    )?;
    let sql = "select current_user::text, rolsuper or (rolcreatedb and rolreplication), current_setting('wal_level') \
               from pg_roles where rolname = current_user";
    let row = client.query_one(sql, &[]).await?;
    let (user, may, wal_level): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
    ensure!(
        wal_level == "logical",
        "wal_level of this Postgres is {wal_level}: set it to logical and restart it, or unset DATABASE_URL"
    );
    ensure!(
        may,
        "the role {user} may not do what the demo does: `alter role {user} createdb replication`, or unset DATABASE_URL"
    );
    Ok(())
}

/// The servers of the default instance that run now.
async fn running() -> Result<BTreeSet<String>> {
    Ok(parse_running(&script(&["status"], Output::Quiet).await?))
}

/// Lines of the form `dev  postgres  running  127.0.0.1:5432 ...`.
fn parse_running(status: &str) -> BTreeSet<String> {
    let server = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["dev", server, condition, ..] if !["none", "stopped"].contains(condition) => {
            Some((*server).to_owned())
        }
        _ => None,
    };
    status.lines().filter_map(server).collect()
}

/// What the demo has to stop: what runs then and did not run before.
struct Ours {
    before: Option<BTreeSet<String>>,
}

impl Ours {
    fn nothing() -> Self {
        Self { before: None }
    }

    fn from_now(before: BTreeSet<String>) -> Self {
        Self { before: Some(before) }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        let script = |arguments: &[&str]| {
            let mut command = Command::new("python3");
            command.arg(script_path()).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
            command
        };
        let Ok(status) = script(&["status"]).output() else { return };
        let now = parse_running(&String::from_utf8_lossy(&status.stdout));
        if before.is_empty() && !now.is_empty() {
            // One call stops both at the same price as one.
            let _ = script(&["down"]).stdout(Stdio::null()).status();
            return;
        }
        for server in now.difference(before) {
            let _ = script(&["stop", server]).stdout(Stdio::null()).status();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_in_the_default_instance_counts() {
        let status = "state     /x\ndev       postgres  running   127.0.0.1:1  pid 4\n\
                      dev       kafka     none of its own\ntest-1    kafka     running   127.0.0.1:2\n";
        assert_eq!(parse_running(status), BTreeSet::from(["postgres".to_owned()]));
    }
}
