//! The documentation that comes from the table itself.

use std::fmt::Write;

use crate::load::map_env_prefix;
use crate::{Setting, Table};

/// The settings as a Markdown table, for the docs; a test compares it with what is committed.
#[must_use]
pub fn markdown(table: &Table) -> String {
    let mut text = String::from("| flag | environment | file | default | |\n|---|---|---|---|---|\n");
    for setting in table.settings {
        let default = setting.default.map_or(String::new(), |default| format!("`{default}`"));
        let _ = writeln!(
            text,
            "| `--{}` | {} | `{}` | {default} | {} |",
            setting.name,
            environment(setting, table.env_prefix),
            setting.key(),
            setting.help.replace('|', "\\|"),
        );
    }
    for map in table.maps {
        let env = match map.from_env {
            true => format!("`{}…`", map_env_prefix(map, table.env_prefix)),
            false => String::new(),
        };
        let _ = writeln!(
            text,
            "| `--{} KEY={}` | {env} | `[{}]` | | {} |",
            map.name,
            if map.of_tables { "{ … }" } else { "VALUE" },
            map.section,
            map.help.replace('|', "\\|")
        );
    }
    let sections = [
        table.repeated.map(|repeated| (repeated.section, repeated.help)),
        table.parts.map(|parts| (parts.section, parts.help)),
    ];
    for (section, help) in sections.into_iter().flatten() {
        let _ = writeln!(text, "| | | `[[{section}]]` | | {} |", help.replace('|', "\\|"));
    }
    text
}

fn environment(setting: &Setting, prefix: &str) -> String {
    let own = setting.env(prefix);
    let mut names = vec![format!("`{own}`")];
    if setting.secret {
        names.push(format!("`{own}_FILE`"));
    }
    names.extend(setting.env_fallbacks.iter().map(|name| format!("`{name}`")));
    names.join(", then ")
}

/// A settings file with every setting in it, commented out at its default.
#[must_use]
pub fn sample_file(table: &Table) -> String {
    let mut text = String::new();
    for setting in table.settings {
        let _ = writeln!(text, "# {}", setting.help);
        let _ = writeln!(text, "#{} = \"{}\"\n", setting.key(), setting.default.unwrap_or(""));
    }
    for map in table.maps {
        let _ = writeln!(text, "# {}\n[{}]", map.help, map.section);
    }
    text
}
