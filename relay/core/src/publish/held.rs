//! Records that wait for their partition.

use std::collections::{BTreeMap, VecDeque};

use crate::publish::sink::Lane;
use crate::window::progress::Sequence;

/// Records that wait, by partition, in order. Bounded by the window, of which they are a part.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<Lane, VecDeque<Sequence>>);

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, lane: Lane, sequence: Sequence) {
        self.0.entry(lane).or_default().push_back(sequence);
    }

    /// The partitions that records wait for.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        self.0.keys().copied().collect()
    }

    pub(super) fn first(&self, lane: Lane) -> Option<Sequence> {
        self.0.get(&lane)?.front().copied()
    }

    /// The first one waits no more.
    pub(super) fn pop(&mut self, lane: Lane) {
        if let Some(waiting) = self.0.get_mut(&lane) {
            waiting.pop_front();
            if waiting.is_empty() {
                self.0.remove(&lane);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests;
