//! Ports of the tests' own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::cache::{Cache, Ticket};
use crate::journal::{Record, Writer, Written};
use crate::packages::{Call, Package, Packages, ServiceError};
use crate::route::grammar::Fields;

pub(crate) fn call() -> Call {
    Call { key: Arc::from("tgbot-1-1"), traceparent: Arc::from("00-0-0-00"), trace_id: Arc::from("trace") }
}

pub(crate) fn package(id: u64) -> Package {
    Package { id, title: format!("box {id}"), material: "wood".into(), volume: 750.0, reusable: true }
}

/// A package API that holds some packages, fails when it is told to, and remembers what it was asked.
#[derive(Clone, Default)]
pub(crate) struct FakePackages(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    packages: Vec<Package>,
    failure: Option<ServiceError>,
    calls: Vec<&'static str>,
}

impl FakePackages {
    pub(crate) fn with(count: u64) -> Self {
        let fake = Self::default();
        fake.lock().packages = (1..=count).map(package).collect();
        fake
    }

    pub(crate) fn failing(self, failure: ServiceError) -> Self {
        self.lock().failure = Some(failure);
        self
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics under the lock")
    }

    fn answer<T>(
        &self,
        name: &'static str,
        answer: impl FnOnce(&mut State) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let mut state = self.lock();
        state.calls.push(name);
        match state.failure.clone() {
            Some(failure) => Err(failure),
            None => answer(&mut state),
        }
    }
}

impl Packages for FakePackages {
    async fn describe(&self, _: &Call, id: u64) -> Result<Package, ServiceError> {
        let find = |state: &mut State| state.packages.iter().find(|package| package.id == id).cloned();
        self.answer("describe", |state| find(state).ok_or(ServiceError::NotFound))
    }

    async fn list(&self, _: &Call, offset: u64, limit: u64) -> Result<Vec<Package>, ServiceError> {
        let (offset, limit) =
            (usize::try_from(offset).unwrap_or(usize::MAX), usize::try_from(limit).unwrap_or(usize::MAX));
        self.answer("list", |state| Ok(state.packages.iter().skip(offset).take(limit).cloned().collect()))
    }

    async fn create(&self, _: &Call, _: &Fields) -> Result<u64, ServiceError> {
        self.answer("create", |state| {
            let id = state.packages.len() as u64 + 1;
            state.packages.push(package(id));
            Ok(id)
        })
    }

    async fn update(&self, _: &Call, _: u64, _: &Fields) -> Result<bool, ServiceError> {
        self.answer("update", |_| Ok(true))
    }

    async fn remove(&self, _: &Call, _: u64) -> Result<bool, ServiceError> {
        self.answer("remove", |_| Ok(true))
    }
}

/// A cache in memory, or one that is away.
#[derive(Clone, Default)]
pub(crate) struct FakeCache {
    pub(crate) held: Arc<Mutex<HashMap<u64, Package>>>,
    pub(crate) away: bool,
}

impl Cache for FakeCache {
    async fn read(&self, id: u64) -> (Option<Package>, Ticket) {
        let found = self.held.lock().expect("a lock").get(&id).cloned();
        (found.filter(|_| !self.away), Ticket::default())
    }

    async fn store(&self, _: Ticket, package: &Package) -> bool {
        if !self.away {
            self.held.lock().expect("a lock").insert(package.id, package.clone());
        }
        !self.away
    }

    async fn forget(&self, id: u64) -> bool {
        if !self.away {
            self.held.lock().expect("a lock").remove(&id);
        }
        !self.away
    }
}

/// Records as they were written.
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<Vec<Record>>>);

impl Recorded {
    pub(crate) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock().expect("a lock"))
    }
}

impl Writer for Recorded {
    fn write(&self, record: Record) -> Written {
        self.0.lock().expect("a lock").push(record);
        Written::default()
    }
}
