//! Is the server still there, and is this relay still itself?
//!
//! A server that is silent for longer than the peer time-out counts as gone. But one that decodes a large transaction
//! of other tables is silent, too, and to hang up on it would make it start from the beginning, again and again: so
//! each silence in a row that brought nothing new is waited out twice as long as the one before.
//!
//! A relay that stood still itself (SIGSTOP, a frozen machine) may have lost the slot meanwhile, and what is left in its
//! producer's queue is another's to send. It stops and starts afresh. Half of the time-out is taken for too long: at
//! that age the server's last question may have been waiting for an answer when the relay fell asleep.

use std::time::{Duration, Instant};

use walpost_core::lsn::Lsn;

/// The longest silence that is waited out, in time-outs.
const PATIENCE_MAX: u32 = 64;

/// What the watchdog has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The server has said nothing for so long.
    Silence(Duration),
    /// This relay stood still for so long.
    Pause(Duration),
}

/// How long silence is borne: it outlives a session.
#[derive(Debug)]
pub(super) struct Patience {
    base: Duration,
    now: Duration,
    /// How far the stream had come when it fell silent.
    silent_at: Lsn,
}

impl Patience {
    pub(super) fn new(base: Duration) -> Self {
        Self { base, now: base, silent_at: Lsn::ZERO }
    }

    /// The stream has come so far.
    fn heard(&mut self, sent: Lsn) {
        if sent > self.silent_at {
            self.now = self.base;
        }
    }

    fn ran_out(&mut self, sent: Lsn) {
        self.now = (self.now * 2).min(self.base * PATIENCE_MAX);
        self.silent_at = self.silent_at.max(sent);
    }
}

/// Looks at the clock, at least every [`Watchdog::interval`].
#[derive(Debug)]
pub(super) struct Watchdog {
    pause_max: Duration,
    looked: Instant,
    heard: Instant,
}

impl Watchdog {
    /// How often it must look so that a pause is told from a quiet time.
    pub(super) fn interval(peer_timeout: Duration) -> Duration {
        peer_timeout / 8
    }

    pub(super) fn new(peer_timeout: Duration, now: Instant) -> Self {
        Self { pause_max: peer_timeout / 2, looked: now, heard: now }
    }

    /// Something came in, which reaches up to `sent`.
    pub(super) fn heard(&mut self, sent: Lsn, patience: &mut Patience, now: Instant) {
        self.heard = now;
        patience.heard(sent);
    }

    /// Looks. While the relay does not read, silence says nothing.
    pub(super) fn look(
        &mut self,
        reads: bool,
        sent: Lsn,
        patience: &mut Patience,
        now: Instant,
    ) -> Option<Alarm> {
        let pause = now.duration_since(self.looked);
        self.looked = now;
        if pause >= self.pause_max {
            return Some(Alarm::Pause(pause));
        }
        if !reads {
            self.heard = now;
        }
        let silence = now.duration_since(self.heard);
        if silence >= patience.now {
            patience.ran_out(sent);
            return Some(Alarm::Silence(silence));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Duration = Duration::from_secs(8);

    /// Looks every second until an alarm; returns it.
    fn watch(patience: &mut Patience, reads: bool, sent: Lsn, seconds: u32) -> Option<Alarm> {
        let start = Instant::now();
        let mut dog = Watchdog::new(PEER, start);
        (1..=seconds)
            .find_map(|second| dog.look(reads, sent, patience, start + Duration::from_secs(1) * second))
    }

    #[test]
    fn a_silent_server_is_given_up_after_the_time_out_and_not_while_nothing_is_read() {
        assert_eq!(watch(&mut Patience::new(PEER), true, Lsn(1), 7), None);
        assert_eq!(watch(&mut Patience::new(PEER), true, Lsn(1), 8), Some(Alarm::Silence(PEER)));
        assert_eq!(watch(&mut Patience::new(PEER), false, Lsn(1), 100), None);
    }

    #[test]
    fn a_silence_that_brought_nothing_new_is_borne_twice_as_long_the_next_time() {
        let mut patience = Patience::new(PEER);
        assert_eq!(watch(&mut patience, true, Lsn(5), 100), Some(Alarm::Silence(PEER)));
        assert_eq!(watch(&mut patience, true, Lsn(5), 100), Some(Alarm::Silence(PEER * 2)));
        // The slot's own position, which a new connection begins with, is nothing new.
        patience.heard(Lsn(5));
        assert_eq!(watch(&mut patience, true, Lsn(5), 100), Some(Alarm::Silence(PEER * 4)));
        patience.heard(Lsn(6));
        assert_eq!(watch(&mut patience, true, Lsn(6), 100), Some(Alarm::Silence(PEER)));
    }

    #[test]
    fn a_relay_that_stood_still_for_half_the_time_out_notices() {
        let start = Instant::now();
        let (mut dog, mut patience) = (Watchdog::new(PEER, start), Patience::new(PEER));
        assert_eq!(dog.look(true, Lsn(1), &mut patience, start + PEER / 4), None);
        assert_eq!(dog.look(true, Lsn(1), &mut patience, start + PEER), Some(Alarm::Pause(PEER * 3 / 4)));
    }
}
