//! What is not said of a record is guessed from the columns' names, and what was guessed is said.

use super::error::Mistake;
use super::mapping::{Choice, CloudEvents, Format, Mapping};
use super::template::Template;
use crate::pgoutput::Relation;

/// The names for each part, without case and `_`, the likeliest first.
mod names {
    pub(super) const TOPIC: &[&str] = &["topic", "destination", "destinationtopic"];
    pub(super) const KEY: &[&str] =
        &["key", "aggregateid", "partitionkey", "messagekey", "eventkey", "recordkey", "kafkakey"];
    pub(super) const VALUE: &[&str] =
        &["payload", "value", "data", "body", "content", "message", "eventdata", "eventpayload", "envelope"];
    pub(super) const HEADERS: &[&str] = &["headers"];
    pub(super) const ID: &[&str] = &["eventid", "messageid", "uuid", "id"];
    pub(super) const KIND: &[&str] = &["eventtype", "messagetype", "eventname", "type"];
    pub(super) const TIME: &[&str] =
        &["occurredat", "occurredon", "createdat", "timestamp", "createdon", "created", "time"];
    pub(super) const TRACEPARENT: &[&str] = &["traceparent"];
}

/// Whether a column is the event's content, by its name.
pub(super) fn is_value(column: &str) -> bool {
    names::VALUE.iter().any(|name| is_named(column, name))
}

/// Compares without case and `_`.
fn is_named(column: &str, name: &str) -> bool {
    let bare: String = column.chars().filter(|char| *char != '_').collect();
    bare.eq_ignore_ascii_case(name)
}

/// Guesses what nothing is said of, from the columns of the table; `mistakes` has what cannot be guessed.
pub(super) fn complete(mapping: &Mapping, relation: &Relation, mistakes: &mut Vec<Mistake>) -> Mapping {
    let mut complete = mapping.clone();
    let mut guess = Guess { relation, mistakes };
    let needs_value = mapping.format.has_value();
    if mapping.is_preset {
        for part in [
            &mut complete.topic,
            &mut complete.key,
            &mut complete.value,
            &mut complete.headers_from,
            &mut complete.traceparent,
        ] {
            forget(part);
        }
    } else {
        guess.one("topic", &mut complete.topic, names::TOPIC);
        guess.one("key", &mut complete.key, names::KEY);
        if needs_value {
            guess.one("value", &mut complete.value, names::VALUE);
        }
        guess.first(&mut complete.headers_from, names::HEADERS);
        guess.first(&mut complete.traceparent, names::TRACEPARENT);
    }
    if !needs_value {
        forget(&mut complete.value);
    }
    guess.first(&mut complete.id, names::ID);
    guess.first(&mut complete.kind, names::KIND);
    guess.first(&mut complete.time, names::TIME);
    demand(&complete, guess.mistakes);
    complete
}

/// Guesses nothing; `mistakes` has what must be said.
pub(super) fn nothing(mapping: &Mapping, mistakes: &mut Vec<Mistake>) -> Mapping {
    let mut said = mapping.clone();
    for part in [&mut said.headers_from, &mut said.traceparent, &mut said.id, &mut said.kind, &mut said.time]
    {
        forget(part);
    }
    if !said.format.has_value() {
        forget(&mut said.value);
    }
    let parts = [
        (
            "topic",
            &mut said.topic,
            "the topic's name, or text with members, such as `{aggregateType|lower}.events`",
        ),
        ("key", &mut said.key, "the member whose events are to stay in order, or an empty key"),
        ("value", &mut said.value, "the member that is the value, or `{@row}` for all of the content"),
    ];
    for (setting, part, what) in parts {
        if *part == Choice::Guess {
            mistakes.push(Mistake::new(setting, format!("nothing is guessed of messages: give {what}")));
        }
    }
    demand(&said, mistakes);
    said
}

fn forget(part: &mut Choice) {
    if *part == Choice::Guess {
        *part = Choice::Absent;
    }
}

/// What a record cannot do without.
fn demand(mapping: &Mapping, mistakes: &mut Vec<Mistake>) {
    let is_known =
        |setting: &str, mistakes: &[Mistake]| mistakes.iter().any(|known| known.setting == setting);
    let missing = |setting: &str, what: &str, mistakes: &mut Vec<Mistake>| {
        if !is_known(setting, mistakes) {
            mistakes.push(Mistake::new(setting, what));
        }
    };
    if mapping.topic.given().is_none() {
        // Also where it is said that there is none.
        let what = "no column's name says that it is the topic (topic, destination, destination_topic): give the topic's \
            name, or text with columns, such as `{aggregate_type}.events`";
        missing("topic", what, mistakes);
    }
    if mapping.key == Choice::Guess {
        let what = "no column's name says that it is the key (key, aggregate_id, partition_key, …): name the column whose \
            events are to stay in order, or give an empty key, with which nothing is kept in order";
        missing("key", what, mistakes);
    }
    if mapping.format.has_value() && mapping.value == Choice::Absent {
        missing("value", "the format needs one: name the column", mistakes);
    }
    if mapping.value == Choice::Guess {
        let what =
            "no column's name says that it is the value (payload, value, data, body, …): name the column";
        missing("value", what, mistakes);
    }
    if mapping.cloudevents == CloudEvents::On || mapping.format == Format::CloudEvents {
        for (setting, part) in [("id", &mapping.id), ("type", &mapping.kind)] {
            if part.given().is_none() && (setting == "id" || mapping.ce_type.is_none()) {
                missing(setting, "a CloudEvent needs it, and no column's name says that it is it", mistakes);
            }
        }
    }
}

struct Guess<'a> {
    relation: &'a Relation,
    mistakes: &'a mut Vec<Mistake>,
}

impl Guess<'_> {
    fn matches(&self, name: &str) -> impl Iterator<Item = &str> {
        let is = move |column: &&str| is_named(column, name);
        self.relation.columns.iter().map(|column| column.name.as_str()).filter(is)
    }

    /// The one column that it can be; two are a mistake.
    fn one(&mut self, setting: &str, part: &mut Choice, names: &[&str]) {
        if *part != Choice::Guess {
            return;
        }
        let found: Vec<_> = names.iter().flat_map(|name| self.matches(name)).map(str::to_owned).collect();
        match found.as_slice() {
            [] => {}
            [name] => *part = Choice::Given(Template::of_column(name)),
            several => {
                let what = format!("{} could each be it: name the one that is", several.join(" and "));
                self.mistakes.push(Mistake::new(setting, what));
            }
        }
    }

    /// The likeliest column, or none.
    fn first(&mut self, part: &mut Choice, names: &[&str]) {
        if *part != Choice::Guess {
            return;
        }
        let found = names.iter().find_map(|name| self.matches(name).next());
        *part = found.map_or(Choice::Absent, |name| Choice::Given(Template::of_column(name)));
    }
}
