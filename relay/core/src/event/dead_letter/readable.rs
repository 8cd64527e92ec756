//! A row as people read it, whatever is wrong with it: JSON, each column by its name.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::event::{Kind, Plan};
use crate::pgoutput::{Datum, Relation, Tuple};
use crate::time::POSTGRES_EPOCH_US;
use crate::time::write_rfc3339;

/// The row with the names of its table's columns. A value of a type that is not known here is given in hexadecimal,
/// as Postgres shows `bytea`.
pub(super) fn row(relation: &Relation, plan: &Plan, row: &Tuple) -> Map<String, Value> {
    let named = relation.columns.iter().zip(plan.kinds()).zip(row.iter());
    named.map(|((column, kind), datum)| (column.name.clone(), value(kind, datum))).collect()
}

fn value(kind: Kind, datum: Datum<'_>) -> Value {
    match datum {
        Datum::Null | Datum::Unchanged => Value::Null,
        Datum::Text(bytes) => text(bytes),
        Datum::Binary(bytes) => binary(kind, bytes),
    }
}

fn binary(kind: Kind, bytes: &[u8]) -> Value {
    let known = match (kind, bytes) {
        (Kind::Integer, [a, b]) => Some(i16::from_be_bytes([*a, *b]).into()),
        (Kind::Integer, [a, b, c, d]) => Some(i32::from_be_bytes([*a, *b, *c, *d]).into()),
        (Kind::Integer, _) => eight(bytes).map(|bytes| i64::from_be_bytes(bytes).into()),
        (Kind::Text, _) => Some(text(bytes)),
        (Kind::Jsonb, [_, json @ ..]) => Some(text(json)),
        (Kind::Uuid, _) => Uuid::from_slice(bytes).ok().map(|uuid| uuid.to_string().into()),
        (Kind::Timestamp, _) => eight(bytes).map(|bytes| time(i64::from_be_bytes(bytes))),
        _ => None,
    };
    known.unwrap_or_else(|| hexadecimal(bytes))
}

fn eight(bytes: &[u8]) -> Option<[u8; 8]> {
    bytes.try_into().ok()
}

fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| hexadecimal(bytes), Value::from)
}

fn time(micros: i64) -> Value {
    match micros {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        _ => {
            let mut text = Vec::new();
            write_rfc3339(micros.saturating_add(POSTGRES_EPOCH_US), &mut text);
            String::from_utf8_lossy(&text).into()
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> Value {
    use std::fmt::Write as _;
    let mut text = String::from("\\x");
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::{OutboxTable, Types};
    use crate::pgoutput::Column;

    #[test]
    fn each_column_is_readable_and_what_is_not_known_is_hexadecimal() {
        let columns = [("id", 20), ("key", 20), ("kind", 25), ("payload", 3802), ("at", 1184), ("odd", 600)];
        let columns = columns.map(|(name, type_oid)| Column { name: name.to_owned(), type_oid }).to_vec();
        let relation = Relation { id: 1, namespace: "public".into(), name: "outbox".into(), columns };
        let id = 7_i64.to_be_bytes();
        let at = 0_i64.to_be_bytes();
        let values: [Option<&[u8]>; 6] =
            [Some(&id), None, Some(b"\xff"), Some(b"\x01{}"), Some(&at), Some(&[1, 254])];
        let plan =
            Plan::new(&OutboxTable::new("public", "outbox", &[]), &relation, &Types::default()).unwrap();
        let shown = Value::Object(row(&relation, &plan, &Tuple::from_values(values.into_iter())));
        let expected = r#"{"at":"2000-01-01T00:00:00.000000Z","id":7,"key":null,"kind":"\\xff","odd":"\\x01fe","payload":"{}"}"#;
        assert_eq!(shown.to_string(), expected);
    }
}
