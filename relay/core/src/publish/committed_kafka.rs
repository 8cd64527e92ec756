//! Kafka's transactions as they are at their worst, for the property test of exactly-once delivery, and a sink of the test's
//! own that asks [`Transactions`] what to do, as the one that ships does.
//!
//! Kafka is written from its own rules (KIP-98 and `TransactionCoordinator`), and knows nothing of the relay's:
//!
//! * Each init of a name raises the epoch, which fences all earlier producers of it; what they had open is aborted, and what
//!   was decided is completed first. A producer of an earlier epoch can write nothing and end nothing.
//! * A transaction that is open for too long is aborted, and its producer fenced by a raised epoch.
//! * A commit counts once the coordinator has written it down; the partitions are told one after the other, and until then a
//!   consumer that reads committed records stops there (the last stable offset). Transactions of two names know nothing of each
//!   other: one may be complete before another that was committed earlier.
//! * An answer may be lost, and a request of a replaced producer may arrive late.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::event::record::{self, Record};
use crate::publish::partitions::{Group, Partitions, Which};
use crate::publish::sink::Reach;
use crate::publish::sink::{Batching, Lane, Refusal, Report, Sink, SinkError, Transaction};
use crate::publish::transactions::{Mark, Transactions};
use crate::window::progress::Sequence;

/// Partitions of events.
pub(super) const PARTITIONS: usize = 2;

/// That of dead letters, and that of the marks.
pub(super) const DEAD: usize = 2;
const MARKS: usize = 3;
pub(super) const ALL: usize = 4;

/// Records that share a request, at most.
const GROUP: Group = Group { records: 3, bytes: 100_000 };

/// The time of all records: none is old.
const NOW_MS: i64 = 1_800_000_000_000;

/// A record, by what it carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Content {
    Event(i64),
    Mark(Mark),
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    transaction: usize,
    content: Content,
}

/// Kafka takes nothing from this producer: its epoch is not the last one of its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fenced;

/// A request of a producer that was replaced.
#[derive(Debug)]
enum Late {
    Record(usize, Content),
    Commit,
    /// It fences whoever has the name, and nobody has it then.
    Init,
}

/// A transactional id, as its coordinator knows it.
#[derive(Default)]
struct Name {
    epoch: u32,
    /// The transaction that the producer of that epoch has open.
    ongoing: Option<usize>,
    /// One that is decided, and the partitions that are not told yet.
    completing: Option<(usize, Vec<usize>)>,
}

/// The coordinators, and the partitions.
#[derive(Default)]
pub(super) struct Kafka {
    names: [Name; 2],
    /// By transaction: whether it is committed, once that is written down.
    decided: Vec<Option<bool>>,
    logs: [Vec<Stored>; ALL],
    /// Ends of transactions in the partitions.
    told: HashSet<(usize, usize)>,
    /// In the order in which they were committed.
    commits: Vec<usize>,
    late: VecDeque<(usize, u32, Late)>,
    /// Events whose record no partition takes.
    pub(super) refused: HashSet<i64>,
}

impl Kafka {
    /// `InitProducerId`, as the client asks again until it has an answer.
    fn init(&mut self, name: usize) -> u32 {
        self.complete(name);
        self.decide(name, false);
        self.complete(name);
        self.names[name].epoch += 1;
        self.names[name].epoch
    }

    /// A record of a transaction, which begins with its first.
    fn produce(&mut self, name: usize, epoch: u32, partition: usize, content: Content) -> Result<(), Fenced> {
        if epoch != self.names[name].epoch {
            return Err(Fenced);
        }
        // Until the last one of the name is complete the client is told to ask again (CONCURRENT_TRANSACTIONS).
        self.complete(name);
        let transaction = *self.names[name].ongoing.get_or_insert(self.decided.len());
        if transaction == self.decided.len() {
            self.decided.push(None);
        }
        self.logs[partition].push(Stored { transaction, content });
        Ok(())
    }

    /// `EndTxn` with a commit.
    fn commit(&mut self, name: usize, epoch: u32) -> Result<(), Fenced> {
        if epoch != self.names[name].epoch || self.names[name].ongoing.is_none() {
            return Err(Fenced);
        }
        self.decide(name, true);
        Ok(())
    }

    /// The open transaction of a name has taken too long.
    pub(super) fn time_out(&mut self, choice: usize) {
        let name = choice % self.names.len();
        if self.names[name].ongoing.is_some() {
            self.decide(name, false);
            self.names[name].epoch += 1;
        }
    }

    fn decide(&mut self, name: usize, commits: bool) {
        let Some(transaction) = self.names[name].ongoing.take() else { return };
        self.decided[transaction] = Some(commits);
        if commits {
            self.commits.push(transaction);
        }
        let has_it =
            |partition: &usize| self.logs[*partition].iter().any(|stored| stored.transaction == transaction);
        self.names[name].completing = Some((transaction, (0..ALL).filter(has_it).collect()));
    }

    /// One of the partitions is told how the last transaction of a name ended.
    pub(super) fn tell(&mut self, choice: usize) {
        let name = choice % self.names.len();
        self.tell_of(name, choice / self.names.len());
    }

    fn tell_of(&mut self, name: usize, choice: usize) {
        let completing = &mut self.names[name].completing;
        let Some((transaction, partitions)) = completing else { return };
        if !partitions.is_empty() {
            let partition = partitions.swap_remove(choice % partitions.len());
            self.told.insert((partition, *transaction));
        }
        if partitions.is_empty() {
            *completing = None;
        }
    }

    fn complete(&mut self, name: usize) {
        while self.names[name].completing.is_some() {
            self.tell_of(name, 0);
        }
    }

    /// A request that was on its way when its producer was replaced arrives.
    pub(super) fn arrive_late(&mut self) {
        match self.late.pop_front() {
            Some((name, epoch, Late::Record(partition, content))) => {
                let _ = self.produce(name, epoch, partition, content);
            }
            Some((name, _, Late::Init)) => drop(self.init(name)),
            Some((name, epoch, Late::Commit)) => {
                let _ = self.commit(name, epoch);
            }
            None => {}
        }
    }

    /// What a consumer sees that reads committed records.
    pub(super) fn view(&self, partition: usize) -> Vec<Content> {
        let log = self.logs[partition].iter();
        let stable = log.take_while(|stored| self.told.contains(&(partition, stored.transaction)));
        stable
            .filter(|stored| self.decided[stored.transaction] == Some(true))
            .map(|stored| stored.content)
            .collect()
    }

    fn last_mark(&self) -> Option<Mark> {
        self.view(MARKS).last().map(|content| match content {
            Content::Mark(mark) => *mark,
            Content::Event(event) => panic!("event {event} is among the marks"),
        })
    }

    /// The transaction that was committed as number `index`, by partition.
    pub(super) fn committed(&self, index: usize) -> Option<[Vec<Content>; ALL]> {
        let transaction = *self.commits.get(index)?;
        Some(std::array::from_fn(|partition| {
            let log = self.logs[partition].iter().filter(|stored| stored.transaction == transaction);
            log.map(|stored| stored.content).collect()
        }))
    }
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    /// None for a mark.
    sequence: Option<Sequence>,
    content: Content,
    /// The broker refuses it.
    is_poison: bool,
}

/// What became of asking for a commit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Commit {
    NotAsked,
    OnItsWay,
    /// The answer is on its way.
    Answered(Result<(), Fenced>),
}

/// A sink with two producers that take turns.
pub(super) struct Producer {
    kafka: Arc<Mutex<Kafka>>,
    pub(super) transactions: Transactions,
    /// In whose name it opens; none while it may not open by itself.
    pub(super) identity: Option<i64>,
    /// The names in which it has written what it has not given up.
    pub(super) own: Vec<i64>,
    /// Those of their inits.
    epochs: [Option<u32>; 2],
    which: Which,
    queued: [VecDeque<Queued>; ALL],
    /// Stored, and not reported.
    stored: [VecDeque<Queued>; ALL],
    commit: Commit,
    partitions: Partitions,
    batching: Batching,
    now: Instant,
    pub(super) room: usize,
    pub(super) failing_restarts: usize,
    pub(super) failing_inits: usize,
    broken: bool,
    fenced: bool,
    reports: Vec<Report>,
    /// Which event a record of the window is.
    pub(super) events: HashMap<Sequence, i64>,
}

fn about_no_record(error: SinkError) -> Report {
    Report { sequence: Sequence::MAX, outcome: Err(error) }
}

impl Producer {
    pub(super) fn new(kafka: Arc<Mutex<Kafka>>) -> Self {
        let mut partitions = Partitions::new(DEAD + 1, GROUP);
        partitions.set_time(NOW_MS);
        Self {
            kafka,
            transactions: Transactions::default(),
            identity: None,
            own: Vec::new(),
            epochs: [None; 2],
            which: Which::default(),
            queued: std::array::from_fn(|_| VecDeque::new()),
            stored: std::array::from_fn(|_| VecDeque::new()),
            commit: Commit::NotAsked,
            partitions,
            batching: Batching::Together,
            now: Instant::now(),
            room: 5,
            failing_restarts: 0,
            failing_inits: 0,
            broken: false,
            fenced: false,
            reports: Vec::new(),
            events: HashMap::new(),
        }
    }

    fn kafka(&self) -> MutexGuard<'_, Kafka> {
        self.kafka.lock().unwrap()
    }

    pub(super) fn tick(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Whether both inits were answered.
    pub(super) fn is_initiated(&self) -> bool {
        self.epochs.iter().all(Option::is_some)
    }

    /// `init_transactions` of the next one; where it fails it may have been done all the same.
    pub(super) fn initiate(&mut self) -> bool {
        let name = self.next_name().unwrap();
        if self.failing_inits > 0 {
            self.failing_inits -= 1;
            if self.failing_inits.is_multiple_of(2) {
                self.kafka().init(name);
            }
            return false;
        }
        let epoch = self.kafka().init(name);
        self.epochs[name] = Some(epoch);
        true
    }

    /// The one that is taken next.
    fn next_name(&self) -> Option<usize> {
        Which::IN_ORDER.map(Which::index).into_iter().find(|name| self.epochs[*name].is_none())
    }

    fn name(&self) -> usize {
        self.which.index()
    }

    fn epoch(&self) -> u32 {
        self.epochs[self.name()].unwrap()
    }

    /// The mark that was committed last, where the init was answered.
    pub(super) fn read(&self) -> Option<Mark> {
        assert!(self.is_initiated());
        self.kafka().last_mark()
    }

    /// Takes what was read; whether it was expected, as what this one wrote itself must be.
    pub(super) fn opened(&mut self, found: Option<Mark>) -> bool {
        let is_expected = self.transactions.opened(found, &mut self.reports);
        let is_own = found.is_some_and(|mark| self.own.contains(&mark.epoch));
        assert!(is_expected || !is_own, "its own {found:?} is taken for another's");
        is_expected
    }

    /// A new producer finds out what Kafka holds, a step at a time, where it has the right to.
    pub(super) fn open_by_itself(&mut self) {
        if self.identity.is_none() || self.broken || self.fenced || !self.transactions.is_shut() {
            return;
        }
        if !self.is_initiated() {
            if !self.initiate() {
                self.break_now();
            }
            return;
        }
        let found = self.read();
        if !self.opened(found) {
            self.fence();
        }
    }

    /// The oldest records of a partition arrive, those that share a request.
    pub(super) fn append(&mut self, partition: usize) {
        if self.broken || self.fenced {
            return;
        }
        let most = if self.batching == Batching::OneByOne { 1 } else { GROUP.records as usize };
        let records = most.min(self.queued[partition].len());
        let request: Vec<_> = self.queued[partition].drain(..records).collect();
        if request.iter().any(|queued| queued.is_poison) {
            return self.refuse(&request);
        }
        for queued in request {
            let produced = self.kafka().produce(self.name(), self.epoch(), partition, queued.content);
            match produced {
                Ok(()) => self.stored[partition].push_back(queued),
                Err(Fenced) => return self.fence(),
            }
        }
    }

    /// A batch is refused as a whole, and the transaction with it.
    fn refuse(&mut self, request: &[Queued]) {
        self.broken = true;
        for queued in request {
            let error = SinkError::Refused { what: Refusal::Size, reason: "test".into() };
            self.reports.push(Report { sequence: queued.sequence.unwrap(), outcome: Err(error) });
        }
    }

    /// The report on the oldest that is stored in a partition comes in.
    pub(super) fn report(&mut self, partition: usize) {
        if self.broken || self.fenced {
            return;
        }
        let Some(queued) = self.stored[partition].pop_front() else { return };
        if partition != MARKS {
            self.partitions.reported(partition, true, self.now);
        }
        self.transactions.stored(queued.sequence);
        if self.transactions.is_complete() {
            self.transactions.committing();
            self.commit = Commit::OnItsWay;
        }
    }

    /// The coordinator gets the request to commit.
    pub(super) fn commit_arrives(&mut self) {
        if self.commit == Commit::OnItsWay {
            let committed = self.kafka().commit(self.name(), self.epoch());
            self.commit = Commit::Answered(committed);
        }
    }

    /// It refuses to: the producer can only abort.
    pub(super) fn commit_is_refused(&mut self) {
        if self.commit == Commit::OnItsWay {
            self.commit = Commit::NotAsked;
            self.break_now();
        }
    }

    pub(super) fn answer(&mut self) {
        if self.broken || self.fenced {
            return;
        }
        let Commit::Answered(answer) = self.commit else { return };
        self.commit = Commit::NotAsked;
        match answer {
            Ok(()) => {
                self.transactions.committed(&mut self.reports);
                self.which = self.which.other();
                self.partitions.turn_to(self.which);
            }
            Err(Fenced) => self.fence(),
        }
    }

    /// Says so once.
    pub(super) fn break_now(&mut self) {
        if !self.broken && !self.fenced {
            self.broken = true;
            self.reports.push(about_no_record(SinkError::Broken("test".into())));
        }
    }

    fn fence(&mut self) {
        self.fenced = true;
        self.reports.push(about_no_record(SinkError::Fenced("test".into())));
    }

    /// What it had on its way may arrive later, from each partition the first that waits.
    pub(super) fn leave_behind(&mut self) {
        if let Some(name) = self.next_name().filter(|_| self.epochs.iter().any(Option::is_some)) {
            self.kafka().late.push_back((name, 0, Late::Init));
        }
        let (name, Some(epoch)) = (self.name(), self.epochs[self.name()]) else { return };
        let commit = (self.commit == Commit::OnItsWay).then_some(Late::Commit);
        let first = |(partition, queue): (usize, &VecDeque<Queued>)| {
            queue
                .front()
                .filter(|queued| !queued.is_poison)
                .map(|queued| Late::Record(partition, queued.content))
        };
        let late: Vec<_> = self.queued.iter().enumerate().filter_map(first).chain(commit).collect();
        self.kafka().late.extend(late.into_iter().map(|late| (name, epoch, late)));
    }
}

impl Sink for Producer {
    fn send(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<(), SinkError> {
        if self.fenced || !(self.transactions.is_open() || self.transactions.is_ready()) {
            return Err(SinkError::Full);
        }
        if self.broken {
            return Err(SinkError::Broken("test".into()));
        }
        let event = self.events[&sequence];
        let is_dead = record.content == record::Content::DeadLetter;
        let partition = if is_dead { DEAD } else { partition(key(record)) };
        let now = self.now;
        if !self.partitions.admits(partition, NOW_MS, 1, || now) {
            return Err(SinkError::Held(Lane(u32::try_from(partition).unwrap())));
        }
        if self.queued.iter().map(VecDeque::len).sum::<usize>() >= self.room {
            return Err(SinkError::Full);
        }
        let is_poison = !is_dead && self.kafka().refused.contains(&event);
        if is_poison && event % 2 == 0 {
            return Err(SinkError::Refused { what: Refusal::Size, reason: "test".into() });
        }
        if self.transactions.is_ready() {
            self.transactions.begun(now);
        }
        self.partitions.handed_over(partition, NOW_MS, 1);
        self.transactions.handed_over();
        let content = Content::Event(event);
        self.queued[partition].push_back(Queued { sequence: Some(sequence), content, is_poison });
        Ok(())
    }

    fn transaction(&self) -> Transaction {
        self.transactions.state(|| self.now)
    }

    fn close(&mut self, reach: Reach) -> Result<(), SinkError> {
        if self.broken {
            return Err(SinkError::Broken("test".into()));
        }
        if self.fenced || self.queued.iter().map(VecDeque::len).sum::<usize>() >= self.room {
            return Err(SinkError::Full);
        }
        let mark = self.transactions.mark(reach);
        let content = Content::Mark(mark);
        self.queued[MARKS].push_back(Queued { sequence: None, content, is_poison: false });
        self.transactions.closed(mark);
        Ok(())
    }

    fn forget(&mut self) {
        self.transactions.forget();
        // The answer is waited for no more.
        self.leave_behind();
        self.commit = Commit::NotAsked;
        self.identity = None;
        self.own.clear();
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        into.append(&mut self.reports);
    }

    async fn restart(&mut self, batching: Batching, into: &mut Vec<Report>) -> Result<(), SinkError> {
        if self.failing_restarts > 0 {
            self.failing_restarts -= 1;
            return Err(SinkError::Unreachable { brokers: "test".into(), reason: "test".into() });
        }
        self.leave_behind();
        self.transactions.replaced();
        for queue in self.queued.iter_mut().chain(&mut self.stored) {
            queue.clear();
        }
        (self.epochs, self.commit, self.batching) = ([None; 2], Commit::NotAsked, batching);

        self.which = Which::default();
        (self.broken, self.fenced) = (false, false);
        // That a transaction was committed is known once and for all.
        into.extend(self.reports.drain(..).filter(|report| report.outcome.is_ok()));
        self.partitions.reset(if batching == Batching::OneByOne { Group::ALONE } else { GROUP });
        Ok(())
    }
}

fn key(record: &Record<'_>) -> i64 {
    std::str::from_utf8(record.key.unwrap()).unwrap().parse().unwrap()
}

pub(super) fn partition(key: i64) -> usize {
    usize::try_from(key).unwrap() % PARTITIONS
}
