//! What a kind of statement has to say about itself to be queued, shared and repeated.

use super::queue::{Line, Lines};
use super::session::Session;
use crate::outbox::Outbox;

/// A statement with its values.
pub(super) trait Statement: std::fmt::Debug + Send + Sync + Sized + 'static {
    /// What a call gets for it.
    type Answer: std::fmt::Debug + Send + 'static;

    /// What it is called where it is seen from outside.
    const NAME: &str;
    /// It may be repeated when nobody knows whether it was carried out: it changes nothing, or once only.
    const SAFE_TO_REPEAT: bool;
    /// Calls that share one at most; 1 where they never do.
    const TOGETHER_MAX: usize = 1;
    /// Statements of the kind under way at once at most, as far as they are quick: fewer are larger.
    const UNDER_WAY_MAX: usize = usize::MAX;

    /// What Postgres is told, without values, where events are written so.
    fn text(outbox: &Outbox) -> &'static str;

    /// Whether two may share one.
    fn may_share(_one: &Self, _other: &Self) -> bool {
        true
    }

    /// Its line.
    fn line(lines: &mut Lines) -> &mut Line<Self>;

    /// Runs it for one call.
    fn one(&self, session: &mut Session) -> impl Future<Output = Result<Self::Answer, sqlx::Error>> + Send;

    /// Runs it for several calls at once. `None` is for one that must be run alone.
    fn together(
        these: &[Self],
        session: &mut Session,
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, sqlx::Error>> + Send {
        let _ = session;
        let nothing = these.iter().map(|_| None).collect();
        std::future::ready(Ok(nothing))
    }
}
