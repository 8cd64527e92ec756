//! What was typed, and its reading into what it means.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::SecretString;

use crate::Table;

/// Every mistake found in the settings; its text has one line for each.
#[derive(Debug, Default, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "wrong setting: {one}"),
            many => {
                write!(f, "{} wrong settings:", many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  - {mistake}"))
            }
        }
    }
}

/// A value as it was typed, and where.
#[derive(Clone)]
pub(crate) struct Typed {
    pub(crate) text: String,
    /// `--topic`, `WALPOST_TOPIC`, `topic in walpost.toml`, `the default of topic`.
    pub(crate) origin: String,
    pub(crate) secret: bool,
    /// The file that holds it, where a variable names one.
    pub(crate) file: Option<PathBuf>,
    /// Nobody gave it.
    pub(crate) is_default: bool,
    /// A preset gave it.
    pub(crate) is_preset: bool,
}

/// What was typed: a value and its origin for each setting that has one.
///
/// The reading methods note a value that does not parse, with its origin, and return `None` (or, where the caller
/// gives one, a stand-in): nothing read may be used before [`Values::finish`] has returned `Ok`.
#[derive(Default)]
pub struct Values {
    pub(crate) typed: BTreeMap<&'static str, Typed>,
    pub(crate) maps: BTreeMap<&'static str, BTreeMap<String, String>>,
    pub(crate) tables: BTreeMap<&'static str, Tables>,
    /// Of maps, the keys that the command line gives.
    pub(crate) keys_of_flags: BTreeMap<&'static str, Vec<String>>,
    pub(crate) mistakes: Vec<String>,
    /// Of the table that may be repeated, what each entry says.
    pub(crate) entries: Vec<Entry>,
}

/// What an entry of a repeated table says.
#[derive(Clone, Default)]
pub(crate) struct Entry {
    pub(crate) typed: BTreeMap<&'static str, Typed>,
    pub(crate) maps: BTreeMap<&'static str, BTreeMap<String, String>>,
}

/// Tables with free keys: what each says.
pub(crate) type Tables = BTreeMap<String, BTreeMap<String, String>>;

impl Values {
    /// The text of a setting, or `None` where it is absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.typed.get(name).map(|typed| typed.text.clone())
    }

    /// A secret, or `None` where it is absent.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<SecretString> {
        self.text(name).map(SecretString::from)
    }

    /// The file that a secret was read from, where a variable such as `…_FILE` names one: it may be written anew while the
    /// program runs, and is read again by [`read_secret`](crate::read_secret).
    #[must_use]
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.typed.get(name).and_then(|typed| typed.file.clone())
    }

    /// Whether the setting came from a variable whose name begins so.
    pub(crate) fn is_from(&self, name: &str, prefix: &str) -> bool {
        self.typed.get(name).is_some_and(|typed| typed.origin.starts_with(prefix))
    }

    /// Whether somebody gave the setting: neither a default nor a preset.
    #[must_use]
    pub fn is_said(&self, name: &str) -> bool {
        self.typed.get(name).is_some_and(|typed| !typed.is_default && !typed.is_preset)
    }

    /// Whether the setting came from the command line, where other users of the machine can read it.
    #[must_use]
    pub fn from_flag(&self, name: &str) -> bool {
        self.typed.get(name).is_some_and(|typed| typed.origin.starts_with("--"))
    }

    /// Puts a preset's settings beneath those that were given, and above the defaults. `settings` have their keys as in the
    /// file, `maps` the names of their [`MapSetting`](crate::MapSetting).
    pub fn put_beneath(
        &mut self,
        table: &Table,
        preset: &str,
        settings: &[(&str, &str)],
        maps: &[(&'static str, &[(&str, &str)])],
    ) {
        for (key, text) in settings {
            let Some(setting) = table.settings.iter().find(|setting| setting.key() == *key) else { continue };
            if self.typed.get(setting.name).is_none_or(|typed| typed.is_default) {
                let origin = format!("{key} of the preset {preset}");
                let (text, secret, file) = ((*text).to_owned(), false, None);
                let typed = Typed { text, origin, secret, file, is_default: false, is_preset: true };
                self.typed.insert(setting.name, typed);
            }
        }
        for (name, entries) in maps {
            let map = self.maps.entry(name).or_default();
            for (key, text) in *entries {
                map.entry((*key).to_owned()).or_insert_with(|| (*text).to_owned());
            }
        }
    }

    /// The free keys of a [`MapSetting`](crate::MapSetting).
    #[must_use]
    pub fn map(&self, name: &str) -> BTreeMap<String, String> {
        self.maps.get(name).cloned().unwrap_or_default()
    }

    /// The tables of a [`MapSetting`](crate::MapSetting) whose values are tables, by their free keys.
    #[must_use]
    pub fn tables(&self, name: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        self.tables.get(name).cloned().unwrap_or_default()
    }

    /// Reads a setting with `parse`, whose error says what the value should be.
    pub fn parse_with<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let typed = self.typed.get(name)?;
        match parse(&typed.text) {
            Ok(value) => Some(value),
            Err(expected) => {
                let shown = if typed.secret { "<hidden>" } else { typed.text.as_str() };
                self.mistakes.push(format!("{}: `{shown}`: {expected}", typed.origin));
                None
            }
        }
    }

    /// Reads a setting by its type's own parser; the mistake carries that parser's words.
    pub fn parse<T>(&mut self, name: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.parse_with(name, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }

    /// Reads a whole number within bounds.
    pub fn number(&mut self, name: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
        self.parse_with(name, |text| {
            let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
            match text.replace('_', "").parse() {
                Ok(number) if bounds.contains(&number) => Ok(number),
                _ => Err(format!("expected {expected}")),
            }
        })
    }

    /// Reads `true` or `false`.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.parse_with(name, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("expected true or false".into()),
        })
    }

    /// Every setting as it holds and where it comes from, a line each; secrets are hidden.
    #[must_use]
    pub fn shown(&self) -> String {
        let lines = self.typed.iter().map(|(name, typed)| {
            let text = if typed.secret { "<hidden>" } else { typed.text.as_str() };
            format!("  {name} = {text}  ({})\n", typed.origin)
        });
        lines.collect()
    }

    /// Notes a mistake that only the program can see: two settings that do not go together, say.
    pub fn mistake(&mut self, mistake: impl Into<String>) {
        self.mistakes.push(mistake.into());
    }

    /// Notes that a setting is needed and absent, with a word on where to give it.
    pub fn missing(&mut self, name: &str, remedy: &str) {
        self.mistakes.push(format!("{name} is not set: {remedy}"));
    }

    /// Whether a mistake was noted.
    ///
    /// # Errors
    /// All of them, together.
    pub fn finish(self) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(self.mistakes)) }
    }
}
