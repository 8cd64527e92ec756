//! The callbacks of librdkafka: partitions come and go, offsets are committed, statistics each second.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Partition;
use rdkafka::{ClientContext, Statistics, TopicPartitionList};

use crate::board::{Board, Snapshot};
use crate::metrics::Metrics;

pub(super) struct Context {
    board: Arc<Board>,
    metrics: Metrics,
    /// What librdkafka says of the error that `poll` is about to return: which address, which topic.
    reason: Mutex<Option<String>>,
}

impl Context {
    pub(super) fn new(board: Arc<Board>, metrics: Metrics) -> Self {
        Self { board, metrics, reason: Mutex::default() }
    }

    /// The reason of the last error, once.
    pub(super) fn take_reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        match self.board.update(snapshot(&statistics)) {
            Some(true) => tracing::info!("Kafka answers"),
            Some(false) => tracing::warn!("no broker answers: Kafka is waited for"),
            None => {}
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            // That a broker is away is logged once by the printer, not at each try to reach it.
            _ if matches!(facility, "FAIL" | "ERROR") => tracing::debug!(facility, text, "librdkafka"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::error!(facility, text, "librdkafka");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(facility, text, "librdkafka"),
            _ => tracing::debug!(facility, text, "librdkafka"),
        }
    }

    /// Called on the thread that polls, just before the poll returns the error by its code alone.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ConsumerContext for Context {
    /// Before partitions are given away librdkafka commits what is stored: every record of theirs that was printed, since
    /// records are printed on the thread that this is called on.
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.metrics.rebalances.inc();
        match rebalance {
            Rebalance::Assign(partitions) => {
                tracing::info!(partitions = names(partitions), "partitions were assigned");
                self.board.assign(elements(partitions));
            }
            Rebalance::Revoke(partitions) => {
                tracing::info!(partitions = names(partitions), "partitions were taken away");
                self.board.revoke(elements(partitions));
            }
            Rebalance::Error(error) => tracing::warn!(%error, "a rebalance failed: it is tried again"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        match result {
            Ok(()) => self.metrics.commits.inc(),
            // Nothing new was printed.
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                self.metrics.commits_failed.inc();
                tracing::warn!(%error, partitions = names(offsets), "a commit failed: the next one has its offsets, or the records are printed again");
            }
        }
    }
}

fn elements(partitions: &TopicPartitionList) -> impl Iterator<Item = (String, i32)> {
    let elements: Vec<_> =
        partitions.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
    elements.into_iter()
}

fn names(partitions: &TopicPartitionList) -> String {
    let mut names: Vec<_> =
        partitions.elements().iter().map(|one| format!("{}/{}", one.topic(), one.partition())).collect();
    names.sort();
    names.join(", ")
}

fn snapshot(statistics: &Statistics) -> Snapshot {
    let mut snapshot = Snapshot {
        // Addresses to ask first and coordinators are listed as well, with ids below 0.
        is_broker_up: statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP"),
        is_group_up: statistics.cgrp.as_ref().is_some_and(|group| group.state == "up"),
        lags: Vec::new(),
    };
    for (topic, of_topic) in &statistics.topics {
        // -1 is librdkafka's own, for what has no partition yet.
        let partitions = of_topic.partitions.values().filter(|partition| partition.partition >= 0);
        snapshot.lags.extend(
            partitions.filter_map(|partition| Some((topic.clone(), partition.partition, lag(partition)?))),
        );
    }
    snapshot
}

/// How many records wait to be printed; `None` until the end of the partition is known. Negative offsets stand
/// for "not known".
fn lag(partition: &Partition) -> Option<u64> {
    let known =
        [partition.app_offset, partition.committed_offset].into_iter().max().filter(|offset| *offset >= 0);
    // Nothing of it was ever printed: it is read from where the fetching began.
    let position = known.unwrap_or(partition.next_offset);
    if position < 0 || partition.hi_offset < 0 {
        return None;
    }
    u64::try_from(partition.hi_offset - position).ok().or(Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(app: i64, committed: i64, next: i64, hi: i64) -> Option<u64> {
        lag(&Partition {
            app_offset: app,
            committed_offset: committed,
            next_offset: next,
            hi_offset: hi,
            ..Partition::default()
        })
    }

    #[test]
    fn the_lag_counts_from_what_was_handed_over_or_committed() {
        const UNKNOWN: i64 = -1001;
        assert_eq!(of(7, 5, 9, 10), Some(3));
        assert_eq!(of(UNKNOWN, 5, 9, 10), Some(5));
        assert_eq!(of(UNKNOWN, UNKNOWN, 0, 10), Some(10));
        assert_eq!(of(UNKNOWN, UNKNOWN, 0, 0), Some(0));
        // Neither its beginning nor its end is known.
        assert_eq!(of(UNKNOWN, UNKNOWN, UNKNOWN, 10), None);
        assert_eq!(of(UNKNOWN, 5, 5, UNKNOWN), None);
        // The end is older than what was read.
        assert_eq!(of(7, 5, 9, 6), Some(0));
    }
}
