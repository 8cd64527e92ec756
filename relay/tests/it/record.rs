use anyhow::{Context, Result, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use harness::Received;
use harness::events::{EventType, PackageEvent};
use prost::Message;
use tokio_postgres::Client;

use crate::case::{Case, SOON};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A row of the outbox, as SQL shows it.
struct Row {
    id: i64,
    key: i64,
    kind: &'static str,
    payload: Option<String>,
    created_at: DateTime<Utc>,
    event_id: String,
    traceparent: Option<String>,
}

/// Postgres' own account of the transaction's end: the Commit message as a second slot has it.
struct Commit {
    end_lsn: u64,
    unix_ms: i64,
}

#[tokio::test]
async fn a_record_is_what_the_contract_says_byte_by_byte() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    let witness = format!("{}_witness", case.database.slot_name());
    client.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&witness]).await?;
    client
        .batch_execute(&format!(
            "begin; insert into package_event (package_id, event_type, payload, traceparent) values \
             (7, 'Created', '{{\"ID\": 7, \"Title\": \"caf\u{e9} \\\"x\\\"\", \"Updated\": null}}', '{TRACEPARENT}'), \
             (7, 'Updated', '{{\"ID\": 7, \"MaximumVolume\": 700.5}}', null), \
             (9223372036854775807, 'Removed', null, null); commit"
        ))
        .await?;

    let received = case.topic.read(3, SOON).await?;
    let commit = witnessed_commit(&client, &witness).await?;
    let rows = rows(&client).await?;
    for (ordinal, row) in rows.iter().enumerate() {
        let find = |record: &&Received| record.header("ce_id") == Some(row.event_id.as_str());
        let record = received.iter().find(find).context("an event is missing")?;
        assert_eq!(record.key, row.key.to_string().into_bytes());
        assert_eq!(record.value, value_of(row)?, "event {ordinal}");
        assert_eq!(text(&record.headers), headers_of(row, &commit, ordinal), "event {ordinal}");
        assert_eq!(record.timestamp_ms, commit.unix_ms);
    }
    Ok(())
}

fn text(headers: &[(String, Vec<u8>)]) -> Vec<(String, String)> {
    let mut headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    headers.sort();
    headers
}

/// In the order of their names: the contract gives them no other.
fn headers_of(row: &Row, commit: &Commit, ordinal: usize) -> Vec<(String, String)> {
    let kind = row.kind.to_lowercase();
    let mut headers = vec![
        ("ce_id", row.event_id.clone()),
        ("ce_source", "/logistic-package-api".into()),
        ("ce_specversion", "1.0".into()),
        ("ce_subject", row.key.to_string()),
        ("ce_time", row.created_at.to_rfc3339_opts(SecondsFormat::Micros, true)),
        ("ce_type", format!("hablof.logistic_package_api.package.{kind}")),
        ("content-type", "application/protobuf".into()),
        ("wal-lsn", format!("{:X}/{:X}", commit.end_lsn >> 32, commit.end_lsn & 0xFFFF_FFFF)),
        ("wal-seq", ordinal.to_string()),
    ];
    if let Some(traceparent) = &row.traceparent {
        headers.push(("traceparent", traceparent.clone()));
    }
    let mut headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    headers.sort();
    headers
}

fn value_of(row: &Row) -> Result<Vec<u8>> {
    let kind = match row.kind {
        "Created" => EventType::Created,
        "Updated" => EventType::Updated,
        _ => EventType::Removed,
    };
    let created = prost_types::Timestamp {
        seconds: row.created_at.timestamp(),
        nanos: i32::try_from(row.created_at.timestamp_subsec_nanos())?,
    };
    let event = PackageEvent {
        id: u64::try_from(row.id)?,
        package_id: u64::try_from(row.key)?,
        r#type: kind.into(),
        created: Some(created),
        payload: row.payload.clone().unwrap_or_default().into_bytes(),
    };
    Ok(event.encode_to_vec())
}

async fn rows(client: &Client) -> Result<Vec<Row>> {
    let sql = "select package_event_id, package_id, event_type::text, payload::text, created_at, event_id::text, \
               traceparent from package_event order by 1";
    let rows = client.query(sql, &[]).await?;
    let kind = |kind: &str| match kind {
        "Created" => "Created",
        "Updated" => "Updated",
        _ => "Removed",
    };
    let row = |row: &tokio_postgres::Row| Row {
        id: row.get(0),
        key: row.get(1),
        kind: kind(row.get(2)),
        payload: row.get(3),
        created_at: row.get(4),
        event_id: row.get(5),
        traceparent: row.get(6),
    };
    Ok(rows.iter().map(row).collect())
}

/// "Logical Replication Message Formats", Commit: `C`, flags, LSN of the commit, end LSN of the transaction, and the
/// time in microseconds since 2000. That of the transaction with the rows: up to 14 transactions without any are told too.
async fn witnessed_commit(client: &Client, slot: &str) -> Result<Commit> {
    let sql = "select data from pg_logical_slot_peek_binary_changes($1, null, null, \
               'proto_version', '1', 'publication_names', 'package_event_pub')";
    let rows = client.query(sql, &[&slot]).await?;
    let messages = rows.iter().map(|row| row.get::<_, Vec<u8>>(0));
    let is = |kind: u8| move |data: &Vec<u8>| data.first() == Some(&kind);
    let commit = messages.skip_while(|data| !is(b'I')(data)).find(is(b'C'));
    let commit = commit.context("the second slot has no commit")?;
    ensure!(commit.len() == 26, "a commit of {} bytes", commit.len());
    let number = |at: usize| commit[at..at + 8].try_into().map(u64::from_be_bytes);
    let micros_since_2000 = i64::try_from(number(18)?)?;
    Ok(Commit { end_lsn: number(10)?, unix_ms: (micros_since_2000 + 946_684_800_000_000).div_euclid(1_000) })
}

#[tokio::test]
async fn a_plain_insert_by_anyone_is_published() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    let sql =
        "insert into package_event(package_id, event_type, payload) values (42, 'Created', '{\"ID\": 42}')";
    case.database.execute(sql).await?;
    let received = case.topic.read(1, SOON).await?;
    assert_eq!(received[0].key_text(), "42");
    assert_eq!(harness::events::decode(&received[0])?.payload, b"{\"ID\": 42}");
    Ok(())
}

#[tokio::test]
async fn a_key_is_on_the_partition_that_a_java_producer_would_choose() -> Result<()> {
    let case = Case::new().await?;
    let _relay = case.relay.init_and_run().await?;
    case.commit(200, 200, 50).await?;
    for record in case.topic.read(200, SOON).await? {
        let expected = java_partition(&record.key, case.topic.partitions);
        assert_eq!(record.partition, expected, "key {}", record.key_text());
    }
    Ok(())
}

/// `Utils.toPositive(Utils.murmur2(key)) % partitions` of Kafka's Java client.
fn java_partition(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff).cast_signed() % partitions
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c_u32 ^ length;
    let chunks = data.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The cases of `UtilsTest.testMurmur2` in Kafka's source.
#[test]
fn the_reference_partitioner_is_kafkas() {
    let cases: [(&[u8], i32); 6] = [
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        (b"abc", 479_470_107),
    ];
    for (key, hash) in cases {
        assert_eq!(murmur2(key).cast_signed(), hash);
    }
}
