//! A topic of a test's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::cleanup;
use crate::reader::{Reader, Received};
use crate::wait::wait_for;

/// A broker that does not answer an administrative request by then is down.
const ADMIN_DEADLINE: Duration = Duration::from_secs(60);

/// So long the deletion of a topic is waited for that nobody needs again: a test may have stopped its broker.
const LEFTOVER_DEADLINE: Duration = Duration::from_secs(3);

/// A topic, usually with a name of its own, deleted when dropped if it was made here.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub brokers: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// It was there before: it is not deleted.
    kept: bool,
    delete_within: Duration,
}

/// A client that asks where the partitions end.
pub struct Asker(Arc<StreamConsumer>);

impl Topic {
    /// A new topic; every partition has its leader when this returns.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn fresh(brokers: &str, partitions: i32) -> Result<Self> {
        Self::named(&Self::unused_name(), brokers, partitions).await
    }

    /// A name that no topic has.
    #[must_use]
    pub fn unused_name() -> String {
        format!("test-{}", uuid::Uuid::new_v4().simple())
    }

    /// A new topic with a given name.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn named(name: &str, brokers: &str, partitions: i32) -> Result<Self> {
        ensure!(create(name, brokers, partitions).await?, "the topic {name} cannot be created: it exists");
        let topic = Self::expected(name, brokers, partitions);
        topic.wait_for_leaders().await?;
        Ok(topic)
    }

    /// A topic that a program makes, or has made: deleted when this is dropped, where it is there.
    #[must_use]
    pub fn expected(name: &str, brokers: &str, partitions: i32) -> Self {
        Self {
            name: name.to_owned(),
            brokers: brokers.to_owned(),
            partitions,
            kept: false,
            delete_within: LEFTOVER_DEADLINE,
        }
    }

    /// The topic of a given name: made, with one partition, or found.
    ///
    /// # Errors
    /// When it cannot be made, or was found with more partitions.
    pub(crate) async fn made_or_found(name: &str, brokers: &str) -> Result<Self> {
        let kept = !create(name, brokers, 1).await?;
        // The next test needs the name: a deletion that came late would take its topic.
        let mut topic = Self::expected(name, brokers, 1);
        (topic.kept, topic.delete_within) = (kept, ADMIN_DEADLINE);
        let led = topic.wait_for_leaders().await;
        led.with_context(|| {
            let found = format!("the topic {name} was there before, perhaps with other than one partition");
            if kept { found } else { format!("the topic {name} was made") }
        })?;
        Ok(topic)
    }

    /// Whether it was there before.
    pub(crate) fn was_found(&self) -> bool {
        self.kept
    }

    /// Sets `max.message.bytes`: a batch that is larger is refused as a whole.
    ///
    /// # Errors
    /// When the broker refuses that.
    pub async fn refuse_batches_above(&self, bytes: u32) -> Result<()> {
        self.configure("max.message.bytes", &bytes.to_string()).await
    }

    /// Sets this property of the topic, and takes every other back.
    ///
    /// # Errors
    /// When the broker refuses that.
    pub async fn configure(&self, property: &str, value: &str) -> Result<()> {
        let topic = ResourceSpecifier::Topic(&self.name);
        let config = AlterConfig::new(topic).set(property, value);
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_DEADLINE));
        for result in admin(&self.brokers)?.alter_configs([&config], &options).await? {
            result
                .map_err(|(_, code)| anyhow::anyhow!("the topic {} cannot be changed: {code}", self.name))?;
        }
        Ok(())
    }

    /// Removes the records of a partition that lie before an offset, as `kafka-delete-records.sh` does.
    ///
    /// # Errors
    /// When the broker refuses that.
    pub async fn delete_records(&self, partition: i32, before: i64) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.name, partition, Offset::Offset(before))?;
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_DEADLINE));
        let deleted = admin(&self.brokers)?.delete_records(&offsets, &options).await?;
        for element in deleted.elements() {
            element.error().with_context(|| format!("records of {} cannot be deleted", self.name))?;
        }
        Ok(())
    }

    /// A reader of all partitions from their beginning, with no consumer group.
    ///
    /// # Errors
    /// When the consumer cannot be made.
    pub fn reader(&self) -> Result<Reader> {
        Reader::new(self)
    }

    /// The first `count` records.
    ///
    /// # Errors
    /// When fewer have arrived after `within`.
    pub async fn read(&self, count: usize, within: Duration) -> Result<Vec<Received>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut left = count;
        let what = format!("{count} records");
        let enough = |_: &Received| {
            left -= 1;
            left == 0
        };
        self.read_until(&what, within, enough).await
    }

    /// The records from the beginning up to the one at which `enough`, which sees each of them once, says so. `what`
    /// names what that takes.
    ///
    /// # Errors
    /// When it has not said so after `within`.
    pub async fn read_until(
        &self,
        what: &str,
        within: Duration,
        mut enough: impl FnMut(&Received) -> bool,
    ) -> Result<Vec<Received>> {
        let (reader, started) = (self.reader()?, Instant::now());
        let mut received = Vec::new();
        while let Some(left) = within.checked_sub(started.elapsed())
            && let Some(record) = reader.next(left).await?
        {
            let done = enough(&record);
            received.push(record);
            if done {
                return Ok(received);
            }
        }
        bail!("waited {within:?} for {what}: {} records on {}", received.len(), self.name)
    }

    /// All records that are there now, of transactions those that are committed.
    ///
    /// # Errors
    /// When Kafka does not hand them out.
    pub async fn read_all(&self) -> Result<Vec<Received>> {
        let mut received = Vec::new();
        self.reader()?
            .to_the_end(ADMIN_DEADLINE, |record| received.push(Received::from_message(record)))
            .await?;
        Ok(received)
    }

    /// How many records there are now, of transactions those of the committed ones.
    ///
    /// # Errors
    /// When Kafka does not hand them out.
    pub async fn count(&self) -> Result<u64> {
        let mut count = 0;
        self.reader()?.to_the_end(ADMIN_DEADLINE, |_| count += 1).await?;
        Ok(count)
    }

    /// How many records each partition holds now, at most: transactions leave marks among them, and some are aborted.
    ///
    /// # Errors
    /// When Kafka does not say.
    pub async fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        self.ends_by(&self.asker()?).await
    }

    /// Behind the last record of each partition, of transactions those of the committed ones, if it is among the `tail` last
    /// offsets.
    ///
    /// # Errors
    /// When Kafka does not hand them out.
    pub async fn record_ends(&self, tail: i64) -> Result<BTreeMap<i32, i64>> {
        let mut ends = BTreeMap::new();
        let reader = Reader::at(self, Offset::OffsetTail(tail))?;
        reader
            .to_the_end(ADMIN_DEADLINE, |record| _ = ends.insert(record.partition(), record.offset() + 1))
            .await?;
        Ok(ends)
    }

    /// A client that asks for the ends again and again, and reads nothing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn asker(&self) -> Result<Asker> {
        Ok(Asker(Arc::new(consumer(&self.brokers)?)))
    }

    /// The same as [`Topic::ends`], by a client that was made before.
    ///
    /// # Errors
    /// When Kafka does not say.
    pub async fn ends_by(&self, asker: &Asker) -> Result<BTreeMap<i32, i64>> {
        let (consumer, name, partitions) = (Arc::clone(&asker.0), self.name.clone(), self.partitions);
        let ends = tokio::task::spawn_blocking(move || -> Result<_> {
            let held = |partition| {
                let (first, end) = consumer.fetch_watermarks(&name, partition, ADMIN_DEADLINE)?;
                Ok((partition, end - first))
            };
            (0..partitions).map(held).collect()
        });
        ends.await?
    }

    /// Gives it so many partitions; every one has its leader when this returns.
    ///
    /// # Errors
    /// When it cannot have them.
    pub async fn grow(&mut self, partitions: i32) -> Result<()> {
        let grown = NewPartitions::new(&self.name, usize::try_from(partitions)?);
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_DEADLINE));
        for result in admin(&self.brokers)?.create_partitions([&grown], &options).await? {
            ensure!(result.is_ok(), "the topic {} cannot grow: {result:?}", self.name);
        }
        self.partitions = partitions;
        self.wait_for_leaders().await
    }

    /// Deletes it now.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn delete(&self) -> Result<()> {
        delete(&self.brokers, &self.name).await
    }

    async fn wait_for_leaders(&self) -> Result<()> {
        let consumer = Arc::new(consumer(&self.brokers)?);
        wait_for(&format!("the topic {} has its leaders", self.name), ADMIN_DEADLINE, async || {
            let (consumer, name) = (Arc::clone(&consumer), self.name.clone());
            let fetch = move || consumer.fetch_metadata(Some(&name), ADMIN_DEADLINE);
            let metadata = tokio::task::spawn_blocking(fetch).await??;
            let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
            let led = partitions.iter().filter(|partition| partition.leader() >= 0).count();
            Ok((i32::try_from(led)? == self.partitions).then_some(()))
        })
        .await
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (brokers, name, within) = (self.brokers.clone(), self.name.clone(), self.delete_within);
        cleanup::run("a topic", ADMIN_DEADLINE, move || async move {
            // A private broker that a test has stopped, or a topic that it has deleted itself.
            let _ = tokio::time::timeout(within, delete(&brokers, &name)).await;
            Ok(())
        });
    }
}

fn client_config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    // A test that restarts the broker should not wait ten seconds for the client to notice.
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
    // What the client says about a broker that a test has stopped is no news.
    config.set("log_level", "0");
    config
}

/// librdkafka wants the name of a group even from a consumer that joins none.
pub(crate) fn consumer(brokers: &str) -> Result<StreamConsumer> {
    let mut config = client_config(brokers);
    config.set("group.id", "harness-reader").set("enable.auto.commit", "false");
    config.set("fetch.wait.max.ms", "20").set("fetch.error.backoff.ms", "50");
    config.set("enable.partition.eof", "true");
    config.create().context("a Kafka consumer")
}

fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    client_config(brokers).create().context("a Kafka admin client")
}

/// Whether the topic is new; it is false where there was one of that name.
async fn create(name: &str, brokers: &str, partitions: i32) -> Result<bool> {
    let admin = admin(brokers)?;
    // As many replicas as the brokers give by default: one, or three where there are three brokers.
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
    // Rows of tests may be of any time, and the broker deletes what is older than a week whenever it looks.
    let topic = topic.set("retention.ms", "-1");
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_DEADLINE));
    wait_for(&format!("the topic {name} is made"), ADMIN_DEADLINE, async || {
        let created = admin.create_topics([&topic], &options).await?;
        match created.into_iter().next() {
            // A broker that has just started, or that a busy machine keeps from its heartbeats, gets no replicas.
            Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => Ok(None),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(Some(false)),
            Some(Err((name, code))) => bail!("the topic {name} cannot be created: {code}"),
            Some(Ok(_)) | None => Ok(Some(true)),
        }
    })
    .await
    .with_context(|| format!("topics at {brokers}"))
}

async fn delete(brokers: &str, name: &str) -> Result<()> {
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_DEADLINE));
    for result in admin(brokers)?.delete_topics(&[name], &options).await? {
        ensure!(result.is_ok(), "the topic {name} cannot be deleted: {result:?}");
    }
    Ok(())
}
