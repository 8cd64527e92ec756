//! Descriptions in the cache that have changed, by whomever.

use anyhow::Result;
use harness::writer::Written;
use harness::{PrivateRedis, wait_until};
use logistic_package_proto::package_event::{EventType, PackageEvent};
use package_bot::cache::{Cache, CacheSettings, RedisCache};
use prost::Message as _;
use serde_json::json;

use crate::support::{DEADLINE, World, message, message_in, package};

fn cached(id: u64, title: &str) -> String {
    json!({ "id": id, "title": title, "material": "m", "volume": 5, "reusable": true }).to_string()
}

fn event(id: u64, kind: EventType) -> Vec<u8> {
    PackageEvent { id: 1, package_id: id, r#type: kind.into(), ..Default::default() }.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_not_shown_from_the_cache() -> Result<()> {
    let world = World::new().await?;
    for id in [3, 4, 5] {
        world.redis.set(&format!("package{id}"), &cached(id, "old")).await?;
    }
    let bot = world.bot().await?;
    let gone = async |id: u64| Ok(world.redis.get(&format!("package{id}")).await?.is_none());
    let write = async |id: u64, kind| {
        let (key, value) = (id.to_string(), event(id, kind));
        world.package_events.write(&[Written { value: Some(&value), ..Written::text(&key, "") }]).await
    };
    write(5, EventType::Created).await?;
    write(3, EventType::Updated).await?;
    wait_until("an update is known", DEADLINE, async || gone(3).await).await?;
    assert!(world.redis.get("package5").await?.is_some(), "a new package is as its maker says");

    // While Redis is away, and then the bot as well: nothing is forgotten.
    world.redis.proxy().refuse();
    write(4, EventType::Removed).await?;
    wait_until("the event is read", DEADLINE, async || {
        Ok(bot.metric("package_bot_package_events_total{forgotten=\"false\"}").await? >= 1.0)
    })
    .await?;
    wait_until("offsets were to be committed, and were not", DEADLINE, async || {
        Ok(bot.process.log().contains("offsets are not committed before every removal is made"))
    })
    .await?;
    drop(bot);
    world.redis.proxy().heal();
    let _bot = world.bot().await?;
    wait_until("the removal is caught up with", DEADLINE, async || gone(4).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_read_does_not_overwrite_what_a_change_has_removed() -> Result<()> {
    let world = World::new().await?;
    world.package_api.insert(&package(1)).await?;
    let _bot = world.bot().await?;
    let on_its_way = world.calls.hold("DescribePackageV1");
    world.telegram.push(message(1, "/get 1"));
    wait_until("the server has answered with the old description", DEADLINE, async || {
        Ok(world.calls.answered() == 1)
    })
    .await?;
    let other = json!({ "id": 6, "type": "private" });
    let changed = world.reply(message_in(2, &other, "/edit 1; название=new")).await?;
    assert_eq!(changed.text("text"), "Упаковка ID=1 успешно отредактирована");
    drop(on_its_way);
    let read = world.telegram.wait_for_call("sendMessage", 2, DEADLINE).await?;
    assert!(read.text("text").contains("Ящик 1"), "it was read before the change");
    assert!(world.reply(message(3, "/get 1")).await?.text("text").contains("new"));
    let ttl = world.redis.ttl("package1").await?;
    assert!((1..=3600).contains(&ttl), "{ttl}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_or_holds_junk_keeps_nobody_waiting() -> Result<()> {
    let mut world = World::new().await?;
    world.package_api.insert(&package(1)).await?;
    world.set("PACKAGE_BOT_CACHE_TIMEOUT_MS", "100");
    world.redis.set("package1", "junk").await?;
    let _bot = world.bot().await?;
    assert!(world.reply(message(1, "/get 1")).await?.text("text").contains("Ящик 1"));
    wait_until("the junk is gone", DEADLINE, async || {
        // What Redis was too slow to take is asked for again.
        world.reply(message(rand_id(), "/get 1")).await?;
        Ok(world.redis.get("package1").await?.is_some_and(|stored| stored.contains("Ящик 1")))
    })
    .await?;

    // For as long as it hangs.
    world.redis.pause().await?;
    assert!(world.reply(message(rand_id(), "/get 1")).await?.text("text").contains("Ящик 1"));
    world.redis.resume().await?;

    world.redis.kill()?;
    assert!(world.reply(message(rand_id(), "/get 1")).await?.text("text").contains("Ящик 1"));
    world.redis.start_again().await?;
    wait_until("it is cached again", DEADLINE, async || {
        world.reply(message(rand_id(), "/get 1")).await?;
        Ok(world.redis.get("package1").await?.is_some())
    })
    .await
}

/// The cache alone, without what cleans it beside.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_could_not_be_removed_is_not_read_before_it_is() -> Result<()> {
    let redis = PrivateRedis::start().await?;
    let settings = CacheSettings { client: redis::Client::open(redis.url())?, ttl_s: 60, timeout: DEADLINE };
    let cache = RedisCache::new(&settings, DEADLINE);
    redis.set("package8", &cached(8, "old")).await?;
    assert_eq!(cache.read(8).await.0.unwrap().title, "old");
    redis.proxy().refuse();
    assert!(!cache.forget(8).await && cache.is_dirty());
    redis.proxy().heal();
    wait_until("Redis is reached again", DEADLINE, async || {
        let found = cache.read(8).await.0;
        anyhow::ensure!(found.is_none(), "it was read before it was removed: {found:?}");
        Ok(!cache.is_dirty())
    })
    .await?;
    assert_eq!(redis.get("package8").await?, None);
    Ok(())
}

fn rand_id() -> i64 {
    use std::sync::atomic::{AtomicI64, Ordering};
    static NEXT: AtomicI64 = AtomicI64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
