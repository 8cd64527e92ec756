//! JSON in columns: the members that settings name, found in one pass, and the objects that are written of a row.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::OutboxError;
use super::row::{Row, Slot};
use super::text::Text;
use super::value::{Kind, Reason, json_of};
use super::write;
use crate::pgoutput::{Place, Tuple};

/// A column that holds JSON, and what is read of it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) index: usize,
    pub(super) kind: Kind,
    /// The first setting that reads a member, and how it is written there: for messages.
    pub(super) setting: String,
    pub(super) shown: String,
    pub(super) branches: Vec<Branch>,
    /// What is no object has no members, and that is an error.
    pub(super) must_be_object: bool,
}

/// What is read of columns that hold JSON.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    pub(super) columns: Vec<Column>,
    /// How many members there are.
    pub(super) slots: usize,
}

/// A member that is read, or that has members which are.
#[derive(Debug, Clone, Default)]
pub(super) struct Branch {
    name: String,
    slot: Option<usize>,
    branches: Vec<Branch>,
}

/// The slot of a path, which is made where it is not there.
pub(super) fn slot_of(branches: &mut Vec<Branch>, path: &[String], free: &mut usize) -> Option<usize> {
    let (name, rest) = path.split_first()?;
    let index = branches.iter().position(|branch| branch.name == *name).unwrap_or_else(|| {
        branches.push(Branch { name: name.clone(), ..Branch::default() });
        branches.len() - 1
    });
    let branch = &mut branches[index];
    if !rest.is_empty() {
        return slot_of(&mut branch.branches, rest, free);
    }
    if branch.slot.is_none() {
        branch.slot = Some(*free);
        *free += 1;
    }
    branch.slot
}

impl Column {
    /// Finds its members in a row; each is a range of the column's bytes.
    pub(super) fn find(&self, row: &Tuple, places: &[Place], slots: &mut [Slot]) -> Result<(), OutboxError> {
        let Some(bytes) = places.get(self.index).and_then(|place| row.datum(place).bytes()) else {
            return Ok(());
        };
        self.find_in(bytes, slots).map_err(|reason| OutboxError::Value {
            setting: self.setting.clone(),
            expression: self.shown.clone(),
            reason: reason.into_owned(),
        })
    }

    fn find_in(&self, bytes: &[u8], slots: &mut [Slot]) -> Result<(), Reason> {
        let json = json_of(self.kind, bytes)?;
        let json = std::str::from_utf8(json).map_err(|_| "it is not JSON: it is not text")?;
        if self.must_be_object && !json.trim_start().starts_with('{') {
            return Err("it is no JSON object".into());
        }
        let mut found = Found { base: bytes.as_ptr().addr(), column: self.index, slots };
        found.collect(json, &self.branches).map_err(|error| format!("it is not JSON: {error}").into())
    }
}

/// Where members are noted.
struct Found<'a> {
    /// The address of the column's first byte.
    base: usize,
    column: usize,
    slots: &'a mut [Slot],
}

impl Found<'_> {
    fn collect(&mut self, json: &str, branches: &[Branch]) -> Result<(), serde_json::Error> {
        // Of members that are there twice the last counts, with nothing left of the one before.
        self.forget(branches);
        if !json.trim_start().starts_with('{') {
            return serde_json::from_str::<IgnoredAny>(json).map(drop);
        }
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let seed = Object { found: self, branches };
        deserializer.deserialize_map(seed)?;
        deserializer.end()
    }

    fn forget(&mut self, branches: &[Branch]) {
        for branch in branches {
            if let Some(slot) = branch.slot {
                self.slots[slot] = None;
            }
            self.forget(&branch.branches);
        }
    }

    fn note(&mut self, json: &str, branch: &Branch) -> Result<(), serde_json::Error> {
        if let Some(slot) = branch.slot {
            let start = json.as_ptr().addr() - self.base;
            self.slots[slot] = Some((self.column, start..start + json.len()));
        }
        if branch.branches.is_empty() { Ok(()) } else { self.collect(json, &branch.branches) }
    }
}

/// An object, the one value that has members.
struct Object<'a, 'b> {
    found: &'a mut Found<'b>,
    branches: &'a [Branch],
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(branch) = map.next_key_seed(Name(self.branches))? {
            match branch {
                Some(branch) => {
                    let json: &'de RawValue = map.next_value()?;
                    self.found.note(json.get(), branch).map_err(serde::de::Error::custom)?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A member's name: the branch that has it, if one has.
struct Name<'a>(&'a [Branch]);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a Branch>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a Branch>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|branch| branch.name == name))
    }
}

/// A JSON value that is written of a row.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Leaf(Text),
    /// Members by their names, each as a JSON string with its colon.
    Object(Vec<(Vec<u8>, Node)>),
    /// All columns.
    Row,
}

impl Node {
    /// Adds a member at a path; `false` where something else stands in its way.
    pub(super) fn insert(&mut self, path: &[String], text: Text) -> bool {
        let Self::Object(members) = self else { return false };
        let Some((name, rest)) = path.split_first() else { return false };
        let mut key = Vec::new();
        write::quote(name, &mut key);
        key.push(b':');
        let known = members.iter_mut().find(|(known, _)| *known == key);
        match (known, rest.is_empty()) {
            (None, true) => {
                members.push((key, Self::Leaf(text)));
                true
            }
            (None, false) => {
                let mut inner = Self::Object(Vec::new());
                let inserted = inner.insert(rest, text);
                members.push((key, inner));
                inserted
            }
            (Some((_, inner)), false) => inner.insert(rest, text),
            (Some(_), true) => false,
        }
    }

    /// Appends it.
    pub(super) fn write(&self, row: &Row<'_>, into: &mut Vec<u8>) -> Result<(), OutboxError> {
        match self {
            Self::Leaf(text) => text.write_json(row, into),
            Self::Object(_) => {
                into.push(b'{');
                self.write_members(row, into)?;
                into.push(b'}');
                Ok(())
            }
            Self::Row => write::row(row, into).map_err(|reason| OutboxError::Value {
                setting: "value".into(),
                expression: "{@row}".into(),
                reason: reason.into_owned(),
            }),
        }
    }

    /// Appends the members of an object without its braces; whether there was one.
    pub(super) fn write_members(&self, row: &Row<'_>, into: &mut Vec<u8>) -> Result<bool, OutboxError> {
        let Self::Object(members) = self else { return Ok(false) };
        for (index, (key, node)) in members.iter().enumerate() {
            if index > 0 {
                into.push(b',');
            }
            into.extend_from_slice(key);
            node.write(row, into)?;
        }
        Ok(!members.is_empty())
    }
}
