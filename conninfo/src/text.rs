//! Strings of keywords and values: `host=db port = 5432 password='it\'s here'` (`conninfo_parse` of libpq).

use crate::keywords::Values;

/// What C's `isspace` takes for a blank.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

pub(crate) fn parse(text: &str) -> Result<Values, String> {
    let mut values = Values::default();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let end = rest.find(|c| c == '=' || is_blank(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let after = after.trim_start_matches(is_blank);
        // Which word it is is not said: it may be a part of a password with a blank in it.
        let missing =
            || "a word in the connection string has no `=` behind it; a value with blanks stands in quotes";
        let after = after.strip_prefix('=').ok_or_else(missing)?.trim_start_matches(is_blank);
        let (value, after) = match after.strip_prefix('\'') {
            Some(quoted) => in_quotes(quoted)?,
            None => plain(after),
        };
        values.set(name, value)?;
        rest = after.trim_start_matches(is_blank);
    }
    Ok(values)
}

/// Up to the next blank; a backslash takes the next character as it is.
fn plain(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c if is_blank(c) => return (value, &text[at..]),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Up to the quote; a backslash takes the next character as it is.
fn in_quotes(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' => return Ok((value, &text[at + 1..])),
            c => value.push(c),
        }
    }
    Err("a quote is not closed in the connection string".into())
}
