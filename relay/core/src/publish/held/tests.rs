//! Topics that are not there, as it seems: their records are held, and become dead letters or are published when that is
//! known. A topic for each key, so that order per key is order per topic.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use crate::event::record::{Content, Record};
use crate::event::render::Renderer;
use crate::event::{Plan, Position, fixture};
use crate::lsn::Lsn;
use crate::publish::Publisher;
use crate::publish::sink::{Batching, Lane, Refusal, Report, Sink, SinkError};
use crate::window::progress::Sequence;

const TOPICS: usize = 3;

/// A topic takes so many records until one is reported.
const IN_FLIGHT_MAX: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A row for this topic is read.
    Row(usize),
    /// The topic is gone, as it seems.
    Vanish(usize),
    /// It is there.
    Find(usize),
    /// It is sure not to be, for rows that came until now.
    GiveUp(usize),
    /// So many records are reported.
    Report(usize),
    /// The queue has room for so many.
    Room(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..TOPICS).prop_map(Step::Row),
        1 => (0..TOPICS).prop_map(Step::Vanish),
        1 => (0..TOPICS).prop_map(Step::Find),
        2 => (0..TOPICS).prop_map(Step::GiveUp),
        4 => (1usize..6).prop_map(Step::Report),
        1 => (1usize..6).prop_map(Step::Room),
    ];
    prop::collection::vec(step, 1..150)
}

#[derive(Debug, Default)]
struct Topic {
    is_missing: bool,
    newest: Option<Sequence>,
    sure: Option<Sequence>,
    in_flight: usize,
    log: Vec<u64>,
    letters: Vec<u64>,
}

struct Kafka {
    topics: [Topic; TOPICS],
    queue: VecDeque<(Sequence, Option<usize>)>,
    room: usize,
    reports: Vec<Report>,
}

impl Kafka {
    fn take(&mut self, sequence: Sequence, topic: Option<usize>) -> Result<(), SinkError> {
        if self.queue.len() >= self.room {
            return Err(SinkError::Full);
        }
        self.queue.push_back((sequence, topic));
        Ok(())
    }

    fn report(&mut self, count: usize) {
        for _ in 0..count {
            let Some((sequence, topic)) = self.queue.pop_front() else { return };
            if let Some(topic) = topic {
                self.topics[topic].in_flight -= 1;
            }
            self.reports.push(Report { sequence, outcome: Ok(()) });
        }
    }

    fn event(&mut self, sequence: Sequence, at: usize, id: u64) -> Result<(), SinkError> {
        let topic = &mut self.topics[at];
        if topic.is_missing {
            topic.newest = topic.newest.max(Some(sequence));
            return Err(match Some(sequence) <= topic.sure {
                true => SinkError::Refused { what: Refusal::Other, reason: "no such topic".into() },
                false => SinkError::Held(Lane(100 + u32::try_from(at).unwrap())),
            });
        }
        if topic.in_flight >= IN_FLIGHT_MAX {
            return Err(SinkError::Held(Lane(u32::try_from(at).unwrap())));
        }
        self.take(sequence, Some(at))?;
        self.topics[at].in_flight += 1;
        self.topics[at].log.push(id);
        Ok(())
    }
}

impl Sink for Kafka {
    fn send(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<(), SinkError> {
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap();
        let at = usize::try_from(number(record.key.unwrap())).unwrap();
        let id = number(record.headers.get("wal-seq").unwrap());
        match record.content {
            Content::Event => self.event(sequence, at, id),
            Content::DeadLetter => {
                self.take(sequence, None)?;
                self.topics[at].letters.push(id);
                Ok(())
            }
        }
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        into.append(&mut self.reports);
    }

    async fn restart(&mut self, _batching: Batching, _into: &mut Vec<Report>) -> Result<(), SinkError> {
        unreachable!("nothing breaks the producer")
    }
}

struct Case {
    publisher: Publisher<Kafka>,
    plan: Arc<Plan>,
    /// The rows of each topic.
    rows: [Vec<u64>; TOPICS],
    next: u64,
}

impl Case {
    fn new() -> Self {
        let kafka =
            Kafka { topics: Default::default(), queue: VecDeque::new(), room: 4, reports: Vec::new() };
        let renderer = Renderer::new(Some("letters".into()));
        let publisher = Publisher::new(renderer, kafka).with_dead_letters();
        Self { publisher, plan: Arc::new(fixture::plan()), rows: Default::default(), next: 0 }
    }

    async fn step(&mut self, step: Step) {
        let sink = &mut self.publisher.sink;
        match step {
            Step::Row(topic) => self.row(topic),
            Step::Vanish(topic) => sink.topics[topic].is_missing = true,
            Step::Find(topic) => sink.topics[topic].is_missing = false,
            Step::GiveUp(topic) => sink.topics[topic].sure = sink.topics[topic].newest,
            Step::Report(count) => sink.report(count),
            Step::Room(room) => sink.room = room,
        }
        self.publisher.wait().await;
        self.publisher.process_reports().await.unwrap();
        self.check();
    }

    fn row(&mut self, topic: usize) {
        let position = Position { lsn: Lsn(1), ordinal: self.next, committed_at: 0 };
        let row = fixture::placed(&self.plan, 1, &topic.to_string(), position);
        self.publisher.progress.push(row.into(), 10);
        self.rows[topic].push(self.next);
        self.next += 1;
    }

    /// No row comes twice or out of its order, in its topic or among the letters.
    fn check(&self) {
        for (topic, rows) in self.publisher.sink.topics.iter().zip(&self.rows) {
            for seen in [&topic.log, &topic.letters] {
                assert!(seen.is_sorted_by(|one, next| one < next), "{topic:?}");
            }
            let seen = topic.log.len() + topic.letters.len();
            let mut all = [&topic.log[..], &topic.letters].concat();
            all.sort_unstable();
            assert_eq!(all, rows[..seen], "a row was passed over: {topic:?}");
        }
    }

    async fn settle(&mut self) {
        self.step(Step::Room(9)).await;
        for _ in 0..=self.next {
            self.step(Step::Report(9)).await;
        }
    }

    /// Every row of the topic came.
    fn is_done(&self, at: usize) -> bool {
        let topic = &self.publisher.sink.topics[at];
        topic.log.len() + topic.letters.len() == self.rows[at].len()
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn rows_of_missing_topics_keep_their_order_hold_up_no_other_topic_and_none_is_lost(steps in steps()) {
        block_on(async {
            let mut case = Case::new();
            for step in steps {
                case.step(step).await;
            }
            case.settle().await;
            for topic in 0..TOPICS {
                prop_assert!(case.is_done(topic) || case.publisher.sink.topics[topic].is_missing, "topic {} is held up", topic);
            }
            for topic in 0..TOPICS {
                case.step(Step::GiveUp(topic)).await;
            }
            case.settle().await;
            prop_assert!((0..TOPICS).all(|topic| case.is_done(topic)));
            prop_assert_eq!(case.publisher.progress.records(), 0);
            Ok(())
        })?;
    }
}
