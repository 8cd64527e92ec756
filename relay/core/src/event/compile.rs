//! From templates to what is read of a row: columns by their number, types checked, members of JSON given their slots.

use std::sync::Arc;

use super::avro;
use super::content::Content;
use super::error::{Mistake, OutboxError, unknown_column};
use super::framing::{Framing, Front};
use super::json::{Column, Members, Node, slot_of};
use super::mapping::{Format, Mapping, lone_column};
use super::protobuf::{Encoding, Message};
use super::protobuf_json::{FromJson, Messages};
use super::template::{self, About, Filter, Template};
use super::text::{Expression, Operand, Part, Text};
use super::topic;
use super::types::Types;
use super::value::Kind;
use crate::pgoutput::Relation;

/// Where the content of a message stands in its row.
const CONTENT: usize = 0;

/// Settings in which a member of a message must be there: a name that is misspelt would have events without order, or
/// deletions in their place.
const MUST_BE: [&str; 2] = ["key", "value"];

/// Begins of names that headers of the user's own may not have.
const RESERVED: [&str; 2] = ["wal-", "walpost-"];

/// Without a schema there is no saying which of them are needed.
const NO_FIELDS_OF_AVRO: &str = "give [fields]: which column is which field of the record";

/// Compiles the templates of one description, and notes what does not fit.
pub(super) struct Compiler<'a> {
    relation: &'a Relation,
    /// Names are of members of the one column that there is, and not of columns.
    reads_members: bool,
    pub(super) types: &'a Types,
    pub(super) mistakes: Vec<Mistake>,
    /// A type that nothing explains.
    pub(super) unknown: Option<OutboxError>,
    pub(super) members: Members,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(relation: &'a Relation, types: &'a Types, mistakes: Vec<Mistake>) -> Self {
        let members = Members::default();
        Self { relation, reads_members: false, types, mistakes, unknown: None, members }
    }

    /// For the messages of a prefix: what stands for columns are the members of their content.
    pub(super) fn of_messages(relation: &'a Relation, types: &'a Types, mistakes: Vec<Mistake>) -> Self {
        Self { reads_members: true, ..Self::new(relation, types, mistakes) }
    }

    /// How the values of each column are laid out; what is not known is of no kind.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let kind = |column: &crate::pgoutput::Column| self.types.kind(column.type_oid).unwrap_or(Kind::Other);
        self.relation.columns.iter().map(kind).collect()
    }

    pub(super) fn mistake(&mut self, setting: &str, what: impl Into<String>) {
        let mistake = Mistake::new(setting, what);
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// Compiles a template.
    pub(super) fn text(&mut self, setting: &str, template: &Template) -> Text {
        let part = |part: &template::Part, compiler: &mut Self| match part {
            template::Part::Text(text) => Part::Text(text.clone()),
            template::Part::Expression(expression) => {
                Part::Expression(compiler.expression(setting, expression))
            }
        };
        let parts = template.parts.iter().map(|each| part(each, self)).collect();
        Text { setting: setting.to_owned(), parts }
    }

    fn expression(&mut self, setting: &str, expression: &template::Expression) -> Expression {
        let shown = shown(expression);
        let (mut operands, mut checks) = (Vec::new(), Vec::new());
        for operand in &expression.operands {
            match operand {
                template::Operand::About(About::Row) if self.reads_members => {
                    operands.push(Operand::Column { index: CONTENT, kind: Kind::Json });
                    // Unlike a column of that type it may hold anything.
                    checks = vec![Filter::Json];
                }
                template::Operand::Column { name, members } if self.reads_members => {
                    let is_lone = expression.operands.len() == 1 && MUST_BE.contains(&setting);
                    operands.extend(self.field(setting, &shown, name, members, is_lone));
                }
                template::Operand::About(about) => {
                    if *about == About::Row {
                        self.check_row(setting);
                    }
                    operands.push(self.about(*about));
                }
                template::Operand::Column { name, members } => match self.index(name) {
                    Some(index) => operands.extend(self.column(setting, &shown, index, members)),
                    None => {
                        let mistake = unknown_column(setting, &shown, name, self.relation);
                        self.mistake(setting, mistake.what);
                    }
                },
            }
        }
        checks.extend(expression.filters.iter().cloned());
        Expression { shown, operands, filters: checks }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.relation.columns.iter().position(|column| column.name == name)
    }

    fn about(&self, about: About) -> Operand {
        match about {
            About::Schema => Operand::Constant(self.relation.namespace.clone()),
            About::Table => Operand::Constant(self.relation.name.clone()),
            About::Row => Operand::Row,
            About::Topic => Operand::Topic,
            About::CommittedAt => Operand::CommittedAt,
            About::Lsn => Operand::Lsn,
            About::Ordinal => Operand::Ordinal,
        }
    }

    /// A member of the content, which stands for a column, or a member of such a one.
    fn field(
        &mut self,
        setting: &str,
        shown: &str,
        name: &str,
        members: &[String],
        must_be: bool,
    ) -> Option<Operand> {
        let path: Vec<_> = std::iter::once(name.to_owned()).chain(members.iter().cloned()).collect();
        match self.column(setting, shown, CONTENT, &path)? {
            Operand::Member { slot } if members.is_empty() => {
                Some(Operand::Field { slot, must_be: must_be.then(|| name.to_owned()) })
            }
            operand => Some(operand),
        }
    }

    fn column(&mut self, setting: &str, shown: &str, index: usize, members: &[String]) -> Option<Operand> {
        let kind = self.kind(setting, index)?;
        if members.is_empty() {
            return Some(Operand::Column { index, kind });
        }
        let column = &self.relation.columns[index];
        if !kind.may_be_json() {
            let (name, found) = (&column.name, self.types.shown(column.type_oid));
            let what = format!(
                "{shown}: `{name}` has the type {found}, which has no members: expected jsonb, json, or text or bytea that \
                 holds JSON"
            );
            self.mistake(setting, what);
            return None;
        }
        let known = self.members.columns.iter().position(|known| known.index == index).unwrap_or_else(|| {
            let (setting, shown) = (setting.to_owned(), shown.to_owned());
            let must_be_object = self.reads_members;
            let branches = Vec::new();
            self.members.columns.push(Column { index, kind, setting, shown, branches, must_be_object });
            self.members.columns.len() - 1
        });
        let Members { columns, slots } = &mut self.members;
        let slot = slot_of(&mut columns[known].branches, members, slots)?;
        Some(Operand::Member { slot })
    }

    /// How a column's values are laid out, where they can be read.
    fn kind(&mut self, setting: &str, index: usize) -> Option<Kind> {
        let column = &self.relation.columns[index];
        let (name, found) = (column.name.clone(), self.types.shown(column.type_oid));
        match self.types.kind(column.type_oid) {
            Some(kind) if kind.is_readable() => Some(kind),
            Some(Kind::Oid) => {
                let table = &self.relation.name;
                let what = format!(
                    "`{name}` has the type oid: in a table of events it is the number of a large object, whose bytes are \
                     not in the stream; keep the bytes in a column of the type bytea, as in `alter table {table} alter \
                     column {name} type bytea using lo_get({name})`, and have the application write them there (JPA: \
                     without @Lob, or @JdbcTypeCode(Types.VARBINARY))"
                );
                self.mistake(setting, what);
                None
            }
            Some(_) => {
                let what = format!(
                    "`{name}` has the type {found}, which cannot be part of a record: expected text, a number, boolean, \
                     json, jsonb, bytea, uuid, timestamp, date, an enum, or an array of one of these; cast it in the \
                     insert, or use another column"
                );
                self.mistake(setting, what);
                None
            }
            None => {
                self.unknown.get_or_insert(OutboxError::UnknownType {
                    table: self.relation.full_name(),
                    column: name,
                    setting: setting.to_owned(),
                    found,
                    oid: column.type_oid,
                });
                None
            }
        }
    }

    /// The value, by its format.
    pub(super) fn content(&mut self, mapping: &Mapping) -> Option<Content> {
        let fields = mapping.fields.iter();
        let mut texts = Vec::new();
        for (path, template) in fields {
            texts.push((path.as_slice(), self.text(&format!("fields.{}", path.join(".")), template)));
        }
        let value = mapping.value.given().map(|template| self.text("value", template));
        match &mapping.format {
            Format::Raw => {
                if !mapping.fields.is_empty() {
                    self.mistake("fields", "the format raw has none: it is the value as it is");
                }
                let is_whole = self.reads_members && mapping.value.given().is_some_and(is_row);
                let content = if is_whole {
                    Some(Content::Column { index: CONTENT, kind: Kind::Json })
                } else {
                    value.map(raw)
                };
                self.fits_the_frame(mapping, content.as_ref());
                content
            }
            Format::Json if texts.is_empty() && self.reads_members => Some(Content::Text(whole_content())),
            Format::Json if texts.is_empty() => {
                self.check_row("value");
                Some(Content::Json(Node::Row))
            }
            Format::Json => Some(Content::Json(self.node(texts))),
            Format::CloudEvents => {
                let extensions = self.extensions(texts);
                Some(Content::CloudEvent { data: value?, extensions })
            }
            Format::Protobuf(message) => self.protobuf(message, texts).map(Content::Protobuf),
            Format::ProtobufJson(messages) => self.message_of_json(messages, mapping, value?),
            Format::Avro(None) => {
                if texts.is_empty() {
                    self.mistake("fields", NO_FIELDS_OF_AVRO);
                }
                Some(Content::Text(Text::constant("value", "")))
            }
            Format::AvroJson(None) => {
                self.check_json("value", value.as_ref()?);
                value.map(Content::Text)
            }
            Format::Avro(Some(schema)) => self.avro(schema, &texts).map(Content::Avro),
            Format::AvroJson(Some(schema)) => {
                let (schema, payload) = (Arc::clone(schema), value?);
                self.check_json("value", &payload);
                Some(Content::AvroJson(avro::FromJson { schema, payload }))
            }
        }
    }

    /// What stands before the value; a message that a row names has its own.
    pub(super) fn front(&mut self, mapping: &Mapping) -> Option<Front> {
        let frame = match &mapping.framing {
            Framing::None => return Some(Front::None),
            Framing::Asked(_) => return Some(Front::Unknown),
            Framing::Known(frame) => frame,
        };
        let front = match (&mapping.format, &mapping.message) {
            (Format::Protobuf(message), _) => frame.front(Some(message.name())),
            (Format::ProtobufJson(_), Some(message)) => match message.as_constant() {
                Some(name) => frame.front(Some(name)),
                None => return Some(Front::None),
            },
            _ => frame.front(None),
        };
        front.map(Front::Bytes).map_err(|what| self.mistake("message", what)).ok()
    }

    fn avro(&mut self, schema: &Arc<avro::Schema>, texts: &[(&[String], Text)]) -> Option<avro::FromColumns> {
        for (path, text) in texts {
            let Some((index, kind)) = text.lone().and_then(lone_operand) else { continue };
            let column = &self.relation.columns[index];
            if let Err(what) = schema.check(path, kind, self.types.labels(column.type_oid)) {
                let found = self.types.shown(column.type_oid);
                let what = format!("`{}` has the type {found}: {what}", column.name);
                self.mistake(&text.setting, what);
            }
        }
        match avro::FromColumns::new(schema, texts) {
            Ok(columns) => Some(columns),
            Err(unfit) => {
                unfit.into_iter().for_each(|(setting, what)| self.mistake(&setting, what));
                None
            }
        }
    }

    /// Every column must be one that can be written.
    fn check_row(&mut self, setting: &str) {
        for index in 0..self.relation.columns.len() {
            self.kind(setting, index);
        }
    }

    fn node(&mut self, texts: Vec<(&[String], Text)>) -> Node {
        let mut object = Node::Object(Vec::new());
        for (path, text) in texts {
            if !object.insert(path, text) {
                self.mistake(&format!("fields.{}", path.join(".")), "another field stands in its way");
            }
        }
        object
    }

    /// Names that CloudEvents has for itself, and its rule for others: lower-case letters and digits
    /// (CloudEvents 1.0.2, "Attribute Naming Convention").
    fn extensions(&mut self, texts: Vec<(&[String], Text)>) -> Node {
        const OWN: [&str; 9] = [
            "specversion",
            "id",
            "source",
            "type",
            "time",
            "subject",
            "datacontenttype",
            "data",
            "data_base64",
        ];
        let mut object = Node::Object(Vec::new());
        for (path, text) in texts {
            let setting = format!("fields.{}", path.join("."));
            let fits = |name: &String| {
                !name.is_empty()
                    && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            };
            match path {
                [name] if OWN.contains(&name.as_str()) => {
                    self.mistake(&setting, "the event has it already: give it by its own setting");
                }
                [name] if fits(name) => {
                    object.insert(path, text);
                }
                _ => self.mistake(
                    &setting,
                    "an attribute of a CloudEvent has a name of lower-case letters and digits, and no members",
                ),
            }
        }
        object
    }

    fn message_of_json(&mut self, messages: &Messages, mapping: &Mapping, payload: Text) -> Option<Content> {
        self.check_json("value", &payload);
        let template = mapping.message.as_ref()?;
        if let Some(Err(error)) = template.as_constant().map(|name| messages.find(name)) {
            self.mistake("message", error.to_string());
        }
        let message = self.text("message", template);
        let frame = match &mapping.framing {
            Framing::Known(frame) if template.as_constant().is_none() => Some(Arc::clone(frame)),
            _ => None,
        };
        Some(Content::ProtobufJson(FromJson { messages: messages.clone(), message, payload, frame }))
    }

    fn protobuf(&mut self, message: &Message, texts: Vec<(&[String], Text)>) -> Option<Encoding> {
        let mut fields = Vec::new();
        for (path, text) in texts {
            let setting = text.setting.clone();
            match message.field(path) {
                Ok(field) => {
                    let column = text.lone().and_then(lone_operand);
                    if let Some((index, kind)) = column {
                        let labels = self.types.labels(self.relation.columns[index].type_oid);
                        if let Err(what) = field.check(kind, labels) {
                            let column = &self.relation.columns[index];
                            let found = self.types.shown(column.type_oid);
                            self.mistake(&setting, format!("`{}` has the type {found}: {what}", column.name));
                        }
                    }
                    fields.push((field.clone(), text));
                }
                Err(what) => self.mistake(&setting, what),
            }
        }
        if fields.is_empty() {
            self.mistake(
                "fields",
                "the format protobuf needs [fields]: which column is which field of the message",
            );
            return None;
        }
        Some(Encoding::new(fields))
    }

    /// The content type that follows from the type of the value.
    pub(super) fn content_type(&mut self, mapping: &Mapping) -> Text {
        const SETTING: &str = "content-type";
        match mapping.value.given().and_then(lone_column) {
            Some(name)
                if self.reads_members && matches!(mapping.format, Format::Raw | Format::CloudEvents) =>
            {
                let field = self.field(SETTING, name, name, &[], false);
                let Some(Operand::Field { slot, .. }) = field else { return Text::constant(SETTING, "") };
                let operands = vec![Operand::TypeOfField { slot }];
                let expression = Expression { shown: format!("{{{name}}}"), operands, filters: Vec::new() };
                Text { setting: SETTING.into(), parts: vec![Part::Expression(expression)] }
            }
            _ => Text::constant(SETTING, self.type_of_value(mapping)),
        }
    }

    /// A value that goes on as it is, behind the id of a schema in a binary form, is in that form already.
    fn fits_the_frame(&mut self, mapping: &Mapping, content: Option<&Content>) {
        let Framing::Known(frame) = &mapping.framing else { return };
        let are_bytes = matches!(content, Some(Content::Column { kind: Kind::Bytea, .. }));
        if frame.is_binary() && !are_bytes {
            self.mistake(
                "format",
                "raw is the value as it is, and the schema is of another form: say format = avro or protobuf, or give a bytea \
                 column that holds such bytes",
            );
        }
    }

    fn type_of_value(&self, mapping: &Mapping) -> &'static str {
        match &mapping.format {
            Format::Json => return "application/json",
            Format::Protobuf(_) | Format::ProtobufJson(_) => return "application/protobuf",
            Format::Avro(_) | Format::AvroJson(_) => return "application/avro",
            Format::Raw | Format::CloudEvents => {}
        }
        let Some(expression) = mapping.value.given().and_then(Template::as_expression) else {
            return "text/plain";
        };
        match expression.filters.last() {
            Some(Filter::Quote | Filter::Json) => return "application/json",
            Some(Filter::Base64) => return "application/octet-stream",
            Some(_) => return "text/plain",
            None => {}
        }
        match expression.operands.first() {
            Some(template::Operand::About(About::Row)) => "application/json",
            Some(template::Operand::Column { members, .. }) if !members.is_empty() => "application/json",
            Some(template::Operand::Column { name, .. }) => {
                match self.index(name).map(|index| self.kinds()[index]) {
                    Some(Kind::Json | Kind::Jsonb | Kind::Array) => "application/json",
                    Some(Kind::Bytea) => "application/octet-stream",
                    _ => "text/plain",
                }
            }
            _ => "text/plain",
        }
    }

    /// Headers of the user's own.
    pub(super) fn headers(&mut self, headers: &[(String, Template)]) -> Vec<(String, Text)> {
        let mut compiled: Vec<(String, Text)> = Vec::new();
        for (name, template) in headers {
            let setting = format!("headers.{name}");
            if RESERVED.iter().any(|reserved| name.starts_with(reserved)) {
                self.mistake(&setting, "names that begin with wal- or walpost- are walpost's own");
            }
            if compiled.iter().any(|(known, _)| known == name) {
                self.mistake(&setting, "it is there twice");
            }
            let text = self.text(&setting, template);
            compiled.push((name.clone(), text));
        }
        compiled
    }

    pub(super) fn check_topic(&mut self, name: &str) {
        if let Err(what) = topic::check(name) {
            self.mistake("topic", format!("`{name}` {what}"));
        }
    }

    /// What stands between the expressions of a topic is part of every name.
    pub(super) fn check_topic_parts(&mut self, topic: &Text) {
        if topic.parts.len() < 2 {
            return;
        }
        for part in &topic.parts {
            if let Part::Text(text) = part
                && let Err(what) = topic::check_part(text)
            {
                self.mistake("topic", format!("`{text}` {what}"));
            }
        }
    }

    /// A time, or what can be read as one.
    pub(super) fn check_time(&mut self, setting: &str, text: &Text) {
        let Some(expression) = text.lone() else { return };
        let has_unit = expression.filters.iter().any(|filter| matches!(filter, Filter::Unit(_)));
        for operand in &expression.operands {
            let Operand::Column { index, kind } = operand else { continue };
            let column = &self.relation.columns[*index];
            let (name, found) = (column.name.clone(), self.types.shown(column.type_oid));
            match kind {
                Kind::Integer if !has_unit => {
                    let what = format!(
                        "`{name}` is a number: say its unit, as in `{{{name}|ms}}` (s, ms or us since 1970)"
                    );
                    self.mistake(setting, what);
                }
                Kind::Timestamp | Kind::Date if has_unit => {
                    let what = format!(
                        "`{name}` is a time already, and a unit makes a number of it: leave the unit away"
                    );
                    self.mistake(setting, what);
                }
                Kind::Integer | Kind::Timestamp | Kind::Date | Kind::Text => {}
                _ => {
                    let what = format!(
                        "`{name}` has the type {found}, which is no time: expected timestamptz, timestamp (taken as UTC), \
                         date, text of ISO 8601, or a number with its unit"
                    );
                    self.mistake(setting, what);
                }
            }
        }
    }

    pub(super) fn check_integer(&mut self, setting: &str, text: &Text) {
        if let Some((index, kind)) = text.lone().and_then(lone_operand)
            && kind != Kind::Integer
        {
            let column = &self.relation.columns[index];
            let found = self.types.shown(column.type_oid);
            self.mistake(setting, format!("`{}` has the type {found}: expected an integer", column.name));
        }
    }

    /// A number that rises with each insert.
    pub(super) fn check_order(&mut self, name: &str) {
        let Some(index) = self.index(name) else {
            // A description from before the column was added.
            return;
        };
        let column = &self.relation.columns[index];
        if self.types.kind(column.type_oid) != Some(Kind::Integer) {
            let found = self.types.shown(column.type_oid);
            self.mistake(
                "order",
                format!("`{name}` has the type {found}: expected smallint, integer or bigint"),
            );
        }
    }

    pub(super) fn check_json(&mut self, setting: &str, text: &Text) {
        let operand = text.lone().and_then(lone_operand);
        if let Some((index, kind)) = operand
            && !kind.may_be_json()
        {
            let column = &self.relation.columns[index];
            let found = self.types.shown(column.type_oid);
            let what = format!(
                "`{}` has the type {found}: expected jsonb, json, or text or bytea that holds a JSON object",
                column.name
            );
            self.mistake(setting, what);
        }
    }
}

/// The column that an expression is, where it is one and nothing else.
fn lone_operand(expression: &Expression) -> Option<(usize, Kind)> {
    match (expression.operands.as_slice(), expression.filters.as_slice()) {
        ([Operand::Column { index, kind }], []) => Some((*index, *kind)),
        _ => None,
    }
}

/// Whether a template is `{@row}` and nothing else.
fn is_row(template: &Template) -> bool {
    let expression = template.as_expression();
    expression.is_some_and(|expression| {
        expression.filters.is_empty()
            && matches!(expression.operands.as_slice(), [template::Operand::About(About::Row)])
    })
}

/// The content of a message, which is JSON.
fn whole_content() -> Text {
    let operands = vec![Operand::Column { index: CONTENT, kind: Kind::Json }];
    let expression = Expression { shown: "{@row}".into(), operands, filters: vec![Filter::Json] };
    Text { setting: "value".into(), parts: vec![Part::Expression(expression)] }
}

/// A value that goes on as it is needs no copy.
fn raw(text: Text) -> Content {
    match text.lone().and_then(lone_operand) {
        Some((index, kind @ (Kind::Text | Kind::Json | Kind::Jsonb | Kind::Bytea))) => {
            Content::Column { index, kind }
        }
        _ => Content::Text(text),
    }
}

/// An expression as messages show it.
fn shown(expression: &template::Expression) -> String {
    let alone =
        Template { source: String::new(), parts: vec![template::Part::Expression(expression.clone())] };
    if let Some(column) = lone_column(&alone) {
        return format!("{{{column}}}");
    }
    let operand = |operand: &template::Operand| match operand {
        template::Operand::About(about) => about.name(),
        template::Operand::Column { name, members } if members.is_empty() => name.clone(),
        template::Operand::Column { name, members } => format!("{name}.{}", members.join(".")),
    };
    let operands: Vec<_> = expression.operands.iter().map(operand).collect();
    let filters: String = expression.filters.iter().map(|filter| format!("|{}", filter.name())).collect();
    format!("{{{}{filters}}}", operands.join(" ?? "))
}
