//! How the relays are told what to follow: by one slot, by shards, or by a file of sources.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use harness::Relay;
use harness::cluster::{PASSWORD, USER};
use harness::program::sibling;
use harness::relay::source_entry;

use crate::event;
use crate::parts::{Outbox, Parts};
use crate::relays::{Place, Relays};
use crate::source::Source;
use crate::world::PEER_TIMEOUT;

/// A settings file, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SettingsFile(PathBuf);

impl Drop for SettingsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes what the relays need, and starts them: two for each slot, or two that have all sources.
///
/// # Errors
/// When `walpost init` fails, or one does not start.
pub(crate) async fn relays(
    sources: &[Arc<Source>],
    way: SocketAddr,
    brokers: &str,
    parts: Parts,
) -> Result<Relays> {
    let first = sources.first().context("a run has a source")?;
    let relay = relay(first, way, brokers, parts)?;
    if parts.sources > 1 {
        return of_sources(relay, sources, way).await;
    }
    if parts.shards > 1 {
        return of_shards(&relay, first, parts.shards).await;
    }
    relay.init().await?;
    Relays::start(vec![[relay.clone(), relay.beside()?]], vec![Place::default()], None)
}

/// Two relays for each shard.
async fn of_shards(relay: &Relay, source: &Source, shards: usize) -> Result<Relays> {
    // Who makes a publication owns its table. Only for that: else no right could be taken from the relays.
    let (role, owner) = (source.database.relay_role(), "logistic_package_owner");
    source.database.execute(&format!("grant {owner} to {role}")).await?;
    let (mut pairs, mut places) = (Vec::new(), Vec::new());
    for number in 0..shards {
        let shard = relay.beside()?.env("WALPOST_SHARD", format!("{}/{shards}", number + 1));
        // Without it a shard removes nothing.
        let shard = shard.env("WALPOST_APPEND_ONLY", "true");
        shard.init().await?;
        pairs.push([shard.clone(), shard.beside()?]);
        places.push(Place { pair: number, source: None });
    }
    source.database.execute(&format!("revoke {owner} from {role}")).await?;
    Relays::start(pairs, places, None)
}

/// Two relays with all sources each.
async fn of_sources(relay: Relay, sources: &[Arc<Source>], way: SocketAddr) -> Result<Relays> {
    let (mut text, mut places) = (String::new(), Vec::new());
    for (number, source) in sources.iter().enumerate() {
        let name = format!("source-{}", number + 1);
        let url = source.database.relay_url_by(way)?;
        text += &source_entry(&name, &url, &source.database.slot_name(), &source.topic);
        places.push(Place { pair: 0, source: Some(name) });
    }
    let path = std::env::temp_dir().join(format!("chaos-{}.toml", sources[0].database.name()));
    let file = SettingsFile(path.clone());
    std::fs::write(&path, text)?;
    let of_one = ["WALPOST_DATABASE_URL", "WALPOST_SLOT", "WALPOST_TOPIC"];
    let relay = of_one.into_iter().fold(relay, |relay, name| relay.without_env(name));
    let relay = relay.env("WALPOST_CONFIG", path);
    relay.init().await?;
    Relays::start(vec![[relay.clone(), relay.beside()?]], places, Some(file))
}

/// One that follows `source` alone.
fn relay(source: &Source, way: SocketAddr, brokers: &str, parts: Parts) -> Result<Relay> {
    let program =
        std::env::var("CHAOS_WALPOST").map_or_else(|_| sibling("walpost"), |path| Ok(path.into()))?;
    let relay = Relay::new(program, &source.database, &source.topic)?;
    let relay = relay.with_program(|program| program.log_on_drop(false));
    let url = source.database.relay_url_by(way)?;
    let settings = [
        ("WALPOST_DATABASE_URL", url.as_str()),
        ("WALPOST_KAFKA_BROKERS", brokers),
        ("WALPOST_KAFKA_PROPERTY_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("WALPOST_KAFKA_PROPERTY_SASL_MECHANISM", "PLAIN"),
        ("WALPOST_KAFKA_PROPERTY_SASL_USERNAME", USER),
        ("WALPOST_KAFKA_PROPERTY_SASL_PASSWORD", PASSWORD),
        ("WALPOST_PEER_TIMEOUT_MS", &PEER_TIMEOUT.as_millis().to_string()),
        ("WALPOST_CONFIRM_INTERVAL_MS", "100"),
        ("WALPOST_WATCH_INTERVAL_MS", "500"),
        ("WALPOST_RETRY_MAX_MS", "500"),
        ("WALPOST_CONNECT_TIMEOUT_MS", "3000"),
        // Handed over in one go, which on a machine that is as busy as this must stay far below the peer time-out.
        ("WALPOST_WINDOW_RECORDS", "1000"),
        ("WALPOST_KAFKA_PROPERTY_RECONNECT_BACKOFF_MAX_MS", "500"),
        ("WALPOST_DELIVERY", parts.delivery.name()),
    ];
    let of_outbox: &[_] = match parts.outbox {
        // What is published goes, so a row that goes too early is an event that is lost with its slot.
        Outbox::Table => {
            &[("WALPOST_CLEAN", "age"), ("WALPOST_CLEAN_AGE_S", "1"), ("WALPOST_CLEAN_INTERVAL_MS", "1000")]
        }
        Outbox::Messages => &[("WALPOST_MESSAGES", event::PREFIX)],
    };
    Ok(settings.iter().chain(of_outbox).fold(relay, |relay, (name, value)| relay.env(name, *value)))
}
