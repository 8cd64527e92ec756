//! A producer that is stuck: it holds records and says nothing, although Kafka answers.
//!
//! librdkafka connects again by itself after every outage, but not after every one: seen after a broker was restarted
//! that is the only one, it held its records for ever and asked nobody. Health is progress: when nothing was reported for
//! a while and another question to the same cluster is answered, the producer is replaced, and the new one sends again
//! what is not acknowledged. A cluster that is merely slow must not be restarted at for ever, so each replacement in a row
//! that brought no acknowledgement makes the next one wait twice as long.

use std::time::Duration;

use tokio::time::Instant;

/// The longest wait, in time-outs.
const PATIENCE_MAX: u32 = 64;

/// When a producer counts as stuck.
#[derive(Debug)]
pub(super) struct Stall {
    base: Duration,
    patience: Duration,
    since: Instant,
    /// Records that the producer holds.
    in_flight: u64,
}

impl Stall {
    pub(super) fn new(peer_timeout: Duration, now: Instant) -> Self {
        // A request may take one time-out, and be tried once more.
        let base = peer_timeout * 2;
        Self { base, patience: base, since: now, in_flight: 0 }
    }

    /// A record was handed over. The clock is asked only when it was the first.
    pub(super) fn sent(&mut self, now: impl FnOnce() -> Instant) {
        if self.in_flight == 0 {
            self.since = now();
        }
        self.in_flight += 1;
    }

    /// So many records were reported.
    pub(super) fn reported(&mut self, records: u64, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(records);
        self.since = now;
        self.patience = self.base;
    }

    /// Records that the producer holds.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// When it is to be asked whether Kafka answers; never while nothing is waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.in_flight > 0).then(|| self.since + self.patience)
    }

    /// It does not: nothing is wrong with the producer.
    pub(super) fn excused(&mut self, now: Instant) {
        self.since = now;
    }

    /// The producer is replaced, for this reason or another.
    pub(super) fn replaced(&mut self, now: Instant, was_stuck: bool) {
        self.in_flight = 0;
        self.since = now;
        if was_stuck {
            self.patience = (self.patience * 2).min(self.base * PATIENCE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Duration = Duration::from_secs(1);

    #[test]
    fn a_producer_that_says_nothing_is_asked_about_and_ever_more_rarely_replaced() {
        let start = Instant::now();
        let mut stall = Stall::new(PEER, start);
        assert_eq!(stall.due(), None, "nothing is waited for");
        stall.sent(|| start);
        assert_eq!(stall.due(), Some(start + PEER * 2));
        stall.excused(start + PEER);
        assert_eq!(stall.due(), Some(start + PEER * 3), "Kafka is away");
        stall.replaced(start, true);
        assert_eq!(stall.due(), None);
        stall.sent(|| start);
        assert_eq!(stall.due(), Some(start + PEER * 4));
        stall.sent(|| start);
        stall.reported(1, start);
        assert_eq!(stall.due(), Some(start + PEER * 2), "it works again");
        stall.reported(1, start);
        assert_eq!(stall.due(), None);
    }
}
