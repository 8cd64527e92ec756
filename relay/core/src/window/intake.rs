//! The step from a message of the stream to entries of the window: decoded, told from other tables' rows, counted in its
//! transaction and admitted. Pure: the loop gives it what came in, as do the benchmarks and the fuzzer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::outboxes::Outboxes;
use super::progress::{Progress, ProgressError};
use super::transaction::Transaction;
use crate::event::dead_letter::DeadLetter;
use crate::event::render::Renderer;
use crate::event::{BadRow, Entry, OutboxError, PlacedRow, Plan, Position, Types};
use crate::lsn::Lsn;
use crate::pgoutput::{DecodeError, Decoder, Insert, LogicalMessage, Message, Oid, Relation, Tuple};
use crate::time::from_postgres;

/// A row is a view into what was read with it, and keeps that in memory: where more than this lies between two rows,
/// the row is copied out instead. What lies between one-row transactions is less.
const PASSED_OVER_MAX: usize = 512;

/// A message cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It is none of pgoutput.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The table is not what the settings say.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A row or a message is not an event, and there is no topic of dead letters.
    #[error(transparent)]
    Row(#[from] Box<BadRow>),
    /// It does not stand where the stream's order has it.
    #[error(transparent)]
    Progress(#[from] ProgressError),
}

/// What there is to count of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing, or what will be counted when it leaves the window.
    Quietly,
    /// A row that was published before; its bytes.
    Repeated(usize),
    /// A message that is not an event; why, and its bytes.
    Dead(String, usize),
}

/// What the stream of one connection is read with.
pub struct Intake {
    outboxes: Outboxes,
    decoder: Decoder,
    /// The tables in the stream's latest description of each.
    plans: BTreeMap<Oid, Arc<Plan>>,
    /// What finds out whether a row gives a record.
    renderer: Renderer,
    /// What the catalogue and the stream say of types.
    types: Types,
    /// The transaction that is being read.
    transaction: Transaction,
    /// Bytes of messages since the last row of the outbox.
    passed_over: usize,
    /// An outbox was described anew.
    described: bool,
    takes_dead_letters: bool,
}

impl Intake {
    /// For a stream from its start; `types` is what the catalogue says of types.
    #[must_use]
    pub fn new(outboxes: Outboxes, types: Types, takes_dead_letters: bool) -> Self {
        Self {
            outboxes,
            decoder: Decoder::default(),
            plans: BTreeMap::new(),
            renderer: Renderer::default(),
            types,
            transaction: Transaction::default(),
            passed_over: 0,
            described: false,
            takes_dead_letters,
        }
    }

    /// Whether an outbox was described anew by the last message.
    #[must_use]
    pub fn has_described(&self) -> bool {
        self.described
    }

    /// The same, and forgets it: where the transaction committed whose rows follow.
    pub fn take_described(&mut self) -> Option<Lsn> {
        std::mem::take(&mut self.described).then(|| self.transaction.commit_lsn())
    }

    /// Takes in a message.
    ///
    /// # Errors
    /// When it cannot be; nothing of it is in the window then.
    pub fn take(&mut self, message: &Bytes, window: &mut Progress<Entry>) -> Result<Taken, IntakeError> {
        self.passed_over += message.len();
        match self.decoder.decode(message)? {
            Message::Begin(begin) => {
                let committed_at = from_postgres(begin.commit_time);
                window.begin(begin.commit_lsn)?;
                window.identify(committed_at)?;
                self.transaction.begin(begin.commit_lsn, committed_at);
            }
            Message::Relation(relation) => self.describe(&relation)?,
            Message::Type(name) => self.types.named(name),
            Message::Insert(insert) => return self.insert(insert, window),
            Message::Logical(message) => return self.logical(message, window),
            Message::Commit(commit) => {
                self.check_held()?;
                for entry in self.transaction.commit(commit.end_lsn) {
                    push(window, entry)?;
                }
                window.commit(commit.end_lsn)?;
            }
            Message::Ignored(_) => {}
        }
        Ok(Taken::Quietly)
    }

    fn describe(&mut self, relation: &Arc<Relation>) -> Result<(), OutboxError> {
        // One that was an outbox by another name is none by this one, unless it is followed by its object id.
        self.plans.remove(&relation.id);
        let Some(table) = self.outboxes.settings_of(relation, self.transaction.commit_lsn())? else {
            return Ok(());
        };
        self.described = true;
        let plan = Plan::new(&table, relation, &self.types)?;
        self.plans.insert(relation.id, Arc::new(plan));
        Ok(())
    }

    fn insert(&mut self, insert: Insert, window: &mut Progress<Entry>) -> Result<Taken, IntakeError> {
        let Some(plan) = self.plans.get(&insert.relation) else { return Ok(Taken::Quietly) };
        let plan = Arc::clone(plan);
        self.admit(insert.row, plan, Ok(()), window)
    }

    /// A message that is not transactional comes as soon as it is written: also when the transaction that wrote it is taken
    /// back, and in front of what that transaction and others wrote before. So it is no event. Where there is a topic of dead
    /// letters it takes its turn as a transaction of its own, which committed with the last byte of its record: no other has
    /// that place, since records begin at multiples of eight.
    fn logical(
        &mut self,
        message: LogicalMessage,
        window: &mut Progress<Entry>,
    ) -> Result<Taken, IntakeError> {
        let Some(plan) = self.outboxes.messages_of(&message.prefix) else { return Ok(Taken::Quietly) };
        let plan = Arc::clone(plan);
        if message.is_transactional {
            return self.admit(message.content, plan, Ok(()), window);
        }
        let (last, end) = (Lsn(message.lsn.0.saturating_sub(1)), message.lsn);
        window.begin(last)?;
        window.identify(Position::UNKNOWN_TIME)?;
        self.transaction.begin(last, Position::UNKNOWN_TIME);
        let taken = self.admit(message.content, plan, Err(OutboxError::NotTransactional), window)?;
        for entry in self.transaction.commit(end) {
            push(window, entry)?;
        }
        window.commit(end)?;
        Ok(taken)
    }

    /// Where a row that gives no record halts the relay, those of its transaction before it wait as well, as long as they are
    /// held: at each start all of them come again. Of other rows it is found out when they are sent, so that each is written once.
    fn check_held(&mut self) -> Result<(), IntakeError> {
        if self.takes_dead_letters {
            return Ok(());
        }
        for entry in self.transaction.held().iter().skip(1) {
            if let Entry::Row(placed) = entry
                && let Err(error) = self.renderer.check(placed)
            {
                return Err(Box::new(BadRow::new(placed, self.transaction.commit_lsn(), error)).into());
            }
        }
        Ok(())
    }

    /// Takes a row into its transaction, unless it was published before; a message may be `known` to be no event.
    fn admit(
        &mut self,
        mut row: Tuple,
        plan: Arc<Plan>,
        known: Result<(), OutboxError>,
        window: &mut Progress<Entry>,
    ) -> Result<Taken, IntakeError> {
        let bytes = row.bytes();
        if std::mem::take(&mut self.passed_over).saturating_sub(bytes) > PASSED_OVER_MAX {
            row = row.detached();
        }
        self.transaction.count(bytes);
        let taken = match window.admit()? {
            None => Taken::Repeated(bytes),
            Some(ordinal) => {
                let placed = self.transaction.place(row, plan, ordinal);
                match known {
                    Ok(()) => {
                        self.transaction.hold(placed);
                        Taken::Quietly
                    }
                    Err(error) => {
                        let letter = self.refuse(&placed, error)?;
                        let reason = letter.reason.clone();
                        self.transaction.hold_dead(letter);
                        Taken::Dead(reason, bytes)
                    }
                }
            }
        };
        for entry in self.transaction.overflow() {
            push(window, entry)?;
        }
        Ok(taken)
    }

    /// What is not an event: a dead letter, or the end.
    fn refuse(&self, placed: &PlacedRow, error: OutboxError) -> Result<DeadLetter, Box<BadRow>> {
        let bad = Box::new(BadRow::new(placed, self.transaction.commit_lsn(), error));
        if !self.takes_dead_letters {
            return Err(bad);
        }
        Ok(DeadLetter::of(placed, bad.to_string()))
    }
}

fn push(window: &mut Progress<Entry>, entry: Entry) -> Result<(), ProgressError> {
    let (ordinal, weight) = (entry.position().ordinal, entry.weight());
    window.push_event(ordinal, entry, weight)?;
    Ok(())
}

#[cfg(test)]
mod tests;
