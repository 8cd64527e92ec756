//! Where each part of a record stands in a row: what the settings say, before the table is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::avro;
use super::framing::Framing;
use super::protobuf::Message;
use super::protobuf_json::Messages;
use super::template::{Expression, Operand, Part, Template};

/// A part of a record that is guessed from the columns' names where nothing is said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// Nothing is said.
    #[default]
    Guess,
    /// There is none.
    Absent,
    /// It stands there.
    Given(Template),
}

impl Choice {
    /// Where it stands, if that is said.
    #[must_use]
    pub fn given(&self) -> Option<&Template> {
        match self {
            Self::Given(template) => Some(template),
            Self::Guess | Self::Absent => None,
        }
    }
}

/// What the value is.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Format {
    /// A column's bytes, or text.
    #[default]
    Raw,
    /// A JSON object.
    Json,
    /// A CloudEvent in structured mode.
    CloudEvents,
    /// A protobuf message out of columns.
    Protobuf(Arc<Message>),
    /// A protobuf message out of a JSON payload.
    ProtobufJson(Messages),
    /// An Avro record out of columns; without a schema as long as the registry has not been asked for it.
    Avro(Option<Arc<avro::Schema>>),
    /// An Avro datum out of a JSON payload; the same.
    AvroJson(Option<Arc<avro::Schema>>),
}

impl Format {
    /// As the setting names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Json => "json",
            Self::CloudEvents => "cloudevents",
            Self::Protobuf(_) | Self::ProtobufJson(_) => "protobuf",
            Self::Avro(_) | Self::AvroJson(_) => "avro",
        }
    }
}

impl Format {
    /// Whether the value is made of the part `value`, and not of fields.
    #[must_use]
    pub fn has_value(&self) -> bool {
        matches!(self, Self::Raw | Self::CloudEvents | Self::ProtobufJson(_) | Self::AvroJson(_))
    }
}

/// Whether a record has the headers of CloudEvents' binary mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloudEvents {
    /// Where id and type are known.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Which value is sent as null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tombstone {
    /// SQL NULL.
    #[default]
    Null,
    /// SQL NULL, an empty text, blanks, and JSON's null.
    Empty,
    /// None: SQL NULL is a row that is not an event.
    Never,
}

/// The settings of a record's parts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping {
    /// The topic.
    pub topic: Choice,
    /// New names for what `topic` gives.
    pub topics: BTreeMap<String, String>,
    /// The key.
    pub key: Choice,
    /// The value, or the data of a CloudEvent.
    pub value: Choice,
    /// What the value is.
    pub format: Format,
    /// What stands before it.
    pub framing: Framing,
    /// The message that a JSON payload is written as.
    pub message: Option<Template>,
    /// The members of the value, by their paths.
    pub fields: BTreeMap<Vec<String>, Template>,
    /// A JSON object of headers.
    pub headers_from: Choice,
    /// Headers by name.
    pub headers: Vec<(String, Template)>,
    /// Whether the headers of CloudEvents are written.
    pub cloudevents: CloudEvents,
    /// The event's id.
    pub id: Choice,
    /// Its type.
    pub kind: Choice,
    /// Its time.
    pub time: Choice,
    /// Its trace context.
    pub traceparent: Choice,
    /// The CloudEvent's source; absent: the table.
    pub ce_source: Option<Template>,
    /// The CloudEvent's type; absent: the event's.
    pub ce_type: Option<Template>,
    /// The content's type; absent: by the type of the value.
    pub content_type: Option<Template>,
    /// The record's time; absent: the commit's.
    pub timestamp: Option<Template>,
    /// The record's partition; absent: the key's.
    pub partition: Option<Template>,
    /// Which value is sent as null.
    pub tombstone: Tombstone,
    /// Two names of one column each, while it is renamed: rows in the stream have the name of the moment at which they were
    /// written.
    pub renamed: Vec<(String, String)>,
    /// Topic, key, value, `headers_from` and the trace context are not guessed: a preset says what there is of them.
    pub is_preset: bool,
}

impl Mapping {
    /// Every template, with the setting that has it.
    pub fn templates(&self) -> impl Iterator<Item = (String, &Template)> {
        let chosen = [
            ("topic", &self.topic),
            ("key", &self.key),
            ("value", &self.value),
            ("headers-from", &self.headers_from),
            ("id", &self.id),
            ("type", &self.kind),
            ("time", &self.time),
            ("traceparent", &self.traceparent),
        ];
        let optional = [
            ("ce-source", &self.ce_source),
            ("ce-type", &self.ce_type),
            ("content-type", &self.content_type),
            ("timestamp", &self.timestamp),
            ("partition", &self.partition),
            ("message", &self.message),
        ];
        let chosen =
            chosen.into_iter().filter_map(|(setting, choice)| Some((setting.to_owned(), choice.given()?)));
        let optional = optional
            .into_iter()
            .filter_map(|(setting, template)| Some((setting.to_owned(), template.as_ref()?)));
        let headers = self.headers.iter().map(|(name, template)| (format!("headers.{name}"), template));
        let fields =
            self.fields.iter().map(|(path, template)| (format!("fields.{}", path.join(".")), template));
        chosen.chain(optional).chain(headers).chain(fields)
    }

    /// The columns that the settings name, each once, in no order.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.templates().flat_map(|(_, template)| columns(template)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The setting by which records say where their row stands in the WAL, beside their headers: a row that is read from the
    /// table does not give the same record then.
    #[must_use]
    pub fn names_place(&self) -> Option<String> {
        use super::template::About::{CommittedAt, Lsn, Ordinal};
        let is_place = |operand: &Operand| matches!(operand, Operand::About(CommittedAt | Lsn | Ordinal));
        let names = |template: &Template| {
            template.expressions().any(|expression| expression.operands.iter().any(is_place))
        };
        // A record's time is compared by nobody.
        let mut templates = self.templates().filter(|(setting, _)| setting != "timestamp");
        templates.find(|(_, template)| names(template)).map(|(setting, _)| setting)
    }

    /// Headers that are the row's id, and nothing else.
    #[must_use]
    pub fn id_headers(&self) -> Vec<&str> {
        let Some(id) = self.id.given() else { return Vec::new() };
        let is_id = |(_, template): &&(String, Template)| template.parts == id.parts;
        self.headers.iter().filter(is_id).map(|(name, _)| name.as_str()).collect()
    }

    /// Whether every column of the table is part of the record, named or not.
    #[must_use]
    pub fn has_every_column(&self) -> bool {
        let is_row = |operand: &Operand| matches!(operand, Operand::About(super::template::About::Row));
        let has_row = |(_, template): (String, &Template)| {
            template.expressions().any(|expression| expression.operands.iter().any(is_row))
        };
        (self.format == Format::Json && self.fields.is_empty()) || self.templates().any(has_row)
    }
}

/// What was guessed of the parts that settings leave open: the column, or none. It is kept, so that a column which is added
/// later changes nothing.
pub type Guesses = BTreeMap<String, Option<String>>;

impl Mapping {
    /// The parts that can be guessed, by their settings.
    fn parts(&self) -> [(&'static str, &Choice); 8] {
        [
            ("topic", &self.topic),
            ("key", &self.key),
            ("value", &self.value),
            ("headers_from", &self.headers_from),
            ("id", &self.id),
            ("type", &self.kind),
            ("time", &self.time),
            ("traceparent", &self.traceparent),
        ]
    }

    /// What was guessed in `complete` of the parts that these settings leave open.
    #[must_use]
    pub fn guesses(&self, complete: &Self) -> Guesses {
        let both = self.parts().into_iter().zip(complete.parts());
        let open = both.filter(|((_, given), _)| **given == Choice::Guess);
        let guessed = open.map(|(_, (name, choice))| (name.to_owned(), choice.given().and_then(lone_column)));
        let guessed = guessed.map(|(name, column)| (name, column.map(str::to_owned)));
        // That there is no value follows from the format, which may be another next time.
        guessed.filter(|(name, column)| name != "value" || column.is_some()).collect()
    }

    /// With what was guessed before, where these settings leave a part open.
    #[must_use]
    pub fn with_guesses(&self, kept: &Guesses) -> Self {
        let mut mapping = self.clone();
        let parts = [
            ("topic", &mut mapping.topic),
            ("key", &mut mapping.key),
            ("value", &mut mapping.value),
            ("headers_from", &mut mapping.headers_from),
            ("id", &mut mapping.id),
            ("type", &mut mapping.kind),
            ("time", &mut mapping.time),
            ("traceparent", &mut mapping.traceparent),
        ];
        for (name, choice) in parts {
            if let (Choice::Guess, Some(column)) = (&*choice, kept.get(name)) {
                *choice =
                    column.as_deref().map_or(Choice::Absent, |name| Choice::Given(Template::of_column(name)));
            }
        }
        mapping
    }

    /// The name that a column has among those for which `has` is true: its own, or the other of a rename.
    #[must_use]
    pub fn name_among<'a>(&'a self, name: &'a str, has: impl Fn(&str) -> bool) -> &'a str {
        if has(name) {
            return name;
        }
        let other = self.renamed.iter().find_map(|(one, other)| match name {
            _ if name == one => Some(other),
            _ if name == other => Some(one),
            _ => None,
        });
        other.filter(|other| has(other)).map_or(name, String::as_str)
    }

    /// The same with the names that columns have among those for which `has` is true.
    #[must_use]
    pub fn with_names_of(&self, has: impl Fn(&str) -> bool) -> Self {
        let mut renamed = self.clone();
        for template in renamed.templates_mut() {
            for part in &mut template.parts {
                let Part::Expression(expression) = part else { continue };
                for operand in &mut expression.operands {
                    if let Operand::Column { name, .. } = operand {
                        *name = self.name_among(name, &has).to_owned();
                    }
                }
            }
        }
        renamed
    }

    fn templates_mut(&mut self) -> impl Iterator<Item = &mut Template> {
        let chosen = [
            &mut self.topic,
            &mut self.key,
            &mut self.value,
            &mut self.headers_from,
            &mut self.id,
            &mut self.kind,
            &mut self.time,
            &mut self.traceparent,
        ];
        let chosen = chosen.into_iter().filter_map(|choice| match choice {
            Choice::Given(template) => Some(template),
            Choice::Guess | Choice::Absent => None,
        });
        let optional = [
            &mut self.ce_source,
            &mut self.ce_type,
            &mut self.content_type,
            &mut self.timestamp,
            &mut self.partition,
            &mut self.message,
        ];
        let headers = self.headers.iter_mut().map(|(_, template)| template);
        chosen.chain(optional.into_iter().flatten()).chain(headers).chain(self.fields.values_mut())
    }
}

fn columns(template: &Template) -> impl Iterator<Item = &str> {
    template.expressions().flat_map(|expression| &expression.operands).filter_map(|operand| match operand {
        Operand::Column { name, .. } => Some(name.as_str()),
        Operand::About(_) => None,
    })
}

/// The column that a template is, where it is one and nothing else.
#[must_use]
pub fn lone_column(template: &Template) -> Option<&str> {
    match template.parts.as_slice() {
        [Part::Expression(Expression { operands, filters })] if filters.is_empty() => {
            match operands.as_slice() {
                [Operand::Column { name, members }] if members.is_empty() => Some(name),
                _ => None,
            }
        }
        _ => None,
    }
}
