//! Is it the stream itself that cannot be read?

use tokio::time::{Duration, Instant};

use crate::error::Error;
use walpost_core::lsn::Lsn;

/// So often it is tried at least.
const TRIES: u32 = 5;

/// Between two failures that have to do with each other no more than so many times the patience passes.
const APART: u32 = 10;

/// A stream that Postgres ends with the same kind of error each time, while nothing gets on. A segment of the WAL is gone
/// though the slot says that it is whole, or does not decode: only reading it tells, and no later try helps.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    streak: Option<Streak>,
}

#[derive(Debug, Clone, Copy)]
struct Streak {
    since: Instant,
    last: Instant,
    /// Everything before is acknowledged.
    at: Lsn,
    tries: u32,
}

impl Unreadable {
    /// What a session's error means, with everything before `reached` acknowledged: it is of the stream when it came at
    /// the same place again and again, for `patience` and longer.
    pub(super) fn judge(&mut self, error: Error, reached: Lsn, now: Instant, patience: Duration) -> Error {
        let Error::Database(cause) = error else { return error };
        if !cause.is_of_followed_stream() || !cause.sqlstate().is_some_and(is_about_wal) {
            return cause.into();
        }
        let goes_on = |streak: &Streak| {
            streak.at == reached && now.saturating_duration_since(streak.last) <= APART * patience
        };
        let begun = Streak { since: now, last: now, at: reached, tries: 0 };
        let before = self.streak.filter(goes_on).unwrap_or(begun);
        let streak = Streak { last: now, tries: before.tries + 1, ..before };
        self.streak = Some(streak);
        if streak.tries < TRIES || now.saturating_duration_since(streak.since) < patience {
            return cause.into();
        }
        Error::Unreadable { at: reached, cause }
    }
}

/// `undefined_file`, and the class of internal errors and corrupted data (PostgreSQL, "Error Codes").
fn is_about_wal(code: &str) -> bool {
    code == "58P01" || code.starts_with("XX")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::DatabaseError;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn error(code: &str) -> Error {
        DatabaseError::of_stream("follow the stream", "db", &format!("server error: x (SQLSTATE {code})"))
            .into()
    }

    /// Whether the last of so many tries, a second apart, says that the stream cannot be read.
    fn is_given_up(
        unreadable: &mut Unreadable,
        tries: u64,
        code: &str,
        reached: impl Fn(u64) -> u64,
    ) -> bool {
        let start = Instant::now();
        let judged = (0..tries).map(|second| {
            let now = start + Duration::from_secs(second);
            unreadable.judge(error(code), Lsn(reached(second)), now, PATIENCE)
        });
        matches!(judged.last(), Some(Error::Unreadable { .. }))
    }

    #[test]
    fn a_stream_that_breaks_at_the_same_place_for_so_long_is_given_up() {
        for code in ["58P01", "XX000", "XX001"] {
            assert!(!is_given_up(&mut Unreadable::default(), 60, code, |_| 7), "not before its time");
            assert!(is_given_up(&mut Unreadable::default(), 61, code, |_| 7));
        }
    }

    #[test]
    fn one_that_gets_on_or_has_another_reason_is_not() {
        assert!(!is_given_up(&mut Unreadable::default(), 200, "58P01", |second| second / 50));
        assert!(!is_given_up(&mut Unreadable::default(), 200, "57P01", |_| 7));
    }

    #[test]
    fn failures_that_are_hours_apart_have_nothing_to_do_with_each_other() {
        let (mut unreadable, start) = (Unreadable::default(), Instant::now());
        for hour in 0..20 {
            let now = start + Duration::from_secs(3_600 * hour);
            let judged = unreadable.judge(error("58P01"), Lsn(7), now, PATIENCE);
            assert!(matches!(judged, Error::Database(_)));
        }
    }
}
