//! What the producer says of itself now and then, in plain numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use walpost_core::publish::partitions::Which;

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

impl KafkaNumbers {
    /// What two producers say.
    fn and(mut self, other: Self) -> Self {
        self.queue_messages += other.queue_messages;
        self.queue_bytes += other.queue_bytes;
        for broker in other.brokers {
            match self.brokers.iter_mut().find(|known| known.id == broker.id) {
                Some(known) => known.join(&broker),
                None => self.brokers.push(broker),
            }
        }
        self.brokers.sort_by_key(|broker| broker.id);
        self
    }
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

impl BrokerNumbers {
    /// What another producer says of it: the worse of both counts.
    fn join(&mut self, other: &Self) {
        let worse = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        self.up = match (self.up, other.up) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
        self.rtt_p50 = worse(self.rtt_p50, other.rtt_p50);
        self.rtt_p99 = worse(self.rtt_p99, other.rtt_p99);
    }
}

/// Where the producer's thread puts it, and others look. Written every few seconds.
#[derive(Debug, Clone)]
pub struct StatisticsCell {
    told: Arc<Mutex<Told>>,
    age_max: Duration,
}

/// By producer, of two that take turns.
#[derive(Debug, Default)]
struct Told {
    producers: [ToldByOne; 2],
    total: RequestCounts,
}

#[derive(Debug, Default)]
struct ToldByOne {
    latest: Option<(Instant, KafkaNumbers)>,
    /// What each connection has counted: a producer forgets brokers, and one that takes its place begins at 0.
    counted: HashMap<String, RequestCounts>,
}

impl StatisticsCell {
    /// Nothing was said yet. What is older than `age_max` says nothing of now.
    #[must_use]
    pub fn new(age_max: Duration) -> Self {
        Self { told: Arc::default(), age_max }
    }

    /// Puts in what a producer says now, with what it has counted on each of its connections by their names.
    pub fn set(&self, which: Which, numbers: KafkaNumbers, counted: HashMap<String, RequestCounts>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Told { producers, total } = &mut *told;
        let by_one = &mut producers[which.index()];
        for (name, now) in &counted {
            let before = by_one.counted.get(name).copied().unwrap_or_default();
            total.add(now.since(before));
        }
        *by_one = ToldByOne { latest: Some((Instant::now(), numbers)), counted };
    }

    /// What they said last, together.
    #[must_use]
    pub fn latest(&self) -> Option<KafkaNumbers> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = told.producers.iter().filter_map(|by_one| by_one.latest.as_ref());
        let fresh = latest.filter(|(at, _)| at.elapsed() < self.age_max).map(|(_, numbers)| numbers.clone());
        let numbers = fresh.reduce(KafkaNumbers::and)?;
        Some(KafkaNumbers { requests: told.total, ..numbers })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
            cell.set(Which::First, KafkaNumbers::default(), failed(connections));
            totals.push(cell.latest().map(|numbers| numbers.requests.failed));
        }
        assert_eq!(totals, [Some(8), Some(9), Some(10), Some(12)]);
    }

    #[test]
    fn two_producers_count_together_and_the_worse_of_what_they_say_of_a_broker_counts() {
        let cell = StatisticsCell::new(Duration::from_secs(60));
        let broker = |id, up, rtt_p99| BrokerNumbers { id, up, rtt_p50: None, rtt_p99 };
        let numbers =
            |queue_messages, brokers| KafkaNumbers { queue_messages, brokers, ..KafkaNumbers::default() };
        let first = numbers(3, vec![broker(1, Some(true), Some(0.2)), broker(3, Some(true), None)]);
        let second = numbers(4, vec![broker(1, Some(false), Some(0.1)), broker(2, None, None)]);
        for _ in 0..2 {
            cell.set(Which::First, first.clone(), failed(&[("a", 3)]));
            cell.set(Which::Second, second.clone(), failed(&[("a", 2)]));
        }
        let both = cell.latest().unwrap();
        assert_eq!((both.queue_messages, both.requests.failed), (7, 5));
        let expected =
            [broker(1, Some(false), Some(0.2)), broker(2, None, None), broker(3, Some(true), None)];
        assert_eq!(both.brokers, expected);
    }

    #[test]
    fn what_was_said_long_ago_says_nothing_of_now() {
        let cell = StatisticsCell::new(Duration::ZERO);
        cell.set(Which::First, KafkaNumbers::default(), HashMap::new());
        assert_eq!(cell.latest(), None);
    }
}
