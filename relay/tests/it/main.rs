//! walpost as its users see it: the program, a real Postgres, a real Kafka, and the faults that befall them. Each test
//! is named for the promise that it holds walpost to.

/// What most tests start from.
mod case;

/// What a record is, byte by byte.
mod record;

/// In which order events arrive, and which never do.
mod order;

/// What is believed of Postgres, Kafka and its client.
mod beliefs;

/// The first records that a producer sends to a partition.
mod first_contact;

/// The relay dies, or is told to end.
mod life;

/// Kafka or Postgres goes away for a while.
mod outage;

/// What passes by itself needs no hand, and what does not is named.
mod passing;

/// Tables of others: what is guessed, topics that rows name, rows that do not fit.
mod mapping;
mod messages;

/// Topics that do not exist: rows that name them, and those that walpost makes.
mod topics;

/// Values with a schema: what the public clients read, and the registry that has it.
mod typed;

/// The records that rows would give, before anything is set up.
mod preview;

/// A peer falls silent: no reset, no end, nothing.
mod peer;

/// The primary is gone, and its standby takes its place.
mod failover;

/// One outbox over several slots.
mod shards;

/// Several databases, one process.
mod sources;

/// Each event once, to those who read what is committed.
mod exactly_once;

/// Nothing happens, and the relay does nothing.
mod idle;

/// However much is to be done, memory and window stay bounded.
mod bounds;

/// Two relays, one slot.
mod standby;

/// A new version takes the place of the old one, as Kubernetes does it.
mod rollout;

/// As a service of systemd.
mod systemd;

/// Rows from before the slot.
mod backfill;

/// Which of them come from the table, and in which order.
mod first_copy;

/// Where the copy goes on, and what watches it.
mod copying;

/// A lost slot loses nothing.
mod recover;

/// What is in Kafka may go from the table, and nothing else.
mod clean;
mod clients;

/// Rows that cannot be published, where they are not to halt the relay.
mod dead_letter;

/// Outboxes as others have them: every folder of `examples/outboxes`.
mod outboxes;

/// Columns of whatever type.
mod types;
/// What was found is not forgotten, and what nobody saw is found.
mod ground;

/// Which tables walpost refuses to follow, and from whom.
mod table;

/// Columns and tables that are renamed.
mod names;

/// The times of rows and of records.
mod times;

/// What is unsafe halts the relay, loudly.
mod halt;

/// What is not as it must be when the relay starts.
mod start;

/// A trace goes on to the delivery of its event.
mod trace;

/// Whether the relay gets on, judged by what is acknowledged.
mod health;

/// Its numbers for Prometheus.
mod metrics;

/// Its own page, in a real browser.
mod page;

/// The facts on one screen.
mod status;

/// Every precondition, at a glance.
mod check;

/// Rows of the table against records of the topics.
mod audit;

/// Rows again, because somebody asks for them.
mod replay;

/// The topics, as they grow.
mod tail;
mod takeover;

/// The same with Debezium itself.
mod takeover_debezium;

/// Tokens in place of passwords.
mod tokens;

/// TLS, passwords and rights, on both sides.
mod secure;

/// Settings and exit codes.
mod settings;
mod several;
