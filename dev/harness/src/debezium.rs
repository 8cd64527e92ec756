//! Debezium as most people run it: a worker of Kafka Connect with its connector for Postgres.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::port;
use crate::process::Process;
use crate::program::Program;
use crate::stack::{Output, exported, script};

/// Quick to start rather than fastest in the long run, as Kafka's broker in `dev/stack` is.
const JVM: [&str; 3] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"];

/// What those use who want the text of the payload, and no quotes and schemas around it.
const STRING: &str = "org.apache.kafka.connect.storage.StringConverter";

/// Connect says what it does on standard output.
const LOGGING: &str = "status = error\nappender.out.type = Console\nappender.out.name = out\n\
    appender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d{ISO8601} %p %m (%c)%n\n\
    rootLogger.level = info\nrootLogger.appenderRef.out.ref = out\n";

/// A worker with one connector, yet to be started. Its offsets outlive it, in a folder that is gone with this.
#[derive(Debug)]
pub struct Debezium {
    program: Program,
    class_path: String,
    folder: PathBuf,
}

impl Debezium {
    /// A worker that is to run this connector, and writes its offsets every so many milliseconds; `None` where Debezium is
    /// not to be had and nobody insists (`REQUIRE_DEBEZIUM`).
    ///
    /// # Errors
    /// When its files cannot be written.
    pub async fn with(brokers: &str, flush_ms: u32, connector: &Value) -> Result<Option<Self>> {
        let printed = match script(&["debezium"], Output::Quiet).await {
            Ok(printed) => printed,
            Err(error) if std::env::var_os("REQUIRE_DEBEZIUM").is_some() => return Err(error),
            Err(error) => {
                eprintln!("SKIPPED: Debezium is not to be had, nothing is known of a takeover: {error:#}");
                return Ok(None);
            }
        };
        let of =
            |name| exported(&printed, name).with_context(|| format!("no {name} in what stack.py printed"));
        let folder = std::env::temp_dir().join(format!("debezium-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder)?;
        let worker = format!(
            "bootstrap.servers={brokers}\nkey.converter={STRING}\nvalue.converter={STRING}\n\
             offset.storage.file.filename={}\noffset.flush.interval.ms={flush_ms}\nplugin.path={}\n\
             plugin.discovery=service_load\nlisteners=http://{}\n",
            folder.join("offsets").display(),
            of("PLUGIN_PATH")?,
            port::free()?,
        );
        std::fs::write(folder.join("worker.properties"), worker)?;
        std::fs::write(folder.join("connector.json"), connector.to_string())?;
        std::fs::write(folder.join("log4j2.properties"), LOGGING)?;
        let program = Program::new(of("JAVA")?).in_folder(&folder);
        Ok(Some(Self { program, class_path: of("CLASS_PATH")?, folder }))
    }

    /// Starts it. It streams once its slot is active.
    ///
    /// # Errors
    /// When Java does not start.
    pub fn start(&self) -> Result<Process> {
        let logging =
            format!("-Dlog4j2.configurationFile=file://{}", self.folder.join("log4j2.properties").display());
        let class = "org.apache.kafka.connect.cli.ConnectStandalone";
        let arguments = [&logging, "-cp", &self.class_path, class, "worker.properties", "connector.json"];
        self.program.spawn(&[&JVM[..], &arguments].concat())
    }

    /// A number of its offsets, such as `txId`: the last transaction of which it has published something. They are JSON
    /// among other bytes.
    ///
    /// # Errors
    /// When it has written none.
    pub fn offset(&self, name: &str) -> Result<u64> {
        let offsets = std::fs::read(self.folder.join("offsets")).context("Debezium's offsets")?;
        let offsets = String::from_utf8_lossy(&offsets);
        let name = format!("\"{name}\":");
        let (_, after) =
            offsets.rsplit_once(&name).with_context(|| format!("no {name} in Debezium's offsets"))?;
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    }

    /// Where the connector's configuration is.
    #[must_use]
    pub fn connector_path(&self) -> PathBuf {
        self.folder.join("connector.json")
    }
}

impl Drop for Debezium {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
