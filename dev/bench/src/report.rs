//! BENCHMARKS.md, out of what was kept of each measurement.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use harness::Database;
use harness::stack::{Output, repository, script};
use tokio::process::Command;

use crate::section::Section;
use crate::{Bench, MEASUREMENTS, PEERS, plot};

/// Between these lines the README has the table of the peers.
const README_TABLE: [&str; 2] =
    ["<!-- peers: written by `make bench ONLY=peers` -->\n", "<!-- end of peers -->\n"];

/// Writes the report and its plots; where something was never measured here, only the sections of `named`, into the report
/// that is there.
pub(crate) async fn write(bench: &Bench, named: &[String]) -> Result<()> {
    let sections = MEASUREMENTS.iter().map(|name| Section::kept(name)).collect::<Result<Vec<_>>>()?;
    let is_missing = |(section, name): (&Option<Section>, &'static str)| {
        (section.is_none() && name != PEERS).then_some(name)
    };
    let missing = sections.iter().zip(MEASUREMENTS).find_map(is_missing);
    let sections = sections.into_iter().flatten();
    let path = repository().join("BENCHMARKS.md");
    let text = match missing {
        None => {
            let mut text = head(bench).await?;
            for section in sections {
                write!(text, "\n{}", markdown(section)?)?;
            }
            text
        }
        Some(missing) => {
            println!(
                "\n`{missing}` was not measured here: the other sections of BENCHMARKS.md stay as they are"
            );
            let mut text = fs::read_to_string(&path)?;
            let (commit, cpu) = (commit().await?, cpu_model()?);
            for mut section in sections.filter(|section| named.contains(&section.name)) {
                write!(section.text, " Measured at commit {commit} on {cpu}.")?;
                text = with_section(&text, &section.title.clone(), &markdown(section)?);
            }
            text
        }
    };
    fs::write(&path, text)?;
    println!("\nwritten: {}", path.display());
    if let Some(peers) = Section::kept(PEERS)? {
        let table = peers.tables.first().context("a table of the peers")?.markdown();
        let readme = repository().join("README.md");
        fs::write(&readme, between(&fs::read_to_string(&readme)?, README_TABLE, &table)?)?;
    }
    Ok(())
}

async fn head(bench: &Bench) -> Result<String> {
    let said = wrapped(
        "Written by `make bench`, which needs nothing but this repository, and verifies while it measures. What counts \
         are the ratios: both sides of each were measured in turn, in one run, on one machine. How the relay came to be \
         this fast, and what limits it, is told in [docs/performance.md](docs/performance.md).",
    );
    Ok(format!("# Benchmarks\n\n{said}\n\n| | |\n|---|---|\n{}", machine(bench).await?))
}

/// A section of the report; draws its plots.
fn markdown(section: Section) -> Result<String> {
    let Section { name, title, text: said, tables, plots } = section;
    let mut text = format!("## {title}\n\n{}\n", wrapped(&said));
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
    Ok(text)
}

/// The report with this section in place of the one with its title, or at the end.
fn with_section(report: &str, title: &str, section: &str) -> String {
    let heading = format!("\n## {title}\n");
    match report.split_once(&heading) {
        Some((before, old)) => {
            let after = old.find("\n## ").map_or("", |end| &old[end..]);
            format!("{before}\n{section}{after}")
        }
        None => format!("{report}\n{section}"),
    }
}

/// The page with other lines between two of its lines.
fn between(page: &str, [begin, end]: [&str; 2], lines: &str) -> Result<String> {
    let (before, rest) = page.split_once(begin).with_context(|| format!("README.md has no line {begin}"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("README.md has no line {end}"))?;
    Ok(format!("{before}{begin}\n{lines}\n{end}{after}"))
}

async fn machine(bench: &Bench) -> Result<String> {
    let database = Database::fresh(&bench.stack.database_url).await?;
    let row = database.client().await?.query_one("show server_version", &[]).await?;
    let postgres: String = row.get(0);
    let cpu = cpu_model()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kilobytes: u64 = memory.split_whitespace().nth(1).context("MemTotal")?.parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let rustc = said("rustc", &["--version"]).await?;
    let commit = commit().await?;
    Ok(format!(
        "| machine | {cpu}, {} GiB, Linux {} |\n| servers | PostgreSQL {}, Apache Kafka {} with one \
         broker, both on that machine |\n| built with | {rustc}, release profile |\n| commit | {commit} |\n| command | \
         `make bench` |\n",
        kilobytes >> 20,
        kernel.trim(),
        postgres.split_whitespace().next().unwrap_or_default(),
        kafka_version().await?,
    ))
}

/// Such as: 2 cores of Intel(R) Xeon(R) Processor.
fn cpu_model() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores of {}", model.map_or("unknown", |(_, name)| name)))
}

async fn commit() -> Result<String> {
    said("git", &["rev-parse", "--short", "HEAD"]).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_one_with_its_title() {
        let report = "# R\n\n## A\n\nold\n\n## B\n\nb\n";
        assert_eq!(with_section(report, "A", "## A\n\nnew\n"), "# R\n\n## A\n\nnew\n\n## B\n\nb\n");
        assert_eq!(with_section(report, "B", "## B\n\nnew\n"), "# R\n\n## A\n\nold\n\n## B\n\nnew\n");
        assert_eq!(with_section(report, "C", "## C\n"), format!("{report}\n## C\n"));
    }

    #[test]
    fn lines_of_a_page_are_replaced_between_two_others() -> Result<()> {
        let marks = ["<begin>\n", "<end>\n"];
        let page = between("a\n<begin>\n<end>\nb\n", marks, "| 1 |\n")?;
        assert_eq!(page, "a\n<begin>\n\n| 1 |\n\n<end>\nb\n");
        assert_eq!(between(&page, marks, "| 1 |\n")?, page);
        assert!(between("a\n", marks, "").is_err());
        Ok(())
    }
}
