//! What operators look at, held against the system as it runs.

/// Figures that a page has from another.
mod figures;

/// Links between the pages.
mod links;

/// The package API, the relay and the facade, between a Postgres, a Kafka and a Prometheus.
mod system;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::stack::repository;
use harness::wait_until;
use observe::dashboard::{Dashboard, array, text_of};
use observe::names;
use observe::prometheus::is_there;
use system::System;

/// Rates need some scrapes, and the relay's questions to Postgres some seconds.
const DEADLINE: Duration = Duration::from_secs(60);

fn files(folder: &str, extension: &str) -> Result<Vec<PathBuf>> {
    let folder = repository().join(folder);
    let found = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<_> = found.filter_map(|file| Some(file.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    ensure!(!files.is_empty(), "{} holds no .{extension}", folder.display());
    Ok(files)
}

fn dashboards() -> Result<Vec<Dashboard>> {
    files("deploy/grafana/dashboards", "json")?.iter().map(|file| Dashboard::read(file)).collect()
}

/// One system for both: it is what takes the time.
#[tokio::test]
async fn every_panel_has_data_and_a_system_that_is_well_fires_no_alert() -> Result<()> {
    if !is_there()? {
        return Ok(());
    }
    let system = System::start().await?;
    let mut empty = Vec::new();
    let answered = wait_until("every query of every panel returns data", DEADLINE, async || {
        system.change_packages().await?;
        empty.clear();
        for dashboard in dashboards()? {
            for query in dashboard.queries() {
                if system.prometheus.ask(&query.expr).await?.is_empty() {
                    empty.push(format!("{} / {}: {}", dashboard.title, query.panel, query.expr));
                }
            }
        }
        Ok(empty.is_empty())
    });
    answered.await.with_context(|| format!("no data for\n{}", empty.join("\n")))?;

    let rules = system.prometheus.rules().await?;
    ensure!(rules.len() >= 10, "the rules were not loaded: {rules:?}");
    let served = system.served().await?;
    for rule in &rules {
        let (name, query) = (text_of(rule, "name"), text_of(rule, "query"));
        ensure!(text_of(rule, "lastError").is_empty(), "{name}: {rule}");
        ensure!(text_of(rule, "state") != "firing", "{name} fires while all is well: {rule}");
        let unknown: Vec<_> =
            names::in_query(&query).into_iter().filter(|name| !served.contains(name)).collect();
        ensure!(unknown.is_empty(), "{name} asks for what is not served: {unknown:?}");
    }
    Ok(())
}

#[test]
fn alerts_fire_when_they_should_and_not_when_they_should_not() -> Result<()> {
    if !is_there()? {
        return Ok(());
    }
    let checked = Command::new("bash").arg(repository().join("deploy/prometheus/check.sh")).output()?;
    let said = [checked.stdout, checked.stderr].concat();
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn every_panel_says_what_it_shows_and_leads_to_a_page_that_is_there() -> Result<()> {
    let runbook = std::fs::read_to_string(repository().join("docs/runbook.md"))?;
    let anchors: Vec<_> =
        runbook.lines().filter_map(|line| Some(line.strip_prefix("## ")?.to_lowercase())).collect();
    let mut linked = 0;
    for dashboard in dashboards()? {
        for panel in dashboard.panels() {
            let title = text_of(panel, "title");
            ensure!(!title.is_empty(), "a panel without a title in {}", dashboard.title);
            ensure!(!text_of(panel, "description").is_empty(), "{title} does not say what it shows");
            for link in array(panel, "links") {
                let url = text_of(link, "url");
                let Some((_, anchor)) = url.split_once("docs/runbook.md#") else { continue };
                ensure!(
                    anchors.iter().any(|known| known == anchor),
                    "{title} leads to {url}, which is not there"
                );
                linked += 1;
            }
        }
    }
    ensure!(linked >= 5, "only {linked} panels lead to the runbook");
    Ok(())
}
