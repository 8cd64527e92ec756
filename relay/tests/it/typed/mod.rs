use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use harness::registry_clients::RegistryClients;
use harness::stack::repository;
use harness::{Database, Relay, SchemaRegistry, Stack, Topic, wait_until};
use serde_json::{Value, json};

use crate::case::SOON;

/// What the public clients make of what walpost writes.
mod decoded;

/// A registry that is away, that lacks what is asked for, or that asks who it is.
mod registry;

/// What is registered, and when.
mod registering;

const ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"}, {"name": "note", "type": ["null", "string"], "default": null}]}"#;

/// A table, a registry, and a relay between the table and a topic, all of a test's own.
struct Typed {
    relay: Relay,
    registry: SchemaRegistry,
    topic: Topic,
    database: Database,
    folder: PathBuf,
}

impl Typed {
    /// `settings` is TOML; the key is `aggregate_id`. `{TOPIC}` stands for the topic's name in it.
    async fn new(table: &str, settings: &str) -> Result<Self> {
        let mut typed = Self::with_registry_away(table, settings).await?;
        typed.registry.come().await?;
        Ok(typed)
    }

    async fn with_registry_away(table: &str, settings: &str) -> Result<Self> {
        let stack = Stack::shared().await?;
        let (database, topic) =
            (Database::fresh(&stack.database_url).await?, Topic::fresh(&stack.brokers, 1).await?);
        database
            .execute(&format!("create table outbox (n bigint primary key, aggregate_id text, {table})"))
            .await?;
        let folder = std::env::temp_dir().join(format!("typed-{}", database.name()));
        fs::create_dir_all(&folder)?;
        let path = folder.join("walpost.toml");
        let head = format!("topic = \"{}\"\nkey = \"aggregate_id\"\ncloudevents = \"off\"\n", topic.name);
        fs::write(&path, format!("{head}{}", settings.replace("{TOPIC}", &topic.name)))?;
        let registry = SchemaRegistry::away()?;
        let relay = Relay::of_settings(env!("CARGO_BIN_EXE_walpost"), &database, &stack.brokers, &path)?
            .env("WALPOST_REGISTRY_URL", registry.url())
            .env("WALPOST_CONFIRM_INTERVAL_MS", "100")
            .env("WALPOST_RETRY_MAX_MS", "500");
        Ok(Self { relay, registry, topic, database, folder })
    }

    /// What the default of `subject` is.
    fn subject(&self) -> String {
        format!("{}-value", self.topic.name)
    }

    /// Puts a schema there, as somebody else would; its id.
    fn knows(&self, kind: &str, schema: &str) -> u32 {
        // So that an id is no version, and every byte of it counts.
        let mut store = self.registry.store();
        if store.of_subject("another").next().is_none() {
            let (subject, schema, kind) = ("another".to_owned(), "\"bytes\"".to_owned(), "AVRO".to_owned());
            store.put(harness::registry::Version { subject, version: 1, id: 0x0102_0304, kind, schema });
        }
        store.add(&self.subject(), kind, schema)
    }

    /// A file beside the settings.
    fn file(&self, name: &str, text: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Waits for so many records.
    async fn arrived(&self, count: usize) -> Result<Vec<harness::Received>> {
        wait_until(&format!("{count} records"), SOON, async || {
            Ok(self.topic.read_all().await?.len() >= count)
        })
        .await?;
        self.topic.read_all().await
    }

    /// The values of so many records as the public client reads them, by their keys; `None` where it is not to be had.
    async fn decoded(&self, kind: &str, count: usize, more: &[&str]) -> Result<Option<Vec<Value>>> {
        self.arrived(count).await?;
        let Some(clients) = RegistryClients::fetched().await? else { return Ok(None) };
        let program = repository().join("relay/tests/it/typed/decode.py");
        let (url, count) = (self.registry.url(), count.to_string());
        let arguments = [&self.topic.brokers, self.topic.name.as_str(), &url, kind, &count];
        clients.run(&program, &[&arguments[..], more].concat()).await.map(Some)
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
