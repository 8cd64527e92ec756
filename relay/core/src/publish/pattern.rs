//! Patterns of topics' names.

use std::fmt;

use crate::event::pattern::fits;

/// A name of a topic, or many: `*` stands for any text, also for none. Case counts. Names that begin with `__` are those of
/// Kafka's own topics: only a pattern that begins so stands for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern(String);

/// How Kafka's own topics begin.
const OWN: &str = "__";

impl TopicPattern {
    /// Reads it.
    ///
    /// # Errors
    /// When no topic's name fits it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let may_be_in_it =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*');
        let is_one = !text.is_empty() && text.bytes().all(may_be_in_it) && text != "." && text != "..";
        is_one.then(|| Self(text.to_owned())).ok_or_else(|| {
            "expected the name of a topic (letters, digits, dots, underscores and hyphens), in which * stands for any text"
                .to_owned()
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it stands for this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let is_of_kafka = name.starts_with(OWN) && !self.0.starts_with(OWN);
        !is_of_kafka && fits(&self.0, name)
    }

    /// How much of a name it says: bytes that are no star, and whether there is no star. Of several patterns that match, the
    /// one that says most counts.
    #[must_use]
    pub fn says(&self) -> (usize, bool) {
        let stars = self.0.bytes().filter(|byte| *byte == b'*').count();
        (self.0.len() - stars, stars == 0)
    }

    /// Whether both say equally much and a name may fit both, so that none of them counts before the other.
    #[must_use]
    pub fn is_as_good_as(&self, other: &Self) -> bool {
        let may_meet = self.0.starts_with(OWN) == other.0.starts_with(OWN);
        may_meet && self.says() == other.says() && meet(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether some text fits both: a table over all of their beginnings, since patterns may be as long as names.
fn meet(one: &[u8], other: &[u8]) -> bool {
    let mut before = vec![false; other.len() + 1];
    for at in 0..=one.len() {
        let mut row = vec![false; other.len() + 1];
        for beside in 0..=other.len() {
            let (mine, theirs) =
                (at.checked_sub(1).map(|at| one[at]), beside.checked_sub(1).map(|at| other[at]));
            // A star takes one more byte of the other side, or ends.
            row[beside] = match (mine, theirs) {
                (None, None) => true,
                (Some(b'*'), _) | (_, Some(b'*')) => {
                    (mine == Some(b'*') && (before[beside] || (beside > 0 && row[beside - 1])))
                        || (theirs == Some(b'*') && (row[beside - 1] || (at > 0 && before[beside])))
                }
                (Some(mine), Some(theirs)) => mine == theirs && before[beside - 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
        before = row;
    }
    before[other.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> TopicPattern {
        TopicPattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_stands_for_any_text_and_never_for_a_topic_of_kafkas_own() {
        for (text, name, matches) in [
            ("shop.*", "shop.orders.eu", true),
            ("shop.*", "shop.", true),
            ("shop.*", "shops", false),
            ("*.events", "shop.events", true),
            ("*", "__consumer_offsets", false),
            ("_*", "__transaction_state", false),
            ("__*", "__mine", true),
            ("orders", "orders", true),
            ("orders", "Orders", false),
        ] {
            assert_eq!(pattern(text).matches(name), matches, "{text} {name}");
        }
    }

    #[test]
    fn what_no_name_fits_is_no_pattern() {
        for text in ["", "a b", "shop.?", "a/b", "..", "{x}"] {
            assert!(TopicPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_text_says_most_and_a_name_more_than_a_pattern_of_its_length() {
        let mut patterns = ["*", "shop.orders*", "shop.*", "shop.orders"].map(pattern);
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.says()));
        assert_eq!(patterns.map(|pattern| pattern.0), ["shop.orders", "shop.orders*", "shop.*", "*"]);
        assert!(pattern("shop.*").is_as_good_as(&pattern("*.shop")));
        assert!(!pattern("shop.*").is_as_good_as(&pattern("cart.*")), "no name fits both");
        assert!(!pattern("__*").is_as_good_as(&pattern("*ab")), "one is of Kafka's own topics");
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

    /// Every text of these letters up to this length.
    fn texts(letters: &str, length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..length {
            let longer: Vec<_> = all[from..]
                .iter()
                .flat_map(|text| letters.chars().map(move |letter| format!("{text}{letter}")))
                .collect();
            from = all.len();
            all.extend(longer);
        }
        all
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_the_plainest_matching_says(text in "[ab*]{1,7}", name in "[ab]{1,8}") {
            prop_assert_eq!(pattern(&text).matches(&name), simply(text.as_bytes(), name.as_bytes()));
        }

        /// Patterns of up to four letters meet in a name of up to eight, if in any.
        #[test]
        fn two_patterns_meet_where_some_name_fits_both(one in "[ab*]{1,4}", other in "[ab*]{1,4}") {
            let fits_both = |name: &String| fits(&one, name) && fits(&other, name);
            prop_assert_eq!(meet(one.as_bytes(), other.as_bytes()), texts("ab", 8).iter().any(fits_both));
        }

        #[test]
        fn of_patterns_none_of_which_is_as_good_as_another_one_says_most_of_each_name(
            texts in prop::collection::btree_set("[ab*]{1,5}", 1..6),
            name in "[ab]{1,8}",
        ) {
            let mut patterns: Vec<TopicPattern> = Vec::new();
            for one in texts.iter().map(|text| pattern(text)) {
                if !patterns.iter().any(|other| one.is_as_good_as(other)) {
                    patterns.push(one);
                }
            }
            let matching: Vec<_> = patterns.iter().filter(|pattern| pattern.matches(&name)).collect();
            let most = matching.iter().map(|pattern| pattern.says()).max();
            prop_assert!(matching.iter().filter(|pattern| Some(pattern.says()) == most).count() <= 1);
        }
    }
}
