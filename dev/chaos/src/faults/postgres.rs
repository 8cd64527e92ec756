//! What befalls Postgres and the way to it.

use anyhow::Result;

use super::{Fault, restart};
use crate::kinds::Kind;
use crate::relays::Seat;
use crate::world::{SLOW, World};

impl Fault {
    pub(super) async fn befall_postgres(self, world: &mut World, active: Seat) -> Result<()> {
        let way = &world.way_to_postgres;
        match self.kind {
            Kind::PostgresKilled => {
                world.postgres.primary.kill().await?;
                world.postgres.primary.start_again().await?;
            }
            Kind::PostgresRestarted => world.postgres.primary.restart().await?,
            Kind::DiskFull | Kind::DiskFullOfLog => {
                world.postgres.primary.fill_disk().await?;
                world.disk_is_full(self.kind == Kind::DiskFullOfLog).await?;
                if self.kind == Kind::DiskFull {
                    // Who streams needs no room; who takes over, some.
                    restart(world, active, Kind::RelayKilled).await?;
                }
                self.lasts().await;
                world.postgres.primary.free_disk().await?;
                world.restart_primary_unless_it_answers().await?;
            }
            Kind::PostgresFailedOver => world.fail_over().await?,
            Kind::PostgresReset => way.reset(),
            Kind::PostgresBlackHole => {
                way.black_hole();
                self.lasts().await;
                way.heal();
            }
            Kind::PostgresSlow => {
                way.slow(SLOW);
                self.lasts().await;
                way.heal();
            }
            Kind::PostgresAddressOfStandby => {
                // Who has come to the standby stays there, until it notices itself.
                way.lead_to(world.postgres.standby.addr()?);
                way.reset();
                self.lasts().await;
                way.lead_to(world.postgres.primary.addr()?);
            }
            _ => {
                // The relay's alone: the standby's is not to be ended with it.
                let end = format!(
                    "select pg_terminate_backend(active_pid) from pg_replication_slots \
                     where active and slot_name = '{}'",
                    world.slot(self.stream).name
                );
                world.insist(self.stream, &end).await?;
            }
        }
        Ok(())
    }
}
