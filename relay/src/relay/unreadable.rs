//! Is it the stream itself that cannot be read?

use tokio::time::{Duration, Instant};

use crate::error::Error;
use crate::lsn::Lsn;

/// So often it is tried at least.
const TRIES: u32 = 5;

/// A stream that Postgres ends with the same kind of error each time, while nothing gets on. A segment of the WAL is gone
/// though the slot says that it is whole, or does not decode: only reading it tells, and no later try helps.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Since when, and where.
    since: Option<(Instant, Lsn)>,
    tries: u32,
}

impl Unreadable {
    /// What a session's error means, with everything before `reached` acknowledged: it is of the stream when it came at
    /// the same place again and again, for `patience` and longer.
    pub(super) fn judge(&mut self, error: Error, reached: Lsn, now: Instant, patience: Duration) -> Error {
        let Error::Database(cause) = error else { return error };
        if !cause.is_about_stream() || !cause.sqlstate().is_some_and(is_about_wal) {
            return cause.into();
        }
        let since = match self.since {
            Some((since, at)) if at == reached => since,
            _ => {
                self.tries = 0;
                now
            }
        };
        self.since = Some((since, reached));
        self.tries += 1;
        if self.tries < TRIES || now.saturating_duration_since(since) < patience {
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
    use crate::database::DatabaseError;

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
}
