//! How what happened is compared with what a case expects.

use anyhow::{Result, bail, ensure};
use chrono::{DateTime, Utc};
use regex::Regex;
use serde_json::{Map, Value};

/// Whether `found` is what `expected` says: a value, or an object such as `{"contains": "x"}`. Further keys may be there.
pub fn matches(expected: &Value, found: &Value) -> Result<()> {
    match expected {
        Value::Object(rule) => match rule_of(rule) {
            Some((name, operand)) => follows(name, operand, found),
            None => has(rule, found),
        },
        Value::Array(items) => {
            let Some(others) = found.as_array() else { bail!("{found} is no list") };
            ensure!(items.len() == others.len(), "{found}: {} items, not {}", others.len(), items.len());
            items.iter().zip(others).try_for_each(|(item, other)| matches(item, other))
        }
        _ => {
            ensure!(same(expected, found), "{found} is not {expected}");
            Ok(())
        }
    }
}

fn rule_of(rule: &Map<String, Value>) -> Option<(&str, &Value)> {
    let names = ["contains", "starts_with", "regex", "one_of", "equals", "visible_contains", "rfc3339"];
    let (name, operand) = rule.iter().next()?;
    (rule.len() == 1 && names.contains(&name.as_str())).then_some((name, operand))
}

fn has(fields: &Map<String, Value>, found: &Value) -> Result<()> {
    for (name, expected) in fields {
        matches(expected, &found[name]).map_err(|error| error.context(format!("`{name}`")))?;
    }
    Ok(())
}

fn follows(name: &str, operand: &Value, found: &Value) -> Result<()> {
    let text = trimmed(found.as_str().unwrap_or_default());
    let part = operand.as_str().unwrap_or_default();
    let holds = match name {
        "contains" => text.contains(part),
        "starts_with" => text.starts_with(part),
        "regex" => Regex::new(part)?.is_match(&text),
        "one_of" => operand.as_array().is_some_and(|all| all.iter().any(|one| same(one, found))),
        "visible_contains" => operand
            .as_array()
            .is_some_and(|all| all.iter().all(|one| text.contains(one.as_str().unwrap_or("?")))),
        "rfc3339" => DateTime::parse_from_rfc3339(&text)
            .is_ok_and(|time| (Utc::now() - time.to_utc()).num_seconds().abs() < 60),
        _ => same(operand, found),
    };
    ensure!(holds, "{found} does not follow {name} {operand}");
    Ok(())
}

/// A number is as good as its decimal text, and blanks at the ends of lines do not count.
fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(number), Value::Number(other)) => number.as_f64() == other.as_f64(),
        (Value::Number(number), Value::String(text)) | (Value::String(text), Value::Number(number)) => {
            number.to_string() == *text
        }
        (Value::String(text), Value::String(other)) => trimmed(text) == trimmed(other),
        _ => expected == found,
    }
}

fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Each of `found` is one of `expected`, and each of `expected` that is not optional is found. `judge` compares two. In
/// order, where it matters.
pub fn all<T: std::fmt::Debug>(
    expected: &[Value],
    found: &[T],
    in_order: bool,
    judge: impl Fn(&Value, &T) -> Result<()>,
) -> Result<()> {
    let mut left: Vec<&Value> = expected.iter().collect();
    for one in found {
        let mut reasons = Vec::new();
        let at = left.iter().position(|expected| {
            judge(expected, one).map_err(|error| reasons.push(format!("{error:#}"))).is_ok()
        });
        let Some(at) = at else { bail!("not expected: {one:?}\n{}", reasons.join("\n")) };
        if in_order {
            let passed_over: Vec<_> = left.drain(..at).filter(|passed| passed["optional"] != true).collect();
            ensure!(passed_over.is_empty(), "too late, after {one:?}: {passed_over:?}");
        }
        let at = if in_order { 0 } else { at };
        if left[at]["repeats"] != true {
            left.remove(at);
        }
    }
    left.retain(|expected| expected["optional"] != true);
    ensure!(left.is_empty(), "missing: {left:?}, among {found:?}");
    Ok(())
}
