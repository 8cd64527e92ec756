//! A row becomes a record: topic, key, value, headers and time, in buffers that are used again and again.
//!
//! Headers follow CloudEvents 1.0, Kafka protocol binding, binary content mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>), with the W3C
//! trace context and the event's position in the WAL. The same row at the same position always gives the same bytes.

use std::time::Duration;

use super::buffers::{Buffers, row_of};
use super::content::Content;
use super::dead_letter::DeadLetter;
use super::entry::Entry;
use super::error::{OutboxError, quoted};
use super::framing::Front;
use super::headers::{write_headers, write_position};
use super::mapping::Tombstone;
use super::placed::PlacedRow;
use super::plan::Plan;
use super::position::Position;
use super::record::{Content as Carried, Record};
use super::row::Row;
use super::text::Text;
use super::topic::{self, Topics};
use super::value::{Kind, json_of};
use super::{avro, cloudevent, write};

/// The header of a record that was sent again because somebody asked for it.
pub const REPLAY_HEADER: &str = "walpost-replay";

/// Records are sent again because somebody asked for it.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// What tells this time from others: the value of [`REPLAY_HEADER`].
    pub id: String,
    /// The topic that all of them go to, in place of their own.
    pub to: Option<String>,
}

/// Writes records into buffers that it keeps for the next.
#[derive(Debug, Default)]
pub struct Renderer {
    topics: Topics,
    dead_letter_topic: String,
    /// Microseconds after which an event is late.
    late_after: Option<i64>,
    replay: Option<Replay>,
    /// The time of day, microseconds since 1970-01-01 UTC.
    now: i64,
    buffers: Buffers,
}

/// What was written of a row, beside what stands in the buffers.
struct Written {
    has_key: bool,
    value: Value,
    /// The time that the row says, microseconds since 1970-01-01 UTC.
    time: Option<i64>,
    partition: Option<i32>,
}

enum Value {
    Null,
    Buffer,
    /// A column's bytes, behind this many.
    Column(usize, Kind),
}

impl Renderer {
    /// With empty buffers, and the topic that dead letters go to.
    #[must_use]
    pub fn new(dead_letter_topic: Option<String>) -> Self {
        Self { dead_letter_topic: dead_letter_topic.unwrap_or_default(), ..Self::default() }
    }

    /// Events that are published so much later than they were committed have the time of their publishing.
    #[must_use]
    pub fn with_late_after(self, late_after: Option<Duration>) -> Self {
        let micros = |late: Duration| i64::try_from(late.as_micros()).unwrap_or(i64::MAX);
        Self { late_after: late_after.map(micros), ..self }
    }

    /// Every record says that it was sent again, and none has a place in the WAL: what it had when it was first published is
    /// not known any more, and another would tell consumers that it is new.
    #[must_use]
    pub fn with_replay(self, replay: Replay) -> Self {
        Self { replay: Some(replay), ..self }
    }

    /// Says what time it is, microseconds since 1970-01-01 UTC: an event is late by that.
    pub fn at(&mut self, now: i64) {
        self.now = now;
    }

    /// The record of a row or of a dead letter.
    ///
    /// # Errors
    /// When the row does not give a record.
    pub fn render_entry<'a>(&'a mut self, entry: &'a Entry) -> Result<Record<'a>, OutboxError> {
        match entry {
            Entry::Row(placed) => self.render(placed),
            Entry::Dead(letter) => Ok(self.render_dead(letter)),
        }
    }

    /// Whether a row gives a record.
    ///
    /// # Errors
    /// What [`render`](Self::render) would say: it is the same code.
    pub fn check(&mut self, placed: &PlacedRow) -> Result<(), OutboxError> {
        self.buffers.write(placed).map(|_| ())
    }

    /// When the event happened, as the row says it, microseconds since 1970-01-01 UTC.
    pub fn time(&mut self, placed: &PlacedRow) -> Option<i64> {
        let plan = &*placed.plan;
        self.buffers.find(plan, placed).ok()?;
        let Buffers { places, slots, scratch, .. } = &mut self.buffers;
        let row = row_of(placed, places, slots);
        plan.attributes.time(&row, scratch).ok().flatten()
    }

    /// The record of a row.
    ///
    /// # Errors
    /// When the row does not give a record.
    pub fn render<'a>(&'a mut self, placed: &'a PlacedRow) -> Result<Record<'a>, OutboxError> {
        let written = self.buffers.write(placed)?;
        let timestamp_ms = self.record_time(written.time, placed.position);
        if let Some(replay) = &self.replay {
            let headers = &mut self.buffers.headers;
            headers.remove("wal-lsn");
            headers.remove("wal-seq");
            headers.add_text(REPLAY_HEADER, replay.id.as_bytes());
        }
        let to = self.replay.as_ref().and_then(|replay| replay.to.as_deref());
        let Buffers { topic, key, value, headers, places, .. } = &self.buffers;
        let topic = to.or(placed.plan.one_topic.as_deref()).unwrap_or_else(|| as_text(topic));
        let value = match written.value {
            Value::Null => None,
            Value::Buffer => Some(value.as_slice()),
            Value::Column(index, kind) => {
                let bytes = places.get(index).and_then(|place| placed.row.datum(place).bytes());
                bytes.map(|bytes| json_of(kind, bytes).unwrap_or(bytes))
            }
        };
        Ok(Record {
            topic: self.topics.named(topic),
            // Another topic has partitions of its own.
            partition: written.partition.filter(|_| to.is_none()),
            key: written.has_key.then_some(key.as_slice()),
            value,
            headers,
            timestamp_ms,
            traceparent: headers.get("traceparent"),
            content: Carried::Event,
        })
    }

    /// The time of a record, in milliseconds. Retention counts from it, and brokers forget an idle producer by it: a topic may
    /// lose a record at once that it has acknowledged, when its event is older than what the topic keeps.
    fn record_time(&self, said: Option<i64>, position: Position) -> i64 {
        let Some(time) = said.or(position.committed()) else { return 0 };
        if self.late_after.is_some_and(|late| self.now.saturating_sub(time) > late) {
            return 0;
        }
        // Kafka knows no time before 1970, and 0 stands for that of publishing: the same row always has the same time.
        time.div_euclid(1_000).max(1)
    }

    /// The record of a dead letter: the row as JSON, and what is known of it in headers.
    fn render_dead<'a>(&'a mut self, letter: &'a DeadLetter) -> Record<'a> {
        let Buffers { value, headers, .. } = &mut self.buffers;
        *value = letter.row_bytes();
        headers.clear();
        headers.add_text("walpost-reason", letter.reason.as_bytes());
        headers.add_text("walpost-table", letter.table.as_bytes());
        if let Some(id) = &letter.id {
            headers.add_text("ce_id", id);
        }
        if let Some(source) = &letter.source {
            headers.add_text("ce_source", source);
        }
        headers.add_text("content-type", b"application/json");
        if let Some(bytes) = letter.cut_from {
            headers.add_text("walpost-row-cut-from-bytes", itoa::Buffer::new().format(bytes).as_bytes());
        }
        write_position(letter.position, headers);
        Record {
            topic: self.topics.named(&self.dead_letter_topic),
            partition: None,
            key: letter.key.as_deref(),
            value: Some(value),
            headers,
            // Not the row's: that may be what Kafka refuses.
            timestamp_ms: 0,
            traceparent: None,
            content: Carried::DeadLetter,
        }
    }
}

impl Buffers {
    fn write(&mut self, placed: &PlacedRow) -> Result<Written, OutboxError> {
        let plan = &*placed.plan;
        self.shrink();
        self.find(plan, placed)?;
        let Self { topic, key, value, scratch, headers, avro, places, slots } = self;
        let row = row_of(placed, places, slots);
        let topic = topic_of(plan, &row, topic)?;
        let row = Row { topic, ..row };
        key.clear();
        let has_key = match &plan.key {
            Some(text) => text.write(&row, key)?,
            None => false,
        };
        let subject = has_key.then_some(key.as_slice());
        value.clear();
        let value = write_value(plan, &row, subject, scratch, avro, value)?;
        headers.clear();
        write_headers(plan, &row, subject, scratch, headers)?;
        let time = match &plan.timestamp {
            Some(text) => text.time(&row, scratch)?,
            None => None,
        };
        let partition = match &plan.partition {
            Some(text) => partition(text, text.integer(&row, scratch)?)?,
            None => None,
        };
        Ok(Written { has_key, value, time, partition })
    }
}

fn partition(text: &Text, number: Option<i64>) -> Result<Option<i32>, OutboxError> {
    let Some(number) = number else { return Ok(None) };
    let fits = i32::try_from(number).ok().filter(|number| *number >= 0);
    fits.map(Some).ok_or_else(|| text.refused(format!("{number} is no partition's number").into()))
}

fn topic_of<'a>(plan: &'a Plan, row: &Row<'_>, topic: &'a mut Vec<u8>) -> Result<&'a str, OutboxError> {
    if let Some(one) = &plan.one_topic {
        return Ok(one);
    }
    topic.clear();
    if !plan.topic.write(row, topic)? {
        return Err(plan.topic.refused("it is NULL, and a record needs a topic".into()));
    }
    if let Some(renamed) = plan.topics.get(as_text(topic)) {
        topic.clear();
        topic.extend_from_slice(renamed.as_bytes());
    }
    let name = std::str::from_utf8(topic).map_err(|_| "is no topic's name: it is not text");
    name.and_then(|name| topic::check(name).map(|()| name)).map_err(|what| {
        plan.topic.refused(format!("{} {what}", quoted(&String::from_utf8_lossy(topic))).into())
    })
}

fn write_value(
    plan: &Plan,
    row: &Row<'_>,
    subject: Option<&[u8]>,
    scratch: &mut Vec<u8>,
    avro: &mut avro::Scratch,
    into: &mut Vec<u8>,
) -> Result<Value, OutboxError> {
    plan.front.write(into)?;
    let start = into.len();
    let written = match &plan.value {
        Content::Column { index, kind } => {
            let value = column(plan, row, *index, *kind)?;
            return if plan.front == Front::None { Ok(value) } else { copied(plan, row, value, into) };
        }
        Content::Text(text) => match text.write_content(row, into)? {
            true if is_empty(plan, &into[start..]) => Value::Null,
            true if plan.must_be_json => {
                write::check_json(&into[start..]).map_err(|reason| text.refused(reason))?;
                Value::Buffer
            }
            true => Value::Buffer,
            false => null(plan)?,
        },
        Content::Json(node) => {
            node.write(row, into)?;
            Value::Buffer
        }
        Content::CloudEvent { data, extensions } => {
            let is_null = !cloudevent::write(plan, data, extensions, row, subject, scratch, into)?;
            if is_null { null(plan)? } else { Value::Buffer }
        }
        Content::ProtobufJson(from_json) => match from_json.write(row, scratch, into)? {
            true => Value::Buffer,
            false => null(plan)?,
        },
        Content::Protobuf(encoding) => {
            encoding.write(row, scratch, into)?;
            Value::Buffer
        }
        Content::Avro(columns) => {
            columns.write(row, scratch, avro, into)?;
            Value::Buffer
        }
        Content::AvroJson(from_json) => {
            match from_json.write(row, |json| is_empty(plan, json), scratch, avro, into)? {
                true => Value::Buffer,
                false => null(plan)?,
            }
        }
    };
    Ok(written)
}

/// A column's bytes as they are.
fn column(plan: &Plan, row: &Row<'_>, index: usize, kind: Kind) -> Result<Value, OutboxError> {
    let datum = row.places.get(index).map(|place| row.tuple.datum(place));
    let bytes = match datum {
        Some(crate::pgoutput::Datum::Unchanged) => {
            return Err(of_value(plan, index, "its value is not in the stream"));
        }
        Some(crate::pgoutput::Datum::Text(_)) if kind == Kind::Bytea => {
            return Err(of_value(plan, index, "it came in text form"));
        }
        datum => datum.and_then(crate::pgoutput::Datum::bytes),
    };
    let Some(bytes) = bytes else { return null(plan) };
    let is_text = matches!(datum, Some(crate::pgoutput::Datum::Text(_)));
    let kind = if is_text { Kind::Text } else { kind };
    let content = json_of(kind, bytes).map_err(|reason| of_value(plan, index, &reason))?;
    Ok(if is_empty(plan, content) { Value::Null } else { Value::Column(index, kind) })
}

/// A column's bytes behind what stands before them.
fn copied(plan: &Plan, row: &Row<'_>, value: Value, into: &mut Vec<u8>) -> Result<Value, OutboxError> {
    let Value::Column(index, kind) = value else { return Ok(value) };
    let bytes = row.places.get(index).and_then(|place| row.tuple.datum(place).bytes()).unwrap_or_default();
    let content = json_of(kind, bytes).map_err(|reason| of_value(plan, index, &reason))?;
    if plan.must_be_json && (plan.is_of_messages() || !matches!(kind, Kind::Json | Kind::Jsonb)) {
        write::check_json(content).map_err(|reason| of_value(plan, index, &reason))?;
    }
    into.extend_from_slice(content);
    Ok(Value::Buffer)
}

fn of_value(plan: &Plan, index: usize, reason: &str) -> OutboxError {
    let name = plan.relation.columns.get(index).map_or("", |column| column.name.as_str());
    OutboxError::Value {
        setting: "value".into(),
        expression: format!("{{{name}}}"),
        reason: reason.to_owned(),
    }
}

fn null(plan: &Plan) -> Result<Value, OutboxError> {
    if plan.tombstone != Tombstone::Never {
        return Ok(Value::Null);
    }
    Err(OutboxError::Value {
        setting: "value".into(),
        expression: "tombstone".into(),
        reason: "it is NULL, and the setting tombstone allows no null value".into(),
    })
}

/// Whether a value that is there is to be sent as null all the same.
fn is_empty(plan: &Plan, value: &[u8]) -> bool {
    plan.tombstone == Tombstone::Empty && matches!(value.trim_ascii(), b"" | b"null")
}

fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
