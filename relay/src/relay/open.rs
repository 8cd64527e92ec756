//! How a session begins: connect, check everything that must hold, take the slot, and see whose events are in flight.

use super::{Relay, Stopped};
use crate::backfill::Backfill;
use crate::catalogue;
use crate::config::SourceSettings;
use crate::database::Session;
use crate::error::Error;
use crate::ledger::{self, Memory};
use crate::outbox::Types;
use crate::pgoutput::Relation;
use crate::preflight::{self, SlotFacts, Unsafe};
use crate::replication::{Connection, Server, Stream};
use crate::state::State;
use tokio_util::sync::CancellationToken;

/// What was found before streaming.
pub(super) struct Found {
    pub(super) relation: Relation,
    pub(super) types: Types,
    pub(super) slot: SlotFacts,
    pub(super) memory: Memory,
}

/// A session that is open and holds the slot.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) found: Found,
    pub(super) stream: Stream,
    pub(super) epoch: i64,
}

impl Relay {
    /// Connects, checks everything that must hold, and takes the slot.
    pub(super) async fn open(&mut self) -> Result<Opened, Error> {
        let timeout = self.settings.timing.connect_timeout;
        let session = Session::connect(&self.settings.database, timeout).await?;
        let found = session.within("check the database", self.preflight(&session)).await?;
        self.yield_to_another(found.memory.epoch).await?;
        let partitions = self.publisher.sink_mut().inner_mut().check_topics(timeout).await?;
        self.vitals.show_partitions(partitions);
        let (connection, server) = Connection::open(&self.settings.database, timeout).await?;
        preflight::check_memory(&found.slot, &found.memory, &server.system)?;
        let stream = connection.start(&self.settings.source, timeout).await?;
        let epoch = session.within("take the slot", self.take(&session)).await?;
        self.begin(server, epoch).await?;
        tracing::info!(
            slot = self.settings.source.slot,
            at = %found.memory.confirmed,
            epoch,
            topic = self.settings.kafka.topic,
            partitions,
            "streaming"
        );
        Ok(Opened { session, found, stream, epoch })
    }

    async fn preflight(&self, session: &Session) -> Result<Found, Error> {
        let source = &self.settings.source;
        let relation = preflight::check_table(session, &source.table).await?;
        let types = catalogue::types(session, &relation, &self.unknown_types.seen()).await?;
        let publication = preflight::check_publication(session, source).await?;
        // The slot before the memory, which is never behind it.
        let slot = preflight::check_slot(session, source).await?;
        ledger::upgrade(session).await?;
        let memory = ledger::load(session, &source.slot).await?;
        let memory = memory.ok_or_else(|| Unsafe::SlotUnknown(source.slot.clone()))?;
        preflight::check_kept(source, publication, &memory)?;
        if memory.publication.is_none() {
            ledger::adopt_publication(session, &source.slot, publication).await?;
        }
        Ok(Found { relation, types, slot, memory })
    }

    /// Another relay has had the slot since this one: what is in flight here is no longer this one's to send.
    async fn yield_to_another(&mut self, epoch: i64) -> Result<(), Error> {
        if self.epoch.is_some_and(|own| own != epoch) {
            tracing::warn!(epoch, "another relay had the slot meanwhile: what is in flight here is given up");
            self.abandon().await?;
        }
        Ok(())
    }

    async fn take(&self, session: &Session) -> Result<i64, Error> {
        let slot = &self.settings.source.slot;
        let epoch = ledger::take(session, slot).await?;
        Ok(epoch.ok_or_else(|| Unsafe::SlotUnknown(slot.clone()))?)
    }

    /// The window goes on where it was, unless the server is on another timeline now, or another relay had the slot.
    async fn begin(&mut self, server: Server, epoch: i64) -> Result<(), Error> {
        self.transaction.abandon();
        self.yield_to_another(epoch - 1).await?;
        if self.server.as_ref().is_some_and(|last| *last != server) {
            tracing::warn!(timeline = server.timeline, "another timeline: events in flight are read again");
            self.abandon().await?;
        }
        self.publisher.progress_mut().connected();
        self.server = Some(server);
        self.epoch = Some(epoch);
        Ok(())
    }

    /// Starts afresh: what is in flight is taken back as far as it was not sent, and comes again from the slot's
    /// position to whoever has the slot.
    pub(super) async fn abandon(&mut self) -> Result<(), Error> {
        self.epoch = None;
        self.publisher.abandon().await?;
        self.settled = self.publisher.progress().covered();
        // Nothing of it is this relay's any more, for as long as another has the slot.
        self.vitals.show(&self.publisher, self.settled);
        Ok(())
    }

    /// What a stop leaves behind when no stream is there to confirm to.
    pub(super) fn stopped(&self) -> Stopped {
        if self.publisher.progress().records() == 0 { Stopped::Drained } else { Stopped::CutShort }
    }

    /// Publishes the rows from before the slot; `false` when it was stopped.
    pub(super) async fn backfill(
        &mut self,
        session: &Session,
        found: &Found,
        epoch: i64,
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        self.vitals.set_state(State::Backfilling);
        let table = self.settings.source.table.resolved(|name| found.relation.has(name));
        let source = &SourceSettings { table, ..self.settings.source.clone() };
        let at = found.slot.confirmed().unwrap_or(found.memory.confirmed);
        tracing::info!(table = source.table.name(), "publishing the rows from before the slot");
        let window = self.settings.window;
        self.publisher.set_timed(false);
        let shown = |publisher: &_| self.vitals.show(publisher, self.settled);
        let (relation, types) = (&found.relation, &found.types);
        let backfill = Backfill { source, relation, types, slot_at: at, window, shown: &shown };
        let rows = backfill.run(session, &mut self.publisher, stop).await?;
        let Some(rows) = rows else { return Ok(false) };
        if !ledger::finish_backfill(session, &source.slot, epoch).await? {
            return Err(Error::Superseded);
        }
        tracing::info!(rows, "the rows from before the slot are published");
        Ok(true)
    }
}
