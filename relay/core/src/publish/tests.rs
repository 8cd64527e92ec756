#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::event::record::Record;
use crate::event::{Plan, Position, fixture};
use crate::lsn::Lsn;
use crate::publish::sink::Refusal;

/// What may befall the broker, a step at a time.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Another event is read.
    Event,
    /// The broker appends the oldest records of the queue, and reports so many of them.
    Deliver { appended: usize, reported: usize },
    /// The producer breaks: what is queued is given back, whatever had been appended.
    Break,
}

/// One partition behind an idempotent producer: it appends in order; a report may be lost with the producer.
#[derive(Default)]
struct Broker {
    room: usize,
    queue: VecDeque<(Sequence, Vec<u8>)>,
    appended: VecDeque<Sequence>,
    log: Vec<Vec<u8>>,
    reports: Vec<Report>,
    broken: bool,
    /// This record, and none other, is for a topic that is not there.
    missing: Option<Sequence>,
}

impl Sink for Broker {
    fn send(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<(), SinkError> {
        if self.broken {
            return Err(SinkError::Broken("test".into()));
        }
        if self.missing == Some(sequence) {
            return Err(SinkError::TopicMissing { topic: "t".into(), brokers: "b:1".into() });
        }
        if self.queue.len() >= self.room {
            return Err(SinkError::Full);
        }
        self.queue.push_back((sequence, record.value.unwrap().to_vec()));
        Ok(())
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        into.append(&mut self.reports);
    }

    async fn restart(&mut self, _batching: Batching, _into: &mut Vec<Report>) -> Result<(), SinkError> {
        self.queue.clear();
        self.appended.clear();
        self.broken = false;
        Ok(())
    }
}

impl Broker {
    fn append(&mut self, count: usize) {
        for _ in 0..count {
            let Some((sequence, value)) = self.queue.pop_front() else { return };
            self.log.push(value);
            self.appended.push_back(sequence);
        }
    }

    fn report(&mut self, count: usize) {
        for _ in 0..count {
            let Some(sequence) = self.appended.pop_front() else { return };
            self.reports.push(Report { sequence, outcome: Ok(()) });
        }
    }

    /// A producer that breaks says so in its reports, and, where it holds nothing, to the next record.
    fn fail(&mut self) {
        self.broken = true;
        if let Some((sequence, _)) = self.queue.front() {
            self.reports.push(Report { sequence: *sequence, outcome: Err(SinkError::Broken("test".into())) });
        }
    }
}

thread_local! {
    static PLAN: Arc<Plan> = Arc::new(fixture::plan());
}

fn event(id: i64) -> Entry {
    let position = Position { lsn: Lsn(1), ordinal: id.unsigned_abs(), committed_at: 0 };
    PLAN.with(|plan| fixture::placed(plan, id, "1", position)).into()
}

fn publisher(room: usize) -> Publisher<Broker> {
    Publisher::new(Renderer::default(), Broker { room, ..Broker::default() })
}

async fn take(publisher: &mut Publisher<Broker>) {
    publisher.wait().await;
    match publisher.process_reports().await {
        Ok(()) => {}
        // The relay's next session begins so.
        Err(PublishError::InVain(..)) => publisher.send().unwrap(),
        Err(error) => panic!("{error}"),
    }
}

async fn step(publisher: &mut Publisher<Broker>, id: &mut i64, step: Step) {
    match step {
        Step::Event => {
            *id += 1;
            publisher.progress.push(event(*id), 10);
            publisher.send().unwrap();
        }
        Step::Deliver { appended, reported } => {
            publisher.sink.append(appended);
            publisher.sink.report(reported);
            take(publisher).await;
        }
        Step::Break => {
            publisher.sink.fail();
            take(publisher).await;
        }
    }
}

/// The log without what was seen before.
fn first_appearances(log: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    for value in log {
        if !seen.contains(value) {
            seen.push(value.clone());
        }
    }
    seen
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => Just(Step::Event),
        4 => (0usize..5, 0usize..5).prop_map(|(appended, reported)| Step::Deliver { appended, reported }),
        1 => Just(Step::Break),
    ];
    prop::collection::vec(step, 1..120)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn every_event_first_appears_in_order_whatever_the_queue_and_the_producer_do(
        steps in steps(),
        room in 1usize..6,
    ) {
        block_on(async {
            let mut publisher = publisher(room);
            let mut id = 0;
            for one in steps {
                step(&mut publisher, &mut id, one).await;
            }
            for _ in 0..200 {
                if publisher.progress.records() == 0 {
                    break;
                }
                step(&mut publisher, &mut id, Step::Deliver { appended: 9, reported: 9 }).await;
            }
            let mut renderer = Renderer::default();
            let value = |id| renderer.render_entry(&event(id)).unwrap().value.unwrap().to_vec();
            let expected: Vec<_> = (1..=id).map(value).collect();
            assert_eq!(first_appearances(&publisher.sink.log), expected);
            assert!(publisher.is_caught_up());
        });
    }
}

/// Kafka refuses a record, in a batch with another or alone; returns what comes of it.
fn refuse(publisher: &mut Publisher<Broker>, sequences: &[Sequence]) -> Result<(), PublishError> {
    publisher.sink.queue.clear();
    for sequence in sequences {
        let outcome = Err(SinkError::Refused { what: Refusal::Size, reason: "MessageSizeTooLarge".into() });
        publisher.sink.reports.push(Report { sequence: *sequence, outcome });
    }
    block_on(async {
        publisher.wait().await;
        publisher.process_reports().await
    })
}

#[test]
fn a_refused_batch_is_sent_one_by_one_until_the_record_that_was_meant_is_known() {
    let mut publisher = publisher(9);
    for id in 41..=43 {
        publisher.progress.push(event(id), 10);
    }
    publisher.send().unwrap();
    refuse(&mut publisher, &[0, 1]).unwrap();
    assert_eq!(publisher.sink.queue.len(), 2, "what was in the batch, and nothing behind it");

    let error = refuse(&mut publisher, &[1]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("(row 42 of the transaction at 0/1) cannot be published: Kafka refuses the record"),
        "{error}"
    );
    assert_eq!(publisher.progress.records(), 3, "it still counts as in flight");
}

#[test]
fn a_refused_record_becomes_a_dead_letter_in_its_turn_where_that_is_the_policy() {
    let mut publisher = publisher(9).with_dead_letters();
    for id in 41..=43 {
        publisher.progress.push(event(id), 10);
    }
    publisher.send().unwrap();
    refuse(&mut publisher, &[0, 1]).unwrap();
    refuse(&mut publisher, &[1]).unwrap();
    for _ in 0..9 {
        block_on(step(&mut publisher, &mut 0, Step::Deliver { appended: 1, reported: 1 }));
    }
    let log: Vec<_> = publisher.sink.log.iter().map(|value| String::from_utf8_lossy(value)).collect();
    assert!(log[1].contains(r#""package_event_id":42"#), "{log:?}");
    assert_eq!((log.len(), publisher.counts().dead_letters), (3, 1), "{log:?}");

    refuse(&mut publisher, &[]).unwrap();
    assert!(publisher.is_caught_up());
}

#[test]
fn a_dead_letter_that_is_refused_even_when_cut_is_an_error() {
    let mut publisher = publisher(9).with_dead_letters();
    publisher.progress.push(event(41), 10);
    publisher.send().unwrap();
    // The batch, the event, the letter; then the letter that was cut.
    for _ in 0..3 {
        refuse(&mut publisher, &[0]).unwrap();
    }
    assert!(refuse(&mut publisher, &[0]).is_err());
}

#[test]
fn what_stands_before_a_record_whose_topic_is_missing_is_delivered_and_it_goes_once_the_topic_is_there() {
    let mut publisher = publisher(9);
    for id in 41..=43 {
        publisher.progress.push(event(id), 10);
    }
    publisher.sink.missing = Some(1);
    let error = publisher.send().unwrap_err();
    assert!(error.is_about_a_topic() && error.to_string().contains("(row 42 of"), "{error}");
    assert!(!publisher.finish_handed_over().unwrap(), "the first is in flight");
    publisher.sink.append(1);
    publisher.sink.report(1);
    block_on(publisher.wait());
    assert!(publisher.finish_handed_over().unwrap());
    assert_eq!((publisher.progress.records(), publisher.sink.log.len()), (2, 1));

    publisher.sink.missing = None;
    publisher.send().unwrap();
    block_on(step(&mut publisher, &mut 0, Step::Deliver { appended: 9, reported: 9 }));
    assert_eq!((publisher.progress.records(), publisher.sink.log.len()), (0, 3));
}

#[test]
fn what_is_gathered_waits_for_the_next_send_whatever_is_reported_meanwhile() {
    let mut publisher = publisher(9);
    publisher.progress.push(event(1), 10);
    publisher.send().unwrap();
    publisher.gather();
    publisher.progress.push(event(2), 10);
    publisher.progress.push(event(3), 10);
    block_on(step(&mut publisher, &mut 0, Step::Deliver { appended: 1, reported: 1 }));
    assert_eq!((publisher.sink.log.len(), publisher.sink.queue.len()), (1, 0));
    assert!(publisher.is_caught_up(), "more may be read");

    publisher.send().unwrap();
    assert_eq!(publisher.sink.queue.len(), 2);
    assert!(!publisher.gathers());
}
