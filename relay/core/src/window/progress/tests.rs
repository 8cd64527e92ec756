#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;

/// Reads a transaction of `events` events as the relay does and returns the sequences pushed for it.
fn read(progress: &mut Progress<u64>, commit: u64, events: u64, end: u64) -> Vec<Sequence> {
    progress.begin(Lsn(commit)).unwrap();
    let mut pushed = Vec::new();
    for id in 0..events {
        if let Some(ordinal) = progress.admit().unwrap() {
            pushed.push(progress.push_event(ordinal, commit * 1000 + id, 10).unwrap());
        }
    }
    progress.commit(Lsn(end)).unwrap();
    pushed
}

#[test]
fn a_commit_is_confirmable_once_all_its_records_and_all_earlier_ones_are_acknowledged() {
    let mut progress = Progress::default();
    let first = read(&mut progress, 10, 2, 20);
    let second = read(&mut progress, 30, 1, 40);
    progress.acknowledge(second[0]).unwrap();
    progress.acknowledge(first[1]).unwrap();
    assert_eq!(progress.confirmable(), Lsn::ZERO);
    progress.acknowledge(first[0]).unwrap();
    assert_eq!(progress.confirmable(), Lsn(40));
    assert_eq!((progress.records(), progress.bytes()), (0, 0));
}

#[test]
fn a_keepalive_counts_between_transactions_only() {
    let mut progress = Progress::default();
    progress.keepalive(Lsn(5)).unwrap();
    assert_eq!(progress.confirmable(), Lsn(5));
    progress.begin(Lsn(10)).unwrap();
    progress.keepalive(Lsn(50)).unwrap();
    assert_eq!(progress.confirmable(), Lsn(5));
    let ordinal = progress.admit().unwrap().unwrap();
    let sequence = progress.push_event(ordinal, 1, 1).unwrap();
    progress.commit(Lsn(20)).unwrap();
    progress.keepalive(Lsn(60)).unwrap();
    assert_eq!(progress.confirmable(), Lsn(5), "an earlier record is in flight");
    progress.acknowledge(sequence).unwrap();
    assert_eq!(progress.confirmable(), Lsn(60));
}

#[test]
fn a_reconnect_repeats_nothing_that_was_pushed() {
    let mut progress = Progress::default();
    let whole = read(&mut progress, 10, 2, 20);
    progress.begin(Lsn(30)).unwrap();
    let ordinal = progress.admit().unwrap().unwrap();
    progress.push_event(ordinal, 1, 1).unwrap();
    assert_eq!(progress.admit().unwrap(), Some(1), "admitted, not pushed: it must come again");

    progress.connected();
    assert!(read(&mut progress, 10, 2, 20).is_empty());
    assert_eq!(read(&mut progress, 30, 3, 40), [3, 4], "the pushed one is passed over");
    for sequence in whole.into_iter().chain([2, 3, 4]) {
        progress.acknowledge(sequence).unwrap();
    }
    assert_eq!(progress.confirmable(), Lsn(40));
}

#[test]
fn nothing_above_what_this_connection_was_sent_is_confirmable() {
    let mut progress = Progress::default();
    for sequence in read(&mut progress, 10, 1, 20) {
        progress.acknowledge(sequence).unwrap();
    }
    progress.connected();
    assert_eq!(progress.confirmable(), Lsn::ZERO);
    progress.keepalive(Lsn(15)).unwrap();
    assert_eq!(progress.confirmable(), Lsn(15));
    progress.keepalive(Lsn(25)).unwrap();
    assert_eq!(progress.confirmable(), Lsn(25));
}

#[test]
fn a_transaction_that_was_partly_published_may_not_vanish() {
    let mut progress = Progress::default();
    progress.begin(Lsn(10)).unwrap();
    let ordinal = progress.admit().unwrap().unwrap();
    progress.push_event(ordinal, 1, 1).unwrap();
    progress.connected();
    assert_eq!(progress.begin(Lsn(30)), Err(ProgressError::TransactionVanished { vanished: Lsn(10) }));
}

#[test]
fn another_timeline_starts_afresh_and_late_reports_are_ignored() {
    let mut progress = Progress::default();
    let old = read(&mut progress, 10, 2, 20);
    progress.forget();
    progress.connected();
    let new = read(&mut progress, 10, 1, 20);
    for sequence in old {
        progress.acknowledge(sequence).unwrap();
    }
    assert_eq!(progress.confirmable(), Lsn::ZERO);
    progress.acknowledge(new[0]).unwrap();
    assert_eq!(progress.confirmable(), Lsn(20));
}

#[test]
fn what_does_not_belong_is_an_error() {
    let mut progress = Progress::<u64>::default();
    assert!(progress.admit().is_err());
    assert!(progress.commit(Lsn(1)).is_err());
    assert_eq!(progress.acknowledge(0), Err(ProgressError::UnknownRecord(0)));
    progress.begin(Lsn(1)).unwrap();
    assert!(progress.begin(Lsn(2)).is_err());
}

/// What the stream holds: transactions of some events, with gaps in which a keepalive may point.
#[derive(Debug, Clone)]
struct Transaction {
    commit: u64,
    end: u64,
    events: u64,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Read on by one message of the stream.
    Read,
    Keepalive,
    /// Acknowledge one of those in flight, chosen by this number.
    Acknowledge(usize),
    /// The connection breaks; the next stream begins at any commit that is confirmed, or after.
    Reconnect,
}

fn transactions() -> impl Strategy<Value = Vec<Transaction>> {
    prop::collection::vec((1u64..50, 1u64..50, 0u64..6), 1..20).prop_map(|shapes| {
        let mut at = 0;
        let next = |(gap, length, events)| {
            let commit = at + gap;
            at = commit + length;
            Transaction { commit, end: at, events }
        };
        shapes.into_iter().map(next).collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Read),
        1 => Just(Step::Keepalive),
        5 => any::<usize>().prop_map(Step::Acknowledge),
        1 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 0..300)
}

/// A stream, the records pushed from it, and what is acknowledged: the plainest bookkeeping there is.
struct Model {
    stream: Vec<Transaction>,
    progress: Progress<(usize, u64)>,
    /// Transaction that is read next or being read, and the events of it that were read on this connection.
    at: usize,
    inside: Option<u64>,
    /// Of every record ever pushed, in order: its event and whether it is acknowledged.
    pushed: Vec<((usize, u64), bool)>,
    confirmed: Lsn,
    sent: u64,
}

impl Model {
    fn new(stream: Vec<Transaction>) -> Self {
        let progress = Progress::default();
        Self { stream, progress, at: 0, inside: None, pushed: Vec::new(), confirmed: Lsn::ZERO, sent: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Read => self.read(),
            Step::Keepalive => self.keepalive(),
            Step::Acknowledge(choice) => self.acknowledge(choice),
            Step::Reconnect => self.reconnect(),
        }
        self.check();
    }

    fn read(&mut self) {
        let Some(transaction) = self.stream.get(self.at).cloned() else { return };
        match self.inside {
            None => {
                self.progress.begin(Lsn(transaction.commit)).unwrap();
                self.inside = Some(0);
            }
            Some(read) if read < transaction.events => {
                if let Some(ordinal) = self.progress.admit().unwrap() {
                    assert_eq!(ordinal, read);
                    let event = (self.at, read);
                    let sequence = self.progress.push_event(ordinal, event, 7).unwrap();
                    assert_eq!(sequence, self.pushed.len() as u64);
                    self.pushed.push((event, false));
                }
                self.inside = Some(read + 1);
            }
            Some(_) => {
                self.progress.commit(Lsn(transaction.end)).unwrap();
                self.sent = self.sent.max(transaction.end);
                self.inside = None;
                self.at += 1;
            }
        }
    }

    /// The server points as far as it has sent: to the next transaction's commit at the most.
    fn keepalive(&mut self) {
        let before = self.at.checked_sub(1).map_or(0, |last| self.stream[last].end);
        let next = self.stream.get(self.at).map_or(before + 3, |next| next.commit);
        self.progress.keepalive(Lsn(next)).unwrap();
        let partly_read = self.progress.received != Received { whole: true, ..self.progress.received };
        if self.inside.is_none() && !partly_read {
            self.sent = self.sent.max(next);
        }
    }

    fn acknowledge(&mut self, choice: usize) {
        let open: Vec<_> = (0..self.pushed.len()).filter(|&index| !self.pushed[index].1).collect();
        if open.is_empty() {
            return;
        }
        let index = open[choice % open.len()];
        self.pushed[index].1 = true;
        self.progress.acknowledge(index as u64).unwrap();
    }

    /// Postgres sends again from any point that was confirmed, or an earlier one (F2).
    fn reconnect(&mut self) {
        let confirmed = self.stream.iter().take_while(|one| Lsn(one.end) <= self.confirmed).count();
        self.at = confirmed / 2;
        self.inside = None;
        self.sent = 0;
        self.progress.connected();
    }

    fn check(&mut self) {
        let confirmable = self.progress.confirmable();
        assert!(confirmable.0 <= self.sent, "confirmable {confirmable} above what was sent, {}", self.sent);
        let acknowledged = |event| self.pushed.iter().any(|(pushed, done)| *pushed == event && *done);
        for (index, transaction) in self.stream.iter().enumerate() {
            if transaction.end <= confirmable.0 {
                for event in 0..transaction.events {
                    assert!(
                        acknowledged((index, event)),
                        "event {event} of {transaction:?} at {confirmable}"
                    );
                }
            }
        }
        let in_flight = self.pushed.iter().skip_while(|(_, done)| *done).count();
        assert_eq!(self.progress.records(), in_flight);
        assert_eq!(self.progress.bytes(), in_flight * 7);
        self.confirmed = self.confirmed.max(confirmable);
    }

    /// Reads to the end of the stream and acknowledges all.
    fn finish(&mut self) {
        while self.at < self.stream.len() {
            self.read();
        }
        while self.pushed.iter().any(|(_, done)| !done) {
            self.acknowledge(0);
        }
        self.check();
    }
}

proptest! {
    #[test]
    fn only_what_is_wholly_acknowledged_and_sent_is_ever_confirmable(
        stream in transactions(),
        steps in steps(),
    ) {
        let mut model = Model::new(stream);
        steps.into_iter().for_each(|step| model.step(step));
    }

    #[test]
    fn every_event_is_pushed_exactly_once_in_stream_order_whatever_breaks(
        stream in transactions(),
        steps in steps(),
    ) {
        let mut model = Model::new(stream);
        steps.into_iter().for_each(|step| model.step(step));
        model.finish();
        let expected: Vec<_> = model.stream.iter().enumerate()
            .flat_map(|(index, one)| (0..one.events).map(move |event| (index, event)))
            .collect();
        let pushed: Vec<_> = model.pushed.iter().map(|(event, _)| *event).collect();
        prop_assert_eq!(pushed, expected);
        // A keepalive may have pointed beyond the last commit.
        prop_assert!(model.progress.confirmable() >= Lsn(model.stream.last().unwrap().end));
    }
}
