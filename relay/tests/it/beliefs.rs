//! What walpost believes of its neighbours, held against the real ones. Nothing of walpost runs here: a test that fails
//! says that a premise is gone, and names which.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use harness::kafka_proxy::{Which, code};
use harness::raw_producer::{RawRecord, send};
use harness::{Database, PrivateKafka, Stack, Topic, wait_until};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message};
use tokio_postgres::Client;

use crate::case::SOON;

/// `OUT_OF_ORDER_SEQUENCE_NUMBER` of Kafka's `Errors`.
const OUT_OF_ORDER: i16 = 45;

/// `RD_KAFKA_OFFSET_INVALID`: what a report has that was not told an offset.
const NO_OFFSET: i64 = -1001;

fn now_ms() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?)
}

#[tokio::test]
async fn a_partition_without_state_for_a_producer_accepts_any_first_sequence() -> Result<()> {
    let topic = Topic::fresh(&Stack::shared().await?.brokers, 1).await?;
    let timestamp_ms = now_ms()?;
    let record = |sequence| RawRecord { producer: 7_000_001, sequence, timestamp_ms, value: b"x" };
    assert_eq!(send(&topic, record(5)).await?, 0, "the first, though it is the sixth");
    assert_eq!(send(&topic, record(7)).await?, OUT_OF_ORDER, "one is missing before it");
    assert_eq!(send(&topic, record(6)).await?, 0);
    assert_eq!(topic.read_all().await?.len(), 2);
    Ok(())
}

/// `ProducerStateManager.isProducerExpired` compares the clock with `lastTimestamp`, the largest of the last batch.
#[tokio::test]
async fn what_a_broker_knows_of_a_producer_expires_by_the_times_of_its_records() -> Result<()> {
    let settings = ["producer.id.expiration.ms=60000", "producer.id.expiration.check.interval.ms=200"];
    let kafka = PrivateKafka::start_with(&settings).await?;
    let topic = Topic::fresh(kafka.brokers(), 1).await?;
    let now = now_ms()?;
    let record =
        |producer, sequence, timestamp_ms| RawRecord { producer, sequence, timestamp_ms, value: b"x" };
    let (late, prompt) = (7_000_002, 7_000_003);
    assert_eq!(send(&topic, record(late, 0, now - 120_000)).await?, 0);
    assert_eq!(send(&topic, record(prompt, 0, now)).await?, 0);
    wait_until("the producer of the late record is forgotten", SOON, async || {
        Ok(send(&topic, record(late, 9, now)).await? == 0)
    })
    .await?;
    assert_eq!(send(&topic, record(prompt, 9, now)).await?, OUT_OF_ORDER, "that of the prompt one is not");
    Ok(())
}

/// What the client reports: the value of the record, and its offset where it was delivered.
#[derive(Default)]
struct Reports(Mutex<Vec<(Vec<u8>, Option<i64>)>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, _opaque: ()) {
        let (message, offset) = match report {
            Ok(message) => (message, Some(message.offset())),
            Err((_, message)) => (message, None),
        };
        let value = message.payload().unwrap_or_default().to_vec();
        self.0.lock().expect("no report panics").push((value, offset));
    }
}

/// librdkafka: `rd_kafka_dr_implicit_ack`, called for every success of an idempotent producer.
#[tokio::test]
async fn a_success_acknowledges_the_requests_before_it_and_gives_them_no_offset() -> Result<()> {
    let (kafka, proxy) = PrivateKafka::start_behind_proxy().await?;
    let topic = Topic::fresh(kafka.brokers(), 1).await?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", proxy.addr().to_string()).set("enable.idempotence", "true");
    config.set("enable.gapless.guarantee", "true").set("linger.ms", "0");
    let producer: BaseProducer<Reports> = config.create_with_context(Reports::default())?;
    let hand_over = |value: &'static str| {
        producer.send(BaseRecord::<(), str>::to(&topic.name).payload(value)).map_err(|(error, _)| error)
    };

    proxy.refuse_as_the_next_comes(Which::first(), 1, code::NOT_LEADER);
    hand_over("refused")?;
    wait_until("it is on its way", SOON, async || {
        producer.poll(Duration::ZERO);
        Ok(proxy.faults_made().held == 1)
    })
    .await?;
    hand_over("stored")?;
    wait_until("both are reported", SOON, async || {
        producer.poll(Duration::ZERO);
        Ok(producer.context().0.lock().expect("no report panics").len() == 2)
    })
    .await?;
    assert_eq!(proxy.faults_made().refused_before_the_next, 1, "{:?}", proxy.faults_made());
    let reports = producer.context().0.lock().expect("no report panics").clone();
    assert_eq!(reports, [(b"refused".to_vec(), Some(NO_OFFSET)), (b"stored".to_vec(), Some(0))]);
    let there: Vec<_> = topic.read_all().await?.into_iter().map(|record| record.value).collect();
    assert_eq!(there, [b"stored"], "the first was reported as delivered, and is nowhere");
    Ok(())
}

async fn database() -> Result<Database> {
    Database::fresh(&Stack::shared().await?.database_url).await
}

#[tokio::test]
async fn an_update_and_a_rewrite_renew_the_xmin_of_a_row() -> Result<()> {
    let database = database().await?;
    let client = database.client().await?;
    client.batch_execute("create table t (id int); insert into t values (1)").await?;
    let xmin =
        async || -> Result<String> { Ok(client.query_one("select xmin::text from t", &[]).await?.get(0)) };
    let inserted = xmin().await?;
    client.batch_execute("update t set id = id").await?;
    let updated = xmin().await?;
    assert_ne!(updated, inserted);
    client.batch_execute("alter table t add column n uuid default gen_random_uuid()").await?;
    assert_ne!(xmin().await?, updated);
    Ok(())
}

/// The messages that the slot has for the publication `p`, each with its kind as the first byte.
async fn stream(client: &Client, slot: &str) -> Result<Vec<Vec<u8>>> {
    let sql = "select data from pg_logical_slot_get_binary_changes($1, null, null, \
               'proto_version', '1', 'publication_names', 'p')";
    let rows = client.query(sql, &[&slot]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn slot(database: &Database, client: &Client) -> Result<String> {
    let slot = database.slot_name();
    client.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot]).await?;
    Ok(slot)
}

#[tokio::test]
async fn a_domain_is_described_under_its_own_oid_and_not_that_of_its_base() -> Result<()> {
    let database = database().await?;
    let client = database.client().await?;
    client
        .batch_execute(
            "create domain d as jsonb; create table t (payload d); create publication p for table t",
        )
        .await?;
    let slot = slot(&database, &client).await?;
    client.batch_execute("insert into t values ('{}')").await?;
    let oids = "select 'd'::regtype::oid, 'jsonb'::regtype::oid";
    let row = client.query_one(oids, &[]).await?;
    let (domain, base): (u32, u32) = (row.get(0), row.get(1));
    let messages = stream(&client, &slot).await?;
    let relation = messages.iter().find(|message| message[0] == b'R').context("a Relation message")?;
    // The only column is the last field: its type, and its type's modifier.
    let described = relation[relation.len() - 8..relation.len() - 4].try_into()?;
    assert_eq!(u32::from_be_bytes(described), domain);
    assert_ne!(domain, base);
    Ok(())
}

#[tokio::test]
async fn row_security_hides_rows_from_statements_and_not_from_the_stream() -> Result<()> {
    let database = database().await?;
    let client = database.client().await?;
    let role = format!("reader_{}", database.name());
    let sql = format!(
        "create table t (id int); alter table t enable row level security; create publication p for table t; \
         create role {role}; grant select on t to {role}"
    );
    client.batch_execute(&sql).await?;
    let slot = slot(&database, &client).await?;
    client.batch_execute("insert into t values (1)").await?;
    client.batch_execute(&format!("set role {role}")).await?;
    let seen = client.query("select from t", &[]).await?.len();
    client.batch_execute(&format!("reset role; drop owned by {role}; drop role {role}")).await?;
    assert_eq!(seen, 0, "no policy lets it see any");
    let inserts = stream(&client, &slot).await?.iter().filter(|message| message[0] == b'I').count();
    assert_eq!(inserts, 1);
    Ok(())
}
