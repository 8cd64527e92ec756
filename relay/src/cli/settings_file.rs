//! A settings file, as it is printed to be kept.

use std::fmt::{Display, Write as _};

/// Top level, then the sections `headers` and `fields` where they have entries. A comment is a line.
pub(super) fn toml<T: AsRef<str>>(
    comments: impl IntoIterator<Item = impl Display>,
    settings: &[(&str, T)],
    headers: &[(T, T)],
    fields: &[(T, T)],
) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    for comment in comments {
        let _ = writeln!(text, "# {comment}");
    }
    for (setting, value) in settings {
        let _ = writeln!(text, "{setting} = {}", quoted(value.as_ref()));
    }
    for (section, entries) in [("headers", headers), ("fields", fields)] {
        if entries.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n[{section}]");
        for (name, value) in entries {
            let _ = writeln!(text, "{} = {}", quoted(name.as_ref()), quoted(value.as_ref()));
        }
    }
    text.pop();
    text
}

/// A basic string of TOML, which escapes as JSON does.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
