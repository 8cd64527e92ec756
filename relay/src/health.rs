//! Whether the relay gets on: judged by what is acknowledged, not by whether a task runs.
//!
//! A relay that is connected and does nothing looks well to everything but this. It gets on while there is nothing to
//! do, or while the acknowledged position or the number of acknowledged records moves. There is something to do while
//! records are in flight, or while the log of Postgres goes on past the acknowledged position. When it has not got on
//! for [`--stall-timeout-ms`](crate::config), it is stalled.

use std::time::{Duration, Instant};

use crate::lsn::Lsn;

/// The log may end so far behind the last position that the walsender can name: a page's padding (PostgreSQL,
/// "WAL Internals").
const PADDING_BYTES: u64 = 8 << 10;

/// How far the relay has come, and what there is to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Before here everything is acknowledged.
    pub acknowledged: Lsn,
    /// Records acknowledged.
    pub records: u64,
    /// Records in flight.
    pub in_flight: u64,
}

impl Reached {
    fn has_moved_since(&self, earlier: &Self) -> bool {
        self.acknowledged > earlier.acknowledged || self.records != earlier.records
    }
}

/// Watches whether the relay gets on.
#[derive(Debug)]
pub struct Health {
    reached: Reached,
    /// The end of the log when it was last looked at.
    log_end: Lsn,
    /// When it last got on.
    got_on: Instant,
}

/// It has not got on for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// What waits, and for how long.
    pub reason: String,
    /// What the operator can do.
    pub remedy: String,
}

impl Health {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { reached: Reached::default(), log_end: Lsn::ZERO, got_on: now }
    }

    /// The relay has come so far.
    pub fn reached(&mut self, reached: Reached, now: Instant) {
        // Before as well: what began to wait just now has not waited since the last time there was nothing to do.
        if !self.waits() || reached.has_moved_since(&self.reached) {
            self.got_on = now;
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

    /// A session begins: nothing is held against it yet.
    pub fn began(&mut self, now: Instant) {
        self.got_on = now;
    }

    /// Whether there is something to do.
    fn waits(&self) -> bool {
        self.reached.in_flight > 0 || self.log_behind() > PADDING_BYTES
    }

    fn log_behind(&self) -> u64 {
        self.log_end.0.saturating_sub(self.reached.acknowledged.0)
    }

    /// Whether it is stalled.
    #[must_use]
    pub fn stall(&self, now: Instant, timeout: Duration) -> Option<Stall> {
        let stuck = now.saturating_duration_since(self.got_on);
        if !self.waits() || stuck < timeout {
            return None;
        }
        let seconds = stuck.as_secs();
        let (waiting, remedy) = if self.reached.in_flight > 0 {
            let waiting = format!("{} events wait for Kafka's acknowledgement", self.reached.in_flight);
            (
                waiting,
                "look at the brokers, at the topic's in-sync replicas (min.insync.replicas), and at the log of \
                    walpost; it goes on by itself as soon as Kafka acknowledges, and nothing is lost meanwhile",
            )
        } else {
            let waiting = format!(
                "{} bytes of the log of Postgres wait behind the acknowledged position",
                self.log_behind()
            );
            (
                waiting,
                "look in pg_stat_activity at the walsender: it may be decoding a very large transaction, which \
                    passes; if it does nothing, restart walpost, which goes on from the confirmed position",
            )
        };
        let reason = format!("nothing was acknowledged for {seconds} s, while {waiting}");
        Some(Stall { reason, remedy: remedy.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);
    const SEGMENT: u64 = 16 << 20;

    fn reached(acknowledged: u64, records: u64, in_flight: u64) -> Reached {
        Reached { acknowledged: Lsn(acknowledged), records, in_flight }
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
        assert!(stall.is_some_and(|stall| stall.reason.contains("bytes of the log")));
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
        assert!(
            health.stall(after(start, 1_060), TIMEOUT).is_some_and(|stall| stall.reason.contains("7 events"))
        );
        health.reached(reached(1, 6, 6), after(start, 1_061));
        assert_eq!(health.stall(after(start, 1_100), TIMEOUT), None, "one was acknowledged");
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
    fn a_session_that_begins_is_given_its_time() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.reached(reached(1, 5, 7), start);
        health.began(after(start, 500));
        assert_eq!(health.stall(after(start, 559), TIMEOUT), None);
        assert!(health.stall(after(start, 560), TIMEOUT).is_some());
    }
}
