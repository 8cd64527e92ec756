//! The rules of who may name what, held by reading the sources.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules without I/O, clocks or tasks.
const PURE: [&str; 9] =
    ["pgoutput", "outbox", "transaction", "encode", "dead_letter", "progress", "measure", "retry", "lsn"];

/// A crate or module, and the only places that may name it.
const OWNED: [(&str, &[&str]); 3] =
    [("pgwire_replication::", &["replication"]), ("rdkafka::", &["sink/kafka"]), ("crate::relay", &[])];

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
fn pure_modules_name_no_runtime_and_no_client() {
    for (file, code) in sources() {
        for module in PURE.iter().filter(|module| is_in(&file, module)) {
            for name in [
                "tokio",
                "rdkafka",
                "pgwire_replication",
                "tokio_postgres",
                "std::time::Instant",
                "SystemTime",
            ] {
                assert!(
                    !code.contains(name),
                    "{file} is part of `{module}`, which is pure, and names `{name}`"
                );
            }
        }
    }
}

/// A clock that is set back must not hold anything up, nor one that is set forward end a wait. Only what people read has
/// the time of day: what is told to Postgres (`pg_stat_replication.reply_time`), and what `clock` is asked for.
#[test]
fn nothing_reads_the_wall_clock() {
    for (file, code) in sources() {
        if is_in(&file, "replication/feedback") || is_in(&file, "clock") {
            continue;
        }
        for name in ["SystemTime", "Utc::now", "Local::now"] {
            assert!(!code.contains(name), "{file} names `{name}`; waits and decisions use `Instant`");
        }
    }
}

#[test]
fn a_client_and_the_loop_are_named_by_their_owners_only() {
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
