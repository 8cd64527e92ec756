//! The first stage: gathering what was typed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::values::Typed;
use crate::{Loaded, MapSetting, Setting, Table, Values, entries, parts, tables};

/// The flag that names the file.
const FILE_FLAG: &str = "config";

/// The variables of the process. One that is not text cannot be a setting.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.collect()
}

impl Table {
    /// The command line's flags, global to all subcommands.
    #[must_use]
    pub fn args(&self) -> Vec<Arg> {
        let file = Arg::new(FILE_FLAG).long(FILE_FLAG).value_name("FILE").global(true).help(format!(
            "The settings file, TOML [env: {}] [default: {} where there is one]",
            self.file_env(),
            self.default_file
        ));
        let plain = self.settings.iter().map(|setting| plain_arg(setting, self.env_prefix));
        let maps = self.maps.iter().map(|map| {
            Arg::new(map.name)
                .long(map.name)
                .value_name("KEY=VALUE")
                .global(true)
                .action(ArgAction::Append)
                .help(format!(
                    "{}{} [file: [{}]]",
                    map.help,
                    if map.from_env {
                        format!(" [env: {}…]", map_env_prefix(map, self.env_prefix))
                    } else {
                        String::new()
                    },
                    map.section
                ))
        });
        std::iter::once(file).chain(plain).chain(maps).collect()
    }

    /// Gathers what was typed. `env` reads a variable of the environment.
    #[must_use]
    pub fn load(&self, matches: &ArgMatches, env: &[(String, String)]) -> Values {
        self.load_without(&[], matches, env)
    }

    /// The same for a subcommand that has flags of its own with the names of these settings: they are read from the
    /// environment and the file alone.
    #[must_use]
    pub fn load_without(&self, flags: &[&str], matches: &ArgMatches, env: &[(String, String)]) -> Values {
        self.load_parts(flags, matches, env).values
    }

    /// The same with the parts of the file, where it has any.
    #[must_use]
    pub fn load_parts(&self, flags: &[&str], matches: &ArgMatches, env: &[(String, String)]) -> Loaded {
        let mut values = Values::default();
        let env = Environment(env);
        let file = self.read_file(matches, &env, &mut values);
        for setting in self.settings {
            let typed = from_flag(setting, matches)
                .filter(|_| !flags.contains(&setting.name))
                .or_else(|| from_env(setting, self.env_prefix, &env, &mut values.mistakes))
                .or_else(|| from_fallbacks(setting, &env))
                .or_else(|| file.get(setting))
                .or_else(|| from_default(setting));
            if let Some(typed) = typed {
                values.typed.insert(setting.name, typed);
            }
        }
        for map in self.maps {
            let flags = map_from_flags(map, self.env_prefix, matches, &mut values.mistakes);
            values.keys_of_flags.insert(map.name, flags.iter().map(|(key, _)| key.clone()).collect());
            file.read_map(map, self.env_prefix, &env, flags, &mut values);
        }
        values.entries = entries::read(self, &file, &mut values.mistakes);
        let sections =
            [self.repeated.map(|repeated| repeated.section), self.parts.map(|parts| parts.section)];
        file.note_unknown_keys(self, &sections, &mut values.mistakes);
        let parts = parts::read(self, &file, &env, &mut values);
        Loaded { values, parts }
    }

    fn file_env(&self) -> String {
        format!("{}_CONFIG", self.env_prefix)
    }

    fn read_file(&self, matches: &ArgMatches, env: &Environment<'_>, values: &mut Values) -> File {
        let named = given(matches, FILE_FLAG).or_else(|| env.get(&self.file_env()));
        let path = match named {
            Some(named) => PathBuf::from(named),
            None if Path::new(self.default_file).exists() => PathBuf::from(self.default_file),
            None => return File::default(),
        };
        File::read(&path, self.maps).unwrap_or_else(|mistake| {
            values.mistakes.push(mistake);
            File::default()
        })
    }
}

fn plain_arg(setting: &Setting, prefix: &str) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.value)
        .global(true)
        .help(flag_help(setting, prefix));
    if setting.value == Setting::SWITCH {
        // `--exit-on-halt` alone says true; `--exit-on-halt=false` takes back what a file says.
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg.allow_hyphen_values(true)
    }
}

fn flag_help(setting: &Setting, prefix: &str) -> String {
    let default = setting.default.map_or(String::new(), |default| format!(" [default: {default}]"));
    format!("{} [env: {}]{default}", setting.help, setting.env(prefix))
}

/// What stands on the command line, when it does: the table's own defaults are not clap's.
fn given(matches: &ArgMatches, name: &str) -> Option<String> {
    (matches.value_source(name) == Some(ValueSource::CommandLine))
        .then(|| matches.get_one::<String>(name).cloned())
        .flatten()
}

fn from_flag(setting: &Setting, matches: &ArgMatches) -> Option<Typed> {
    let text = given(matches, setting.name)?;
    Some(Typed {
        text,
        origin: format!("--{}", setting.name),
        secret: setting.secret,
        file: None,
        is_default: false,
        is_preset: false,
    })
}

pub(crate) fn from_env(
    setting: &Setting,
    prefix: &str,
    env: &Environment<'_>,
    mistakes: &mut Vec<String>,
) -> Option<Typed> {
    let own = setting.env(prefix);
    from_variable(setting, &own, env)
        .or_else(|| setting.secret.then(|| from_secret_file(&format!("{own}_FILE"), env, mistakes)).flatten())
}

/// Variables that other programs read, too.
fn from_fallbacks(setting: &Setting, env: &Environment<'_>) -> Option<Typed> {
    setting.env_fallbacks.iter().find_map(|name| from_variable(setting, name, env))
}

fn from_variable(setting: &Setting, name: &str, env: &Environment<'_>) -> Option<Typed> {
    env.get(name).map(|text| Typed {
        text,
        origin: name.to_owned(),
        secret: setting.secret,
        file: None,
        is_default: false,
        is_preset: false,
    })
}

fn from_secret_file(variable: &str, env: &Environment<'_>, mistakes: &mut Vec<String>) -> Option<Typed> {
    let path = env.get(variable)?;
    match read_secret(Path::new(&path)) {
        Ok(text) => Some(Typed {
            text,
            origin: format!("{variable} ({path})"),
            secret: true,
            file: Some(PathBuf::from(path)),
            is_default: false,
            is_preset: false,
        }),
        Err(error) => {
            mistakes.push(format!("{variable}: cannot read `{path}`: {error}"));
            None
        }
    }
}

/// The text of a file that holds a secret, without the end of its line.
///
/// # Errors
/// When it cannot be read.
pub fn read_secret(path: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn from_default(setting: &Setting) -> Option<Typed> {
    let text = setting.default?.to_owned();
    Some(Typed {
        text,
        origin: format!("the default of {}", setting.name),
        // It stands in the documentation.
        secret: false,
        file: None,
        is_default: true,
        is_preset: false,
    })
}

pub(crate) fn map_env_prefix(map: &MapSetting, prefix: &str) -> String {
    format!("{prefix}_{}_", map.name.replace('-', "_").to_uppercase())
}

fn map_from_env(map: &MapSetting, prefix: &str, env: &Environment<'_>) -> Vec<(String, String)> {
    let prefix = map_env_prefix(map, prefix);
    let key = |name: &str| Some(name.strip_prefix(&prefix)?.to_lowercase().replace('_', "."));
    env.0.iter().filter_map(|(name, value)| Some((key(name)?, value.clone()))).collect()
}

/// Whether a free key is that of a secret, by its name.
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["password", "secret", "ssl.key.pem", "jaas"].iter().any(|part| key.contains(part))
}

fn map_from_flags(
    map: &MapSetting,
    prefix: &str,
    matches: &ArgMatches,
    mistakes: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for text in matches.get_many::<String>(map.name).into_iter().flatten() {
        match text.split_once('=') {
            Some((key, _)) if is_secret(key) => mistakes.push(format!(
                "--{} {key}: every user of the machine can read the command line: give it as {}{} or in the settings \
                 file",
                map.name,
                map_env_prefix(map, prefix),
                key.trim().replace('.', "_").to_uppercase()
            )),
            Some((key, value)) => pairs.push((key.trim().to_owned(), value.to_owned())),
            None => mistakes.push(format!("--{}: `{text}`: expected KEY=VALUE", map.name)),
        }
    }
    pairs
}

/// The environment as it was when the program started. An empty variable counts as absent, as Compose files set them.
pub(crate) struct Environment<'a>(&'a [(String, String)]);

impl Environment<'_> {
    /// What stands behind the prefix in the names of variables that have a value.
    pub(crate) fn behind<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let given = self.0.iter().filter(|(_, value)| !value.is_empty());
        given.filter_map(move |(name, _)| name.strip_prefix(prefix))
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.clone())
    }
}

/// The settings file, or a part of it, flattened: `[kafka.properties]` `linger.ms = 5` has the key `kafka.properties.linger.ms`.
#[derive(Default)]
pub(crate) struct File {
    /// The path, or the part's place in the file.
    pub(crate) path: String,
    values: BTreeMap<String, String>,
    /// Tables that are repeated, by their names.
    pub(crate) arrays: BTreeMap<String, Vec<toml::Table>>,
    /// Sections whose values are tables, whole.
    tables: BTreeMap<&'static str, toml::Table>,
}

impl File {
    fn read(path: &Path, maps: &[MapSetting]) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the settings file `{shown}`: {error}"))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("{shown}, line {line}: not TOML: {}", error.message())
        })?;
        Ok(Self::of(table, shown.to_string(), maps))
    }

    pub(crate) fn of(mut table: toml::Table, path: String, maps: &[MapSetting]) -> Self {
        let tables = tables::take(&mut table, maps);
        let (mut plain, mut arrays) = (toml::Table::new(), BTreeMap::new());
        for (key, value) in table {
            match repeated(&value) {
                Some(entries) => drop(arrays.insert(key, entries)),
                None => drop(plain.insert(key, value)),
            }
        }
        let mut values = BTreeMap::new();
        flatten("", &plain, &mut values);
        Self { path, values, arrays, tables }
    }

    pub(crate) fn get(&self, setting: &Setting) -> Option<Typed> {
        let text = self.values.get(&setting.key())?.clone();
        Some(Typed {
            text,
            origin: format!("{} in {}", setting.key(), self.path),
            secret: setting.secret,
            file: None,
            is_default: false,
            is_preset: false,
        })
    }

    fn section(&self, map: &MapSetting) -> BTreeMap<String, String> {
        let prefix = format!("{}.", map.section);
        let own =
            |(key, value): (&String, &String)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone()));
        self.values.iter().filter_map(own).collect()
    }

    /// Puts what is said of a map into `values`; `flags` win over the environment, that over the file.
    pub(crate) fn read_map(
        &self,
        map: &MapSetting,
        env_prefix: &str,
        env: &Environment<'_>,
        flags: Vec<(String, String)>,
        values: &mut Values,
    ) {
        if map.of_tables {
            let read = tables::read(map.name, self.tables.get(map.section), flags, &mut values.mistakes);
            values.tables.insert(map.name, read);
            return;
        }
        let mut merged = self.section(map);
        if map.from_env {
            merged.extend(map_from_env(map, env_prefix, env));
        }
        merged.extend(flags);
        values.maps.insert(map.name, merged);
    }

    /// A misspelt key must not leave its default in force in silence; `sections` are the tables that may be repeated here.
    pub(crate) fn note_unknown_keys(
        &self,
        table: &Table,
        sections: &[Option<&str>],
        mistakes: &mut Vec<String>,
    ) {
        for key in self.arrays.keys().filter(|key| !sections.contains(&Some(key))) {
            mistakes.push(format!("{}: `[[{key}]]` is not a setting", self.path));
        }
        for key in self.values.keys() {
            let known = table.settings.iter().any(|setting| setting.key() == *key)
                || table.maps.iter().any(|map| key.starts_with(&format!("{}.", map.section)));
            if !known {
                mistakes.push(format!("{}: `{key}` is not a setting", self.path));
            }
        }
    }
}

/// A value that is `[[…]]` in the file.
fn repeated(value: &toml::Value) -> Option<Vec<toml::Table>> {
    let items = value.as_array().filter(|items| !items.is_empty())?;
    items.iter().map(|item| item.as_table().cloned()).collect()
}

pub(crate) fn flatten(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&path, inner, into),
            other => {
                into.insert(path, scalar(other));
            }
        }
    }
}

pub(crate) fn scalar(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
        toml::Value::Table(_) => String::new(),
    }
}

#[cfg(test)]
mod tests;
