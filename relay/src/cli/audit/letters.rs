//! Dead letters: rows that cannot be published are in a topic of their own, and count as there.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::cli::selection::Chosen;
use walpost_core::audit::Fingerprints;

/// So many letters are kept, of some 64 bytes each: of more than that nobody could do anything with a list.
const LETTERS_MAX: usize = 1_000_000;

/// The letters of a topic.
pub(super) struct Letters {
    /// By what a row and its letter have in common: where it lies.
    found: HashMap<u128, (u32, i64)>,
    /// The columns that make records, by table.
    columns: HashMap<String, Vec<String>>,
    /// Letters that were read.
    pub(super) read: u64,
    /// Letters of which no account is kept.
    pub(super) left_out: u64,
}

impl Letters {
    pub(super) fn of(chosen: &[Chosen]) -> Self {
        let names = |table: &Chosen| table.columns.columns.iter().map(|column| column.name.clone()).collect();
        let columns = chosen.iter().map(|table| (table.table.name(), names(table))).collect();
        Self { found: HashMap::new(), columns, read: 0, left_out: 0 }
    }

    /// Takes a letter that lies there; `false` where it is none.
    pub(super) fn take<'a>(
        &mut self,
        marks: &Fingerprints,
        at: (u32, i64),
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> bool {
        let (mut table, mut id, mut has_reason) = (None, None, false);
        for (name, value) in headers {
            match name {
                "walpost-table" => table = value.and_then(|value| std::str::from_utf8(value).ok()),
                "walpost-reason" => has_reason = true,
                "ce_id" => id = value,
                _ => {}
            }
        }
        let Some(table) = table.filter(|_| has_reason) else { return false };
        self.read += 1;
        if self.found.len() >= LETTERS_MAX {
            self.left_out += 1;
            return true;
        }
        let columns = self.columns.get(table);
        let mark = marks.letter(table, id, || needed(value.unwrap_or_default(), columns));
        self.found.entry(mark).or_insert(at);
        true
    }

    /// Where the letter of a row lies, if it has one.
    pub(super) fn of_row(&self, mark: u128) -> Option<(u32, i64)> {
        self.found.get(&mark).copied()
    }
}

/// The row of a letter with the columns that make records: the stream gives others, too.
fn needed(value: &[u8], columns: Option<&Vec<String>>) -> Vec<u8> {
    let Ok(mut row) = serde_json::from_slice::<Map<String, Value>>(value) else { return value.to_owned() };
    if let Some(columns) = columns {
        row.retain(|name, _| columns.contains(name));
    }
    serde_json::to_vec(&row).unwrap_or_default()
}
