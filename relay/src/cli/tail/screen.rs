//! A record as a line of text, for people.

use super::content::{Content, Plain, hex};
use super::json::timestamp;
use super::terminal::escaped;
use crate::kafka::consumer::StoredRecord;

/// Of bytes that are no text so many are shown.
const SHOWN_BYTES_MAX: usize = 32;

const DIM: &str = "2";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// How lines are shown.
pub(super) struct Screen {
    colours: bool,
    topic_width: usize,
}

impl Screen {
    /// Columns fit the names of `topics`.
    pub(super) fn new(colours: bool, topics: &[String]) -> Self {
        Self { colours, topic_width: topics.iter().map(String::len).max().unwrap_or_default() }
    }

    /// Time, topic, place, key, type, what it is, and its content.
    pub(super) fn line(&self, record: &StoredRecord, content: &Content<'_>) -> String {
        let kind = content.event_type(record).unwrap_or_else(|| "-".into());
        let (what, payload) = match content {
            Content::Event(event, payload) => {
                (format!("package {} event {}", event.package_id, event.id), Some(payload))
            }
            Content::Plain(Plain::Bytes(bytes)) => (format!("{} bytes", bytes.len()), content.plain()),
            Content::Plain(_) => (content.format().unwrap_or("null").to_owned(), content.plain()),
        };
        let time = timestamp(record).unwrap_or_else(|| "-".into());
        let key = shown(&Plain::text_or_null(record.key.as_deref())).unwrap_or_else(|| "-".into());
        let columns = [
            self.paint(DIM, &format!("{time:<24}")),
            self.paint(CYAN, &format!("{:<width$}", record.topic, width = self.topic_width)),
            self.paint(DIM, &format!("{:>8}", format!("{}@{}", record.partition, record.offset))),
            self.paint(BOLD, &format!("{key:<6}")),
            self.paint(colour_of(&kind), &format!("{:<8}", escaped(&kind))),
            format!("{what:<20}"),
            payload.and_then(shown).unwrap_or_default(),
        ];
        columns.join("  ").trim_end().to_owned()
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl<'a> Content<'a> {
    fn plain(&self) -> Option<&Plain<'a>> {
        match self {
            Self::Event(..) => None,
            Self::Plain(plain) => Some(plain),
        }
    }
}

fn colour_of(kind: &str) -> &'static str {
    match kind.to_ascii_lowercase().as_str() {
        "created" => GREEN,
        "updated" => YELLOW,
        "removed" => RED,
        _ => DIM,
    }
}

fn shown(plain: &Plain<'_>) -> Option<String> {
    match plain {
        Plain::Null => None,
        Plain::Json(json) => Some(escaped(json.get()).into_owned()),
        Plain::Text(text) => Some(escaped(text).into_owned()),
        Plain::Bytes(bytes) => {
            let more = if bytes.len() > SHOWN_BYTES_MAX { "…" } else { "" };
            Some(format!("{}{more}", hex(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn of(record: &StoredRecord) -> String {
        let topics = ["events".to_owned(), "commands".to_owned()];
        Screen::new(false, &topics).line(record, &Content::of(record.value.as_deref()))
    }

    #[test]
    fn records_of_every_kind_stand_in_the_same_columns() {
        let event = StoredRecord { topic: "events".into(), ..samples::updated(b"{\"ID\": 7}") };
        let lines = [
            of(&event),
            of(&samples::event(2, b"")),
            of(&samples::record(Some(b"{\n \"a\": 1 }"))),
            of(&samples::record(Some(b"hello"))),
            of(&samples::record(Some(&[0xff; 40]))),
            of(&StoredRecord { key: None, timestamp_ms: None, ..samples::record(None) }),
        ];
        let expected = [
            r#"2023-11-14T22:13:20.123Z  events        2@14  7       Updated   package 7 event 9     {"ID":7}"#,
            r#"2023-11-14T22:13:20.123Z  commands      2@14  7       Removed   package 7 event 9"#,
            r#"2023-11-14T22:13:20.123Z  commands      2@14  7       -         json                  {"a":1}"#,
            r#"2023-11-14T22:13:20.123Z  commands      2@14  7       -         text                  hello"#,
            &format!(
                "2023-11-14T22:13:20.123Z  commands      2@14  7       -         40 bytes              {}…",
                "ff".repeat(32)
            ),
            "-                         commands      2@14  -       -         null",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_is_harmless_wherever_a_record_has_its_texts() {
        let evil = "\x1b]0;x\x07\n\u{9b}2J";
        let headers = vec![("ce_type".into(), Some(format!("a.{evil}").into_bytes()))];
        let record =
            StoredRecord { key: Some(evil.into()), headers, ..samples::record(Some(evil.as_bytes())) };
        assert!(!of(&record).contains(char::is_control), "{}", of(&record));
        assert_eq!(of(&record).matches(r"\u001b]0;x\u0007\u000a\u009b2J").count(), 3, "{}", of(&record));
    }

    #[test]
    fn colours_come_where_they_are_wanted() {
        let record = samples::updated(b"");
        let line = Screen::new(true, &[]).line(&record, &Content::of(record.value.as_deref()));
        assert!(line.contains("\x1b[33mUpdated \x1b[0m"), "{line}");
        assert!(!of(&record).contains('\x1b'));
    }
}
