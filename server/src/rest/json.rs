//! JSON of messages where Go's protojson is stricter, or more exact, than the library.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

/// What protojson takes for numbers that JSON has no word for.
const NO_NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Reads a message from the first value of `text`; what comes behind it is not looked at, as by grpc-gateway's decoder.
/// Nothing but blanks is an empty message.
pub(super) fn read(text: &[u8], of: &MessageDescriptor) -> Result<DynamicMessage, serde_json::Error> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    let Some(value) = values.next().transpose()? else { return Ok(DynamicMessage::new(of.clone())) };
    let mut known = String::with_capacity(value.get().len());
    write_known(value, of, &mut known)?;
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut json = serde_json::Deserializer::from_str(&known);
    DynamicMessage::deserialize_with_options(of.clone(), &mut json, &options)
}

/// Writes the same object with the fields that are known, each of which may be there once, and floats as texts: these are
/// read as the nearest float, where a number would be read as a double first, and refused when it is a little above the
/// largest float.
fn write_known(value: &RawValue, of: &MessageDescriptor, out: &mut String) -> Result<(), serde_json::Error> {
    let Members(members) = serde_json::from_str(value.get())?;
    let mut seen = BTreeSet::new();
    out.push('{');
    for (name, value) in members {
        let field = of.get_field_by_json_name(&name).or_else(|| of.get_field_by_name(&name));
        let Some(field) = field else { continue };
        if !seen.insert(field.number()) {
            return Err(Error::custom(format!("duplicate field {name:?}")));
        }
        if value.get() == "null" {
            continue;
        }
        if !out.ends_with('{') {
            out.push(',');
        }
        out.push_str(&format!("{}:", Value::from(field.json_name())));
        write_value(value, &field, out)?;
    }
    out.push('}');
    Ok(())
}

fn write_value(value: &RawValue, field: &FieldDescriptor, out: &mut String) -> Result<(), serde_json::Error> {
    match field.kind() {
        Kind::Message(inner) if !field.is_list() && !field.is_map() && is_own(&inner) => {
            write_known(value, &inner, out)
        }
        Kind::Float if !field.is_list() => {
            out.push_str(&Value::from(float(value)?).to_string());
            Ok(())
        }
        _ => {
            out.push_str(value.get());
            Ok(())
        }
    }
}

/// Times and the like have a JSON form of their own.
fn is_own(message: &MessageDescriptor) -> bool {
    message.package_name() != "google.protobuf"
}

/// The text of a number, which may stand as one or in a text.
fn float(value: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    let text = match value.get().starts_with('"') {
        true => Cow::Owned(serde_json::from_str::<String>(value.get())?),
        false => Cow::Borrowed(value.get()),
    };
    if NO_NUMBERS.contains(&&*text) {
        return Ok(text);
    }
    let is_number = serde_json::from_str::<&RawValue>(&text).is_ok_and(|number| number.get() == text)
        && text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if is_number && text.parse::<f32>().is_ok_and(f32::is_finite) {
        Ok(text)
    } else {
        Err(Error::custom(format!("invalid value for a float: {}", value.get())))
    }
}

/// The members of an object in their order, repeated ones too.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collecting)
    }
}

struct Collecting;

impl<'de> Visitor<'de> for Collecting {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// A `float` as the shortest decimal that reads back as the same one. The library gives a double, which has digits that
/// nobody wrote: `700.0999755859375` for `700.1`.
pub(super) fn shorten(value: &mut Value) {
    let Value::Number(long) = &*value else { return };
    let Ok(float) = long.to_string().parse::<f32>() else { return };
    let short = float.to_string();
    // Without the `.0` that a double would get.
    if let Ok(whole) = short.parse::<i64>() {
        *value = Value::from(whole);
    } else if let Some(double) = short.parse().ok().and_then(Number::from_f64) {
        *value = Value::Number(double);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::LazyLock;

    use super::*;

    static REQUEST: LazyLock<MessageDescriptor> = LazyLock::new(|| {
        let pool = super::super::binding::pool().unwrap();
        pool.get_message_by_name("hablof.logistic_package_api.v1.CreatePackageV1Request").unwrap()
    });

    fn volume(text: &str) -> Result<f32, serde_json::Error> {
        let message = read(format!(r#"{{"MaximumVolume":{text}}}"#).as_bytes(), &REQUEST)?;
        Ok(message.get_field_by_name("MaximumVolume").unwrap().as_f32().unwrap())
    }

    /// Every exponent, with mantissas at its edges and between.
    fn floats() -> impl Iterator<Item = f32> {
        let mantissas = [0, 1, 2, 0x2a_aaaa, 0x40_0000, 0x55_5555, 0x7f_fffe, 0x7f_ffff];
        (0..255_u32)
            .flat_map(move |exponent| mantissas.map(|mantissa| f32::from_bits(exponent << 23 | mantissa)))
    }

    #[test]
    fn what_is_printed_is_short_and_taken_back() {
        for (float, text) in [(700.1, "700.1"), (700.0, "700"), (0.1, "0.1"), (f32::MAX, "3.4028235e+38")] {
            let mut value = Value::from(f64::from(float));
            shorten(&mut value);
            assert_eq!(value.to_string(), text);
        }
        for float in floats() {
            let mut value = Value::from(f64::from(float));
            shorten(&mut value);
            assert_eq!(volume(&value.to_string()).unwrap(), float, "{value}");
        }
    }

    #[test]
    fn numbers_are_those_of_json() {
        assert_eq!(volume("\"1.5\"").unwrap(), 1.5);
        assert_eq!(volume("1E2").unwrap(), 100.0);
        assert_eq!(volume("\"-Infinity\"").unwrap(), f32::NEG_INFINITY);
        // What becomes the largest by rounding is not too large.
        assert_eq!(volume("3.40282352e38").unwrap(), f32::MAX);
        for wrong in
            ["1e39", "-1e39", "\"inf\"", "\"+1\"", "\" 1\"", "\"\"", "true", "[1]", "{}", "\"0x1p2\""]
        {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_field_is_said_once() {
        let error = |text: &str| read(text.as_bytes(), &REQUEST).unwrap_err().to_string();
        assert!(error(r#"{"Title":"a","Title":"a"}"#).contains("duplicate field \"Title\""));
        assert!(error(r#"{"Title":null,"Title":"a"}"#).contains("duplicate"));
        assert!(error(r#"{"Title":"a","\u0054itle":"b"}"#).contains("duplicate"));
        assert!(read(br#"{"x":1,"x":2,"Title":"a"} {"Title":"b"}"#, &REQUEST).is_ok());
    }
}
