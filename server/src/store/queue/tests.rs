#![allow(clippy::unwrap_used)]

use super::*;
use crate::domain::{Changes, PackageId};

const WAIT_MAX: Duration = Duration::from_secs(1);

fn update(id: i64) -> Update {
    Update { id: PackageId::from_row(id), changes: Changes::default(), trace: None }
}

/// The ids of the updates that go next, and what is left of the line.
fn next_of(line: &mut Line<Update>) -> Vec<i64> {
    take_together(&mut line.waiting).iter().map(|ask| ask.statement.id.as_i64()).collect()
}

fn line_of(asks: &[(i64, bool)]) -> Line<Update> {
    let mut line = Line::default();
    for (id, alone) in asks {
        let (answer, _) = oneshot::channel();
        let ask = Ask { statement: update(*id), answer, since: Instant::now(), tries: 0, alone: *alone };
        line.waiting.push_back(ask);
    }
    line
}

#[test]
fn two_updates_of_one_package_never_share_a_statement() {
    let mut line = line_of(&[(1, false), (2, false), (1, false), (3, false), (1, false)]);
    assert_eq!(next_of(&mut line), [1, 2, 3]);
    assert_eq!(next_of(&mut line), [1]);
    assert_eq!(next_of(&mut line), [1]);
    assert!(next_of(&mut line).is_empty());
}

#[test]
fn what_failed_in_company_goes_alone() {
    let mut line = line_of(&[(1, true), (2, false), (3, true), (4, false)]);
    assert_eq!(next_of(&mut line), [1]);
    assert_eq!(next_of(&mut line), [2, 4]);
    assert_eq!(next_of(&mut line), [3]);
}

#[test]
fn a_statement_is_shared_by_so_many_and_no_more() {
    let ids: Vec<_> = (0..200).map(|id| (id, false)).collect();
    let mut line = line_of(&ids);
    assert_eq!(next_of(&mut line), (0..64).collect::<Vec<_>>());
    assert_eq!(line.waiting.len(), 136);
}

#[tokio::test]
async fn a_full_queue_refuses_one_more() {
    let queue = Queue::new(1, 2, WAIT_MAX);
    let (_one, _two) = (queue.ask(update(1)).unwrap(), queue.ask(update(2)).unwrap());
    assert!(matches!(queue.ask(update(3)), Err(StoreError::Overloaded(2))));
    assert!(matches!(queue.next(0, WAIT_MAX).await, Next::Run(..)));
    assert_eq!(queue.length(), 0);
    queue.ask(update(3)).unwrap();
}

#[tokio::test]
async fn what_waits_too_long_is_refused() {
    let wait_max = Duration::from_millis(20);
    let queue = std::sync::Arc::new(Queue::new(1, 10, wait_max));
    let expiring = queue.clone();
    tokio::spawn(async move { expiring.expire().await });
    let waited = queue.ask(update(1)).unwrap().await.unwrap();
    assert!(matches!(waited, Err(StoreError::Waited(_))), "{waited:?}");
    assert_eq!(queue.length(), 0);
}

#[tokio::test]
async fn the_kind_that_waits_longest_goes_first() {
    let queue = Queue::new(1, 10, WAIT_MAX);
    let _ping = queue.ask(Ping).unwrap();
    let _update = queue.ask(update(1)).unwrap();
    let pings = 5;
    assert!(matches!(queue.next(0, WAIT_MAX).await, Next::Run(number, _) if number == pings));
}

#[tokio::test]
async fn quick_statements_of_a_kind_gather_behind_a_few() {
    let queue = Queue::new(9, 100, WAIT_MAX);
    let under_way = Update::UNDER_WAY_MAX;
    let mut asked = Vec::new();
    for id in 0..10 {
        asked.push(queue.ask(update(id)).unwrap());
        if asked.len() <= under_way {
            assert!(matches!(queue.next(0, WAIT_MAX).await, Next::Run(1, _)));
        }
    }
    assert_eq!(queue.length(), 10 - under_way);
    assert!(matches!(queue.next(0, Duration::from_millis(1)).await, Next::Idle));
    // One of them ended, or turned out to be slow.
    queue.done(1);
    assert!(matches!(queue.next(0, WAIT_MAX).await, Next::Run(1, _)));
    assert_eq!(queue.length(), 0);
}

#[tokio::test]
async fn a_closed_queue_is_emptied_first() {
    let queue = Queue::new(1, 10, WAIT_MAX);
    let _asked = queue.ask(update(1)).unwrap();
    queue.close();
    assert!(matches!(queue.ask(update(2)), Err(StoreError::Closed)));
    assert!(matches!(queue.next(0, WAIT_MAX).await, Next::Run(..)));
    assert!(matches!(queue.next(0, WAIT_MAX).await, Next::Closed));
}
