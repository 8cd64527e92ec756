//! Who may name whom, and that nothing here waits, connects or reads a clock, held by reading the sources.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A room, and those that it may name beside itself.
const MAY_NAME: [(&str, &[&str]); 8] = [
    ("audit", &["lsn", "event"]),
    ("clock", &[]),
    ("lsn", &[]),
    ("time", &[]),
    ("pgoutput", &["lsn"]),
    ("event", &["lsn", "time", "pgoutput"]),
    ("window", &["lsn", "time", "pgoutput", "event"]),
    ("publish", &["lsn", "clock", "event", "window"]),
];

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The code of a room's files without its comments and tests, which may name anything.
fn sources(room: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    if root.join(room).is_dir() {
        files(&root.join(room), &mut paths);
    } else {
        paths.push(root.join(room).with_extension("rs"));
    }
    let tests = ["tests.rs", "model.rs", "broker.rs", "committed.rs", "committed_kafka.rs"];
    paths.retain(|path| !tests.iter().any(|name| path.ends_with(name)));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().take_while(|line| *line != "#[cfg(test)]" || !text.contains("\nmod tests {"));
        let code: Vec<_> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
        (path.display().to_string(), code.join("\n"))
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn each_room_names_those_beneath_it_only() {
    for (room, beneath) in MAY_NAME {
        for (file, code) in sources(room) {
            for named in code.split("crate::").skip(1) {
                let named: String = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(
                    named == room || beneath.contains(&named.as_str()),
                    "{file} names `{named}`, which `{room}` may not"
                );
            }
        }
    }
}

/// A clock that is set back must not hold anything up. Only what people read has the time of day, from `clock`.
#[test]
fn nothing_waits_or_reads_a_clock() {
    for (room, _) in MAY_NAME.iter().filter(|(room, _)| *room != "clock") {
        for (file, code) in sources(room) {
            for name in ["tokio", "SystemTime", "Utc::now", "Local::now", "Instant::now"] {
                assert!(!code.contains(name), "{file} names `{name}`");
            }
        }
    }
}
