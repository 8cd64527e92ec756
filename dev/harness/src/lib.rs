//! Test support: real servers, fresh databases and topics, and the faults that befall them.
//!
//! Used by the integration tests, the demo, and the chaos and load programs. Nothing here is a mock: a test talks to
//! the Postgres and the Kafka that production talks to, and a fault is what an operator would see (a signal, a stopped
//! server, a dropped slot). Every wait has a deadline, and every failure says what was waited for.

/// Waiting for a condition with a deadline: the only place that sleeps.
pub mod wait;

/// Ports that are free now.
pub mod port;

/// One GET over plain TCP, for `/live`, `/ready` and `/metrics`.
pub mod http;

/// How to start a program, and how one ended that ran to its end.
pub mod program;

/// A program that runs: its log, its signals, and no orphans.
pub mod process;

/// Where Postgres and Kafka are, started when nothing says so.
pub mod stack;

/// What may befall a connection: a TCP proxy.
pub mod proxy;

/// A broker in trouble: a proxy that speaks enough Kafka to refuse what it is told to.
pub mod kafka_proxy;

/// A producer that sends what no client would.
pub mod raw_producer;

/// A collector of spans.
pub mod collector;

/// Certificates, and servers that ask for them.
pub mod secure;

/// Poolers between a program and Postgres.
pub mod pooler;

/// Files that hold a secret.
mod secret_file;

/// Servers of a test's own, to be stopped, killed and paused.
pub mod private;

/// Three brokers of a test's own, to be rolled, killed, paused and cut off one by one.
pub mod cluster;

/// A Redis of a test's own, to be killed and cut off.
pub mod redis;

/// A Bot API of a test's own, in this process.
pub mod telegram;

/// Leaders that move.
pub mod leaders;

/// Rights on a topic that are taken and given back.
pub mod rights;

/// A program whose clock is off.
pub mod clock;

/// A schema registry of a test's own, in this process.
pub mod registry;

/// The public clients that read what is framed by it.
pub mod registry_clients;

/// Debezium on Kafka Connect: what a takeover takes over from.
pub mod debezium;

/// Debezium Server: what walpost is compared with.
pub mod debezium_server;

/// A database of a test's own, with or without the outbox in it.
pub mod database;

/// A topic of a test's own.
pub mod topic;

/// Topics whose names a test cannot choose.
pub mod claim;

/// What arrived on a topic.
pub mod reader;

/// What somebody else writes to a topic.
pub mod writer;

/// A real browser, without a window.
pub mod browser;

/// walpost as a process.
pub mod relay;

/// What the records say, and whether all of them arrived in order.
pub mod events;

mod cleanup;
mod raw_admin;

pub use browser::Browser;
pub use claim::Claim;
pub use clock::OffClock;
pub use cluster::PrivateKafkaCluster;
pub use database::Database;
pub use debezium::Debezium;
pub use debezium_server::{DebeziumDistribution, DebeziumServer};
pub use events::{Audit, Committed};
pub use kafka_proxy::KafkaProxy;
pub use private::{PrivateKafka, PrivatePostgres};
pub use process::Process;
pub use program::{Finished, Program};
pub use proxy::Proxy;
pub use reader::{Reader, Received};
pub use redis::PrivateRedis;
pub use registry::SchemaRegistry;
pub use registry_clients::RegistryClients;
pub use relay::{Relay, RelayProcess};
pub use secret_file::SecretFile;
pub use stack::Stack;
pub use telegram::FakeTelegram;
pub use topic::{Asker, Topic};
pub use wait::{wait_for, wait_until};
pub use writer::Written;
