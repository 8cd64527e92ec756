//! What befalls brokers and the ways to them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use harness::cluster::{BROKERS, USER};
use harness::kafka_proxy::{Which, code};
use harness::rights::Right;
use harness::{leaders, rights};

use super::{Fault, restart};
use crate::kinds::Kind;
use crate::relays::Seat;
use crate::world::{SLOW, World};

/// How many requests in a row meet with the fault, on each broker.
const REFUSED: u32 = 3;

/// By then each broker has heard from the controller who may do what.
const SPREAD: Duration = Duration::from_millis(300);

impl Fault {
    pub(super) async fn befall_kafka(self, world: &mut World) -> Result<()> {
        let (kafka, broker) = (&world.kafka, self.broker);
        match self.kind {
            Kind::BrokerKilled => {
                kafka.kill(broker).await?;
                self.lasts().await;
                kafka.start_again(broker).await?;
            }
            Kind::BrokerPaused => {
                kafka.pause(broker).await?;
                self.lasts().await;
                kafka.resume(broker).await?;
            }
            Kind::BrokersRolled => {
                for broker in BROKERS {
                    kafka.restart(broker).await?;
                }
            }
            Kind::TwoBrokersAway => {
                for away in BROKERS.filter(|away| *away != broker) {
                    kafka.kill(away).await?;
                }
                self.lasts().await;
                kafka.start_all().await?;
            }
            Kind::LeadersMoved => {
                for step in 0..BROKERS.count() {
                    let first = 1 + (broker + i32::try_from(step)?) % *BROKERS.end();
                    for source in &world.sources {
                        leaders::move_to(&source.topic, first, BROKERS).await?;
                    }
                }
            }
            Kind::AnswersCut => {
                for way in kafka.ways() {
                    way.requests.cut_in_place_of_the_answer(Which::any(), REFUSED);
                }
                self.lasts().await;
                kafka.ways().iter().for_each(|way| way.requests.heal());
            }
            Kind::BrokerSlow => {
                kafka.way(broker).connections.slow(SLOW);
                self.lasts().await;
                kafka.way(broker).connections.heal();
            }
            Kind::BrokerUnreachable => {
                kafka.way(broker).connections.black_hole();
                self.lasts().await;
                kafka.way(broker).connections.heal();
            }
            Kind::KafkaReset => kafka.ways().iter().for_each(|way| way.connections.reset()),
            _ => {
                kafka.ways().iter().for_each(|way| way.connections.black_hole());
                self.lasts().await;
                kafka.ways().iter().for_each(|way| way.connections.heal());
            }
        }
        Ok(())
    }

    /// Denies a right on the topic to the relays for a while, which begins when one of them says that it lacks it.
    pub(super) async fn deny(self, world: &mut World, active: Seat) -> Result<()> {
        let right = if self.kind == Kind::WriteDenied { Right::Write } else { Right::Describe };
        let source = Arc::clone(world.source(self.stream));
        rights::deny(USER, &source.topic, right).await?;
        if right == Right::Describe {
            // Who publishes asks for it now and then only; who takes over, at once.
            tokio::time::sleep(SPREAD).await;
            restart(world, active, Kind::RelayKilled).await?;
        }
        world.relays.say(self.stream, "Kafka denies access").await?;
        self.lasts_here(world).await?;
        rights::deny_no_longer(USER, &source.topic, right).await
    }

    /// Refuses the next first requests of producers, on every broker.
    pub(super) fn refuse_first(self, world: &World) {
        for way in world.kafka.ways() {
            if self.kind == Kind::FirstRequestsOvertaken {
                way.requests.refuse_as_the_next_comes(Which::first(), REFUSED, code::NOT_LEADER);
            } else {
                way.requests.refuse(Which::first(), REFUSED, code::NOT_LEADER);
                way.requests.refuse(Which::first(), REFUSED, code::NOT_ENOUGH_REPLICAS);
            }
        }
    }
}
