//! Tells the crate which commit it is built from, and when that was made.
//!
//! Taken from `COMMIT_HASH` and `COMMIT_DATE` where they are set (an image or a package is built without `.git`), then from
//! git, then there is none. The date is the commit's and not the build's, so that two builds of one commit are the same.

use std::env;
use std::process::Command;

fn main() {
    for name in ["COMMIT_HASH", "COMMIT_DATE"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    // A release must name its commit, so it watches every move of HEAD. A debug build follows switches of the branch
    // only: linking all programs anew after each commit would cost more than a hash that is a little old.
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let watched = if release { "logs/HEAD" } else { "HEAD" };
    // In a worktree it is elsewhere than in `.git`. A path that is not there would make cargo build anew each time.
    if let Some(path) = git(&["rev-parse", "--path-format=absolute", "--git-path", watched])
        && std::path::Path::new(&path).exists()
    {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-changed=build.rs");

    let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let hash = given("COMMIT_HASH").or_else(|| git(&["rev-parse", "HEAD"]));
    let date =
        given("COMMIT_DATE").or_else(|| git(&["show", "--no-patch", "--format=%cs", hash.as_deref()?]));
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let told = match (&hash, &date) {
        (Some(hash), Some(date)) => format!("{version} (commit {}, {date})", short(hash)),
        (Some(hash), None) => format!("{version} (commit {})", short(hash)),
        (None, _) => format!("{version} (commit unknown)"),
    };
    println!("cargo::rustc-env=COMMIT_HASH={}", hash.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=VERSION_AND_COMMIT={told}");
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
