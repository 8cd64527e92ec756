//! What the relay shows of itself: written once a batch by the thread that relays, read by those who look.
//!
//! One lock, taken once a batch for as long as it takes to copy some hundred bytes; never for an event.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Settings, WindowSettings};
use crate::kafka::statistics::{KafkaNumbers, StatisticsCell};
use crate::kafka::tally::{Tally, TallyCell};
use crate::observe::health::{Health, Reached, Reads};
use crate::observe::sampler::Sample;
use crate::observe::state::{Doing, Peer, State, StateCell};
use walpost_core::clock;
use walpost_core::lsn::Lsn;
use walpost_core::publish::Publisher;
use walpost_core::publish::counts::{Counts, Recent};
use walpost_core::publish::sink::Sink;

/// The latest events are copied at most this often, and only when there are new ones.
const RECENT_EVERY_US: i64 = 200_000;

/// What the relay shows of itself. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    started_ms: i64,
    state: StateCell,
    board: Mutex<Board>,
    sample: Mutex<Option<(Instant, Sample)>>,
    kafka: Mutex<Option<StatisticsCell>>,
    topics: Mutex<TallyCell>,
    rare: Rare,
}

/// What the numbers are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The window's bounds.
    pub window: WindowSettings,
    /// After this time without an acknowledgement the relay is stalled.
    pub stall_timeout: Duration,
    /// What was sampled is not shown when it is older.
    pub sample_age_max: Duration,
    /// The preset that the settings began with.
    pub preset: Option<&'static str>,
}

impl Limits {
    /// As the settings have it.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let timing = &settings.timing;
        Self {
            window: settings.window,
            stall_timeout: timing.stall_timeout,
            sample_age_max: 3 * timing.sample_interval + timing.peer_timeout,
            preset: settings.preset,
        }
    }
}

#[derive(Debug)]
struct Board {
    numbers: Numbers,
    recent: Recent,
    /// When the latest events were copied, and how many there had been.
    recent_at: (i64, u64),
    health: Health,
}

/// What changes with every batch.
#[derive(Debug, Default, Clone, Copy)]
pub struct Numbers {
    /// Records in flight.
    pub window_records: u64,
    /// Bytes in flight, as the window counts them.
    pub window_bytes: u64,
    /// Events read and not yet confirmed to Postgres.
    pub unconfirmed: u64,
    /// When the oldest event in flight committed, microseconds since 1970-01-01 UTC.
    pub oldest_committed_at: Option<i64>,
    /// The end of what this connection was sent.
    pub received: Lsn,
    /// Before here everything is acknowledged.
    pub acknowledged: Lsn,
    /// What has happened to events.
    pub counts: Counts,
}

/// What happens now and then, from several tasks.
#[derive(Debug, Default)]
struct Rare {
    confirmed: AtomicU64,
    reconnects: [AtomicU64; Peer::ALL.len()],
    halts: AtomicU64,
    rows_removed: AtomicU64,
    rows_overdue: AtomicU64,
    sample_errors: AtomicU64,
    partitions: AtomicU64,
}

/// All that there is to see, at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// This moment, milliseconds since 1970-01-01 UTC.
    pub now_ms: i64,
    /// When the process began, likewise.
    pub started_ms: i64,
    /// What the relay is doing: stalled, where [`Health`] finds it so.
    pub doing: Doing,
    /// The window's bounds.
    pub window: WindowSettings,
    /// What changes with every batch.
    pub numbers: Numbers,
    /// Seconds since the commit of the oldest event that is not acknowledged; see [`View::lag_seconds`].
    pub lag_seconds: f64,
    /// The position confirmed to Postgres.
    pub confirmed: Lsn,
    /// Sessions begun again, in the order of [`Peer::ALL`].
    pub reconnects: [u64; Peer::ALL.len()],
    /// Halts for safety.
    pub halts: u64,
    /// Published rows removed from the outbox.
    pub rows_removed: u64,
    /// Rows past the retention that stay, since nothing proves that they are in Kafka.
    pub rows_overdue: u64,
    /// Questions to Postgres that failed.
    pub sample_errors: u64,
    /// Partitions of the topic, when it was looked at last.
    pub partitions: Option<u64>,
    /// What Postgres says, unless it is too old.
    pub sample: Option<Sample>,
    /// What librdkafka says.
    pub kafka: Option<KafkaNumbers>,
    /// What became of records, by topic.
    pub topics: Tally,
    /// The preset that the settings began with.
    pub preset: Option<&'static str>,
}

impl Vitals {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let board = Board {
            numbers: Numbers::default(),
            recent: Recent::default(),
            recent_at: (0, 0),
            health: Health::new(Instant::now()),
        };
        Self(Arc::new(Inner {
            limits,
            started_ms: clock::unix_millis(),
            state: StateCell::default(),
            board: Mutex::new(board),
            sample: Mutex::new(None),
            kafka: Mutex::new(None),
            topics: Mutex::default(),
            rare: Rare::default(),
        }))
    }

    /// Where the relay says what it is doing.
    #[must_use]
    pub fn state(&self) -> &StateCell {
        &self.0.state
    }

    /// Says what the relay is doing now.
    pub fn set_state(&self, state: State) {
        match &state {
            State::Halted { .. } => add(&self.0.rare.halts, 1),
            State::Streaming => lock(&self.0.board).health.began(Reads::Log, Instant::now()),
            State::Backfilling => lock(&self.0.board).health.began(Reads::Table, Instant::now()),
            State::Standby { .. } => lock(&self.0.board).health.stands_by(Instant::now()),
            _ => {}
        }
        self.0.state.set(state);
    }

    /// Shows the window as it is now, of which events before `confirmed` are confirmed, or about to be.
    pub fn show<S: Sink>(&self, publisher: &Publisher<S>, confirmed: u64) {
        let (progress, counts) = (publisher.progress(), publisher.counts());
        let now = clock::unix_micros();
        let numbers = Numbers {
            window_records: progress.records() as u64,
            window_bytes: progress.bytes() as u64,
            unconfirmed: progress.next_sequence().saturating_sub(confirmed),
            // A dead letter of a backfill has no time.
            oldest_committed_at: progress
                .oldest()
                .map(|entry| entry.position().committed_at)
                .filter(|at| *at > 0),
            received: progress.received_lsn(),
            acknowledged: progress.acknowledged(),
            counts,
        };
        let reached = Reached {
            acknowledged: numbers.acknowledged,
            records: counts.acknowledged,
            in_flight: numbers.window_records,
            oldest: progress.oldest_sequence(),
            streamed: progress.received_lsn().0.wrapping_add(counts.repeated),
        };
        let mut board = lock(&self.0.board);
        board.numbers = numbers;
        board.health.reached(reached, Instant::now());
        let (copied_at, copied) = board.recent_at;
        if counts.published != copied && (now - copied_at).abs() >= RECENT_EVERY_US {
            board.recent = *publisher.recent();
            board.recent_at = (now, counts.published);
        }
    }

    /// Rows of the table came in.
    pub fn read_table(&self) {
        lock(&self.0.board).health.read_on(Instant::now());
    }

    /// Shows the confirmed position.
    pub fn show_confirmed(&self, lsn: Lsn) {
        self.0.rare.confirmed.store(lsn.0, Ordering::Relaxed);
    }

    /// Shows how many partitions the topic has.
    pub fn show_partitions(&self, partitions: usize) {
        self.0.rare.partitions.store(partitions as u64, Ordering::Relaxed);
    }

    /// Reads what librdkafka says from here on, and what became of records, by topic.
    pub fn watch_kafka(&self, statistics: StatisticsCell, topics: TallyCell) {
        *lock(&self.0.kafka) = Some(statistics);
        *lock(&self.0.topics) = topics;
    }

    /// Shows how many rows are past the retention and stay, since nothing proves that they are in Kafka.
    pub fn show_overdue(&self, rows: u64) {
        self.0.rare.rows_overdue.store(rows, Ordering::Relaxed);
    }

    /// Counts published rows that were removed from the outbox.
    pub fn count_removed(&self, rows: u64) {
        add(&self.0.rare.rows_removed, rows);
    }

    /// Counts a session that ended with an error and is begun again.
    pub fn count_reconnect(&self, peer: Peer) {
        add(&self.0.rare.reconnects[peer as usize], 1);
    }

    /// Postgres was asked.
    pub fn sampled(&self, sample: Sample) {
        lock(&self.0.board).health.log_ends(sample.wal_end, Instant::now());
        *lock(&self.0.sample) = Some((Instant::now(), sample));
    }

    /// Postgres was asked in vain.
    pub fn sample_failed(&self) {
        add(&self.0.rare.sample_errors, 1);
    }

    /// What the relay is doing; `/ready` answers by it.
    #[must_use]
    pub fn judged(&self) -> State {
        self.doing().state
    }

    /// The same, with since when.
    fn doing(&self) -> Doing {
        let mut doing = self.0.state.doing();
        if doing.state.is_ready() {
            let stall = lock(&self.0.board).health.stall(Instant::now(), self.0.limits.stall_timeout);
            if let Some(stall) = stall {
                doing.since_ms = clock::unix_millis() - millis(stall.stuck - self.0.limits.stall_timeout);
                doing.state = State::Stalled { reason: stall.reason, remedy: stall.remedy };
            }
        }
        doing
    }

    /// The latest acknowledged events.
    #[must_use]
    pub fn recent(&self) -> Recent {
        lock(&self.0.board).recent
    }

    /// Counts of what has happened, without the rest.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.0.board).numbers.counts
    }

    /// All that there is to see now.
    #[must_use]
    pub fn view(&self) -> View {
        let inner = &*self.0;
        let doing = self.doing();
        let (numbers, got_on) = {
            let board = lock(&inner.board);
            (board.numbers, board.health.got_on())
        };
        let now = clock::unix_micros();
        let sample = lock(&inner.sample).clone();
        let sample =
            sample.filter(|(at, _)| at.elapsed() < inner.limits.sample_age_max).map(|(_, sample)| sample);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        View {
            now_ms: now / 1_000,
            started_ms: inner.started_ms,
            lag_seconds: lag_seconds(&doing.state, &numbers, got_on.elapsed(), now),
            doing,
            window: inner.limits.window,
            numbers,
            confirmed: Lsn(load(&inner.rare.confirmed)),
            reconnects: inner.rare.reconnects.each_ref().map(load),
            halts: load(&inner.rare.halts),
            rows_removed: load(&inner.rare.rows_removed),
            rows_overdue: load(&inner.rare.rows_overdue),
            sample_errors: load(&inner.rare.sample_errors),
            partitions: Some(load(&inner.rare.partitions)).filter(|partitions| *partitions > 0),
            sample,
            kafka: lock(&inner.kafka).as_ref().and_then(StatisticsCell::latest),
            topics: lock(&inner.topics).now(),
            preset: inner.limits.preset,
        }
    }
}

/// How old the oldest event is that is not acknowledged, seconds.
///
/// While the stream is followed that is the front of the window, and nothing when the window is empty. While it is not,
/// or brings nothing, there may be events that were never read: then it is the time since it last got on, which is the
/// most that such an event can have waited. A relay that stands by has no events.
#[allow(clippy::cast_precision_loss)]
fn lag_seconds(state: &State, numbers: &Numbers, stuck: Duration, now: i64) -> f64 {
    let since = |at: i64| now.saturating_sub(at).max(0) as f64 / 1e6;
    match state {
        State::Standby { .. } => 0.0,
        _ if numbers.window_records > 0 => numbers.oldest_committed_at.map_or(0.0, since),
        State::Starting | State::Retrying { .. } | State::Halted { .. } | State::Stalled { .. } => {
            stuck.as_secs_f64()
        }
        State::Backfilling | State::Streaming | State::Draining => 0.0,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// A panic elsewhere leaves numbers that are whole all the same: each is written in one go.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn numbers(window_records: u64, committed_at: i64) -> Numbers {
        let oldest_committed_at = (window_records > 0).then_some(committed_at);
        Numbers { window_records, oldest_committed_at, ..Numbers::default() }
    }

    fn lag(state: State, numbers: Numbers, stuck: u64) -> f64 {
        lag_seconds(&state, &numbers, Duration::from_secs(stuck), 10_000_000)
    }

    #[test]
    fn the_lag_is_the_age_of_the_oldest_event_in_flight() {
        assert!((lag(State::Streaming, numbers(3, 4_000_000), 1) - 6.0).abs() < 1e-9);
        assert!(lag(State::Streaming, numbers(0, 0), 1).abs() < 1e-9);
        assert!(lag(State::Streaming, numbers(3, 11_000_000), 1).abs() < 1e-9, "a clock is ahead");
    }

    #[test]
    fn what_cannot_be_read_is_at_most_as_old_as_the_last_look_at_the_stream() {
        let away = || State::Retrying { peer: Peer::Postgres, reason: String::new() };
        assert!((lag(away(), numbers(0, 0), 3) - 3.0).abs() < 1e-9);
        assert!((lag(away(), numbers(1, 2_000_000), 3) - 8.0).abs() < 1e-9);
        let stalled = State::Stalled { reason: String::new(), remedy: String::new() };
        assert!((lag(stalled, numbers(0, 0), 3) - 3.0).abs() < 1e-9);
        assert!(lag(State::Standby { reason: String::new() }, numbers(0, 0), 0).abs() < 1e-9);
    }

    /// A log that ends far ahead of what is acknowledged, and a stream that brings nothing.
    #[test]
    fn a_stall_began_when_its_time_was_over_and_events_may_have_waited_all_of_it() {
        let window = WindowSettings { records: 1, bytes: 1 };
        let timeout = Duration::from_millis(1);
        let vitals =
            Vitals::new(Limits { window, stall_timeout: timeout, sample_age_max: timeout, preset: None });
        let waited = Duration::from_millis(40);
        let since = clock::unix_millis() - millis(waited - timeout);
        vitals.set_state(State::Streaming);
        assert!(vitals.view().lag_seconds.abs() < 1e-9, "nothing is known to wait");
        lock(&vitals.0.board).health.log_ends(Lsn(1 << 30), Instant::now().checked_sub(waited).unwrap());
        let until = clock::unix_millis() - millis(waited - timeout);
        let view = vitals.view();
        assert!(matches!(view.doing.state, State::Stalled { .. }));
        assert!((since - 1..=until + 1).contains(&view.doing.since_ms), "{view:?}");
        assert!(view.lag_seconds >= 0.04, "{}", view.lag_seconds);
    }
}
