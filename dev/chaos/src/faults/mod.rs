//! The faults: each is brought about, and healed.

mod kafka;
mod operator;
mod postgres;

use std::time::Duration;

use anyhow::Result;
use harness::cluster::BROKERS;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::kinds::Kind;
use crate::relays::{DEADLINE, Seat};
use crate::world::World;

/// A clock set to another time zone's, and one that is a day off: behind and ahead.
const HOURS_OFF: [i32; 4] = [-26, -3, 3, 26];

/// A fault of a run: drawn before anything is done, so that a seed gives the same ones again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// How long it lasts, where it lasts.
    lasts: Duration,
    /// How long all is well before it.
    pub(crate) after: Duration,
    /// The broker that it befalls, or the one that is left.
    broker: i32,
    /// By how much a clock is off.
    hours: i32,
    /// The stream that it befalls, where it does not befall all.
    pub(crate) stream: usize,
}

impl Fault {
    /// The next of a run: every kind once in an order of its own, then again.
    pub(crate) fn draw(rng: &mut StdRng, left: &mut Vec<Kind>, kinds: &[Kind], streams: usize) -> Self {
        if left.is_empty() {
            left.extend(kinds);
        }
        let kind = left.swap_remove(rng.random_range(0..left.len()));
        let millis = match kind {
            Kind::RelayPausedBriefly => 50..900,
            Kind::RelayPausedForLong | Kind::PostgresBlackHole => 8_500..10_500,
            Kind::KafkaBlackHole | Kind::BrokerPaused | Kind::BrokerUnreachable => 500..5_000,
            // Long enough for what is tried again, and for Postgres to fail at its own start.
            Kind::DiskFull | Kind::DiskFullOfLog => 1_000..2_500,
            _ => 300..2_000,
        };
        let lasts = Duration::from_millis(rng.random_range(millis));
        let after = Duration::from_millis(rng.random_range(100..1_500));
        let broker = rng.random_range(BROKERS);
        let hours = HOURS_OFF[rng.random_range(0..HOURS_OFF.len())];
        // Nothing is drawn where there is one: a seed of such a run gives what it always gave.
        let stream = if streams > 1 { rng.random_range(0..streams) } else { 0 };
        Self { kind, lasts, after, broker, hours, stream }
    }

    /// Brings it about, lets it last, and heals it.
    pub(crate) async fn befall(self, world: &mut World) -> Result<()> {
        let active = world.relays.active(self.stream).await?;
        match self.kind {
            Kind::RelayKilled => restart(world, active, Kind::RelayKilled).await,
            Kind::StandbyKilled => restart(world, active.other(), Kind::RelayKilled).await,
            Kind::RelayTerminated => restart(world, active, Kind::RelayTerminated).await,
            Kind::ClockOff => {
                world.relays.stream_with_clock_off(self.stream, active, self.hours).await?;
                self.lasts().await;
                restart(world, active, Kind::RelayTerminated).await
            }
            Kind::RelayPausedBriefly | Kind::RelayPausedForLong => {
                world.relays.at(active).pause().await?;
                self.lasts().await;
                world.relays.at(active).resume().await
            }
            Kind::PostgresKilled
            | Kind::PostgresRestarted
            | Kind::PostgresFailedOver
            | Kind::WalsenderTerminated
            | Kind::DiskFull
            | Kind::DiskFullOfLog
            | Kind::PostgresReset
            | Kind::PostgresBlackHole
            | Kind::PostgresSlow
            | Kind::PostgresAddressOfStandby => self.befall_postgres(world, active).await,
            Kind::FirstRequestsRefused | Kind::FirstRequestsOvertaken => {
                self.refuse_first(world);
                // A new producer, whose every first request is one.
                restart(world, active, Kind::RelayKilled).await?;
                self.lasts().await;
                world.kafka.ways().iter().for_each(|way| way.requests.heal());
                Ok(())
            }
            Kind::WriteDenied | Kind::DescribeDenied => self.deny(world, active).await,
            Kind::BrokerKilled
            | Kind::BrokerPaused
            | Kind::BrokersRolled
            | Kind::TwoBrokersAway
            | Kind::LeadersMoved
            | Kind::AnswersCut
            | Kind::BrokerSlow
            | Kind::BrokerUnreachable
            | Kind::KafkaReset
            | Kind::KafkaBlackHole => self.befall_kafka(world).await,
            Kind::TableRewritten
            | Kind::RowsUpdated
            | Kind::PublicationWithoutInserts
            | Kind::PublicationWithoutTable
            | Kind::DatabaseReadOnly
            | Kind::RightsRevoked
            | Kind::LoginDenied
            | Kind::MessageSizeLowered => self.befall_operator(world).await,
        }
    }

    /// Lasts, and events of those that it does not reach flow meanwhile.
    async fn lasts_here(self, world: &World) -> Result<()> {
        self.lasts().await;
        world.flow(&world.out_of_reach(self.kind, self.stream)).await
    }

    async fn lasts(self) {
        tokio::time::sleep(self.lasts).await;
    }
}

/// Ends a relay, and starts it again beside the other, which has the slot by then or will.
async fn restart(world: &mut World, seat: Seat, how: Kind) -> Result<()> {
    if how == Kind::RelayTerminated {
        world.relays.at(seat).terminate(DEADLINE).await?;
    } else {
        world.relays.at(seat).kill()?;
    }
    world.relays.start_again(seat)
}
