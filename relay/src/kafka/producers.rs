//! The producers of the sink: one; or, with exactly-once delivery, two that take turns, a transaction each.
//!
//! Kafka answers a commit when it is decided, and writes it to the partitions afterwards. Who begins another transaction in the
//! same name before that is done is told to come again (`CONCURRENT_TRANSACTIONS`), for which the client waits 20 ms. The other
//! producer has another name, so nothing is waited for.
//!
//! One transaction follows the other all the same: the second producer's begins when the first one's commit is answered. So
//! records stand in the order in which they were handed over, and what is committed has no gap. Both names are taken in one
//! order ([`Which::IN_ORDER`]) before the position is read, so that nothing is committed by another behind what was read.

use std::sync::{Arc, Weak};
use std::time::Duration;

use kafka_token::SignIn;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer as _, PurgeConfig, ThreadedProducer};
use tokio::sync::mpsc;

use super::clients::unusable;
use super::position::second_id;
use super::reporter::{Complaint, Delivery, Reporter};
use super::statistics::StatisticsCell;
use walpost_core::publish::partitions::Which;
use walpost_core::publish::sink::SinkError;

/// A producer, with the thread that takes its reports.
pub(super) type Client = ThreadedProducer<Reporter>;

/// One producer, or two.
#[derive(Clone)]
pub(super) struct Producers {
    first: Arc<Client>,
    /// Where they make transactions.
    second: Option<Arc<Client>>,
    turn: Which,
}

impl Producers {
    /// Makes them, with where their reports come. The first has the first turn.
    pub(super) fn start(
        config: &ClientConfig,
        sign_in: Option<&SignIn>,
        complaint: &Complaint,
        statistics: &StatisticsCell,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Delivery>), SinkError> {
        // Bounded by the window: there is one report at the most for each record in flight.
        let (sender, reports) = mpsc::unbounded_channel();
        let start = |config: &ClientConfig, which| -> Result<Arc<Client>, KafkaError> {
            let reporter = Reporter::new(sender.clone(), complaint.clone(), statistics.clone(), which);
            let client = Arc::new(config.create_with_context(reporter)?);
            if let Some(sign_in) = sign_in.cloned() {
                tokio::spawn(stay_signed_in(Arc::downgrade(&client), sign_in, complaint.clone()));
            }
            Ok(client)
        };
        let first = start(config, Which::First).map_err(|error| unusable(&error))?;
        let id = config.get("transactional.id").map(second_id);
        let second = id.map(|id| start(config.clone().set("transactional.id", id), Which::Second));
        let second = second.transpose().map_err(|error| unusable(&error))?;
        Ok((Self { first, second, turn: Which::default() }, reports))
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> Which {
        self.turn
    }

    /// The one whose turn it is.
    pub(super) fn on_turn(&self) -> &Arc<Client> {
        self.get(self.turn).unwrap_or(&self.first)
    }

    /// The one whose turn it is not, where there are two.
    pub(super) fn resting(&self) -> Option<&Arc<Client>> {
        self.second.as_ref().and_then(|_| self.get(self.turn.other()))
    }

    fn get(&self, which: Which) -> Option<&Arc<Client>> {
        match which {
            Which::First => Some(&self.first),
            Which::Second => self.second.as_ref(),
        }
    }

    /// All, in the order in which they take their names.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Client>> {
        Which::IN_ORDER.into_iter().filter_map(|which| self.get(which))
    }

    /// The other one's turn begins.
    pub(super) fn take_turns(&mut self) {
        self.turn = self.turn.other();
    }

    /// They give back what they hold. Waits for that.
    pub(super) fn end(self, timeout: Duration) {
        for client in self.all() {
            client.purge(PurgeConfig::default().queue().inflight());
        }
        for client in self.all() {
            // Whatever it does not give back in time is sent again: a repeat, not a loss.
            drop(client.flush(timeout));
        }
    }
}

/// Gives the producer tokens, the first one, too, as long as it is there. It connects when it has one.
async fn stay_signed_in(producer: Weak<Client>, sign_in: SignIn, complaint: Complaint) {
    let sign_in = Arc::new(sign_in);
    while let Some(client) = producer.upgrade() {
        let kept = Arc::clone(&sign_in);
        let keeping = tokio::task::spawn_blocking(move || kept.keep(client.client()));
        match keeping.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the producer cannot sign in to Kafka: trying again");
                complaint.hear(&error.to_string());
            }
            // The runtime ends.
            Err(_) => return,
        }
        tokio::time::sleep(sign_in.until_due()).await;
    }
}
