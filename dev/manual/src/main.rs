//! `manual FOLDER`: man pages and shell completions, as files to be installed.
//!
//! ```text
//! FOLDER/PROGRAM/man/PROGRAM.1, PROGRAM-SUBCOMMAND.1
//! FOLDER/PROGRAM/completions/PROGRAM.bash, _PROGRAM (zsh), PROGRAM.fish
//! ```
//!
//! They are made from the same tables that the programs read their command lines by, so they cannot say anything else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::{Shell, generate_to};

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: manual FOLDER")?;
    for command in [walpost::cli::command(), logistic_package_api::cli::command()] {
        write(command, &PathBuf::from(&folder))?;
    }
    Ok(())
}

fn write(mut command: Command, folder: &Path) -> Result<()> {
    let name = command.get_name().to_owned();
    let (man, completions) = (folder.join(&name).join("man"), folder.join(&name).join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    // `PROGRAM help` shows these pages' texts, and needs none of its own. Completions make one, so this comes first.
    let without_help = command.clone().disable_help_subcommand(true);
    for shell in SHELLS {
        generate_to(shell, &mut command, &name, &completions)?;
    }
    clap_mangen::generate_to(without_help, &man).with_context(|| man.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subcommand_has_a_page_and_each_shell_its_completions() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("manual-{}", std::process::id()));
        write(walpost::cli::command(), &folder)?;
        let read = |path: &str| fs::read_to_string(folder.join("walpost").join(path));
        assert!(read("man/walpost.1")?.contains("drain\\-timeout\\-ms"), "settings are on the page");
        for subcommand in walpost::cli::command().get_subcommands() {
            let page = read(&format!("man/walpost-{}.1", subcommand.get_name()))?;
            assert!(page.contains(".SH NAME"), "{}", subcommand.get_name());
        }
        assert!(!folder.join("walpost/man/walpost-help.1").exists());
        for completions in ["walpost.bash", "_walpost", "walpost.fish"] {
            assert!(read(&format!("completions/{completions}"))?.contains("recover"), "{completions}");
        }
        fs::remove_dir_all(folder)?;
        Ok(())
    }
}
