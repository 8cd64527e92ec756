//! Whether the topic takes records with the times that they will have, and keeps them.
//!
//! A record has its commit's time, and a row from before the slot its own. Kafka counts the retention from there, whenever
//! the record came, and refuses times too far from its own clock.

use std::time::Duration;

use super::Side;
use crate::config::{LATE_AFTER_MS_MAX, Settings};
use crate::kafka::facts::TopicFacts;
use crate::postgres::catalogue::{self, Looked};
use crate::postgres::ledger;
use crate::postgres::names::{quoted, table_name};
use crate::postgres::{DatabaseError, Session};

const NAME: &str = "record times";

pub(super) async fn check(settings: &Settings, side: &mut Side<'_>, topic: &str, facts: &TopicFacts) {
    match facts.text("message.timestamp.type") {
        None => return,
        Some("LogAppendTime") => {
            return side.ok(NAME, format!("{topic} gives its records the time of their arrival"));
        }
        Some(_) => {}
    }
    let is_kept = [check_retention(settings, side, topic, facts), check_past(settings, side, topic, facts)];
    let is_taken = check_rows(settings, side, topic, facts).await;
    if is_taken && is_kept.iter().all(|well| *well) {
        side.ok(NAME, format!("{topic} takes and keeps them"));
    }
}

/// What Kafka means by no limit at all is the largest number, or -1; other brokers have other large ones (Redpanda 292 years),
/// above what --late-after-ms takes.
fn limit(facts: &TopicFacts, name: &str) -> Option<Duration> {
    let millis: i64 = facts.text(name)?.parse().ok()?;
    let millis = u64::try_from(millis).ok().filter(|millis| *millis < LATE_AFTER_MS_MAX)?;
    Some(Duration::from_millis(millis))
}

/// An event that is published later than the topic's retention is gone as soon as it is acknowledged, or soon after.
fn check_retention(settings: &Settings, side: &mut Side<'_>, topic: &str, facts: &TopicFacts) -> bool {
    let is_deleted = facts.text("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    let Some(kept) = limit(facts, "retention.ms").filter(|_| is_deleted) else { return true };
    let is_soon = |late: Duration| late >= kept;
    if settings.kafka.late_after.is_some_and(|late| !is_soon(late)) {
        return true;
    }
    side.warn(
        NAME,
        format!(
            "{topic} keeps a record for {} from the time of its commit: an event that is published later than that, after \
             an outage or from the table, may be deleted as soon as it is acknowledged",
            shown(kept)
        ),
        format!(
            "kafka-configs.sh --alter --topic {topic} --add-config message.timestamp.type=LogAppendTime; or start walpost \
             with --late-after-ms={}, below the retention: a late record then has the time of its publishing",
            (kept / 10).as_millis().max(1)
        ),
    );
    false
}

/// Kafka refuses a record whose time lies too far back (`message.timestamp.difference.max.ms` up to 3.5).
fn check_past(settings: &Settings, side: &mut Side<'_>, topic: &str, facts: &TopicFacts) -> bool {
    let names = ["message.timestamp.before.max.ms", "message.timestamp.difference.max.ms"];
    let Some((name, taken)) = names.into_iter().find_map(|name| Some((name, limit(facts, name)?))) else {
        return true;
    };
    if settings.kafka.late_after.is_some_and(|late| late <= taken) {
        return true;
    }
    side.warn(
        NAME,
        format!(
            "{topic} refuses records whose time lies more than {} back ({name}): a late event halts walpost",
            shown(taken)
        ),
        format!("start walpost with --late-after-ms={}, or less; or raise {name}", taken.as_millis().max(1)),
    );
    false
}

/// Rows that are still to be published from the table, with times that the topic refuses.
async fn check_rows(settings: &Settings, side: &mut Side<'_>, topic: &str, facts: &TopicFacts) -> bool {
    let name = "message.timestamp.after.max.ms";
    let Some(taken) = limit(facts, name) else { return true };
    match ahead(settings).await {
        Ok(Some(ahead)) if ahead > taken => {
            side.warn(
                NAME,
                format!(
                    "a row that is to be published from the table has a time {} ahead; {topic} refuses more than {} \
                     ({name})",
                    shown(ahead),
                    shown(taken)
                ),
                format!(
                    "correct the row's time, or raise {name}, or set message.timestamp.type=LogAppendTime: \
                     kafka-configs.sh --alter --topic {topic} --add-config …"
                ),
            );
            false
        }
        // The side of Postgres says what is wrong there.
        Ok(_) | Err(_) => true,
    }
}

/// How far ahead of the server's clock the latest time of a row is that will be published from a table.
async fn ahead(settings: &Settings) -> Result<Option<Duration>, DatabaseError> {
    let timeout = settings.timing.connect_timeout;
    let source = &settings.source;
    let session = Session::connect(&settings.database, timeout).await?;
    let memory = ledger::load(&session, &source.slot).await.unwrap_or_default();
    let mut most = None;
    for table in catalogue::expand(&session, &source.tables).await? {
        let Some(looked) = catalogue::look(&session, &table).await? else { continue };
        let known = memory.as_ref().and_then(|memory| memory.table(looked.relation.id));
        if known.is_none_or(|known| !known.backfilled) {
            most = most.max(ahead_of(&session, &looked).await?);
        }
    }
    Ok(most)
}

async fn ahead_of(session: &Session, looked: &Looked) -> Result<Option<Duration>, DatabaseError> {
    let Some(written) = looked.time_column().map(quoted) else { return Ok(None) };
    let Ok(table) = &looked.table else { return Ok(None) };
    // As walpost reads it: a time without a zone is taken as UTC.
    let sql = format!(
        "select (1000 * (extract(epoch from max({written})) - extract(epoch from clock_timestamp())))::bigint \
         from {} where isfinite({written})",
        table_name(table)
    );
    let row = session.within("look for rows ahead of their time", async {
        session
            .client()
            .query_one(&sql, &[])
            .await
            .map_err(session.error("look for rows ahead of their time"))
    });
    let ahead: Option<i64> = row.await?.get(0);
    Ok(ahead.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis))
}

/// A time as people say it.
fn shown(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
