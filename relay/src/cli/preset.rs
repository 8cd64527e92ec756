//! `walpost preset NAME`: what a preset sets, as a settings file that does the same.

use std::fmt::Write as _;

use walpost_core::event::presets::{self, Preset};

/// The settings of a preset, or the names of all where there is no such.
///
/// # Errors
/// What there is instead.
pub fn print(name: &str) -> Result<String, String> {
    match presets::named(name) {
        Some(preset) => Ok(toml(preset)),
        None => {
            let names: Vec<_> = presets::PRESETS.iter().map(|preset| preset.name).collect();
            Err(format!("there is no preset `{name}`; there are {}", names.join(", ")))
        }
    }
}

fn toml(preset: &Preset) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(text, "# preset = {}: {}", quoted(preset.name), preset.about);
    for (key, value) in preset.settings {
        let _ = writeln!(text, "{key} = {}", quoted(value));
    }
    for (section, entries) in [("headers", preset.headers), ("fields", preset.fields)] {
        if entries.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n[{section}]");
        for (name, value) in entries {
            let _ = writeln!(text, "{} = {}", quoted(name), quoted(value));
        }
    }
    text.pop();
    text
}

/// A basic string of TOML, which escapes as JSON does.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_sets_what_the_preset_sets() {
        for preset in &presets::PRESETS {
            let table: toml::Table = print(preset.name).unwrap().parse().unwrap();
            let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
            for (key, value) in preset.settings {
                assert_eq!(text(&table[*key]), *value, "{}: {key}", preset.name);
            }
            for (name, value) in preset.headers {
                assert_eq!(text(&table["headers"][*name]), *value, "{}: {name}", preset.name);
            }
            for (name, value) in preset.fields {
                assert_eq!(text(&table["fields"][*name]), *value, "{}: {name}", preset.name);
            }
        }
        assert!(print("debezum").unwrap_err().contains("there are debezium, eventuate"));
    }
}
