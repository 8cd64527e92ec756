//! Moves the leaders of a topic, as an operator or a balancer does.
//!
//! A leader is the first of its partition's replicas that is in sync, when an election of preferred leaders is asked
//! for. So the replicas are named in another order, and then it is asked for. (`AlterPartitionReassignmentsRequest.json`
//! version 0 and `ElectLeadersRequest.json` version 2 in Apache Kafka.)

use anyhow::{Context, Result};

use crate::kafka_proxy::wire::Writer;
use crate::raw_admin::{on_any, request};
use crate::topic::Topic;

const ELECT_LEADERS: i16 = 43;
const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;

/// Both answers begin with their error.
const ERROR_AT: usize = 9;

/// Makes the broker `first` the leader of each partition of `topic` where it is in sync; `replicas` are all that have it.
///
/// # Errors
/// When no broker takes that.
pub async fn move_to(topic: &Topic, first: i32, replicas: impl IntoIterator<Item = i32>) -> Result<()> {
    let order: Vec<i32> =
        std::iter::once(first).chain(replicas.into_iter().filter(|replica| *replica != first)).collect();
    let mut reorder = request(ALTER_PARTITION_REASSIGNMENTS, 0);
    reorder.int32(10_000);
    partitions(&mut reorder, topic, |out, partition| {
        out.int32(partition);
        out.length(true, order.len());
        order.iter().for_each(|replica| out.int32(*replica));
        out.tags(true);
    });
    let mut elect = request(ELECT_LEADERS, 2);
    elect.0.push(0); // the preferred ones
    partitions(&mut elect, topic, Writer::int32);
    elect.0.pop(); // here the time-out comes before the tagged fields
    elect.int32(10_000);
    elect.tags(true);
    on_any(&topic.brokers, &[reorder, elect], ERROR_AT).await.context("moving leaders")
}

/// The one topic with all its partitions, and the end of the request.
fn partitions(out: &mut Writer, topic: &Topic, partition: impl Fn(&mut Writer, i32)) {
    out.length(true, 1);
    out.text(true, &topic.name);
    out.length(true, usize::try_from(topic.partitions).unwrap_or_default());
    for number in 0..topic.partitions {
        partition(out, number);
    }
    out.tags(true);
    out.tags(true);
}
