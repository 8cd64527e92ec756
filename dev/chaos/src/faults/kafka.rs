//! What befalls brokers and the ways to them.

use anyhow::Result;
use harness::cluster::BROKERS;
use harness::kafka_proxy::{Which, code};
use harness::leaders;

use super::Fault;
use crate::kinds::Kind;
use crate::world::{SLOW, World};

/// How many requests in a row meet with the fault, on each broker.
const REFUSED: u32 = 3;

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
                    leaders::move_to(&world.topic, first, BROKERS).await?;
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
