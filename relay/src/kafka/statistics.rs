//! What the producer says of itself now and then, in plain numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the producer said last, and what it has counted since the process began.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct KafkaNumbers {
    /// Records in the producer's queue, those under way among them.
    pub queue_messages: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// Requests that did not work.
    pub requests: RequestCounts,
    /// The brokers, by their ids.
    pub brokers: Vec<BrokerNumbers>,
}

/// Requests to brokers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RequestCounts {
    /// Those that failed.
    pub failed: u64,
    /// Those that a broker did not answer in time.
    pub timed_out: u64,
    /// Those that were sent again.
    pub retried: u64,
}

impl RequestCounts {
    fn add(&mut self, more: Self) {
        self.failed += more.failed;
        self.timed_out += more.timed_out;
        self.retried += more.retried;
    }

    /// What came after `earlier`. A counter that is lower than it was has begun again.
    fn since(self, earlier: Self) -> Self {
        let since = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        Self {
            failed: since(self.failed, earlier.failed),
            timed_out: since(self.timed_out, earlier.timed_out),
            retried: since(self.retried, earlier.retried),
        }
    }
}

/// What it said of a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerNumbers {
    /// The broker's id.
    pub id: i32,
    /// Whether the connection is up; absent while none is needed, as to a broker that leads no partition of the topic.
    pub up: Option<bool>,
    /// Half of the requests were answered within so many seconds; absent when there were none.
    pub rtt_p50: Option<f64>,
    /// 99 in 100 of them.
    pub rtt_p99: Option<f64>,
}

/// Where the producer's thread puts it, and others look. Written every few seconds.
#[derive(Debug, Clone)]
pub struct StatisticsCell {
    told: Arc<Mutex<Told>>,
    age_max: Duration,
}

#[derive(Debug, Default)]
struct Told {
    latest: Option<(Instant, KafkaNumbers)>,
    /// What each connection has counted: a producer forgets brokers, and one that takes its place begins at 0.
    counted: HashMap<String, RequestCounts>,
    total: RequestCounts,
}

impl StatisticsCell {
    /// Nothing was said yet. What is older than `age_max` says nothing of now.
    #[must_use]
    pub fn new(age_max: Duration) -> Self {
        Self { told: Arc::default(), age_max }
    }

    /// Puts in what the producer says now, with what it has counted on each of its connections by their names.
    pub fn set(&self, numbers: KafkaNumbers, counted: HashMap<String, RequestCounts>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, now) in &counted {
            let before = told.counted.get(name).copied().unwrap_or_default();
            told.total.add(now.since(before));
        }
        told.counted = counted;
        told.latest = Some((Instant::now(), KafkaNumbers { requests: told.total, ..numbers }));
    }

    /// What it said last.
    #[must_use]
    pub fn latest(&self) -> Option<KafkaNumbers> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.latest.as_ref().filter(|(at, _)| at.elapsed() < self.age_max).map(|(_, numbers)| numbers.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(connections: &[(&str, u64)]) -> HashMap<String, RequestCounts> {
        let counts = |failed: u64| RequestCounts { failed, ..RequestCounts::default() };
        connections.iter().map(|(name, failed)| ((*name).to_owned(), counts(*failed))).collect()
    }

    #[test]
    fn a_producer_that_forgets_a_broker_counts_nothing_twice_and_nothing_back() {
        let cell = StatisticsCell::new(Duration::from_secs(60));
        let mut totals = Vec::new();
        for connections in [&[("a", 3), ("b", 5)][..], &[("a", 4)], &[("a", 4), ("b", 1)], &[("a", 2)]] {
            cell.set(KafkaNumbers::default(), failed(connections));
            totals.push(cell.latest().map(|numbers| numbers.requests.failed));
        }
        assert_eq!(totals, [Some(8), Some(9), Some(10), Some(12)]);
    }

    #[test]
    fn what_was_said_long_ago_says_nothing_of_now() {
        let cell = StatisticsCell::new(Duration::ZERO);
        cell.set(KafkaNumbers::default(), HashMap::new());
        assert_eq!(cell.latest(), None);
    }
}
