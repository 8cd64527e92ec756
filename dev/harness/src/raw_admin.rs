//! Administrative requests that librdkafka's client in Rust does not have, as any broker takes them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kafka_proxy::wire::{Writer, read_frame, with_length};

/// A broker that has not answered by then is down.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A request of a flexible version (KIP-482), so far its header.
pub(crate) fn request(key: i16, version: i16) -> Writer {
    let mut out = Writer([key.to_be_bytes(), version.to_be_bytes()].concat());
    out.int32(1);
    out.text(false, "harness");
    out.tags(true);
    out
}

/// Sends `requests` one after the other to the first of `brokers` that takes them all. `error_at` is where an answer has
/// its error, behind correlation id, tags and throttle time, which are 9 bytes.
///
/// # Errors
/// When no broker takes them.
pub(crate) async fn on_any(brokers: &str, requests: &[Writer], error_at: usize) -> Result<()> {
    let mut last = None;
    for broker in brokers.split(',') {
        match ask(broker, requests, error_at).await {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error.context(broker.to_owned())),
        }
    }
    Err(last.context("no brokers")?)
}

async fn ask(broker: &str, requests: &[Writer], error_at: usize) -> Result<()> {
    let mut stream = tokio::time::timeout(ANSWER_MAX, TcpStream::connect(broker)).await??;
    for request in requests {
        stream.write_all(&with_length(&request.0)).await?;
        let answer =
            tokio::time::timeout(ANSWER_MAX, read_frame(&mut stream)).await.context("no answer")??;
        let answer = answer.context("the connection was closed")?;
        let code = answer.get(error_at..error_at + 2).context("a short answer")?;
        let code = i16::from_be_bytes([code[0], code[1]]);
        ensure!(code == 0, "Kafka refuses that with error {code}");
    }
    Ok(())
}
