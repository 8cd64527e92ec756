//! The time of day, for what people and machines are shown. No wait depends on it; of decisions two: which records are
//! old to Kafka's brokers, and which events are late (`--late-after-ms`): both go by the time of day themselves.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01 UTC.
#[must_use]
pub fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970-01-01 UTC.
#[must_use]
pub fn unix_millis() -> i64 {
    unix_micros() / 1_000
}
