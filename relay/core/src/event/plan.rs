//! A mapping compiled against one description of the table: how rows become records that were written while the table was
//! as that has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compile::Compiler;
use super::content::Content;
use super::error::{Mistakes, OutboxError};
use super::framing::{Framing, Front, SchemaKind};
use super::guess;
use super::json::Members;
use super::mapping::{Choice, CloudEvents, Format, Mapping, Tombstone};
use super::row::Row;
use super::table::{NO_TABLE, OutboxTable};
use super::template::Template;
use super::text::Text;
use super::types::Types;
use super::value::Kind;
use crate::pgoutput::Relation;

/// How rows become records.
#[derive(Debug)]
pub struct Plan {
    /// `schema.table`, as messages show it; the prefix of logical messages.
    pub(super) table: String,
    pub(super) relation: Arc<Relation>,
    /// How the values of each column are laid out.
    pub(super) kinds: Vec<Kind>,
    /// What is read of columns that hold JSON.
    pub(super) members: Members,
    pub(super) topic: Text,
    /// The topic, where all rows have the same: it was looked at when this was compiled.
    pub(super) one_topic: Option<String>,
    pub(super) topics: BTreeMap<String, String>,
    pub(super) key: Option<Text>,
    pub(super) value: Content,
    /// What stands before it.
    pub(super) front: Front,
    /// Bytes that go on as they are must be JSON: whoever reads them is told so.
    pub(super) must_be_json: bool,
    pub(super) tombstone: Tombstone,
    pub(super) attributes: Attributes,
    /// What happened, as the rows say it.
    pub(super) event_type: Option<Text>,
    /// Whether attributes are headers.
    pub(super) has_headers: bool,
    /// A row without id or type is none: it is not published without them either.
    pub(super) must_be_cloudevents: bool,
    pub(super) headers_from: Option<Text>,
    pub(super) headers: Vec<(String, Text)>,
    pub(super) traceparent: Option<Text>,
    pub(super) timestamp: Option<Text>,
    pub(super) partition: Option<Text>,
}

/// A CloudEvent's attributes.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) id: Option<Text>,
    pub(super) source: Text,
    pub(super) kind: Option<Text>,
    pub(super) time: Option<Text>,
    pub(super) content_type: Text,
}

impl Attributes {
    /// The event's time, microseconds since 1970-01-01 UTC, where it has one.
    pub(super) fn time(&self, row: &Row<'_>, scratch: &mut Vec<u8>) -> Result<Option<i64>, OutboxError> {
        self.time.as_ref().map_or(Ok(None), |text| text.time(row, scratch))
    }
}

impl Plan {
    /// Compiles the settings of a table for a description of it; what the settings leave open is guessed.
    ///
    /// # Errors
    /// Everything that does not fit, at once; or a type that nothing explains.
    pub fn new(table: &OutboxTable, relation: &Arc<Relation>, types: &Types) -> Result<Self, OutboxError> {
        let mut mistakes = Vec::new();
        let mapping = named(&table.mapping, relation);
        let mapping = guess::complete(&mapping, relation, &mut mistakes);
        Self::compiled(Compiler::new(relation, types, mistakes), table, &mapping, relation)
    }

    /// Compiles the settings of a prefix: of its messages nothing is known in advance, so nothing is guessed.
    pub(super) fn of_messages(messages: &OutboxTable, relation: &Arc<Relation>) -> Result<Self, OutboxError> {
        let mut mistakes = Vec::new();
        let mapping = guess::nothing(&messages.mapping, &mut mistakes);
        let types = Types::default();
        Self::compiled(Compiler::of_messages(relation, &types, mistakes), messages, &mapping, relation)
    }

    fn compiled(
        mut compiler: Compiler<'_>,
        table: &OutboxTable,
        mapping: &Mapping,
        relation: &Arc<Relation>,
    ) -> Result<Self, OutboxError> {
        let plan = compile(&mut compiler, table, mapping, relation);
        if let Some(unknown) = compiler.unknown.take() {
            return Err(unknown);
        }
        if compiler.mistakes.is_empty()
            && let Some(plan) = plan
        {
            return Ok(Self { members: compiler.members, ..plan });
        }
        Err(OutboxError::Mistakes(Box::new(Mistakes {
            table: relation.full_name(),
            columns: columns(relation, compiler.types),
            mistakes: compiler.mistakes,
        })))
    }

    /// `schema.table`, as messages show it.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Whether it is for logical messages, which have no table.
    #[must_use]
    pub fn is_of_messages(&self) -> bool {
        self.relation.id == NO_TABLE
    }

    /// The table as it was described.
    #[must_use]
    pub fn relation(&self) -> &Relation {
        &self.relation
    }
}

/// With the names that columns have in this description.
pub(super) fn named(mapping: &Mapping, relation: &Relation) -> Mapping {
    mapping.with_names_of(|name| relation.has(name))
}

fn compile(
    compiler: &mut Compiler<'_>,
    table: &OutboxTable,
    mapping: &Mapping,
    relation: &Arc<Relation>,
) -> Option<Plan> {
    let choice = |compiler: &mut Compiler<'_>, setting: &str, choice: &Choice| {
        choice.given().map(|template| compiler.text(setting, template))
    };
    let optional = |compiler: &mut Compiler<'_>, setting: &str, template: &Option<Template>| {
        template.as_ref().map(|template| compiler.text(setting, template))
    };
    if let Some(order) = &table.order {
        compiler.check_order(mapping.name_among(order, |name| relation.has(name)));
    }
    let topic = choice(compiler, "topic", &mapping.topic);
    let one_topic = mapping.topic.given().and_then(Template::as_constant).map(|literal| {
        let renamed = mapping.topics.get(literal).map_or(literal, String::as_str);
        compiler.check_topic(renamed);
        renamed.to_owned()
    });
    for name in mapping.topics.values() {
        compiler.check_topic(name);
    }
    if let (Some(topic), true) = (&topic, mapping.topics.is_empty()) {
        compiler.check_topic_parts(topic);
    }
    let key = choice(compiler, "key", &mapping.key);
    let value = compiler.content(mapping);
    let front = compiler.front(mapping);
    let event_type = choice(compiler, "type", &mapping.kind);
    let kind = match &mapping.ce_type {
        Some(template) => Some(compiler.text("ce-type", template)),
        None => event_type.clone(),
    };
    let content_type = match &mapping.content_type {
        Some(template) => compiler.text("content-type", template),
        None => compiler.content_type(mapping),
    };
    let source = match &mapping.ce_source {
        Some(template) => compiler.text("ce-source", template),
        None => Text::constant("ce-source", &table.source(relation)),
    };
    let id = choice(compiler, "id", &mapping.id);
    let time = choice(compiler, "time", &mapping.time);
    let has_headers = match (mapping.cloudevents, &mapping.format) {
        (_, Format::CloudEvents) | (CloudEvents::Off, _) => false,
        (CloudEvents::On, _) => true,
        (CloudEvents::Auto, _) => id.is_some() && kind.is_some(),
    };
    if let Some(time) = &time {
        compiler.check_time("time", time);
    }
    let timestamp = optional(compiler, "timestamp", &mapping.timestamp);
    if let Some(timestamp) = &timestamp {
        compiler.check_time("timestamp", timestamp);
    }
    let partition = optional(compiler, "partition", &mapping.partition);
    if let Some(partition) = &partition {
        compiler.check_integer("partition", partition);
    }
    let headers_from = choice(compiler, "headers-from", &mapping.headers_from);
    if let Some(headers) = &headers_from {
        compiler.check_json("headers-from", headers);
    }
    let headers = compiler.headers(&mapping.headers);
    let traceparent = choice(compiler, "traceparent", &mapping.traceparent);
    Some(Plan {
        table: relation.full_name(),
        relation: Arc::clone(relation),
        kinds: compiler.kinds(),
        members: Members::default(),
        topic: topic?,
        one_topic,
        topics: mapping.topics.clone(),
        key,
        value: value?,
        front: front?,
        must_be_json: mapping.format == Format::Raw
            && matches!(&mapping.framing, Framing::Known(frame) if frame.kind() == SchemaKind::Json),
        tombstone: mapping.tombstone,
        attributes: Attributes { id, source, kind, time, content_type },
        event_type,
        has_headers,
        must_be_cloudevents: mapping.cloudevents == CloudEvents::On,
        headers_from,
        headers,
        traceparent,
        timestamp,
        partition,
    })
}

/// The columns of a table with their types, as a mistake lists them.
pub(super) fn columns(relation: &Relation, types: &Types) -> String {
    let shown =
        |column: &crate::pgoutput::Column| format!("{} {}", column.name, types.shown(column.type_oid));
    relation.columns.iter().map(shown).collect::<Vec<_>>().join(", ")
}
