//! A Prometheus of a test's own, with the repository's configuration, which scrapes what the test runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::stack::repository;
use harness::{Process, Program, http, port, wait_until};
use serde_json::Value;

/// It reads its rules and an empty store.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A Prometheus that runs; it is killed when this is dropped.
pub struct Prometheus {
    addr: SocketAddr,
    _process: Process,
    folder: PathBuf,
}

/// Whether there is a Prometheus to be tested with. CI insists (`REQUIRE_PROMETHEUS`).
///
/// # Errors
/// When there is none and somebody insists.
pub fn is_there() -> Result<bool> {
    if find("prometheus").is_some() && find("promtool").is_some() {
        return Ok(true);
    }
    ensure!(std::env::var_os("REQUIRE_PROMETHEUS").is_none(), "prometheus and promtool are not installed");
    eprintln!("not tested: install prometheus, with promtool (Debian's package has both)");
    Ok(false)
}

fn find(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file())
}

impl Prometheus {
    /// Starts it, in the place of the addresses that its configuration has.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(targets: &[(&str, SocketAddr)]) -> Result<Self> {
        let addr = port::free()?;
        let folder = std::env::temp_dir().join(format!("walpost-prometheus-{}", addr.port()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("prometheus.yml");
        std::fs::write(&config, configuration(targets, addr)?)?;
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={addr}"),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let process =
            Program::new(find("prometheus").context("no prometheus")?).log_on_drop(true).spawn(&arguments)?;
        let prometheus = Self { addr, _process: process, folder };
        wait_until("Prometheus is ready", READY_DEADLINE, async || {
            Ok(http::get(addr, "/-/ready").await.is_ok_and(|ready| ready.status == 200))
        })
        .await?;
        Ok(prometheus)
    }

    /// What a question is answered with, now: the series.
    ///
    /// # Errors
    /// When it is not a question that Prometheus understands.
    pub async fn ask(&self, query: &str) -> Result<Vec<Value>> {
        let query: String =
            form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let data = self.get(&format!("/api/v1/query?{query}")).await?;
        // A quantile of no events is not a number, and no answer.
        let is_known = |series: &&Value| series.pointer("/value/1").is_some_and(|value| value != "NaN");
        Ok(crate::dashboard::array(&data, "result").filter(is_known).cloned().collect())
    }

    /// Its rules, as it evaluates them.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn rules(&self) -> Result<Vec<Value>> {
        let data = self.get("/api/v1/rules").await?;
        let groups = crate::dashboard::array(&data, "groups");
        Ok(groups
            .flat_map(|group| crate::dashboard::array(group, "rules").cloned().collect::<Vec<_>>())
            .collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = http::get(self.addr, path).await?;
        let body: Value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
        ensure!(answer.status == 200, "{path}: {}", answer.body);
        Ok(body.get("data").cloned().unwrap_or_default())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How the bot is found where it may be absent, and how it is found where it is at an address that is known.
const BY_NAME: &str = "\
    dns_sd_configs:
      - names: [\"logistic-package-api-bot\"]
        type: A
        port: 9102
";
const STATIC: &str = "\
    static_configs:
      - targets: [\"logistic-package-api-bot:9102\"]
";

/// The repository's configuration with the test's addresses, scraping each second.
fn configuration(targets: &[(&str, SocketAddr)], own: SocketAddr) -> Result<String> {
    let folder = repository().join("deploy/prometheus");
    let mut text = std::fs::read_to_string(folder.join("prometheus.yml"))?;
    text = text.replace(BY_NAME, STATIC);
    for (place, addr) in targets {
        ensure!(text.contains(place), "prometheus.yml does not scrape {place}");
        text = text.replace(place, &addr.to_string());
    }
    text = text.replace("localhost:9090", &own.to_string());
    text = with(&text, "scrape_interval", "1s");
    text = with(&text, "scrape_timeout", "1s");
    text = with(&text, "evaluation_interval", "1s");
    Ok(rules_at(&text, &folder))
}

/// The text with this setting changed, wherever it stands.
fn with(text: &str, name: &str, value: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix(name) {
        Some(rest) if rest.starts_with(':') => {
            format!("{}{name}: {value}", &line[..line.len() - line.trim_start().len()])
        }
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The rules, whose place the configuration has as it is in the container.
fn rules_at(text: &str, folder: &Path) -> String {
    text.replace("/etc/prometheus/rules", &folder.join("rules").display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_changed_where_it_stands() {
        let text = "global:\n  scrape_interval: 5s\n  x: 1\n";
        assert_eq!(with(text, "scrape_interval", "1s"), "global:\n  scrape_interval: 1s\n  x: 1");
    }
}
