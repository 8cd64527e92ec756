//! What is measured of every event, in plain numbers: added up by the one thread that has them, read by others later.
//!
//! No allocation and no atomic operation for an event; see `relay/tests/allocations.rs`.

use crate::event::reader::Reader;
use crate::event::{Entry, PlacedRow};
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

/// An acknowledged event as the page shows it: which it was, never what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    key: Option<Short<48>>,
    kind: Option<Short<48>>,
    id: Option<Short<64>>,
    /// Its position in the WAL.
    pub lsn: Lsn,
    /// Its ordinal in the transaction.
    pub ordinal: u64,
    /// When its transaction committed, microseconds since 1970-01-01 UTC.
    pub committed_at: i64,
    /// When it was acknowledged, likewise.
    pub acknowledged_at: i64,
}

impl Seen {
    fn new(placed: &PlacedRow, acknowledged_at: i64, reader: &mut Reader) -> Self {
        let position = placed.position;
        Self {
            key: reader.key(placed).map(Short::new),
            kind: reader.kind(placed).map(Short::new),
            id: reader.id(placed).map(Short::new),
            lsn: position.lsn,
            ordinal: position.ordinal,
            committed_at: position.committed().unwrap_or(acknowledged_at),
            acknowledged_at,
        }
    }

    /// What it is about; a long text is cut off.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.key.as_ref().map(Short::text)
    }

    /// What happened, where the rows say it.
    #[must_use]
    pub fn kind(&self) -> Option<String> {
        self.kind.as_ref().map(Short::text)
    }

    /// The event's id, where the rows have one.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.id.as_ref().map(Short::text)
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
    /// Keeps an acknowledged event, to be shown.
    pub fn show(&mut self, entry: &Entry, acknowledged_at: i64, reader: &mut Reader) {
        if let Entry::Row(placed) = entry {
            self.push(Seen::new(placed, acknowledged_at, reader));
        }
    }

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
    /// Counts a record that Kafka has acknowledged.
    pub fn acknowledged(&mut self, entry: &Entry, measuring: Measuring) {
        self.acknowledged += 1;
        let Entry::Row(placed) = entry else { return };
        self.published += 1;
        self.published_bytes += placed.row.bytes() as u64;
        if let (true, Some(committed_at)) = (measuring.timed, placed.position.committed()) {
            self.latency.observe(measuring.now.saturating_sub(committed_at));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::event::Position;
    use crate::event::fixture;

    fn entry(id: i64, key: &str) -> Entry {
        let position = Position { lsn: Lsn(7), ordinal: id.unsigned_abs(), committed_at: 1_000 };
        fixture::placed(&Arc::new(fixture::plan()), id, key, position).into()
    }

    #[test]
    fn the_newest_events_are_kept_and_no_more() {
        let (mut counts, mut recent, mut reader) = (Counts::default(), Recent::default(), Reader::default());
        for id in 0..30 {
            let entry = entry(id, "7");
            counts.acknowledged(&entry, Measuring { now: 3_000, timed: true });
            recent.show(&entry, 3_000, &mut reader);
        }
        let ordinals: Vec<_> = recent.newest_first().map(|seen| seen.ordinal).collect();
        assert_eq!(ordinals, (18..30).rev().collect::<Vec<_>>());
        assert_eq!((counts.published, counts.latency.count()), (30, 30));
    }

    #[test]
    fn rows_from_before_the_slot_are_counted_and_not_timed() {
        let mut counts = Counts::default();
        counts.acknowledged(&entry(1, "1"), Measuring { now: 9, timed: false });
        assert_eq!((counts.published, counts.latency.count()), (1, 0));
    }

    #[test]
    fn an_event_is_shown_by_its_key_type_and_id() {
        let mut recent = Recent::default();
        recent.show(&entry(1, "42"), 0, &mut Reader::default());
        let seen = recent.newest_first().next().unwrap();
        assert_eq!(seen.key().as_deref(), Some("42"));
        assert_eq!(seen.kind().as_deref(), Some("Created"));
        assert_eq!(seen.id().as_deref(), Some("07070707-0707-0707-0707-070707070707"));
    }

    #[test]
    fn a_long_key_is_cut_and_a_broken_one_is_shown() {
        assert_eq!(Short::<48>::new(&[b'k'; 100]).text().len(), 48);
        assert_eq!(Short::<48>::new(b"\xff").text(), "\u{fffd}");
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
