//! The step from a message of the stream to entries of the window: decoded, told from other tables' rows, counted in its
//! transaction, refused or admitted. Pure: the loop gives it what came in, as do the benchmarks and the fuzzer.

use std::sync::Arc;

use bytes::Bytes;

use super::progress::{Progress, ProgressError};
use super::transaction::Transaction;
use crate::event::dead_letter::DeadLetter;
use crate::event::position::Entry;
use crate::event::{BadRow, OutboxError, OutboxTable, Plan, Types};
use crate::pgoutput::{DecodeError, Decoder, Insert, Message, Oid, Relation, Tuple};
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
    /// A row is not an event, and there is no topic of dead letters.
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
    /// A row that is not an event; why, and its bytes.
    Dead(String, usize),
}

/// What the stream of one connection is read with.
pub struct Intake {
    table: OutboxTable,
    /// The outbox as the catalogue has it.
    outbox: Oid,
    decoder: Decoder,
    /// The outbox in the stream's latest description of it; more than one where it was made anew.
    plans: Vec<(Arc<Relation>, Plan)>,
    /// What the catalogue and the stream say of types.
    types: Types,
    /// The transaction that is being read.
    transaction: Transaction,
    /// Bytes of messages since the last row of the outbox.
    passed_over: usize,
    /// The outbox was described anew.
    described: bool,
    takes_dead_letters: bool,
}

impl Intake {
    /// For a stream from its start; `outbox` is the table's object id now, `types` what the catalogue says of types.
    #[must_use]
    pub fn new(table: OutboxTable, outbox: Oid, types: Types, takes_dead_letters: bool) -> Self {
        Self {
            table,
            outbox,
            decoder: Decoder::default(),
            plans: Vec::new(),
            types,
            transaction: Transaction::default(),
            passed_over: 0,
            described: false,
            takes_dead_letters,
        }
    }

    /// Whether the outbox was described anew by the last message.
    #[must_use]
    pub fn has_described(&self) -> bool {
        self.described
    }

    /// The same, and forgets it.
    pub fn take_described(&mut self) -> bool {
        std::mem::take(&mut self.described)
    }

    /// Takes in a message.
    ///
    /// # Errors
    /// When it cannot be; nothing of it is in the window then.
    pub fn take(&mut self, message: &Bytes, window: &mut Progress<Entry>) -> Result<Taken, IntakeError> {
        self.passed_over += message.len();
        match self.decoder.decode(message)? {
            Message::Begin(begin) => {
                window.begin(begin.commit_lsn)?;
                self.transaction.begin(begin.commit_lsn, from_postgres(begin.commit_time));
            }
            Message::Relation(relation) => self.describe(&relation)?,
            Message::Type(name) => self.types.named(name),
            Message::Insert(insert) => return self.insert(insert, window),
            Message::Commit(commit) => {
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
        if !self.table.is(relation, self.outbox)? {
            return Ok(());
        }
        self.described = true;
        self.plans.retain(|(outbox, _)| outbox.id != relation.id);
        let plan = Plan::new(&self.table, relation, &self.types)?;
        self.plans.push((Arc::clone(relation), plan));
        Ok(())
    }

    fn insert(&mut self, mut insert: Insert, window: &mut Progress<Entry>) -> Result<Taken, IntakeError> {
        let outbox = self.plans.iter().find(|(outbox, _)| outbox.id == insert.relation);
        let Some((relation, plan)) = outbox else { return Ok(Taken::Quietly) };
        let bytes = insert.row.bytes();
        if std::mem::take(&mut self.passed_over).saturating_sub(bytes) > PASSED_OVER_MAX {
            insert.row = insert.row.detached();
        }
        self.transaction.count(bytes);
        let taken = match window.admit()? {
            None => Taken::Repeated(bytes),
            Some(ordinal) => match plan.event(&insert.row) {
                Ok(event) => {
                    self.transaction.hold(event, ordinal, bytes);
                    Taken::Quietly
                }
                Err(error) => {
                    let letter = self.refuse(&insert.row, ordinal, error, relation, plan)?;
                    let reason = letter.reason.clone();
                    self.transaction.hold_dead(letter);
                    Taken::Dead(reason, bytes)
                }
            },
        };
        for entry in self.transaction.overflow() {
            push(window, entry)?;
        }
        Ok(taken)
    }

    /// A row that is not an event: a dead letter, or the end.
    fn refuse(
        &self,
        row: &Tuple,
        ordinal: u64,
        error: OutboxError,
        relation: &Relation,
        plan: &Plan,
    ) -> Result<DeadLetter, Box<BadRow>> {
        let place =
            format!("row {ordinal} of the transaction that committed at {}", self.transaction.commit_lsn());
        let bad = Box::new(BadRow { place, table: self.table.name(), error });
        if !self.takes_dead_letters {
            return Err(bad);
        }
        let position = self.transaction.position(ordinal);
        Ok(DeadLetter::of_row(&self.table, relation, plan, row, bad.to_string(), position))
    }
}

fn push(window: &mut Progress<Entry>, entry: Entry) -> Result<(), ProgressError> {
    let (ordinal, weight) = (entry.position().ordinal, entry.weight());
    window.push_event(ordinal, entry, weight)?;
    Ok(())
}
