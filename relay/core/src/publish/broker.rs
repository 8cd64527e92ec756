//! A broker and a client library as they really are, at their worst, for the property test of the publisher.
//!
//! The broker knows the sequence numbers of a producer on a partition only once it has stored a request of it there, and
//! forgets them when the producer has been quiet, and at any moment where its last records were old; where it knows
//! nothing it accepts any. The library has several
//! requests in flight on a partition, tries again what was refused for a moment, bumps its epoch when a request was out
//! of order, and takes the success of a later request for that of earlier ones: without an offset, which is how the
//! sink tells them apart. Requests that a replaced producer had on their way may still arrive.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::event::record::Record;
use crate::publish::partitions::{Group, Partitions};
use crate::publish::sink::{Batching, Lane, Refusal, Report, Sink, SinkError};
use crate::window::progress::Sequence;

pub(super) const PARTITIONS: usize = 2;

/// `RD_KAFKA_IDEMP_MAX_INFLIGHT`: another request goes out while fewer *records* are in flight.
const IN_FLIGHT_MAX: usize = 5;

/// The time of young records; old ones have [`OLD_MS`].
pub(super) const NOW_MS: i64 = 1_800_000_000_000;
pub(super) const OLD_MS: i64 = 1_000;

/// Three records of the usual size fit by number, and two by bytes where one of them is large.
const GROUP: Group = Group { records: 3, bytes: 1_000 };

/// A record as it goes over the wire, whole: a repeat is the same byte by byte.
pub(super) type Wire = Vec<u8>;

pub(super) fn wire(record: &Record<'_>) -> Wire {
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    let mut bytes = [key, b"|", value, b"|", &record.timestamp_ms.to_be_bytes()].concat();
    for (name, value) in record.headers.iter() {
        bytes.extend([name.as_bytes(), b"=", value.unwrap_or_default(), b"|"].concat());
    }
    bytes
}

pub(super) fn partition(key: i64) -> usize {
    usize::try_from(key).unwrap() % PARTITIONS
}

/// How the last event of the log is no good, if it is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Poison {
    None,
    /// The client refuses it.
    AtSend,
    /// The broker refuses it, and the producer delivers nothing behind it.
    AtDelivery,
    /// It does not fit the format.
    InFormat,
}

/// What the broker says to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answer {
    /// It stores it, where the sequence number is right or not known.
    Fair,
    /// It does not lead the partition, for a moment: nothing is stored.
    NotLeader,
    /// A request of several records is too large; one of a single record is not.
    TooLarge,
}

#[derive(Debug, Clone)]
struct Queued {
    sequence: Sequence,
    record: Wire,
    /// When it was handed over.
    at: Instant,
}

#[derive(Debug, Clone)]
struct Request {
    producer: u32,
    epoch: u32,
    first: u64,
    records: Vec<Queued>,
}

/// What the broker knows of a producer on a partition.
#[derive(Debug, Clone, Copy)]
struct Known {
    epoch: u32,
    /// The next sequence number.
    next: u64,
    /// The last request had old records only.
    is_old: bool,
}

/// What a producer has of a partition.
#[derive(Debug, Default)]
struct Outgoing {
    queue: VecDeque<Queued>,
    in_flight: VecDeque<Request>,
    /// The sequence number of the next record that goes into a request.
    next: u64,
    /// Nothing goes out until what is in flight is answered.
    draining: bool,
}

impl Outgoing {
    fn records_in_flight(&self) -> usize {
        self.in_flight.iter().map(|request| request.records.len()).sum()
    }

    /// How many records go out where so many might: what is handed over at once shares a request, as far as one
    /// takes it, since the library waits for more.
    fn sharing(&self, records: usize, most: u32) -> usize {
        let mut records = records.min(self.queue.len());
        while (1..most as usize).contains(&records)
            && self.queue.get(records).is_some_and(|next| next.at == self.queue[records - 1].at)
        {
            records += 1;
        }
        records
    }

    /// What was not stored goes again, in its order.
    fn retry(&mut self, request: Request) {
        self.next = self.next.min(request.first);
        self.queue.extend(request.records);
        self.queue.make_contiguous().sort_by_key(|queued| queued.sequence);
        self.draining = true;
    }
}

pub(super) struct Broker {
    pub(super) room: usize,
    pub(super) poison: Option<(Poison, Wire)>,
    pub(super) log: Vec<Vec<Wire>>,
    pub(super) failing_restarts: usize,
    producer: u32,
    epoch: u32,
    bumps: bool,
    outgoing: Vec<Outgoing>,
    /// Requests of replaced producers that are still on their way.
    late: Vec<VecDeque<Request>>,
    /// By producer and partition.
    known: HashMap<(u32, usize), Known>,
    /// Records with an old timestamp.
    old: HashSet<Sequence>,
    partitions: Partitions,
    /// Where each record went.
    placed: HashMap<Sequence, usize>,
    now: Instant,
    unreported: Vec<Sequence>,
    reports: Vec<Report>,
    /// Reports that the broken producer still gives back.
    left: Vec<Report>,
    /// Given to the publisher as acknowledged: never sent again.
    answered: Vec<Sequence>,
    broken: bool,
}

fn broken(sequence: Sequence) -> Report {
    Report { sequence, outcome: Err(SinkError::Broken("test".into())) }
}

impl Broker {
    pub(super) fn new() -> Self {
        let outgoing = (0..PARTITIONS).map(|_| Outgoing::default()).collect();
        let mut partitions = Partitions::new(PARTITIONS, GROUP);
        partitions.set_time(NOW_MS);
        Self {
            room: 4,
            poison: None,
            log: vec![Vec::new(); PARTITIONS],
            failing_restarts: 0,
            producer: 0,
            epoch: 0,
            bumps: false,
            outgoing,
            late: vec![VecDeque::new(); PARTITIONS],
            known: HashMap::new(),
            old: HashSet::new(),
            partitions,
            placed: HashMap::new(),
            now: Instant::now(),
            unreported: Vec::new(),
            reports: Vec::new(),
            left: Vec::new(),
            answered: Vec::new(),
            broken: false,
        }
    }

    /// Longer passes than a group is open, and than the library waits for more.
    pub(super) fn tick(&mut self) {
        self.now += Duration::from_millis(1);
    }

    /// The library sends a request of so many records, if it may.
    pub(super) fn request(&mut self, partition: usize, records: usize, batching: Batching) {
        let records = if batching == Batching::OneByOne { 1 } else { records };
        let outgoing = &mut self.outgoing[partition];
        outgoing.draining &= !outgoing.in_flight.is_empty();
        if self.broken || self.bumps || outgoing.draining || outgoing.records_in_flight() >= IN_FLIGHT_MAX {
            return;
        }
        let records =
            outgoing.sharing(records, if batching == Batching::OneByOne { 1 } else { GROUP.records });
        let records: Vec<_> = outgoing.queue.drain(..records).collect();
        if !records.is_empty() {
            let first = outgoing.next;
            outgoing.next += records.len() as u64;
            let (producer, epoch) = (self.producer, self.epoch);
            outgoing.in_flight.push_back(Request { producer, epoch, first, records });
        }
    }

    /// The broker answers the oldest request on a partition.
    pub(super) fn answer(&mut self, partition: usize, answer: Answer) {
        let Some(request) = self.outgoing[partition].in_flight.pop_front() else { return };
        let is_poisoned =
            request.records.iter().any(|queued| self.is_poison(Poison::AtDelivery, &queued.record));
        if answer == Answer::NotLeader {
            self.retry(partition, request);
        } else if is_poisoned || (answer == Answer::TooLarge && request.records.len() > 1) {
            self.refuse(&request);
        } else if self.store(partition, &request) {
            self.succeed(partition, &request);
        } else {
            self.retry(partition, request);
            self.bumps = true;
        }
        self.bump();
    }

    /// A producer that is broken tries nothing again.
    fn retry(&mut self, partition: usize, request: Request) {
        if self.broken {
            self.reports.extend(request.records.iter().map(|queued| broken(queued.sequence)));
        } else {
            self.outgoing[partition].retry(request);
        }
    }

    /// A request of a producer that was replaced arrives.
    pub(super) fn arrive_late(&mut self, partition: usize) {
        let Some(request) = self.late[partition].pop_front() else { return };
        if !request.records.iter().any(|queued| self.is_poison(Poison::AtDelivery, &queued.record)) {
            self.store(partition, &request);
        }
    }

    /// Nothing happens for so long that brokers forget the producers of idle partitions: for longer than a request and
    /// its report are under way.
    pub(super) fn be_quiet(&mut self) {
        self.now += Duration::from_secs(1);
        let reports =
            self.reports.iter().map(|report| report.sequence).chain(self.unreported.iter().copied());
        let reports: Vec<_> = reports.map(|sequence| self.placed[&sequence]).collect();
        let idle = |partition: usize| {
            self.outgoing[partition].in_flight.is_empty()
                && self.outgoing[partition].queue.is_empty()
                && self.late[partition].is_empty()
                && !reports.contains(&partition)
        };
        let forgotten: Vec<_> = (0..PARTITIONS).filter(|partition| idle(*partition)).collect();
        self.known.retain(|(_, partition), _| !forgotten.contains(partition));
    }

    /// The broker looks for producers whose last records are old, or restarts: it forgets them.
    pub(super) fn sweep(&mut self) {
        self.known.retain(|_, known| !known.is_old);
    }

    /// `ProducerAppendInfo.checkSequence`.
    fn store(&mut self, partition: usize, request: &Request) -> bool {
        let known = self.known.get(&(request.producer, partition));
        let is_in_order = known.is_none_or(|known| match request.epoch.cmp(&known.epoch) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => request.first == known.next,
            std::cmp::Ordering::Greater => request.first == 0,
        });
        if is_in_order {
            let next = request.first + request.records.len() as u64;
            let is_old = request.records.iter().all(|queued| self.old.contains(&queued.sequence));
            let known = Known { epoch: request.epoch, next, is_old };
            self.known.insert((request.producer, partition), known);
            self.log[partition].extend(request.records.iter().map(|queued| queued.record.clone()));
        }
        is_in_order
    }

    /// `rd_kafka_handle_idempotent_Produce_success`: what was refused before is taken for stored, too.
    fn succeed(&mut self, partition: usize, request: &Request) {
        let last = request.records.last().unwrap().sequence;
        let queue = &mut self.outgoing[partition].queue;
        while queue.front().is_some_and(|queued| queued.sequence < last) {
            let sequence = queue.pop_front().unwrap().sequence;
            // Without an offset.
            self.reports.push(broken(sequence));
        }
        self.unreported.extend(request.records.iter().map(|queued| queued.sequence));
    }

    /// A permanent error: the producer is fatal, and gives back what it has not sent.
    fn refuse(&mut self, request: &Request) {
        self.broken = true;
        for queued in &request.records {
            let error = SinkError::Refused { what: Refusal::Size, reason: "test".into() };
            self.reports.push(Report { sequence: queued.sequence, outcome: Err(error) });
        }
        let queued = self.outgoing.iter_mut().flat_map(|outgoing| outgoing.queue.drain(..));
        self.reports.extend(queued.map(|queued| broken(queued.sequence)));
    }

    fn bump(&mut self) {
        if self.bumps && self.outgoing.iter().all(|outgoing| outgoing.in_flight.is_empty()) {
            self.bumps = false;
            self.epoch += 1;
            self.outgoing.iter_mut().for_each(|outgoing| outgoing.next = 0);
        }
    }

    pub(super) fn is_poison(&self, kind: Poison, record: &Wire) -> bool {
        self.poison.as_ref().is_some_and(|poison| poison.0 == kind && poison.1 == *record)
    }

    pub(super) fn report(&mut self, choice: usize) {
        if !self.unreported.is_empty() {
            let sequence = self.unreported.remove(choice % self.unreported.len());
            self.reports.push(Report { sequence, outcome: Ok(()) });
        }
    }

    pub(super) fn report_all(&mut self) {
        while !self.unreported.is_empty() {
            self.report(0);
        }
    }

    /// A producer that breaks gives back what it holds: it says so for what waited, and for what it has no answer to;
    /// some answers come only as it is replaced. Where it held nothing it says so to the next record.
    pub(super) fn break_now(&mut self, kept: usize) {
        self.broken = true;
        let mut unreported = std::mem::take(&mut self.unreported);
        let unanswered = unreported.split_off(kept % (unreported.len() + 1));
        let waiting: Vec<_> =
            self.outgoing.iter_mut().flat_map(|outgoing| outgoing.queue.drain(..)).collect();
        let waiting = waiting.into_iter().map(|queued| queued.sequence);
        let before = self.reports.len();
        self.reports.extend(unanswered.into_iter().chain(waiting).map(broken));
        let answered = unreported.into_iter().map(|sequence| Report { sequence, outcome: Ok(()) });
        let into = if self.reports.len() > before { &mut self.left } else { &mut self.reports };
        into.extend(answered);
    }

    fn hand_over(&mut self, reports: Vec<Report>, into: &mut Vec<Report>) {
        let acknowledged = reports.iter().filter(|report| report.outcome.is_ok());
        self.answered.extend(acknowledged.map(|report| report.sequence));
        into.extend(reports);
    }
}

impl Sink for Broker {
    fn send(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<(), SinkError> {
        assert!(!self.answered.contains(&sequence), "record {sequence} is acknowledged and sent again");
        let bytes = wire(record);
        let key: i64 = std::str::from_utf8(record.key.unwrap()).unwrap().parse().unwrap();
        let partition = partition(key);
        let now = self.now;
        if !self.partitions.admits(partition, record.timestamp_ms, bytes.len(), || now) {
            return Err(SinkError::Held(Lane(u32::try_from(partition).unwrap())));
        }
        if self.broken {
            return Err(SinkError::Broken("test".into()));
        }
        if self.is_poison(Poison::AtSend, &bytes) {
            return Err(SinkError::Refused { what: Refusal::Size, reason: "test".into() });
        }
        if self.outgoing.iter().map(|outgoing| outgoing.queue.len()).sum::<usize>() >= self.room {
            return Err(SinkError::Full);
        }
        self.partitions.handed_over(partition, record.timestamp_ms, bytes.len());
        if record.timestamp_ms == OLD_MS {
            self.old.insert(sequence);
        }
        self.placed.insert(sequence, partition);
        self.outgoing[partition].queue.push_back(Queued { sequence, record: bytes, at: now });
        Ok(())
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        let reports = std::mem::take(&mut self.reports);
        for report in &reports {
            let partition = self.placed[&report.sequence];
            self.partitions.reported(partition, report.outcome.is_ok(), self.now);
        }
        self.hand_over(reports, into);
    }

    async fn restart(&mut self, batching: Batching, into: &mut Vec<Report>) -> Result<(), SinkError> {
        if self.failing_restarts > 0 {
            self.failing_restarts -= 1;
            return Err(SinkError::Unreachable { brokers: "test".into(), reason: "test".into() });
        }
        for (outgoing, late) in self.outgoing.iter_mut().zip(&mut self.late) {
            late.extend(std::mem::take(outgoing).in_flight);
        }
        (self.producer, self.epoch, self.bumps) = (self.producer + 1, 0, false);
        self.partitions.reset(if batching == Batching::OneByOne { Group::ALONE } else { GROUP });
        self.unreported.clear();
        self.reports.clear();
        let left = std::mem::take(&mut self.left);
        self.hand_over(left, into);
        self.broken = false;
        Ok(())
    }
}
