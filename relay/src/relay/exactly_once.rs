//! Where to go on with exactly-once delivery: behind what Kafka holds, as the position there says, and the slot may not know.
//!
//! The position only ever makes the relay pass over what is in Kafka. It says that of the history in which it was written: the
//! events before it, of the server and the timeline that it names. So
//!
//! * on the timeline that it names, it holds where the server has that history still; one whose disk went back in time has
//!   another. The ledger, which went back with it, tells, and the end of the WAL; and where these are not enough the stream does,
//!   which must show the very transaction that the position names before anything passed over for its sake is confirmed;
//! * on a timeline that began where that one ended, what lies before the fork is common to both. What the position names
//!   behind it was lost with the failover, and is in Kafka: an event that never was, for the new primary;
//! * on any other timeline it says nothing.
//!
//! A position in the midst of a transaction counts its events. Where other tables or messages are followed than when it was
//! written, these are other events, and the transaction counts as one of which nothing is there.
//!
//! All of it is compared with what Postgres says once the slot is held: until then another relay may move on.
//!
//! Where it says nothing, events that are in Kafka come again: a repeat, not a loss. The log says so.

use sha2::{Digest, Sha256};

use super::Relay;
use crate::error::Error;
use crate::kafka::position::{Identity, Position};
use crate::postgres::checkpoint;
use crate::postgres::ledger::Holder;
use crate::postgres::preflight::{self, Found, Unsafe};
use crate::postgres::{Server, Session};
use walpost_core::lsn::Lsn;
use walpost_core::window::progress::Place;

/// What the position means for the stream of this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Everything before it is in Kafka; the stream will show its transaction, or stands behind that.
    Place(Option<Place>),
    /// Everything that committed before is.
    Before(Lsn),
    /// It says nothing of this history.
    Nothing,
}

/// What the ledger says, once the slot is held.
#[derive(Debug, Clone, Copy)]
struct Ledger {
    confirmed: Lsn,
    /// Of the session before.
    epoch: i64,
}

impl Relay {
    /// Takes the place of any other that sends for this slot, where delivery is exactly once, and goes on behind what Kafka
    /// holds.
    pub(super) async fn go_on_from_kafka(
        &mut self,
        session: &Session,
        found: &Found,
        server: &Server,
        holder: &Holder,
    ) -> Result<(), Error> {
        let identity = Identity {
            system: server.system.clone(),
            timeline: server.timeline,
            slot: holder.slot.clone(),
            epoch: holder.epoch,
            followed: followed(holder),
        };
        let sink = self.publisher.sink_mut().inner_mut();
        sink.remembered(found.memory.confirmed);
        let Some(position) = sink.open(identity.clone()).await? else { return Ok(()) };
        let looking = async {
            let facts = preflight::slot_facts(session, &holder.slot).await?;
            let facts = facts.ok_or_else(|| Unsafe::SlotMissing(holder.slot.clone()))?;
            Ok::<_, Error>((facts.confirmed(), checkpoint::wal_flushed(session).await?))
        };
        let (confirmed, flushed) = session.within("look at the slot", looking).await?;
        let meaning = match self.distrusts_position {
            true => Meaning::Nothing,
            false => {
                let ledger = Ledger { confirmed: found.memory.confirmed, epoch: found.memory.epoch };
                meaning(&position, &identity, server, ledger, flushed)
            }
        };
        let confirmed = confirmed.unwrap_or(found.remembered);
        let (place, is_ahead) = match meaning {
            Meaning::Place(place) => (place, place.is_some_and(|place| place.commit >= confirmed)),
            Meaning::Before(end) => (Some(all_before(end)), false),
            Meaning::Nothing => (None, false),
        };
        match place {
            Some(place) => {
                tracing::info!(commit = %place.commit, events = place.events, "going on behind what Kafka holds")
            }
            None if position.mark.reach.place.is_some() => tracing::warn!(
                written = %position.remembered,
                timeline = position.of.timeline,
                "the position in Kafka is of another history of the server: events that are in Kafka may come again"
            ),
            None => {}
        }
        self.publisher.resume(place, is_ahead);
        self.acknowledged_at_persist = self.publisher.progress().covered();
        let is_same = position.of.timeline == server.timeline && meaning != Meaning::Nothing;
        self.copied_before = position.mark.reach.copied.filter(|_| is_same);
        self.distrusts_position = false;
        self.publisher.sink_mut().inner_mut().begin_from(position.mark);
        Ok(())
    }
}

/// The place behind everything that committed before.
fn all_before(end: Lsn) -> Place {
    Place { commit: Lsn(end.0.saturating_sub(1)), committed_at: 0, events: 0, whole: true }
}

/// What is followed, in a few letters.
fn followed(holder: &Holder) -> String {
    let mut hash = Sha256::new();
    let mut outboxes = holder.outboxes.clone();
    outboxes.sort_unstable();
    outboxes.iter().for_each(|oid| hash.update(oid.to_be_bytes()));
    for prefix in &holder.messages {
        hash.update([0]);
        hash.update(prefix);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn meaning(position: &Position, own: &Identity, server: &Server, ledger: Ledger, flushed: Lsn) -> Meaning {
    let Position { of, remembered, mark } = position;
    let Some(place) = mark.reach.place else {
        // Rows that were copied may be among what another timeline has lost.
        let is_known = of.timeline == server.timeline && ledger.confirmed >= *remembered;
        return if is_known { Meaning::Place(None) } else { Meaning::Nothing };
    };
    let is_of_others = !place.whole && of.followed != own.followed;
    let reached = if is_of_others { Meaning::Before(place.commit) } else { Meaning::Place(Some(place)) };
    if of.timeline == server.timeline {
        // What the ledger knew when the position was written, it knows still; and what was sent had been flushed.
        let is_past = ledger.confirmed < *remembered || ledger.epoch < mark.epoch || place.commit >= flushed;
        return if is_past { Meaning::Nothing } else { reached };
    }
    match server.end_of(of.timeline) {
        None => Meaning::Nothing,
        Some(end) if place.commit >= end => Meaning::Before(end),
        Some(_) => reached,
    }
}

#[cfg(test)]
mod tests {
    use walpost_core::publish::sink::Reach;
    use walpost_core::publish::transactions::Mark;

    use super::*;

    fn place(commit: u64, whole: bool) -> Place {
        Place { commit: Lsn(commit), committed_at: 5, events: 3, whole }
    }

    fn identity(timeline: u32, followed: &str) -> Identity {
        let (system, slot) = ("7".to_owned(), "walpost".to_owned());
        Identity { system, timeline, slot, epoch: 9, followed: followed.to_owned() }
    }

    /// What it means to a server on timeline 3, which came from 2 at 200 and from 1 at 100, and whose WAL ends at 1000.
    fn on_three(timeline: u32, place: Option<Place>) -> Meaning {
        with(timeline, place, Ledger { confirmed: Lsn(50), epoch: 9 }, "a")
    }

    fn with(timeline: u32, place: Option<Place>, ledger: Ledger, followed: &str) -> Meaning {
        let mark = Mark { epoch: 9, number: 1, reach: Reach { place, copied: None } };
        let position = Position { of: identity(timeline, followed), remembered: Lsn(50), mark };
        let ended = vec![(1, Lsn(100)), (2, Lsn(200))];
        let server = Server { system: "7".into(), timeline: 3, in_recovery: false, ended };
        meaning(&position, &identity(3, "a"), &server, ledger, Lsn(1_000))
    }

    #[test]
    fn a_position_counts_on_its_timeline_and_up_to_the_fork_on_those_that_came_of_it() {
        let at = |commit| Meaning::Place(Some(place(commit, true)));
        assert_eq!(on_three(3, Some(place(300, true))), at(300));
        assert_eq!(on_three(2, Some(place(150, true))), at(150));
        assert_eq!(on_three(1, Some(place(99, true))), at(99));
        assert_eq!(on_three(1, Some(place(150, true))), Meaning::Before(Lsn(100)), "lost with the failover");
        assert_eq!(on_three(4, Some(place(150, true))), Meaning::Nothing, "of another branch");
    }

    #[test]
    fn a_position_of_a_history_that_the_server_has_lost_counts_for_nothing() {
        let known = Ledger { confirmed: Lsn(50), epoch: 9 };
        let at = Some(place(300, true));
        assert_eq!(with(3, at, known, "a"), Meaning::Place(at));
        assert_eq!(with(3, at, Ledger { confirmed: Lsn(49), ..known }, "a"), Meaning::Nothing);
        assert_eq!(with(3, at, Ledger { epoch: 8, ..known }, "a"), Meaning::Nothing);
        assert_eq!(
            with(3, Some(place(1_000, true)), known, "a"),
            Meaning::Nothing,
            "behind the end of the WAL"
        );
    }

    #[test]
    fn events_of_a_transaction_are_counted_among_what_was_followed_then() {
        let known = Ledger { confirmed: Lsn(50), epoch: 9 };
        let (whole, part) = (Some(place(300, true)), Some(place(300, false)));
        assert_eq!(with(3, whole, known, "b"), Meaning::Place(whole));
        assert_eq!(with(3, part, known, "a"), Meaning::Place(part));
        assert_eq!(with(3, part, known, "b"), Meaning::Before(Lsn(300)));
    }
}
