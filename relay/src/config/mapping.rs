//! How rows become records: what was typed of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use settings::Values;
use walpost_core::event::Mapping;
use walpost_core::event::framing::Framing;
use walpost_core::event::mapping::{Choice, CloudEvents, Format, Tombstone};
use walpost_core::event::presets::{self, Preset};
use walpost_core::event::protobuf::Message;
use walpost_core::event::protobuf_json::Messages;
use walpost_core::event::template::Template;

use super::{TABLE, registry};

/// Puts the preset that is named beneath what was given; its name.
pub(super) fn read_preset(values: &mut Values) -> Option<&'static Preset> {
    values.text("preset")?;
    let preset = values.parse_with("preset", |name| {
        let known: Vec<_> = presets::PRESETS.iter().map(|preset| preset.name).collect();
        presets::named(name).ok_or_else(|| format!("expected one of {}", known.join(", ")))
    })?;
    let maps = [("header", preset.headers), ("field", preset.fields)];
    values.put_beneath(&TABLE, preset.name, preset.settings, &maps);
    Some(preset)
}

/// What the entries of `[[outbox]]` say themselves, each with its preset.
pub(super) fn own(values: &Values) -> Vec<Values> {
    let mut entries = values.entries();
    for entry in &mut entries {
        read_preset(entry);
    }
    entries
}

/// The entries of `[[outbox]]`, each with what it leaves out from above, and whether a preset is beneath it.
pub(super) fn entries(values: &Values) -> Vec<(Values, bool)> {
    let mut entries = Vec::new();
    for (index, mut entry) in values.entries().into_iter().enumerate() {
        if ["table", "preset", "messages"].iter().all(|name| entry.text(name).is_none()) {
            entry.mistake(format!(
                "[[outbox]] {}: table is not set: name its table, as in `sales.outbox`",
                index + 1
            ));
        }
        if values.text("messages").is_some() {
            entry
                .mistake("messages: among several outboxes they are one: say it in an [[outbox]] of its own");
        }
        refuse_with_messages(&mut entry);
        read_preset(&mut entry);
        entry.inherit(values);
        let is_preset = entry.text("preset").is_some();
        entries.push((entry, is_preset));
    }
    entries
}

/// What is said of tables, and of messages is nothing.
pub(super) fn refuse_with_messages(values: &mut Values) {
    if values.text("messages").is_none() {
        return;
    }
    let of_tables = ["table", "table-was", "where", "order", "append-only", "shard", "shard-by"];
    let said: Vec<_> = of_tables.into_iter().filter(|name| values.is_said(name)).collect();
    for name in said {
        values.mistake(format!("messages and {name} do not go together: messages are in no table"));
    }
}

/// The mapping; the preset is in `values` by now.
pub(super) fn read(values: &mut Values, is_preset: bool) -> Option<Mapping> {
    let topic = choice(values, "topic", Template::text);
    let [key, value, headers_from, id, kind, time, traceparent] =
        ["key", "value", "headers-from", "id", "type", "time", "traceparent"]
            .map(|name| choice(values, name, Template::column));
    let [ce_source, ce_type, content_type] =
        ["ce-source", "ce-type", "content-type"].map(|name| optional(values, name, Template::text));
    let timestamp = timestamp(values);
    let partition = optional(values, "partition", Template::column);
    let (format, framing) = format(values).unzip();
    let message = match &format {
        Some(Format::ProtobufJson(_)) => optional(values, "message", Template::text),
        _ => Some(None),
    };
    let cloudevents = values.parse_with("cloudevents", |text| match text {
        "auto" => Ok(CloudEvents::Auto),
        "on" => Ok(CloudEvents::On),
        "off" => Ok(CloudEvents::Off),
        _ => Err("expected auto, on or off".into()),
    });
    let tombstone = values.parse_with("tombstone", |text| match text {
        "null" => Ok(Tombstone::Null),
        "empty" => Ok(Tombstone::Empty),
        "never" => Ok(Tombstone::Never),
        _ => Err("expected null, empty or never".into()),
    });
    let headers = templates(values, "header");
    let fields = templates(values, "field");
    let path =
        |(name, template): (String, Template)| (name.split('.').map(str::to_owned).collect(), template);
    Some(Mapping {
        topic: topic?,
        topics: values.map("rename-topic"),
        key: key?,
        value: value?,
        format: format?,
        framing: framing?,
        message: message?,
        fields: fields?.into_iter().map(path).collect::<BTreeMap<_, _>>(),
        headers_from: headers_from?,
        headers: headers?,
        cloudevents: cloudevents?,
        id: id?,
        kind: kind?,
        time: time?,
        traceparent: traceparent?,
        ce_source: ce_source?,
        ce_type: ce_type?,
        content_type: content_type?,
        timestamp: timestamp?,
        partition: partition?,
        tombstone: tombstone?,
        renamed: values.map("renamed-column").into_iter().collect(),
        is_preset,
    })
}

type Parse = fn(&str) -> Result<Template, walpost_core::event::template::TemplateError>;

/// A part that is guessed where nothing was given, and absent where nothing was given expressly.
fn choice(values: &mut Values, name: &str, parse: Parse) -> Option<Choice> {
    if values.text(name).is_none() {
        return Some(Choice::Guess);
    }
    values.parse_with(name, |text| match text {
        "" => Ok(Choice::Absent),
        _ => parse(text).map(Choice::Given).map_err(|error| error.to_string()),
    })
}

fn optional(values: &mut Values, name: &str, parse: Parse) -> Option<Option<Template>> {
    match choice(values, name, parse)? {
        Choice::Given(template) => Some(Some(template)),
        Choice::Guess | Choice::Absent => Some(None),
    }
}

fn timestamp(values: &mut Values) -> Option<Option<Template>> {
    values.parse_with("timestamp", |text| match text {
        "commit" => Ok(None),
        _ => Template::column(text).map(Some).map_err(|error| error.to_string()),
    })
}

/// The templates of a section; every mistake is noted.
fn templates(values: &mut Values, name: &str) -> Option<Vec<(String, Template)>> {
    let mut templates = Some(Vec::new());
    for (key, text) in values.map(name) {
        match (Template::text(&text), &mut templates) {
            (Ok(template), Some(templates)) => templates.push((key, template)),
            (Ok(_), None) => {}
            (Err(error), _) => {
                values.mistake(format!("[{name}s] {key}: `{text}`: {error}"));
                templates = None;
            }
        }
    }
    templates
}

fn format(values: &mut Values) -> Option<(Format, Framing)> {
    let name = values.parse_with("format", |text| match text {
        "raw" | "json" | "cloudevents" | "protobuf" | "avro" => Ok(text.to_owned()),
        _ => Err("expected raw, json, cloudevents, protobuf or avro".into()),
    })?;
    let file = registry::schema_file(values, &name);
    let framing = registry::framing(values, &name, file.clone().flatten());
    let has_fields = !values.map("field").is_empty();
    let format = match name.as_str() {
        "json" => Some(Format::Json),
        "cloudevents" => Some(Format::CloudEvents),
        "protobuf" if !has_fields => messages(values).map(Format::ProtobufJson),
        "protobuf" => message(values).map(|message| Format::Protobuf(Arc::new(message))),
        "avro" => registry::avro_format(values, has_fields, file?.as_ref(), framing.as_ref()?),
        _ => Some(Format::Raw),
    };
    Some((format?, framing?))
}

/// The messages that a JSON payload may be written as.
fn messages(values: &mut Values) -> Option<Messages> {
    if values.text("message").is_none() {
        values.missing(
            "message",
            "the format protobuf writes a message: give its full name, as in shop.OrderEvent",
        );
    }
    if values.text("descriptor").is_none() {
        values.missing(
            "descriptor",
            "give the file that has the message, as protoc --include_imports --descriptor_set_out=FILE writes it",
        );
    }
    values.parse_with("descriptor", |path| {
        let set = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
        Messages::read(&set).map_err(|error| error.to_string())
    })
}

fn message(values: &mut Values) -> Option<Message> {
    let Some(name) = values.text("message") else {
        values.missing(
            "message",
            "the format protobuf writes a message: give its full name, as in shop.OrderEvent",
        );
        return None;
    };
    if values.text("descriptor").is_none() {
        let Some(file) = presets::message(&name) else {
            values.missing(
                "descriptor",
                "give the file that has the message, as protoc --include_imports --descriptor_set_out=FILE writes it",
            );
            return None;
        };
        return Message::of_files(&[file], &name).ok();
    }
    values.parse_with("descriptor", |path| {
        let set = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
        Message::find(&set, &name).map_err(|error| error.to_string())
    })
}
