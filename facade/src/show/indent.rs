//! JSON over several lines, as Go's `json.Indent` writes it with four blanks.

use std::fmt::Write as _;

/// Deeper than this everything stays on one line: here the indentation is a terminal's width (80 columns), and a record of
/// brackets alone would become a thousand times as long.
const DEPTH_MAX: usize = 20;

const INDENT: usize = 4;

/// The deepest indentation.
const BLANKS: &str = match str::from_utf8(&[b' '; DEPTH_MAX * INDENT]) {
    Ok(blanks) => blanks,
    Err(_) => "",
};

/// `json`, which must be JSON, over several lines; in its strings `\u001b` for what `is_escaped`. What it says is the
/// same: only blanks between tokens and spellings of characters change.
pub(super) fn indented(json: &str, is_escaped: fn(char) -> bool) -> String {
    let mut writer = Writer { out: String::with_capacity(json.len() * 2), depth: 0, is_open: false };
    let (mut in_string, mut after_backslash) = (false, false);
    for letter in json.chars() {
        if in_string {
            in_string = after_backslash || letter != '"';
            after_backslash = letter == '\\' && !after_backslash;
            writer.letter(letter, is_escaped);
        } else if !letter.is_ascii_whitespace() {
            in_string = letter == '"';
            writer.token(letter);
        }
    }
    writer.out
}

struct Writer {
    out: String,
    depth: usize,
    /// The last token opened an object or array, of which nothing is written yet: an empty one stays `{}`.
    is_open: bool,
}

impl Writer {
    /// A letter outside of strings: a bracket, a comma, a colon, or one of a number or a word.
    fn token(&mut self, letter: char) {
        if matches!(letter, '}' | ']') {
            return self.close(letter);
        }
        if std::mem::take(&mut self.is_open) {
            self.depth += 1;
            self.new_line();
        }
        self.out.push(letter);
        match letter {
            '{' | '[' => self.is_open = true,
            ',' => self.new_line(),
            ':' => self.out.push(' '),
            _ => {}
        }
    }

    fn close(&mut self, bracket: char) {
        if !std::mem::take(&mut self.is_open) {
            let is_flat = self.depth > DEPTH_MAX;
            self.depth = self.depth.saturating_sub(1);
            if !is_flat {
                self.new_line();
            }
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self) {
        if self.depth <= DEPTH_MAX {
            self.out.push('\n');
            self.out.push_str(&BLANKS[..self.depth * INDENT]);
        }
    }

    /// A letter of a string.
    fn letter(&mut self, letter: char, is_escaped: fn(char) -> bool) {
        if is_escaped(letter) {
            // Writing to a string cannot fail.
            let _ = write!(self.out, "\\u{:04x}", u32::from(letter));
        } else {
            self.out.push(letter);
        }
    }
}
