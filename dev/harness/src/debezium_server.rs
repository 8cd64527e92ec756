//! Debezium Server: the connector for Postgres as a program of its own, without Kafka Connect.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::program::Program;
use crate::stack::{Output, exported, script};
use crate::{Database, Topic, port};

/// Netty and Quarkus ask for this from Java 24 on; the program does not start without it.
const OPENED: &str = "--add-opens=java.base/java.lang=ALL-UNNAMED";

/// The program as its project publishes it, and a Java that runs it.
#[derive(Debug, Clone)]
pub struct DebeziumDistribution {
    /// Its version, such as 3.6.1.Final.
    pub version: String,
    java: String,
    folder: PathBuf,
}

impl DebeziumDistribution {
    /// Fetches it where it was not fetched yet (780 MB).
    ///
    /// # Errors
    /// When it cannot be fetched, or there is no Java for it.
    pub async fn fetched() -> Result<Self> {
        let printed = script(&["debezium-server"], Output::Quiet).await?;
        let of =
            |name| exported(&printed, name).with_context(|| format!("no {name} in what stack.py printed"));
        Ok(Self { version: of("VERSION")?, java: of("JAVA")?, folder: of("FOLDER")?.into() })
    }
}

/// One that follows `public.outbox` of a database and publishes to a topic, yet to be started. Its offsets outlive it, in a
/// folder that is gone with this.
#[derive(Debug)]
pub struct DebeziumServer {
    program: Program,
    arguments: Vec<String>,
    folder: PathBuf,
}

impl DebeziumServer {
    /// With the outbox router, keys and values as they stand in the row, and these settings over its defaults: properties
    /// of its file, and options of Java.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn new(
        distribution: &DebeziumDistribution,
        database: &Database,
        topic: &Topic,
        properties: &[(&str, &str)],
        java_options: &[&str],
    ) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("debezium-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(folder.join("config"))?;
        let mut settings = needed(database, topic, &folder.join("offsets").display().to_string())?;
        settings.extend(properties.iter().map(|(name, value)| format!("{name}={value}\n")));
        std::fs::write(folder.join("config/application.properties"), settings)?;
        // As its run.sh starts it.
        let jars = ["debezium-server-dist-VERSION-runner.jar", "config/lib", "lib/*"];
        let jars = jars.map(|jars| jars.replace("VERSION", &distribution.version));
        let class_path = jars.map(|jars| distribution.folder.join(jars).display().to_string()).join(":");
        let mut arguments: Vec<String> = java_options.iter().map(|option| (*option).to_owned()).collect();
        arguments.extend([OPENED, "-cp", &class_path, "io.debezium.server.Main"].map(str::to_owned));
        let program = Program::new(&distribution.java).in_folder(&folder);
        Ok(Self { program, arguments, folder })
    }

    /// Starts it.
    ///
    /// # Errors
    /// When Java does not start.
    pub fn start(&self) -> Result<Process> {
        self.program.spawn(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

impl Drop for DebeziumServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The settings that it does not work without, and those that decide what a record looks like.
fn needed(database: &Database, topic: &Topic, offsets: &str) -> Result<String> {
    let (user, password) = database
        .url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':'))
        .context("a user and a password")?;
    let (addr, name) = (database.addr()?, database.name());
    Ok(format!(
        "debezium.sink.type=kafka\n\
         debezium.sink.kafka.producer.bootstrap.servers={}\n\
         debezium.sink.kafka.producer.key.serializer=org.apache.kafka.common.serialization.StringSerializer\n\
         debezium.sink.kafka.producer.value.serializer=org.apache.kafka.common.serialization.StringSerializer\n\
         debezium.format.key=simplestring\n\
         debezium.format.value=simplestring\n\
         debezium.format.header.schemas.enable=false\n\
         debezium.source.connector.class=io.debezium.connector.postgresql.PostgresConnector\n\
         debezium.source.plugin.name=pgoutput\n\
         debezium.source.database.hostname={}\n\
         debezium.source.database.port={}\n\
         debezium.source.database.user={user}\n\
         debezium.source.database.password={password}\n\
         debezium.source.database.dbname={name}\n\
         debezium.source.topic.prefix=outbox\n\
         debezium.source.table.include.list=public.outbox\n\
         debezium.source.slot.name={}\n\
         debezium.source.publication.name=debezium\n\
         debezium.source.publication.autocreate.mode=filtered\n\
         debezium.source.snapshot.mode=no_data\n\
         debezium.source.offset.storage.file.filename={offsets}\n\
         debezium.transforms=outbox\n\
         debezium.transforms.outbox.type=io.debezium.transforms.outbox.EventRouter\n\
         debezium.transforms.outbox.route.topic.replacement={}\n\
         quarkus.log.console.json=false\n\
         quarkus.http.host=127.0.0.1\n\
         quarkus.http.port={}\n",
        topic.brokers,
        addr.ip(),
        addr.port(),
        database.slot_name(),
        topic.name,
        port::free()?.port(),
    ))
}
