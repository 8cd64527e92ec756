//! What operators do, to the best of their knowledge.

use std::sync::Arc;

use anyhow::Result;

use super::Fault;
use crate::kinds::Kind;
use crate::world::World;

/// No record is so small. A broker's own marks of transactions are smaller still: one that it refuses is never written again, and
/// its transaction stays open until the coordinator moves.
const TOO_SMALL_BYTES: u32 = 100;

/// What topics have by default.
const LARGEST_BYTES: u32 = 1_048_588;

impl Fault {
    pub(super) async fn befall_operator(self, world: &mut World) -> Result<()> {
        let (source, stream) = (Arc::clone(world.source(self.stream)), self.stream);
        let relay = source.database.relay_role();
        let end_sessions =
            format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{relay}'");
        let publication = format!("alter publication {}", world.slot(stream).publication);
        match self.kind {
            Kind::TableRewritten => {
                world
                    .insist(
                        stream,
                        "alter table package_event add column chaos uuid default gen_random_uuid()",
                    )
                    .await?;
                self.lasts().await;
                world.insist(stream, "alter table package_event drop column chaos").await
            }
            Kind::RowsUpdated => {
                world.insist(stream, "update package_event set traceparent = traceparent").await
            }
            Kind::PublicationWithoutInserts => {
                self.between(
                    world,
                    &[&format!("{publication} set (publish = 'update')")],
                    &[&format!("{publication} set (publish = 'insert')")],
                )
                .await
            }
            Kind::PublicationWithoutTable => {
                let again = format!("{publication} add table {}", world.published(stream).await?);
                self.between(world, &[&format!("{publication} drop table package_event")], &[&again]).await
            }
            Kind::DatabaseReadOnly => {
                // Sessions that have begun so stay so, until they are given up.
                self.between(
                    world,
                    &[&format!("alter role {relay} set default_transaction_read_only = on"), &end_sessions],
                    &[&format!("alter role {relay} reset default_transaction_read_only")],
                )
                .await
            }
            Kind::RightsRevoked => {
                self.between(
                    world,
                    &[&format!("revoke logistic_package_relay from {relay}"), &end_sessions],
                    &[&format!("grant logistic_package_relay to {relay}")],
                )
                .await
            }
            Kind::LoginDenied => {
                self.between(
                    world,
                    &[&format!("alter role {relay} nologin"), &end_sessions],
                    &[&format!("alter role {relay} login")],
                )
                .await
            }
            _ => {
                source.topic.refuse_batches_above(TOO_SMALL_BYTES).await?;
                self.lasts_here(world).await?;
                source.topic.refuse_batches_above(LARGEST_BYTES).await
            }
        }
    }

    /// Executes `first`, lets it last, and executes `then`.
    async fn between(self, world: &World, first: &[&str], then: &[&str]) -> Result<()> {
        for statement in first {
            world.insist(self.stream, statement).await?;
        }
        self.lasts_here(world).await?;
        for statement in then {
            world.insist(self.stream, statement).await?;
        }
        Ok(())
    }
}
