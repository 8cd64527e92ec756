//! The port to the package API, and what it says.

mod client;
mod retry;

use std::sync::Arc;

pub use client::{Client, GrpcSettings};

use crate::route::grammar::Fields;

/// A package.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// Its id.
    pub id: u64,
    /// What it is called.
    pub title: String,
    /// What it is made of.
    pub material: String,
    /// Millilitres at most.
    pub volume: f32,
    /// Whether it can be used again.
    pub reusable: bool,
}

/// What a call brings along: of one update, the same in each try and after a restart.
#[derive(Debug, Clone)]
pub struct Call {
    /// The idempotency key of the change that the update asks for.
    pub key: Arc<str>,
    /// The trace, as W3C writes it.
    pub traceparent: Arc<str>,
    /// The trace's id, to be quoted.
    pub trace_id: Arc<str>,
}

/// Why a call failed, as far as it matters to a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// There is no such package.
    #[error("no such package")]
    NotFound,
    /// A field is refused, by the API's name for it.
    #[error("the package API refuses the field {0}")]
    Invalid(String),
    /// An update names no field.
    #[error("the package API finds nothing to change")]
    NoChanges,
    /// It is away or overloaded, after all tries.
    #[error("the package API is away or overloaded")]
    Away,
    /// It did not answer in time.
    #[error("the package API did not answer in time")]
    Unanswered,
    /// It does not let the bot in.
    #[error("the package API refuses the bot's token")]
    Refused,
    /// Anything else.
    #[error("the package API has failed: {0}")]
    Failed(String),
}

/// The package API. A change is made once, however often its update is handled: its key goes along.
pub trait Packages: Send + Sync + 'static {
    /// One package.
    fn describe(&self, call: &Call, id: u64) -> impl Future<Output = Result<Package, ServiceError>> + Send;
    /// Packages by id, from the one after `offset`.
    fn list(
        &self,
        call: &Call,
        offset: u64,
        limit: u64,
    ) -> impl Future<Output = Result<Vec<Package>, ServiceError>> + Send;
    /// Makes one of four fields, and gives its id.
    fn create(&self, call: &Call, fields: &Fields) -> impl Future<Output = Result<u64, ServiceError>> + Send;
    /// Changes the fields that are named. False: it says that it has not.
    fn update(
        &self,
        call: &Call,
        id: u64,
        fields: &Fields,
    ) -> impl Future<Output = Result<bool, ServiceError>> + Send;
    /// Removes one. False: it says that it has not.
    fn remove(&self, call: &Call, id: u64) -> impl Future<Output = Result<bool, ServiceError>> + Send;
}
