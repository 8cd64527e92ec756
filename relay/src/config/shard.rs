//! One outbox over several slots: each has the rows whose key has a hash of its own.
//!
//! A shard is a row filter, a slot and a publication, and nothing else: what follows one outbox follows a shard of it, with its
//! own position, its own rows from before the slot, its own recovery and its own cleaning. Rows of one key are in one shard, so
//! their order holds.
//!
//! The hash is Postgres' own of a row (`hash_record`): it takes columns of any type that can be hashed, and a publication takes it
//! for a filter, since it is built in and immutable. It need not be the same in another major version: drain before one.

use settings::Values;
use walpost_core::event::Mapping;
use walpost_core::event::mapping::Choice;
use walpost_core::event::template::{Expression, Operand};

use super::{identifier, slot_name};

/// More walsenders than that read the same log in vain.
const SHARDS_MAX: u32 = 64;

/// Which of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shard {
    /// Counted from 1.
    number: u32,
    of: u32,
}

impl Shard {
    /// The shard that is meant, where one is; what is wrong with it is said by [`check`].
    fn read(values: &Values) -> Option<Self> {
        parse(&values.text("shard")?).ok()
    }

    /// The name of what each shard has for itself.
    fn of(self, name: &str) -> String {
        format!("{name}_{}_of_{}", self.number, self.of)
    }

    /// The row filter, beside another.
    fn filter(self, columns: &[String], other: Option<String>) -> String {
        let columns: Vec<_> =
            columns.iter().map(|column| format!("\"{}\"", column.replace('"', "\"\""))).collect();
        let columns = columns.join(", ");
        let shard = format!("(hash_record(row({columns})) & 2147483647) % {} = {}", self.of, self.number - 1);
        other.map_or_else(|| shard.clone(), |other| format!("({other}) and {shard}"))
    }
}

fn parse(text: &str) -> Result<Shard, String> {
    let read = || {
        let (number, of) = text.split_once('/')?;
        let shard = Shard { number: number.trim().parse().ok()?, of: of.trim().parse().ok()? };
        ((1..=shard.of).contains(&shard.number) && shard.of <= SHARDS_MAX).then_some(shard)
    };
    read().ok_or_else(|| format!("expected which of how many, as in 2/4, of {SHARDS_MAX} at most"))
}

/// Says what is wrong with the setting: once, though each name is made by it.
pub(super) fn check(values: &mut Values) {
    if values.text("shard").is_some() {
        values.parse_with("shard", parse);
    }
}

/// The slot, which is the shard's own where there are shards.
pub(super) fn slot(values: &mut Values) -> Option<String> {
    let slot = values.parse_with("slot", slot_name);
    let Some(shard) = Shard::read(values) else { return slot };
    let name = shard.of(&slot?);
    slot_name(&name)
        .map_err(|_| values.mistake(format!("slot: `{name}` is too long a name for a shard's")))
        .ok()
}

/// The slots of all shards.
pub(super) fn slots(values: &Values) -> Vec<String> {
    let (Some(shard), Some(slot)) = (Shard::read(values), values.text("slot")) else { return Vec::new() };
    (1..=shard.of).map(|number| Shard { number, ..shard }.of(&slot)).collect()
}

/// A name that is given for all shards, made one for each.
pub(super) fn own(values: &Values, name: String) -> String {
    Shard::read(values).map_or(name.clone(), |shard| shard.of(&name))
}

/// The publication, in the same way.
pub(super) fn publication(values: &mut Values) -> Option<String> {
    let publication = values.parse_with("publication", identifier);
    let Some(shard) = Shard::read(values) else { return publication };
    let name = shard.of(&publication?);
    let too_long = |_| values.mistake(format!("publication: `{name}` is too long a name for a shard's"));
    identifier(&name).map_err(too_long).ok()
}

/// The row filter of a table, with that of the shard.
pub(super) fn filter(values: &mut Values, mapping: Option<&Mapping>) -> Option<String> {
    let given = values.text("where").filter(|filter| !filter.trim().is_empty());
    let Some(shard) = Shard::read(values) else { return given };
    let columns = match values.text("shard-by") {
        Some(_) => values.parse_with("shard-by", column_list),
        None => mapping.and_then(|mapping| {
            let columns = key_columns(mapping);
            if columns.is_none() {
                values.mistake(
                    "shard needs to know which rows stay together: say the key by a column (--key), or --shard-by with columns that \
                     are alike wherever the key is",
                );
            }
            columns
        }),
    };
    columns.map(|columns| shard.filter(&columns, given))
}

fn column_list(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|name| identifier(name.trim())).collect()
}

/// The column that is the key: two rows with one key have the same. Of several, `1` and `23` make the key that `12` and `3` make.
fn key_columns(mapping: &Mapping) -> Option<Vec<String>> {
    let Choice::Given(key) = &mapping.key else { return None };
    key.as_expression().and_then(plain_column).map(|column| vec![column])
}

fn plain_column(expression: &Expression) -> Option<String> {
    match (expression.operands.as_slice(), expression.filters.as_slice()) {
        ([Operand::Column { name, members }], []) if members.is_empty() => Some(name.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::config::{Settings, TABLE};

    fn read(args: &[&str]) -> Result<Settings, String> {
        let command = clap::Command::new("walpost").args(TABLE.args());
        let required = ["walpost", "--database-url=postgres://me@db/shop", "--topic=t"];
        let matches = command.get_matches_from(required.iter().chain(args));
        Settings::read(TABLE.load(&matches, &[]), &[]).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_shard_has_a_slot_a_publication_a_filter_and_a_position_of_its_own() {
        let settings =
            read(&["--shard=2/4", "--key=customer", "--where=not test", "--delivery=exactly-once"]);
        let settings = settings.unwrap();
        assert_eq!(settings.source.slot, "walpost_2_of_4");
        assert_eq!(settings.source.publication, "walpost_2_of_4");
        assert_eq!((settings.source.shards.len(), settings.source.shards[3].as_str()), (4, "walpost_4_of_4"));
        assert_eq!(settings.source.tables[0].slot, "walpost_2_of_4");
        assert_eq!(
            settings.source.tables[0].filter.as_deref(),
            Some("(not test) and (hash_record(row(\"customer\")) & 2147483647) % 4 = 1")
        );
        assert_eq!(settings.kafka.position_topic.as_deref(), Some("walpost-position-walpost_2_of_4"));
    }

    #[test]
    fn rows_of_one_key_are_in_one_shard_or_the_settings_are_refused() {
        let filter = |args: &[&str]| {
            let all = [&["--shard=1/2"][..], args].concat();
            read(&all).map(|settings| settings.source.tables[0].filter.clone().unwrap())
        };
        assert!(
            filter(&["--key={tenant}/{id}", "--shard-by=tenant,id"])
                .unwrap()
                .contains("row(\"tenant\", \"id\")")
        );
        assert!(filter(&["--key=tenant"]).unwrap().contains("row(\"tenant\")"));
        assert!(filter(&["--key={a|lower}", "--shard-by=b"]).unwrap().contains("row(\"b\")"));
        for key in [
            &[][..],
            &["--key="],
            &["--key={a}{b}"],
            &["--key={a|lower}"],
            &["--key={payload.id}"],
            &["--key=fixed{{}}"],
        ] {
            let said = filter(key).unwrap_err();
            assert!(said.contains("--shard-by"), "{key:?}: {said}");
        }
    }

    #[test]
    fn which_of_how_many_is_told_or_refused() {
        for shard in ["0/4", "5/4", "2", "a/b", "1/65", "-1/2"] {
            let said = read(&[&format!("--shard={shard}"), "--key=k"]).unwrap_err();
            assert!(said.contains("as in 2/4"), "{shard}: {said}");
            assert_eq!(said.matches("as in 2/4").count(), 1, "{shard}: {said}");
        }
        let long = format!("--slot={}", "s".repeat(60));
        assert!(read(&[&long, "--shard=1/2", "--key=k"]).unwrap_err().contains("too long"));
    }
}
