//! Maps whose values are tables: `[create_topics]` `"shop.*" = { partitions = 6 }`.

use std::collections::BTreeMap;

use toml::Value;

use crate::MapSetting;
use crate::load::scalar;
use crate::values::Tables;

/// Takes the sections of such maps out of the file, whole: flattened, a key with dots could not be told from what its table
/// says, and a table that says nothing would be gone.
pub(crate) fn take(file: &mut toml::Table, maps: &[MapSetting]) -> BTreeMap<&'static str, toml::Table> {
    let mut taken = BTreeMap::new();
    for map in maps.iter().filter(|map| map.of_tables) {
        match file.remove(map.section) {
            Some(Value::Table(entries)) => drop(taken.insert(map.section, entries)),
            // It is no section: that is said of it where keys are unknown.
            Some(other) => drop(file.insert(map.section.to_owned(), other)),
            None => {}
        }
    }
    taken
}

/// What the file says, and flags, which win: each is a free key and the text of an inline table.
pub(crate) fn read(
    name: &str,
    file: Option<&toml::Table>,
    flags: Vec<(String, String)>,
    mistakes: &mut Vec<String>,
) -> Tables {
    let from_file = file.into_iter().flatten().map(|(key, value)| (key.clone(), Some(value.clone())));
    let from_flags = flags.into_iter().map(|(key, text)| (key, text.parse::<Value>().ok()));
    let mut tables = Tables::new();
    for (key, value) in from_file.chain(from_flags) {
        match one(&key, value) {
            Ok(table) => drop(tables.insert(key, table)),
            Err(expected) => mistakes.push(format!("{name}: `{key}`: {expected}")),
        }
    }
    tables
}

fn one(key: &str, value: Option<Value>) -> Result<BTreeMap<String, String>, String> {
    let Some(Value::Table(table)) = value else {
        return Err(format!("expected a table in braces, as in \"{key}\" = {{ … }}"));
    };
    let entry = |(inner, value): (String, Value)| match value {
        // It is a name with a dot that stands without its quotes.
        Value::Table(_) => Err(format!(
            "`{inner}` is a table: put a name with dots in quotes, \"{key}.{inner}\" = {{ … }} or \"{inner}.…\" = …"
        )),
        value => Ok((inner, scalar(&value))),
    };
    table.into_iter().map(entry).collect()
}
