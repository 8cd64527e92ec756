//! The last quarter of an hour, in points: what the plots show. Bounded by its number of points.

use std::collections::VecDeque;

use serde::Serialize;

use crate::observe::board::View;
use crate::observe::sampler::Sample;
use crate::observe::snapshot::Rates;
use walpost_core::publish::counts::Counts;

/// Seconds between two points.
pub(super) const STEP_SECONDS: u64 = 2;

/// Points of 15 minutes, at one each [`STEP_SECONDS`].
const POINTS: usize = 450;

/// Over how many points the rates are taken: short enough to follow, long enough not to flicker.
const RATE_POINTS: usize = 3;

/// Over which time the disk's are: a burst of a minute is no trend.
const TREND_MS: i64 = 5 * 60_000;

/// Samples that are kept of it: no more than one for each point.
const TREND_POINTS: usize = 150;

/// Less than this is no trend yet.
const TREND_MS_MIN: i64 = 60_000;

/// What runs out later than this does not run out: so long no trend lasts.
const RUNS_OUT_SECONDS_MAX: f64 = 30.0 * 24.0 * 3_600.0;

/// What was seen at one moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    at_ms: i64,
    events_per_second: f64,
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
    retained_wal_bytes: Option<u64>,
    lag_seconds: f64,
}

/// What a point is made from, and the rates.
#[derive(Debug, Clone)]
struct Seen {
    at_ms: i64,
    counts: Counts,
}

/// What a sample said when it was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Disk {
    at_ms: i64,
    wal_end: u64,
    safe_bytes: Option<i64>,
}

/// The points.
#[derive(Debug, Default)]
pub(super) struct History {
    points: VecDeque<Point>,
    seen: VecDeque<Seen>,
    disk: VecDeque<Disk>,
}

impl History {
    /// Takes a point.
    pub(super) fn take(&mut self, view: &View) {
        keep(&mut self.seen, RATE_POINTS + 1, Seen { at_ms: view.now_ms, counts: view.numbers.counts });
        if let Some(sample) = &view.sample {
            let safe_bytes = sample.slot.as_ref().and_then(|slot| slot.safe_wal_size);
            let disk = Disk { at_ms: sample.at_ms, wal_end: sample.wal_end.0, safe_bytes };
            if self.disk.back().is_none_or(|last| last.at_ms != disk.at_ms) {
                keep(&mut self.disk, TREND_POINTS, disk);
                self.disk.retain(|seen| disk.at_ms - seen.at_ms <= TREND_MS);
            }
        } else {
            // What it was before nobody could ask says nothing of now.
            self.disk.clear();
        }
        let rates = self.rates();
        let point = Point {
            at_ms: view.now_ms,
            events_per_second: rates.events_per_second,
            latency_p50_ms: rates.latency_p50_ms,
            latency_p99_ms: rates.latency_p99_ms,
            retained_wal_bytes: view.sample.as_ref().and_then(Sample::retained_wal_bytes),
            lag_seconds: view.lag_seconds,
        };
        keep(&mut self.points, POINTS, point);
    }

    /// Oldest first.
    pub(super) fn points(&self) -> &VecDeque<Point> {
        &self.points
    }

    /// The newest.
    pub(super) fn newest(&self) -> Option<&Point> {
        self.points.back()
    }

    /// How fast things change now.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.seen.front(), self.seen.back()) else {
            return Rates::default();
        };
        let latency = last.counts.latency.since(&first.counts.latency);
        let per_second = |now: u64, then: u64| {
            per_second(now.saturating_sub(then) as f64, last.at_ms - first.at_ms).unwrap_or_default()
        };
        Rates {
            events_per_second: per_second(last.counts.published, first.counts.published),
            bytes_per_second: per_second(last.counts.published_bytes, first.counts.published_bytes),
            latency_p50_ms: latency.quantile_ms(0.5),
            latency_p99_ms: latency.quantile_ms(0.99),
            wal_bytes_per_second: self.wal_rate(),
            exhausted_in_seconds: self.exhausted_in(),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn wal_rate(&self) -> Option<f64> {
        let (first, last) = (self.disk.front()?, self.disk.back()?);
        per_second(last.wal_end.saturating_sub(first.wal_end) as f64, last.at_ms - first.at_ms)
    }

    /// At the rate at which the room has become less, by what was left at best in both halves of the time. Each time that
    /// the slot's restart position moves on there is more again: only when the later half never came back to any of the
    /// earlier one it is a trend.
    #[allow(clippy::cast_precision_loss)]
    fn exhausted_in(&self) -> Option<f64> {
        let (first, last) = (self.disk.front()?, self.disk.back()?);
        if last.at_ms - first.at_ms < TREND_MS_MIN {
            return None;
        }
        let middle = i64::midpoint(first.at_ms, last.at_ms);
        let (earlier, later): (Vec<&Disk>, Vec<&Disk>) =
            self.disk.iter().partition(|disk| disk.at_ms < middle);
        let best = |half: &[&Disk]| half.iter().max_by_key(|disk| disk.safe_bytes).map(|disk| **disk);
        let (before, after) = (best(&earlier)?, best(&later)?);
        if earlier.iter().any(|disk| disk.safe_bytes <= after.safe_bytes) {
            return None;
        }
        let used = (before.safe_bytes? - after.safe_bytes?) as f64;
        let used = per_second(used, after.at_ms - before.at_ms)?;
        Some(last.safe_bytes?.max(0) as f64 / used).filter(|left| *left < RUNS_OUT_SECONDS_MAX)
    }
}

#[allow(clippy::cast_precision_loss)]
fn per_second(change: f64, millis: i64) -> Option<f64> {
    (millis > 0).then(|| change * 1e3 / millis as f64)
}

fn keep<T>(queue: &mut VecDeque<T>, most: usize, item: T) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WindowSettings;
    use crate::observe::board::{Limits, Vitals};
    use crate::observe::sampler::OutboxSample;
    use std::time::Duration;
    use walpost_core::lsn::Lsn;

    fn view(at_ms: i64, published: u64, safe_bytes: i64) -> View {
        let window = WindowSettings { records: 1, bytes: 1 };
        let long = Duration::from_secs(60);
        let mut view =
            Vitals::new(Limits { window, stall_timeout: long, sample_age_max: long, preset: None }).view();
        view.now_ms = at_ms;
        view.numbers.counts.published = published;
        let slot = serde_json::json!({"slot_name": "s", "active": true, "safe_wal_size": safe_bytes});
        view.sample = Some(Sample {
            at_ms,
            server_version: String::new(),
            wal_end: Lsn(1_000_000_000 - safe_bytes.unsigned_abs()),
            wal_directory_bytes: None,
            wal_keep_max_bytes: None,
            slot: serde_json::from_value(slot).ok(),
            outbox: OutboxSample::default(),
        });
        view
    }

    #[test]
    fn rates_are_those_of_the_last_points() {
        let mut history = History::default();
        for step in 0..10 {
            history.take(&view(step * 10_000, 1_000 * step.unsigned_abs(), 1_000_000 - step * 10_000));
        }
        let rates = history.rates();
        assert!((rates.events_per_second - 100.0).abs() < 1e-6, "{rates:?}");
        assert_eq!(rates.wal_bytes_per_second, Some(1_000.0));
        assert_eq!(rates.exhausted_in_seconds, Some(910.0));
    }

    #[test]
    fn a_slot_that_moves_on_in_steps_does_not_run_out() {
        let mut history = History::default();
        // Less and less for 20 s, then nearly all of it again.
        (0..45).for_each(|step| {
            history.take(&view(step * 2_000, 0, 1_000_000 - step % 10 * 20_000 - step / 10 * 1_000))
        });
        assert_eq!(history.rates().exhausted_in_seconds, None);
    }

    #[test]
    fn what_nobody_could_ask_for_is_not_known() {
        let mut history = History::default();
        (0..40).for_each(|step| history.take(&view(step * 2_000, 0, 1_000_000 - step * 2_000)));
        assert!(history.rates().exhausted_in_seconds.is_some());
        let mut away = view(80_000, 0, 0);
        away.sample = None;
        history.take(&away);
        let rates = history.rates();
        assert_eq!((rates.wal_bytes_per_second, rates.exhausted_in_seconds), (None, None));
    }

    #[test]
    fn a_slot_that_gains_room_does_not_run_out() {
        let mut history = History::default();
        (0..50).for_each(|step| history.take(&view(step * 2_000, 0, 100_000 + step * 2_000)));
        assert_eq!(history.rates().exhausted_in_seconds, None);
    }

    #[test]
    fn no_more_than_a_quarter_of_an_hour_is_kept() {
        let mut history = History::default();
        (0..1_000).for_each(|step| history.take(&view(step * 2_000, 0, 1)));
        assert_eq!((history.points.len(), history.seen.len(), history.disk.len()), (450, 4, 150));
    }
}
