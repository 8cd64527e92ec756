//! What each program says of itself: which version it is, from which commit, and to systemd whether it runs.

pub mod files;
pub mod service;

/// What `--version` prints behind the program's name: `0.2.0 (commit 4f0a20dcb1d8, 2026-11-26)`. All programs have the
/// version of the workspace.
pub const VERSION: &str = env!("VERSION_AND_COMMIT");

/// The whole hash of the commit it was built from, or `unknown`.
pub const COMMIT_HASH: &str = env!("COMMIT_HASH");

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// What is said to be needed is what everything is built with, wherever that is written.
    #[test]
    fn one_version_of_rust_is_named_everywhere() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let read = |file: &str| fs::read_to_string(root.join(file)).expect(file);
        let toolchain = read("rust-toolchain.toml");
        let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'));
        let channel = channel.expect("rust-toolchain.toml has a channel");
        let (minor, _) = channel.rsplit_once('.').expect("a whole version");
        assert!(read("Cargo.toml").contains(&format!("rust-version = \"{minor}\"")));
        assert!(read("deploy/docker/Dockerfile").contains(&format!("RUST_VERSION={channel}\n")));
        for file in
            [".github/workflows/ci.yml", ".github/workflows/release.yml", ".devcontainer/devcontainer.json"]
        {
            assert!(read(file).contains(&format!("rust:{channel}-bookworm")), "{file}");
        }
    }

    #[test]
    fn the_version_names_the_commit_and_its_date() {
        let version = concat!(env!("CARGO_PKG_VERSION"), " (commit ");
        assert!(super::VERSION.starts_with(version), "{}", super::VERSION);
        let short = super::COMMIT_HASH.get(..12).unwrap_or(super::COMMIT_HASH);
        assert!(super::VERSION.contains(short), "{} is of another commit", super::VERSION);
    }
}
