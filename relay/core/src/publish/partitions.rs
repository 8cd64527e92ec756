//! What may be handed over to a partition without a risk to its order.
//!
//! # Why a producer's first record goes alone
//!
//! Idempotence and the gapless guarantee rest on what the broker knows of the producer: with the last sequence number
//! of a partition it refuses a request that came behind a refused one. Where it knows nothing it accepts *any* first
//! sequence number (`ProducerAppendInfo.checkSequence` of Apache Kafka): the second of two requests in flight is then
//! stored although the first was refused, so records change their order, and librdkafka takes the second one's success
//! for proof that the first was stored (`rd_kafka_dr_implicit_ack`). It knows nothing
//!
//! * of a new producer: at the start, after each replacement, and on a partition that has had no record of it yet;
//! * of one that it forgot: `producer.id.expiration.ms` (a day) after the last record, counted from *that record's own
//!   timestamp*, so of records older than that it forgets the producer whenever it looks, and when it restarts
//!   (`ProducerStateManager.isProducerExpired`).
//!
//! So nothing is handed over behind a record until the broker is known to know the producer there: the first one goes
//! alone, and its acknowledgement opens the partition. A partition that has been quiet begins again so, which costs
//! nothing. Old records go in groups that fit a request, each behind the acknowledgement of the last, and so does what
//! comes behind them. A request alone on its partition can be refused, and repeated, without harm. What is not admitted
//! is passed by nothing of its partition.
//!
//! That a group shares a request rests on librdkafka's waiting for `linger.ms` while it is handed over, which a process
//! that loses the processor for a millisecond in between breaks; a broker must then also forget the producer and refuse
//! for a moment, at once. Records older than half a day can be given the time of their publishing instead.

use std::time::{Duration, Instant};

/// A partition that had nothing in flight for so long begins again with one record: far below any expiration of
/// producers in use, and far above the time between two records under load.
const QUIET: Duration = Duration::from_secs(1);

/// Records older than this are old: half of Kafka's default for `producer.id.expiration.ms`.
pub const OLD_AFTER_MS: i64 = 12 * 60 * 60 * 1_000;

/// A group is handed over within this time: a quarter of the shortest `linger.ms`, in which librdkafka waits for more.
const GROUP_OPEN: Duration = Duration::from_micros(250);

/// How many old records are sure to share a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Records at most; 1 where nothing makes records share a request.
    pub records: u32,
    /// Bytes of them at most, but for the first.
    pub bytes: usize,
}

impl Group {
    /// Every record goes alone.
    pub const ALONE: Self = Self { records: 1, bytes: 0 };
}

/// Which of two producers that take turns: one of them has records in flight at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Which {
    /// The one that begins.
    #[default]
    First,
    /// The other.
    Second,
}

impl Which {
    /// Both, in the order in which their names are taken. A process begins with the first. So one that has lost its first name to
    /// another has nothing to commit in the second one that the other had taken before.
    pub const IN_ORDER: [Self; 2] = [Self::First, Self::Second];

    /// 0 or 1, for what is kept of each.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self == Self::Second)
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// The partitions of a topic, as this producer and their brokers know each other; or as each of two does that take turns.
#[derive(Debug)]
pub struct Partitions {
    states: Vec<State>,
    /// Those of the producer whose turn it is not, once there are two.
    of_the_other: Vec<State>,
    turn: Which,
    group: Group,
    /// Records with an earlier timestamp are old, milliseconds since 1970-01-01 UTC.
    old_before_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The broker has acknowledged a record of this producer here.
    known: bool,
    in_flight: u32,
    /// A record was not admitted: nothing may pass it by, whatever its own size and time.
    blocked: bool,
    /// Records are in flight in more requests than one, or may be.
    pipelined: bool,
    /// What is in flight is a group that takes more.
    open: bool,
    /// The timestamp of the last record that was handed over, milliseconds since 1970-01-01 UTC.
    last_ms: i64,
    /// The least of the timestamps in flight and of what the broker may know the producer by.
    least_ms: i64,
    /// When something was last reported or, with something in flight, when the first of it was handed over.
    since: Option<Instant>,
    /// Bytes in flight, where records go in groups.
    bytes: usize,
}

const UNKNOWN: State = State {
    known: false,
    in_flight: 0,
    blocked: false,
    pipelined: false,
    open: false,
    last_ms: i64::MAX,
    least_ms: i64::MAX,
    since: None,
    bytes: 0,
};

impl Partitions {
    /// So many partitions, that know nothing of the producer.
    #[must_use]
    pub fn new(count: usize, group: Group) -> Self {
        Self {
            states: vec![UNKNOWN; count],
            of_the_other: Vec::new(),
            turn: Which::default(),
            group,
            old_before_ms: i64::MIN,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.states.len()
    }

    /// It is `now_ms`, milliseconds since 1970-01-01 UTC, to the brokers: by that they forget producers.
    pub fn set_time(&mut self, now_ms: i64) {
        self.old_before_ms = now_ms.saturating_sub(OLD_AFTER_MS);
    }

    /// It is the turn of this producer. The other one has nothing in flight.
    pub fn turn_to(&mut self, turn: Which) {
        if self.turn == turn {
            return;
        }
        self.turn = turn;
        std::mem::swap(&mut self.states, &mut self.of_the_other);
        self.states.resize(self.of_the_other.len(), UNKNOWN);
    }

    /// A new producer, or two, whose records are grouped so: the first begins.
    pub fn reset(&mut self, group: Group) {
        self.states.fill(UNKNOWN);
        self.of_the_other.clear();
        self.turn = Which::default();
        self.group = group;
    }

    /// Whether a record with this timestamp and so many bytes may be handed over now; if not, none may behind it until
    /// something of the partition is reported. `now` is asked only where the partition has nothing in flight, or goes in
    /// groups.
    pub fn admits(
        &mut self,
        partition: usize,
        timestamp_ms: i64,
        bytes: usize,
        now: impl Fn() -> Instant,
    ) -> bool {
        let old_before_ms = self.old_before_ms;
        let state = &mut self.states[partition];
        if state.in_flight == 0 {
            state.begin(now(), old_before_ms);
            return true;
        }
        let is_admitted = !state.blocked && state.takes(timestamp_ms, bytes, old_before_ms, self.group, now);
        state.blocked = !is_admitted;
        is_admitted
    }

    /// A record that was admitted is handed over.
    pub fn handed_over(&mut self, partition: usize, timestamp_ms: i64, bytes: usize) {
        let state = &mut self.states[partition];
        state.in_flight += 1;
        state.last_ms = timestamp_ms;
        state.least_ms = state.least_ms.min(timestamp_ms);
        state.bytes += bytes;
    }

    /// A record was reported at `at`: stored, or not. What is not known any more (a topic made anew with fewer
    /// partitions) is passed over.
    pub fn reported(&mut self, partition: usize, stored: bool, at: Instant) {
        let Some(state) = self.states.get_mut(partition) else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        state.known |= stored;
        (state.open, state.blocked) = (false, false);
        state.since = Some(at);
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.states.iter().all(|state| state.in_flight == 0)
    }

    /// Whether records wait in several requests, and have for `silence`, for so long that the broker may have forgotten
    /// the producer meanwhile: it must be replaced, or they may change their order.
    #[must_use]
    pub fn may_be_forgotten(&self, now: Instant, silence: Duration) -> bool {
        let is_old = |state: &State| state.pipelined && state.least_ms < self.old_before_ms;
        self.states.iter().any(|state| state.in_flight > 1 && state.is_silent(now, silence) && is_old(state))
    }

    /// Whether records have waited for so long on a partition that reported nothing.
    #[must_use]
    pub fn is_silent(&self, now: Instant, silence: Duration) -> bool {
        self.states.iter().any(|state| state.in_flight > 0 && state.is_silent(now, silence))
    }
}

impl State {
    /// The first record behind nothing: alone, unless the partition is known and was busy a moment ago.
    fn begin(&mut self, now: Instant, old_before_ms: i64) {
        let is_quiet = self.since.is_none_or(|since| now.saturating_duration_since(since) >= QUIET);
        self.known &= !is_quiet;
        self.since = Some(now);
        (self.pipelined, self.open, self.blocked, self.bytes) = (false, true, false, 0);
        // The broker knows the producer by the last record: by an old one it may forget it any time.
        self.least_ms = if self.last_ms < old_before_ms { self.last_ms } else { i64::MAX };
    }

    /// Whether another goes out behind what is in flight.
    fn takes(
        &mut self,
        timestamp_ms: i64,
        bytes: usize,
        old_before_ms: i64,
        group: Group,
        now: impl Fn() -> Instant,
    ) -> bool {
        if !self.known {
            return false;
        }
        if timestamp_ms.min(self.least_ms) >= old_before_ms {
            self.pipelined = true;
            return true;
        }
        self.open
            && !self.pipelined
            && self.in_flight < group.records
            && self.bytes + bytes <= group.bytes
            && self.since.is_some_and(|since| now().saturating_duration_since(since) < GROUP_OPEN)
    }

    fn is_silent(&self, now: Instant, silence: Duration) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;
    const GROUP: Group = Group { records: 3, bytes: 1_000 };

    struct Case {
        partitions: Partitions,
        now: Instant,
    }

    impl Case {
        fn new() -> Self {
            let mut partitions = Partitions::new(2, GROUP);
            partitions.set_time(NOW_MS);
            Self { partitions, now: Instant::now() }
        }

        /// Hands over what is admitted.
        fn hand_over(&mut self, age_ms: i64, bytes: usize) -> bool {
            let admitted = self.partitions.admits(1, NOW_MS - age_ms, bytes, || self.now);
            if admitted {
                self.partitions.handed_over(1, NOW_MS - age_ms, bytes);
            }
            admitted
        }

        fn stored(&mut self) {
            self.partitions.reported(1, true, self.now);
        }
    }

    #[test]
    fn the_first_record_goes_alone_and_its_acknowledgement_opens_the_partition() {
        let mut case = Case::new();
        assert!(case.hand_over(0, 10));
        assert!(!case.hand_over(0, 10), "nothing behind it");
        assert!(case.partitions.admits(0, NOW_MS, 10, || case.now), "another partition does not wait");
        assert!(!case.partitions.is_idle());
        case.stored();
        assert!(case.partitions.is_idle());
        assert!(case.hand_over(0, 10) && case.hand_over(0, 10) && case.hand_over(0, 10));
    }

    #[test]
    fn a_first_record_that_was_not_stored_opens_nothing() {
        let mut case = Case::new();
        assert!(case.hand_over(0, 10));
        case.partitions.reported(1, false, case.now);
        assert!(case.hand_over(0, 10));
        assert!(!case.hand_over(0, 10));
    }

    #[test]
    fn a_new_producer_and_a_quiet_partition_begin_with_one_record_again() {
        let mut case = Case::new();
        case.hand_over(0, 10);
        case.stored();
        case.now += QUIET;
        assert!(case.hand_over(0, 10));
        assert!(!case.hand_over(0, 10), "it was quiet");
        case.stored();
        assert!(case.hand_over(0, 10) && case.hand_over(0, 10));
        case.partitions.reset(GROUP);
        assert!(case.hand_over(0, 10));
        assert!(!case.hand_over(0, 10), "the producer is new");
    }

    #[test]
    fn of_two_producers_that_take_turns_the_partition_knows_each_by_records_of_its_own() {
        let mut case = Case::new();
        case.hand_over(0, 10);
        case.stored();
        case.partitions.turn_to(Which::Second);
        assert!(case.hand_over(0, 10));
        assert!(!case.hand_over(0, 10), "the broker knows nothing of the other one");
        case.stored();
        case.partitions.turn_to(Which::First);
        assert!(case.hand_over(0, 10) && case.hand_over(0, 10), "the first is known");
        case.stored();
        case.stored();
        case.partitions.turn_to(Which::Second);
        assert!(case.hand_over(0, 10) && case.hand_over(0, 10), "and so is the other by now");
        case.partitions.reset(GROUP);
        assert!(case.hand_over(0, 10) && !case.hand_over(0, 10), "both are new");
        case.stored();
        case.partitions.turn_to(Which::Second);
        assert!(case.hand_over(0, 10) && !case.hand_over(0, 10), "both are new");
    }

    #[test]
    fn old_records_go_in_groups_of_one_request() {
        let old = OLD_AFTER_MS + 1;
        let mut case = Case::new();
        case.hand_over(old, 10);
        assert!(!case.hand_over(old, 10), "the first goes alone");
        case.stored();
        for _ in 0..3 {
            assert!(case.hand_over(old, 10));
        }
        assert!(!case.hand_over(old, 10), "three fit");
        case.stored();
        assert!(!case.hand_over(old, 10), "the group is not acknowledged yet");
        assert!(!case.hand_over(0, 10), "a young one may not go behind old ones either");
        case.stored();
        case.stored();
        assert!(case.hand_over(old, 600));
        assert!(!case.hand_over(old, 600), "the bytes do not fit");
        case.stored();
        assert!(case.hand_over(old, 10));
        case.now += GROUP_OPEN;
        assert!(!case.hand_over(old, 10), "the request may be on its way");
    }

    #[test]
    fn nothing_passes_a_record_by_that_was_not_admitted() {
        let old = OLD_AFTER_MS + 1;
        let mut case = Case::new();
        case.hand_over(0, 10);
        case.stored();
        assert!(case.hand_over(0, 10) && case.hand_over(0, 10));
        assert!(!case.hand_over(old, 10), "an old one waits for young ones");
        assert!(!case.hand_over(0, 10), "a young one of the same partition waits for it");
        case.stored();
        case.stored();
        assert!(case.hand_over(old, 10));
        case.stored();
        assert!(case.hand_over(old, 600));
        assert!(!case.hand_over(old, 600), "a large one does not fit");
        assert!(!case.hand_over(old, 10), "a small one would");
    }

    #[test]
    fn behind_an_old_record_that_the_broker_knows_last_a_young_one_goes_alone() {
        let mut case = Case::new();
        case.hand_over(OLD_AFTER_MS + 1, 10);
        case.stored();
        assert!(case.hand_over(0, 10));
        case.now += GROUP_OPEN;
        assert!(!case.hand_over(0, 10), "the broker may have forgotten the producer");
        case.stored();
        assert!(case.hand_over(0, 10) && case.hand_over(0, 10));
    }

    #[test]
    fn records_that_wait_for_so_long_that_a_producer_is_forgotten_are_noticed() {
        let silence = Duration::from_secs(300);
        let mut case = Case::new();
        case.hand_over(0, 10);
        case.stored();
        case.hand_over(0, 10);
        case.partitions.set_time(NOW_MS + OLD_AFTER_MS + 1);
        case.now += silence;
        assert!(!case.partitions.may_be_forgotten(case.now, silence), "one request can be repeated");
        assert!(case.partitions.is_silent(case.now, silence));
        case.partitions.set_time(NOW_MS);
        case.hand_over(0, 10);
        assert!(!case.partitions.may_be_forgotten(case.now, silence));
        // A trickle goes on meanwhile.
        case.partitions.set_time(NOW_MS + OLD_AFTER_MS + 1);
        case.hand_over(-OLD_AFTER_MS, 10);
        assert!(case.partitions.may_be_forgotten(case.now, silence));
        case.stored();
        assert!(!case.partitions.may_be_forgotten(case.now, silence), "it moves");
    }
}
