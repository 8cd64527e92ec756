//! What a measurement found: a section of the report, kept as a file so that one can be measured again alone.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use harness::stack::repository;
use serde::{Deserialize, Serialize};

/// A part of the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Section {
    /// The subcommand that measures it.
    pub(crate) name: String,
    pub(crate) title: String,
    /// What was done, and how to read the figures.
    pub(crate) text: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
}

/// Figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Bars, one for each label.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plot {
    /// The file's name, without its ending.
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) bars: Vec<(String, f64)>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, values: impl IntoIterator<Item = String>) {
        self.rows.push(values.into_iter().collect());
    }

    /// As Markdown, which reads well on a terminal too.
    pub(crate) fn markdown(&self) -> String {
        let line = |values: &[String]| format!("| {} |\n", values.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.columns.len()));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{rule}{rows}", line(&self.columns))
    }
}

impl Section {
    /// Prints it and keeps it.
    pub(crate) fn keep(&self) -> Result<()> {
        for table in &self.tables {
            println!("\n{}", table.markdown());
        }
        fs::create_dir_all(folder())?;
        let path = folder().join(format!("{}.json", self.name));
        fs::write(&path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }

    /// What was kept of the last measurement of that name.
    pub(crate) fn kept(name: &str) -> Result<Option<Self>> {
        let path = folder().join(format!("{name}.json"));
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path)?;
        Ok(Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?))
    }
}

fn folder() -> PathBuf {
    repository().join("target/bench")
}

/// The value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which `share` of all are. `values` must be sorted.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let index = (last as f64 * share).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}
