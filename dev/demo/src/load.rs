//! Concurrent writers through gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use logistic_package_proto::package_api::{
    CreatePackageV1Request, RemovePackageV1Request, UpdatePackageV1Request,
};
use tokio::task::JoinSet;

use crate::system::Client;

const WRITERS: usize = 8;

/// Packages that all writers change at once: their events must come in the order in which the row lock let them through.
const SHARED_PACKAGES: usize = 3;

/// Writers that go on until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
    writers: JoinSet<Result<()>>,
}

impl Load {
    pub(crate) async fn start(client: &Client) -> Result<Self> {
        let mut shared = Vec::new();
        for number in 0..SHARED_PACKAGES {
            shared.push(create(&mut client.clone(), format!("shared {number}")).await?);
        }
        let mut load = Self {
            stop: Arc::default(),
            committed: Arc::new(AtomicUsize::new(SHARED_PACKAGES)),
            writers: JoinSet::new(),
        };
        let shared: Arc<[u64]> = shared.into();
        for number in 0..WRITERS {
            let (client, shared) = (client.clone(), Arc::clone(&shared));
            let (stop, committed) = (Arc::clone(&load.stop), Arc::clone(&load.committed));
            load.writers.spawn(write(client, number, shared, stop, committed));
        }
        Ok(load)
    }

    /// How many changes were answered with success.
    pub(crate) fn committed(&self) -> usize {
        self.committed.load(Ordering::Relaxed)
    }

    /// Lets every writer finish its call.
    pub(crate) async fn stop(mut self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.context("a writer panicked")??;
        }
        Ok(self.committed())
    }
}

/// A package's life, over and over: created, updated beside a shared one, removed.
async fn write(
    mut client: Client,
    number: usize,
    shared: Arc<[u64]>,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
) -> Result<()> {
    let mut round = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let own = create(&mut client, format!("writer {number} round {round}")).await?;
        committed.fetch_add(1, Ordering::Relaxed);
        let contended = shared[(number + round) % shared.len()];
        for package_id in [own, contended, own] {
            let material = format!("material {round}");
            let request = UpdatePackageV1Request { package_id, material, ..Default::default() };
            client.update_package_v1(request).await.context("an update under load")?;
            committed.fetch_add(1, Ordering::Relaxed);
        }
        let request = RemovePackageV1Request { package_id: own };
        client.remove_package_v1(request).await.context("a removal under load")?;
        committed.fetch_add(1, Ordering::Relaxed);
        round += 1;
    }
    Ok(())
}

async fn create(client: &mut Client, title: String) -> Result<u64> {
    let request =
        CreatePackageV1Request { title, material: "paper".into(), maximum_volume: 1.0, reusable: false };
    Ok(client.create_package_v1(request).await.context("a creation under load")?.into_inner().id)
}
