//! `Publisher` between a log of transactions and a broker of the test's own, which has all the vices that real ones
//! have (see there), a queue that is full, partitions that advance one without the other, reports in any order or never,
//! a producer that breaks and cannot be replaced at once, a record that is refused. After every step: what is confirmable lies in
//! the broker's log, and each key's records appear there in the order of their commits, without a gap.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;

use super::broker::{Answer, Broker, NOW_MS, OLD_MS, PARTITIONS, Poison, Wire, partition, wire};
use super::*;
use crate::event::{PlacedRow, Plan, Position, fixture};
use crate::lsn::Lsn;
use crate::pgoutput::{Datum, Tuple};

#[derive(Debug, Clone)]
enum Step {
    /// A transaction is read, with an event for each of these keys: old, large, or neither.
    Commit(Vec<(i64, bool, bool)>),
    /// The producer sends a request of so many records to a partition.
    Request(usize, usize),
    /// The broker answers the oldest request on a partition.
    Answer(usize, Answer),
    /// A request that a replaced producer had on its way arrives.
    Late(usize),
    /// Two requests behind one another, of which the broker refuses the first for a moment.
    Jump(usize),
    /// Everything is stored; then nothing happens for so long that the broker forgets producers.
    Quiet,
    /// It reports one that it has appended.
    Report(usize),
    /// The queue has room for so many.
    Room(usize),
    /// The producer breaks: what waits is gone, and so are the reports that were under way, but for some.
    Break(usize),
    /// So many attempts to replace the producer fail.
    Irreplaceable(usize),
    /// The broker forgets producers whose last records were old.
    Sweep,
    /// Another timeline: what is not confirmed is read again.
    Forget,
    /// What comes in is gathered.
    Gather,
    /// What is gathered is handed over.
    Send,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop::collection::vec(kinds(), 0..4).prop_map(Step::Commit),
        2 => Just(Step::Sweep),
        8 => (0..PARTITIONS, 1usize..4).prop_map(|(partition, count)| Step::Request(partition, count)),
        8 => (0..PARTITIONS, answers()).prop_map(|(partition, answer)| Step::Answer(partition, answer)),
        1 => (0..PARTITIONS).prop_map(Step::Late),
        2 => (0..PARTITIONS).prop_map(Step::Jump),
        2 => Just(Step::Quiet),
        12 => any::<usize>().prop_map(Step::Report),
        2 => (1usize..9).prop_map(Step::Room),
        3 => any::<usize>().prop_map(Step::Break),
        1 => (1usize..3).prop_map(Step::Irreplaceable),
        1 => Just(Step::Forget),
        3 => Just(Step::Gather),
        3 => Just(Step::Send),
    ];
    prop::collection::vec(step, 1..150)
}

fn kinds() -> impl Strategy<Value = (i64, bool, bool)> {
    (1i64..5, prop::bool::weighted(0.3), prop::bool::weighted(0.2))
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![6 => Just(Answer::Fair), 2 => Just(Answer::NotLeader), 1 => Just(Answer::TooLarge)]
}

fn poison() -> impl Strategy<Value = Poison> {
    prop_oneof![
        3 => Just(Poison::None),
        1 => Just(Poison::AtSend),
        1 => Just(Poison::AtDelivery),
        1 => Just(Poison::InFormat),
    ]
}

struct Model {
    publisher: Publisher<Broker>,
    renderer: Renderer,
    plan: Arc<Plan>,
    /// Transactions: their rows and end. The log's position is ten times the number.
    log: Vec<Vec<PlacedRow>>,
    /// Their records, in the same order; `None` for a row that gives none.
    records: Vec<(usize, Lsn, Option<Wire>)>,
    events: i64,
    confirmed: Lsn,
    /// Why the relay halted, if it did.
    halted: Option<PublishError>,
}

fn end(transaction: usize) -> Lsn {
    Lsn(transaction as u64 * 10 + 15)
}

impl Model {
    fn new() -> Self {
        Self {
            publisher: Publisher::new(Renderer::default(), Broker::new()),
            renderer: Renderer::default(),
            plan: Arc::new(fixture::plan()),
            log: Vec::new(),
            records: Vec::new(),
            events: 0,
            confirmed: Lsn::ZERO,
            halted: None,
        }
    }

    async fn step(&mut self, step: &Step) {
        self.publisher.sink.tick();
        match step {
            Step::Commit(events) => self.commit(events, "Updated"),
            Step::Sweep => self.publisher.sink.sweep(),
            Step::Request(partition, records) => self.request(*partition, *records),
            Step::Answer(partition, answer) => self.publisher.sink.answer(*partition, *answer),
            Step::Late(partition) => self.publisher.sink.arrive_late(*partition),
            Step::Jump(partition) => self.jump(*partition).await,
            Step::Quiet => self.be_quiet().await,
            Step::Report(choice) => self.publisher.sink.report(*choice),
            Step::Room(room) => self.publisher.sink.room = *room,
            Step::Break(kept) => self.publisher.sink.break_now(*kept),
            Step::Irreplaceable(times) => self.publisher.sink.failing_restarts = *times,
            Step::Forget => self.forget(),
            Step::Gather => self.publisher.gather(),
            Step::Send => self.send(),
        }
        self.process_reports().await;
        self.check();
    }

    async fn process_reports(&mut self) {
        self.publisher.wait().await;
        match self.publisher.process_reports().await {
            // The relay tries again in its next session.
            Ok(()) | Err(PublishError::Restart(SinkError::Unreachable { .. }) | PublishError::InVain(..)) => {
            }
            Err(error) => self.halted = Some(error),
        }
    }

    fn send(&mut self) {
        if let Err(error) = self.publisher.send() {
            self.halted = Some(error);
        }
    }

    fn request(&mut self, partition: usize, records: usize) {
        self.publisher.sink.request(partition, records, self.publisher.batching);
    }

    async fn jump(&mut self, partition: usize) {
        let key = if partition == 0 { 2 } else { 1 };
        for _ in 0..2 {
            self.publisher.sink.tick();
            self.commit(&[(key, false, false)], "Updated");
            self.process_reports().await;
            self.request(partition, 9);
        }
        self.publisher.sink.answer(partition, Answer::NotLeader);
        self.publisher.sink.answer(partition, Answer::Fair);
    }

    async fn be_quiet(&mut self) {
        for _ in 0..20 {
            for partition in 0..PARTITIONS {
                self.request(partition, 9);
                self.publisher.sink.answer(partition, Answer::Fair);
            }
            self.publisher.sink.report_all();
            self.publisher.sink.tick();
            self.process_reports().await;
        }
        self.publisher.sink.be_quiet();
    }

    fn commit(&mut self, events: &[(i64, bool, bool)], kind: &'static str) {
        let lsn = end(self.log.len());
        let place = |(ordinal, (key, is_old, is_large)): (usize, &(i64, bool, bool))| {
            let ordinal = ordinal as u64;
            let committed_at = 1_000 * if *is_old { OLD_MS } else { NOW_MS };
            let row = row(self.events + 1 + ordinal as i64, *key, kind, *is_large);
            PlacedRow { row, plan: Arc::clone(&self.plan), position: Position { lsn, ordinal, committed_at } }
        };
        let rows: Vec<_> = events.iter().enumerate().map(place).collect();
        for placed in &rows {
            let record = self.renderer.render(placed).ok().map(|record| wire(&record));
            self.records.push((partition(key(placed)), lsn, record));
        }
        self.log.push(rows);
        self.events += events.len() as i64;
        self.push(self.log.len() - 1);
    }

    fn push(&mut self, transaction: usize) {
        let progress = self.publisher.progress_mut();
        progress.begin(Lsn(end(transaction).0 - 5)).unwrap();
        for placed in &self.log[transaction] {
            let ordinal = progress.admit().unwrap().unwrap();
            progress.push_event(ordinal, placed.clone().into(), placed.weight()).unwrap();
        }
        progress.commit(end(transaction)).unwrap();
    }

    fn forget(&mut self) {
        self.publisher.progress_mut().forget();
        self.publisher.progress_mut().connected();
        for transaction in (0..self.log.len()).filter(|&one| end(one) > self.confirmed).collect::<Vec<_>>() {
            self.push(transaction);
        }
    }

    /// What the log of a partition is to hold, in that order.
    fn expected(&self, of: usize) -> Vec<Wire> {
        let records = self.records.iter().filter(|(partition, ..)| *partition == of);
        records.map_while(|(.., record)| record.clone()).collect()
    }

    fn check(&mut self) {
        for partition in 0..PARTITIONS {
            let appeared = first_appearances(&self.publisher.sink.log[partition]);
            let expected = self.expected(partition);
            assert!(expected.starts_with(&appeared), "partition {partition} is out of order, or has a gap");
        }
        let confirmable = self.publisher.progress.confirmable();
        self.confirmed = self.confirmed.max(confirmable);
        let log = self.publisher.sink.log.concat();
        for (_, lsn, record) in self.records.iter().filter(|(_, lsn, _)| *lsn <= confirmable) {
            let record = record.as_ref().unwrap();
            assert!(
                log.contains(record),
                "a record of {lsn} is not in Kafka, and {confirmable} is confirmable"
            );
        }
    }

    /// The broker is well again: everything arrives, or the poison halts the relay.
    async fn finish(&mut self) {
        self.publisher.sink.room = 5;
        self.publisher.sink.failing_restarts = 0;
        self.send();
        for _ in 0..2_000 {
            for partition in 0..PARTITIONS {
                self.request(partition, 9);
                for _ in 0..9 {
                    self.publisher.sink.answer(partition, Answer::Fair);
                }
            }
            self.publisher.sink.report_all();
            self.publisher.sink.tick();
            self.process_reports().await;
            self.check();
            if self.halted.is_some()
                || (self.publisher.progress.records() == 0 && self.publisher.is_caught_up())
            {
                return;
            }
        }
        panic!("{} records stay in flight for ever", self.publisher.progress.records());
    }

    /// Behind a poisoned event there are others, which must wait for it.
    fn poison(&mut self, poison: Poison) {
        if poison == Poison::None {
            return;
        }
        let young = |key| (key, false, false);
        self.commit(&[young(1)], if poison == Poison::InFormat { "Nonsense" } else { "Updated" });
        let placed = self.log.last().unwrap().last().unwrap();
        let record = self.renderer.render(placed).map(|record| wire(&record)).unwrap_or_default();
        self.publisher.sink.poison = Some((poison, record));
        self.commit(&[young(1), young(2)], "Removed");
    }
}

/// A row of the fixture's table.
fn row(id: i64, key: i64, kind: &str, is_large: bool) -> Tuple {
    let (number, key, id) =
        (id.to_be_bytes(), key.to_be_bytes(), u128::from(id.unsigned_abs()).to_be_bytes());
    let payload = is_large.then(|| [&[1][..], &[b' '; 500]].concat());
    let values: [Option<&[u8]>; 7] = [
        Some(&number),
        Some(&key),
        Some(kind.as_bytes()),
        payload.as_deref(),
        Some(&[0; 8]),
        Some(&id),
        None,
    ];
    Tuple::from_values(values.into_iter())
}

fn key(placed: &PlacedRow) -> i64 {
    let key = placed.row.iter().nth(1).and_then(Datum::bytes).unwrap();
    i64::from_be_bytes(key.try_into().unwrap())
}

fn first_appearances(log: &[Wire]) -> Vec<Wire> {
    let mut seen: Vec<Wire> = Vec::new();
    for record in log {
        if !seen.contains(record) {
            seen.push(record.clone());
        }
    }
    seen
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2 * ProptestConfig::default().cases))]

    #[test]
    fn whatever_befalls_the_sink_nothing_is_lost_and_no_key_changes_its_order(
        steps in steps(),
        poison in poison(),
    ) {
        let mut model = Model::new();
        block_on(async {
            for step in &steps {
                model.step(step).await;
            }
            prop_assert!(model.halted.is_none(), "halted by {:?}", model.halted);
            model.poison(poison);
            model.finish().await;
            Ok(())
        })?;
        let last = model.log.len().checked_sub(1).map_or(Lsn::ZERO, end);
        if poison == Poison::None {
            prop_assert!(model.halted.is_none(), "halted by {:?}", model.halted);
            prop_assert_eq!(model.confirmed, last);
            for partition in 0..PARTITIONS {
                let appeared = first_appearances(&model.publisher.sink.log[partition]);
                prop_assert_eq!(appeared, model.expected(partition));
            }
        } else {
            // It and what is behind it are in flight for ever, and never confirmed.
            let halted = model.halted.as_ref().map(ToString::to_string).unwrap_or_default();
            let row = match poison {
                Poison::InFormat => "row 0 of the transaction that committed at ".to_owned(),
                _ => format!("(row 0 of the transaction at {})", end(model.log.len() - 2)),
            };
            prop_assert!(halted.contains(&row), "halted by `{}`, not by {}", halted, row);
            prop_assert!(model.publisher.progress.confirmable() < end(model.log.len() - 2));
        }
    }
}
