#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Datum;
use proptest::prelude::*;
use serde_json::json;

use super::encode::{Encoder, Scratch};
use super::given::Given;
use super::*;

/// What Apache's own library makes of a JSON value written by a schema.
fn read(schema: &str, json: &str) -> Result<Datum, String> {
    let bytes = written(schema, json)?;
    let parsed = apache_avro::Schema::parse_str(schema).unwrap();
    let mut left = bytes.as_slice();
    let reader = GenericDatumReader::builder(&parsed).build().unwrap();
    let datum = reader.read_value(&mut left).map_err(|error| error.to_string());
    assert!(left.is_empty(), "bytes that nobody reads");
    datum
}

fn written(schema: &str, json: &str) -> Result<Vec<u8>, String> {
    let (schema, mut scratch, mut into) = (Schema::read(schema)?, Scratch::default(), b"before".to_vec());
    let mut encoder =
        Encoder { schema: &schema, scratch: &mut scratch, bytes_are_characters: false, depth: 0 };
    encoder.write(0, Given::Json(json), &mut into).map_err(|refusal| refusal.to_string())?;
    Ok(into.split_off(6))
}

fn of(logical: &str, base: &str) -> String {
    format!(r#"{{"type": "{base}", "logicalType": "{logical}"}}"#)
}

#[test]
fn plain_values_are_written_by_their_type() {
    for (schema, json, expected) in [
        ("\"null\"", "null", Datum::Null),
        ("\"boolean\"", "true", Datum::Boolean(true)),
        ("\"int\"", "-2147483648", Datum::Int(i32::MIN)),
        ("\"long\"", "9223372036854775807", Datum::Long(i64::MAX)),
        ("\"double\"", "1e3", Datum::Double(1000.0)),
        ("\"float\"", "\"-Infinity\"", Datum::Float(f32::NEG_INFINITY)),
        ("\"string\"", r#""a\nä 😀""#, Datum::String("a\nä 😀".into())),
        ("\"bytes\"", "\"AP8=\"", Datum::Bytes(vec![0, 255])),
        (r#"["null", "long"]"#, "null", Datum::Union(0, Box::new(Datum::Null))),
        (r#"["null", "long"]"#, "3", Datum::Union(1, Box::new(Datum::Long(3)))),
        (r#"["string", "null", "long"]"#, "3", Datum::Union(2, Box::new(Datum::Long(3)))),
        (r#"["null", "int", "long"]"#, "5000000000", Datum::Union(2, Box::new(Datum::Long(5_000_000_000)))),
        (r#"["double", "string"]"#, "\"x\"", Datum::Union(1, Box::new(Datum::String("x".into())))),
        (
            r#"{"type": "array", "items": "int"}"#,
            "[ 1 , 2 ]",
            Datum::Array(vec![Datum::Int(1), Datum::Int(2)]),
        ),
        (r#"{"type": "array", "items": "int"}"#, "[]", Datum::Array(vec![])),
        (
            r#"{"type": "map", "values": "int"}"#,
            r#"{"a\"": 1}"#,
            Datum::Map(HashMap::from([("a\"".into(), Datum::Int(1))])),
        ),
        (r#"{"type": "fixed", "name": "F", "size": 2}"#, "\"AP8=\"", Datum::Fixed(2, vec![0, 255])),
        (r#"{"type": "enum", "name": "E", "symbols": ["A", "B"]}"#, "\"B\"", Datum::Enum(1, "B".into())),
        (&of("date", "int"), "\"1970-01-02\"", Datum::Date(1)),
        (&of("date", "int"), "-1", Datum::Date(-1)),
        (&of("time-millis", "int"), "\"00:00:01.0025\"", Datum::TimeMillis(1_002)),
        (&of("time-micros", "long"), "\"23:59:59.999999\"", Datum::TimeMicros(86_399_999_999)),
        (&of("timestamp-millis", "long"), "\"1969-12-31T23:59:59.9999Z\"", Datum::TimestampMillis(-1)),
        (&of("timestamp-micros", "long"), "\"1970-01-01T01:00:00.000001+01:00\"", Datum::TimestampMicros(1)),
        (&of("timestamp-nanos", "long"), "\"1970-01-01T00:00:00.000001Z\"", Datum::TimestampNanos(1_000)),
        (&of("local-timestamp-millis", "long"), "12", Datum::LocalTimestampMillis(12)),
        (
            &of("uuid", "string"),
            "\"30313233-3435-3637-3839-616263646566\"",
            Datum::Uuid(uuid::Uuid::from_bytes(*b"0123456789abcdef")),
        ),
    ] {
        assert_eq!(read(schema, json), Ok(expected), "{schema}: {json}");
    }
}

#[test]
fn what_does_not_fit_says_where_and_why_and_not_what_it_was() {
    let order = r#"{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"},
        {"name": "lines", "type": {"type": "array", "items": {"type": "map", "values": ["null", "int"]}}, "default": []}]}"#;
    for (schema, json, expected) in [
        ("\"int\"", "2147483648", "it is not in the range of int"),
        ("\"long\"", "1.5", "expected a whole number of 64 bits"),
        ("\"long\"", "\"secret\"", "expected long, found a text"),
        ("\"string\"", "1", "expected string, found a number"),
        ("\"boolean\"", "null", "expected boolean, found null"),
        ("\"double\"", "\"inf\"", "expected a number"),
        ("\"double\"", "1e999", "expected a number"),
        ("\"float\"", "1e39", "it is not in the range of float"),
        ("\"bytes\"", "\"?\"", "expected bytes in base64"),
        (r#"{"type": "fixed", "name": "F", "size": 3}"#, "\"AP8=\"", "expected 3 bytes, found 2"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A", "B"]}"#, "\"C\"", "`C` is not one of A, B"),
        (r#"["null", "int", "string"]"#, "[]", "expected one of null, int, string, found an array"),
        (&of("date", "int"), "\"2026-03-01T10:00:00Z\"", "expected a date, such as 2026-03-01"),
        (&of("time-millis", "int"), "86400000", "it is not in the range of day"),
        (order, "[]", "expected Order, found an array"),
        (order, "{}", "the field id: it is absent, and the schema has no default for it"),
        (order, r#"{"id": 1, "ID": 2}"#, "the schema has no field \"ID\"; it has: id, lines"),
        (order, r#"{"id": "x"}"#, "the field id: expected long, found a text"),
        (
            order,
            r#"{"id": 1, "lines": [{}, {"a": true}]}"#,
            "the field lines[1].a: expected one of null, int, found a boolean",
        ),
    ] {
        assert_eq!(written(schema, json), Err(expected.into()), "{schema}: {json}");
    }
    let deep = r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}"#;
    let nested = |depth| format!("{}null{}", "{\"r\": ".repeat(depth), "}".repeat(depth));
    assert!(written(deep, &nested(60)).is_ok());
    assert!(written(deep, &nested(100_000)).unwrap_err().ends_with("it is nested too deeply"));
}

#[test]
fn members_stand_in_the_order_of_the_fields_and_what_is_absent_at_its_default() {
    let schema = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"}, {"name": "note", "type": ["null", "string"]},
        {"name": "raw", "type": "bytes", "default": "\u00ff"},
        {"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [
            {"name": "n", "type": "int", "default": 7}]}, "default": {}},
        {"name": "again", "type": ["null", "shop.Inner"], "default": null}]}"#;
    let inner = |n| Datum::Record(vec![("n".into(), Datum::Int(n))]);
    let union = |branch, datum| Datum::Union(branch, Box::new(datum));
    let record = |id, note, again| {
        let fields = [
            ("id", Datum::Long(id)),
            ("note", note),
            ("raw", Datum::Bytes(vec![255])),
            ("inner", inner(7)),
            ("again", again),
        ];
        Datum::Record(fields.map(|(name, datum)| (name.to_owned(), datum)).into())
    };
    assert_eq!(read(schema, r#"{"id":1}"#), Ok(record(1, union(0, Datum::Null), union(0, Datum::Null))));
    // An escape in a name is no other name, and of members that are there twice the last counts.
    let json = r#"{"again": {"n": 3}, "note": "x", "id": 1, "\u0069d": 2}"#;
    let expected = record(2, union(1, Datum::String("x".into())), union(1, inner(3)));
    assert_eq!(read(schema, json), Ok(expected));
}

#[test]
fn a_schema_that_cannot_be_written_is_refused_at_the_start() {
    for (schema, part) in [
        ("no schema", "JSON"),
        ("\"nothing\"", "nothing"),
        (
            r#"{"type": "record", "name": "R", "fields": [{"name": "n", "type": "int", "default": 3000000000}]}"#,
            "n",
        ),
        (r#"{"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}"#, "duration"),
    ] {
        let error = Schema::read(schema).unwrap_err();
        assert!(error.contains(part), "{schema}: {error}");
    }
}

/// A schema, and a JSON value that it takes.
fn typed() -> impl Strategy<Value = (serde_json::Value, serde_json::Value)> {
    let leaf = prop_oneof![
        Just((json!("null"), json!(null))),
        any::<bool>().prop_map(|value| (json!("boolean"), json!(value))),
        any::<i32>().prop_map(|value| (json!("int"), json!(value))),
        any::<i64>().prop_map(|value| (json!("long"), json!(value))),
        any::<i32>().prop_map(|eighths| (json!("double"), json!(f64::from(eighths) / 8.0))),
        any::<String>().prop_map(|value| (json!("string"), json!(value))),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(schema, value)| (
                json!({"type": "array", "items": schema}),
                json!([value, value])
            )),
            (inner.clone(), any::<String>()).prop_map(|((schema, value), name)| (
                json!({"type": "map", "values": schema}),
                json!({name: value})
            )),
            (prop::collection::vec(inner, 0..4), any::<bool>()).prop_map(|(fields, is_reversed)| {
                let name = |index| format!("f{index}");
                let described = fields
                    .iter()
                    .enumerate()
                    .map(|(at, (schema, _))| json!({"name": name(at), "type": schema}));
                let described: Vec<_> = described.collect();
                let mut members: Vec<_> =
                    fields.iter().enumerate().map(|(at, (_, value))| (name(at), value.clone())).collect();
                if is_reversed {
                    members.reverse();
                }
                let value = serde_json::Value::Object(members.into_iter().collect());
                // A name of its own for each: a schema may have a name once.
                let name = format!("R{}", uuid::Uuid::new_v4().simple());
                (json!({"type": "record", "name": name, "fields": described}), value)
            }),
        ]
    })
}

/// What a value says, without the names of Avro's types.
fn plain(datum: Datum) -> serde_json::Value {
    match datum {
        Datum::Array(items) => items.into_iter().map(plain).collect(),
        Datum::Map(members) => members.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        Datum::Record(fields) => fields.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        Datum::Union(_, inner) => plain(*inner),
        other => other.try_into().unwrap(),
    }
}

proptest! {
    #[test]
    fn whatever_fits_is_read_back_as_it_was((schema, value) in typed()) {
        let (schema, json) = (schema.to_string(), value.to_string());
        prop_assert_eq!(read(&schema, &json).map(plain), Ok(value));
    }

    /// Refused, or written so that a reader comes to its end.
    #[test]
    fn whatever_else_is_refused_or_read((schema, _) in typed(), (_, value) in typed()) {
        let (schema, json) = (schema.to_string(), value.to_string());
        if written(&schema, &json).is_ok() {
            prop_assert!(read(&schema, &json).is_ok());
        }
    }

    #[test]
    fn a_decimal_has_all_its_digits_and_the_sign_of_its_number(
        unscaled in any::<i64>().prop_flat_map(|wide| prop_oneof![Just(i128::from(wide)), Just(i128::from(wide >> 40)), Just(i128::from(wide) << 40)]),
        scale in 0u32..12, is_fixed in any::<bool>(),
    ) {
        let sign = if unscaled < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
        let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
        let base = if is_fixed { r#""type": "fixed", "name": "D", "size": 16"# } else { r#""type": "bytes""# };
        let schema = format!(r#"{{{base}, "logicalType": "decimal", "precision": 38, "scale": {scale}}}"#);
        let bytes = written(&schema, &text).unwrap();
        let bytes = if is_fixed { &bytes[..] } else { &bytes[1..] };
        let mut padded = [if bytes[0] & 0x80 == 0 { 0 } else { 0xff }; 16];
        padded[16 - bytes.len()..].copy_from_slice(bytes);
        prop_assert_eq!(i128::from_be_bytes(padded), unscaled, "{}", text);
        let is_least = bytes.len() == 1 || i128::from(i8::from_be_bytes([bytes[0]])) != if bytes[1] & 0x80 == 0 { 0 } else { -1 };
        prop_assert!(is_fixed || is_least, "{:?}", bytes);
    }
}

#[test]
fn a_decimal_is_never_rounded() {
    let schema = r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#;
    for (text, expected) in [
        ("1.50", Ok(vec![4, 0, 150])),
        ("1.5000", Ok(vec![4, 0, 150])),
        ("\"-0.01\"", Ok(vec![2, 255])),
        ("15e-1", Ok(vec![4, 0, 150])),
        ("1.2E+1", Ok(vec![4, 4, 176])),
        ("0", Ok(vec![2, 0])),
        ("1.005", Err("`1.005` has more than 2 digits behind the point")),
        ("100", Err("`100` has more than the 4 digits of its precision")),
        ("1e999999999", Err("expected a decimal number")),
        ("\"NaN\"", Err("expected a decimal number")),
    ] {
        assert_eq!(written(schema, text), expected.map_err(str::to_owned), "{text}");
    }
}

#[test]
fn a_text_that_looks_like_a_number_or_an_id_stays_the_text_that_it_is() {
    assert_eq!(written(r#"["null", "double", "string"]"#, "\"007\""), Ok(vec![4, 6, b'0', b'0', b'7']));
    assert!(written("\"double\"", "\"5\"").is_err());
    let uuid = r#"{"type": "string", "logicalType": "uuid"}"#;
    assert!(written(uuid, "\"d41d8cd9-8f00-b204-e980-0998ecf8427e\"").is_ok());
    assert!(written(uuid, "\"d41d8cd98f00b204e9800998ecf8427e\"").is_err(), "it may be a hash");
}

#[test]
fn a_value_that_may_be_read_in_too_many_ways_is_refused_in_time() {
    let fields = r#"[{"name": "n", "type": ["null", "A", "B"], "default": null}]"#;
    let schema = format!(
        r#"[{{"type": "record", "name": "A", "fields": [{{"name": "n", "type": ["null", "A",
            {{"type": "record", "name": "B", "fields": {fields}}}], "default": null}}]}}, "B"]"#
    );
    let deep = format!("{}{{\"bad\": 1}}{}", "{\"n\": ".repeat(40), "}".repeat(40));
    assert!(written(&schema, &deep).is_err());
}
