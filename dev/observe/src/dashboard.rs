//! What a Grafana dashboard asks of Prometheus.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// A dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// Its title.
    pub title: String,
    /// Its document.
    pub document: Value,
}

/// A question of a panel.
#[derive(Debug)]
pub struct Query {
    /// The panel's title.
    pub panel: String,
    /// The question, with nothing left in it that Grafana would put in.
    pub expr: String,
}

/// What Grafana puts into a question, and what a test does: a range that holds some scrapes, and every instance and source. The
/// longer names come first.
const PUT_IN: [(&str, &str); 10] = [
    ("$__rate_interval", "20s"),
    ("${__rate_interval}", "20s"),
    ("$__range", "5m"),
    ("${__range}", "5m"),
    ("$__interval", "5s"),
    ("${__interval}", "5s"),
    ("$instance", ".*"),
    ("${instance}", ".*"),
    // No series has the label where there is one source without a name.
    ("$source", ".*"),
    ("${source}", ".*"),
];

impl Dashboard {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not there or not JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let document: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(Self { title: text_of(&document, "title"), document })
    }

    /// Its panels, those in rows among them, but for the rows themselves.
    #[must_use]
    pub fn panels(&self) -> Vec<&Value> {
        let mut found = Vec::new();
        collect(&self.document, &mut found);
        found.retain(|panel| text_of(panel, "type") != "row");
        found
    }

    /// All that its panels ask.
    #[must_use]
    pub fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            for target in array(panel, "targets") {
                let expr = PUT_IN
                    .iter()
                    .fold(text_of(target, "expr"), |expr, (name, value)| expr.replace(name, value));
                queries.push(Query { panel: text_of(panel, "title"), expr });
            }
        }
        queries
    }
}

fn collect<'a>(inside: &'a Value, found: &mut Vec<&'a Value>) {
    for panel in array(inside, "panels") {
        found.push(panel);
        collect(panel, found);
    }
}

/// The items of a list, none where there is no list.
pub fn array<'a>(inside: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    inside.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// A text, empty where there is none.
#[must_use]
pub fn text_of(inside: &Value, name: &str) -> String {
    inside.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn panels_in_rows_are_found_and_variables_put_in() {
        let target = json!({"expr": "rate(a{instance=~\"$instance\"}[$__rate_interval])"});
        let panel = json!({"type": "stat", "title": "p", "targets": [target]});
        let document = json!({"title": "t", "panels": [{"type": "row", "panels": [panel]}, panel]});
        let dashboard = Dashboard { title: "t".into(), document };
        let queries = dashboard.queries();
        assert_eq!(queries.len(), 2);
        assert_eq!(queries[0].expr, "rate(a{instance=~\".*\"}[20s])");
    }
}
