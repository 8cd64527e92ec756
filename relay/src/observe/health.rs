//! Whether the relay gets on: judged by what is acknowledged, not by whether a task runs.
//!
//! A relay that is connected and does nothing looks well to everything but this. It gets on while there is nothing to
//! do, or while the acknowledged position or the number of acknowledged records moves. There is something to do while
//! records are in flight, while rows of the table are still to be read (each that comes in counts as getting on), or while
//! the log of Postgres goes on past the acknowledged position. When it has not got on for
//! [`--stall-timeout-ms`](crate::config), it is stalled. So it is when the oldest record in flight has been the same for so
//! long, whatever others are acknowledged: one partition that takes nothing holds up the position of all.
//!
//! A session that follows one which got on is given time: the walsender reads the log again from the slot's restart
//! position, and until it has come to what is new, the movement of the stream itself counts. One that follows a session
//! which got nowhere is given none: a stream that breaks again and again at the same place does not get on.

use std::time::{Duration, Instant};

use walpost_core::lsn::Lsn;

/// The log may end so far behind the last position that the walsender can name: a page's padding (PostgreSQL,
/// "WAL Internals").
const PADDING_BYTES: u64 = 8 << 10;

/// What the operator can do when Kafka acknowledges nothing.
const KAFKA_REMEDY: &str = "look at the brokers, at the topic's partitions without a leader, at its in-sync replicas \
    (min.insync.replicas), and at the log of walpost; it goes on by itself as soon as Kafka acknowledges, and nothing is \
    lost meanwhile";

/// How far the relay has come, and what there is to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Before here everything is acknowledged.
    pub acknowledged: Lsn,
    /// Records acknowledged.
    pub records: u64,
    /// Records in flight.
    pub in_flight: u64,
    /// The number of the oldest of them.
    pub oldest: u64,
    /// A number that changes when the stream brings anything, new or again.
    pub streamed: u64,
}

impl Reached {
    fn has_moved_since(&self, earlier: &Self) -> bool {
        self.acknowledged > earlier.acknowledged || self.records != earlier.records
    }
}

/// What a session reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The stream.
    Log,
    /// The table: the log waits meanwhile, as it should; there is something to do until the table is read.
    Table,
}

/// Watches whether the relay gets on.
#[derive(Debug)]
pub struct Health {
    reached: Reached,
    /// The end of the log when it was last looked at.
    log_end: Lsn,
    /// When it last got on.
    got_on: Instant,
    /// Since when the oldest record in flight is the same.
    oldest_since: Instant,
    /// Where it was when the session began.
    began_at: Option<Reached>,
    reads: Reads,
    /// The session before this one got on, so this one may read again what that one had.
    may_read_again: bool,
}

/// It has not got on for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// How long it has not got on.
    pub stuck: Duration,
    /// What waits, without numbers that change: it is read aloud when it does.
    pub reason: String,
    /// What the operator can do.
    pub remedy: String,
}

impl Health {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            reached: Reached::default(),
            log_end: Lsn::ZERO,
            got_on: now,
            oldest_since: now,
            began_at: None,
            reads: Reads::Log,
            may_read_again: true,
        }
    }

    /// The relay has come so far.
    pub fn reached(&mut self, reached: Reached, now: Instant) {
        // Before as well: what began to wait just now has not waited since the last time there was nothing to do.
        let reads_again =
            self.may_read_again && reached.in_flight == 0 && reached.streamed != self.reached.streamed;
        if !self.waits() || reads_again || reached.has_moved_since(&self.reached) {
            self.got_on = now;
        }
        if self.reached.in_flight == 0 || reached.oldest != self.reached.oldest {
            self.oldest_since = now;
        }
        self.reached = reached;
    }

    /// The log ends here.
    pub fn log_ends(&mut self, end: Lsn, now: Instant) {
        if !self.waits() {
            self.got_on = now;
        }
        self.log_end = end;
    }

    /// Rows of the table came in.
    pub fn read_on(&mut self, now: Instant) {
        self.got_on = now;
    }

    /// A session begins, or goes on from the table to the stream.
    pub fn began(&mut self, reads: Reads, now: Instant) {
        let got_on = self.began_at.is_none_or(|then| self.reached.has_moved_since(&then));
        self.may_read_again = got_on || self.reads != reads;
        if self.may_read_again {
            self.got_on = now;
        }
        // Sessions may come and go while one partition is dead, and others get on in each.
        let is_same = |then: Reached| then.oldest == self.reached.oldest && self.reads == reads;
        if self.reached.in_flight == 0 || !self.began_at.is_some_and(is_same) {
            self.oldest_since = now;
        }
        self.began_at = Some(self.reached);
        self.reads = reads;
    }

    /// Another relay follows the stream, at this moment.
    pub fn stands_by(&mut self, now: Instant) {
        self.got_on = now;
        self.began_at = None;
    }

    /// Since when events may have waited that nobody has read.
    #[must_use]
    pub fn got_on(&self) -> Instant {
        self.got_on
    }

    /// Whether there is something to do.
    fn waits(&self) -> bool {
        self.reached.in_flight > 0 || self.reads == Reads::Table || self.log_behind() > PADDING_BYTES
    }

    fn log_behind(&self) -> u64 {
        self.log_end.0.saturating_sub(self.reached.acknowledged.0)
    }

    /// Whether it is stalled.
    #[must_use]
    pub fn stall(&self, now: Instant, timeout: Duration) -> Option<Stall> {
        let stuck = now.saturating_duration_since(self.got_on);
        let oldest = now.saturating_duration_since(self.oldest_since);
        if self.reached.in_flight > 0 && oldest >= timeout && stuck < timeout {
            let reason = format!(
                "one partition of the topic acknowledges nothing for {timeout:?} and longer, while others do: the \
                    position of all waits for it"
            );
            return Some(Stall { stuck: oldest, reason, remedy: KAFKA_REMEDY.to_owned() });
        }
        if !self.waits() || stuck < timeout {
            return None;
        }
        let (waiting, remedy) = if self.reached.in_flight > 0 {
            ("events wait for Kafka's acknowledgement", KAFKA_REMEDY)
        } else if self.reads == Reads::Table {
            (
                "rows of the table wait to be read",
                "look in pg_stat_activity at the sessions of walpost and at what they wait for: a lock on the outbox \
                    or on walpost.slot, or a transaction from before that does not end; it goes on by itself when that \
                    has passed",
            )
        } else {
            (
                "log of Postgres waits behind the acknowledged position",
                "look in pg_stat_activity at the walsender: it may be decoding a very large transaction, which \
                    passes; if it does nothing, restart walpost, which goes on from the confirmed position",
            )
        };
        let reason = format!("nothing was acknowledged for {timeout:?} and longer, while {waiting}");
        Some(Stall { stuck, reason, remedy: remedy.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);
    const SEGMENT: u64 = 16 << 20;

    fn reached(acknowledged: u64, records: u64, in_flight: u64) -> Reached {
        // The oldest moves with every acknowledgement, as it does where no partition is dead.
        Reached {
            acknowledged: Lsn(acknowledged),
            records,
            in_flight,
            oldest: records,
            streamed: acknowledged,
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_log_that_grows_while_nothing_is_acknowledged_is_a_stall() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.reached(reached(SEGMENT, 5, 0), start);
        for minute in 1..10 {
            health.log_ends(Lsn(SEGMENT * (1 + minute)), after(start, 20 * minute));
        }
        assert_eq!(health.stall(after(start, 79), TIMEOUT), None, "it began to wait at 20 s");
        let stall = health.stall(after(start, 200), TIMEOUT);
        assert!(stall.is_some_and(|stall| stall.reason.contains("log of Postgres waits")));
        health.reached(reached(SEGMENT * 10, 5, 0), after(start, 201));
        assert_eq!(health.stall(after(start, 300), TIMEOUT), None);
    }

    #[test]
    fn records_that_nobody_acknowledges_are_a_stall() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.reached(reached(1, 5, 0), start);
        health.reached(reached(1, 5, 7), after(start, 1_000));
        assert_eq!(health.stall(after(start, 1_059), TIMEOUT), None, "idle time before does not count");
        let stall = health.stall(after(start, 1_065), TIMEOUT);
        assert!(stall.is_some_and(|stall| stall.reason.contains("60s") && stall.stuck.as_secs() == 65));
        health.reached(reached(1, 6, 6), after(start, 1_061));
        assert_eq!(health.stall(after(start, 1_100), TIMEOUT), None, "one was acknowledged");
    }

    #[test]
    fn one_partition_that_acknowledges_nothing_is_a_stall_whatever_the_others_do() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.reached(reached(1, 5, 0), start);
        for second in 0..60 {
            let trickle = Reached { oldest: 5, ..reached(1, 5 + second, 3) };
            health.reached(trickle, after(start, second));
            assert_eq!(health.stall(after(start, second), TIMEOUT), None);
        }
        let stall = health.stall(after(start, 60), TIMEOUT);
        assert!(stall.is_some_and(|stall| stall.reason.contains("one partition")));
        for session in 61..70 {
            health.began(Reads::Log, after(start, session));
            health.reached(Reached { oldest: 5, ..reached(1, 10 + session, 3) }, after(start, session));
        }
        assert!(
            health.stall(after(start, 121), TIMEOUT).is_some(),
            "sessions of which each got on elsewhere"
        );
        health.reached(reached(2, 170, 3), after(start, 122));
        assert_eq!(health.stall(after(start, 123), TIMEOUT), None, "the oldest was acknowledged");
    }

    #[test]
    fn an_idle_relay_is_well_for_ever_and_padding_is_no_work() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.reached(reached(SEGMENT, 5, 0), start);
        health.log_ends(Lsn(SEGMENT + PADDING_BYTES), after(start, 5));
        assert_eq!(health.stall(after(start, 1_000_000), TIMEOUT), None);
    }

    #[test]
    fn a_session_after_one_that_got_on_is_given_its_time() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.began(Reads::Log, start);
        health.reached(reached(1, 5, 7), start);
        health.began(Reads::Log, after(start, 500));
        assert_eq!(health.stall(after(start, 559), TIMEOUT), None);
        assert!(health.stall(after(start, 560), TIMEOUT).is_some());
    }

    /// A row that breaks the stream half a minute into each session.
    #[test]
    fn sessions_that_get_nowhere_are_a_stall_however_often_they_begin() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.began(Reads::Log, start);
        health.reached(reached(SEGMENT, 5, 0), start);
        health.log_ends(Lsn(SEGMENT * 9), after(start, 1));
        for session in 0..3 {
            health.began(Reads::Log, after(start, 30 * session + 2));
            // It reads the same again, and no more.
            for streamed in 0..20 {
                let again = Reached { streamed, ..reached(SEGMENT, 5, 0) };
                health.reached(again, after(start, 30 * session + 3 + streamed));
            }
        }
        assert!(health.stall(after(start, 85), TIMEOUT).is_some());
        health.stands_by(after(start, 86));
        health.began(Reads::Log, after(start, 90));
        assert_eq!(
            health.stall(after(start, 149), TIMEOUT),
            None,
            "another relay followed the stream meanwhile"
        );
    }

    #[test]
    fn log_that_is_read_again_is_no_stall() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.began(Reads::Log, start);
        health.reached(reached(SEGMENT * 9, 5, 0), start);
        health.log_ends(Lsn(SEGMENT * 10), start);
        health.began(Reads::Log, after(start, 1));
        for streamed in 0..100 {
            let again = Reached { streamed, ..reached(SEGMENT * 9, 5, 0) };
            health.reached(again, after(start, 10 * streamed));
            assert_eq!(health.stall(after(start, 10 * streamed + 9), TIMEOUT), None);
        }
        assert!(health.stall(after(start, 1_050), TIMEOUT).is_some(), "the stream stands still");
    }

    #[test]
    fn a_table_that_is_read_holds_up_the_log_and_is_no_stall() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.began(Reads::Table, start);
        health.log_ends(Lsn(SEGMENT * 9), start);
        for second in 0..1_000 {
            health.read_on(after(start, second));
            assert_eq!(
                health.stall(after(start, second + 1), TIMEOUT),
                None,
                "rows in Kafka are passed over"
            );
        }
        let stall = health.stall(after(start, 1_059), TIMEOUT);
        assert!(stall.is_some_and(|stall| stall.reason.contains("rows of the table")), "no more rows come");
        health.read_on(after(start, 1_060));
        health.reached(reached(0, 0, 500), after(start, 1_060));
        assert_eq!(health.stall(after(start, 1_119), TIMEOUT), None);
        assert!(health.stall(after(start, 1_120), TIMEOUT).is_some(), "nobody acknowledges");
        health.began(Reads::Log, after(start, 1_121));
        assert_eq!(health.stall(after(start, 1_160), TIMEOUT), None, "the log has its time now");
    }
}
