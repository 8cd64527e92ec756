//! A row as people read it, whatever is wrong with it: JSON, each column by its name.

use serde_json::{Map, Value};

use crate::event::value::{self, Kind};
use crate::event::write;
use crate::pgoutput::{Datum, Relation, Tuple};
use crate::time::{from_postgres, write_rfc3339};

/// The row with the names of its table's columns. A value of a type that is not known here is given in hexadecimal,
/// as Postgres shows `bytea`.
pub(super) fn row(relation: &Relation, kinds: &[Kind], row: &Tuple) -> Map<String, Value> {
    let named = relation.columns.iter().zip(kinds).zip(row.iter());
    named.map(|((column, kind), datum)| (column.name.clone(), value(*kind, datum))).collect()
}

fn value(kind: Kind, datum: Datum<'_>) -> Value {
    let Some(bytes) = datum.bytes() else { return Value::Null };
    match value::read(kind, datum) {
        Ok(Some(value::Value::Integer(number))) => number.into(),
        Ok(Some(value::Value::Boolean(is))) => is.into(),
        Ok(None) => Value::Null,
        Ok(Some(value::Value::Bytes(bytes))) => hexadecimal(bytes),
        Ok(Some(known)) => {
            let mut text = Vec::new();
            let written = write::text(known, &mut text).ok().and_then(|()| String::from_utf8(text).ok());
            written.map_or_else(|| hexadecimal(bytes), Value::from)
        }
        Err(_) => unreadable(kind, datum, bytes),
    }
}

/// What does not decode, as a person reads it best.
fn unreadable(kind: Kind, datum: Datum<'_>, bytes: &[u8]) -> Value {
    match (kind, bytes) {
        (Kind::Timestamp, _) => match bytes.try_into().map(i64::from_be_bytes) {
            Ok(i64::MAX) => "infinity".into(),
            Ok(i64::MIN) => "-infinity".into(),
            Ok(micros) => time(micros),
            Err(_) => hexadecimal(bytes),
        },
        _ if matches!(datum, Datum::Text(_)) => text(bytes),
        _ => hexadecimal(bytes),
    }
}

fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| hexadecimal(bytes), Value::from)
}

fn time(micros: i64) -> Value {
    let mut text = Vec::new();
    write_rfc3339(from_postgres(micros), &mut text);
    String::from_utf8_lossy(&text).into()
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
        let kinds = relation.columns.iter().map(|column| Kind::of(column.type_oid)).collect::<Vec<_>>();
        let shown = Value::Object(row(&relation, &kinds, &Tuple::from_values(values.into_iter())));
        let expected = r#"{"at":"2000-01-01T00:00:00.000000Z","id":7,"key":null,"kind":"\\xff","odd":"\\x01fe","payload":"{}"}"#;
        assert_eq!(shown.to_string(), expected);
    }
}
