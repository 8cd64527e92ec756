//! Logical messages: an outbox without a table. The application writes its events into the WAL itself, by
//! `pg_logical_emit_message(true, PREFIX, CONTENT)` (PostgreSQL, "System Administration Functions"), and the content's members
//! take the place of columns.

use std::sync::Arc;

use super::error::{Mistake, OutboxError};
use super::mapping::Mapping;
use super::plan::Plan;
use super::table::{NO_TABLE, OutboxTable};
use crate::pgoutput::{Column, Oid, Relation};

/// `json`.
const JSON: Oid = 114;

/// The messages of a prefix, and how they become records.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxMessages {
    /// As a table of that name.
    named: OutboxTable,
}

impl OutboxMessages {
    /// Messages of a prefix.
    #[must_use]
    pub fn new(prefix: &str, mapping: Mapping) -> Self {
        Self { named: OutboxTable::new("", prefix, mapping) }
    }

    /// Whose messages they are.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.named.table
    }

    /// How they become records, as the settings say it.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.named.mapping
    }

    /// The same messages by other settings.
    #[must_use]
    pub fn with_mapping(&self, mapping: Mapping) -> Self {
        Self { named: OutboxTable { mapping: Arc::new(mapping), ..self.named.clone() } }
    }

    /// The topic, where every record has the same.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.named.topic()
    }

    /// The topic as people read it, expressions and all.
    #[must_use]
    pub fn shown_topic(&self) -> String {
        self.named.shown_topic()
    }

    /// The same in a database, whose name is part of the default of `ce_source`.
    #[must_use]
    pub fn of_database(&self, database: &str) -> Self {
        Self { named: OutboxTable { database: database.to_owned(), ..self.named.clone() } }
    }

    /// How they become records.
    ///
    /// # Errors
    /// All settings that do not fit.
    pub fn plan(&self) -> Result<Plan, Vec<Mistake>> {
        let content = Column { name: "content".into(), type_oid: JSON };
        let (namespace, name) = (String::new(), self.prefix().to_owned());
        let relation = Relation { id: NO_TABLE, namespace, name, columns: vec![content] };
        Plan::of_messages(&self.named, &Arc::new(relation)).map_err(|error| match error {
            OutboxError::Mistakes(mistakes) => mistakes.mistakes,
            other => vec![Mistake::new("messages", other.to_string())],
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::mapping::{Choice, CloudEvents, Format};
    use crate::event::render::Renderer;
    use crate::event::{PlacedRow, Position};
    use crate::event::{fixture, template::Template};
    use crate::lsn::Lsn;
    use crate::pgoutput::Tuple;

    type Rendered = (String, Option<String>, Option<String>, Vec<(String, String)>);

    fn render(plan: Plan, content: &[u8]) -> Result<Rendered, String> {
        let position = Position { lsn: Lsn(0x20), ordinal: 0, committed_at: 0 };
        let row = Tuple::from_values([Some(content)].into_iter());
        let placed = PlacedRow { row, plan: Arc::new(plan), position };
        let mut renderer = Renderer::default();
        let record = renderer.render(&placed).map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers =
            record.headers.iter().map(|(name, value)| (name.to_owned(), text(value.unwrap_or(b""))));
        let headers = headers.filter(|(name, _)| !name.starts_with("wal-")).collect();
        Ok((record.topic.name.to_owned(), record.key.map(text), record.value.map(text), headers))
    }

    fn of_members(content: &str) -> Result<Rendered, String> {
        render(fixture::messages_plan(), content.as_bytes())
    }

    fn header<'a>(rendered: &'a Rendered, name: &str) -> Option<&'a str> {
        rendered.3.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn members_take_the_place_of_columns() {
        let content = r#"{"id":"a-1","aggregateType":"Order","aggregateId":17,"type":"Placed","payload": {"n": [1, "x"]}}"#;
        let rendered = of_members(content).unwrap();
        assert_eq!(rendered.0, "order.events");
        assert_eq!(rendered.1.as_deref(), Some("17"));
        assert_eq!(rendered.2.as_deref(), Some(r#"{"n": [1, "x"]}"#), "as it was written");
        assert_eq!(header(&rendered, "ce_id"), Some("a-1"));
        assert_eq!(header(&rendered, "ce_source"), Some("/shop/outbox"));
        assert_eq!(header(&rendered, "content-type"), Some("application/json"));
    }

    #[test]
    fn a_text_is_without_its_quotes_and_null_is_no_value() {
        let with = |payload: &str| {
            format!(r#"{{"id":"1","aggregateType":"A","aggregateId":"1","type":"T","payload":{payload}}}"#)
        };
        for (payload, value) in
            [("\"as text\"", "as text"), (r#""a\n\"b\" \u00e4""#, "a\n\"b\" ä"), ("\"\"", "")]
        {
            let rendered = of_members(&with(payload)).unwrap();
            assert_eq!(rendered.2.as_deref(), Some(value));
            assert_eq!(header(&rendered, "content-type"), Some("text/plain"), "{payload}");
        }
        assert_eq!(of_members(&with("null")).unwrap().2, None);
    }

    #[test]
    fn a_key_or_a_value_that_is_absent_is_a_name_that_is_misspelt() {
        for absent in ["aggregateId", "payload"] {
            let content = r#"{"id":"1","aggregateType":"A","aggregateId":"1","type":"T","payload":{}}"#;
            let refused = of_members(&content.replace(absent, "other")).unwrap_err();
            assert!(refused.contains(&format!("no member `{absent}`")), "{refused}");
            // Where it is there and null, it is meant.
            let null = content.replace("{}", "null").replace(r#""aggregateId":"1""#, r#""aggregateId":null"#);
            assert!(of_members(&null).is_ok());
        }
    }

    #[test]
    fn what_is_no_object_is_no_event() {
        for content in ["", "[1]", "\"text\"", "17", "null", "{\"a\":", "no json", "\u{0}"] {
            let refused = of_members(content).unwrap_err();
            assert!(
                refused.contains("it is no") || refused.contains("it is not JSON"),
                "{content:?}: {refused}"
            );
        }
        assert!(of_members("{}").unwrap_err().contains("topic"), "a member that is absent is NULL");
    }

    #[test]
    fn all_of_the_content_can_be_the_value_whatever_it_is() {
        let mapping = Mapping {
            topic: Choice::Given(Template::text("t").unwrap()),
            key: Choice::Absent,
            value: Choice::Given(Template::column("{@row}").unwrap()),
            cloudevents: CloudEvents::Off,
            ..Mapping::default()
        };
        let rendered =
            render(OutboxMessages::new("p", mapping.clone()).plan().unwrap(), b"any bytes").unwrap();
        assert_eq!((rendered.1, rendered.2.as_deref()), (None, Some("any bytes")));
        let inside = Mapping {
            format: Format::Json,
            value: Choice::Guess,
            fields: [(vec!["event".to_owned()], Template::text("{@row}").unwrap())].into(),
            ..mapping.clone()
        };
        let plan = || OutboxMessages::new("p", inside.clone()).plan().unwrap();
        assert_eq!(render(plan(), br#"{"a": 1}"#).unwrap().2.as_deref(), Some(r#"{"event":{"a": 1}}"#));
        assert!(render(plan(), b"any bytes").unwrap_err().contains("not JSON"));
        let json = Mapping { format: Format::Json, value: Choice::Guess, ..mapping };
        let plan = || OutboxMessages::new("p", json.clone()).plan().unwrap();
        assert_eq!(render(plan(), br#"{"a": 1}"#).unwrap().2.as_deref(), Some(r#"{"a": 1}"#));
        assert!(render(plan(), b"any bytes").unwrap_err().contains("not JSON"));
    }

    #[test]
    fn nothing_is_guessed_and_all_that_lacks_is_said_at_once() {
        let mistakes = OutboxMessages::new("p", Mapping::default()).plan().unwrap_err();
        let settings: Vec<_> = mistakes.iter().map(|mistake| mistake.setting.as_str()).collect();
        assert_eq!(settings, ["topic", "key", "value"]);
    }

    proptest! {
        #[test]
        fn no_content_makes_it_panic_and_the_same_gives_the_same(content in prop_oneof![
            any::<Vec<u8>>(),
            r#"\{("id"|"aggregateType"|"aggregateId"|"type"|"payload"|:|,|"[a-z\\u0-9]{0,6}"|[0-9]|\{|\}|null){0,12}\}"#
                .prop_map(String::into_bytes),
        ]) {
            let once = render(fixture::messages_plan(), &content);
            prop_assert_eq!(once, render(fixture::messages_plan(), &content));
        }
    }
}
