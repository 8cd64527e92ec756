//! Moves the leaders of a topic, as an operator or a balancer does: librdkafka's admin client cannot.
//!
//! A leader is the first of its partition's replicas that is in sync, when an election of preferred leaders is asked
//! for. So the replicas are named in another order, and then it is asked for. (`AlterPartitionReassignmentsRequest.json`
//! version 0 and `ElectLeadersRequest.json` version 2 in Apache Kafka; both are flexible, and any broker takes them.)

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kafka_proxy::wire::{Writer, read_frame, with_length};
use crate::topic::Topic;

const ELECT_LEADERS: i16 = 43;
const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;

/// A broker that has not answered by then is down.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Makes the broker `first` the leader of each partition of `topic` where it is in sync; `replicas` are all that have it.
///
/// # Errors
/// When no broker takes that.
pub async fn move_to(topic: &Topic, first: i32, replicas: impl IntoIterator<Item = i32>) -> Result<()> {
    let order: Vec<i32> =
        std::iter::once(first).chain(replicas.into_iter().filter(|replica| *replica != first)).collect();
    let mut last = None;
    for broker in topic.brokers.split(',') {
        match ask(broker, topic, &order).await {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error.context(broker.to_owned())),
        }
    }
    Err(last.context("no brokers")?)
}

async fn ask(broker: &str, topic: &Topic, order: &[i32]) -> Result<()> {
    let mut stream = tokio::time::timeout(ANSWER_MAX, TcpStream::connect(broker)).await??;
    let mut reorder = request(ALTER_PARTITION_REASSIGNMENTS, 0);
    reorder.int32(10_000);
    partitions(&mut reorder, topic, |out, partition| {
        out.int32(partition);
        out.length(true, order.len());
        order.iter().for_each(|replica| out.int32(*replica));
        out.tags(true);
    });
    exchange(&mut stream, reorder).await?;
    let mut elect = request(ELECT_LEADERS, 2);
    elect.0.push(0); // the preferred ones
    partitions(&mut elect, topic, Writer::int32);
    elect.0.pop(); // here the time-out comes before the tagged fields
    elect.int32(10_000);
    elect.tags(true);
    exchange(&mut stream, elect).await
}

/// The header of a flexible request.
fn request(key: i16, version: i16) -> Writer {
    let mut out = Writer([key.to_be_bytes(), version.to_be_bytes()].concat());
    out.int32(1);
    out.text(false, "harness");
    out.tags(true);
    out
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

/// Sends a request, and looks at the error that its answer begins with: behind correlation id, tags and throttle time.
async fn exchange(stream: &mut TcpStream, request: Writer) -> Result<()> {
    stream.write_all(&with_length(&request.0)).await?;
    let answer = tokio::time::timeout(ANSWER_MAX, read_frame(stream)).await.context("no answer")??;
    let answer = answer.context("the connection was closed")?;
    let code = answer.get(9..11).context("a short answer")?;
    let code = i16::from_be_bytes([code[0], code[1]]);
    ensure!(code == 0, "Kafka refuses to move leaders with error {code}");
    Ok(())
}
