//! The rules of each request, a table each: its rows are judged in order, the first one broken names the error.

use std::fmt;

use super::{Changes, Invalid, NewPackage};

/// Characters (code points) in a title or a material at most; the columns are `varchar(32)`.
pub const TEXT_CHARS_MAX: usize = 32;

/// One rule: a field, what it must be, and whether it is.
struct Rule<Request> {
    field: &'static str,
    must: &'static str,
    holds: fn(&Request) -> bool,
}

const TEXT: &str = "must be 1 to 32 characters, none of them NUL";
const TEXT_OR_EMPTY: &str = "must be at most 32 characters, none of them NUL";
const VOLUME: &str = "must be a finite number above 0";
const VOLUME_OR_ZERO: &str = "must be a finite number, 0 or above";
const ID: &str = "must be above 0";

const PACKAGE_ID: [Rule<u64>; 1] = [Rule { field: "PackageID", must: ID, holds: |id| *id > 0 }];

const CREATE: [Rule<NewPackage>; 3] = [
    Rule { field: "Title", must: TEXT, holds: |new| is_text(&new.title) },
    Rule { field: "Material", must: TEXT, holds: |new| is_text(&new.material) },
    Rule { field: "MaximumVolume", must: VOLUME, holds: |new| is_volume(new.maximum_volume) },
];

/// For an update empty and 0 mean "leave", so what is set obeys the rules of a creation.
const UPDATE: [Rule<Changes>; 3] = [
    Rule { field: "Title", must: TEXT_OR_EMPTY, holds: |set| set.title.as_deref().is_none_or(is_text) },
    Rule { field: "Material", must: TEXT_OR_EMPTY, holds: |set| set.material.as_deref().is_none_or(is_text) },
    Rule {
        field: "MaximumVolume",
        must: VOLUME_OR_ZERO,
        holds: |set| set.maximum_volume.is_none_or(is_volume),
    },
];

fn is_text(text: &str) -> bool {
    // Postgres cannot store NUL in a text.
    (1..=TEXT_CHARS_MAX).contains(&text.chars().count()) && !text.contains('\0')
}

fn is_volume(volume: f32) -> bool {
    volume.is_finite() && volume > 0.0
}

impl NewPackage {
    /// Judges a creation.
    ///
    /// # Errors
    /// Every rule that is broken.
    pub fn validate(&self) -> Result<(), Invalid> {
        Ok(Violations::of(broken(&CREATE, self).collect())?)
    }
}

impl Changes {
    /// Judges an update of the package `id`.
    ///
    /// # Errors
    /// Every rule that is broken, the id's first; when none is, that nothing is set.
    pub fn validate(&self, id: u64) -> Result<(), Invalid> {
        Violations::of(broken(&PACKAGE_ID, &id).chain(broken(&UPDATE, self)).collect())?;
        if self.is_empty() { Err(Invalid::NoChanges) } else { Ok(()) }
    }
}

/// Judges the id of a description or a removal.
///
/// # Errors
/// That it is 0.
pub fn validate_id(id: u64) -> Result<(), Invalid> {
    Ok(Violations::of(broken(&PACKAGE_ID, &id).collect())?)
}

fn broken<Request>(rules: &'static [Rule<Request>], request: &Request) -> impl Iterator<Item = Violation> {
    rules
        .iter()
        .filter(|rule| !(rule.holds)(request))
        .map(|rule| Violation { field: rule.field, must: rule.must })
}

/// A field that breaks its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// As the .proto file spells it.
    pub field: &'static str,
    /// What it must be: `must be above 0`.
    pub must: &'static str,
}

/// The fields at fault, in the order of the request's own; at least one. As text it is the name of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    fn of(violations: Vec<Violation>) -> Result<(), Self> {
        if violations.is_empty() { Ok(()) } else { Err(Self(violations)) }
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Violation] {
        &self.0
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first().map_or(Ok(()), |first| f.write_str(first.field))
    }
}

impl std::error::Error for Violations {}

#[cfg(test)]
mod tests;
