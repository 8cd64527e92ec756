use super::*;

fn partition(partition: i32) -> TopicPartition {
    ("t".to_owned(), partition)
}

fn snapshot(lags: &[(i32, u64)]) -> Snapshot {
    let lags = lags.iter().map(|(partition, lag)| ("t".to_owned(), *partition, *lag)).collect();
    Snapshot { is_broker_up: true, is_group_up: true, lags }
}

fn ready_board() -> Board {
    let board = Board::new(5);
    board.assign([partition(0), partition(1)].into_iter());
    board.update(snapshot(&[(0, 2), (1, 3)]));
    board
}

#[test]
fn it_is_ready_by_assignment_and_lag() {
    let board = Board::new(5);
    assert_eq!(board.standing(), Standing::Starting);
    board.update(snapshot(&[(0, 7)]));
    assert_eq!(board.standing(), Standing::NoMember);
    board.assign([partition(0), partition(1)].into_iter());
    board.update(snapshot(&[(0, 2)]));
    assert_eq!(board.standing(), Standing::LagUnknown(partition(1)));
    board.update(snapshot(&[(1, 3), (2, 100)]));
    assert_eq!(board.standing(), Standing::Ready { partitions: 2, lag: 5 });
    board.update(snapshot(&[(1, 4)]));
    assert_eq!(board.standing(), Standing::Behind { lag: 6, lag_max: 5 });
    board.revoke([partition(0), partition(1)].into_iter());
    assert_eq!(board.standing(), Standing::NoMember);
    // Others have all partitions: there is nothing to do, and that is well.
    board.assign(std::iter::empty());
    assert_eq!(board.standing(), Standing::Ready { partitions: 0, lag: 0 });
}

#[test]
fn each_trouble_is_a_reason() {
    let board = ready_board();
    board.set_unread_topics(vec!["x".to_owned()], vec![]);
    assert_eq!(board.standing(), Standing::TopicsMissing(vec!["x".to_owned()]));
    board.set_unread_topics(vec!["x".to_owned()], vec!["y".to_owned()]);
    assert_eq!(board.standing(), Standing::TopicsDenied(vec!["y".to_owned()]));
    board.update(Snapshot { is_group_up: false, ..snapshot(&[]) });
    assert_eq!(board.standing(), Standing::NoMember);
    board.update(Snapshot::default());
    board.note_error("cut");
    assert_eq!(board.standing(), Standing::KafkaAway(Some("cut".to_owned())));
    board.deny("no");
    assert_eq!(board.standing(), Standing::Denied("no".to_owned()));
    board.stop();
    assert_eq!(board.standing(), Standing::Stopping);
}

#[test]
fn a_printer_that_stands_still_is_not_ready() {
    let board = ready_board();
    let later = Instant::now() + SILENCE_MAX + Duration::from_secs(1);
    assert!(matches!(board.facts().standing(later, 5), Standing::Silent(_)));
    board.write_begins();
    assert!(matches!(board.standing(), Standing::Ready { .. }), "a write takes its time");
    assert!(matches!(board.facts().standing(later, 5), Standing::NobodyReads(_)));
    board.write_ends();
    assert!(matches!(board.standing(), Standing::Ready { .. }));
}

#[test]
fn that_kafka_comes_or_goes_is_news_once() {
    let board = Board::new(0);
    assert_eq!(board.update(Snapshot::default()), Some(false));
    assert_eq!(board.update(Snapshot::default()), None);
    assert_eq!(board.update(snapshot(&[])), Some(true));
    assert_eq!(board.update(snapshot(&[])), None);
}
