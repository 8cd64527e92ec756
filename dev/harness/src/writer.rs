//! What somebody else writes to a topic: records that no relay would make.

use std::time::Duration;

use anyhow::{Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::topic::Topic;

/// A broker that has not acknowledged a record by then is down.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// A record to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written<'a> {
    /// Its key, where it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, where it has one.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [(&'a str, &'a str)],
}

impl<'a> Written<'a> {
    /// One with a key and a value that are texts.
    #[must_use]
    pub fn text(key: &'a str, value: &'a str) -> Self {
        Self { key: Some(key.as_bytes()), value: Some(value.as_bytes()), headers: &[] }
    }
}

impl Topic {
    /// Writes records, and returns when all are acknowledged. Those of one key keep their order.
    ///
    /// # Errors
    /// When they are not.
    pub async fn write(&self, records: &[Written<'_>]) -> Result<()> {
        let producer: FutureProducer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).set("linger.ms", "0").create()?;
        for written in records {
            let headers = written.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(*value) })
            });
            let mut record = FutureRecord::<[u8], [u8]>::to(&self.name).headers(headers);
            record.key = written.key;
            record.payload = written.value;
            let sent = producer.send(record, WRITE_DEADLINE).await;
            sent.map_err(|(error, _)| anyhow!("a record was not written to {}: {error}", self.name))?;
        }
        Ok(())
    }
}
