#![allow(clippy::unwrap_used)]

use super::*;
use crate::event::fixture;

/// A stream's messages as a walsender writes them.
fn begin(commit: u64) -> Bytes {
    [b"B".as_slice(), &commit.to_be_bytes(), &[0; 12]].concat().into()
}

fn commit(commit: u64, end: u64) -> Bytes {
    [b"C\0".as_slice(), &commit.to_be_bytes(), &end.to_be_bytes(), &[0; 8]].concat().into()
}

fn message(is_transactional: bool, lsn: u64, prefix: &str, id: u32) -> Bytes {
    let content =
        format!(r#"{{"id":"{id}","aggregateType":"Order","aggregateId":"1","type":"T","payload":{{}}}}"#);
    message_of(is_transactional, lsn, prefix, &content)
}

fn message_of(is_transactional: bool, lsn: u64, prefix: &str, content: &str) -> Bytes {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = [&[b'M', u8::from(is_transactional)], &lsn.to_be_bytes()[..]].concat();
    [&head, prefix.as_bytes(), b"\0", &length, content.as_bytes()].concat().into()
}

fn intake(takes_dead_letters: bool) -> Intake {
    let messages = vec![(fixture::PREFIX.to_owned(), Arc::new(fixture::messages_plan()))];
    let outboxes = Outboxes { messages, ..Outboxes::default() };
    Intake::new(outboxes, Types::default(), takes_dead_letters)
}

/// What came of a stream: the positions of events, those of dead letters, and what may be confirmed.
fn take(intake: &mut Intake, window: &mut Progress<Entry>, stream: &[Bytes]) -> Result<(), IntakeError> {
    stream.iter().try_for_each(|bytes| intake.take(bytes, window).map(drop))
}

fn entries(window: &Progress<Entry>) -> Vec<(u64, u64, bool)> {
    let entry = |sequence| window.unacknowledged(sequence).unwrap();
    let sequences = window.oldest_sequence()..window.next_sequence();
    sequences
        .map(|sequence| {
            let position = entry(sequence).position();
            (position.lsn.0, position.ordinal, matches!(entry(sequence), Entry::Dead(_)))
        })
        .collect()
}

#[test]
fn messages_of_the_prefix_are_events_of_their_transaction_and_others_are_not() {
    let (mut intake, mut window) = (intake(false), Progress::default());
    let stream = [
        begin(0x100),
        message(true, 0x80, "audit", 1),
        message(true, 0x88, "outbox", 2),
        message(true, 0x90, "outbox2", 3),
        message(true, 0x98, "outbox", 4),
        commit(0x100, 0x120),
        message(false, 0x130, "audit", 5),
    ];
    take(&mut intake, &mut window, &stream).unwrap();
    assert_eq!(entries(&window), [(0x120, 0, false), (0x120, 1, false)]);
    assert_eq!(window.confirmable(), Lsn::ZERO);
    window.acknowledge(0).unwrap();
    window.acknowledge(1).unwrap();
    assert_eq!(window.confirmable(), Lsn(0x120));
}

#[test]
fn rows_in_front_of_one_that_halts_wait_with_it_for_their_transaction_comes_again() {
    let stream = |contents: &[&str]| {
        let rows = contents.iter().zip(0x80..).map(|(content, lsn)| message_of(true, lsn, "outbox", content));
        [begin(0x100)].into_iter().chain(rows).chain([commit(0x100, 0x120)]).collect::<Vec<_>>()
    };
    let good = r#"{"id":"1","aggregateType":"Order","aggregateId":"1","type":"T","payload":{}}"#;
    let (mut intake, mut window) = (self::intake(false), Progress::default());
    let error = take(&mut intake, &mut window, &stream(&[good, good, "{"])).unwrap_err();
    assert!(
        error.to_string().starts_with("message 2 of the transaction that committed at 0/100 "),
        "{error}"
    );
    assert_eq!((window.records(), window.confirmable()), (0, Lsn::ZERO));

    // Before the first nothing waits, and a dead letter halts nothing: they are found out when they are sent.
    for (takes_dead_letters, rows) in [(false, &["{", good][..]), (true, &[good, "{", good])] {
        let (mut intake, mut window) = (self::intake(takes_dead_letters), Progress::default());
        take(&mut intake, &mut window, &stream(rows)).unwrap();
        assert_eq!(window.records(), rows.len());
    }
}

#[test]
fn a_message_that_is_not_transactional_is_the_end_and_nothing_of_it_is_confirmed() {
    let (mut intake, mut window) = (intake(false), Progress::default());
    let error = take(&mut intake, &mut window, &[message(false, 0x80, "outbox", 1)]).unwrap_err();
    let IntakeError::Row(bad) = error else { panic!("{error}") };
    assert_eq!(bad.error, OutboxError::NotTransactional);
    assert!(bad.to_string().starts_with("the message that ends at 0/80 of the prefix `outbox`"), "{bad}");
    window.keepalive(Lsn(0x1000)).unwrap();
    assert_eq!((window.records(), window.confirmable()), (0, Lsn::ZERO));
}

#[test]
fn where_there_is_a_topic_of_dead_letters_it_takes_its_turn_once() {
    let (mut intake, mut window) = (intake(true), Progress::default());
    let stream = [
        begin(0x60),
        message(true, 0x50, "outbox", 1),
        commit(0x60, 0x70),
        message(false, 0x80, "outbox", 2),
        begin(0x100),
        message(true, 0x90, "outbox", 3),
        commit(0x100, 0x120),
    ];
    take(&mut intake, &mut window, &stream).unwrap();
    let expected = [(0x70, 0, false), (0x80, 0, true), (0x120, 0, false)];
    assert_eq!(entries(&window), expected);
    window.acknowledge(0).unwrap();
    assert_eq!(window.confirmable(), Lsn(0x70));
    // The connection breaks; the stream begins again behind what was confirmed.
    window.connected();
    let mut again = self::intake(true);
    take(&mut again, &mut window, &stream[3..]).unwrap();
    assert_eq!(entries(&window), expected[1..]);
    window.acknowledge(1).unwrap();
    assert_eq!(window.confirmable(), Lsn(0x80), "Postgres leaves out what begins before that, and it does");
}

#[test]
fn what_begins_where_such_a_message_ends_is_no_repeat_of_it() {
    let (mut intake, mut window) = (intake(true), Progress::default());
    let stream = [
        message(false, 0x80, "outbox", 1),
        // The commit record follows at once, as where it was written in the same transaction.
        begin(0x80),
        message(true, 0x78, "outbox", 2),
        message(true, 0x78, "outbox", 3),
        commit(0x80, 0xb0),
        message(false, 0xd0, "outbox", 4),
        message(false, 0xf0, "outbox", 5),
    ];
    take(&mut intake, &mut window, &stream).unwrap();
    let expected = [(0x80, 0, true), (0xb0, 0, false), (0xb0, 1, false), (0xd0, 0, true), (0xf0, 0, true)];
    assert_eq!(entries(&window), expected);
}
