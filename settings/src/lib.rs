//! Settings from flags, environment and a TOML file, every mistake reported at once.
//!
//! A program describes its settings in one [`Table`]; from it come the command line's flags, the names of the
//! environment variables, the keys of the file, the defaults and the documentation, so that none of them can drift
//! from the others. Reading goes in two stages:
//!
//! 1. [`Table::load`] gathers *what was typed* into [`Values`]: a flag wins over the environment, that over the file,
//!    that over the default. Each value remembers where it came from.
//! 2. The program turns it into *what it means* with [`Values::parse`] and its kin. A value that does not parse is
//!    noted and the next one is read; [`Values::finish`] reports all mistakes together.
//!
//! A setting named `kafka-brokers` has the flag `--kafka-brokers`, the variable `PREFIX_KAFKA_BROKERS` and the file
//! key `kafka_brokers`.

mod collector;
mod document;
mod entries;
mod load;
mod log;
mod parts;
mod tables;
mod values;

pub use collector::Collector;
pub use document::{markdown, sample_file};
pub use load::{environment, read_secret};
pub use log::{LogFormat, LogLevel};
pub use parts::{Loaded, Part};
pub use values::{Mistakes, Values};

/// One setting: its name in all its forms, its default and its meaning.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The flag without its dashes, in kebab case; the other spellings derive from it.
    pub name: &'static str,
    /// Environment variables that are read when the setting's own is absent, in order.
    pub env_fallbacks: &'static [&'static str],
    /// What holds when nothing was given; `None` means absent.
    pub default: Option<&'static str>,
    /// Never shown; `PREFIX_NAME_FILE` names a file that holds it.
    pub secret: bool,
    /// The kind of value, for the help: `URL`, `BYTES`, `MS`, ...
    pub value: &'static str,
    /// What the setting does, with its unit and bounds: one or two sentences.
    pub help: &'static str,
}

impl Setting {
    /// The kind of value of a switch: its flag may stand alone and then means `true`.
    pub const SWITCH: &'static str = "BOOL";

    /// A switch, off unless it is given.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Self::SWITCH, "false", help)
    }

    /// A plain setting with a default.
    #[must_use]
    pub const fn new(
        name: &'static str,
        value: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, env_fallbacks: &[], default: Some(default), secret: false, value, help }
    }

    /// A plain setting that may be absent.
    #[must_use]
    pub const fn optional(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, env_fallbacks: &[], default: None, secret: false, value, help }
    }

    /// Also read these environment variables when the setting's own is absent.
    #[must_use]
    pub const fn or_env(mut self, names: &'static [&'static str]) -> Self {
        self.env_fallbacks = names;
        self
    }

    /// A secret: never shown, and `PREFIX_NAME_FILE` may name the file that holds it.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The key in the file: `kafka_brokers` for `kafka-brokers`.
    #[must_use]
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// The environment variable: `PREFIX_KAFKA_BROKERS` for `kafka-brokers`.
    #[must_use]
    pub fn env(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.key().to_uppercase())
    }
}

/// A setting whose own keys are free: properties that are passed on to a library, or names of headers.
///
/// Named `kafka-property`, it has the flag `--kafka-property KEY=VALUE` (repeatable), the file section it names, and, where
/// keys are lower case with dots, the variables `PREFIX_KAFKA_PROPERTY_SASL_USERNAME` for the key `sasl.username`.
#[derive(Debug, Clone, Copy)]
pub struct MapSetting {
    /// The flag without its dashes.
    pub name: &'static str,
    /// The table of the file, its path with dots: `kafka.properties`.
    pub section: &'static str,
    /// Whether variables may give it, whose names have no case.
    pub from_env: bool,
    /// Whether each value is a table of its own: `"shop.*" = { partitions = 6 }`, as a flag `shop.*={ partitions = 6 }`.
    /// Read with [`Values::tables`].
    pub of_tables: bool,
    /// What the keys are.
    pub help: &'static str,
}

/// A table of the file that may be repeated: `[[outbox]]`. Each repeats some of the settings; what it leaves out is as it
/// stands above.
#[derive(Debug, Clone, Copy)]
pub struct Repeated {
    /// The name between the brackets.
    pub section: &'static str,
    /// The settings that it may repeat, by their names.
    pub settings: &'static [&'static str],
    /// Those with free keys.
    pub maps: &'static [&'static str],
    /// What an entry is.
    pub help: &'static str,
}

/// A table of the file that may be repeated and says nearly all that the file itself may say: `[[source]]`. What it leaves out is
/// as it stands above.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// The name between the brackets.
    pub section: &'static str,
    /// The settings that it may not repeat, since they are of the process.
    pub once: &'static [&'static str],
    /// How many there may be.
    pub most: usize,
    /// What an entry is.
    pub help: &'static str,
}

/// All settings of a program.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Of the environment variables, without the underscore: `WALPOST`.
    pub env_prefix: &'static str,
    /// Read where it exists and no other file was named.
    pub default_file: &'static str,
    /// In the order of the help and the docs.
    pub settings: &'static [Setting],
    /// Those with free keys.
    pub maps: &'static [MapSetting],
    /// The part of them that may be given more than once.
    pub repeated: Option<Repeated>,
    /// Where nearly all of them may be given more than once.
    pub parts: Option<Parts>,
}
