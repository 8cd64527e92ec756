//! `walpost preset NAME`: what a preset sets, as a settings file that does the same.

use super::settings_file;
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
    let comment = format!("preset = {}: {}", settings_file::quoted(preset.name), preset.about);
    settings_file::toml([comment], preset.settings, preset.headers, preset.fields)
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
