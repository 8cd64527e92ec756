//! `walpost check`: every precondition, on both sides, each with what was found and what mends it. It changes nothing,
//! and collects everything: the first problem does not hide the next.

mod failure;
mod kafka;
mod postgres;
mod registry;
mod table;
mod times;

use std::fmt;

use serde::Serialize;

use crate::config::Settings;

/// What is thought of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and may not for ever.
    Warning,
    /// walpost does not run, or is not safe.
    Failure,
    /// It could not be found out.
    Unknown,
}

/// What was found about one precondition.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// `postgres`, `registry` or `kafka`.
    pub side: &'static str,
    /// What was looked at.
    pub name: &'static str,
    /// What is thought of it.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What mends it; absent where nothing is to be mended.
    pub remedy: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    findings: Vec<Finding>,
    failures: usize,
    warnings: usize,
    unknown: usize,
}

impl Findings {
    /// Whether nothing failed, or, strictly, nothing is worth a warning either.
    #[must_use]
    pub fn pass(&self, strict: bool) -> bool {
        self.failures == 0 && (!strict || self.warnings == 0)
    }

    /// With commands for this source in what is to be done.
    fn with_source(mut self, settings: &Settings) -> Self {
        for finding in &mut self.findings {
            finding.remedy = finding.remedy.take().map(|remedy| settings.with_source(remedy));
        }
        self
    }

    fn add(&mut self, finding: Finding) {
        match finding.verdict {
            Verdict::Ok => {}
            Verdict::Warning => self.warnings += 1,
            Verdict::Failure => self.failures += 1,
            Verdict::Unknown => self.unknown += 1,
        }
        self.findings.push(finding);
    }

    /// The findings as lines, with colours or without.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let lines = self.findings.iter().map(|finding| finding.render(colours));
        let Self { failures, warnings, unknown, .. } = self;
        let sum = format!("{failures} failed, {warnings} warnings, {unknown} unknown");
        lines.chain([sum]).collect::<Vec<_>>().join("\n")
    }
}

impl Finding {
    fn render(&self, colours: bool) -> String {
        let (word, colour) = match self.verdict {
            Verdict::Ok => ("ok", "32"),
            Verdict::Warning => ("warning", "33"),
            Verdict::Failure => ("failure", "31"),
            Verdict::Unknown => ("unknown", "36"),
        };
        let word = if colours { format!("\x1b[{colour}m{word:<7}\x1b[0m") } else { format!("{word:<7}") };
        let line = format!("{word}  {:<8}  {:<17}  {}", self.side, self.name, self.found);
        match &self.remedy {
            // Under what was found.
            Some(remedy) => format!("{line}\n{:38}→ {remedy}", ""),
            None => line,
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Findings of one side, as they are made.
struct Side<'a> {
    side: &'static str,
    into: &'a mut Findings,
}

impl Side<'_> {
    fn ok(&mut self, name: &'static str, found: impl Into<String>) {
        self.add(name, Verdict::Ok, found.into(), None);
    }

    fn warn(&mut self, name: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Verdict::Warning, found.into(), Some(remedy.into()));
    }

    fn fail(&mut self, name: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Verdict::Failure, found.into(), Some(remedy.into()));
    }

    fn unknown(&mut self, name: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Verdict::Unknown, found.into(), Some(remedy.into()));
    }

    fn add(&mut self, name: &'static str, verdict: Verdict, found: String, remedy: Option<String>) {
        self.into.add(Finding { side: self.side, name, verdict, found, remedy });
    }
}

/// Looks at everything.
pub async fn run(settings: &Settings) -> Findings {
    let mut findings = Findings::default();
    let mut schemas = Findings::default();
    let typed = registry::check(settings, &mut Side { side: "registry", into: &mut schemas }).await;
    postgres::check(&typed, &mut Side { side: "postgres", into: &mut findings }).await;
    schemas.findings.into_iter().for_each(|finding| findings.add(finding));
    kafka::check(settings, &mut Side { side: "kafka", into: &mut findings }).await;
    findings.with_source(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_fails_and_a_warning_only_strictly() {
        let mut findings = Findings::default();
        let mut side = Side { side: "kafka", into: &mut findings };
        side.ok("topic", "there");
        side.warn("replicas", "1", "add brokers");
        assert!(findings.pass(false));
        assert!(!findings.pass(true));
        Side { side: "kafka", into: &mut findings }.fail("topic", "missing", "create it");
        assert!(!findings.pass(false));
        assert_eq!(
            findings.to_string(),
            "ok       kafka     topic              there\n\
             warning  kafka     replicas           1\n                                      → add brokers\n\
             failure  kafka     topic              missing\n                                      → create it\n\
             1 failed, 1 warnings, 0 unknown"
        );
    }
}
