//! `walpost from-debezium FILE`: the settings that do what a connector with Debezium's EventRouter did, and each option that
//! has no counterpart.
//!
//! The options are those of `EventRouterConfigDefinition` in the Debezium sources, read from the JSON of a connector or from
//! the properties of Debezium Server.

mod creation;

use std::collections::BTreeMap;

use serde_json::Value;

use super::settings_file;
use creation::Creation;

/// The router's class; Debezium Server takes the same.
const ROUTER: &str = "io.debezium.transforms.outbox.EventRouter";

/// What `route.topic.regex` is by default: all of the value.
const WHOLE: &str = "(?<routedByValue>.*)";

/// Options of the connector that say where things are, how it runs, or what no outbox needs.
const WITHOUT_MEANING: [&str; 23] = [
    "name",
    "connector.class",
    "tasks.max",
    "topic.prefix",
    "database.server.name",
    "database.hostname",
    "database.port",
    "database.user",
    "database.password",
    "database.dbname",
    "slot.name",
    "publication.name",
    "publication.autocreate.mode",
    "table.include.list",
    "schema.include.list",
    "tombstones.on.delete",
    "heartbeat.interval.ms",
    "heartbeat.action.query",
    "poll.interval.ms",
    "max.batch.size",
    "max.queue.size",
    "snapshot.mode",
    "offset.flush.interval.ms",
];

/// The settings as TOML, with a comment for each option that is not carried over.
///
/// # Errors
/// When the text is no configuration with an EventRouter.
pub fn translate(text: &str) -> Result<String, String> {
    let options = read(text)?;
    let alias = router(&options)?;
    Ok(Translation::of(&options, &alias).toml())
}

/// The options by their names, without the prefixes of Debezium Server.
fn read(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.trim_start().starts_with('{') {
        let json: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        let config = json.get("config").unwrap_or(&json);
        let config = config.as_object().ok_or("it has no object of options")?;
        let option = |(name, value): (&String, &Value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), text)
        };
        return Ok(config.iter().map(option).collect());
    }
    Ok(text.lines().filter_map(property).collect())
}

/// A line of a properties file, as Debezium Server has it.
fn property(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with(['#', '!']) {
        return None;
    }
    let (name, value) = line.split_once(['=', ':'])?;
    let name = name.trim();
    let bare = ["debezium.source.", "debezium.format.", "debezium."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix));
    Some((bare.unwrap_or(name).to_owned(), value.trim().to_owned()))
}

/// The name under which the router stands among the transforms.
fn router(options: &BTreeMap<String, String>) -> Result<String, String> {
    let is_router = |(name, value): &(&String, &String)| {
        name.starts_with("transforms.") && name.ends_with(".type") && value.as_str() == ROUTER
    };
    let found = options.iter().find(is_router).and_then(|(name, _)| name.strip_prefix("transforms."));
    let alias = found.and_then(|name| name.strip_suffix(".type"));
    alias.map(str::to_owned).ok_or_else(|| format!("it has no transform of the type {ROUTER}"))
}

struct Translation<'a> {
    options: &'a BTreeMap<String, String>,
    /// `transforms.outbox.`
    prefix: String,
    /// Settings, in their order.
    settings: Vec<(&'static str, String)>,
    headers: Vec<(String, String)>,
    fields: Vec<(String, String)>,
    /// Tables, where there are several.
    tables: Vec<String>,
    /// How topics are made.
    creation: Creation,
    /// What is not carried over, or to be done by hand.
    notes: Vec<String>,
    /// Options that were read.
    known: Vec<String>,
}

impl<'a> Translation<'a> {
    fn of(options: &'a BTreeMap<String, String>, alias: &str) -> Self {
        let mut translation = Self {
            options,
            prefix: format!("transforms.{alias}."),
            settings: Vec::new(),
            headers: Vec::new(),
            fields: Vec::new(),
            tables: Vec::new(),
            creation: Creation::of(options),
            notes: Vec::new(),
            known: vec!["transforms".to_owned(), format!("transforms.{alias}.type")],
        };
        translation.place();
        translation.topic();
        translation.parts();
        translation.placement();
        translation.converters();
        translation.notes.extend(translation.creation.notes.clone());
        translation.rest();
        translation
    }

    /// An option of the connector.
    fn option(&mut self, name: &str) -> Option<String> {
        self.known.push(name.to_owned());
        self.options.get(name).cloned()
    }

    /// An option of the router, or its default.
    fn router(&mut self, name: &str, default: &str) -> String {
        let name = format!("{}{name}", self.prefix);
        self.option(&name).unwrap_or_else(|| default.to_owned())
    }

    fn set(&mut self, setting: &'static str, value: impl Into<String>) {
        self.settings.push((setting, value.into()));
    }

    fn place(&mut self) {
        let tables = self.option("table.include.list");
        match tables.as_deref().map(|tables| tables.replace('\\', "")) {
            Some(tables) if tables.contains(['*', '(', '[', '|', '?', '+']) => self.notes.push(format!(
                "table.include.list = {tables}: walpost has no regular expressions; name the tables, each in an [[outbox]], or \
                 by a pattern such as `tenant_*.outbox`"
            )),
            Some(table) if !table.contains(',') => self.set("table", table),
            Some(tables) => self.tables = tables.split(',').map(|table| table.trim().to_owned()).collect(),
            None => self
                .notes
                .push("table.include.list is not set: say which table is the outbox, in `table`".to_owned()),
        }
        self.slot();
        let of = |name: &str| self.options.get(name).map_or("…", String::as_str);
        self.notes.push(format!(
            "WALPOST_DATABASE_URL=postgres://{}@{}:{}/{}, the password in WALPOST_DATABASE_URL_FILE or PGPASSWORD",
            of("database.user"),
            of("database.hostname"),
            self.options.get("database.port").map_or("5432", String::as_str),
            of("database.dbname")
        ));
    }

    /// The connector's own slot and publication, where walpost can read them.
    fn slot(&mut self) {
        let slot = self.option("slot.name").unwrap_or_else(|| "debezium".to_owned());
        let publication = self.option("publication.name").unwrap_or_else(|| "dbz_publication".to_owned());
        let plugin = self.option("plugin.name").unwrap_or_else(|| "decoderbufs".to_owned());
        if plugin != "pgoutput" {
            self.notes.push(format!(
                "the slot {slot} is of the plugin {plugin}, and walpost reads pgoutput alone: it makes its own, and publishes \
                 the rows that the table holds once more, with the same ids; stop the connector, and drop its slot when walpost \
                 is ready"
            ));
            return;
        }
        self.notes.push(
            "walpost goes on at the slot and the publication of the connector: stop that, then run `walpost init --rows-before \
             published`. How little comes twice, and how nothing does: docs/from-debezium.md"
                .to_owned(),
        );
        self.set("slot", slot);
        self.set("publication", publication);
    }

    fn topic(&mut self) {
        let field = self.router("route.by.field", "aggregatetype");
        let replacement = self.router("route.topic.replacement", "outbox.event.${routedByValue}");
        let regex = self.router("route.topic.regex", WHOLE);
        if regex != WHOLE && regex != "(.*)" {
            self.notes.push(format!(
                "{}route.topic.regex = {regex}: walpost has no regular expressions; say the topic with filters \
                 ({{column|before:X}}, after, last, lower), or name topics in [topics]",
                self.prefix
            ));
        }
        let column = format!("{{{field}}}");
        self.set("topic", replacement.replace("${routedByValue}", &column).replace("$1", &column));
    }

    fn parts(&mut self) {
        let [id, key, payload] = [
            ("table.field.event.id", "id"),
            ("table.field.event.key", "aggregateid"),
            ("table.field.event.payload", "payload"),
        ]
        .map(|(option, default)| self.router(option, default));
        self.set("id", id.clone());
        self.set("key", key);
        self.set("value", payload);
        self.headers.push(("id".to_owned(), format!("{{{id}}}")));
        let kind = self.router("table.field.event.type", "");
        if !kind.is_empty() {
            self.set("type", kind);
        }
        let timestamp = self.router("table.field.event.timestamp", "");
        if !timestamp.is_empty() {
            self.set("timestamp", timestamp);
        }
        if self.router("route.tombstone.on.empty.payload", "false") == "true" {
            self.set("tombstone", "empty");
        }
        self.set("cloudevents", "off");
        self.set("headers_from", "");
        if !self.router("table.field.event.schema.version", "").is_empty() {
            self.notes
                .push("table.field.event.schema.version: walpost writes no schema with a value".to_owned());
        }
        if self.router("table.expand.json.payload", "false") == "true" {
            self.notes.push(
                "table.expand.json.payload: walpost writes the JSON as Postgres has it, with its spaces, 1.50 as 1.50, and \
                 members that are null, which Debezium leaves out unless table.json.payload.null.behavior says otherwise"
                    .to_owned(),
            );
        }
        // What is no insert is not subscribed to.
        for needless in [
            "table.json.payload.null.behavior",
            "table.json.payload.empty.array.behavior",
            "table.op.invalid.behavior",
            "table.field.additional.missing",
        ] {
            self.router(needless, "");
        }
        let tracing = self.router("tracing.span.context.field", "");
        if !tracing.is_empty() {
            self.notes.push(format!(
                "tracing.span.context.field = {tracing}: text of Java properties is not read; a column traceparent is"
            ));
        }
        self.router("tracing.operation.name", "");
        self.router("tracing.with.context.field.only", "");
    }

    /// `column:header|envelope|partition[:alias]`, with commas between.
    fn placement(&mut self) {
        let placement = self.router("table.fields.additional.placement", "");
        let mut envelope = Vec::new();
        for part in placement.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut words = part.split(':').map(str::trim);
            let (Some(column), Some(place)) = (words.next(), words.next()) else {
                self.notes.push(format!("table.fields.additional.placement: `{part}` is not understood"));
                continue;
            };
            let alias = words.next().unwrap_or(column).to_owned();
            match place {
                "header" => self.headers.push((alias, format!("{{{column}}}"))),
                "envelope" => envelope.push((alias, format!("{{{column}}}"))),
                "partition" => self.set("partition", column),
                _ => {
                    self.notes.push(format!("table.fields.additional.placement: `{part}` is not understood"))
                }
            }
        }
        if envelope.is_empty() {
            return;
        }
        let payload = self.settings.iter().position(|(setting, _)| *setting == "value");
        if let Some((_, payload)) = payload.map(|at| self.settings.remove(at)) {
            self.fields.push(("payload".to_owned(), format!("{{{payload}}}")));
        }
        self.set("format", "json");
        self.fields.extend(envelope);
    }

    /// Text goes on as it is; Connect's JsonConverter puts it between quotes.
    fn converters(&mut self) {
        for (name, setting) in
            [("key.converter", "key"), ("value.converter", "value"), ("header.converter", "headers")]
        {
            let Some(class) = self.option(name) else { continue };
            let with_schema =
                self.option(&format!("{name}.schemas.enable")).is_none_or(|enabled| enabled != "false");
            self.option(&format!("{name}.delegate.converter.type"));
            match class.rsplit('.').next().unwrap_or_default() {
                "StringConverter"
                | "ByteArrayConverter"
                | "BinaryDataConverter"
                | "SimpleHeaderConverter" => {}
                "JsonConverter" if !with_schema => self.quote(setting),
                "JsonConverter" => self.notes.push(format!(
                    "{name} = {class} with schemas.enable: walpost writes no envelope of schema and payload"
                )),
                "AvroConverter" | "ProtobufConverter" | "JsonSchemaConverter" => self.notes.push(format!(
                    "{name} = {class}: its schemas are Debezium's; with one of your own in the registry walpost writes it by \
                     registry_url and format, as docs/typed-values.md says"
                )),
                _ => self.notes.push(format!("{name} = {class}: walpost does not write that")),
            }
        }
    }

    fn quote(&mut self, part: &str) {
        if part == "headers" {
            self.headers.iter_mut().for_each(|(_, text)| *text = text.replace('}', "|quote}"));
            return;
        }
        // With the payload expanded it was JSON already.
        let expands = format!("{}table.expand.json.payload", self.prefix);
        if part == "value" && self.options.get(&expands).is_some_and(|expands| expands == "true") {
            return;
        }
        if let Some((_, text)) = self.settings.iter_mut().find(|(setting, _)| *setting == part) {
            *text = format!("{{{text}|quote}}");
        }
    }

    fn rest(&mut self) {
        let transforms = self.options.get("transforms").map_or("", String::as_str);
        let others =
            transforms.split(',').map(str::trim).filter(|name| format!("transforms.{name}.") != self.prefix);
        for other in others.filter(|name| !name.is_empty()) {
            self.notes.push(format!("the transform {other}: walpost has none beside the settings here"));
        }
        for (name, value) in self.options {
            let is_known = self.known.contains(name)
                || WITHOUT_MEANING.contains(&name.as_str())
                || name.starts_with(creation::PREFIX);
            let is_of_another = name.starts_with("transforms.") && !name.starts_with(&self.prefix);
            let is_elsewhere =
                ["quarkus.", "sink.", "offset.", "snapshot."].iter().any(|begin| name.starts_with(begin));
            if !is_known && !is_of_another && !is_elsewhere {
                let hidden = ["password", "secret"].iter().any(|part| name.contains(part));
                let value = if hidden { "…" } else { value.as_str() };
                self.notes.push(format!("{name} = {value} is not carried over"));
            }
        }
    }

    fn toml(&self) -> String {
        let mut text = settings_file::toml(&self.notes, &self.settings, &self.headers, &self.fields);
        text.push_str(&self.creation.toml());
        for table in &self.tables {
            text.push_str(&format!("\n\n[[outbox]]\ntable = {}", settings_file::quoted(table)));
        }
        text
    }
}

#[cfg(test)]
mod tests;
