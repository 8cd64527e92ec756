//! The loop: poll, show, write, store the offset. In this order, and on one thread.
//!
//! Why nothing is lost: an offset is stored only when the write of its record has returned, and librdkafka commits only
//! what is stored. Why nothing is passed over: a record that cannot be read is written to the log first. What may come
//! twice: a record whose process was killed, or whose partition was taken away, before the next commit.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::consumer::{Found, Member, Trouble, trouble};
use crate::metrics::{Metrics, Outcome};
use crate::show::{Complaint, Kind, hex, show};

/// How long a poll may take: a stop is noticed within it.
const POLL: Duration = Duration::from_millis(100);

/// How often Kafka is asked again for a topic that it does not have.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How often the same trouble is logged.
const LOG_AGAIN: Duration = Duration::from_secs(30);

/// The log has so many bytes of a record that cannot be read, and says where all of it is.
const HEX_BYTES_MAX: usize = 4096;

/// Why it ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// Standard output takes no more.
    #[error(
        "cannot write to standard output: {0}. What was not written is not committed: it is printed by the next start"
    )]
    Output(io::Error),
    /// The group has no use for this member.
    #[error("the consumer cannot go on: {0}. Start it again; what was not printed is not committed")]
    Kafka(KafkaError),
}

/// How it ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop.
    Stopped,
    /// The reader of the pipe has gone: it has seen enough.
    NobodyReads,
}

/// Prints what the member reads.
pub struct Printer<W> {
    /// The source.
    pub member: Member,
    /// The destination, without a buffer.
    pub out: W,
    /// How the values of each topic are read.
    pub topics: HashMap<String, Kind>,
    /// Where it shows what it does.
    pub board: Arc<Board>,
    /// Where it counts.
    pub metrics: Metrics,
}

impl<W: Write> Printer<W> {
    /// Prints until it is asked to stop; then what is stored is committed and the group is left. Blocks.
    ///
    /// # Errors
    /// When standard output cannot be written to, or the group has no use for this member any more.
    pub fn run(mut self, stop: &CancellationToken) -> Result<Ended, PrintError> {
        let mut troubles = Troubles::default();
        let mut asking = Asking::new(self.topics.keys());
        while !stop.is_cancelled() {
            // The member is borrowed by its record, the rest is not.
            let Self { member, out, topics, board, metrics } = &mut self;
            asking.ask(member, board);
            match member.poll(POLL) {
                None => {}
                Some(Ok(record)) => {
                    let kind = topics.get(record.topic()).copied().unwrap_or(Kind::Guess);
                    match print(&record, kind, out, board, metrics) {
                        Ok(()) => store(member, &record),
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                            return Ok(Ended::NobodyReads);
                        }
                        Err(error) => return Err(PrintError::Output(error)),
                    }
                }
                Some(Err(error)) => match trouble(&error) {
                    Trouble::Fatal => return Err(PrintError::Kafka(error)),
                    trouble => troubles.note(trouble, &error, member.reason(&error), board),
                },
            }
        }
        Ok(Ended::Stopped)
    }
}

/// Writes what is shown of the record: its text to `out`, a complaint to the log.
fn print(
    record: &BorrowedMessage<'_>,
    kind: Kind,
    out: &mut impl Write,
    board: &Board,
    metrics: &Metrics,
) -> io::Result<()> {
    let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
    let shown = show(kind, record.payload());
    if let Some(complaint) = &shown.complaint {
        complain(record, complaint);
    }
    let Some(mut text) = shown.text else {
        metrics.count(topic, Outcome::Unreadable);
        return Ok(());
    };
    text.push('\n');
    board.write_begins();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    board.write_ends();
    written?;
    metrics.count(topic, Outcome::Printed);
    metrics.bytes.inc_by(u64::try_from(text.len()).unwrap_or(u64::MAX));
    tracing::debug!(topic, partition, offset, "printed");
    Ok(())
}

fn complain(record: &BorrowedMessage<'_>, complaint: &Complaint) {
    let value = record.payload().unwrap_or_default();
    let shown = &value[..value.len().min(HEX_BYTES_MAX)];
    tracing::error!(
        topic = record.topic(),
        partition = record.partition(),
        offset = record.offset(),
        bytes = value.len(),
        hex = hex(shown),
        hex_is_cut = shown.len() < value.len(),
        reason = %complaint,
        "a record cannot be read"
    );
}

/// A partition that was taken away meanwhile is another member's: it prints the record again.
fn store(member: &Member, record: &BorrowedMessage<'_>) {
    if let Err(error) = member.store(record) {
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        tracing::warn!(topic, partition, offset, %error, "printed, and not to be committed: it will be printed again");
    }
}

/// What goes wrong is logged when it begins, and now and then while it lasts.
#[derive(Default)]
struct Troubles(HashMap<String, Instant>);

impl Troubles {
    fn note(&mut self, trouble: Trouble, error: &KafkaError, reason: String, board: &Board) {
        match trouble {
            Trouble::Denied => board.deny(&reason),
            Trouble::Waiting => board.note_error(&reason),
            _ => {}
        }
        // By its code: the reason has an address, and how many milliseconds something took.
        let code = error.to_string();
        if self.0.get(&code).is_some_and(|logged| logged.elapsed() < LOG_AGAIN) {
            return;
        }
        self.0.insert(code, Instant::now());
        match trouble {
            Trouble::Denied => {
                tracing::error!(
                    reason,
                    "Kafka refuses: give this client the right, or correct its properties"
                );
            }
            // Each missing topic is found, and logged, by asking.
            Trouble::TopicMissing => tracing::debug!(reason, "a topic does not exist"),
            _ => tracing::warn!(reason, "Kafka is in trouble: it is waited for"),
        }
    }
}

/// Topics that Kafka may lack or refuse: each is asked for until it is there.
struct Asking {
    /// Those that were not seen yet, and the last answer about each, which was logged.
    unseen: Vec<(String, Found)>,
    asked_at: Option<Instant>,
}

impl Asking {
    fn new<'a>(topics: impl Iterator<Item = &'a String>) -> Self {
        Self { unseen: topics.map(|topic| (topic.clone(), Found::Unknown)).collect(), asked_at: None }
    }

    fn ask(&mut self, member: &Member, board: &Board) {
        let is_due = self.asked_at.is_none_or(|asked| asked.elapsed() > ASK_AGAIN);
        // Without a broker the question would only take time.
        if self.unseen.is_empty() || !is_due || !board.is_broker_up() {
            return;
        }
        for (topic, known) in &mut self.unseen {
            let found = member.look_up(topic);
            log_change(topic, *known, found);
            // No answer changes nothing.
            if found != Found::Unknown {
                *known = found;
            }
        }
        self.unseen.retain(|(_, known)| *known != Found::There);
        self.asked_at = Some(Instant::now());
        board.set_unread_topics(self.known_as(Found::Missing), self.known_as(Found::Denied));
    }

    fn known_as(&self, found: Found) -> Vec<String> {
        let them = self.unseen.iter().filter(|(_, known)| *known == found);
        them.map(|(topic, _)| topic.clone()).collect()
    }
}

fn log_change(topic: &str, known: Found, found: Found) {
    match found {
        _ if known == found => {}
        Found::Missing => tracing::warn!(topic, "there is no such topic: it is read as soon as it is made"),
        Found::Denied => {
            tracing::error!(topic, "Kafka refuses: give this client the right to read the topic")
        }
        Found::There if known != Found::Unknown => tracing::info!(topic, "the topic is there"),
        Found::There | Found::Unknown => {}
    }
}
