//! The rules of who may name what, held by reading the sources.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A room, and those that it may name beside itself. What has no server stands in `walpost_core`, which names none of them.
const MAY_NAME: [(&str, &[&str]); 11] = [
    ("retry", &[]),
    ("telemetry", &[]),
    ("config", &[]),
    ("postgres", &["config"]),
    ("replication", &["config", "postgres"]),
    ("kafka", &["config"]),
    ("registry", &["config"]),
    // It asks for several sources on one thread: each line of the log is to say for which.
    ("observe", &["telemetry", "config", "postgres", "kafka"]),
    ("error", &["postgres", "registry", "observe"]),
    ("relay", &["retry", "config", "postgres", "replication", "kafka", "registry", "observe", "error"]),
    (
        "cli",
        &[
            "retry",
            "telemetry",
            "config",
            "postgres",
            "replication",
            "kafka",
            "registry",
            "observe",
            "error",
            "relay",
        ],
    ),
];

/// A crate, and the only places that may name it.
const OWNED: [(&str, &[&str]); 2] = [("pgwire_replication::", &["replication"]), ("rdkafka::", &["kafka"])];

/// Every source file of the library, by its path below `src`, with its code: comments may name anything.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let code =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        (name, code)
    };
    files.into_iter().map(read).filter(|(name, _)| name != "imports.rs").collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn is_in(file: &str, module: &str) -> bool {
    file == format!("{module}.rs") || file.starts_with(&format!("{module}/"))
}

#[test]
fn each_room_names_those_beneath_it_only() {
    for (file, code) in sources() {
        let Some((room, beneath)) = MAY_NAME.iter().find(|(room, _)| is_in(&file, room)) else {
            assert!(
                ["lib.rs", "main.rs", "failures.rs"].contains(&file.as_str()),
                "{file} stands in no room"
            );
            continue;
        };
        for named in code.split("crate::").skip(1) {
            let named: String = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(
                named == *room || beneath.contains(&named.as_str()),
                "{file} names `{named}`, which `{room}` may not"
            );
        }
    }
}

/// A clock that is set back must not hold anything up, nor one that is set forward end a wait. Only what people read has
/// the time of day: what is told to Postgres (`pg_stat_replication.reply_time`), and what `walpost_core::clock` is asked for.
#[test]
fn nothing_reads_the_wall_clock() {
    for (file, code) in sources() {
        if is_in(&file, "replication/feedback") {
            continue;
        }
        for name in ["SystemTime", "Utc::now", "Local::now"] {
            assert!(!code.contains(name), "{file} names `{name}`; waits and decisions use `Instant`");
        }
    }
}

#[test]
fn a_client_is_named_by_its_owner_only() {
    for (file, code) in sources() {
        for (name, owners) in OWNED {
            let owned = owners.iter().any(|owner| is_in(&file, owner));
            assert!(owned || !code.contains(name), "{file} names `{name}`, which only {owners:?} may");
        }
    }
}

#[test]
fn server_and_relay_do_not_depend_on_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifest = |member: &str| fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
    assert!(!manifest("relay").contains("\nlogistic-package-api"));
    assert!(!manifest("server").contains("\nwalpost"));
}
