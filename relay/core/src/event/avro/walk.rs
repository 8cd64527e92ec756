//! Members and elements of JSON that is known to be JSON: slices of its text, so that nothing is allocated for them.

/// What a JSON value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Null,
    Boolean,
    Number,
    Text,
    Array,
    Object,
}

impl Class {
    pub(super) fn of(json: &str) -> Self {
        match json.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => Self::Text,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            _ => Self::Number,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// Walks an array or an object.
pub(super) struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// What stands between the brackets of `json`, which has no blanks around them.
    pub(super) fn inside(json: &'a str) -> Self {
        Self { text: json.get(1..json.len().saturating_sub(1)).unwrap_or_default(), at: 0 }
    }

    /// The next member of an object: its name in quotes, and its value.
    pub(super) fn member(&mut self) -> Option<(&'a str, &'a str)> {
        let name = self.value()?;
        Some((name, self.value()?))
    }

    /// The next value, past what separates it from the one before.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let is_between = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':');
        self.at += bytes.get(self.at..)?.iter().take_while(|byte| is_between(byte)).count();
        let start = self.at;
        self.at = end(bytes, start)?;
        self.text.get(start..self.at)
    }
}

/// Where a value ends that starts at `at`.
fn end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => Some(end_of_text(bytes, at)),
        b'{' | b'[' => Some(end_of_nest(bytes, at)),
        _ => {
            let is_part =
                |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b']' | b'}');
            Some(at + bytes[at..].iter().take_while(|byte| is_part(byte)).count().max(1))
        }
    }
}

fn end_of_text(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_nest(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = end_of_text(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            any::<String>().prop_map(Value::from),
            "[\\\\\"{}\\[\\],: a]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[\\\\\"{}a:,]{0,4}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn walked(text: &str) -> Value {
        let mut walk = Walk::inside(text);
        match Class::of(text) {
            Class::Array => std::iter::from_fn(|| walk.value()).map(walked).collect(),
            Class::Object => {
                let member = |(name, value): (&str, &str)| {
                    (serde_json::from_str(name).unwrap_or_default(), walked(value))
                };
                Value::Object(std::iter::from_fn(|| walk.member()).map(member).collect())
            }
            _ => serde_json::from_str(text).unwrap_or_default(),
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_the_library_finds(json in json(), is_pretty in any::<bool>()) {
            let text = if is_pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) };
            prop_assert_eq!(walked(&text.unwrap_or_default()), json);
        }

        #[test]
        fn it_ends_on_anything_else(text in "[\\[\\]{}\",:\\\\ 1a]{0,24}") {
            walked(&text);
        }
    }
}
