//! What arrives on the topic, as it arrives.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use harness::{Received, Topic};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the reader waits before it looks whether anybody still listens.
const READ_FOR: Duration = Duration::from_secs(1);

/// All records so far, kept by a task of its own, so that no arrival waits for the screen. The demo makes some
/// thousands of them.
pub(crate) struct Arrivals {
    records: Arc<Mutex<Vec<Received>>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<Result<()>>,
}

impl Arrivals {
    pub(crate) fn of(topic: &Topic) -> Result<Self> {
        let reader = topic.reader()?;
        let records = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let kept = Arc::clone(&records);
        let task = tokio::spawn(async move {
            while !counted.is_closed() {
                if let Some(record) = reader.next(READ_FOR).await? {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push(record);
                    counted.send_replace(kept.len());
                }
            }
            Ok(())
        });
        Ok(Self { records, count, task })
    }

    /// How many have arrived.
    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// All that have arrived.
    pub(crate) fn all(&self) -> Vec<Received> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The record at place `index`, once it has arrived.
    pub(crate) async fn nth(&self, index: usize, within: Duration) -> Result<Received> {
        let mut count = self.count.clone();
        let arrived = tokio::time::timeout(within, count.wait_for(|count| *count > index)).await;
        match arrived {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => bail!("the topic can no longer be read"),
            Err(_) => bail!("event {} did not arrive within {within:?}", index + 1),
        }
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records[index].clone())
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The time from the commit to the arrival here. The record's timestamp is the commit's time by Postgres' clock, cut to
/// the millisecond, so this is up to 1 ms too much, and wrong by what the clocks of two machines differ.
pub(crate) fn since_commit(record: &Received) -> Duration {
    let arrived = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() - record.arrived.elapsed();
    arrived.saturating_sub(Duration::from_millis(u64::try_from(record.timestamp_ms).unwrap_or(0)))
}
