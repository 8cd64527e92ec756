//! `shop.{aggregate_type|lower}.events`: text with expressions in braces, parsed once.
//!
//! | written | is |
//! |---|---|
//! | `{column}` | a column; `{"odd.name"}` where its name has dots, braces, bars or blanks |
//! | `{column.member.member}` | a member of the JSON that a column holds |
//! | `{a ?? b}` | the first that is not NULL |
//! | `{a\|lower\|last:.}` | filters, from the left to the right |
//! | `{@table}` | what is known of the row itself: see [`About`] |
//! | `{{`, `}}` | a brace |

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

/// Text with expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// As it was written.
    pub source: String,
    /// Its parts in their order.
    pub parts: Vec<Part>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// What a row says.
    Expression(Expression),
}

/// What stands in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The first that is not NULL counts.
    pub operands: Vec<Operand>,
    /// In the order in which they are applied.
    pub filters: Vec<Filter>,
}

/// What an expression reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// A column, or a member of the JSON in it.
    Column {
        /// The column's name.
        name: String,
        /// The names of the members, from the outermost on.
        members: Vec<String>,
    },
    /// Something about the row itself.
    About(About),
}

/// What is known of a row beside its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The table's schema.
    Schema,
    /// The table's name.
    Table,
    /// All columns, as a JSON object.
    Row,
    /// The topic that the record goes to.
    Topic,
    /// When the transaction committed.
    CommittedAt,
    /// The transaction's position, as in the header `wal-lsn`.
    Lsn,
    /// The row's number in its transaction, as in the header `wal-seq`.
    Ordinal,
}

/// The names that follow an `@`.
const ABOUT: [(&str, About); 7] = [
    ("schema", About::Schema),
    ("table", About::Table),
    ("row", About::Row),
    ("topic", About::Topic),
    ("committed_at", About::CommittedAt),
    ("lsn", About::Lsn),
    ("seq", About::Ordinal),
];

impl About {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> String {
        let known = ABOUT.iter().find(|(_, about)| *about == self);
        format!("@{}", known.map_or("", |(name, _)| name))
    }
}

/// What is done with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Lower case.
    Lower,
    /// What stands before the first occurrence of a separator; all of it where there is none.
    Before(String),
    /// What stands behind the first occurrence; nothing where there is none.
    After(String),
    /// What stands behind the last occurrence; all of it where there is none.
    Last(String),
    /// As a JSON string.
    Quote,
    /// The text is JSON.
    Json,
    /// Bytes out of base64.
    Base64,
    /// Of a time: a number since 1970; of a number: such a time. The value is how many microseconds the unit has.
    Unit(i64),
}

impl Filter {
    /// As it is written.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Lower => "lower".into(),
            Self::Before(separator) => format!("before:{separator}"),
            Self::After(separator) => format!("after:{separator}"),
            Self::Last(separator) => format!("last:{separator}"),
            Self::Quote => "quote".into(),
            Self::Json => "json".into(),
            Self::Base64 => "base64".into(),
            Self::Unit(1) => "us".into(),
            Self::Unit(1_000) => "ms".into(),
            Self::Unit(_) => "s".into(),
        }
    }
}

/// All filters, as a mistake lists them.
const FILTERS: &str = "lower, before:X, after:X, last:X, quote, json, base64, ms, us and s";

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its other.
    #[error("the brace at character {0} has no other; a brace that is text is written twice")]
    Brace(usize),
    /// Nothing where a name is expected.
    #[error("{{{0}}} lacks a name")]
    NoName(String),
    /// A quote without its other.
    #[error("{{{0}}} has a quote without its other")]
    Quote(String),
    /// Something that no expression has.
    #[error(
        "{{{expression}}}: `{found}` is not understood there; a name with such characters is written in quotes"
    )]
    Unexpected {
        /// The expression.
        expression: String,
        /// What stands there.
        found: String,
    },
    /// No such filter.
    #[error("{{{expression}}}: there is no filter `{name}`; there are {FILTERS}")]
    Filter {
        /// The expression.
        expression: String,
        /// The name.
        name: String,
    },
    /// No such thing is known of a row.
    #[error("{{{expression}}}: there is no `@{name}`; there are {}", ABOUT.map(|(name, _)| format!("@{name}")).join(", "))]
    About {
        /// The expression.
        expression: String,
        /// The name.
        name: String,
    },
}

impl Template {
    /// Parses text with expressions.
    ///
    /// # Errors
    /// When it is none.
    pub fn text(source: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut chars = source.char_indices().peekable();
        while let Some((at, char)) = chars.next() {
            match char {
                '{' | '}' if chars.next_if(|(_, next)| *next == char).is_some() => text.push(char),
                '{' => {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    let inside = inside(source, at, &mut chars)?;
                    parts.push(Part::Expression(Expression::parse(inside)?));
                }
                '}' => return Err(TemplateError::Brace(at + 1)),
                _ => text.push(char),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// Parses what stands where a column is expected: a bare name, a path, or text with expressions.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn column(source: &str) -> Result<Self, TemplateError> {
        if source.contains(['{', '}']) {
            return Self::text(source);
        }
        let part = Part::Expression(Expression::parse(source)?);
        Ok(Self { source: source.to_owned(), parts: vec![part] })
    }

    /// A column by its name.
    #[must_use]
    pub fn of_column(name: &str) -> Self {
        let operand = Operand::Column { name: name.to_owned(), members: Vec::new() };
        let expression = Expression { operands: vec![operand], filters: Vec::new() };
        Self { source: format!("{{{name}}}"), parts: vec![Part::Expression(expression)] }
    }

    /// Text that is the same for every row.
    #[must_use]
    pub fn constant(text: &str) -> Self {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Text(text.to_owned())] };
        Self { source: text.to_owned(), parts }
    }

    /// Its expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Expression(expression) => Some(expression),
        })
    }

    /// The text, where it is the same for every row.
    #[must_use]
    pub fn as_constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The expression, where it is all that the template has.
    #[must_use]
    pub fn as_expression(&self) -> Option<&Expression> {
        match self.parts.as_slice() {
            [Part::Expression(expression)] => Some(expression),
            _ => None,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// What stands between a brace and its other; a brace in quotes is none.
fn inside<'a>(
    source: &'a str,
    at: usize,
    chars: &mut Peekable<CharIndices<'_>>,
) -> Result<&'a str, TemplateError> {
    let mut quoted = false;
    for (end, char) in chars.by_ref() {
        match char {
            '"' => quoted = !quoted,
            '}' if !quoted => return Ok(&source[at + 1..end]),
            _ => {}
        }
    }
    Err(TemplateError::Brace(at + 1))
}

impl Expression {
    fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { source, rest: source };
        let mut operands = vec![parser.operand()?];
        while parser.takes("??") {
            operands.push(parser.operand()?);
        }
        let mut filters = Vec::new();
        while parser.takes("|") {
            filters.push(parser.filter()?);
        }
        parser.end()?;
        Ok(Self { operands, filters })
    }
}

struct Parser<'a> {
    source: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn takes(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.trim_start().strip_prefix(token) else { return false };
        self.rest = rest;
        true
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        self.rest = self.rest.trim_start();
        if self.takes("@") {
            let name = self.name()?;
            let about = ABOUT.iter().find(|(known, _)| *known == name);
            let unknown = || TemplateError::About { expression: self.source.to_owned(), name: name.clone() };
            return Ok(Operand::About(about.ok_or_else(unknown)?.1));
        }
        let name = self.name()?;
        let mut members = Vec::new();
        while self.rest.starts_with('.') {
            self.rest = &self.rest[1..];
            members.push(self.name()?);
        }
        Ok(Operand::Column { name, members })
    }

    /// A name, in quotes or up to what cannot be part of one.
    fn name(&mut self) -> Result<String, TemplateError> {
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let unclosed = || TemplateError::Quote(self.source.to_owned());
            let (name, rest) = quoted.split_once('"').ok_or_else(unclosed)?;
            self.rest = rest;
            return self.named(name);
        }
        let ends = |char: char| char.is_whitespace() || ".|?{}\"@".contains(char);
        let (name, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        self.named(name)
    }

    fn named(&self, name: &str) -> Result<String, TemplateError> {
        if name.is_empty() {
            return Err(TemplateError::NoName(self.source.to_owned()));
        }
        Ok(name.to_owned())
    }

    fn filter(&mut self) -> Result<Filter, TemplateError> {
        // A separator may be anything but a bar, a blank for one.
        let (text, rest) = self.rest.split_at(self.rest.find('|').unwrap_or(self.rest.len()));
        self.rest = rest;
        let (name, separator) = match text.split_once(':') {
            Some((name, separator)) if !separator.is_empty() => (name.trim(), Some(separator.to_owned())),
            _ => (text.trim(), None),
        };
        let filter = match (name, separator) {
            ("lower", None) => Filter::Lower,
            ("before", Some(separator)) => Filter::Before(separator),
            ("after", Some(separator)) => Filter::After(separator),
            ("last", Some(separator)) => Filter::Last(separator),
            ("quote", None) => Filter::Quote,
            ("json", None) => Filter::Json,
            ("base64", None) => Filter::Base64,
            ("us", None) => Filter::Unit(1),
            ("ms", None) => Filter::Unit(1_000),
            ("s", None) => Filter::Unit(1_000_000),
            _ => {
                return Err(TemplateError::Filter {
                    expression: self.source.to_owned(),
                    name: text.trim().to_owned(),
                });
            }
        };
        Ok(filter)
    }

    fn end(&self) -> Result<(), TemplateError> {
        let found = self.rest.trim();
        if found.is_empty() {
            return Ok(());
        }
        Err(TemplateError::Unexpected { expression: self.source.to_owned(), found: found.to_owned() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(name: &str, members: &[&str]) -> Operand {
        Operand::Column {
            name: name.into(),
            members: members.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn parsed(operands: Vec<Operand>, filters: Vec<Filter>) -> Part {
        Part::Expression(Expression { operands, filters })
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn text_and_expressions_are_told_apart() {
        let cases: [(&str, Vec<Part>); 8] = [
            ("orders", vec![text("orders")]),
            ("a{{b}}c", vec![text("a{b}c")]),
            ("shop.{kind}.v1", vec![text("shop."), parsed(vec![column("kind", &[])], vec![]), text(".v1")]),
            ("{a.b-c.d}", vec![parsed(vec![column("a", &["b-c", "d"])], vec![])]),
            (r#"{"odd.name}"."x y"}"#, vec![parsed(vec![column("odd.name}", &["x y"])], vec![])]),
            (
                "{ a ?? b.c ?? @seq }",
                vec![parsed(
                    vec![column("a", &[]), column("b", &["c"]), Operand::About(About::Ordinal)],
                    vec![],
                )],
            ),
            (
                "{a|lower|before: |last:.}",
                vec![parsed(
                    vec![column("a", &[])],
                    vec![Filter::Lower, Filter::Before(" ".into()), Filter::Last(".".into())],
                )],
            ),
            ("{at|ms}", vec![parsed(vec![column("at", &[])], vec![Filter::Unit(1_000)])]),
        ];
        for (source, expected) in cases {
            assert_eq!(Template::text(source).map(|template| template.parts), Ok(expected), "{source}");
        }
    }

    #[test]
    fn where_a_column_is_expected_a_bare_word_is_one() {
        let bare = |source| Template::column(source).unwrap().parts;
        assert_eq!(bare("options.headers"), vec![parsed(vec![column("options", &["headers"])], vec![])]);
        assert_eq!(bare("{a}:{b}").len(), 3);
        assert_eq!(Template::text("options").unwrap().as_constant(), Some("options"));
    }

    #[test]
    fn a_mistake_says_where_and_what_there_is() {
        let told = |source| Template::text(source).unwrap_err().to_string();
        assert_eq!(
            told("a{b"),
            "the brace at character 2 has no other; a brace that is text is written twice"
        );
        assert_eq!(
            told("a}"),
            "the brace at character 2 has no other; a brace that is text is written twice"
        );
        assert_eq!(told("{}"), "{} lacks a name");
        assert_eq!(told("{a.}"), "{a.} lacks a name");
        assert_eq!(told("{a ?? }"), "{a ?? } lacks a name");
        assert_eq!(
            told("{a b}"),
            "{a b}: `b` is not understood there; a name with such characters is written in quotes"
        );
        assert_eq!(
            told("{a|upper}"),
            format!("{{a|upper}}: there is no filter `upper`; there are {FILTERS}")
        );
        assert_eq!(
            told("{a|before}"),
            format!("{{a|before}}: there is no filter `before`; there are {FILTERS}")
        );
        assert!(told("{@key}").contains("there is no `@key`; there are @schema, @table, @row"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(source in r#"[a-z@{}.|?:" ]{0,30}"#) {
            let _ = Template::text(&source);
            let _ = Template::column(&source);
        }

        #[test]
        fn text_without_braces_is_itself(source in "[^{}]{1,30}") {
            let template = Template::text(&source).unwrap();
            prop_assert_eq!(template.as_constant(), Some(source.as_str()));
        }
    }
}
