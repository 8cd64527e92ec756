//! What a package is and which requests about it are valid: pure, no I/O.

mod rules;
mod traceparent;

use chrono::{DateTime, Utc};

pub use rules::{TEXT_CHARS_MAX, Violation, Violations, validate_id};
pub use traceparent::Traceparent;

/// A package's id as Postgres can hold it, 1 to 2^63 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageId(i64);

impl PackageId {
    /// The id of a request; `None` above 2^63 - 1, where no package can exist.
    #[must_use]
    pub fn from_request(id: u64) -> Option<Self> {
        i64::try_from(id).ok().map(Self)
    }

    /// The id of a row.
    #[must_use]
    pub const fn from_row(id: i64) -> Self {
        Self(id)
    }

    /// As a parameter of a statement.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// As it is answered.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0.cast_unsigned()
    }
}

/// What a client names a change by, so that it is made once however often it is asked for: 1 to 255 visible ASCII
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of a request; `None` where it is none.
    #[must_use]
    pub fn from_request(key: &str) -> Option<Self> {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        ((1..=255).contains(&key.len()) && visible).then(|| Self(key.to_owned()))
    }

    /// As a parameter of a statement.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A package as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// Given by the database.
    pub id: PackageId,
    /// 1 to 32 characters.
    pub title: String,
    /// 1 to 32 characters.
    pub material: String,
    /// In cm³.
    pub maximum_volume: f32,
    /// Whether it can be used more than once.
    pub reusable: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last updated, if ever. Never goes back.
    pub updated_at: Option<DateTime<Utc>>,
}

/// A package that is to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPackage {
    /// 1 to 32 characters.
    pub title: String,
    /// 1 to 32 characters.
    pub material: String,
    /// In cm³, finite, above 0.
    pub maximum_volume: f32,
    /// Whether it can be used more than once.
    pub reusable: bool,
}

/// What an update sets; `None` leaves the field as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// 1 to 32 characters.
    pub title: Option<String>,
    /// 1 to 32 characters.
    pub material: Option<String>,
    /// In cm³, finite, above 0.
    pub maximum_volume: Option<f32>,
    /// Whether it can be used more than once.
    pub reusable: Option<bool>,
}

impl Changes {
    /// Whether it sets no field at all. Setting a field to the value it has is a change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a request is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// At least one field breaks a rule.
    #[error(transparent)]
    Fields(#[from] Violations),
    /// An update that sets no field.
    #[error("no changes specified")]
    NoChanges,
    /// A key that is none.
    #[error("idempotency-key: expected 1 to 255 visible ASCII characters")]
    Key,
    /// A key that stands for another request.
    #[error("idempotency-key: it was used for another request")]
    KeyOfOther,
}
