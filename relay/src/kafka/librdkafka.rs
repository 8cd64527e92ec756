//! librdkafka's statistics (its STATISTICS.md) in plain numbers.

use std::collections::HashMap;

use rdkafka::Statistics;
use rdkafka::statistics::Broker;

use crate::kafka::statistics::{BrokerNumbers, KafkaNumbers, RequestCounts};

/// What matters of them.
pub(super) fn numbers(statistics: &Statistics) -> KafkaNumbers {
    let brokers = || statistics.brokers.values();
    let mut numbers = KafkaNumbers {
        queue_messages: statistics.msg_cnt,
        queue_bytes: statistics.msg_size,
        // Added up where they are kept.
        requests: RequestCounts::default(),
        // Addresses to ask first and coordinators are listed as well, with ids below 0.
        brokers: brokers().filter(|broker| broker.nodeid >= 0).map(of_broker).collect(),
    };
    numbers.brokers.sort_by_key(|broker| broker.id);
    numbers
}

/// What was counted on each connection.
pub(super) fn counted(statistics: &Statistics) -> HashMap<String, RequestCounts> {
    let counts = |broker: &Broker| RequestCounts {
        failed: broker.txerrs,
        timed_out: broker.req_timeouts,
        retried: broker.txretries,
    };
    statistics.brokers.iter().map(|(name, broker)| (name.clone(), counts(broker))).collect()
}

fn of_broker(broker: &Broker) -> BrokerNumbers {
    let rtt = broker.rtt.as_ref().filter(|rtt| rtt.cnt > 0);
    #[allow(clippy::cast_precision_loss)]
    let seconds = |micros: i64| micros as f64 / 1e6;
    BrokerNumbers {
        id: broker.nodeid,
        up: (broker.state != "INIT").then_some(broker.state == "UP"),
        rtt_p50: rtt.map(|rtt| seconds(rtt.p50)),
        rtt_p99: rtt.map(|rtt| seconds(rtt.p99)),
    }
}
