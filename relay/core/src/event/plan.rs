//! Where each role's value is in the rows of one description of the table.

use uuid::Uuid;

use super::error::AtColumn;
use super::table::EventColumn;
use super::value::{self, Kind};
use super::{Key, OutboxError, OutboxEvent, OutboxTable, Role, Types};
use crate::pgoutput::{Column, Datum, Relation, Tuple};

/// How rows are read that were written while the table was as one description has it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For each column of the table, the roles it has, and how its values are laid out.
    columns: Vec<(Roles, Kind)>,
}

/// Roles, a bit for each: one column may have several, such as an id that is the key as well.
type Roles = u8;

impl Plan {
    /// Finds the columns in a table as Postgres describes it.
    ///
    /// # Errors
    /// When a column is missing, its type is unknown, or does not fit its role and the format.
    pub fn new(table: &OutboxTable, relation: &Relation, types: &Types) -> Result<Self, OutboxError> {
        // What has no role may be of any type: it is only shown, in a dead letter.
        let kind = |oid| types.kind(oid).unwrap_or(Kind::Other);
        let mut columns: Vec<_> = relation.columns.iter().map(|column| (0, kind(column.type_oid))).collect();
        for wanted in &table.columns {
            let described = Described { relation, types, table };
            let index = described.find(wanted)?;
            described.check(wanted, index)?;
            columns[index].0 |= 1 << (wanted.role as Roles);
        }
        Ok(Self { columns })
    }

    /// Reads a row.
    ///
    /// # Errors
    /// When a value that an event needs is NULL or does not decode.
    pub fn event(&self, row: &Tuple) -> Result<OutboxEvent, OutboxError> {
        let reader = self.values(row);
        Ok(OutboxEvent {
            id: reader.integer(Role::Id)?,
            key: reader.key()?,
            kind: reader.text(Role::Type)?.ok_or(OutboxError::Null(Role::Type.name()))?,
            payload: reader.payload()?,
            created_at: reader.timestamp(Role::CreatedAt)?,
            event_id: reader.uuid(Role::EventId)?,
            traceparent: reader.text(Role::Traceparent)?,
        })
    }

    /// Key and UUID of a row that is not an event, as far as they can be read.
    #[must_use]
    pub fn identity(&self, row: &Tuple) -> (Option<Key>, Option<Uuid>) {
        let reader = self.values(row);
        (reader.key().ok(), reader.uuid(Role::EventId).ok())
    }

    /// How the values of each column are laid out, in the order of the description.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.columns.iter().map(|(_, kind)| *kind)
    }

    fn values<'a>(&self, row: &'a Tuple) -> value::Values<'a> {
        let mut values = [(Datum::Null, Kind::Other); Role::ALL.len()];
        for (datum, (roles, kind)) in row.iter().zip(&self.columns) {
            let mut left = *roles;
            while left != 0 {
                values[left.trailing_zeros() as usize] = (datum, *kind);
                left &= left - 1;
            }
        }
        value::Values { row, values }
    }
}

/// A description of the table, and what is known of its types.
struct Described<'a> {
    relation: &'a Relation,
    types: &'a Types,
    table: &'a OutboxTable,
}

impl Described<'_> {
    /// The one column of a setting.
    fn find(&self, wanted: &EventColumn) -> Result<usize, OutboxError> {
        let columns = &self.relation.columns;
        let place = |name: &String| columns.iter().position(|column| column.name == *name);
        let mut found = wanted.names.iter().filter_map(place);
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            (Some(_), Some(_)) => Err(OutboxError::AmbiguousColumn(self.at(wanted, &wanted.names.join(",")))),
            (None, _) => Err(self.missing(wanted)),
        }
    }

    fn check(&self, wanted: &EventColumn, index: usize) -> Result<(), OutboxError> {
        let column = &self.relation.columns[index];
        match self.types.kind(column.type_oid) {
            Some(kind) if wanted.kinds.contains(&kind) => self.check_labels(wanted, column),
            Some(_) => Err(self.wrong_type(wanted, column)),
            None => Err(OutboxError::UnknownType {
                at: self.at(wanted, &column.name),
                found: self.types.shown(column.type_oid),
                oid: column.type_oid,
            }),
        }
    }

    /// An enum none of whose labels the format knows.
    fn check_labels(&self, wanted: &EventColumn, column: &Column) -> Result<(), OutboxError> {
        let (labels, known) = (self.types.labels(column.type_oid), self.table.labels);
        let knows = |label: &String| known.contains(&label.as_str());
        if wanted.role != Role::Type || labels.is_empty() || known.is_empty() || labels.iter().any(knows) {
            return Ok(());
        }
        Err(OutboxError::ForeignLabels {
            at: self.at(wanted, &column.name),
            labels: labels.join(", "),
            format: self.table.format,
            known: known.join(", "),
        })
    }

    /// The table as it was called when it was described.
    fn at(&self, wanted: &EventColumn, column: &str) -> Box<AtColumn> {
        let table = format!("{}.{}", self.relation.namespace, self.relation.name);
        Box::new(AtColumn { table, column: column.to_owned(), setting: wanted.setting() })
    }

    fn missing(&self, wanted: &EventColumn) -> OutboxError {
        let has: Vec<_> = self.relation.columns.iter().map(|column| column.name.as_str()).collect();
        OutboxError::MissingColumn { at: self.at(wanted, &wanted.names.join(",")), has: has.join(", ") }
    }

    fn wrong_type(&self, wanted: &EventColumn, column: &Column) -> OutboxError {
        let expected: Vec<_> = wanted.kinds.iter().map(|kind| kind.types()).collect();
        OutboxError::WrongType {
            at: self.at(wanted, &column.name),
            found: self.types.shown(column.type_oid),
            format: self.table.format,
            expected: expected.join(", "),
        }
    }
}
