//! What was committed against what arrived, while both go on.
//!
//! Writers say what they committed, rolled back, or cannot tell (the connection broke on the commit; they find out
//! afterwards). The reader gives every record of the topic in the order of its partition.
//!
//! # An unsafe confirm
//!
//! After its commit a writer reads the end of the log, which is above the end of its commit record. The slot's confirmed
//! position is read *before* the ends of the topic's partitions. Once the reader has come to those ends, every
//! transaction whose bound is at or below the position must have been seen: else the relay told Postgres "done" before
//! Kafka had it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use harness::{Received, events};
use uuid::Uuid;

/// A transaction that was committed.
#[derive(Debug)]
pub(crate) struct Written {
    /// `ce_id` of its events.
    pub(crate) events: Vec<Uuid>,
    /// Its commit record ends at or below this position.
    pub(crate) bound: u64,
    /// The slot that has it.
    pub(crate) slot: usize,
}

/// A look at the slots, and then at the topic.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) confirmed: Vec<u64>,
    pub(crate) ends: BTreeMap<i32, i64>,
}

/// What is known of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// And not seen yet.
    Committed,
    /// And nobody has said yet that it was committed.
    Seen,
    /// Both.
    Arrived,
}

impl Fate {
    fn is_seen(self) -> bool {
        self != Self::Committed
    }
}

/// What a slot may have confirmed.
#[derive(Debug, Default)]
struct Confirms {
    /// By bound, those that no sample has judged.
    unjudged: BTreeMap<u64, Vec<Uuid>>,
    /// The highest position that a sample has judged.
    judged: u64,
}

/// Everything that is known so far.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// In a long run these are millions: nothing but the id is kept of each.
    fates: HashMap<Uuid, Fate>,
    /// How many are committed, and how many of those are not seen yet.
    committed: usize,
    missing: usize,
    /// By slot.
    confirms: HashMap<usize, Confirms>,
    /// The next offset of each partition.
    read: BTreeMap<i32, i64>,
    pending: Option<Sample>,
    newest: HashMap<Vec<u8>, u64>,
    pub(crate) duplicates: u64,
    pub(crate) inversions: Vec<String>,
    pub(crate) unsafe_confirms: Vec<String>,
}

impl Audit {
    pub(crate) fn committed(&mut self, written: Written) {
        for event in &written.events {
            self.committed += 1;
            match self.fates.entry(*event) {
                Entry::Vacant(unknown) => {
                    unknown.insert(Fate::Committed);
                    self.missing += 1;
                }
                Entry::Occupied(mut seen) => drop(seen.insert(Fate::Arrived)),
            }
        }
        let confirms = self.confirms.entry(written.slot).or_default();
        if written.bound <= confirms.judged {
            // The sample came before the writer could tell.
            let judged = confirms.judged;
            self.judge(&written.events, judged);
        } else {
            confirms.unjudged.entry(written.bound).or_default().extend(written.events);
        }
    }

    pub(crate) fn arrived(&mut self, record: &Received) -> Result<()> {
        self.read.insert(record.partition, record.offset + 1);
        let id = record.header("ce_id").context("a record without ce_id")?;
        let event: Uuid = id.parse().with_context(|| format!("ce_id {id}"))?;
        match self.fates.entry(event) {
            Entry::Vacant(unknown) => drop(unknown.insert(Fate::Seen)),
            Entry::Occupied(mut known) if *known.get() == Fate::Committed => {
                known.insert(Fate::Arrived);
                self.missing -= 1;
            }
            Entry::Occupied(_) => {
                self.duplicates += 1;
                return Ok(());
            }
        }
        // Writers of one key wait for each other, so the order of its ids is the order of its commits.
        let row = events::decode(record)?.id;
        let newest = self.newest.entry(record.key.clone()).or_default();
        if row < *newest {
            self.inversions.push(format!("{event} (row {row}) came after row {newest} of its key"));
        }
        *newest = row.max(*newest);
        Ok(())
    }

    /// Takes a sample, unless one still waits for the reader.
    pub(crate) fn sampled(&mut self, sample: Sample) {
        self.pending.get_or_insert(sample);
    }

    /// Judges the sample that waits, if the reader has come so far.
    pub(crate) fn judge_sample(&mut self) {
        let has_read =
            |(partition, end): (&i32, &i64)| self.read.get(partition).copied().unwrap_or(0) >= *end;
        let Some(sample) = self.pending.take_if(|sample| sample.ends.iter().all(has_read)) else { return };
        for (slot, confirmed) in sample.confirmed.into_iter().enumerate() {
            let confirms = self.confirms.entry(slot).or_default();
            let left = confirms.unjudged.split_off(&(confirmed + 1));
            let judged = std::mem::replace(&mut confirms.unjudged, left);
            confirms.judged = confirms.judged.max(confirmed);
            let highest = confirms.judged;
            for events in judged.values() {
                self.judge(events, highest);
            }
        }
    }

    fn judge(&mut self, events: &[Uuid], judged: u64) {
        for event in events.iter().filter(|event| !self.fates.get(event).is_some_and(|fate| fate.is_seen())) {
            self.unsafe_confirms.push(format!("{event} is confirmed below {judged:X} and not in Kafka"));
        }
    }

    pub(crate) fn has_seen(&self, event: Uuid) -> bool {
        self.fates.get(&event).is_some_and(|fate| fate.is_seen())
    }

    pub(crate) fn missing(&self) -> usize {
        self.missing
    }

    pub(crate) fn events(&self) -> usize {
        self.committed
    }

    /// Events that arrived and that nobody committed. Only when all writers have said what they know.
    pub(crate) fn never_committed(&self) -> usize {
        self.fates.values().filter(|fate| **fate == Fate::Seen).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirm_above_an_event_that_is_not_in_kafka_is_unsafe_and_one_below_it_is_not() {
        let event = Uuid::from_u128(1);
        let sample = |confirmed| Sample { confirmed: vec![confirmed], ends: BTreeMap::new() };
        let mut audit = Audit::default();
        audit.committed(Written { events: vec![event], bound: 100, slot: 0 });
        audit.sampled(sample(99));
        audit.judge_sample();
        assert!(audit.unsafe_confirms.is_empty());
        audit.sampled(sample(100));
        audit.judge_sample();
        assert_eq!(audit.unsafe_confirms.len(), 1);
        audit.committed(Written { events: vec![Uuid::from_u128(2)], bound: 90, slot: 0 });
        assert_eq!(audit.unsafe_confirms.len(), 2, "it was said late");
    }

    #[test]
    fn what_one_slot_has_confirmed_is_not_held_against_another() {
        let mut audit = Audit::default();
        audit.committed(Written { events: vec![Uuid::from_u128(1)], bound: 100, slot: 1 });
        audit.sampled(Sample { confirmed: vec![200, 99], ends: BTreeMap::new() });
        audit.judge_sample();
        assert!(audit.unsafe_confirms.is_empty());
        audit.sampled(Sample { confirmed: vec![0, 100], ends: BTreeMap::new() });
        audit.judge_sample();
        assert_eq!(audit.unsafe_confirms.len(), 1);
    }

    #[test]
    fn a_sample_waits_for_the_reader() {
        let mut audit = Audit::default();
        audit.committed(Written { events: vec![Uuid::from_u128(1)], bound: 100, slot: 0 });
        audit.sampled(Sample { confirmed: vec![200], ends: BTreeMap::from([(0, 5)]) });
        audit.judge_sample();
        assert!(audit.unsafe_confirms.is_empty(), "the reader is not there yet");
        audit.read.insert(0, 5);
        audit.judge_sample();
        assert_eq!(audit.unsafe_confirms.len(), 1);
    }
}
