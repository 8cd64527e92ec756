//! Rows that cannot be published, where the operator has chosen not to halt on them: they go to a topic of their own,
//! with the reason and their place in the log, and the rows behind them go on.
//!
//! A dead letter takes its event's turn: it is in the window like an event, and its position is confirmed only when
//! Kafka has acknowledged it. Later events of its key do go on, so for that key the topic then has a gap.

mod readable;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::event::position::{PlacedEvent, Position};
use crate::event::{EventColumn, Key, OutboxEvent, OutboxTable, Plan, Role};
use crate::pgoutput::{Relation, Tuple};
use crate::time::write_rfc3339;

/// When a letter is refused as well, texts of its row are cut to so many bytes: more than a person reads, and less than
/// any topic takes.
const CUT_BYTES: usize = 16 << 10;

/// A row that cannot be published.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Why.
    pub reason: String,
    /// Schema and table.
    pub table: String,
    /// What the event is about, where that can be read.
    pub key: Option<Key>,
    /// The UUID to deduplicate by, where that can be read.
    pub event_id: Option<Uuid>,
    /// The row: a JSON object, its columns by name.
    pub row: Map<String, Value>,
    /// Its place.
    pub position: Position,
    /// Bytes of the whole row, when it was cut.
    pub cut_from: Option<usize>,
}

impl DeadLetter {
    /// A row that is not an event, with the parts of it that can be read all the same.
    #[must_use]
    pub fn of_row(
        table: &OutboxTable,
        relation: &Relation,
        plan: &Plan,
        row: &Tuple,
        reason: String,
        position: Position,
    ) -> Self {
        let (key, event_id) = plan.identity(row);
        let row = readable::row(relation, plan, row);
        Self { reason, table: table.name(), key, event_id, row, position, cut_from: None }
    }

    /// An event that is none in the format of the topic, or that Kafka refuses.
    #[must_use]
    pub fn of_event(table: &OutboxTable, placed: &PlacedEvent, reason: String) -> Self {
        let event = &placed.event;
        let named = |column: &EventColumn| Some((column.names.first()?.clone(), value(event, column.role)));
        let row = table.columns.iter().filter_map(named).collect();
        let (key, event_id) = (Some(event.key.clone()), Some(event.event_id));
        Self { reason, table: table.name(), key, event_id, row, position: placed.position, cut_from: None }
    }

    /// Cuts the texts of a row that is too large for its topic, too; `false` when that has been done already.
    pub fn cut(&mut self) -> bool {
        if self.cut_from.is_some() {
            return false;
        }
        self.cut_from = Some(self.row_bytes().len());
        for value in self.row.values_mut() {
            if let Value::String(text) = value {
                text.truncate(text.floor_char_boundary(CUT_BYTES));
            }
        }
        true
    }

    /// The row as it is sent.
    #[must_use]
    pub fn row_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.row).unwrap_or_default()
    }
}

fn value(event: &OutboxEvent, role: Role) -> Value {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    match role {
        Role::Id => event.id.into(),
        Role::Key => match &event.key {
            Key::Integer(number) => (*number).into(),
            Key::Text(bytes) => text(bytes),
            Key::Uuid(uuid) => json!(uuid.to_string()),
        },
        Role::Type => text(&event.kind),
        Role::Payload => event.payload.as_deref().map_or(Value::Null, text),
        Role::CreatedAt => {
            let mut time = Vec::new();
            write_rfc3339(event.created_at, &mut time);
            text(&time)
        }
        Role::EventId => json!(event.event_id.to_string()),
        Role::Traceparent => event.traceparent.as_deref().map_or(Value::Null, text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::lsn::Lsn;

    #[test]
    fn a_letter_has_the_whole_row_and_is_cut_once() {
        let table = OutboxTable::new("public", "outbox", &[(Role::Id, "id"), (Role::Payload, "payload")]);
        let event = OutboxEvent {
            id: 7,
            key: Key::Integer(1),
            kind: Bytes::from_static(b"Created"),
            payload: Some(Bytes::from("ä".repeat(CUT_BYTES))),
            created_at: 0,
            event_id: Uuid::nil(),
            traceparent: None,
        };
        let position = Position { lsn: Lsn(1), ordinal: 0, committed_at: 0 };
        let mut letter =
            DeadLetter::of_event(&table, &PlacedEvent { event, position, bytes: 1 }, "why".into());
        let whole = letter.row_bytes().len();
        assert!(whole > 2 * CUT_BYTES);
        assert!(letter.cut());
        assert!(letter.row_bytes().len() < CUT_BYTES + 100);
        assert_eq!(letter.cut_from, Some(whole));
        assert!(!letter.cut());
    }
}
