//! A table of the file that is repeated and says nearly all that the file may say, as `[[source]]`.
//!
//! What a part says itself, in the file or in variables with its name (`PREFIX_SOURCE_ORDERS_TOPIC` for the part `orders`), wins
//! over what is said above all of them, flags and environment included.

use std::collections::BTreeMap;

use toml::Value;

use crate::load::{Environment, File, from_env, map_env_prefix, scalar};
use crate::{Parts, Table, Values, entries};

/// Longer names would not fit into a line of a terminal.
const NAME_LENGTH_MAX: usize = 40;

/// What was typed, of the whole and of each part.
pub struct Loaded {
    /// What is said above the parts; where there are none, everything.
    pub values: Values,
    /// In the order of the file.
    pub parts: Vec<Part>,
}

/// A part of the file.
pub struct Part {
    /// Its name, which no other part has.
    pub name: String,
    /// What holds for it: its own, and what it leaves out from above.
    pub values: Values,
    /// The settings that it says itself.
    own: Vec<&'static str>,
    /// The keys of maps that it says itself.
    own_keys: BTreeMap<&'static str, Vec<String>>,
}

impl Part {
    /// Whether it says the setting itself.
    #[must_use]
    pub fn says(&self, name: &str) -> bool {
        self.own.contains(&name)
    }

    /// The keys of a map that it says itself.
    #[must_use]
    pub fn keys(&self, map: &str) -> &[String] {
        self.own_keys.get(map).map(Vec::as_slice).unwrap_or_default()
    }

    /// Flags that have no effect on this part, since it says the same itself: `--topic`, `--header trace`.
    #[must_use]
    pub fn idle_flags(&self, above: &Values) -> Vec<String> {
        let settings = self.own.iter().filter(|name| above.from_flag(name)).map(|name| format!("--{name}"));
        let keys = above.keys_of_flags.iter().flat_map(|(map, keys)| {
            let own = keys.iter().filter(move |key| self.keys(map).contains(key));
            own.map(move |key| format!("--{map} {key}"))
        });
        settings.chain(keys).collect()
    }

    /// Whether it has entries of the repeated table of its own.
    #[must_use]
    pub fn has_entries(&self) -> bool {
        self.own.contains(&ENTRIES)
    }
}

/// Among the settings that a part says itself: the repeated table. No setting has this name.
const ENTRIES: &str = "[[]]";

/// The parts of the file. What is wrong with one as such is noted above, what is wrong with its settings with itself.
pub(crate) fn read(table: &Table, file: &File, env: &Environment<'_>, above: &mut Values) -> Vec<Part> {
    let Some(parts) = table.parts else { return Vec::new() };
    let given = file.arrays.get(parts.section).map(Vec::as_slice).unwrap_or_default();
    if given.len() > parts.most {
        let (section, most) = (parts.section, parts.most);
        above.mistake(format!(
            "{}: {} [[{section}]], and there may be {most} at most",
            file.path,
            given.len()
        ));
    }
    let mut read: Vec<Part> = Vec::new();
    for (index, own) in given.iter().enumerate() {
        let place = format!("[[{}]] {} of {}", parts.section, index + 1, file.path);
        let mut own = own.clone();
        let name = name(table, own.remove("name"), &read).unwrap_or_else(|mistake| {
            above.mistake(format!("{place}: {mistake}"));
            (index + 1).to_string()
        });
        let file = File::of(own, place, table.maps);
        read.push(one(table, &parts, name, &file, env, above));
    }
    note_idle_variables(table, &parts, env, &mut read, above);
    read
}

/// A variable of a part has an effect on that one part, or it is a mistake: of the part that it names, or, where none is named,
/// above.
fn note_idle_variables(
    table: &Table,
    parts: &Parts,
    env: &Environment<'_>,
    read: &mut [Part],
    above: &mut Values,
) {
    let prefix = format!("{}_{}_", table.env_prefix, parts.section).to_uppercase();
    for rest in env.behind(&prefix) {
        let named = |part: &Part| rest.strip_prefix(&format!("{}_", variable(&part.name).to_uppercase()));
        let of: Vec<_> = (0..read.len())
            .filter(|at| named(&read[*at]).is_some_and(|own| takes(table, parts, own)))
            .collect();
        match of.as_slice() {
            [_] => {}
            [] => {
                let named = read.iter().enumerate().filter_map(|(at, part)| Some((at, named(part)?)));
                match named.min_by_key(|(_, own)| own.len()) {
                    Some((at, own)) => {
                        let said = format!("{prefix}{rest}: {}", no_setting(table, parts, own));
                        read[at].values.mistake(said);
                    }
                    None => above.mistake(format!("{prefix}{rest}: {}", no_part(parts, rest, read))),
                }
            }
            several => {
                let names: Vec<_> = several.iter().map(|at| read[*at].name.clone()).collect();
                let said = format!(
                    "{prefix}{rest}: it may be a setting of each of {}: say it in the file, or rename one of them",
                    names.join(", ")
                );
                several.iter().for_each(|at| read[*at].values.mistake(said.clone()));
            }
        }
    }
}

/// Whether a part takes the variable, of which this is what stands behind its name.
fn takes(table: &Table, parts: &Parts, own: &str) -> bool {
    let mut settings = table.settings.iter().filter(|setting| !parts.once.contains(&setting.name));
    let mut maps = table.maps.iter().filter(|map| map.from_env);
    settings.any(|setting| {
        let key = setting.key().to_uppercase();
        own == key || (setting.secret && own.strip_suffix("_FILE") == Some(key.as_str()))
    }) || maps.any(|map| {
        let key = map_env_prefix(map, "");
        own.len() >= key.len() && own.starts_with(&key[1..])
    })
}

fn no_setting(table: &Table, parts: &Parts, own: &str) -> String {
    let keys = || table.settings.iter().map(|setting| (setting, setting.key().to_uppercase()));
    if let Some((setting, _)) = keys().find(|(_, key)| key == own) {
        let variable = setting.env(table.env_prefix);
        return format!("it is said once for all [[{}]]: {variable}", parts.section);
    }
    let known =
        keys().filter(|(setting, _)| !parts.once.contains(&setting.name)).flat_map(|(setting, key)| {
            let file = setting.secret.then(|| format!("{key}_FILE"));
            std::iter::once(key).chain(file)
        });
    format!("`{}` is not a setting{}", own.to_lowercase(), nearest(own, known))
}

fn no_part(parts: &Parts, rest: &str, read: &[Part]) -> String {
    let section = parts.section;
    if read.is_empty() {
        return format!("the settings have no [[{section}]]");
    }
    // What stands where a name would is as long as the name.
    let names = read.iter().map(|part| variable(&part.name).to_uppercase());
    let near = names.zip(read).min_by_key(|(name, _)| {
        strsim::damerau_levenshtein(&rest.chars().take(name.chars().count()).collect::<String>(), name)
    });
    let near = near.map_or(String::new(), |(_, part)| format!("; nearest: {}", part.name));
    format!("there is no such [[{section}]]{near}")
}

/// The nearest of what there is, where any is near.
fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    let distances = known.map(|known| (strsim::damerau_levenshtein(name, &known), known));
    let near = distances.min().filter(|(distance, _)| *distance <= name.chars().count().div_ceil(2).max(2));
    near.map_or(String::new(), |(_, known)| format!("; nearest: {known}"))
}

fn one(
    table: &Table,
    parts: &Parts,
    name: String,
    file: &File,
    env: &Environment<'_>,
    above: &Values,
) -> Part {
    let prefix = format!("{}_{}_{}", table.env_prefix, parts.section, variable(&name)).to_uppercase();
    let mut values = Values::default();
    for setting in table.settings {
        if parts.once.contains(&setting.name) {
            if file.get(setting).is_some() {
                values.mistake(entries::said_once(&file.path, &setting.key(), parts.section));
            }
            continue;
        }
        let typed = from_env(setting, &prefix, env, &mut values.mistakes).or_else(|| file.get(setting));
        if let Some(typed) = typed {
            values.typed.insert(setting.name, typed);
        }
    }
    for map in table.maps {
        file.read_map(map, &prefix, env, Vec::new(), &mut values);
    }
    values.entries = entries::read(table, file, &mut values.mistakes);
    file.note_unknown_keys(table, &[table.repeated.map(|repeated| repeated.section)], &mut values.mistakes);
    let mut own: Vec<_> = values.typed.keys().copied().collect();
    let maps = values.maps.iter().map(|(map, keys)| (*map, keys.keys().cloned().collect::<Vec<_>>()));
    let tables = values.tables.iter().map(|(map, keys)| (*map, keys.keys().cloned().collect()));
    let own_keys = maps.chain(tables).collect();
    if values.entries.is_empty() {
        values.entries.clone_from(&above.entries);
    } else {
        own.push(ENTRIES);
    }
    values.inherit(above);
    Part { name, values, own, own_keys }
}

/// As it stands in the name of a variable, which has no hyphen.
fn variable(name: &str) -> String {
    name.replace('-', "_")
}

fn name(table: &Table, given: Option<Value>, others: &[Part]) -> Result<String, String> {
    let expected = format!("1 to {NAME_LENGTH_MAX} lower-case letters, digits, hyphens and underscores");
    let Some(given) = given else { return Err(format!("name is not set: give it one of {expected}")) };
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let fits = |name: &str| (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(allowed);
    let name = given
        .as_str()
        .filter(|name| fits(name))
        .ok_or_else(|| format!("name = `{}`: expected {expected}", scalar(&given)))?;
    if others.iter().any(|other| other.name == name) {
        return Err(format!("the name `{name}` is given twice"));
    }
    match others.iter().find(|other| are_confused(table, &variable(&other.name), &variable(name))) {
        Some(other) => Err(format!(
            "the names `{name}` and `{}` cannot be told apart in the names of variables",
            other.name
        )),
        None => Ok(name.to_owned()),
    }
}

/// Whether one variable may be that of either: they are alike, or what one has more, with a setting, is another setting, as
/// `orders_monitor` with `database-url` is `orders` with `monitor-database-url`.
fn are_confused(table: &Table, one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let Some(more) = long.strip_prefix(short) else { return false };
    let Some(more) = more.strip_prefix('_') else { return more.is_empty() };
    let is_setting = |key: String| table.settings.iter().any(|setting| setting.key() == key);
    table.settings.iter().any(|setting| is_setting(format!("{more}_{}", setting.key())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{MapSetting, Repeated, Setting};

    const TABLE: Table = Table {
        env_prefix: "APP",
        default_file: "no-such-file.toml",
        settings: &[
            Setting::new("http-addr", "ADDR", ":1", "Where it serves."),
            Setting::new("slot", "NAME", "app", "The slot."),
            Setting::new("table", "NAME", "outbox", "The table."),
            Setting::optional("topic", "NAME", "The topic."),
            Setting::optional("database-url", "URL", "Where.").secret().or_env(&["DATABASE_URL"]),
            Setting::optional("other-database-url", "URL", "Where, too.").secret(),
        ],
        maps: &[
            MapSetting {
                name: "property",
                section: "kafka.properties",
                from_env: true,
                of_tables: false,
                help: "Passed on.",
            },
            MapSetting { name: "create", section: "create", from_env: false, of_tables: true, help: "Made." },
        ],
        repeated: Some(Repeated { section: "outbox", settings: &["table"], maps: &[], help: "An outbox." }),
        parts: Some(Parts { section: "source", once: &["http-addr"], most: 3, help: "A source." }),
    };

    fn load(name: &str, text: &str, args: &[&str], env: &[(&str, &str)]) -> Loaded {
        let path = std::env::temp_dir().join(format!("parts-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let command = clap::Command::new("app").args(TABLE.args());
        let matches = command.get_matches_from(["app", "--config", &path].iter().chain(args));
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TABLE.load_parts(&[], &matches, &env)
    }

    fn texts(loaded: &Loaded, name: &str) -> Vec<Option<String>> {
        loaded.parts.iter().map(|part| part.values.text(name)).collect()
    }

    #[test]
    fn a_part_has_what_it_says_and_the_rest_from_above_flags_and_environment_included() {
        let text = "slot = \"all\"\ntopic = \"file\"\n[kafka.properties]\na = 1\nb = 1\n[create]\n\"x\" = { n = 1 }\n\
                    [[source]]\nname = \"one\"\n\
                    [[source]]\nname = \"two-2\"\nslot = \"own\"\ntopic = \"own\"\n[source.kafka.properties]\nb = 2\n\
                    [source.create]\n\"x\" = { n = 2 }\n\"y\" = { n = 3 }\n";
        let env = [("APP_TOPIC", "env"), ("DATABASE_URL", "all"), ("APP_SOURCE_TWO_2_DATABASE_URL", "own")];
        let loaded = load("above", text, &["--slot=flag"], &env);
        let names: Vec<_> = loaded.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["one", "two-2"]);
        let some = |texts: [&str; 2]| texts.map(|text| Some(text.to_owned())).to_vec();
        assert_eq!(texts(&loaded, "slot"), some(["flag", "own"]));
        assert_eq!(texts(&loaded, "topic"), some(["env", "own"]));
        assert_eq!(texts(&loaded, "database-url"), some(["all", "own"]));
        assert_eq!(texts(&loaded, "table"), some(["outbox", "outbox"]));
        assert_eq!(texts(&loaded, "http-addr"), some([":1", ":1"]));
        let properties =
            |at: usize| loaded.parts[at].values.map("property").into_values().collect::<Vec<_>>();
        assert_eq!(
            (properties(0), properties(1)),
            (vec!["1".into(), "1".into()], vec!["1".into(), "2".to_owned()])
        );
        let made = |at: usize| {
            let made = loaded.parts[at].values.tables("create");
            made.into_values().map(|table| table["n"].clone()).collect::<Vec<_>>()
        };
        assert_eq!((made(0), made(1)), (vec!["1".to_owned()], vec!["2".to_owned(), "3".to_owned()]));
        assert!(loaded.parts[1].says("slot") && !loaded.parts[0].says("slot"));
        for part in loaded.parts {
            part.values.finish().unwrap();
        }
        loaded.values.finish().unwrap();
    }

    #[test]
    fn a_secret_of_a_part_may_stand_in_a_file_that_is_read_again() {
        let secret = std::env::temp_dir().join(format!("parts-{}-secret", std::process::id()));
        std::fs::write(&secret, "hidden\n").unwrap();
        let env = [("APP_SOURCE_ONE_DATABASE_URL_FILE", secret.to_str().unwrap())];
        let loaded = load("secret", "[[source]]\nname = \"one\"\n", &[], &env);
        let values = &loaded.parts[0].values;
        assert_eq!(values.text("database-url").as_deref(), Some("hidden"));
        assert_eq!(values.file("database-url"), Some(secret));
    }

    #[test]
    fn entries_of_a_part_take_the_place_of_those_above() {
        let text = "[[outbox]]\ntable = \"a\"\n[[source]]\nname = \"one\"\n[[source]]\nname = \"two\"\n\
                    [[source.outbox]]\ntable = \"b\"\n[[source.outbox]]\ntable = \"c\"\n";
        let loaded = load("entries", text, &[], &[]);
        let tables = |at: usize| {
            let entries = loaded.parts[at].values.entries();
            entries.iter().filter_map(|entry| entry.text("table")).collect::<Vec<_>>()
        };
        assert_eq!((tables(0), tables(1)), (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]));
        assert!(loaded.parts[1].has_entries() && !loaded.parts[0].has_entries());
    }

    #[test]
    fn what_is_wrong_with_a_part_is_told_with_its_place() {
        let text = "[[source]]\nname = \"one\"\nhttp_addr = \":2\"\ntabel = \"x\"\n[[source.outbox]]\nslot = \"s\"\n\
                    [[source.source]]\nname = \"inner\"\n[[source]]\nslot = \"s\"\n[[source]]\nname = \"One\"\n\
                    [[source]]\nname = \"one\"\n";
        let loaded = load("wrong", text, &[], &[]);
        let said = loaded.values.finish().unwrap_err().to_string();
        for part in [
            "4 [[source]], and there may be 3",
            "[[source]] 2 of ",
            "name is not set",
            "name = `One`: expected 1 to 40",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(said.contains("[[source]] 4 of ") && said.contains("`one` is given twice"), "{said}");
        let said = loaded.parts.into_iter().next().unwrap().values.finish().unwrap_err().to_string();
        for part in [
            "`http_addr` is said once for all, above the first [[source]]",
            "`tabel` is not a setting",
            "`[[source]]` is not a setting",
            "[[outbox]] 1 of [[source]] 1 of ",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn a_variable_of_a_part_is_taken_by_one_part_or_is_a_mistake() {
        let text = "[[source]]\nname = \"one\"\n[[source]]\nname = \"one-property\"\n";
        let said = |name: &str, value: &str| {
            let loaded = load("variables", text, &[], &[(name, value)]);
            let parts = loaded.parts.into_iter().map(|part| part.values.finish());
            std::iter::once(loaded.values.finish())
                .chain(parts)
                .find_map(Result::err)
                .map(|said| said.to_string())
        };
        for name in ["APP_SOURCE_ONE_TOPIC", "APP_SOURCE_ONE_PROPERTY_LINGER_MS"] {
            assert_eq!(said(name, "x"), None, "{name}");
        }
        for (name, part) in [
            ("APP_SOURCE_ONE_PROPERTY_TOPIC", "each of one, one-property"),
            ("APP_SOURCE_ONE_HTTP_ADDR", "said once for all [[source]]: APP_HTTP_ADDR"),
            ("APP_SOURCE_ONE_TOPIK", "`topik` is not a setting; nearest: TOPIC"),
            ("APP_SOURCE_ONE_DATABASE_URL_FIEL", "nearest: DATABASE_URL_FILE"),
            ("APP_SOURCE_ONE_SLOT_FILE", "not a setting"),
            ("APP_SOURCE_ONA_TOPIC", "there is no such [[source]]; nearest: one"),
        ] {
            let text = said(name, "x").unwrap_or_else(|| panic!("{name} is taken"));
            assert!(text.contains(name) && text.contains(part), "{part}: {text}");
            assert_eq!(said(name, ""), None, "an empty one counts as absent");
        }
        let none = load("none", "", &[], &[("APP_SOURCE_ONE_TOPIC", "x")]).values.finish();
        assert!(none.unwrap_err().to_string().contains("have no [[source]]"));
    }

    #[test]
    fn flags_that_a_part_takes_no_notice_of_are_known() {
        let text = "[[source]]\nname = \"one\"\nslot = \"own\"\n[source.kafka.properties]\na = 1\n[source.create]\n\"x\" = { n = 1 }\n";
        let flags = ["--slot=s", "--topic=t", "--property=a=2", "--property=b=2", "--create=x={ n = 2 }"];
        let loaded = load("flags", text, &flags, &[]);
        assert_eq!(loaded.parts[0].idle_flags(&loaded.values), ["--slot", "--create x", "--property a"]);
    }

    #[test]
    fn names_whose_variables_would_be_one_are_refused() {
        let two = |one: &str, other: &str| {
            let text = format!("[[source]]\nname = \"{one}\"\n[[source]]\nname = \"{other}\"\n");
            let loaded = load(&format!("{one}-{other}"), &text, &[], &[]);
            loaded.values.finish().map_err(|mistakes| mistakes.to_string())
        };
        for (one, other) in [("a-b", "a_b"), ("a", "a-other"), ("a_other", "a")] {
            let said = two(one, other).unwrap_err();
            assert!(said.contains("cannot be told apart"), "{said}");
        }
        two("a", "a-b").unwrap();
        two("a", "ab").unwrap();
    }
}
