//! The faults: each is brought about, and healed.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::world::{DEADLINE, PEER_TIMEOUT, World};

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    RelayKilled,
    RelayTerminated,
    RelayPausedBriefly,
    RelayPausedForLong,
    StandbyKilled,
    PostgresKilled,
    PostgresRestarted,
    WalsenderTerminated,
    PostgresReset,
    PostgresBlackHole,
    PostgresSlow,
    KafkaKilled,
    KafkaRestarted,
    KafkaPaused,
    KafkaReset,
    KafkaBlackHole,
    KafkaSlow,
}

impl Kind {
    pub(crate) const ALL: [Self; 17] = [
        Self::RelayKilled,
        Self::RelayTerminated,
        Self::RelayPausedBriefly,
        Self::RelayPausedForLong,
        Self::StandbyKilled,
        Self::PostgresKilled,
        Self::PostgresRestarted,
        Self::WalsenderTerminated,
        Self::PostgresReset,
        Self::PostgresBlackHole,
        Self::PostgresSlow,
        Self::KafkaKilled,
        Self::KafkaRestarted,
        Self::KafkaPaused,
        Self::KafkaReset,
        Self::KafkaBlackHole,
        Self::KafkaSlow,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RelayKilled => "relay: SIGKILL",
            Self::RelayTerminated => "relay: SIGTERM",
            Self::RelayPausedBriefly => "relay: SIGSTOP, briefly",
            Self::RelayPausedForLong => "relay: SIGSTOP, past the time-out",
            Self::StandbyKilled => "standby: SIGKILL",
            Self::PostgresKilled => "Postgres: SIGKILL",
            Self::PostgresRestarted => "Postgres: restart",
            Self::WalsenderTerminated => "Postgres: walsender terminated",
            Self::PostgresReset => "way to Postgres: reset",
            Self::PostgresBlackHole => "way to Postgres: black hole",
            Self::PostgresSlow => "way to Postgres: slow",
            Self::KafkaKilled => "Kafka: SIGKILL",
            Self::KafkaRestarted => "Kafka: restart",
            Self::KafkaPaused => "Kafka: SIGSTOP",
            Self::KafkaReset => "way to Kafka: reset",
            Self::KafkaBlackHole => "way to Kafka: black hole",
            Self::KafkaSlow => "way to Kafka: slow",
        }
    }
}

/// A fault of a run: drawn before anything is done, so that a seed gives the same ones again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// How long it lasts, where it lasts.
    lasts: Duration,
    /// How long all is well before it.
    pub(crate) after: Duration,
}

impl Fault {
    /// The next of a run: every kind once in an order of its own, then again.
    pub(crate) fn draw(rng: &mut StdRng, left: &mut Vec<Kind>, only: &str) -> Self {
        if left.is_empty() {
            left.extend(Kind::ALL.into_iter().filter(|kind| kind.name().contains(only)));
        }
        let kind = left.swap_remove(rng.random_range(0..left.len()));
        let millis = match kind {
            Kind::RelayPausedBriefly => 50..900,
            Kind::RelayPausedForLong | Kind::PostgresBlackHole => 3_500..6_000,
            Kind::KafkaBlackHole | Kind::KafkaPaused => 500..5_000,
            _ => 300..2_000,
        };
        let lasts = Duration::from_millis(rng.random_range(millis));
        Self { kind, lasts, after: Duration::from_millis(rng.random_range(100..1_500)) }
    }

    /// Brings it about, lets it last, and heals it.
    pub(crate) async fn befall(self, world: &mut World) -> Result<()> {
        let active = world.relays.active().await?;
        let lasts = || tokio::time::sleep(self.lasts);
        match self.kind {
            Kind::RelayKilled => restart(world, active, Kind::RelayKilled).await?,
            Kind::StandbyKilled => restart(world, 1 - active, Kind::RelayKilled).await?,
            Kind::RelayTerminated => restart(world, active, Kind::RelayTerminated).await?,
            Kind::RelayPausedBriefly | Kind::RelayPausedForLong => {
                world.relays.at(active).pause().await?;
                lasts().await;
                world.relays.at(active).resume().await?;
            }
            Kind::PostgresKilled => {
                world.postgres.kill().await?;
                world.postgres.start_again().await?;
            }
            Kind::PostgresRestarted => world.postgres.restart().await?,
            Kind::WalsenderTerminated => {
                let end = "select pg_terminate_backend(active_pid) from pg_replication_slots where active";
                world.database.execute(end).await?;
            }
            Kind::PostgresReset => world.way_to_postgres.reset(),
            Kind::PostgresBlackHole => {
                world.way_to_postgres.black_hole();
                lasts().await;
                world.way_to_postgres.heal();
            }
            Kind::PostgresSlow => {
                world.way_to_postgres.slow(PEER_TIMEOUT / 30);
                lasts().await;
                world.way_to_postgres.heal();
            }
            Kind::KafkaKilled => {
                world.kafka.kill().await?;
                world.kafka.start_again().await?;
            }
            Kind::KafkaRestarted => world.kafka.restart().await?,
            Kind::KafkaPaused => {
                world.kafka.pause().await?;
                lasts().await;
                world.kafka.resume().await?;
            }
            Kind::KafkaReset => world.way_to_kafka.reset(),
            Kind::KafkaBlackHole => {
                world.way_to_kafka.black_hole();
                lasts().await;
                world.way_to_kafka.heal();
            }
            Kind::KafkaSlow => {
                world.way_to_kafka.slow(PEER_TIMEOUT / 30);
                lasts().await;
                world.way_to_kafka.heal();
            }
        }
        Ok(())
    }
}

/// Ends a relay, and starts it again beside the other, which has the slot by then or will.
async fn restart(world: &mut World, index: usize, how: Kind) -> Result<()> {
    if how == Kind::RelayTerminated {
        world.relays.at(index).terminate(DEADLINE).await?;
    } else {
        world.relays.at(index).kill()?;
    }
    world.relays.start_again(index)
}
