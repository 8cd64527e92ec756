//! First part: a few changes, and the event of each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Received, events};
use logistic_package_proto::package_api::{
    CreatePackageV1Request, MaybeBool, RemovePackageV1Request, UpdatePackageV1Request,
};

use crate::arrivals::since_commit;
use crate::screen::{Screen, human};
use crate::system::System;

/// The first event of all waits for the producer to get its id from the broker.
const EVENT_DEADLINE: Duration = Duration::from_secs(15);

/// Creates, updates and removes packages; prints each event as it arrives.
pub(crate) async fn tell(screen: &Screen, system: &System) -> Result<()> {
    screen.section("A change through gRPC, and its event on the topic");
    let mut story = Story { screen, system, told: system.arrivals.count() };
    let crate_id = story.create("crate", "wood", 48_000.0).await?;
    let tube_id = story.create("tube", "cardboard", 700.5).await?;
    let crate_relabelled = UpdatePackageV1Request { title: "big crate".into(), ..update(crate_id) };
    story.update("Title=\"big crate\"", crate_relabelled).await?;
    let tube_reusable = MaybeBool { reusable: true };
    story
        .update("Reusable=true", UpdatePackageV1Request { reusable: Some(tube_reusable), ..update(tube_id) })
        .await?;
    let crate_grown = UpdatePackageV1Request { maximum_volume: 96_000.0, ..update(crate_id) };
    story.update("MaximumVolume=96000", crate_grown).await?;
    story.remove(tube_id).await
}

fn update(package_id: u64) -> UpdatePackageV1Request {
    UpdatePackageV1Request { package_id, ..UpdatePackageV1Request::default() }
}

struct Story<'a> {
    screen: &'a Screen,
    system: &'a System,
    told: usize,
}

impl Story<'_> {
    async fn create(&mut self, title: &str, material: &str, maximum_volume: f32) -> Result<u64> {
        let (title, material) = (title.to_owned(), material.to_owned());
        let call = format!("CreatePackageV1  Title={title:?} Material={material:?}");
        let request = CreatePackageV1Request { title, material, maximum_volume, reusable: false };
        let started = Instant::now();
        let answer = self.system.client.clone().create_package_v1(request).await.context("create")?;
        let id = answer.into_inner().id;
        self.answered(&call, &format!("ID={id}"), started);
        self.event().await?;
        Ok(id)
    }

    async fn update(&mut self, what: &str, request: UpdatePackageV1Request) -> Result<()> {
        let call = format!("UpdatePackageV1  PackageID={} {what}", request.package_id);
        let started = Instant::now();
        self.system.client.clone().update_package_v1(request).await.context("update")?;
        self.answered(&call, "Suc=true", started);
        self.event().await
    }

    async fn remove(&mut self, package_id: u64) -> Result<()> {
        let started = Instant::now();
        let request = RemovePackageV1Request { package_id };
        self.system.client.clone().remove_package_v1(request).await.context("remove")?;
        self.answered(&format!("RemovePackageV1  PackageID={package_id}"), "Suc=true", started);
        self.event().await
    }

    fn answered(&self, call: &str, answer: &str, started: Instant) {
        self.screen.call(&format!("{call}  ->  {answer} in {}", human(started.elapsed())));
    }

    /// Prints the next event; the first one of all in full.
    async fn event(&mut self) -> Result<()> {
        let record = self.system.arrivals.nth(self.told, EVENT_DEADLINE).await.with_context(|| {
            format!("the change was committed, its event is missing\n{}", self.system.relay.log_tail())
        })?;
        self.screen.line(&line_of(&record));
        if self.told == 0 {
            for (name, value) in &record.headers {
                self.screen.detail(name, &String::from_utf8_lossy(value));
            }
            let payload = events::decode(&record)?.payload;
            self.screen.detail("value.Payload", &String::from_utf8_lossy(&payload));
        }
        self.told += 1;
        Ok(())
    }
}

fn line_of(record: &Received) -> String {
    let header = |name| record.header(name).unwrap_or("?");
    let kind = header("ce_type").rsplit('.').next().unwrap_or("?");
    format!(
        "p{}@{:<3} key={:<3} ...package.{kind:<8} ce_id={}  wal {}#{}  {} after commit",
        record.partition,
        record.offset,
        record.key_text(),
        header("ce_id"),
        header("wal-lsn"),
        header("wal-seq"),
        human(since_commit(record)),
    )
}
