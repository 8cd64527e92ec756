//! A row that is being written as a record.

use std::ops::Range;

use super::position::Position;
use super::value::{self, Kind, Reason, Value};
use crate::pgoutput::{Place, Relation, Tuple};

/// Where a member of a JSON column stands: the column, and the bytes of its text.
pub(super) type Slot = Option<(usize, Range<usize>)>;

/// What is known of a row while its record is written.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) tuple: &'a Tuple,
    pub(super) places: &'a [Place],
    pub(super) kinds: &'a [Kind],
    pub(super) relation: &'a Relation,
    pub(super) slots: &'a [Slot],
    pub(super) topic: &'a str,
    pub(super) position: Position,
}

impl<'a> Row<'a> {
    /// A column's value.
    pub(super) fn column(&self, index: usize, kind: Kind) -> Result<Option<Value<'a>>, Reason> {
        let place = self.places.get(index).ok_or("the row has fewer columns than its table")?;
        value::read(kind, self.tuple.datum(place))
    }

    pub(super) fn member(&self, slot: usize) -> Option<Value<'a>> {
        let (column, range) = self.slots.get(slot)?.as_ref()?;
        let bytes = self.tuple.datum(self.places.get(*column)?).bytes()?.get(range.clone())?;
        // It was found in text.
        std::str::from_utf8(bytes).ok().filter(|text| *text != "null").map(Value::Member)
    }
}
