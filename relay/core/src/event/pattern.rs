//! Names of many tables at once: `tenant_*.outbox`.

use std::fmt;

/// A pattern of tables: `*` stands for any text, also for none. Case counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    schema: String,
    table: String,
}

impl Pattern {
    /// The pattern, where one of the names is one.
    #[must_use]
    pub fn of(schema: &str, table: &str) -> Option<Self> {
        let is_one = schema.contains('*') || table.contains('*');
        is_one.then(|| Self { schema: schema.to_owned(), table: table.to_owned() })
    }

    /// Whether it stands for the table, too. It stands for none of the server's own, nor of walpost's.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        let is_the_servers = schema.starts_with("pg_") || ["information_schema", "walpost"].contains(&schema);
        !is_the_servers && fits(&self.schema, schema) && fits(&self.table, table)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Whether a name fits a pattern: `*` stands for any text.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    // Each piece at its first place leaves the most for those behind it; the last stands at the end.
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in between.split('*') {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fit) in [
            ("tenant_*", "tenant_a", true),
            ("tenant_*", "tenant_", true),
            ("tenant_*", "tenants", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "a.b.b", true),
            ("**", "x", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
        assert_eq!(Pattern::of("public", "outbox"), None);
        let all = Pattern::of("*", "outbox").unwrap();
        assert!(
            all.matches("tenant", "outbox")
                && !all.matches("walpost", "outbox")
                && !all.matches("pg_temp_3", "outbox")
        );
    }

    /// The plainest way to say it.
    fn simply(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| simply(rest, &name[at..])),
            Some((byte, rest)) => {
                name.split_first().is_some_and(|(own, left)| own == byte && simply(rest, left))
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_plainest_matching_says(pattern in "[ab*]{0,7}", name in "[ab]{0,8}") {
            prop_assert_eq!(fits(&pattern, &name), simply(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
