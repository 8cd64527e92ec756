use serde_json::Value;

use super::*;
use crate::fakes::{FakeCache, FakePackages, Recorded, call, package};
use crate::observe::metrics::Metrics;

const SENDER: Sender = Sender { user_id: 7, chat_id: 5 };

struct World {
    packages: FakePackages,
    cache: FakeCache,
    recorded: Recorded,
    commands: Commands<FakePackages, FakeCache>,
}

fn world(packages: FakePackages, away: bool, allowed: &[i64]) -> World {
    let (cache, recorded) = (FakeCache { away, ..FakeCache::default() }, Recorded::default());
    let journal = Arc::new(Journal::new(Arc::new(recorded.clone()), Metrics::new()));
    let allowed = Allowed(allowed.iter().copied().collect());
    let commands = Commands::new(packages.clone(), cache.clone(), journal, 5, allowed);
    World { packages, cache, recorded, commands }
}

impl World {
    async fn run(&self, command: Command) -> Outcome {
        self.commands.run(&command, SENDER, &call()).await
    }

    /// What was recorded, such as `Read description 3 true`.
    fn events(&self) -> Vec<String> {
        let told = |record: Record| {
            let value: Value = serde_json::from_str(&record.value).expect("JSON");
            assert_eq!(record.key, value["id"].to_string(), "the key is the package's id");
            format!(
                "{} {} {}",
                value["cacheEventType"].as_str().expect("text"),
                value["id"],
                value["success"]
            )
        };
        self.recorded.take().into_iter().map(told).collect()
    }
}

use crate::journal::Record;

fn fields() -> Fields {
    Fields { title: Some("a".into()), material: Some("b".into()), volume: Some(5.0), reusable: Some(true) }
}

#[tokio::test]
async fn a_package_is_asked_for_once_and_then_known() {
    let world = world(FakePackages::with(3), false, &[]);
    assert_eq!(world.run(Command::Get(3)).await, Outcome::Package(package(3)));
    assert_eq!(world.events(), ["Read description 3 false", "Set description 3 true"]);
    assert_eq!(world.run(Command::Get(3)).await, Outcome::Package(package(3)));
    assert_eq!(world.events(), ["Read description 3 true"]);
    assert_eq!(world.packages.calls(), ["describe"]);
}

#[tokio::test]
async fn without_a_cache_the_service_is_asked() {
    let world = world(FakePackages::with(3), true, &[]);
    assert_eq!(world.run(Command::Get(3)).await, Outcome::Package(package(3)));
    assert_eq!(world.events(), ["Read description 3 false", "Set description 3 false"]);
}

#[tokio::test]
async fn what_is_not_there_is_not_cached() {
    let world = world(FakePackages::with(3), false, &[]);
    assert_eq!(world.run(Command::Get(8)).await, Outcome::NotFound(Kind::Get, 8));
    assert_eq!(world.events(), ["Read description 8 false"]);
}

#[tokio::test]
async fn a_change_is_forgotten_and_a_removal_that_failed_is_recorded_as_such() {
    for (away, success) in [(false, "true"), (true, "false")] {
        let world = world(FakePackages::with(3), away, &[]);
        assert_eq!(world.run(Command::Edit(3, fields())).await, Outcome::Changed(Kind::Edit, 3, true));
        assert_eq!(world.run(Command::Delete(3)).await, Outcome::Changed(Kind::Delete, 3, true));
        assert_eq!(world.events(), vec![format!("Remove description 3 {success}"); 2]);
    }
}

#[tokio::test]
async fn a_new_package_is_cached_as_it_was_typed() {
    let world = world(FakePackages::with(3), false, &[]);
    assert_eq!(world.run(Command::New(fields())).await, Outcome::Created(4));
    assert_eq!(world.events(), ["Set description 4 true"]);
    assert_eq!(world.cache.held.lock().expect("a lock")[&4].title, "a");
}

#[tokio::test]
async fn a_change_whose_fate_is_unknown_is_forgotten() {
    let world = world(FakePackages::with(3).failing(ServiceError::Unanswered), false, &[]);
    world.cache.held.lock().expect("a lock").insert(3, package(3));
    assert_eq!(world.run(Command::Delete(3)).await, Outcome::Failed(Kind::Delete, ServiceError::Unanswered));
    assert!(world.cache.held.lock().expect("a lock").is_empty());
    assert!(world.events().is_empty());
}

#[tokio::test]
async fn only_those_who_may_change_packages() {
    for (allowed, lets) in [(&[][..], true), (&[7], true), (&[5], true), (&[8], false)] {
        let world = world(FakePackages::with(3), false, allowed);
        for command in [Command::New(fields()), Command::Edit(3, fields()), Command::Delete(3)] {
            assert_eq!(world.run(command).await != Outcome::Forbidden, lets, "{allowed:?}");
        }
        assert_eq!(world.packages.calls().len(), if lets { 3 } else { 0 });
        assert_eq!(world.run(Command::Get(2)).await, Outcome::Package(package(2)), "anybody may look");
    }
}
