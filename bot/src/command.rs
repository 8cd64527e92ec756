//! Carrying out a command: what is asked of the package API and the cache, and what came of it.

use std::collections::HashSet;
use std::sync::Arc;

use crate::cache::Cache;
use crate::journal::{CacheEvent, Journal};
use crate::packages::{Call, Package, Packages, ServiceError};
use crate::pages::{self, Page};
use crate::route::grammar::Fields;
use crate::route::{Command, Kind};

/// What came of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The general help.
    Start,
    /// The help of packages.
    Help,
    /// A page of the list.
    Page(Page),
    /// One package.
    Package(Package),
    /// A package was made.
    Created(u64),
    /// A change or removal: whether it was made.
    Changed(Kind, u64, bool),
    /// There is no such package.
    NotFound(Kind, u64),
    /// This person may not change packages.
    Forbidden,
    /// The service has failed.
    Failed(Kind, ServiceError),
}

/// Who sent a command, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The person.
    pub user_id: i64,
    /// The conversation.
    pub chat_id: i64,
}

/// Who may change packages: everybody, or those of a list.
#[derive(Debug, Default, Clone)]
pub struct Allowed(pub HashSet<i64>);

impl Allowed {
    fn lets(&self, sender: Sender) -> bool {
        self.0.is_empty() || self.0.contains(&sender.user_id) || self.0.contains(&sender.chat_id)
    }
}

/// Carries out commands.
pub struct Commands<P, C> {
    packages: P,
    cache: C,
    journal: Arc<Journal>,
    page_size: u64,
    allowed: Allowed,
}

impl<P: Packages, C: Cache> Commands<P, C> {
    /// Over a package API and a cache.
    pub fn new(packages: P, cache: C, journal: Arc<Journal>, page_size: u64, allowed: Allowed) -> Self {
        Self { packages, cache, journal, page_size, allowed }
    }

    /// Carries one out.
    pub async fn run(&self, command: &Command, sender: Sender, call: &Call) -> Outcome {
        match command {
            Command::Start => Outcome::Start,
            Command::Help => Outcome::Help,
            Command::List => self.page(0, call).await,
            Command::Get(id) => self.get(*id, call).await,
            _ if !self.allowed.lets(sender) => Outcome::Forbidden,
            Command::New(fields) => self.create(fields, call).await,
            Command::Edit(id, fields) => {
                let changed = self.packages.update(call, *id, fields).await;
                self.changed(Kind::Edit, *id, changed, call).await
            }
            Command::Delete(id) => {
                let removed = self.packages.remove(call, *id).await;
                self.changed(Kind::Delete, *id, removed, call).await
            }
        }
    }

    /// The page at `offset`, or the last one that has packages.
    pub async fn page(&self, offset: u64, call: &Call) -> Outcome {
        match pages::load(&self.packages, call, offset, self.page_size).await {
            Ok(page) => Outcome::Page(page),
            Err(error) => Outcome::Failed(Kind::List, error),
        }
    }

    async fn get(&self, id: u64, call: &Call) -> Outcome {
        let (found, ticket) = self.cache.read(id).await;
        self.journal.cache_event(id, CacheEvent::Read, found.is_some(), call);
        if let Some(package) = found {
            return Outcome::Package(package);
        }
        match self.packages.describe(call, id).await {
            Ok(package) => {
                let stored = self.cache.store(ticket, &package).await;
                self.journal.cache_event(id, CacheEvent::Set, stored, call);
                Outcome::Package(package)
            }
            Err(error) => failed(Kind::Get, id, error),
        }
    }

    async fn create(&self, fields: &Fields, call: &Call) -> Outcome {
        let id = match self.packages.create(call, fields).await {
            Ok(id) => id,
            Err(error) => return Outcome::Failed(Kind::New, error),
        };
        if let Some(package) = described(id, fields) {
            // Nobody could have known of a change of it before.
            let stored = self.cache.store(crate::cache::Ticket::default(), &package).await;
            self.journal.cache_event(id, CacheEvent::Set, stored, call);
        }
        Outcome::Created(id)
    }

    async fn changed(&self, kind: Kind, id: u64, done: Result<bool, ServiceError>, call: &Call) -> Outcome {
        match done {
            Ok(true) => {
                let forgotten = self.cache.forget(id).await;
                self.journal.cache_event(id, CacheEvent::Remove, forgotten, call);
                Outcome::Changed(kind, id, true)
            }
            Ok(false) => Outcome::Changed(kind, id, false),
            Err(error) => {
                // It may have been made all the same; and what is not there must not be shown from the cache.
                if matches!(error, ServiceError::Away | ServiceError::Unanswered | ServiceError::NotFound) {
                    self.cache.forget(id).await;
                }
                failed(kind, id, error)
            }
        }
    }
}

fn failed(kind: Kind, id: u64, error: ServiceError) -> Outcome {
    if error == ServiceError::NotFound { Outcome::NotFound(kind, id) } else { Outcome::Failed(kind, error) }
}

/// The package that was made of all four fields.
fn described(id: u64, fields: &Fields) -> Option<Package> {
    let Fields { title, material, volume, reusable } = fields.clone();
    Some(Package { id, title: title?, material: material?, volume: volume?, reusable: reusable? })
}

#[cfg(test)]
mod tests;
