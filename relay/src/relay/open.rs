//! How a session begins: connect, check everything that must hold, take the slot, and see whose events are in flight.

use std::time::Duration;

use super::{Relay, Stopped};
use crate::error::Error;
use crate::postgres::Server;
use crate::postgres::catalogue;
use crate::postgres::checkpoint;
use crate::postgres::ledger::{self, Holder, TableMemory};
use crate::postgres::preflight::{self, Found, FoundTable, PreflightError, Unsafe};
use crate::postgres::{DatabaseError, Session};
use crate::registry;
use crate::relay::backfill::end;
use crate::relay::watch;
use crate::replication::{Connection, Stream};
use walpost_core::event::Types;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Oid;

/// A session that is open and holds the slot.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) found: Found,
    pub(super) types: Types,
    /// The end of the WAL when all of it was looked at.
    pub(super) looked_at: Lsn,
    pub(super) stream: Stream,
    pub(super) server: Server,
    pub(super) holder: Holder,
}

impl Relay {
    /// Connects, checks everything that must hold, and takes the slot.
    pub(super) async fn open(&mut self) -> Result<Opened, Error> {
        self.ask_for_schemas().await?;
        let timeout = self.settings.timing.connect_timeout;
        let session = Session::connect(&self.settings.database, timeout).await?;
        let (connection, server) = Connection::open(&self.settings.database, timeout).await?;
        preflight::check_one_server(&session, connection.started_us())?;
        let asking = checkpoint::wal_flushed(&session);
        let looked_at = session.within("read the end of the log", asking).await;
        let checking = self.preflight(&session, &server);
        let (mut found, types) = session.within("check the database", checking).await?;
        // A standby has none, and the check has said so.
        let looked_at = looked_at?;
        self.has_rows_left = !found.is_backfilled();
        self.yield_to_another(found.memory.epoch).await?;
        self.leave_another_timeline(&server).await?;
        self.look_for_appeared(&session, &found).await?;
        let partitions = self.check_topics(timeout).await?;
        self.vitals.show_partitions(partitions);
        let flushed = connection.flushed();
        let stream = connection.start(&self.settings.source, timeout).await?;
        let known = found.memory.confirmed;
        let taking = self.acquire(&session, &mut found, &server);
        let holder = session.within("take the slot", taking).await?;
        self.check_for_the_past(known, flushed).await?;
        self.begin(server.clone(), holder.epoch).await?;
        self.go_on_from_kafka(&session, &found, &server, &holder).await?;
        self.publisher.progress_mut().connected();
        tracing::info!(
            slot = self.settings.source.slot,
            at = %found.remembered,
            epoch = holder.epoch,
            tables = found.tables.len(),
            topic = self.settings.source.shown_topics(),
            partitions,
            "streaming"
        );
        Ok(Opened { session, found, types, looked_at, stream, server, holder })
    }

    /// Once: from then on it is known which schema values have, and it stays the same until the relay is started again.
    async fn ask_for_schemas(&mut self) -> Result<(), Error> {
        if !self.settings.source.is_typed() {
            return Ok(());
        }
        for wanted in registry::wanted(&self.settings.source) {
            tracing::info!(subject = wanted.subject, version = %wanted.version, "asking the registry for the schema");
        }
        self.settings.source = registry::with_schemas(&self.settings).await?;
        Ok(())
    }

    /// Topics that the settings name, and those that a row waits for. Returns the number of partitions of the topics of
    /// events; 0 where only the rows say which those are.
    async fn check_topics(&mut self, timeout: Duration) -> Result<usize, Error> {
        let kafka = &self.settings.kafka;
        let others = kafka.dead_letter_topic.iter().chain(&kafka.position_topic);
        let names: Vec<_> = kafka.topics.iter().chain(others).map(String::as_str).collect();
        let counts = self.publisher.sink_mut().inner_mut().check_topics(&names, timeout).await?;
        Ok(counts.iter().take(kafka.topics.len()).sum())
    }

    async fn preflight(&self, session: &Session, server: &Server) -> Result<(Found, Types), Error> {
        let source = &self.settings.source;
        preflight::check_server(session).await?;
        preflight::check_not_awaited(session).await?;
        ledger::upgrade(session).await?;
        let found = match preflight::verify(session, source, server).await {
            Err(PreflightError::Unsafe(finding)) => {
                return Err(watch::found(session, &source.slot, finding).await);
            }
            found => found?,
        };
        for FoundTable { table, relation, .. } in &found.tables {
            preflight::check_row_security(session, table, relation.id).await?;
        }
        if found.remembered > found.memory.confirmed {
            tracing::warn!(
                slot = %found.remembered,
                remembered = %found.memory.confirmed,
                "a failover brought the slot and an older row of the ledger: it goes on from the slot's position"
            );
        }
        let relations = found.tables.iter().map(|table| &table.relation);
        let types = catalogue::types(session, relations, &self.unknown_types.seen()).await?;
        Ok((found, types))
    }

    /// Up to 17 Postgres cannot read on where the publication did not exist yet: the slot is of no use from there. Where
    /// there is none at all, that is to be said first.
    pub(super) async fn explain(&self, error: Error) -> Error {
        // undefined_object.
        if !matches!(&error, Error::Database(error) if error.sqlstate() == Some("42704")) {
            return error;
        }
        match self.publication_at_fault().await {
            Ok((session, finding)) => watch::found(&session, &self.settings.source.slot, finding).await,
            Err(error) => error.into(),
        }
    }

    async fn publication_at_fault(&self) -> Result<(Session, Unsafe), DatabaseError> {
        let session = Session::connect(&self.settings.database, self.settings.timing.connect_timeout).await?;
        let publication = self.settings.source.publication.clone();
        let finding = if preflight::publication_exists(&session, &publication).await? {
            Unsafe::PublicationYounger(publication)
        } else {
            Unsafe::PublicationMissing(publication)
        };
        Ok((session, finding))
    }

    /// Another relay has had the slot since this one: what is in flight here is no longer this one's to send.
    async fn yield_to_another(&mut self, epoch: i64) -> Result<(), Error> {
        if self.epoch.is_some_and(|own| own != epoch) {
            tracing::warn!(epoch, "another relay had the slot meanwhile: what is in flight here is given up");
            self.abandon().await?;
        }
        Ok(())
    }

    /// Takes the slot, and follows the tables that have appeared.
    async fn acquire(&self, session: &Session, found: &mut Found, server: &Server) -> Result<Holder, Error> {
        let source = &self.settings.source;
        let taken = ledger::take(session, &source.slot, server.timeline, found.remembered).await?;
        let (epoch, confirmed) = taken.ok_or_else(|| Unsafe::SlotUnknown(source.slot.clone()))?;
        // Another relay, or a recovery, was there since the ledger was read: what was found may not hold any more.
        if epoch != found.memory.epoch + 1 {
            return Err(Error::Superseded);
        }
        // Who had the slot until now may have moved it since it was looked at.
        found.memory.confirmed = found.memory.confirmed.max(confirmed);
        let (slot, publication) = (source.slot.clone(), source.publication.clone());
        let outboxes = found.tables.iter().map(|table| table.relation.id).collect();
        let holder = Holder { slot, epoch, publication, outboxes, messages: source.prefixes() };
        ledger::follow(session, &holder, source, &found.tables).await?;
        for table in found.tables.iter_mut().filter(|table| table.memory.is_none()) {
            tracing::info!(table = table.table.name(), "following a table that has appeared");
            table.memory = Some(TableMemory { oid: table.relation.id, ..TableMemory::default() });
        }
        Ok(holder)
    }

    /// Of a table that was seen in the stream and is not followed by now there is nothing but what the stream has, up to here:
    /// it was dropped, or taken out of the publication. A transaction is in the stream a moment before it is visible, so those
    /// that are older are waited for.
    async fn look_for_appeared(&mut self, session: &Session, found: &Found) -> Result<(), Error> {
        let is_followed = |oid: &Oid| found.tables.iter().any(|table| table.relation.id == *oid);
        self.appeared.retain(|oid| !is_followed(oid));
        self.gone.retain(|oid, _| !is_followed(oid));
        if self.appeared.is_empty() {
            return Ok(());
        }
        let looking = checkpoint::wal_end(session);
        let looked_at = session.within("look for tables that have appeared", looking).await?;
        end::wait_for_earlier(session, self.settings.timing.slot_timeout).await?;
        let looking = preflight::check_tables(session, &self.settings.source);
        for published in session.within("look for tables that have appeared", looking).await? {
            let oid = published.oid.filter(|oid| published.found.is_ok() && self.appeared.contains(oid));
            if oid.is_some() {
                return Err(Error::Appeared(published.named.name()));
            }
        }
        self.gone.extend(self.appeared.drain(..).map(|oid| (oid, looked_at)));
        Ok(())
    }

    /// A server whose disk went back in time (a snapshot of a machine, a failover to an asynchronous copy of a volume, a
    /// cache that lied) is on the timeline that it was on, and writes other transactions where those stood that were read
    /// before: they would be taken for repeats.
    async fn check_for_the_past(&mut self, remembered: Lsn, flushed: Lsn) -> Result<(), Error> {
        let newest = self.publisher.progress().newest_commit();
        if remembered < self.remembered || flushed < newest {
            tracing::warn!(
                ledger = %remembered, was = %self.remembered, wal_end = %flushed, read = %newest,
                "the server went back in time: what comes is new, whatever its position; events that it lost are in Kafka"
            );
            self.abandon().await?;
        }
        Ok(())
    }

    /// The window goes on where it was, unless the server is on another timeline now, or another relay had the slot.
    async fn begin(&mut self, server: Server, epoch: i64) -> Result<(), Error> {
        self.yield_to_another(epoch - 1).await?;
        self.leave_another_timeline(&server).await?;
        self.server = Some(server);
        self.epoch = Some(epoch);
        Ok(())
    }

    /// What is in flight was read on a timeline that has ended. An epoch says nothing there: a failover may have taken back
    /// the one that this relay began, and another relay have begun one of the same number.
    async fn leave_another_timeline(&mut self, server: &Server) -> Result<(), Error> {
        if self.server.as_ref().is_some_and(|last| last != server) {
            tracing::warn!(timeline = server.timeline, "another timeline: events in flight are read again");
            self.abandon().await?;
            self.server = None;
        }
        Ok(())
    }

    /// Starts afresh: what is in flight is taken back as far as it was not sent, and comes again from the slot's
    /// position to whoever has the slot.
    pub(super) async fn abandon(&mut self) -> Result<(), Error> {
        self.epoch = None;
        self.copied_before = None;
        self.remembered = Lsn::ZERO;
        self.publisher.abandon().await?;
        self.publisher.sink_mut().inner_mut().forget_awaited();
        self.acknowledged_at_persist = self.publisher.progress().covered();
        // Nothing of it is this relay's any more, for as long as another has the slot.
        self.vitals.show(&self.publisher, self.acknowledged_at_persist);
        Ok(())
    }

    /// What a stop leaves behind when no stream is there to confirm to.
    pub(super) fn stopped(&self) -> Stopped {
        let is_done = self.publisher.progress().records() == 0 && !self.has_rows_left;
        if is_done { Stopped::Drained } else { Stopped::CutShort }
    }
}
