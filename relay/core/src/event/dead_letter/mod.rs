//! Rows that cannot be published, where the operator has chosen not to halt on them: they go to a topic of their own,
//! with the reason and their place in the log, and the rows behind them go on.
//!
//! A dead letter takes its event's turn: it is in the window like an event, and its position is confirmed only when
//! Kafka has acknowledged it. Later events of its key do go on, so for that key the topic then has a gap.

mod readable;

use serde_json::{Map, Value};

use super::placed::PlacedRow;
use super::position::Position;
use super::reader::Reader;

/// When a letter is refused as well, texts of its row are cut to so many bytes: more than a person reads, and less than
/// any topic takes.
const CUT_BYTES: usize = 16 << 10;

/// So much of a reason is kept then.
const REASON_BYTES: usize = 2 << 10;

/// A key, an id or a source that is longer is left out then.
const PART_BYTES: usize = 1 << 10;

/// A row that cannot be published.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Why.
    pub reason: String,
    /// Schema and table.
    pub table: String,
    /// The record's key, where the row gives one.
    pub key: Option<Vec<u8>>,
    /// The event's id, where the row gives one.
    pub id: Option<Vec<u8>>,
    /// The event's source, where the row gives one.
    pub source: Option<Vec<u8>>,
    /// The row: a JSON object, its columns by name.
    pub row: Map<String, Value>,
    /// Its place.
    pub position: Position,
    /// Bytes of the whole row, when it was cut.
    pub cut_from: Option<usize>,
}

impl DeadLetter {
    /// A row that gives no record, or one that Kafka refuses, with the parts of it that can be read all the same.
    #[must_use]
    pub fn of(placed: &PlacedRow, reason: String) -> Self {
        let (plan, mut reader) = (&*placed.plan, Reader::default());
        Self {
            reason,
            table: plan.table.clone(),
            key: reader.key(placed).map(<[u8]>::to_vec),
            id: reader.id(placed).map(<[u8]>::to_vec),
            source: reader.source(placed).map(<[u8]>::to_vec),
            row: readable::row(&plan.relation, &plan.kinds, &placed.row),
            position: placed.position,
            cut_from: None,
        }
    }

    /// Cuts the texts of a row that is too large for its topic, too; `false` when that has been done already.
    pub fn cut(&mut self) -> bool {
        if self.cut_from.is_some() {
            return false;
        }
        self.cut_from = Some(self.row_bytes().len());
        self.reason.truncate(self.reason.floor_char_boundary(REASON_BYTES));
        for part in [&mut self.key, &mut self.id, &mut self.source] {
            // What is cut off is another key, or another id.
            if part.as_ref().is_some_and(|part| part.len() > PART_BYTES) {
                *part = None;
            }
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::fixture;
    use crate::lsn::Lsn;

    #[test]
    fn a_letter_has_the_whole_row_and_is_cut_once() {
        let payload = "ä".repeat(CUT_BYTES);
        let position = Position { lsn: Lsn(1), ordinal: 0, committed_at: 0 };
        let row = fixture::row(7, "7", Some(payload.as_bytes()));
        let placed = PlacedRow { row, plan: Arc::new(fixture::plan()), position };
        let mut letter = DeadLetter::of(&placed, "why".into());
        assert_eq!(letter.key.as_deref(), Some(b"7".as_slice()));
        let whole = letter.row_bytes().len();
        assert!(whole > 2 * CUT_BYTES);
        assert!(letter.cut());
        assert!(letter.row_bytes().len() < CUT_BYTES + 200);
        assert_eq!(letter.cut_from, Some(whole));
        assert!(!letter.cut());
    }
}
