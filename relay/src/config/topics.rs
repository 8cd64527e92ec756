//! Topics that do not exist: which of them are made, and how, and what becomes of rows that name another.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use settings::Values;
use walpost_core::publish::pattern::TopicPattern;

/// What becomes of a row that names a topic which does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownTopic {
    /// It waits, not ready, until somebody makes it.
    #[default]
    Wait,
    /// It becomes a dead letter.
    DeadLetter,
}

/// What becomes of topics that do not exist.
#[derive(Debug, Clone, Default)]
pub struct MissingTopics {
    /// Those that are not made.
    pub unknown: UnknownTopic,
    /// Those that are; the pattern that says most of a name first.
    made: Arc<[NewTopic]>,
    /// And that of the position, with exactly-once delivery.
    position: Option<NewTopic>,
}

/// How topics are made whose names fit a pattern.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// Their names.
    pub pattern: TopicPattern,
    /// Partitions; `None` leaves it to the brokers.
    pub partitions: Option<i32>,
    /// Replicas of each; `None` leaves it to the brokers.
    pub replication: Option<i32>,
    /// Everything else about them, by Kafka's names.
    pub properties: BTreeMap<String, String>,
}

/// What keeps the last record of each key, however old.
pub(super) const KEPT: (&str, &str) = ("cleanup.policy", "compact");

/// More partitions than a cluster has; walpost can tell a million apart, of all topics together.
const PARTITIONS_MAX: i32 = 100_000;

/// Kafka counts replicas in 16 bits.
const REPLICATION_MAX: i32 = i16::MAX as i32;

impl MissingTopics {
    /// Whether some are made.
    #[must_use]
    pub fn makes_any(&self) -> bool {
        !self.made.is_empty()
    }

    pub(super) fn read(values: &mut Values, has_dead_letters: bool) -> Option<Self> {
        let unknown = values.parse_with("unknown-topic", |text| match text {
            "wait" => Ok(UnknownTopic::Wait),
            "dead-letter" => Ok(UnknownTopic::DeadLetter),
            _ => Err("expected wait or dead-letter".into()),
        });
        if unknown == Some(UnknownTopic::DeadLetter) && !has_dead_letters {
            values.mistake(
                "unknown-topic = dead-letter needs poison = dead-letter and a topic: --dead-letter-topic",
            );
        }
        let made = new_topics(values);
        Some(Self { unknown: unknown?, made: made.into(), position: None })
    }

    /// The topic of the position is made as it must be; where a pattern of the settings is its very name, that may say more.
    pub(super) fn with_position(self, position: Option<NewTopic>) -> Self {
        let position = position.map(|must| match self.made.iter().find(|new| new.pattern == must.pattern) {
            None => must,
            Some(said) => {
                let mut properties = must.properties.clone();
                properties.extend(said.properties.clone());
                properties.extend([KEPT].map(|(name, value)| (name.to_owned(), value.to_owned())));
                NewTopic { properties, replication: said.replication, ..must }
            }
        });
        Self { position, ..self }
    }

    /// How a topic of this name is to be made, where it is to be.
    #[must_use]
    pub fn to_be_made(&self, name: &str) -> Option<&NewTopic> {
        let position = self.position.as_ref().filter(|new| new.pattern.matches(name));
        position.or_else(|| self.made.iter().find(|new| new.pattern.matches(name)))
    }
}

impl fmt::Display for NewTopic {
    /// `6 partitions, replication 3, cleanup.policy=compact ([create_topics] "shop.*")`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<i32>| {
            number.map_or_else(|| "the brokers'".to_owned(), |number| number.to_string())
        };
        write!(f, "partitions: {}, replication: {}", number(self.partitions), number(self.replication))?;
        for (name, value) in &self.properties {
            write!(f, ", {name}={value}")?;
        }
        write!(f, " ([create_topics] \"{}\")", self.pattern)
    }
}

/// The section, in the order in which its patterns count; every mistake is noted.
fn new_topics(values: &mut Values) -> Vec<NewTopic> {
    let mut made = Vec::new();
    for (pattern, said) in values.tables("create-topic") {
        match new_topic(&pattern, said) {
            Ok(new) => made.push(new),
            Err(expected) => values.mistake(format!("[create_topics] \"{pattern}\": {expected}")),
        }
    }
    made.sort_by_key(|new| Reverse(new.pattern.says()));
    for (at, one) in made.iter().enumerate() {
        for other in made[at + 1..].iter().filter(|other| one.pattern.is_as_good_as(&other.pattern)) {
            values.mistake(format!(
                "[create_topics] \"{}\" and \"{}\" may both fit one name, and none of them says more of it: make one of them longer",
                one.pattern, other.pattern
            ));
        }
    }
    made
}

fn new_topic(pattern: &str, mut said: BTreeMap<String, String>) -> Result<NewTopic, String> {
    let pattern = TopicPattern::parse(pattern)?;
    let partitions = number(&mut said, "partitions", PARTITIONS_MAX)?;
    let replication = number(&mut said, "replication", REPLICATION_MAX)?;
    match said.keys().find(|name| !may_be_a_property(name)) {
        Some(name) => Err(format!(
            "`{name}`: expected partitions, replication, or a setting that Kafka has for topics, such as \"cleanup.policy\""
        )),
        None => Ok(NewTopic { pattern, partitions, replication, properties: said }),
    }
}

fn number(said: &mut BTreeMap<String, String>, name: &str, max: i32) -> Result<Option<i32>, String> {
    let Some(text) = said.remove(name) else { return Ok(None) };
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    let expected =
        || format!("{name}: `{text}`: expected a whole number from 1 to {max}; left out, the brokers decide");
    number.map(Some).ok_or_else(expected)
}

/// Kafka's settings of topics (`TopicConfig` in its sources) have dots in their names, but for this one. Which there are is
/// the brokers' business: they have more with each version.
fn may_be_a_property(name: &str) -> bool {
    let is_of_it = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.';
    name == "preallocate" || (name.contains('.') && name.bytes().all(is_of_it))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use settings::Mistakes;

    use crate::config::{Settings, TABLE};

    use super::*;

    const DEAD_LETTERS: [&str; 2] = ["--poison=dead-letter", "--dead-letter-topic=letters"];

    fn read(args: &[&str]) -> Result<MissingTopics, Mistakes> {
        let command = clap::Command::new("walpost").args(TABLE.args());
        let required = ["walpost", "--database-url=postgres://me@db/shop", "--topic={t}"];
        let matches = command.get_matches_from(required.iter().chain(args));
        Settings::read(TABLE.load(&matches, &[]), &[]).map(|settings| settings.kafka.missing)
    }

    #[test]
    fn rows_of_unknown_topics_wait_unless_there_is_a_topic_of_dead_letters() {
        assert_eq!(read(&[]).unwrap().unknown, UnknownTopic::Wait);
        let read_dead = |more: &[&str]| read(&[&["--unknown-topic=dead-letter"][..], more].concat());
        assert_eq!(read_dead(&DEAD_LETTERS).unwrap().unknown, UnknownTopic::DeadLetter);
        for more in [&[][..], &["--dead-letter-topic=letters"], &["--poison=dead-letter"]] {
            let said = read_dead(more).unwrap_err().to_string();
            assert!(said.contains("unknown-topic") && said.contains("--dead-letter-topic"), "{said}");
        }
        let said = read(&["--unknown-topic=drop"]).unwrap_err().to_string();
        assert!(said.contains("`drop`: expected wait or dead-letter"), "{said}");
    }

    #[test]
    fn a_topic_is_made_as_the_pattern_says_that_says_most_of_its_name() {
        let missing = read(&[
            "--create-topic=shop.*={ partitions = 6, replication = 3, \"cleanup.policy\" = \"compact\" }",
            "--create-topic=shop.orders={}",
            "--create-topic=shop.o*={ partitions = 1 }",
        ]);
        let missing = missing.unwrap();
        let partitions = |name: &str| missing.to_be_made(name).map(|new| new.partitions);
        assert_eq!(partitions("shop.orders"), Some(None));
        assert_eq!(partitions("shop.offers"), Some(Some(1)));
        assert_eq!(partitions("shop.carts"), Some(Some(6)));
        assert_eq!(partitions("carts"), None);
        let said = missing.to_be_made("shop.carts").unwrap().to_string();
        let expected = "partitions: 6, replication: 3, cleanup.policy=compact ([create_topics] \"shop.*\")";
        assert_eq!(said, expected);
        let said = missing.to_be_made("shop.orders").unwrap().to_string();
        assert!(said.starts_with("partitions: the brokers', replication: the brokers' ("), "{said}");
    }

    #[test]
    fn every_mistake_about_new_topics_is_said_with_its_pattern() {
        let said = read(&[
            "--create-topic=a b={}",
            "--create-topic=zero={ partitions = 0 }",
            "--create-topic=many={ replication = 40000 }",
            "--create-topic=odd={ replication_factor = 3 }",
            "--create-topic=x.*={}",
            "--create-topic=*.x={}",
        ]);
        let Mistakes(all) = said.unwrap_err();
        assert_eq!(all.len(), 5, "{all:?}");
        for part in [
            "\"a b\": expected the name of a topic",
            "\"zero\": partitions: `0`: expected a whole number from 1 to 100000",
            "\"many\": replication: `40000`",
            "\"odd\": `replication_factor`: expected partitions, replication,",
            "\"*.x\" and \"x.*\" may both fit one name",
        ] {
            assert!(all.iter().any(|mistake| mistake.contains(part)), "{part}: {all:?}");
        }
    }
}
