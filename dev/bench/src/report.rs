//! BENCHMARKS.md, out of what was kept of each measurement.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use harness::Database;
use harness::stack::{Output, repository, script};
use tokio::process::Command;

use crate::section::Section;
use crate::{Bench, MEASUREMENTS, plot};

/// Writes the report and its plots.
pub(crate) async fn write(bench: &Bench) -> Result<()> {
    let said = wrapped(
        "Written by `make bench`, which needs nothing but this repository, and verifies while it measures. What counts \
         are the ratios: both sides of each were measured in turn, in one run, on one machine. How the relay came to be \
         this fast, and what limits it, is told in [docs/performance.md](docs/performance.md).",
    );
    let machine = machine(bench).await?;
    let mut text = format!("# Benchmarks\n\n{said}\n\n| | |\n|---|---|\n{machine}");
    let sections = MEASUREMENTS.iter().map(|name| Section::kept(name)).collect::<Result<Vec<_>>>()?;
    for (section, name) in sections.iter().zip(MEASUREMENTS) {
        if section.is_none() {
            println!("\nBENCHMARKS.md is left as it is: `{name}` was not measured yet");
            return Ok(());
        }
    }
    for section in sections.into_iter().flatten() {
        let Section { name, title, text: said, tables, plots } = section;
        write!(text, "\n## {title}\n\n{}\n", wrapped(&said))?;
        for table in tables {
            write!(text, "\n{}", table.markdown())?;
        }
        for drawn in plots {
            let path = format!("docs/bench/{}.svg", drawn.file);
            fs::create_dir_all(repository().join("docs/bench"))?;
            fs::write(repository().join(&path), plot::svg(&drawn))?;
            write!(text, "\n![{}]({path})\n", drawn.title)?;
        }
        write!(text, "\nAgain: `make bench ONLY={name}`\n")?;
    }
    let path = repository().join("BENCHMARKS.md");
    fs::write(&path, text)?;
    println!("\nwritten: {}", path.display());
    Ok(())
}

async fn machine(bench: &Bench) -> Result<String> {
    let database = Database::fresh(&bench.stack.database_url).await?;
    let row = database.client().await?.query_one("show server_version", &[]).await?;
    let postgres: String = row.get(0);
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kilobytes: u64 = memory.split_whitespace().nth(1).context("MemTotal")?.parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let rustc = said("rustc", &["--version"]).await?;
    let commit = said("git", &["rev-parse", "--short", "HEAD"]).await?;
    Ok(format!(
        "| machine | {cores} cores of {}, {} GiB, Linux {} |\n| servers | PostgreSQL {}, Apache Kafka {} with one \
         broker, both on that machine |\n| built with | {rustc}, release profile |\n| commit | {commit} |\n| command | \
         `make bench` |\n",
        model.map_or("unknown", |(_, name)| name),
        kilobytes >> 20,
        kernel.trim(),
        postgres.split_whitespace().next().unwrap_or_default(),
        kafka_version().await?,
    ))
}

/// The version that the development stack fetches.
async fn kafka_version() -> Result<String> {
    let versions = script(&["versions"], Output::Quiet).await?;
    let version = versions.lines().find_map(|line| line.strip_prefix("kafka "));
    Ok(version.context("stack.py versions does not name Kafka's")?.trim().to_owned())
}

async fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(repository()).output().await?;
    ensure!(output.status.success(), "{program} failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// In lines of 120 characters at the most.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().map_or(0, |line| line.len());
        if line > 0 && line + 1 + word.len() > 120 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
