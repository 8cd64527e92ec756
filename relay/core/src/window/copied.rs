//! Up to which id everything is acknowledged: pure bookkeeping between ids and records in flight.
//!
//! A wrong answer loses rows, since the next copy begins behind it: so only ids count of which every row was given, and
//! only once no record before them is in flight.

use std::collections::VecDeque;

use crate::pgoutput::Oid;
use crate::window::progress::Sequence;

/// Which copy this is about: another has another end, or another beginning of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyId {
    /// The table's object id.
    pub table: Oid,
    /// The highest id that comes from the table; `i64::MIN` for a table that was empty.
    pub through: i64,
    /// Rows of a transaction from here on may have come after that was read; all of them are in the stream.
    pub streamed_from: i64,
}

/// How far a copy is, in the life of a process.
#[derive(Debug)]
pub struct Copied {
    /// Which copy.
    pub of: CopyId,
    /// The sequence of the first record behind the rows up to an id, for ids that rise.
    marks: VecDeque<(Sequence, i64)>,
    given: Option<i64>,
    acknowledged: Option<i64>,
    /// Records before it belong to rows up to the id that was given last, or are of no order.
    sure: Sequence,
}

impl Copied {
    /// A copy of which the rows up to an id are in Kafka; the next record has this sequence.
    #[must_use]
    pub fn new(of: CopyId, through: Option<i64>, next: Sequence) -> Self {
        Self { of, marks: VecDeque::new(), given: through, acknowledged: through, sure: next }
    }

    /// Up to this id every row was given: here reading goes on.
    #[must_use]
    pub fn given(&self) -> Option<i64> {
        self.given
    }

    /// Every row up to `id` was given; those that became records have sequences below `before`.
    pub fn give(&mut self, id: i64, before: Sequence) {
        self.sure = before;
        if self.given.is_some_and(|given| id <= given) {
            return;
        }
        self.given = Some(id);
        match self.marks.back_mut() {
            Some((last, through)) if *last == before => *through = id,
            _ => self.marks.push_back((before, id)),
        }
    }

    /// Records before `next` are of rows in no order, or of more of one id than fits: nothing says how far the copy is in
    /// their midst.
    pub fn go_on_without_order(&mut self, next: Sequence) {
        self.sure = next;
    }

    /// Before this record the id that was given says how far the copy is.
    #[must_use]
    pub fn sure(&self) -> Sequence {
        self.sure
    }

    /// The id up to which every row has its record before `until`.
    #[must_use]
    pub fn through(&self, until: Sequence) -> Option<i64> {
        let mut marks = self.marks.iter().rev();
        marks.find(|(before, _)| *before <= until).map(|(_, id)| *id).or(self.acknowledged)
    }

    /// The least of the ends of ids that is not before `until`: rows of one id that are parted there cannot be told apart.
    #[must_use]
    pub fn whole(&self, until: Sequence) -> Sequence {
        let index = self.marks.partition_point(|(before, _)| *before < until);
        self.marks.get(index).map_or(until, |(before, _)| *before)
    }

    /// The id up to which every row is acknowledged, when `oldest` is the sequence of the oldest record in flight.
    pub fn acknowledged(&mut self, oldest: Sequence) -> Option<i64> {
        while self.marks.front().is_some_and(|(before, _)| *before <= oldest) {
            self.acknowledged = self.marks.pop_front().map(|(_, id)| id);
        }
        self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::lsn::Lsn;
    use crate::window::progress::Progress;

    const COPY: CopyId = CopyId { table: 7, through: 100, streamed_from: 5 };

    #[derive(Debug, Clone)]
    enum Step {
        /// So many rows of the next id, each published or left out.
        Rows(Vec<bool>, i64),
        /// A row that came late, with an id that was passed.
        Late,
        Acknowledge(prop::sample::Index),
        /// The session ends; the window stays.
        Resume,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (prop::collection::vec(any::<bool>(), 1..4), 1..5i64).prop_map(|(rows, gap)| Step::Rows(rows, gap)),
            1 => Just(Step::Late),
            6 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
            1 => Just(Step::Resume),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        /// Beside a list of every row with its own flag: no row up to the id is unacknowledged, and when nothing is in
        /// flight every row that was given counts.
        #[test]
        fn only_ids_of_which_every_row_is_acknowledged_are_copied_through(steps in steps()) {
            let mut progress: Progress<()> = Progress::default();
            let mut copied = Copied::new(COPY, None, 0);
            let (mut rows, mut id) = (Vec::<(i64, Option<u64>, bool)>::new(), -20);
            for step in steps {
                match step {
                    Step::Rows(published, gap) => {
                        id += gap;
                        for is_left_out in published {
                            // The mark comes with the first row of another id, or the end of a page.
                            let sequence = (!is_left_out).then(|| progress.push((), 1));
                            rows.push((id, sequence, is_left_out));
                        }
                        copied.give(id, progress.next_sequence());
                    }
                    Step::Late => {
                        let sequence = progress.push((), 1);
                        copied.give(id - 1, progress.next_sequence());
                        rows.push((i64::MAX, Some(sequence), false));
                    }
                    Step::Acknowledge(choice) => {
                        let waiting: Vec<_> = rows.iter().enumerate().filter(|(_, row)| !row.2).map(|(index, _)| index).collect();
                        if !waiting.is_empty() {
                            let index = waiting[choice.index(waiting.len())];
                            progress.acknowledge(rows[index].1.unwrap()).unwrap();
                            rows[index].2 = true;
                        }
                    }
                    Step::Resume => progress.connected(),
                }
                prop_assert_eq!(progress.confirmable(), Lsn::ZERO, "a copy confirms nothing");
                let through = copied.acknowledged(progress.oldest_sequence());
                for (id, _, is_acknowledged) in &rows {
                    prop_assert!(*is_acknowledged || through.is_none_or(|through| *id > through));
                }
                if progress.records() == 0 {
                    prop_assert_eq!(through, copied.given());
                }
            }
        }
    }
}
