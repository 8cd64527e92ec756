//! `Progress` beside a model so plain that it can be seen to be right: a list of transactions, a list of what was
//! pushed, a flag on each for its acknowledgement. After every step all that must always hold is said over the two.
//!
//! The model reads as the relay does: rows are admitted, held until their commit, or pushed while the transaction is
//! read when it is large. It is cut off anywhere, is sent again what it has confirmed, acknowledges in any order and
//! more than once, and finds itself on another timeline.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;

/// An event: the transaction's number, which no other has on any timeline, and the ordinal in it.
type Event = (usize, u64);

/// What a record is in the window: an event, or a row from before the slot.
type Content = Option<Event>;

/// A transaction before it has a place in the log.
#[derive(Debug, Clone)]
struct Shape {
    gap: u64,
    length: u64,
    events: u64,
    /// Events that are held at most; with more, they are pushed while the transaction is read.
    held_max: u64,
}

#[derive(Debug, Clone)]
struct Transaction {
    id: usize,
    commit: u64,
    end: u64,
    events: u64,
    held_max: u64,
}

#[derive(Debug, Clone)]
enum Step {
    /// Read on by so many messages of the stream.
    Read(usize),
    /// Postgres says how far it is: somewhere up to the next commit, or, where it does not count, anywhere.
    Keepalive(prop::sample::Index),
    /// One in flight, or any that ever was: reports may come twice.
    Acknowledge(prop::sample::Index),
    Repeat(prop::sample::Index),
    /// All that are in flight.
    AcknowledgeAll,
    /// The slot is moved.
    Confirm,
    /// The connection breaks, and the stream begins again at a position that the slot has had.
    Reconnect(prop::sample::Index),
    /// A failover: up to some point the log is the same, behind it are other transactions.
    Failover(prop::sample::Index, Vec<Shape>),
    /// A row from before the slot.
    Backfill,
}

fn shapes(most: usize) -> impl Strategy<Value = Vec<Shape>> {
    let shape = (0u64..30, 1u64..30, 0u64..7, 0u64..7);
    let shape = shape.prop_map(|(gap, length, events, held_max)| Shape { gap, length, events, held_max });
    prop::collection::vec(shape, 1..most)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        24 => (1usize..8).prop_map(Step::Read),
        8 => any::<prop::sample::Index>().prop_map(Step::Keepalive),
        20 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        2 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        2 => Just(Step::AcknowledgeAll),
        6 => Just(Step::Confirm),
        6 => any::<prop::sample::Index>().prop_map(Step::Reconnect),
        1 => (any::<prop::sample::Index>(), shapes(8)).prop_map(|(at, shapes)| Step::Failover(at, shapes)),
        1 => Just(Step::Backfill),
    ];
    prop::collection::vec(step, 0..200)
}

/// A record that was pushed.
#[derive(Debug)]
struct Pushed {
    sequence: Sequence,
    content: Content,
    bytes: usize,
    acknowledged: bool,
}

/// The transaction that is being read.
#[derive(Debug, Default)]
struct Inside {
    read: u64,
    held: Vec<u64>,
}

struct Model {
    progress: Progress<Content>,
    log: Vec<Transaction>,
    transactions: usize,
    /// Of the log, the transaction that is read next, or is being read.
    at: usize,
    inside: Option<Inside>,
    /// Everything pushed since the last failover, in order, and the sequence of the first.
    pushed: Vec<Pushed>,
    first: Sequence,
    /// Acknowledged in earlier lives.
    published: Vec<Event>,
    /// Where this life's first stream began: an index in the log.
    began: usize,
    /// Positions that say "before me are so many records": commits and keepalives, since the last failover.
    reached: Vec<(usize, u64)>,
    /// The highest end or keepalive on this connection.
    sent: u64,
    /// Where the slot has been.
    confirmed: Vec<u64>,
}

impl Model {
    fn new(shapes: &[Shape]) -> Self {
        let mut model = Self {
            progress: Progress::default(),
            log: Vec::new(),
            transactions: 0,
            at: 0,
            inside: None,
            pushed: Vec::new(),
            first: 0,
            published: Vec::new(),
            began: 0,
            reached: Vec::new(),
            sent: 0,
            confirmed: vec![0],
        };
        model.append(shapes);
        model
    }

    fn append(&mut self, shapes: &[Shape]) {
        for &Shape { gap, length, events, held_max } in shapes {
            let commit = self.log.last().map_or(1, |last| last.end) + gap;
            let id = self.transactions;
            self.log.push(Transaction { id, commit, end: commit + length, events, held_max });
            self.transactions += 1;
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Read(messages) => (0..*messages).for_each(|_| self.read()),
            Step::Keepalive(choice) => self.keepalive(choice),
            Step::Acknowledge(choice) => {
                let in_flight: Vec<_> = self.unacknowledged().collect();
                if !in_flight.is_empty() {
                    self.acknowledge(in_flight[choice.index(in_flight.len())]);
                }
            }
            Step::Repeat(choice) => self.repeat(choice),
            Step::AcknowledgeAll => self.acknowledge_all(),
            Step::Confirm => {
                self.confirmed.push(self.progress.confirmable().0.max(*self.confirmed.last().unwrap()))
            }
            Step::Reconnect(choice) => self.reconnect(choice),
            Step::Failover(fork, shapes) => self.fail_over(fork, shapes),
            Step::Backfill => self.backfill(),
        }
        self.check();
    }

    fn read(&mut self) {
        let Some(transaction) = self.log.get(self.at).cloned() else { return };
        match &mut self.inside {
            None => {
                self.progress.begin(Lsn(transaction.commit)).unwrap();
                self.inside = Some(Inside::default());
            }
            Some(inside) if inside.read < transaction.events => {
                let ordinal = inside.read;
                inside.read += 1;
                let large = inside.read > transaction.held_max;
                self.admit(&transaction, ordinal);
                if large {
                    self.push_held(&transaction);
                }
            }
            Some(_) => {
                self.push_held(&transaction);
                self.progress.commit(Lsn(transaction.end)).unwrap();
                self.inside = None;
                self.at += 1;
                self.reach(transaction.end);
            }
        }
    }

    /// An event is admitted exactly when it was never pushed: nothing is repeated, nothing is skipped.
    fn admit(&mut self, transaction: &Transaction, ordinal: u64) {
        let event = Some((transaction.id, ordinal));
        let is_new = self.pushed.iter().all(|pushed| pushed.content != event);
        assert_eq!(self.progress.admit().unwrap(), is_new.then_some(ordinal), "{event:?}");
        if is_new {
            self.inside.as_mut().unwrap().held.push(ordinal);
        }
    }

    fn push_held(&mut self, transaction: &Transaction) {
        for ordinal in std::mem::take(&mut self.inside.as_mut().unwrap().held) {
            let event = (transaction.id, ordinal);
            assert_eq!(self.expected_event(), Some(event), "pushed out of the stream's order");
            let bytes = 1 + (transaction.id + ordinal as usize) % 13;
            let sequence = self.progress.push_event(ordinal, Some(event), bytes).unwrap();
            self.enter(sequence, Some(event), bytes);
        }
    }

    /// The event behind the one that was pushed last; the log's order is the order.
    fn expected_event(&self) -> Option<Event> {
        let events = |one: &Transaction| (0..one.events).map(|ordinal| (one.id, ordinal)).collect::<Vec<_>>();
        let mut stream = self.log[self.began..].iter().flat_map(events);
        match self.pushed.iter().rev().find_map(|pushed| pushed.content) {
            None => stream.next(),
            Some(last) => stream.skip_while(|event| *event != last).nth(1),
        }
    }

    fn enter(&mut self, sequence: Sequence, content: Content, bytes: usize) {
        assert_eq!(sequence, self.first + self.pushed.len() as u64, "sequences are consecutive");
        self.pushed.push(Pushed { sequence, content, bytes, acknowledged: false });
    }

    fn backfill(&mut self) {
        if self.inside.is_none() && !self.is_cut() {
            let sequence = self.progress.push(None, 3);
            self.enter(sequence, None, 3);
        }
    }

    /// Whether a transaction was cut off when a part of it had been pushed, and has not come again yet.
    fn is_cut(&self) -> bool {
        let Some((id, ordinal)) = self.pushed.iter().rev().find_map(|pushed| pushed.content) else {
            return false;
        };
        let position = self.log.iter().position(|one| one.id == id).unwrap();
        self.inside.is_none()
            && !self.reached.iter().any(|(_, lsn)| *lsn >= self.log[position].end)
            && (self.at <= position || ordinal + 1 < self.log[position].events)
    }

    /// Between transactions it may point as far as the next commit. Where it must not count it points anywhere.
    fn keepalive(&mut self, choice: &prop::sample::Index) {
        let end = self.log.last().map_or(0, |last| last.end) + 10;
        if self.inside.is_some() || self.is_cut() {
            self.progress.keepalive(Lsn(choice.index(end as usize) as u64)).unwrap();
            return;
        }
        let next = self.log.get(self.at).map_or(end, |next| next.commit);
        let before = self.at.checked_sub(1).map_or(0, |last| self.log[last].end);
        let wal_end = before + choice.index((next - before + 1) as usize) as u64;
        self.progress.keepalive(Lsn(wal_end)).unwrap();
        self.reach(wal_end);
    }

    fn reach(&mut self, lsn: u64) {
        self.sent = self.sent.max(lsn);
        self.reached.push((self.pushed.len(), lsn));
    }

    fn unacknowledged(&self) -> impl Iterator<Item = usize> {
        (0..self.pushed.len()).filter(|&index| !self.pushed[index].acknowledged)
    }

    fn acknowledge(&mut self, index: usize) {
        self.pushed[index].acknowledged = true;
        self.progress.acknowledge(self.pushed[index].sequence).unwrap();
    }

    fn acknowledge_all(&mut self) {
        let in_flight: Vec<_> = self.unacknowledged().collect();
        in_flight.into_iter().rev().for_each(|index| self.acknowledge(index));
    }

    /// A report that came before, of this life or an earlier one, changes nothing; one of the future is an error.
    fn repeat(&mut self, choice: &prop::sample::Index) {
        let next = self.progress.next_sequence();
        assert_eq!(self.progress.acknowledge(next), Err(ProgressError::UnknownRecord(next)));
        let sequence = choice.index(next as usize + 1) as u64;
        let in_flight = self.pushed.iter().any(|pushed| pushed.sequence == sequence && !pushed.acknowledged);
        if sequence < next && !in_flight {
            self.progress.acknowledge(sequence).unwrap();
        }
    }

    /// Postgres sends what committed at its slot's position or behind it; after a crash that is an earlier one (F2).
    fn reconnect(&mut self, choice: &prop::sample::Index) {
        let slot = self.confirmed[choice.index(self.confirmed.len())];
        self.connect(slot);
    }

    fn connect(&mut self, slot: u64) {
        self.progress.connected();
        self.at = self.log.iter().take_while(|one| one.commit < slot).count();
        self.inside = None;
        self.sent = 0;
    }

    /// The new primary has the log up to some point, and a slot that is not ahead of it.
    fn fail_over(&mut self, fork: &prop::sample::Index, shapes: &[Shape]) {
        self.published.extend(
            self.pushed.iter().filter(|pushed| pushed.acknowledged).filter_map(|pushed| pushed.content),
        );
        self.log.truncate(fork.index(self.log.len() + 1));
        let fork = self.log.last().map_or(0, |last| last.end);
        self.append(shapes);
        let slot = self.confirmed.iter().rfind(|confirmed| **confirmed <= fork).copied().unwrap_or(fork);
        self.confirmed = vec![slot];
        self.first += self.pushed.len() as u64;
        self.pushed.clear();
        self.reached.clear();
        self.progress.forget();
        self.connect(slot);
        self.began = self.at;
        // Nothing of the old timeline counts: not its positions, not what was in flight.
        assert_eq!((self.progress.records(), self.progress.confirmable()), (0, Lsn::ZERO));
    }

    fn check(&self) {
        self.check_confirmable();
        self.check_window();
        assert_eq!(self.progress.is_open(), self.inside.is_some());
        assert_eq!(self.progress.received_lsn(), Lsn(self.sent));
    }

    fn check_confirmable(&self) {
        let confirmable = self.progress.confirmable().0;
        assert!(self.progress.covered() <= self.progress.oldest_sequence(), "a record in flight is covered");
        // 1: never above what this connection was sent, and every record of all that ends at or below is in Kafka.
        assert!(confirmable <= self.sent, "{confirmable} is above what was sent, {}", self.sent);
        let acknowledged = |event| {
            self.published.contains(&event)
                || self.pushed.iter().any(|pushed| pushed.content == Some(event) && pushed.acknowledged)
        };
        for one in self.log.iter().filter(|one| one.end <= confirmable) {
            let missing = (0..one.events).find(|ordinal| !acknowledged((one.id, *ordinal)));
            assert_eq!(missing, None, "{one:?} is not wholly acknowledged, {confirmable} is confirmable");
        }
        // 2: with nothing in flight and no transaction half read, all that was sent is.
        if self.unacknowledged().next().is_none() && self.inside.is_none() {
            assert_eq!(confirmable, self.sent, "everything is acknowledged");
        }
        // And exactly: the highest position of those before which everything is acknowledged.
        let prefix = self.unacknowledged().next().unwrap_or(self.pushed.len());
        let reached = self.reached.iter().filter(|(before, _)| *before <= prefix).map(|(_, lsn)| *lsn).max();
        assert_eq!(confirmable, reached.unwrap_or(0).min(self.sent));
    }

    /// 4: what is in flight is what lies behind the oldest that is not acknowledged.
    fn check_window(&self) {
        let in_flight = || self.pushed.iter().skip_while(|pushed| pushed.acknowledged);
        assert_eq!(self.progress.records(), in_flight().count());
        assert_eq!(self.progress.bytes(), in_flight().map(|pushed| pushed.bytes).sum::<usize>());
        let next = self.first + self.pushed.len() as u64;
        assert_eq!(self.progress.next_sequence(), next);
        assert_eq!(self.progress.oldest_sequence(), next - in_flight().count() as u64);
        assert_eq!(self.progress.oldest(), in_flight().next().map(|pushed| &pushed.content));
        for pushed in &self.pushed {
            let expected = (!pushed.acknowledged).then_some(&pushed.content);
            assert_eq!(self.progress.unacknowledged(pushed.sequence), expected);
        }
    }

    /// Reads the stream to its end and acknowledges all: every event has been pushed, and all of the log is confirmable.
    fn finish(&mut self) {
        while self.at < self.log.len() {
            self.read();
        }
        self.acknowledge_all();
        let end = self.log.last().map_or(0, |last| last.end);
        self.progress.keepalive(Lsn(end)).unwrap();
        self.reach(end);
        self.check();
        assert_eq!(self.expected_event(), None, "an event was never pushed");
        assert!(self.progress.confirmable() >= Lsn(end));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2 * ProptestConfig::default().cases))]

    #[test]
    fn all_that_must_hold_of_the_window_holds_after_every_step(stream in shapes(20), steps in steps()) {
        let mut model = Model::new(&stream);
        steps.iter().for_each(|step| model.step(step));
        model.finish();
    }
}
