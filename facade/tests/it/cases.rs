use anyhow::{Context, Result, ensure};
use harness::{Topic, Written};
use logistic_package_proto::package_event::{EventType, PackageEvent};
use prost::Message as _;
use prost_types::Timestamp;
use serde_json::{Value, json};

use crate::case::{Case, Facade, event};

/// One row after the other, each ended by a record that is known to be printed: what stands before that on standard output
/// is the row's.
#[tokio::test]
async fn each_record_is_printed_as_its_row_says() -> Result<()> {
    let rows: Value = serde_json::from_str(include_str!("../cases.json"))?;
    let case = Case::new().await?;
    let mut facade = case.start()?;
    let mut seen = 0;
    for (number, row) in rows["cases"].as_array().context("cases")?.iter().enumerate() {
        let name = row["title"].as_str().context("title")?;
        let logged = facade.process.log().len();
        let printed = printed_for(&case, &mut facade, row, number, &mut seen).await?;
        let log = facade.process.log();
        judge(row, &printed, log.get(logged..).unwrap_or_default())
            .with_context(|| format!("{name}\nprinted: {printed}\nlog: {}", &log[logged..]))?;
    }
    facade.stop().await
}

async fn printed_for(
    case: &Case,
    facade: &mut Facade,
    row: &Value,
    number: usize,
    seen: &mut usize,
) -> Result<String> {
    let (topic, marker, end) = match row["topic"].as_str() {
        Some("package-events") => {
            let id = 999_000 + u64::try_from(number)?;
            let end = format!(
                "{{\n    \"ID\": {id},\n    \"PackageID\": 7,\n    \"Type\": \"Created\",\n    \"Created\": \"1970-01-01T00:00:00Z\",\n    \"Payload\": null\n}}\n"
            );
            (&case.events, event(id, b""), end)
        }
        Some(name) => {
            (bot_topic(case, name)?, format!("\"end {number}\"").into_bytes(), format!("\"end {number}\"\n"))
        }
        None => anyhow::bail!("no topic"),
    };
    let value = value(row)?;
    topic.write(&[Written { value: value.as_deref(), ..Written::default() }]).await?;
    topic.write(&[Written { value: Some(&marker), ..Written::default() }]).await?;
    facade.prints(&end).await?;
    let all = facade.printed();
    let printed = all[*seen..].strip_suffix(&end).context("nothing stands behind the end")?.to_owned();
    *seen = all.len();
    Ok(printed)
}

fn bot_topic<'a>(case: &'a Case, name: &str) -> Result<&'a Topic> {
    match name {
        "commands" => Ok(&case.commands),
        "cache-events" => Ok(&case.cache),
        "other" => Ok(&case.other),
        _ => anyhow::bail!("no topic is called {name}"),
    }
}

/// The value as the row gives it: as text, as bytes in hexadecimal digits, as an event, or none at all.
fn value(row: &Value) -> Result<Option<Vec<u8>>> {
    if let Some(text) = row["text"].as_str() {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    if let Some(digits) = row["hex"].as_str() {
        return bytes(digits).map(Some);
    }
    if row["event"].is_object() { of_event(&row["event"]).map(Some) } else { Ok(None) }
}

fn bytes(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair)?, 16).map_err(Into::into));
    pairs.collect()
}

fn of_event(row: &Value) -> Result<Vec<u8>> {
    let number = |name: &str| row[name].as_u64().unwrap_or_default();
    let kind = match &row["Type"] {
        Value::Number(number) => i32::try_from(number.as_i64().context("Type")?)?,
        Value::String(name) => EventType::from_str_name(name).context("Type")?.into(),
        _ => 0,
    };
    let created = row["Created"].as_array().map(|parts| Timestamp {
        seconds: parts[0].as_i64().unwrap_or_default(),
        nanos: i32::try_from(parts[1].as_i64().unwrap_or_default()).unwrap_or_default(),
    });
    let payload = match (row["Payload"].as_str(), row["PayloadHex"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(digits)) => bytes(digits)?,
        (None, None) => Vec::new(),
    };
    Ok(PackageEvent { id: number("ID"), package_id: number("PackageID"), r#type: kind, created, payload }
        .encode_to_vec())
}

fn judge(row: &Value, printed: &str, log: &str) -> Result<()> {
    if let Some(text) = row["prints_text"].as_str() {
        ensure!(printed == text, "other than the row's text");
    }
    if row["prints_json"] != Value::Null {
        let json: Value = serde_json::from_str(printed)?;
        ensure!(json == row["prints_json"], "other than the row's JSON");
    }
    if row["prints_nothing"] == json!(true) {
        ensure!(printed.is_empty(), "something was printed");
    }
    if let Some(keys) = row["keys"].as_array() {
        let found: Vec<_> = printed.lines().filter_map(key_of_the_first_level).collect();
        ensure!(found == keys.iter().filter_map(Value::as_str).collect::<Vec<_>>(), "other keys: {found:?}");
    }
    match row["logs"].as_object() {
        None => ensure!(!log.contains("cannot be read"), "a complaint"),
        Some(fields) => {
            let line = log.lines().find(|line| line.contains("cannot be read")).context("no complaint")?;
            let line: Value = serde_json::from_str(line)?;
            ensure!(line["level"] == "ERROR" && line["topic"].is_string(), "{line}");
            ensure!(line["partition"] == 0 && line["offset"].is_i64(), "{line}");
            for (name, expected) in fields {
                let found = line[name].to_string();
                ensure!(found.contains(expected.as_str().unwrap_or("a text")), "{name} is {found}");
            }
        }
    }
    Ok(())
}

/// `ID` of `    "ID": 1,`: a line that is four blanks deep.
fn key_of_the_first_level(line: &str) -> Option<&str> {
    line.strip_prefix("    \"")?.split_once("\": ").map(|(key, _)| key)
}
