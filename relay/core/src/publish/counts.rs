//! What is measured of every event, in plain numbers: added up by the one thread that has them, read by others later.
//!
//! No allocation and no atomic operation for an event; see `relay/tests/allocations.rs`.

use uuid::Uuid;

use crate::event::Key;
use crate::event::position::{Entry, PlacedEvent};
use crate::lsn::Lsn;

/// Upper bounds of the histogram, microseconds: from a millisecond, which an acknowledgement by a near broker takes, to
/// five minutes, which is an outage.
pub const LATENCY_BOUNDS_US: [u64; 19] = [
    1_000,
    2_000,
    3_000,
    5_000,
    7_500,
    10_000,
    20_000,
    30_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// Times from the commit in Postgres to Kafka's acknowledgement, by bucket.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Counts by the bounds of [`LATENCY_BOUNDS_US`], not added up; the last is what was above them all.
    buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Latency {
    /// Counts an event that took so many microseconds. Postgres and this machine have each a clock of their own, so it
    /// may be below 0: then it counts as 0.
    pub fn observe(&mut self, micros: i64) {
        let micros = u64::try_from(micros).unwrap_or_default();
        // Most events are in the first few buckets.
        let bucket = LATENCY_BOUNDS_US.iter().position(|bound| micros <= *bound);
        self.buckets[bucket.unwrap_or(LATENCY_BOUNDS_US.len())] += 1;
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together, seconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Upper bound in seconds and the count up to it, for each bucket but the last.
    #[allow(clippy::cast_precision_loss)]
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        LATENCY_BOUNDS_US.iter().zip(self.buckets).map(move |(bound, count)| {
            total += count;
            (*bound as f64 / 1e6, total)
        })
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (now, then) in since.buckets.iter_mut().zip(earlier.buckets) {
            *now = now.saturating_sub(then);
        }
        since.sum_us = since.sum_us.saturating_sub(earlier.sum_us);
        since
    }

    /// The time in milliseconds within which this part of them was acknowledged (0 to 1), as far as the buckets can
    /// tell: even within a bucket, as Prometheus' `histogram_quantile` assumes. `None` when nothing was counted.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn quantile_ms(&self, part: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = part * count as f64;
        let mut below = 0;
        for (index, inside) in self.buckets.iter().enumerate() {
            if *inside > 0 && (below + inside) as f64 >= rank {
                let lower = index.checked_sub(1).map_or(0, |index| LATENCY_BOUNDS_US[index]) as f64;
                let Some(upper) = LATENCY_BOUNDS_US.get(index) else { return Some(lower / 1e3) };
                let share = (rank - below as f64) / *inside as f64;
                return Some((lower + (*upper as f64 - lower) * share) / 1e3);
            }
            below += inside;
        }
        None
    }
}

/// A text of at most so many bytes, in place; the rest is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Short<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Short<N> {
    fn new(text: &[u8]) -> Self {
        let length = text.len().min(N);
        let mut bytes = [0; N];
        bytes[..length].copy_from_slice(&text[..length]);
        Self { bytes, length }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.length]).into_owned()
    }
}

/// What an event is about, kept without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeenKey {
    Integer(i64),
    Text(Short<48>),
    Uuid(Uuid),
}

/// An acknowledged event as the page shows it: which it was, never what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The row's number.
    pub id: i64,
    key: SeenKey,
    kind: Short<24>,
    /// The UUID to deduplicate by.
    pub event_id: Uuid,
    /// Its position in the log.
    pub lsn: Lsn,
    /// Its ordinal in the transaction.
    pub ordinal: u64,
    /// When its transaction committed, microseconds since 1970-01-01 UTC.
    pub committed_at: i64,
    /// When it was acknowledged, likewise.
    pub acknowledged_at: i64,
}

impl Seen {
    fn new(placed: &PlacedEvent, acknowledged_at: i64) -> Self {
        let PlacedEvent { event, position, .. } = placed;
        let key = match &event.key {
            Key::Integer(number) => SeenKey::Integer(*number),
            Key::Text(text) => SeenKey::Text(Short::new(text)),
            Key::Uuid(uuid) => SeenKey::Uuid(*uuid),
        };
        Self {
            id: event.id,
            key,
            kind: Short::new(&event.kind),
            event_id: event.event_id,
            lsn: position.lsn,
            ordinal: position.ordinal,
            committed_at: position.committed_at,
            acknowledged_at,
        }
    }

    /// What it is about; a long text is cut off.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.key {
            SeenKey::Integer(number) => number.to_string(),
            SeenKey::Text(text) => text.text(),
            SeenKey::Uuid(uuid) => uuid.to_string(),
        }
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> String {
        self.kind.text()
    }
}

/// How many of the latest events are kept.
pub const RECENT: usize = 12;

/// The latest acknowledged events.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    ring: [Option<Seen>; RECENT],
    next: usize,
}

impl Recent {
    fn push(&mut self, seen: Seen) {
        self.ring[self.next] = Some(seen);
        self.next = (self.next + 1) % RECENT;
    }

    /// Newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Seen> {
        (1..=RECENT).filter_map(|back| self.ring[(self.next + RECENT - back) % RECENT].as_ref())
    }
}

/// Counts of what has happened to events.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Records acknowledged, dead letters among them.
    pub acknowledged: u64,
    /// Events acknowledged.
    pub published: u64,
    /// Bytes of their rows.
    pub published_bytes: u64,
    /// Rows that went to the topic of dead letters instead.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letter_bytes: u64,
    /// Events that a reconnect brought again and that were not published twice.
    pub repeated: u64,
    /// Bytes of their rows.
    pub repeated_bytes: u64,
    /// Records handed to a producer again after it was replaced.
    pub retried: u64,
    /// Producers replaced.
    pub restarts: u64,
    /// From commit to acknowledgement.
    pub latency: Latency,
}

/// How records of a batch of reports are measured.
#[derive(Debug, Clone, Copy)]
pub struct Measuring {
    /// Now, microseconds since 1970-01-01 UTC.
    pub now: i64,
    /// Whether the times count: those of rows that stood in the table before say nothing about the relay.
    pub timed: bool,
}

impl Counts {
    /// Counts a record that Kafka has acknowledged; one of the last of its batch is kept to be shown.
    pub fn acknowledged(&mut self, entry: &Entry, measuring: Measuring, recent: Option<&mut Recent>) {
        self.acknowledged += 1;
        let Entry::Event(placed) = entry else { return };
        self.published += 1;
        self.published_bytes += placed.bytes as u64;
        if measuring.timed {
            self.latency.observe(measuring.now.saturating_sub(placed.position.committed_at));
        }
        if let Some(recent) = recent {
            recent.push(Seen::new(placed, measuring.now));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::event::OutboxEvent;
    use crate::event::position::Position;

    fn placed(id: i64, key: Key) -> PlacedEvent {
        let event = OutboxEvent {
            id,
            key,
            kind: Bytes::from_static(b"Created"),
            payload: None,
            created_at: 0,
            event_id: Uuid::nil(),
            traceparent: None,
        };
        let position = Position { lsn: Lsn(7), ordinal: 0, committed_at: 1_000 };
        PlacedEvent { event, position, bytes: 300 }
    }

    #[test]
    fn the_newest_events_are_kept_and_no_more() {
        let (mut counts, mut recent) = (Counts::default(), Recent::default());
        for id in 0..30 {
            let entry = placed(id, Key::Integer(id)).into();
            counts.acknowledged(&entry, Measuring { now: 3_000, timed: true }, Some(&mut recent));
        }
        let ids: Vec<_> = recent.newest_first().map(|seen| seen.id).collect();
        assert_eq!(ids, (18..30).rev().collect::<Vec<_>>());
        assert_eq!((counts.published, counts.published_bytes, counts.latency.count()), (30, 9_000, 30));
    }

    #[test]
    fn rows_from_before_the_slot_are_counted_and_not_timed() {
        let mut counts = Counts::default();
        counts.acknowledged(&placed(1, Key::Integer(1)).into(), Measuring { now: 9, timed: false }, None);
        assert_eq!((counts.published, counts.latency.count()), (1, 0));
    }

    #[test]
    fn a_long_key_is_cut_and_a_broken_one_is_shown() {
        let long = placed(1, Key::Text(Bytes::from(vec![b'k'; 100])));
        assert_eq!(Seen::new(&long, 0).key().len(), 48);
        let broken = placed(1, Key::Text(Bytes::from_static(b"\xff")));
        assert_eq!(Seen::new(&broken, 0).key(), "\u{fffd}");
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_negative_time() {
        let mut latency = Latency::default();
        latency.observe(-5_000);
        assert_eq!((latency.count(), latency.sum_seconds()), (1, 0.0));
    }

    #[test]
    fn without_events_there_is_no_quantile() {
        assert_eq!(Latency::default().quantile_ms(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_in_the_bucket_of_the_event_at_its_rank(
            mut micros in prop::collection::vec(0i64..400_000_000, 1..200), part in 0.01f64..1.0,
        ) {
            let mut latency = Latency::default();
            micros.iter().for_each(|micros| latency.observe(*micros));
            micros.sort_unstable();
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
            let rank = ((part * micros.len() as f64).ceil() as usize).clamp(1, micros.len());
            let exact = u64::try_from(micros[rank - 1]).unwrap();
            let upper = LATENCY_BOUNDS_US.iter().position(|bound| exact <= *bound);
            let lower = upper.unwrap_or(LATENCY_BOUNDS_US.len()).checked_sub(1).map_or(0, |at| LATENCY_BOUNDS_US[at]);
            let upper = upper.map_or(lower, |at| LATENCY_BOUNDS_US[at]);
            #[allow(clippy::cast_precision_loss)]
            let (low, high) = (lower as f64 / 1e3 - 1e-6, upper as f64 / 1e3 + 1e-6);
            let quantile = latency.quantile_ms(part).unwrap();
            prop_assert!((low..=high).contains(&quantile), "{quantile} is not in {low} to {high}");
        }

        #[test]
        fn what_was_counted_since_is_what_was_added(
            first in prop::collection::vec(0i64..400_000_000, 0..50),
            second in prop::collection::vec(0i64..400_000_000, 0..50),
        ) {
            let (mut whole, mut then, mut alone) = (Latency::default(), Latency::default(), Latency::default());
            first.iter().for_each(|micros| { whole.observe(*micros); then.observe(*micros); });
            second.iter().for_each(|micros| { whole.observe(*micros); alone.observe(*micros); });
            prop_assert_eq!(whole.since(&then), alone);
            prop_assert_eq!(whole.cumulative().last().unwrap().1 + whole.buckets[LATENCY_BOUNDS_US.len()], whole.count());
        }
    }
}
