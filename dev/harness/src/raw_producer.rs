//! A producer by hand, for what no client would send: any producer id, any sequence, any time.
//!
//! It writes Produce requests of version 9 (`ProduceRequest.json`) with record batches of format 2 (Kafka's
//! documentation, "Record Batch"): one partition, one record, no compression.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kafka_proxy::wire::{Writer, read_frame, with_length};
use crate::topic::Topic;

const PRODUCE: i16 = 0;
const VERSION: i16 = 9;

/// A broker that has not answered by then is down.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A record to be sent.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// Its producer, who need not have asked the broker for this id. The epoch is 0.
    pub producer: i64,
    /// Its sequence.
    pub sequence: i32,
    /// Its time, in ms since 1970.
    pub timestamp_ms: i64,
    /// Its value.
    pub value: &'a [u8],
}

/// Sends `record` to partition 0 of `topic`, and gives the broker's error code; 0 when it is stored.
///
/// # Errors
/// When the broker, which must be the only one, does not answer.
pub async fn send(topic: &Topic, record: RawRecord<'_>) -> Result<i16> {
    let mut out = Writer([PRODUCE.to_be_bytes(), VERSION.to_be_bytes()].concat());
    out.int32(1);
    out.text(false, "harness");
    out.tags(true);
    out.no_text(true); // no transaction
    out.0.extend((-1_i16).to_be_bytes()); // acknowledged by all
    out.int32(10_000);
    out.length(true, 1);
    out.text(true, &topic.name);
    out.length(true, 1);
    out.int32(0);
    let batch = batch(record);
    out.length(true, batch.len());
    out.0.extend(batch);
    for _ in 0..3 {
        out.tags(true);
    }
    let mut stream = tokio::time::timeout(ANSWER_MAX, TcpStream::connect(&topic.brokers)).await??;
    stream.write_all(&with_length(&out.0)).await?;
    let answer = tokio::time::timeout(ANSWER_MAX, read_frame(&mut stream)).await.context("no answer")??;
    let answer = answer.context("the connection was closed")?;
    // Correlation id, tags, one topic and its name, one partition and its number.
    let at = 4 + 1 + 1 + (1 + topic.name.len()) + 1 + 4;
    let code = answer.get(at..at + 2).context("a short answer")?;
    Ok(i16::from_be_bytes([code[0], code[1]]))
}

fn batch(record: RawRecord<'_>) -> Vec<u8> {
    let mut body = Writer(vec![0]); // attributes of the record
    body.zigzag(0); // its time and its offset are those of the batch
    body.zigzag(0);
    body.zigzag(-1); // no key
    body.zigzag(i64::try_from(record.value.len()).unwrap_or(i64::MAX));
    body.0.extend(record.value);
    body.zigzag(0); // no headers
    let mut checked = Writer(0_i16.to_be_bytes().to_vec()); // attributes of the batch
    checked.int32(0); // the last offset, from the first
    checked.0.extend([record.timestamp_ms.to_be_bytes(), record.timestamp_ms.to_be_bytes()].concat());
    checked.0.extend(record.producer.to_be_bytes());
    checked.0.extend(0_i16.to_be_bytes());
    checked.int32(record.sequence);
    checked.int32(1);
    checked.zigzag(i64::try_from(body.0.len()).unwrap_or(i64::MAX));
    checked.0.extend(body.0);
    let mut out = Writer(0_i64.to_be_bytes().to_vec());
    out.int32(i32::try_from(4 + 1 + 4 + checked.0.len()).unwrap_or(i32::MAX));
    out.int32(-1); // the leader's epoch
    out.0.push(2);
    out.0.extend(crc32c(&checked.0).to_be_bytes());
    out.0.extend(checked.0);
    out.0
}

/// The checksum of RFC 3720, bit by bit: a test sends a few hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }
}
