use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::http::{self, Response};
use harness::{Process, Program, Stack, Topic, Written, port, wait_for, wait_until};
use logistic_package_proto::package_event::PackageEvent;
use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long anything may take that is to happen soon, on two busy cores.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Three topics of one partition each, a fourth that is nobody's, and a group of the test's own.
pub(crate) struct Case {
    pub(crate) events: Topic,
    pub(crate) commands: Topic,
    pub(crate) cache: Topic,
    pub(crate) other: Topic,
    pub(crate) brokers: String,
    pub(crate) group: String,
    /// Where what is printed goes.
    folder: PathBuf,
}

/// The program, and the file that its standard output goes to.
pub(crate) struct Facade {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    printed: PathBuf,
}

impl Case {
    /// On the Kafka that tests share.
    pub(crate) async fn new() -> Result<Self> {
        Self::on(&Stack::shared().await?.brokers).await
    }

    /// On a Kafka of the test's own.
    pub(crate) async fn on(brokers: &str) -> Result<Self> {
        let group = Topic::unused_name();
        let folder = std::env::temp_dir().join(&group);
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            events: Topic::fresh(brokers, 1).await?,
            commands: Topic::fresh(brokers, 1).await?,
            cache: Topic::fresh(brokers, 1).await?,
            other: Topic::fresh(brokers, 1).await?,
            brokers: brokers.to_owned(),
            group,
            folder,
        })
    }

    /// The program with its settings, to be run by a shell that says where standard output goes: `exec` makes it the
    /// process that signals reach.
    pub(crate) fn program(&self) -> Program {
        Program::new("/bin/sh")
            .env("FACADE", env!("CARGO_BIN_EXE_package-facade"))
            .env("PACKAGE_FACADE_KAFKA_BROKERS", &self.brokers)
            .env("PACKAGE_FACADE_GROUP", &self.group)
            .env("PACKAGE_FACADE_PACKAGE_EVENTS_TOPIC", &self.events.name)
            .env("PACKAGE_FACADE_COMMANDS_TOPIC", &self.commands.name)
            .env("PACKAGE_FACADE_CACHE_EVENTS_TOPIC", &self.cache.name)
            .env("PACKAGE_FACADE_OTHER_TOPICS", &self.other.name)
    }

    /// A file of the test's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn start(&self) -> Result<Facade> {
        self.start_with(self.program())
    }

    pub(crate) fn start_with(&self, program: Program) -> Result<Facade> {
        let printed = self.file(&Topic::unused_name());
        Facade::start(program, &printed)
    }

    /// Waits until the offset up to which `topic` is committed is `offset`.
    pub(crate) async fn committed(&self, topic: &Topic, offset: i64) -> Result<()> {
        let what = format!("{offset} is committed for {}", topic.name);
        // Megabytes may stand before it.
        wait_until(&what, SOON * 4, async || Ok(self.ask_committed(topic).is_ok_and(|now| now == offset)))
            .await
    }

    /// The offset up to which partition 0 of `topic` is committed; 0 where nothing is.
    pub(crate) async fn committed_now(&self, topic: &Topic) -> Result<i64> {
        // A broker that has just come back is not yet the coordinator of its groups.
        wait_for("the coordinator says what is committed", SOON, async || Ok(self.ask_committed(topic).ok()))
            .await
    }

    /// How many members the group has.
    pub(crate) async fn members(&self) -> Result<usize> {
        wait_for("the coordinator says who is in the group", SOON, async || Ok(self.ask_members().ok())).await
    }

    fn ask_committed(&self, topic: &Topic) -> Result<i64> {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(&topic.name, 0);
        let committed = self.asker()?.committed_offsets(partitions, Duration::from_secs(5))?;
        let found = committed.find_partition(&topic.name, 0).context("the partition")?;
        found.error()?;
        Ok(if let Offset::Offset(offset) = found.offset() { offset } else { 0 })
    }

    fn ask_members(&self) -> Result<usize> {
        let groups = self.asker()?.fetch_group_list(Some(&self.group), Duration::from_secs(5))?;
        Ok(groups.groups().first().map_or(0, |group| group.members().len()))
    }

    /// A consumer that joins nothing.
    fn asker(&self) -> Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", &self.group).set("log_level", "0");
        config.create().context("a consumer")
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Facade {
    /// Starts it with its standard output in `printed`: a new file, or a pipe that is there.
    pub(crate) fn start(program: Program, printed: &Path) -> Result<Self> {
        let addr = port::free()?;
        let program = program.env("PACKAGE_FACADE_HTTP_ADDR", addr.to_string()).env("PRINTED", printed);
        let process = program.spawn(&["-c", r#"exec "$FACADE" run >"$PRINTED""#])?;
        Ok(Self { process, addr, printed: printed.to_owned() })
    }

    /// All that it has printed so far.
    pub(crate) fn printed(&self) -> String {
        std::fs::read(&self.printed).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
    }

    /// Waits until it has printed `text`.
    pub(crate) async fn prints(&mut self, text: &str) -> Result<()> {
        self.prints_times(text, 1).await
    }

    /// Waits until it has printed `text` so many times, or more often.
    pub(crate) async fn prints_times(&mut self, text: &str, times: usize) -> Result<()> {
        let what = format!("{text} is printed {times} times");
        let waited = wait_until(&what, SOON, async || {
            self.process.expect_running()?;
            Ok(self.printed().matches(text).count() >= times)
        })
        .await;
        waited.with_context(|| format!("printed: {}\n{}", self.printed(), self.process.log_tail()))
    }

    /// Waits until its log has `text`.
    pub(crate) async fn logs(&mut self, text: &str) -> Result<()> {
        wait_until(&format!("{text} is logged"), SOON, async || {
            self.process.expect_running()?;
            Ok(self.process.log().contains(text))
        })
        .await
        .with_context(|| self.process.log_tail())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Response> {
        http::get(self.addr, path).await
    }

    /// Waits until `/ready` says yes.
    pub(crate) async fn is_ready(&mut self) -> Result<Response> {
        self.answers(200, "ready").await
    }

    /// Waits until `/ready` answers with `status` and a text that has `part`.
    pub(crate) async fn answers(&mut self, status: u16, part: &str) -> Result<Response> {
        let mut last = None;
        let found = wait_for(&format!("/ready says {status} {part}"), SOON, async || {
            self.process.expect_running()?;
            // It may not listen yet.
            let answer = http::get(self.addr, "/ready").await.ok();
            last = answer.clone().or(last.take());
            Ok(answer.filter(|answer| answer.status == status && answer.body.contains(part)))
        })
        .await;
        found.with_context(|| format!("the last answer: {last:?}\n{}", self.process.log_tail()))
    }

    /// The value of a metric.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let page = self.get("/metrics").await?.body;
        http::metric(&page, name).with_context(|| format!("no {name} in\n{page}"))
    }

    /// SIGTERM, and a good end.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let ended = self.process.terminate(SOON).await?;
        ensure!(ended.success(), "{ended}\n{}", self.process.log_tail());
        Ok(())
    }
}

/// Writes values without keys.
pub(crate) async fn write(topic: &Topic, values: &[&[u8]]) -> Result<()> {
    let records: Vec<_> =
        values.iter().map(|value| Written { value: Some(value), ..Written::default() }).collect();
    topic.write(&records).await
}

/// The value of an event.
pub(crate) fn event(id: u64, payload: &[u8]) -> Vec<u8> {
    let event = PackageEvent { id, package_id: 7, payload: payload.to_vec(), ..PackageEvent::default() };
    event.encode_to_vec()
}

/// A record of the bot that says its number, and how it is printed.
pub(crate) fn numbered(number: usize) -> (String, String) {
    (format!(r#"{{"n":{number}}}"#), format!("{{\n    \"n\": {number}\n}}\n"))
}

/// Writes records of the bot with these numbers, one after the other.
pub(crate) async fn write_numbered(topic: &Topic, numbers: std::ops::Range<usize>) -> Result<()> {
    let values: Vec<_> = numbers.map(|number| numbered(number).0).collect();
    let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
    write(topic, &values).await
}

/// The numbers that were printed, in their order.
pub(crate) fn numbers_in(printed: &str) -> Vec<usize> {
    let numbers = printed.lines().filter_map(|line| line.trim().strip_prefix("\"n\": ")?.parse().ok());
    numbers.collect()
}
