//! Where to go on with exactly-once delivery: behind what Kafka holds, as the position there says, and the slot may not know.
//!
//! The position only ever makes the relay pass over what is in Kafka. It says that of the history in which it was written: the
//! events before it, of the server and the timeline that it names. So
//!
//! * on the timeline that it names, it holds where the server has that history still; one whose disk went back in time has
//!   another. The ledger, which went back with it, tells; and where that is not enough the stream does, which must show the
//!   very transaction that the position names before anything passed over for its sake is confirmed;
//! * on a timeline that began where that one ended, what lies before the fork is common to both. What the position names
//!   behind it was lost with the failover, and is in Kafka: an event that never was, for the new primary;
//! * on any other timeline it says nothing.
//!
//! Where it says nothing, events that are in Kafka come again: a repeat, not a loss. The log says so.

use super::Relay;
use crate::error::Error;
use crate::kafka::Found as InKafka;
use crate::kafka::position::{Identity, Position};
use crate::postgres::Server;
use crate::postgres::preflight::Found;
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

impl Relay {
    /// Takes the place of any other that sends for this slot, where delivery is exactly once, and goes on behind what Kafka
    /// holds.
    pub(super) async fn go_on_from_kafka(
        &mut self,
        found: &Found,
        server: &Server,
        epoch: i64,
    ) -> Result<(), Error> {
        let (slot, system) = (self.settings.source.slot.clone(), server.system.clone());
        let identity = Identity { system, timeline: server.timeline, slot, epoch };
        let sink = self.publisher.sink_mut().inner_mut();
        sink.remembered(found.remembered);
        let Some(InKafka(position)) = sink.open(identity).await? else { return Ok(()) };
        let meaning = match self.distrusts_position {
            true => Meaning::Nothing,
            false => meaning(&position, server, found),
        };
        let confirmed = found.slot.confirmed().unwrap_or(found.remembered);
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
        self.copied_before = match meaning {
            Meaning::Place(_) => position.mark.reach.copied,
            Meaning::Before(_) | Meaning::Nothing => None,
        };
        self.distrusts_position = false;
        self.publisher.sink_mut().inner_mut().begin_from(position.mark);
        Ok(())
    }
}

/// The place behind everything that committed before.
fn all_before(end: Lsn) -> Place {
    Place { commit: Lsn(end.0.saturating_sub(1)), committed_at: 0, events: 0, whole: true }
}

fn meaning(position: &Position, server: &Server, found: &Found) -> Meaning {
    let Position { of, remembered, mark } = position;
    let place = mark.reach.place;
    if of.timeline == server.timeline {
        // What the ledger knew when the position was written, it knows still.
        let is_past = found.memory.confirmed < *remembered || found.memory.epoch < mark.epoch;
        return if is_past { Meaning::Nothing } else { Meaning::Place(place) };
    }
    match (server.end_of(of.timeline), place) {
        (None, _) => Meaning::Nothing,
        (Some(end), Some(place)) if place.commit >= end => Meaning::Before(end),
        // Rows that were copied may be among what was lost.
        (Some(_), place) => place.map_or(Meaning::Nothing, |place| Meaning::Place(Some(place))),
    }
}
