//! When a position is remembered, and when it is confirmed.

use walpost_core::lsn::Lsn;

/// Without events, the position moves only when so much was written by others: remembering it writes to the log
/// itself, and an idle system is to do no work.
const IDLE_BYTES_MIN: u64 = 64 << 10;

/// What is remembered and confirmed in one session.
#[derive(Debug)]
pub(super) struct Confirming {
    /// Durably remembered: nothing above it may be confirmed.
    remembered: Lsn,
    /// Confirmed on this connection.
    confirmed: Lsn,
    /// Events acknowledged when the position that is remembered was asked to be, in this session or an earlier one.
    acknowledged_at_persist: u64,
    /// The same for the position that was asked for last.
    asked: u64,
    /// A checkpoint waits for this position: worth a write even when nothing else has happened.
    wanted: Lsn,
}

/// What is to be done about a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing has moved, or too little.
    Nothing,
    /// Ask the guard to remember it.
    Remember(Lsn),
    /// It is remembered: confirm it.
    Confirm(Lsn),
}

impl Confirming {
    pub(super) fn new(remembered: Lsn, acknowledged_at_persist: u64) -> Self {
        Self {
            remembered,
            confirmed: Lsn::ZERO,
            acknowledged_at_persist,
            asked: acknowledged_at_persist,
            wanted: Lsn::ZERO,
        }
    }

    /// On the timer: `confirmable` as the window says, `acknowledged` events so far.
    pub(super) fn next(&mut self, confirmable: Lsn, acknowledged: u64) -> Next {
        if confirmable <= self.remembered {
            return self.confirm(confirmable);
        }
        let moved = confirmable.bytes_since(self.remembered);
        let is_wanted = self.remembered < self.wanted && self.wanted <= confirmable;
        if acknowledged == self.acknowledged_at_persist && moved < IDLE_BYTES_MIN && !is_wanted {
            return Next::Nothing;
        }
        self.asked = acknowledged;
        Next::Remember(confirmable)
    }

    /// The guard has remembered a position.
    pub(super) fn remembered(&mut self, lsn: Lsn, confirmable: Lsn) -> Next {
        self.remembered = self.remembered.max(lsn);
        self.acknowledged_at_persist = self.asked;
        self.confirm(confirmable.min(self.remembered))
    }

    /// A checkpoint waits for this position.
    pub(super) fn want(&mut self, lsn: Option<Lsn>) {
        self.wanted = lsn.unwrap_or(Lsn::ZERO);
    }

    /// Events acknowledged up to the position that is remembered: the next session goes on from here.
    pub(super) fn acknowledged_at_persist(&self) -> u64 {
        self.acknowledged_at_persist
    }

    /// Whether everything up to this position is confirmed.
    pub(super) fn is_confirmed(&self, lsn: Lsn) -> bool {
        lsn <= self.confirmed
    }

    /// The position confirmed on this connection.
    pub(super) fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    fn confirm(&mut self, lsn: Lsn) -> Next {
        if lsn <= self.confirmed {
            return Next::Nothing;
        }
        self.confirmed = lsn;
        Next::Confirm(lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_remembered_before_it_is_confirmed() {
        let mut confirming = Confirming::new(Lsn(100), 0);
        assert_eq!(confirming.next(Lsn(200), 1), Next::Remember(Lsn(200)));
        assert_eq!(
            confirming.remembered(Lsn(200), Lsn(300)),
            Next::Confirm(Lsn(200)),
            "never above what is remembered"
        );
        assert_eq!(confirming.remembered(Lsn(300), Lsn(300)), Next::Confirm(Lsn(300)));
        assert!(confirming.is_confirmed(Lsn(300)));
    }

    #[test]
    fn after_a_reconnect_what_is_remembered_is_confirmed_again_without_another_write() {
        let mut confirming = Confirming::new(Lsn(300), 5);
        assert_eq!(confirming.next(Lsn(250), 5), Next::Confirm(Lsn(250)));
        assert_eq!(confirming.next(Lsn(250), 5), Next::Nothing);
    }

    #[test]
    fn events_acknowledged_between_two_sessions_are_worth_a_write() {
        let mut before = Confirming::new(Lsn(100), 0);
        assert_eq!(before.next(Lsn(200), 3), Next::Remember(Lsn(200)));
        // The connection broke before it was remembered.
        let mut confirming = Confirming::new(Lsn(100), before.acknowledged_at_persist());
        assert_eq!(confirming.next(Lsn(200), 3), Next::Remember(Lsn(200)));
    }

    #[test]
    fn a_position_that_a_checkpoint_waits_for_is_worth_a_write_and_no_other() {
        let mut confirming = Confirming::new(Lsn(100), 5);
        confirming.want(Some(Lsn(150)));
        assert_eq!(confirming.next(Lsn(149), 5), Next::Nothing);
        assert_eq!(confirming.next(Lsn(150), 5), Next::Remember(Lsn(150)));
        assert_eq!(confirming.remembered(Lsn(150), Lsn(150)), Next::Confirm(Lsn(150)));
        assert_eq!(confirming.next(Lsn(160), 5), Next::Nothing, "it has been reached");
    }

    #[test]
    fn without_events_only_a_large_move_is_worth_a_write() {
        let mut confirming = Confirming::new(Lsn(100), 5);
        assert_eq!(confirming.next(Lsn(100 + IDLE_BYTES_MIN - 1), 5), Next::Nothing);
        assert_eq!(confirming.next(Lsn(100 + IDLE_BYTES_MIN), 5), Next::Remember(Lsn(100 + IDLE_BYTES_MIN)));
    }
}
