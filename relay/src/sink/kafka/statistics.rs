//! librdkafka's statistics (its STATISTICS.md) in plain numbers.

use rdkafka::Statistics;
use rdkafka::statistics::Broker;

use crate::sink::statistics::{BrokerNumbers, KafkaNumbers};

/// What matters of them.
pub(super) fn numbers(statistics: &Statistics) -> KafkaNumbers {
    let brokers = || statistics.brokers.values();
    let total = |of: fn(&Broker) -> u64| brokers().map(of).sum();
    let mut numbers = KafkaNumbers {
        queue_messages: statistics.msg_cnt,
        queue_bytes: statistics.msg_size,
        requests_failed: total(|broker| broker.txerrs),
        requests_timed_out: total(|broker| broker.req_timeouts),
        requests_retried: total(|broker| broker.txretries),
        // Addresses to ask first and coordinators are listed as well, with ids below 0.
        brokers: brokers().filter(|broker| broker.nodeid >= 0).map(of_broker).collect(),
    };
    numbers.brokers.sort_by_key(|broker| broker.id);
    numbers
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
