//! The limits of both sides, each without the other: a loop that hands records from memory to librdkafka and does nothing
//! else, and readers of the slot that throw away what they read. What walpost takes beside them is its own.
//!
//! The loops run in processes of their own, this program called again, so that their CPU time is theirs alone.

use std::env;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::{Database, PrivatePostgres, Topic};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::process::Command;
use walpost::config::{Settings, TABLE};
use walpost::replication::{Connection, StreamEvent};

use crate::drain::{self, Drained, Walsender, slot};
use crate::section::{Section, Table, median};
use crate::{Bench, PARTITIONS, cpu, load, verify};

/// Records that are sent again and again.
const SAMPLE: usize = 20_000;

/// A loop that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(600);

/// What is measured in each round.
const SUBJECTS: [&str; 6] = [
    "walpost, from the slot into Kafka",
    "the same, the slot by a Unix socket",
    "librdkafka alone, the same records from memory",
    "a bare reader in bursts, half a millisecond between them",
    "the same by a Unix socket",
    "a bare reader that takes each message as it comes",
];

/// Where the server has its socket.
const SOCKETS: &str = "/tmp";

/// The rest of the reader that takes what has come in bursts.
const REST: Duration = Duration::from_micros(500);

/// The first arguments by which this program is one of the loops.
const SEND: &str = "loop-send";
const READ: &str = "loop-read";

/// Runs the loop that the arguments name, if they name one.
pub(crate) async fn run_loop(arguments: &[String]) -> Option<Result<()>> {
    match arguments {
        [name, brokers, from, to, count] if name == SEND => Some(send(brokers, from, to, count)),
        [name, how, end] if name == READ => Some(read(how == "bursts", end).await),
        _ => None,
    }
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    println!("The limits of both sides: {} events, {} rounds", bench.events, bench.rounds);
    // A server of its own, since that of the tests has no socket.
    let postgres = PrivatePostgres::start_with(&[&format!("unix_socket_directories={SOCKETS}")]).await?;
    let database = Database::with_outbox(postgres.url()).await?;
    let topic = bench.topic().await?;
    let relay = bench.relay(&database, &topic)?;
    drain::prepare(&relay, &database, SUBJECTS.len() * bench.rounds).await?;
    let end = load::rows(&database, bench.events).await?;
    let reading = async |how, url: &str, number| {
        reading(&database, url, how, &slot("bare", number, &database), &end).await
    };
    let (local_reader, local_relay) =
        (by_socket(&database, &database.url)?, by_socket(&database, &database.relay_url)?);
    let mut rounds = Vec::new();
    for round in 0..bench.rounds {
        let at = SUBJECTS.len() * round;
        let (walpost, topic) = drained_by(bench, &database, &database.relay_url, at).await?;
        let sent = sending(bench, &topic.name).await?;
        println!("  round {}: {:.2} of the CPU of sending alone", round + 1, walpost.cpu / sent.cpu);
        // In the order of the subjects.
        rounds.push([
            walpost,
            drained_by(bench, &database, &local_relay, at + 1).await?.0,
            sent,
            reading("bursts", &database.url, at + 3).await?,
            reading("bursts", &local_reader, at + 4).await?,
            reading("eager", &database.url, at + 5).await?,
        ]);
    }
    Ok(section(bench, &rounds))
}

/// One drain, verified, and where it went to.
async fn drained_by(bench: &Bench, database: &Database, url: &str, number: usize) -> Result<(Looped, Topic)> {
    let topic = bench.topic().await?;
    let relay = bench.relay(database, &topic)?;
    let relay = relay.env("WALPOST_SLOT", slot("relay", number, database)).env("WALPOST_DATABASE_URL", url);
    let drained = drain::with_walpost(bench, &relay, database, &topic).await?;
    verify::complete(database, &topic).await?;
    let Drained { seconds, client_cpu: cpu, walsender_cpu, .. } = drained;
    Ok((Looped { seconds, cpu, walsender_cpu: Some(walsender_cpu) }, topic))
}

/// A URL of the database, by the server's Unix socket.
fn by_socket(database: &Database, url: &str) -> Result<String> {
    Ok(url.replacen(&database.addr()?.ip().to_string(), &SOCKETS.replace('/', "%2F"), 1))
}

/// What a loop, or walpost, took.
struct Looped {
    seconds: f64,
    cpu: f64,
    /// Of the server's process at the other end, where it is one.
    walsender_cpu: Option<f64>,
}

fn section(bench: &Bench, rounds: &[[Looped; SUBJECTS.len()]]) -> Section {
    let events = bench.events_f64();
    let per_million = |seconds: f64| format!("{:.1}", seconds * 1e6 / events);
    let mut table = Table::new(&["", "events/s", "CPU s/M", "walsender CPU s/M"]);
    for (number, what) in SUBJECTS.iter().enumerate() {
        let of =
            |figure: fn(&Looped) -> f64| median(rounds.iter().map(|round| figure(&round[number])).collect());
        let walsender = rounds.iter().filter_map(|round| round[number].walsender_cpu).collect::<Vec<_>>();
        table.row([
            (*what).to_owned(),
            format!("{:.0}", events / of(|looped| looped.seconds)),
            per_million(of(|looped| looped.cpu)),
            if walsender.is_empty() { "–".to_owned() } else { per_million(median(walsender)) },
        ]);
    }
    Section {
        name: "limits".into(),
        title: "The limits of both sides".into(),
        text: format!(
            "{} events of about 300 bytes in transactions of their own; {} rounds in turn, medians. What walpost does between \
             a reader that throws all away and a producer that has all in memory is what it costs itself. The producer has \
             walpost's own settings; the readers have its connection.",
            bench.events, bench.rounds
        ),
        tables: vec![table],
        plots: Vec::new(),
    }
}

async fn sending(bench: &Bench, from: &str) -> Result<Looped> {
    let to = bench.topic().await?;
    let (brokers, count) = (bench.stack.brokers.clone(), bench.events.to_string());
    let printed = output(itself(&[SEND, &brokers, from, &to.name, &count])?).await?;
    let sent: i64 = to.ends().await?.values().sum();
    ensure!(sent == i64::try_from(bench.events)?, "{sent} records were sent");
    let (seconds, cpu) = figures(&printed)?;
    Ok(Looped { seconds, cpu, walsender_cpu: None })
}

async fn reading(database: &Database, url: &str, how: &str, slot: &str, end: &str) -> Result<Looped> {
    let mut command = itself(&[READ, how, end])?;
    command
        .env("WALPOST_DATABASE_URL", url)
        .env("WALPOST_SLOT", slot)
        .env("WALPOST_PUBLICATION", "package_event_pub")
        .env("WALPOST_PRESET", "package-event")
        .env("WALPOST_TOPIC", "none");
    let running = tokio::spawn(output(command));
    let walsender = Walsender::of(database, slot).await?;
    let mut walsender_cpu = 0.0;
    while !running.is_finished() {
        walsender_cpu = walsender.cpu().unwrap_or(walsender_cpu);
        tokio::time::sleep(drain::LOOK).await;
    }
    let (seconds, cpu) = figures(&running.await??)?;
    Ok(Looped { seconds, cpu, walsender_cpu: Some(walsender_cpu) })
}

fn itself(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    Ok(command)
}

async fn output(mut command: Command) -> Result<String> {
    let output = tokio::time::timeout(DEADLINE, command.stdout(Stdio::piped()).spawn()?.wait_with_output());
    let output = output.await.context("the loop did not end")??;
    ensure!(output.status.success(), "the loop failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Seconds and CPU seconds, as a loop prints them.
fn figures(printed: &str) -> Result<(f64, f64)> {
    let (seconds, cpu) = printed.trim().split_once(' ').context("two figures")?;
    Ok((seconds.parse()?, cpu.parse()?))
}

/// Prints what was taken since.
fn print_since(started: Instant, cpu_then: f64) -> Result<()> {
    println!("{} {}", started.elapsed().as_secs_f64(), cpu::of_process(std::process::id())? - cpu_then);
    Ok(())
}

/// Counts what was stored.
#[derive(Debug, Default, Clone)]
struct Stored(Arc<AtomicU64>);

impl ClientContext for Stored {}

impl ProducerContext for Stored {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _: usize) {
        self.0.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
    }
}

/// The bare loop of the sending side.
fn send(brokers: &str, from: &str, to: &str, count: &str) -> Result<()> {
    let (records, count) = (sample(brokers, from)?, count.parse::<usize>()?);
    let stored = Stored::default();
    let mut config = ClientConfig::new();
    // As walpost has it by default.
    for (name, value) in [
        ("bootstrap.servers", brokers),
        ("compression.type", "lz4"),
        ("linger.ms", "1"),
        ("enable.idempotence", "true"),
        ("enable.gapless.guarantee", "true"),
        ("message.timeout.ms", "0"),
        ("partitioner", "murmur2_random"),
        ("queue.buffering.max.messages", "20001"),
    ] {
        config.set(name, value);
    }
    let producer: ThreadedProducer<Stored> = config.create_with_context(stored.clone())?;
    producer.client().fetch_metadata(Some(to), Duration::from_secs(30))?;
    let (started, cpu_then) = (Instant::now(), cpu::of_process(std::process::id())?);
    for number in 0..count {
        let record = &records[number % records.len()];
        let mut message = BaseRecord::with_opaque_to(to, number);
        message.key = record.key();
        message.payload = record.payload();
        message.headers = record.headers().cloned();
        while let Err((error, given_back)) = producer.send(message) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            std::thread::sleep(REST);
            message = given_back;
        }
    }
    producer.flush(DEADLINE)?;
    while stored.0.load(Ordering::Relaxed) < count as u64 {
        ensure!(started.elapsed() < DEADLINE, "Kafka did not acknowledge all");
        std::thread::sleep(REST);
    }
    print_since(started, cpu_then)
}

/// Records of a topic, whole.
fn sample(brokers: &str, topic: &str) -> Result<Vec<OwnedMessage>> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "limits").create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let (started, mut records) = (Instant::now(), Vec::new());
    while records.len() < SAMPLE {
        match consumer.poll(Duration::from_millis(200)) {
            Some(record) => records.push(record?.detach()),
            None if !records.is_empty() => break,
            None => ensure!(started.elapsed() < Duration::from_secs(30), "the topic {topic} has no records"),
        }
    }
    Ok(records)
}

/// A bare reader: up to `end`, a message at a time, or what has come in bursts.
async fn read(in_bursts: bool, end: &str) -> Result<()> {
    let matches = clap::Command::new("read").args(TABLE.args()).get_matches_from(["read"]);
    let variables: Vec<_> = env::vars().collect();
    let settings = Settings::read(TABLE.load(&matches, &variables), &variables)?;
    let end = end.parse().map_err(|_| anyhow::anyhow!("{end} is no LSN"))?;
    let timeout = Duration::from_secs(30);
    let (connection, _) = Connection::open(&settings.database, timeout).await?;
    let (started, cpu_then) = (Instant::now(), cpu::of_process(std::process::id())?);
    let mut stream = connection.start(&settings.source, timeout).await?;
    loop {
        let mut event = Some(stream.next().await?);
        while let Some(read) = event {
            if is_at(&read, end) {
                return print_since(started, cpu_then);
            }
            event = if in_bursts { stream.try_next()? } else { None };
        }
        if started.elapsed() > DEADLINE {
            bail!("the end of the WAL did not come");
        }
        if in_bursts {
            std::thread::sleep(REST);
        }
    }
}

/// Whether the stream has come to `end`: by a commit, or by what the server says of itself.
fn is_at(event: &StreamEvent, end: walpost_core::lsn::Lsn) -> bool {
    match event {
        StreamEvent::Keepalive(at) => *at >= end,
        StreamEvent::Data(data) => {
            let position = || Some(u64::from_be_bytes(*data.get(10..)?.first_chunk::<8>()?));
            data.first() == Some(&b'C') && position().is_some_and(|at| at >= end.0)
        }
    }
}
