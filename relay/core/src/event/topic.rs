//! Topics by their names: which are legal, and a number for each, so that nothing behind looks one up by its name.

use std::collections::HashMap;

use super::record::{TopicId, TopicName};

/// Topics that Kafka keeps for itself: a producer may not write to them (`Topic.isInternal` in the Kafka sources).
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// What may be part of a topic's name.
pub(super) fn check_part(text: &str) -> Result<(), &'static str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.bytes().all(legal) {
        return Ok(());
    }
    Err("is in no topic's name, which has letters, digits, `.`, `_` and `-` only")
}

/// What Kafka takes for a topic's name (`Topic.validate` in the Kafka sources).
pub(super) fn check(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("is no topic's name: it is empty"),
        "." | ".." => Err("is no topic's name"),
        _ if INTERNAL.contains(&name) => Err("is a topic that Kafka keeps for itself"),
        _ if name.len() > 249 => Err("is no topic's name: it has more than 249 characters"),
        _ if check_part(name).is_ok() => Ok(()),
        _ => Err(
            "is no topic's name, which has letters, digits, `.`, `_` and `-` only: give it another in [topics]",
        ),
    }
}

/// Numbers of topics, in the order in which they were first named.
#[derive(Debug, Default)]
pub(super) struct Topics {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    /// The one that was named last: most rows have it again.
    last: usize,
}

impl Topics {
    /// The topic of a name.
    pub(super) fn named(&mut self, name: &str) -> TopicName<'_> {
        if self.names.get(self.last).is_none_or(|last| last != name) {
            self.last = match self.numbers.get(name) {
                Some(number) => *number as usize,
                None => self.add(name),
            };
        }
        // More topics than there are numbers do not fit into memory.
        let id = TopicId(u32::try_from(self.last).unwrap_or(u32::MAX));
        TopicName { id, name: &self.names[self.last] }
    }

    fn add(&mut self, name: &str) -> usize {
        let number = self.names.len();
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), u32::try_from(number).unwrap_or(u32::MAX));
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_one_number_and_each_another() {
        let mut topics = Topics::default();
        let numbers: Vec<_> = ["a", "b", "a", "a", "c", "b"].map(|name| topics.named(name).id.0).into();
        assert_eq!(numbers, [0, 1, 0, 0, 2, 1]);
        assert_eq!(topics.named("c").name, "c");
    }

    #[test]
    fn names_are_those_that_kafka_takes() {
        for name in ["a", "Order.events_v1-x", &"x".repeat(249)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "__consumer_offsets", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
