//! `Publisher` over a sink that makes transactions, between servers that crash, fail over and go back in time, and a Kafka at
//! its worst (see there). After every step consumers that read committed records have seen each event once, in order and
//! without a gap; the mark in each transaction says exactly how far all is with it; and what is confirmable is committed.
//!
//! Processes come and go: one has the slot, others had it and go on with what they had read. Which history of events a
//! transaction is judged by is known from the session that its mark names.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::committed_kafka::{ALL, Content, DEAD, Kafka, PARTITIONS, Producer, partition};
use super::*;
use crate::event::{PlacedRow, Plan, Position, fixture};
use crate::publish::transactions::Mark;
use crate::window::copied::CopyId;

/// What makes a dead letter of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// It gives no record.
    Formless,
    /// No partition takes its record.
    Refused,
}

/// A transaction before it has a place in the log.
#[derive(Debug, Clone)]
struct Shape {
    gap: u64,
    length: u64,
    /// Keys of its events, and what is wrong with them.
    events: Vec<(i64, Fault)>,
    /// Events that are held at most; with more, they are pushed while the transaction is read.
    held_max: usize,
}

#[derive(Debug, Clone)]
struct Source {
    commit: u64,
    end: u64,
    committed_at: i64,
    events: Vec<i64>,
    held_max: usize,
}

/// What the server held at some time. One follows the other: up to a point they are the same.
#[derive(Debug, Clone, Default)]
struct History {
    log: Vec<Source>,
    /// Where it forked from the one before.
    fork: u64,
    /// That one is known by another timeline.
    is_timeline: bool,
    /// How far the WAL was, as keepalives said: nothing commits before.
    said: u64,
}

impl History {
    fn events(&self) -> Vec<i64> {
        self.log.iter().flat_map(|source| source.events.clone()).collect()
    }

    /// Events before a place; of a place that names a transaction there must be one.
    fn events_before(&self, place: Place) -> usize {
        let earlier = self.log.iter().filter(|source| source.commit < place.commit.0);
        let earlier: usize = earlier.map(|source| source.events.len()).sum();
        let Some(source) = self.log.iter().find(|source| source.commit == place.commit.0) else {
            assert_eq!(place.events, 0, "no transaction is at {place:?}");
            return earlier;
        };
        assert_eq!(place.committed_at, source.committed_at);
        assert!(!place.whole || place.events == source.events.len() as u64, "{place:?} of {source:?}");
        earlier + usize::try_from(place.events).unwrap()
    }

    /// The transactions that a slot at `slot` does not show.
    fn behind_slot(&self, slot: u64) -> usize {
        self.log.iter().take_while(|source| source.commit < slot).count()
    }
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Answered,
    /// It is committed, or will be, and the answer is lost with the producer.
    AnswerIsLost,
    RequestIsLost,
    OnItsWay,
}

/// What befalls a process.
#[derive(Debug, Clone)]
enum Act {
    /// So many messages of its stream are read.
    Read(usize),
    /// The same, and what is read waits to be handed over.
    Gather(usize),
    /// The same of the table that it copies.
    Copy(usize),
    /// The window is full in the midst of rows of which nothing says how far the copy is.
    WithoutOrder,
    Append(usize),
    Report(usize),
    CommitArrives,
    CommitIsRefused,
    Answer,
    /// All of these, as often as it takes one transaction; and what becomes of its commit.
    Transact(Outcome),
    /// A session begins, or a new producer finds out what Kafka holds: a step of it.
    Open,
    /// All steps of it, unless something befalls it.
    OpenWholly,
    Break,
    FailRestart,
    FailInits(usize),
    Room(usize),
    Wait(u64),
    FinishHandedOver,
}

#[derive(Debug, Clone)]
enum Step {
    /// To the process that has the slot, or to another.
    Process(usize, Act),
    Server(Vec<Shape>),
    Keepalive(prop::sample::Index),
    Confirm,
    /// The process is gone, and another starts.
    Crash,
    /// It is not, but has lost the slot to another.
    Usurp,
    /// The connection breaks.
    Reconnect,
    Failover(prop::sample::Index, Vec<Shape>),
    /// Whether the new transactions stand where the old ones did.
    GoBack(prop::sample::Index, Vec<Shape>, bool),
    /// Another table is to be copied: ids of its rows, and rows without any.
    Appear(Vec<i64>, usize),
    Late,
    Tell(usize),
    TimeOut(usize),
}

fn placed(plan: &Arc<Plan>, event: i64, key: i64, is_formless: bool, position: Position) -> PlacedRow {
    let payload: Option<&[u8]> = if is_formless { Some(b"\xff") } else { None };
    PlacedRow { row: fixture::row(event, &key.to_string(), payload), plan: Arc::clone(plan), position }
}

fn shapes(most: usize) -> impl Strategy<Value = Vec<Shape>> {
    let fault = prop_oneof![94 => Just(Fault::None), 3 => Just(Fault::Formless), 3 => Just(Fault::Refused)];
    let events = prop::collection::vec((1i64..5, fault), 0..5);
    let shape = (1u64..20, 1u64..20, events, 0usize..5).prop_map(|(gap, length, events, held_max)| Shape {
        gap,
        length,
        events,
        held_max,
    });
    prop::collection::vec(shape, 1..most)
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(Outcome::Answered),
        1 => Just(Outcome::AnswerIsLost),
        1 => Just(Outcome::RequestIsLost),
        1 => Just(Outcome::OnItsWay),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => (1usize..8).prop_map(Act::Read),
        4 => (1usize..8).prop_map(Act::Gather),
        8 => (1usize..4).prop_map(Act::Copy),
        2 => Just(Act::WithoutOrder),
        10 => (0..ALL).prop_map(Act::Append),
        14 => (0..ALL).prop_map(Act::Report),
        5 => Just(Act::CommitArrives),
        1 => Just(Act::CommitIsRefused),
        4 => Just(Act::Answer),
        9 => outcomes().prop_map(Act::Transact),
        6 => Just(Act::Open),
        5 => Just(Act::OpenWholly),
        2 => Just(Act::Break),
        1 => Just(Act::FailRestart),
        1 => (1usize..3).prop_map(Act::FailInits),
        1 => (1usize..9).prop_map(Act::Room),
        4 => (1u64..250).prop_map(Act::Wait),
        1 => Just(Act::FinishHandedOver),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        90 => acts().prop_map(|act| Step::Process(0, act)),
        12 => (1usize..3, acts()).prop_map(|(who, act)| Step::Process(who, act)),
        4 => shapes(4).prop_map(Step::Server),
        3 => index().prop_map(Step::Keepalive),
        3 => Just(Step::Confirm),
        2 => Just(Step::Crash),
        2 => Just(Step::Usurp),
        2 => Just(Step::Reconnect),
        2 => (index(), shapes(4)).prop_map(|(at, shapes)| Step::Failover(at, shapes)),
        2 => (index(), shapes(4), any::<bool>()).prop_map(|(at, shapes, same)| Step::GoBack(at, shapes, same)),
        1 => (prop::collection::vec(1i64..4, 0..12), 0usize..4).prop_map(|(ids, rest)| Step::Appear(ids, rest)),
        2 => Just(Step::Late),
        3 => any::<usize>().prop_map(Step::Tell),
        1 => any::<usize>().prop_map(Step::TimeOut),
    ];
    prop::collection::vec(step, 1..250)
}

/// A table that is copied: rows by rising ids, then those of no order.
#[derive(Debug, Clone)]
struct Table {
    of: CopyId,
    rows: Vec<(i64, i64)>,
    rest: Vec<i64>,
}

/// A copy as it is read.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    at: usize,
    last: Option<i64>,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Has no session.
    Away,
    /// Has the slot, at this position, and finds out what Kafka holds.
    Opening(u64),
    Copying,
    Following,
}

struct Process {
    publisher: Publisher<Producer>,
    history: usize,
    /// Of the history, what it may read: all, or what it has read ahead when it lost the slot.
    limit: Option<usize>,
    epoch: i64,
    stage: Stage,
    /// Nothing is in its window.
    is_fresh: bool,
    /// What Kafka has is of another history: it begins from the slot.
    ignores: bool,
    /// Its producer is fenced.
    is_fenced: bool,
    at: usize,
    inside: Option<(usize, Vec<usize>)>,
    copied: Option<(CopyId, i64)>,
    reading: Reading,
}

struct Model {
    kafka: Arc<Mutex<Kafka>>,
    plan: Arc<Plan>,
    /// The first has the slot.
    processes: Vec<Process>,
    histories: Vec<History>,
    /// By epoch: which history a session reads.
    sessions: Vec<usize>,
    /// Where sessions begin that ignore what Kafka has, until something of theirs is committed: their epochs, and an index of
    /// events.
    jumps: Vec<(Vec<i64>, usize)>,
    keys: HashMap<i64, i64>,
    /// Events whose rows give no record.
    formless: HashSet<i64>,
    confirmed: Vec<u64>,
    tables: Vec<Table>,
    copied: usize,
    /// Rows that may come more than once.
    loose: HashSet<i64>,
    checked: Checked,
}

/// What was found of the transactions that are committed.
#[derive(Default)]
struct Checked {
    transactions: usize,
    history: usize,
    /// Events of the history that are in Kafka.
    events: usize,
    mark: Option<Mark>,
    /// All that is committed, by partition and together.
    logs: [Vec<Content>; ALL],
    seen: HashSet<i64>,
}

impl Model {
    fn new(shapes: &[Shape]) -> Self {
        let mut model = Self {
            kafka: Arc::default(),
            plan: Arc::new(fixture::plan()),
            processes: Vec::new(),
            histories: vec![History::default()],
            sessions: vec![0],
            jumps: Vec::new(),
            keys: HashMap::new(),
            formless: HashSet::new(),
            confirmed: vec![1],
            tables: Vec::new(),
            copied: 0,
            loose: HashSet::new(),
            checked: Checked::default(),
        };
        model.append(shapes, &[]);
        model.start();
        model
    }

    fn history(&self) -> usize {
        self.histories.len() - 1
    }

    /// A process starts, which has nothing.
    fn start(&mut self) {
        let publisher = Publisher::new(Renderer::default(), Producer::new(Arc::clone(&self.kafka)));
        let process = Process {
            publisher: publisher.with_dead_letters(),
            history: self.history(),
            limit: None,
            epoch: 0,
            stage: Stage::Away,
            is_fresh: true,
            ignores: false,
            is_fenced: false,
            at: 0,
            inside: None,
            copied: None,
            reading: Reading::default(),
        };
        self.processes.insert(0, process);
        self.processes.truncate(3);
    }

    fn new_event(&mut self, key: i64) -> i64 {
        let event = self.keys.len() as i64 + 1;
        self.keys.insert(event, key);
        event
    }

    /// Transactions are committed, at these places or behind them.
    fn append(&mut self, shapes: &[Shape], places: &[(u64, u64)]) {
        for (index, shape) in shapes.iter().enumerate() {
            let mut events = Vec::new();
            for (key, fault) in &shape.events {
                let event = self.new_event(*key);
                match fault {
                    Fault::None => {}
                    Fault::Formless => drop(self.formless.insert(event)),
                    Fault::Refused => drop(self.kafka.lock().unwrap().refused.insert(event)),
                }
                events.push(event);
            }
            let forks = self.histories.len() as i64;
            let history = self.histories.last_mut().unwrap();
            let commit =
                history.log.last().map_or(1, |last| last.end).max(history.fork).max(history.said) + shape.gap;
            let (commit, end) = match places.get(index) {
                Some(place) => *place,
                None => (commit, commit + shape.length),
            };
            let committed_at = forks * 1_000_000 + history.log.len() as i64;
            let held_max = shape.held_max;
            history.log.push(Source { commit, end, committed_at, events, held_max });
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Process(who, act) => self.act(*who, act).await,
            Step::Server(shapes) => self.append(shapes, &[]),
            Step::Keepalive(choice) => self.keepalive(choice),
            Step::Confirm => self.confirm(),
            Step::Crash => self.crash(),
            Step::Usurp => self.usurp(),
            Step::Reconnect => self.processes[0].stage = Stage::Away,
            Step::Failover(at, shapes) => self.fail_over(at, shapes),
            Step::GoBack(at, shapes, same) => self.go_back(at, shapes, *same),
            Step::Appear(ids, rest) => self.appear(ids, *rest),
            Step::Late => self.kafka.lock().unwrap().arrive_late(),
            Step::Tell(choice) => self.kafka.lock().unwrap().tell(*choice),
            Step::TimeOut(choice) => self.kafka.lock().unwrap().time_out(*choice),
        }
        for who in 0..self.processes.len() {
            self.process_reports(who).await;
        }
        self.processes.retain({
            let mut index = 0;
            move |process| {
                index += 1;
                index == 1 || !process.is_fenced
            }
        });
        self.check();
    }

    async fn act(&mut self, who: usize, act: &Act) {
        let Some(process) = self.processes.get_mut(who) else { return };
        let producer = &mut process.publisher.sink;
        match act {
            Act::Read(messages) => self.read(who, *messages),
            Act::Gather(messages) => self.gather(who, *messages),
            Act::Copy(rows) => self.copy(who, *rows),
            Act::WithoutOrder => self.go_on_without_order(who),
            Act::Append(partition) => producer.append(*partition),
            Act::Report(partition) => producer.report(*partition),
            Act::CommitArrives => producer.commit_arrives(),
            Act::CommitIsRefused => producer.commit_is_refused(),
            Act::Answer => producer.answer(),
            Act::Transact(outcome) => self.transact(who, *outcome).await,
            Act::Open => self.open(who).await,
            Act::OpenWholly => self.open_wholly(who).await,
            Act::Break => producer.break_now(),
            Act::FailRestart => producer.failing_restarts += 1,
            Act::FailInits(times) => producer.failing_inits = *times,
            Act::Room(room) => producer.room = *room,
            Act::Wait(ms) => producer.tick(*ms),
            Act::FinishHandedOver => {
                let finished = process.publisher.finish_handed_over().map(|_| ());
                self.take(who, finished);
            }
        }
    }

    async fn process_reports(&mut self, who: usize) {
        let Some(process) = self.processes.get_mut(who) else { return };
        if process.is_fenced {
            return;
        }
        process.publisher.wait().await;
        let oldest = process.publisher.progress().oldest_sequence();
        process.publisher.copied_mut().map(|copied| copied.acknowledged(oldest));
        let processed = process.publisher.process_reports().await;
        self.take(who, processed);
    }

    /// What the publisher says ends a session, where a new one helps.
    fn take(&mut self, who: usize, result: Result<(), PublishError>) {
        match result {
            Ok(()) | Err(PublishError::Restart(SinkError::Unreachable { .. }) | PublishError::InVain(..)) => {
            }
            Err(PublishError::Fenced(_)) => {
                self.processes[who].is_fenced = true;
                self.processes[who].stage = Stage::Away;
            }
            Err(error) => panic!("halted by {error}"),
        }
    }

    async fn transact(&mut self, who: usize, outcome: Outcome) {
        for _ in 0..3 {
            for partition in 0..ALL {
                self.processes[who].publisher.sink.append(partition);
                self.processes[who].publisher.sink.report(partition);
                self.process_reports(who).await;
                if self.processes[who].is_fenced {
                    return;
                }
            }
        }
        let producer = &mut self.processes[who].publisher.sink;
        producer.tick(60);
        if matches!(outcome, Outcome::Answered | Outcome::AnswerIsLost) {
            producer.commit_arrives();
        }
        match outcome {
            Outcome::Answered => producer.answer(),
            Outcome::AnswerIsLost | Outcome::RequestIsLost => producer.break_now(),
            Outcome::OnItsWay => {}
        }
    }

    fn crash(&mut self) {
        self.processes[0].publisher.sink.leave_behind();
        self.processes.remove(0);
        self.start();
    }

    fn usurp(&mut self) {
        let limit = self.histories[self.processes[0].history].log.len();
        self.processes[0].limit = Some(limit);
        self.start();
    }

    // ---- sessions

    async fn open(&mut self, who: usize) {
        match self.processes[who].stage {
            Stage::Away if who == 0 => self.connect().await,
            Stage::Away => {}
            Stage::Opening(slot) => self.find_out(who, slot).await,
            Stage::Copying | Stage::Following => self.processes[who].publisher.sink.open_by_itself(),
        }
    }

    async fn open_wholly(&mut self, who: usize) {
        for _ in 0..5 {
            self.open(who).await;
            self.process_reports(who).await;
        }
    }

    /// A session begins: it has the slot, in the state of any earlier confirmation, as a server that crashed has it.
    async fn connect(&mut self) {
        let history = self.history();
        let back = self.keys.len() % 3;
        self.confirmed.truncate(self.confirmed.len().saturating_sub(back).max(1));
        let slot = *self.confirmed.last().unwrap();
        if self.processes[0].is_fenced
            || (self.processes[0].history != history && !self.processes[0].is_fresh)
        {
            self.give_up(0).await;
            if !self.processes[0].is_fresh {
                return;
            }
        }
        self.sessions.push(history);
        let epoch = self.sessions.len() as i64 - 1;
        let process = &mut self.processes[0];
        (process.history, process.epoch, process.stage) = (history, epoch, Stage::Opening(slot));
        process.publisher.sink.identity = None;
    }

    /// What is in flight is given up, where a new producer can be had.
    async fn give_up(&mut self, who: usize) {
        let process = &mut self.processes[who];
        process.is_fresh = process.publisher.abandon().await.is_ok();
        process.is_fenced &= !process.is_fresh;
    }

    async fn find_out(&mut self, who: usize, slot: u64) {
        let process = &mut self.processes[who];
        let producer = &mut process.publisher.sink;
        if !producer.transactions.is_shut() {
            return self.begin(who, slot, None);
        }
        if !producer.is_initiated() {
            producer.initiate();
            return;
        }
        let found = producer.read();
        if producer.opened(found) {
            self.begin(who, slot, None);
        } else if process.is_fresh {
            self.begin(who, slot, found);
        } else {
            self.give_up(who).await;
        }
    }

    /// The stream is connected, behind what Kafka holds.
    fn begin(&mut self, who: usize, slot: u64, found: Option<Mark>) {
        let process = &mut self.processes[who];
        let log = &self.histories[process.history];
        process.at = log.behind_slot(slot);
        process.inside = None;
        process.publisher.sink.identity = Some(process.epoch);
        process.publisher.sink.own.push(process.epoch);
        process.publisher.progress_mut().connected();
        match found {
            None => {
                process.publisher.sink.transactions.go_on(process.epoch);
                let own = &process.publisher.sink.own;
                for (epochs, _) in &mut self.jumps {
                    if epochs.iter().any(|epoch| own.contains(epoch)) {
                        epochs.push(process.epoch);
                    }
                }
            }
            Some(mark) => {
                process.publisher.sink.transactions.begin_from(found, process.epoch);
                self.resume(who, slot, mark);
            }
        }
        let process = &mut self.processes[who];
        process.is_fresh = false;
        process.stage = Stage::Following;
        if who == 0 && self.copied < self.tables.len() {
            self.begin_copy();
        }
    }

    fn resume(&mut self, who: usize, slot: u64, mark: Mark) {
        let marked_in = self.sessions[mark.epoch as usize];
        let process = &mut self.processes[who];
        if marked_in > process.history {
            // Its server is of an older timeline than the mark, which it sees.
            process.is_fenced = true;
            process.stage = Stage::Away;
            return;
        }
        process.copied = mark.reach.copied;
        if std::mem::take(&mut process.ignores) {
            let events: usize = self.histories[process.history].log[..process.at]
                .iter()
                .map(|source| source.events.len())
                .sum();
            self.jumps.push((vec![process.epoch], events));
            return process.publisher.resume(None, false);
        }
        let since = self.histories[marked_in + 1..=process.history].iter();
        let fork = since.filter(|history| history.is_timeline).map(|history| history.fork).min();
        let place = mark.reach.place;
        let is_ahead = place.is_some_and(|place| place.commit.0 >= slot);
        if !is_ahead
            && self.histories[marked_in + 1..=process.history].iter().any(|history| !history.is_timeline)
        {
            // An earlier session that ignored the mark has moved the slot past it, and sent nothing as there was nothing.
            let log = &self.histories[process.history].log[..process.at];
            self.jumps.push((vec![process.epoch], log.iter().map(|source| source.events.len()).sum()));
        }
        match (place, fork) {
            (Some(place), Some(fork)) if place.commit.0 >= fork => {
                let place = Place { commit: Lsn(fork - 1), committed_at: 0, events: 0, whole: true };
                process.publisher.resume(Some(place), false);
            }
            (place, _) => {
                process.publisher.resume(place, is_ahead);
            }
        }
    }

    // ---- the stream

    fn read(&mut self, who: usize, messages: usize) {
        if self.take_in(who, messages) {
            self.send(who);
        }
    }

    fn gather(&mut self, who: usize, messages: usize) {
        if self.take_in(who, messages) {
            self.processes[who].publisher.gather();
        }
    }

    /// Whether it reads.
    fn take_in(&mut self, who: usize, messages: usize) -> bool {
        if self.processes[who].stage != Stage::Following || self.processes[who].is_fenced {
            return false;
        }
        for _ in 0..messages {
            if let Err(error) = self.read_one(who) {
                self.is_lost(who, error);
                return false;
            }
        }
        true
    }

    fn send(&mut self, who: usize) {
        let sent = self.processes[who].publisher.send();
        self.take(who, sent);
    }

    /// What Kafka has is of another history: that must be so.
    fn is_lost(&mut self, who: usize, error: ProgressError) {
        let process = &mut self.processes[who];
        assert!(matches!(error, ProgressError::AnotherHistory(_)), "{error}");
        let mark = self.checked.mark.unwrap();
        let since = &self.histories[self.sessions[mark.epoch as usize] + 1..=self.histories.len() - 1];
        assert!(since.iter().any(|history| !history.is_timeline), "{error}, and there is none; {mark:?}");
        process.is_fenced = true;
        process.ignores = true;
        process.stage = Stage::Away;
    }

    fn read_one(&mut self, who: usize) -> Result<(), ProgressError> {
        let process = &mut self.processes[who];
        let log = &self.histories[process.history].log;
        let Some(source) =
            log.get(process.at).filter(|_| process.limit.is_none_or(|limit| process.at < limit))
        else {
            return Ok(());
        };
        let source = source.clone();
        let progress = process.publisher.progress_mut();
        match &mut process.inside {
            None => {
                progress.begin(Lsn(source.commit))?;
                progress.identify(source.committed_at)?;
                process.inside = Some((0, Vec::new()));
            }
            Some((read, held)) if *read < source.events.len() => {
                if let Some(ordinal) = progress.admit()? {
                    held.push(usize::try_from(ordinal).unwrap());
                }
                *read += 1;
                if *read > source.held_max {
                    self.push_held(who, &source)?;
                }
            }
            Some(_) => {
                self.push_held(who, &source)?;
                let process = &mut self.processes[who];
                process.publisher.progress_mut().commit(Lsn(source.end))?;
                process.inside = None;
                process.at += 1;
            }
        }
        Ok(())
    }

    fn push_held(&mut self, who: usize, source: &Source) -> Result<(), ProgressError> {
        let process = &mut self.processes[who];
        let Some((_, held)) = &mut process.inside else { return Ok(()) };
        let is_large = source.events.len() > source.held_max;
        let lsn = Lsn(if is_large { source.commit + 1 } else { source.end });
        for ordinal in std::mem::take(held) {
            let (event, ordinal) = (source.events[ordinal], ordinal as u64);
            let position = Position { lsn, ordinal, committed_at: source.committed_at };
            let row = placed(&self.plan, event, self.keys[&event], self.formless.contains(&event), position);
            let sequence = process.publisher.progress_mut().push_event(ordinal, row.into(), 1)?;
            process.publisher.sink.events.insert(sequence, event);
        }
        Ok(())
    }

    /// Between transactions it may point as far as the next commit.
    fn keepalive(&mut self, choice: &prop::sample::Index) {
        let process = &mut self.processes[0];
        if process.stage != Stage::Following || process.is_fenced || process.inside.is_some() {
            return;
        }
        let log = &self.histories[process.history].log;
        let before = process.at.checked_sub(1).map_or(1, |last| log[last].end);
        let next = log.get(process.at).map_or(before + 10, |next| next.commit);
        self.keep_alive(before + choice.index((next - before + 1) as usize) as u64);
    }

    fn keep_alive(&mut self, wal_end: u64) {
        let process = &mut self.processes[0];
        let history = &mut self.histories[process.history];
        history.said = history.said.max(wal_end);
        if let Err(error) = process.publisher.progress_mut().keepalive(Lsn(wal_end)) {
            self.is_lost(0, error);
        }
    }

    fn confirm(&mut self) {
        let confirmable = self.processes[0].publisher.progress().confirmable().0;
        if self.processes[0].stage == Stage::Following && confirmable > *self.confirmed.last().unwrap() {
            self.confirmed.push(confirmable);
        }
    }

    // ---- tables

    /// Not while a mark of a lost history is to be recognised, which a copy puts off.
    fn appear(&mut self, ids: &[i64], rest: usize) {
        if self.is_mark_of_another_history() {
            return;
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let rows = ids.into_iter().map(|id| (id, self.new_event(id))).collect::<Vec<_>>();
        let of_no_form = rows.iter().map(|(_, event)| *event).filter(|event| event % 7 == 0);
        self.formless.extend(of_no_form);
        let rest: Vec<_> = (0..rest).map(|row| self.new_event(row as i64)).collect();
        self.loose.extend(&rest);
        let of = CopyId { table: self.tables.len() as u32, through: 10, streamed_from: 0 };
        self.tables.push(Table { of, rows, rest });
        // The next session copies it first.
        self.processes[0].stage = Stage::Away;
    }

    /// Behind what Kafka has of it, or what the window has.
    fn begin_copy(&mut self) {
        let table = &self.tables[self.copied];
        let process = &mut self.processes[0];
        process.stage = Stage::Copying;
        let given = process.publisher.copied().filter(|copied| copied.of == table.of).and_then(Copied::given);
        let marked = process.copied.filter(|(of, _)| *of == table.of).map(|(_, id)| id);
        let through = given.max(marked);
        let at =
            table.rows.iter().take_while(|(id, _)| through.is_some_and(|through| *id <= through)).count();
        process.reading = Reading { at, ..Reading::default() };
        process.publisher.begin_copy(table.of, through);
    }

    fn copy(&mut self, who: usize, rows: usize) {
        if who > 0 || self.processes[0].stage != Stage::Copying || self.processes[0].is_fenced {
            return;
        }
        (0..rows).for_each(|_| self.copy_one());
        self.send(0);
        self.end_copy();
    }

    fn copy_one(&mut self) {
        let table = self.tables[self.copied].clone();
        let reading = self.processes[0].reading;
        if reading.ended {
            return;
        }
        let row = table.rows.get(reading.at).copied();
        let id = row.map(|(id, _)| id);
        if let Some(last) = reading.last.filter(|last| id != Some(*last)) {
            self.give(last);
        }
        let rest = reading.at.checked_sub(table.rows.len()).and_then(|at| table.rest.get(at));
        if let Some(event) = row.map(|(_, event)| event).or(rest.copied()) {
            self.push_row(event);
        } else {
            self.give(table.of.through);
            self.processes[0].reading.ended = true;
        }
        let reading = &mut self.processes[0].reading;
        reading.last = id;
        reading.at += 1;
    }

    fn give(&mut self, id: i64) {
        let publisher = &mut self.processes[0].publisher;
        let next = publisher.progress().next_sequence();
        publisher.copied_mut().unwrap().give(id, next);
    }

    fn push_row(&mut self, event: i64) {
        let position = Position { lsn: Lsn(1), ordinal: 0, committed_at: 0 };
        let row = placed(&self.plan, event, self.keys[&event], self.formless.contains(&event), position);
        let publisher = &mut self.processes[0].publisher;
        let sequence = publisher.progress_mut().push(row.into(), 1);
        publisher.sink.events.insert(sequence, event);
    }

    fn go_on_without_order(&mut self, who: usize) {
        let process = &mut self.processes[who];
        if who > 0 || process.stage != Stage::Copying || process.reading.ended {
            return;
        }
        let rows = &self.tables[self.copied].rows;
        if let Some(last) = process.reading.last {
            self.loose.extend(rows.iter().filter(|(id, _)| *id == last).map(|(_, event)| event));
        } else if process.reading.at <= rows.len() {
            return;
        }
        let next = process.publisher.progress().next_sequence();
        process.publisher.copied_mut().unwrap().go_on_without_order(next);
        self.send(who);
    }

    fn end_copy(&mut self) {
        let process = &mut self.processes[0];
        if process.stage != Stage::Copying
            || !process.reading.ended
            || process.publisher.progress().records() > 0
        {
            return;
        }
        let table = &self.tables[self.copied];
        for event in table.rows.iter().map(|(_, event)| event).chain(&table.rest) {
            assert!(self.checked.seen.contains(event), "the copy has ended, and row {event} is not in Kafka");
        }
        process.publisher.end_copy();
        process.stage = Stage::Following;
        self.copied += 1;
        if self.copied < self.tables.len() {
            self.begin_copy();
        }
    }

    // ---- servers

    /// Whether the mark may be of a history that was lost and has not been recognised.
    fn is_mark_of_another_history(&self) -> bool {
        let marked_in = self.checked.mark.map_or(0, |mark| self.sessions[mark.epoch as usize]);
        self.histories[marked_in + 1..].iter().any(|history| !history.is_timeline)
    }

    fn fork(&mut self, at: usize, is_timeline: bool) {
        let mut history = self.histories.last().unwrap().clone();
        let next = history.log.get(at).map(|source| source.commit);
        history.log.truncate(at);
        let end = history.log.last().map_or(1, |last| last.end);
        history.fork = next.unwrap_or(end).max(end);
        (history.is_timeline, history.said) = (is_timeline, 0);
        let slot = self.confirmed.iter().rfind(|confirmed| **confirmed <= end).copied().unwrap_or(1);
        self.confirmed = vec![slot];
        self.histories.push(history);
        let limit = self.histories[self.processes[0].history].log.len();
        self.processes[0].limit = None.or(self.processes[0].limit.filter(|known| *known < limit));
        self.processes[0].stage = Stage::Away;
    }

    fn fail_over(&mut self, at: &prop::sample::Index, shapes: &[Shape]) {
        // Nothing says then which of the two histories the mark is of.
        if self.is_mark_of_another_history() {
            return;
        }
        let history = self.histories.last().unwrap();
        self.fork(at.index(history.log.len() + 1), true);
        self.append(shapes, &[]);
    }

    /// Only while nothing is copied: what a ledger would know of that goes back, too. Relays of the old server are gone.
    fn go_back(&mut self, at: &prop::sample::Index, shapes: &[Shape], same: bool) {
        if self.copied < self.tables.len() {
            return;
        }
        let history = self.histories.last().unwrap();
        let least = history.log.iter().filter(|source| source.commit < history.fork).count();
        let at = least + at.index(history.log.len() + 1 - least);
        let places: Vec<_> = history.log[at..].iter().map(|source| (source.commit, source.end)).collect();
        self.fork(at, false);
        self.append(shapes, if same { &places } else { &[] });
        self.processes.truncate(1);
    }

    // ---- what must hold

    fn check(&mut self) {
        loop {
            let committed = self.kafka.lock().unwrap().committed(self.checked.transactions);
            let Some(committed) = committed else { break };
            self.check_transaction(committed);
        }
        for partition in 0..ALL {
            let view = self.kafka.lock().unwrap().view(partition);
            assert!(
                self.checked.logs[partition].starts_with(&view),
                "partition {partition} has another order"
            );
        }
        self.check_confirmable();
    }

    fn check_transaction(&mut self, committed: [Vec<Content>; ALL]) {
        let marks: Vec<_> = committed
            .iter()
            .flatten()
            .filter_map(|content| match content {
                Content::Mark(mark) => Some(*mark),
                Content::Event(_) => None,
            })
            .collect();
        let [mark] = marks[..] else { panic!("marks of one transaction: {marks:?}") };
        let number = self.checked.mark.map_or(0, |last| last.number) + 1;
        assert_eq!(mark.number, number, "the number of a mark");
        let records: [Vec<i64>; DEAD + 1] = std::array::from_fn(|partition| {
            let events = committed[partition].iter().filter_map(|content| match content {
                Content::Event(event) => Some(*event),
                Content::Mark(_) => None,
            });
            events.collect()
        });
        self.check_stream(mark, &records);
        self.check_rows(mark, &records);
        self.checked.transactions += 1;
        self.checked.mark = Some(mark);
        self.checked.seen.extend(records.iter().flatten());
        for (log, records) in self.checked.logs.iter_mut().zip(committed) {
            log.extend(records);
        }
    }

    fn is_row(&self, event: i64) -> bool {
        self.tables
            .iter()
            .any(|table| table.rest.contains(&event) || table.rows.iter().any(|(_, row)| *row == event))
    }

    /// The events of a transaction are those that follow on what was committed, and the mark names the last one.
    fn check_stream(&mut self, mark: Mark, records: &[Vec<i64>; DEAD + 1]) {
        let history = self.sessions[mark.epoch as usize];
        let from = self.followed_by(mark, history);
        let events = self.histories[history].events();
        let count = records.iter().flatten().filter(|event| !self.is_row(**event)).count();
        let expected = &events[from.min(events.len())..(from + count).min(events.len())];
        for (partition, records) in records.iter().enumerate() {
            let mut expected: Vec<_> =
                expected.iter().copied().filter(|event| self.partition_of(*event) == partition).collect();
            let mut found: Vec<_> = records.iter().copied().filter(|event| !self.is_row(*event)).collect();
            if partition == DEAD {
                // A record that waits for its partition becomes a dead letter only then, and passes none of its key by but those
                // that are no record at all.
                let of = |event: &i64| (self.keys[event], self.formless.contains(event));
                expected.sort_by_key(of);
                found.sort_by_key(of);
            }
            assert_eq!(found, expected, "in partition {partition}; {mark:?} {:?}", self.checked.mark);
        }
        (self.checked.history, self.checked.events) = (history, from + count);
        match mark.reach.place {
            Some(place) => assert_eq!(self.histories[history].events_before(place), from + count, "{mark:?}"),
            None => assert_eq!(count, 0, "{mark:?} says nothing"),
        }
    }

    /// Events of the history that are in Kafka before a transaction of a session.
    fn followed_by(&mut self, mark: Mark, history: usize) -> usize {
        if let Some(jump) = self.jumps.iter().position(|(epochs, _)| epochs.contains(&mark.epoch)) {
            return self.jumps.swap_remove(jump).1;
        }
        assert!(self.checked.history <= history, "an old history after a new one: {mark:?}");
        let mut from = self.checked.events;
        for history in &self.histories[self.checked.history + 1..=history] {
            let shared = history.log.iter().filter(|source| source.commit < history.fork);
            let shared: usize = shared.map(|source| source.events.len()).sum();
            assert!(history.is_timeline || from <= shared, "what was passed over is not in this history");
            from = from.min(shared);
        }
        from
    }

    fn partition_of(&self, event: i64) -> usize {
        match self.formless.contains(&event) || self.kafka.lock().unwrap().refused.contains(&event) {
            true => DEAD,
            false => partition(self.keys[&event]),
        }
    }

    /// Each row once and in order, all of those up to the id in the mark, and none behind it.
    fn check_rows(&self, mark: Mark, records: &[Vec<i64>; DEAD + 1]) {
        for event in
            records.iter().flatten().filter(|event| self.is_row(**event) && !self.loose.contains(event))
        {
            assert!(!self.checked.seen.contains(event), "row {event} comes again; {mark:?}");
            let table =
                self.tables.iter().find(|table| table.rows.iter().any(|(_, row)| row == event)).unwrap();
            let id = table.rows.iter().find(|(_, row)| row == event).unwrap().0;
            let (of, through) = mark.reach.copied.unwrap();
            assert!(of == table.of && id <= through, "row {event} with the id {id} is behind {mark:?}");
        }
        for records in &records[..PARTITIONS] {
            let rows = records.iter().filter(|event| self.is_row(**event) && !self.loose.contains(event));
            assert!(rows.is_sorted(), "rows are out of order");
        }
        let Some((of, through)) = mark.reach.copied else { return };
        let table = self.tables.iter().find(|table| table.of == of).unwrap();
        for (id, event) in table.rows.iter().filter(|(id, _)| *id <= through) {
            let is_there =
                self.checked.seen.contains(event) || records.iter().flatten().any(|row| row == event);
            assert!(is_there, "row {event} with the id {id} is missing; {mark:?}");
        }
    }

    fn check_confirmable(&self) {
        let process = &self.processes[0];
        let confirmable = process.publisher.progress().confirmable().0;
        if process.history != self.history() || process.stage == Stage::Away {
            return;
        }
        for source in self.histories[process.history].log.iter().filter(|source| source.end <= confirmable) {
            for event in &source.events {
                assert!(
                    self.checked.seen.contains(event),
                    "event {event} of {source:?} is lost: {confirmable}"
                );
            }
        }
    }

    // ---- the end

    /// These steps, and to the end.
    fn run(&mut self, steps: &[Step]) {
        block_on(async {
            for step in steps {
                self.step(step).await;
            }
            self.finish().await;
        });
    }

    /// All is well again: everything comes.
    async fn finish(&mut self) {
        self.processes.truncate(1);
        for _ in 0..2_000 {
            let producer = &mut self.processes[0].publisher.sink;
            (producer.room, producer.failing_restarts, producer.failing_inits) = (5, 0, 0);
            self.step(&Step::Process(0, Act::Open)).await;
            self.step(&Step::Process(0, Act::Copy(9))).await;
            self.step(&Step::Process(0, Act::Read(9))).await;
            self.step(&Step::Process(0, Act::Transact(Outcome::Answered))).await;
            self.end_copy();
            if self.is_done() {
                return;
            }
        }
        let process = &self.processes[0];
        panic!("{} records stay in flight, {:?}", process.publisher.progress().records(), process.stage);
    }

    fn is_done(&mut self) -> bool {
        let process = &self.processes[0];
        let log = &self.histories[self.history()].log;
        let is_read = process.stage == Stage::Following && process.at == log.len();
        if !is_read || process.publisher.progress().records() > 0 || self.copied < self.tables.len() {
            return false;
        }
        // The WAL has gone on without events, past whatever a lost history had.
        self.keep_alive(1_000_000);
        self.processes[0].stage == Stage::Following
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2 * ProptestConfig::default().cases))]

    #[test]
    fn who_reads_committed_records_sees_each_event_once_and_in_order(
        stream in shapes(12),
        steps in steps(),
        in_the_past in prop::option::weighted(0.2, (any::<prop::sample::Index>(), shapes(3))),
    ) {
        let mut model = Model::new(&stream);
        block_on(async {
            for step in &steps {
                model.step(step).await;
            }
            if let Some((at, shapes)) = in_the_past {
                model.finish().await;
                model.step(&Step::GoBack(at, shapes, false)).await;
            }
            model.finish().await;
        });
        let last = model.histories.last().unwrap();
        let end = last.log.last().map_or(0, |last| last.end);
        prop_assert!(model.processes[0].publisher.progress().confirmable() >= Lsn(end));
        prop_assert!(last.events().iter().all(|event| model.checked.seen.contains(event)));
    }
}

/// A transaction that is due ends where the sink was full; what the mark cannot say of it would be read again.
#[test]
fn rows_of_one_id_go_into_one_transaction() {
    let mut model = Model::new(&[]);
    let act = |act| Step::Process(0, act);
    let steps = [
        Step::Appear(vec![2, 4, 4, 4, 4, 4], 0),
        act(Act::OpenWholly),
        act(Act::Copy(2)),
        act(Act::Transact(Outcome::Answered)),
        act(Act::Room(2)),
        act(Act::Copy(9)),
        act(Act::Wait(250)),
        act(Act::Append(0)),
        act(Act::Transact(Outcome::Answered)),
    ];
    model.run(&steps);
}

/// One process has sent something and has lost the slot to another, which has not been opened.
fn usurped() -> (Model, Vec<Step>) {
    let shape = Shape { gap: 1, length: 1, events: vec![(1, Fault::None)], held_max: 4 };
    let steps = [
        Step::Process(0, Act::OpenWholly),
        Step::Process(0, Act::Read(3)),
        Step::Process(0, Act::Transact(Outcome::Answered)),
        Step::Usurp,
        Step::Process(1, Act::Break),
        Step::Process(0, Act::Open),
    ];
    (Model::new(&vec![shape; 9]), steps.into())
}

/// All that is read is sent in a transaction.
fn transact(who: usize) -> [Step; 2] {
    [Step::Process(who, Act::Read(3)), Step::Process(who, Act::Transact(Outcome::Answered))]
}

/// Of both names it takes the first one first: between the two, another may have taken both and sent something.
#[test]
fn the_names_are_taken_in_one_order() {
    let (mut model, mut steps) = usurped();
    steps.push(Step::Process(0, Act::Open));
    steps.extend([Act::Open, Act::Open, Act::Open].map(|act| Step::Process(1, act)));
    steps.extend(transact(1));
    steps.extend([Act::Open, Act::Open].map(|act| Step::Process(0, act)));
    steps.extend([transact(1), transact(0)].into_iter().flatten());
    model.run(&steps);
}

/// With new producers the first one begins: the name that another has not taken yet is the second.
#[test]
fn the_first_of_two_new_producers_begins() {
    let (mut model, mut steps) = usurped();
    steps.push(Step::Process(1, Act::Open));
    steps.extend([Act::Open, Act::Open, Act::Open].map(|act| Step::Process(0, act)));
    steps.extend([Act::Open, Act::Open].map(|act| Step::Process(1, act)));
    steps.extend([transact(1), transact(0)].into_iter().flatten());
    model.run(&steps);
}

/// A transaction takes rows of one id together, so it has no end in their midst.
#[test]
fn the_end_of_a_transaction_that_cannot_come_is_not_waited_for() {
    let mut model = Model::new(&[]);
    block_on(async {
        model.step(&Step::Appear(vec![1, 2, 2], 0)).await;
        model.step(&Step::Process(0, Act::OpenWholly)).await;
        model.processes[0].publisher.takes_dead_letters = false;
        model.formless.insert(model.tables[0].rows[2].1);
        (0..5).for_each(|_| model.copy_one());
        let publisher = &mut model.processes[0].publisher;
        publisher.sink.room = 9;
        assert!(matches!(publisher.send(), Err(PublishError::Row(_))));
        for partition in 0..ALL {
            publisher.sink.append(partition);
            publisher.sink.report(partition);
        }
        publisher.wait().await;
        assert!(publisher.finish_handed_over().unwrap());
    });
}
