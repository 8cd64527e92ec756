use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{Database, Relay, Stack};

use self::example::{Example, folder};
use self::trial::Mode;

/// What arrived against what was expected, part by part.
mod compare;

/// Descriptors of Protobuf messages, as `protoc` makes them.
mod descriptor;

/// A folder of `examples/outboxes`.
mod example;

/// An example on real servers.
mod trial;

/// Folders whose settings walpost does not know yet, and the setting that it lacks. They are skipped aloud; what is
/// built goes from this list.
const NOT_YET: &[(&str, &str)] = &[];

/// Folders that need a newer PostgreSQL than the oldest, and which: row filters of publications came with 15.
const NEEDS: &[(&str, i32)] = &[("partitioned-by-status", 15), ("spring-modulith", 15)];

/// A folder of `examples/outboxes` each, tried with rows that are streamed, and with rows from before the slot.
macro_rules! outboxes {
    ($($module:ident: $name:literal),* $(,)?) => {
        const TRIED: &[&str] = &[$($name),*];

        $(mod $module {
            use super::*;

            #[tokio::test]
            async fn streamed() -> Result<()> {
                tried($name, Mode::Streamed).await
            }

            #[tokio::test]
            async fn from_before_the_slot() -> Result<()> {
                tried($name, Mode::FromBeforeTheSlot).await
            }
        })*
    };
}

outboxes! {
    avro_from_json: "avro-from-json",
    axon_bytea: "axon-bytea",
    brighter: "brighter",
    cap: "cap",
    cloudevents_structured: "cloudevents-structured",
    composite_identity: "composite-identity",
    debezium: "debezium",
    debezium_jsonconverter: "debezium-jsonconverter",
    debezium_renamed: "debezium-renamed",
    django: "django",
    eventuate_tram: "eventuate-tram",
    kafka_columns: "kafka-columns",
    large_object: "large-object",
    logical_messages: "logical-messages",
    many_tables: "many-tables",
    mass_transit: "mass-transit",
    marten: "marten",
    message_db: "message-db",
    open_outbox: "open-outbox",
    package_event: "package-event",
    partitioned_by_status: "partitioned-by-status",
    prisma_camel: "prisma-camel",
    protobuf_from_columns: "protobuf-from-columns",
    protobuf_from_json: "protobuf-from-json",
    quarkus: "quarkus",
    rails_entries: "rails-entries",
    rebus: "rebus",
    registry_json: "registry-json",
    spring_modulith: "spring-modulith",
}

async fn tried(name: &str, mode: Mode) -> Result<()> {
    if let Some((_, lacks)) = NOT_YET.iter().find(|(not_yet, _)| *not_yet == name) {
        eprintln!("skipped: {name}: walpost has no setting `{lacks}` yet");
        return Ok(());
    }
    if let Some((_, since)) = NEEDS.iter().find(|(known, _)| *known == name)
        && !harness::database::has(&Stack::shared().await?.database_url, name, *since).await?
    {
        return Ok(());
    }
    trial::try_out(&Example::read(name)?, mode).await.with_context(|| format!("{name}, {mode:?}"))
}

#[test]
fn every_example_is_tried() -> Result<()> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let tried: BTreeSet<String> = TRIED.iter().map(ToString::to_string).collect();
    assert_eq!(found, tried, "the folders of examples/outboxes, and those that this module lists");
    let index = fs::read_to_string(folder().join("README.md"))?;
    for name in TRIED {
        Example::read(name)?;
        ensure!(folder().join(name).join("README.md").is_file(), "{name} has no README.md");
        ensure!(index.contains(&format!("[{name}]({name})")), "{name} is not in examples/outboxes/README.md");
    }
    Ok(())
}

/// What walpost cannot do must not be done in part: no slot is made, which would hold back the log.
#[tokio::test]
async fn what_is_not_built_yet_is_refused() -> Result<()> {
    let stack = Stack::shared().await?;
    for (name, lacks) in NOT_YET {
        let example = Example::read(name)?;
        let database = Database::fresh(&stack.database_url).await?;
        database.execute(&example.table).await?;
        let settings = example.settings();
        let relay = Relay::of_settings(env!("CARGO_BIN_EXE_walpost"), &database, &stack.brokers, &settings)?;
        for command in ["init", "run"] {
            let ended = relay.command(&[command]).await?;
            let said = format!("{}{}", ended.stdout, ended.stderr);
            ensure!(ended.code() == 2, "{name}: {command} ends with the code {}:\n{said}", ended.code());
            ensure!(said.contains(&format!("`{lacks}`")), "{name}: {command} does not name {lacks}:\n{said}");
        }
        let slots = "select count(*) from pg_replication_slots where slot_name = $1";
        let slots: i64 = database.client().await?.query_one(slots, &[&database.slot_name()]).await?.get(0);
        ensure!(slots == 0, "{name}: a slot was made");
    }
    Ok(())
}
