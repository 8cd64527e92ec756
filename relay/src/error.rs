//! Everything that can end a session, and the one place that decides what follows from it.

use crate::observe::state::Peer;
use crate::postgres::DatabaseError;
use crate::postgres::preflight::{PreflightError, Unsafe};
use crate::registry::RegistryError;
use walpost_core::event::{BadRow, OutboxError, REMEDY_FOR_A_ROW};
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::DecodeError;
use walpost_core::publish::PublishError;
use walpost_core::publish::sink::{Refusal, SinkError};
use walpost_core::window::intake::IntakeError;
use walpost_core::window::progress::ProgressError;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres, or the way to it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Something on Postgres is not as it must be.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// A standby answered where the primary was meant.
    #[error(
        "{0} is a standby (or a reader's address), and walpost follows the primary: it goes on by itself when the \
            standby is promoted, or the address leads to the primary"
    )]
    Standby(String),
    /// Commits of the application would wait for this program.
    #[error(
        "synchronous_standby_names of {place} is `{names}`, which takes walpost for a standby: commits would wait for \
            Kafka, so nothing is streamed meanwhile; name the standbys there in place of `*` and of walpost, as in alter \
            system set synchronous_standby_names = 'standby1', and select pg_reload_conf(): it then goes on by itself"
    )]
    Awaited {
        /// The server.
        place: String,
        /// The setting.
        names: String,
    },
    /// The ledger is on another server than the stream.
    #[error(
        "one of walpost's connections leads to another server than {place}: two servers answer at the addresses of \
            WALPOST_DATABASE_URL (after a failover the old primary has to be shut off), or the address was led elsewhere, or the \
            server started again, in between; nothing is streamed until all connections lead to one"
    )]
    TwoServers {
        /// Where the ledger is.
        place: String,
    },
    /// Postgres ends the stream at the same place each time.
    #[error("the slot cannot be read on (all before {at} is in Kafka): {cause}")]
    Unreadable {
        /// Everything before is acknowledged.
        at: Lsn,
        /// What Postgres says to it.
        cause: DatabaseError,
    },
    /// A message does not decode.
    #[error("the replication stream does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// The table changed.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A type that the catalogue may not show yet.
    #[error("{0}; it is looked for again")]
    Unsettled(OutboxError),
    /// A table that a pattern stands for.
    #[error("{0} has appeared: its rows are published first, and then the stream goes on")]
    Appeared(String),
    /// A row or a message is not an event.
    #[error(transparent)]
    Row(#[from] Box<BadRow>),
    /// The stream is not in order.
    #[error(transparent)]
    Progress(#[from] ProgressError),
    /// Publishing cannot go on.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Kafka is not ready to be published to.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A schema is not known.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The relay stood still.
    #[error(
        "walpost stood still for {} ms (stopped, frozen or starved): another relay may have the slot, so it \
            starts afresh",
        .0.as_millis()
    )]
    Paused(std::time::Duration),
    /// Another relay took the slot.
    #[error("another relay has taken the slot")]
    Superseded,
    /// A fault of the relay itself.
    #[error("a fault in walpost: {0}; please report it")]
    Internal(&'static str),
}

/// What helps where the stream cannot be read.
const UNREADABLE: &str = "if a file of pg_wal was moved away, which the log of Postgres names, put it back, and start walpost \
    again; else run `walpost recover --anew`: it makes a new slot, publishes what the table holds and Kafka may lack, and \
    goes on";

impl From<IntakeError> for Error {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Decode(error) => Self::Decode(error),
            IntakeError::Outbox(error) => Self::Outbox(error),
            IntakeError::Row(bad) => Self::Row(bad),
            IntakeError::Progress(error) => Self::Progress(error),
        }
    }
}

impl From<PreflightError> for Error {
    fn from(error: PreflightError) -> Self {
        match error {
            PreflightError::Database(error) => Self::Database(error),
            PreflightError::Standby(place) => Self::Standby(place),
            PreflightError::Awaited { place, names } => Self::Awaited { place, names },
            PreflightError::TwoServers(place) => Self::TwoServers { place },
            PreflightError::Unsafe(finding) => Self::Unsafe(finding),
        }
    }
}

/// What follows from an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes: try again, with growing waits.
    Retry,
    /// Another relay has the slot: try again soon, to take over.
    StandBy,
    /// It does not pass, or going on could lose events: stop, and say what to do.
    Halt {
        /// What the operator can do.
        remedy: String,
    },
}

impl Error {
    /// The error for people, with what they can do about it where there is something.
    #[must_use]
    pub fn told(&self) -> String {
        match self.verdict() {
            Verdict::Halt { remedy } => format!("{self}; what to do: {remedy}"),
            Verdict::Retry | Verdict::StandBy => self.reason(),
        }
    }

    /// What it is, and what helps where it does not pass by itself.
    #[must_use]
    pub fn reason(&self) -> String {
        let code = match self {
            Self::Unreadable { .. } if self.verdict() == Verdict::Retry => {
                return format!("{self}; if it stays so: {UNREADABLE}");
            }
            Self::Database(error) => error.sqlstate(),
            Self::Registry(error) => return format!("{error}; {}", error.remedy()),
            _ => None,
        };
        match code {
            // invalid_password, invalid_authorization_specification.
            Some("28P01" | "28000") => format!(
                "{self}; if it stays so, check the user and password in WALPOST_DATABASE_URL, and pg_hba.conf for this \
                    user, database and replication"
            ),
            _ => self.to_string(),
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self {
            Self::Sink(_) | Self::Publish(_) => Peer::Kafka,
            Self::Registry(_) => Peer::Registry,
            Self::Paused(_) | Self::Superseded | Self::Appeared(_) | Self::Internal(_) => Peer::Own,
            Self::Database(_)
            | Self::Standby(_)
            | Self::Awaited { .. }
            | Self::TwoServers { .. }
            | Self::Unreadable { .. }
            | Self::Unsafe(_)
            | Self::Decode(_)
            | Self::Outbox(_)
            | Self::Unsettled(_)
            | Self::Row(_)
            | Self::Progress(_) => Peer::Postgres,
        }
    }

    /// Decides what follows.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Database(error) => database_verdict(error),
            Self::Standby(_)
            | Self::Awaited { .. }
            | Self::TwoServers { .. }
            | Self::Paused(_)
            | Self::Superseded
            | Self::Appeared(_)
            // Whatever it lacks, somebody can register.
            | Self::Registry(_)
            | Self::Unsettled(_) => Verdict::Retry,
            Self::Unsafe(finding) => Verdict::Halt { remedy: finding.remedy() },
            Self::Sink(error)
            | Self::Publish(PublishError::Restart(error) | PublishError::Sink { error, .. }) => {
                sink_verdict(error)
            }
            Self::Publish(PublishError::InVain(..) | PublishError::Fenced(_))
            | Self::Progress(ProgressError::AnotherHistory(_)) => Verdict::Retry,
            // A file that is gone does not come back by itself. Other errors, of a file system that is away say, may pass.
            Self::Unreadable { cause, .. } if cause.sqlstate() == Some("58P01") => halt(UNREADABLE),
            Self::Unreadable { .. } => Verdict::Retry,
            Self::Outbox(error) => Verdict::Halt { remedy: error.remedy() },
            Self::Row(_) | Self::Publish(PublishError::Row(_)) => halt(REMEDY_FOR_A_ROW),
            Self::Decode(_)
            | Self::Progress(_)
            | Self::Publish(PublishError::Progress(_))
            | Self::Internal(_) => halt(
                "start walpost again: it goes on from the last confirmed position; if it halts again, report it with this \
                    message, and leave the stream by `walpost recover --anew`, which publishes what the table holds",
            ),
        }
    }
}

fn halt(remedy: &str) -> Verdict {
    Verdict::Halt { remedy: remedy.to_owned() }
}

/// By SQLSTATE (PostgreSQL, "Error Codes"); without one the server did not answer, or was not asked: a certificate and its
/// key are not written at the same moment, so what does not go together now may in a while.
fn database_verdict(error: &DatabaseError) -> Verdict {
    let Some(code) = error.sqlstate() else { return Verdict::Retry };
    match code {
        // object_in_use: "replication slot is active for PID".
        "55006" => Verdict::StandBy,
        // invalid_password, invalid_authorization_specification: while a password is rotated, pg_hba.conf is loaded anew or
        // a login is forbidden for a while, good credentials are refused; that passes.
        "28P01" | "28000" => Verdict::Retry,
        // invalid_catalog_name.
        "3D000" => halt("check the database's name in WALPOST_DATABASE_URL, then start walpost again"),
        // insufficient_privilege.
        "42501" => halt(
            "grant the role what it lacks (LOGIN, REPLICATION, SELECT on the outbox, BYPASSRLS where row-level \
                security is named, usage of the schema \
                walpost), then start walpost again",
        ),
        // undefined_object: slot or publication. The checks before streaming name which, so this is a race with a drop.
        "42704" => halt("run `walpost init`, then start walpost again"),
        // Class 42, syntax or access rule: a table or column is not what it was.
        code if code.starts_with("42") => {
            halt("check that the schema walpost and the outbox table are as `walpost init` found them")
        }
        // A server that starts, stops, is full or short of memory comes back. So does a standby that is asked in the midst
        // of a failover: object_not_in_prerequisite_state (55000), feature_not_supported (0A000). A slot that is lost has
        // the same code, and the checks before streaming name it.
        _ => Verdict::Retry,
    }
}

fn sink_verdict(error: &SinkError) -> Verdict {
    match error {
        SinkError::Full
        | SinkError::Held(_)
        | SinkError::TopicMissing { .. }
        | SinkError::TopicNotMade { .. }
        | SinkError::TopicDenied { .. }
        | SinkError::Unreachable { .. }
        // A broker that has not loaded its rules yet denies what it will allow, and rights can be granted any time.
        | SinkError::Denied(_)
        // Whoever has the slot then goes on.
        | SinkError::Fenced(_)
        | SinkError::Broken(_) => Verdict::Retry,
        SinkError::Refused { what, .. } => halt(refusal_remedy(*what)),
        SinkError::TooManyPartitions { .. } => halt(
            "start walpost again, which then counts the topics that events name from then on: nothing was skipped; if that \
                does not help, let events name fewer topics",
        ),
        SinkError::Position { .. } => halt(
            "give this slot a topic of its own by --position-topic, and start walpost again: nothing was sent",
        ),
        SinkError::Settings(_) => halt("correct the kafka properties, then start walpost again"),
    }
}

fn refusal_remedy(what: Refusal) -> &'static str {
    match what {
        Refusal::Size => {
            "the topic's max.message.bytes, the broker's limits or the kafka property message.max.bytes refuse this \
                event; raise them, then start walpost again: nothing was skipped"
        }
        Refusal::Timestamp => {
            "the topic's message.timestamp.before.max.ms or message.timestamp.after.max.ms refuses the record's time, \
                which is the commit's or, of a row from before the slot, its column's; raise that setting, then start \
                walpost again: nothing was skipped"
        }
        Refusal::Other => {
            "no later try would be accepted: look the error up in Kafka's protocol, and correct what the topic or the \
                broker refuses it for; then start walpost again: nothing was skipped"
        }
        Refusal::Topic => {
            "the topic takes no record that is sent so: correct its settings or the kafka properties (compression.type, \
                say), then start walpost again: nothing was skipped"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_code(code: &str) -> Verdict {
        let text = format!("server error: x (SQLSTATE {code})");
        Error::from(DatabaseError::of_stream("start streaming", "db:5432/shop as me", &text)).verdict()
    }

    #[test]
    fn what_passes_is_retried_and_what_does_not_halts() {
        for code in ["57P01", "57P02", "57P03", "53300", "08006", "58000", "55000", "0A000", "28P01", "28000"]
        {
            assert_eq!(of_code(code), Verdict::Retry, "{code}");
        }
        for code in ["3D000", "42501", "42704", "42P01"] {
            assert!(matches!(of_code(code), Verdict::Halt { .. }), "{code}");
        }
        assert_eq!(of_code("55006"), Verdict::StandBy);
        let lost = DatabaseError::of_stream("follow the stream", "db", "io error: broken pipe");
        assert_eq!(Error::from(lost).verdict(), Verdict::Retry);
    }

    #[test]
    fn a_record_that_is_refused_halts_and_a_broker_that_is_away_does_not() {
        let refused = SinkError::Refused { what: Refusal::Size, reason: "x".into() };
        assert!(matches!(sink_verdict(&refused), Verdict::Halt { .. }));
        assert_eq!(sink_verdict(&SinkError::Denied("x".into())), Verdict::Retry);
        let missing = SinkError::TopicMissing { topic: "orders.eu".into(), brokers: "b:1".into() };
        let error = Error::from(PublishError::Sink { event: "e (row 5)".into(), error: missing });
        assert_eq!((error.verdict(), error.peer()), (Verdict::Retry, Peer::Kafka));
        assert!(error.reason().contains("(row 5)") && error.reason().contains("`orders.eu`"));
        let (topic, brokers) = ("orders.eu".to_owned(), "b:1".to_owned());
        let not_made = SinkError::TopicNotMade {
            topic,
            brokers,
            reason: "denied".into(),
            remedy: "grant CREATE".into(),
        };
        assert!(not_made.is_about_a_topic() && sink_verdict(&not_made) == Verdict::Retry, "it can pass");
        let denied = SinkError::TopicDenied { topic: "orders.eu".into(), reason: "x".into() };
        assert_eq!(sink_verdict(&denied), Verdict::Retry);
        let away = SinkError::Unreachable { brokers: "b:1".into(), reason: "x".into() };
        assert_eq!(Error::from(away).verdict(), Verdict::Retry);
    }
}
