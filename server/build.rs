//! Tells the crate which commit it was built from, and cargo what a build depends on.

use std::env;
use std::process::Command;

fn main() {
    // `migrate!` embeds the folder, and a macro cannot say so itself.
    println!("cargo::rerun-if-changed=../migrations");
    println!("cargo::rerun-if-env-changed=COMMIT_HASH");
    // A release must name its commit, so it watches every move of HEAD. A debug build follows switches of the branch
    // only: relinking the server after each commit would cost more than a hash that is a little old.
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    println!("cargo::rerun-if-changed=../.git/{}", if release { "logs/HEAD" } else { "HEAD" });

    // An image is built without `.git` and says what it is built from.
    let given = env::var("COMMIT_HASH").ok().filter(|hash| !hash.is_empty());
    let hash = given.or_else(head).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=COMMIT_HASH={hash}");
}

fn head() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !hash.is_empty()).then_some(hash)
}
