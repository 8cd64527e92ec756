//! `walpost status`: the facts on one screen, of several sources a line each. Of slot, log and outbox from Postgres itself; of window, Kafka and events from
//! the relay's own page, where one runs on this machine.

mod live;
mod screen;
mod table;

use serde::Serialize;

use crate::config::Settings;
use crate::error::Error;
use crate::observe::sampler::{self, Sample};
use crate::observe::snapshot::{DatabaseFacts, OutboxFacts, Places, Rates, SlotView, Snapshot};
use crate::observe::state::State;
use crate::postgres::Server;
use crate::postgres::Session;
use crate::postgres::ledger;
use crate::postgres::preflight::{self, PreflightError, Unsafe};
use crate::replication::Connection;
pub use screen::{Colours, render};
pub use table::table;

/// What there is to know.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// What is wrong, if anything, with what to do.
    pub problem: Option<String>,
    /// The moment, milliseconds since 1970-01-01 UTC.
    pub now_ms: i64,
    /// The first station of the path.
    pub database: DatabaseFacts,
    /// The table.
    pub outbox: OutboxFacts,
    /// The second station.
    pub slot: SlotView,
    /// The position that the slot has never passed, as walpost remembers it.
    pub remembered_lsn: Option<String>,
    /// Whether the rows from before the slot are published; null when nothing is remembered.
    pub backfilled: Option<bool>,
    /// Where the relay was asked.
    pub relay_url: String,
    /// What it said; null when it did not.
    pub relay: Option<Snapshot>,
    /// Why it did not.
    pub relay_away: Option<String>,
}

/// Reads the facts, again and again over one connection.
pub struct Reader<'a> {
    settings: &'a Settings,
    places: Places,
    session: Option<Session>,
}

/// What Postgres said.
struct Asked {
    sample: Sample,
    memory: Option<ledger::Memory>,
    problem: Option<String>,
}

impl<'a> Reader<'a> {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, places: Places::of(settings), session: None }
    }

    /// Reads the facts. What cannot be read is absent, and why is the problem.
    pub async fn read(&mut self) -> Status {
        let settings = self.settings;
        let url = live::url(settings.http_addr, settings.name.as_deref());
        let (asked, said) = tokio::join!(self.ask_postgres(), live::ask(settings));
        let (relay, relay_away) = match said {
            Ok(snapshot) => (Some(snapshot), None),
            Err(reason) => (None, Some(reason)),
        };
        let (asked, unreachable) = match asked {
            Ok(asked) => (Some(asked), None),
            Err(error) => (None, Some(error.told())),
        };
        let told = relay.as_ref().and_then(told_by);
        let found = asked.as_ref().and_then(|asked| asked.problem.clone());
        let sample = asked.as_ref().map(|asked| &asked.sample);
        let rates = Rates {
            wal_bytes_per_second: relay.as_ref().and_then(|relay| relay.database.wal_bytes_per_second),
            exhausted_in_seconds: relay.as_ref().and_then(|relay| relay.slot.exhausted_in_seconds),
            ..Rates::default()
        };
        let memory = asked.as_ref().and_then(|asked| asked.memory.as_ref());
        Status {
            problem: told.or(unreachable.or(found).map(|problem| settings.with_source(problem))),
            now_ms: walpost_core::clock::unix_millis(),
            database: self.places.database(sample, &rates),
            outbox: self.places.outbox(sample, relay.as_ref().map_or(0, |relay| relay.outbox.rows_removed)),
            slot: self.places.slot(sample, &rates),
            remembered_lsn: memory.map(|memory| memory.confirmed.to_string()),
            backfilled: memory.map(|memory| memory.tables.iter().all(|table| table.backfilled)),
            relay_url: url,
            relay,
            relay_away,
        }
    }

    async fn ask_postgres(&mut self) -> Result<Asked, Error> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let timeout = self.settings.timing.connect_timeout;
                Session::connect(&self.settings.database, timeout).await?
            }
        };
        let asked = session.within("read the slot's facts", ask(&session, self.settings)).await?;
        // Only one that has answered is used again.
        self.session = Some(session);
        Ok(asked)
    }
}

async fn ask(session: &Session, settings: &Settings) -> Result<Asked, Error> {
    let source = &settings.source;
    let sample = sampler::take(session, source).await?;
    let memory = ledger::load(session, &source.slot).await?;
    let problem = problem(session, settings, &sample).await?;
    Ok(Asked { sample, memory, problem })
}

/// What the relay says is wrong. One that stands by, starts or stops is well.
fn told_by(relay: &Snapshot) -> Option<String> {
    let reason = relay.reason.as_deref().filter(|_| relay.state != State::NAMES[1])?;
    let remedy = relay.remedy.as_ref().map(|remedy| format!("; what to do: {remedy}")).unwrap_or_default();
    Some(format!("{}: {reason}{remedy}", relay.state))
}

/// The first finding of the checks that `walpost run` makes.
async fn problem(session: &Session, settings: &Settings, sample: &Sample) -> Result<Option<String>, Error> {
    let source = &settings.source;
    let server = server(session, settings).await?;
    let found = match preflight::verify(session, source, &server).await {
        Err(PreflightError::Unsafe(Unsafe::SlotAhead { .. })) => {
            // Perhaps a failover: only a connection for replication tells by which timelines the server came to be.
            let (_, server) = Connection::open(&settings.database, settings.timing.connect_timeout).await?;
            preflight::verify(session, source, &server).await
        }
        found => found,
    };
    match found {
        Ok(_) if sample.slot.as_ref().is_some_and(|slot| !slot.active) => {
            Ok(Some("no relay is connected; what to do: start `walpost run`".into()))
        }
        Ok(_) => Ok(None),
        Err(PreflightError::Database(error)) => Err(error.into()),
        Err(finding) => Ok(Some(Error::from(finding).told())),
    }
}

/// The server as SQL tells it; where the role may not ask, the one that is remembered is taken for granted.
async fn server(session: &Session, settings: &Settings) -> Result<Server, Error> {
    let system = match preflight::system(session).await? {
        Some(system) => Some(system),
        None => ledger::load(session, &settings.source.slot).await?.map(|memory| memory.system),
    };
    Ok(Server { system: system.unwrap_or_default(), timeline: 0, in_recovery: false, ended: Vec::new() })
}
