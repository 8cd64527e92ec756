//! Tables of the file that are repeated, as `[[outbox]]`.

use std::collections::BTreeMap;

use crate::load::{File, flatten};
use crate::values::{Entry, Typed};
use crate::{MapSetting, Repeated, Setting, Table, Values};

impl Values {
    /// The entries of the table that may be repeated, each with its own settings alone: see [`Values::inherit`].
    #[must_use]
    pub fn entries(&self) -> Vec<Self> {
        let own = |entry: &Entry| {
            let Entry { typed, maps } = entry.clone();
            Self { typed, maps, ..Self::default() }
        };
        self.entries.iter().map(own).collect()
    }

    /// Takes from `above` what is left out here.
    pub fn inherit(&mut self, above: &Self) {
        for (name, typed) in &above.typed {
            self.typed.entry(name).or_insert_with(|| typed.clone());
        }
        for (name, map) in &above.maps {
            let own = self.maps.entry(name).or_default();
            for (key, text) in map {
                own.entry(key.clone()).or_insert_with(|| text.clone());
            }
        }
        for (name, tables) in &above.tables {
            let own = self.tables.entry(name).or_default();
            for (key, table) in tables {
                own.entry(key.clone()).or_insert_with(|| table.clone());
            }
        }
    }

    /// Takes over what was noted of an entry; what was noted before is noted once.
    pub fn note(&mut self, entry: Self) {
        for mistake in entry.mistakes {
            if !self.mistakes.contains(&mistake) {
                self.mistakes.push(mistake);
            }
        }
    }
}

/// What the file says of the entries.
pub(crate) fn read(table: &Table, file: &File, mistakes: &mut Vec<String>) -> Vec<Entry> {
    let Some(repeated) = table.repeated else { return Vec::new() };
    let entries = file.arrays.get(repeated.section).map(Vec::as_slice).unwrap_or_default();
    let mut read = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let place = format!("[[{}]] {} of {}", repeated.section, index + 1, file.path);
        let mut flat = BTreeMap::new();
        flatten("", entry, &mut flat);
        read.push(one(table, &repeated, &place, &flat, mistakes));
    }
    read
}

fn one(
    table: &Table,
    repeated: &Repeated,
    place: &str,
    flat: &BTreeMap<String, String>,
    mistakes: &mut Vec<String>,
) -> Entry {
    let setting = |key: &str| {
        let is_it = |setting: &&Setting| setting.key() == key && repeated.settings.contains(&setting.name);
        table.settings.iter().find(is_it)
    };
    let map = |key: &str| {
        let is_it = |map: &&MapSetting| {
            repeated.maps.contains(&map.name)
                && key.strip_prefix(map.section).is_some_and(|rest| rest.starts_with('.'))
        };
        table.maps.iter().find(is_it)
    };
    let mut entry = Entry::default();
    for (key, text) in flat {
        if let Some(setting) = setting(key) {
            let (text, origin) = (text.clone(), format!("{key} in {place}"));
            let typed = Typed {
                text,
                origin,
                secret: setting.secret,
                file: None,
                is_default: false,
                is_preset: false,
            };
            entry.typed.insert(setting.name, typed);
        } else if let Some(map) = map(key) {
            let own = key[map.section.len() + 1..].to_owned();
            entry.maps.entry(map.name).or_default().insert(own, text.clone());
        } else if table.settings.iter().any(|setting| setting.key() == *key) {
            mistakes.push(said_once(place, key, repeated.section));
        } else {
            mistakes.push(format!("{place}: `{key}` is not a setting"));
        }
    }
    entry
}

/// What is of all entries of a section stands in one of them.
pub(crate) fn said_once(place: &str, key: &str, section: &str) -> String {
    format!("{place}: `{key}` is said once for all, above the first [[{section}]]")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TABLE: Table = Table {
        env_prefix: "APP",
        default_file: "no-such-file.toml",
        settings: &[
            Setting::new("table", "NAME", "outbox", "The table."),
            Setting::optional("topic", "NAME", "The topic."),
            Setting::new("slot", "NAME", "app", "The slot."),
        ],
        maps: &[MapSetting {
            name: "header",
            section: "headers",
            from_env: false,
            of_tables: false,
            help: "Headers.",
        }],
        repeated: Some(Repeated {
            section: "outbox",
            settings: &["table", "topic"],
            maps: &["header"],
            help: "An outbox.",
        }),
        parts: None,
    };

    fn load(name: &str, text: &str) -> Values {
        let path = std::env::temp_dir().join(format!("entries-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let command = clap::Command::new("app").args(TABLE.args());
        let path = path.display().to_string();
        TABLE.load(&command.get_matches_from(["app", "--config", &path]), &[])
    }

    #[test]
    fn an_entry_has_what_it_says_and_the_rest_from_above() {
        let values = load(
            "inherit.toml",
            "topic = \"all\"\n[headers]\na = \"1\"\nb = \"2\"\n[[outbox]]\ntable = \"x\"\n[[outbox]]\ntable = \"y\"\n\
             topic = \"own\"\n[outbox.headers]\nb = \"3\"\n",
        );
        let mut entries = values.entries();
        entries.iter_mut().for_each(|entry| entry.inherit(&values));
        let said: Vec<_> = entries
            .iter()
            .map(|entry| (entry.text("table").unwrap(), entry.text("topic").unwrap()))
            .collect();
        assert_eq!(said, [("x".into(), "all".into()), ("y".into(), "own".to_owned())]);
        let header = |entry: &Values| {
            entry.map("header").into_iter().map(|(key, text)| key + &text).collect::<Vec<_>>()
        };
        assert_eq!(
            (header(&entries[0]), header(&entries[1])),
            (vec!["a1".into(), "b2".into()], vec!["a1".into(), "b3".to_owned()])
        );
        values.finish().unwrap();
    }

    #[test]
    fn what_is_said_once_for_all_is_refused_in_an_entry_and_so_is_what_is_no_setting() {
        let values = load("refused.toml", "[[outbox]]\nslot = \"s\"\ntabel = \"x\"\n");
        let text = values.finish().unwrap_err().to_string();
        assert!(text.contains("`slot` is said once for all"), "{text}");
        assert!(text.contains("[[outbox]] 1 of ") && text.contains("`tabel` is not a setting"), "{text}");
    }
}
