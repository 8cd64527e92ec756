//! What the producer says of itself now and then, in plain numbers.

use std::sync::{Arc, Mutex, PoisonError};

/// What the producer said last. Its counters begin again when it is replaced.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct KafkaNumbers {
    /// Records in the producer's queue, those under way among them.
    pub queue_messages: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// Requests that failed.
    pub requests_failed: u64,
    /// Requests that a broker did not answer in time.
    pub requests_timed_out: u64,
    /// Requests that were sent again.
    pub requests_retried: u64,
    /// The brokers, by their ids.
    pub brokers: Vec<BrokerNumbers>,
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
#[derive(Debug, Default, Clone)]
pub struct StatisticsCell(Arc<Mutex<Option<KafkaNumbers>>>);

impl StatisticsCell {
    /// Puts in what the producer says now.
    pub fn set(&self, numbers: KafkaNumbers) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(numbers);
    }

    /// What it said last.
    #[must_use]
    pub fn latest(&self) -> Option<KafkaNumbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
