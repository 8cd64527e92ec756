//! A topic that Kafka said is not there, until that is sure.
//!
//! A broker answers from what it has heard of the controller. One that lags does not know a topic yet that was made a moment
//! ago, and one that is cut off does not for as long as that lasts, so one answer says little. A row becomes a dead letter
//! for want of its topic when two looks, a second apart and both begun after the row came, found several brokers of one mind
//! ([`super::witnesses`]). Until then it is held, and with it what is behind it of its topic; other topics go on.

use walpost_core::publish::sink::{Lane, SinkError};
use walpost_core::window::progress::Sequence;

/// What is known of such a topic.
#[derive(Debug)]
pub(super) struct Suspicion {
    /// Where its records wait: no partition's.
    lane: Lane,
    /// What is said to a record for which it is sure.
    verdict: SinkError,
    /// The newest record that was offered.
    newest: Option<Sequence>,
    /// The newest that had been offered when the look began that is under way.
    looked_for: Option<Sequence>,
    /// Up to here one look has found that the topic is not there.
    said_once: Option<Sequence>,
    /// Up to here two have.
    sure: Option<Sequence>,
}

impl Suspicion {
    pub(super) fn new(lane: Lane, verdict: SinkError) -> Self {
        Self { lane, verdict, newest: None, looked_for: None, said_once: None, sure: None }
    }

    /// A record names the topic: what the sink says to it.
    pub(super) fn offered(&mut self, sequence: Sequence) -> SinkError {
        self.newest = self.newest.max(Some(sequence));
        if Some(sequence) <= self.sure { self.verdict.clone() } else { SinkError::Held(self.lane) }
    }

    /// Whether records wait for a look.
    pub(super) fn is_open(&self) -> bool {
        self.newest > self.sure
    }

    pub(super) fn look_begins(&mut self) {
        self.looked_for = self.newest;
    }

    /// The look has found that the topic is not there.
    pub(super) fn is_missing(&mut self) {
        self.sure = self.sure.max(self.said_once);
        self.said_once = self.looked_for.take();
    }

    /// The look has found nothing out: two others are needed.
    pub(super) fn is_unsure(&mut self) {
        (self.looked_for, self.said_once) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walpost_core::publish::sink::Refusal;

    use super::*;

    const LANE: Lane = Lane(7);

    fn suspicion() -> Suspicion {
        Suspicion::new(LANE, SinkError::Refused { what: Refusal::Other, reason: "no such topic".into() })
    }

    fn is_held(suspicion: &mut Suspicion, sequence: Sequence) -> bool {
        suspicion.offered(sequence) == SinkError::Held(LANE)
    }

    #[test]
    fn a_row_is_given_up_after_two_looks_that_began_behind_it() {
        let mut suspicion = suspicion();
        assert!(!suspicion.is_open(), "nothing waits");
        assert!(is_held(&mut suspicion, 5) && suspicion.is_open());
        suspicion.look_begins();
        assert!(is_held(&mut suspicion, 6), "it comes while the first is under way");
        suspicion.is_missing();
        assert!(is_held(&mut suspicion, 5), "one look is none");
        suspicion.look_begins();
        suspicion.is_missing();
        assert!(!is_held(&mut suspicion, 5) && is_held(&mut suspicion, 6) && suspicion.is_open());
        suspicion.look_begins();
        suspicion.is_missing();
        assert!(!is_held(&mut suspicion, 6) && !suspicion.is_open());
        assert!(is_held(&mut suspicion, 9), "a later row is looked for anew");
    }

    #[test]
    fn a_look_that_finds_nothing_out_takes_the_one_before_back() {
        let mut suspicion = suspicion();
        assert!(is_held(&mut suspicion, 5));
        for _ in 0..3 {
            suspicion.look_begins();
            suspicion.is_missing();
            suspicion.look_begins();
            suspicion.is_unsure();
            assert!(is_held(&mut suspicion, 5));
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Offer,
        Begin,
        Missing,
        Unsure,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Offer),
            3 => Just(Step::Begin),
            3 => Just(Step::Missing),
            1 => Just(Step::Unsure),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// Against a list of all looks, each with what had been offered when it began.
        #[test]
        fn no_row_is_given_up_before_two_looks_in_a_row_that_began_behind_it(steps in steps()) {
            let (mut suspicion, mut offered, mut under_way) = (suspicion(), 0, None);
            let mut looks: Vec<u64> = Vec::new();
            let mut sure = 0;
            for step in steps {
                match step {
                    Step::Offer => {
                        prop_assert!(is_held(&mut suspicion, offered));
                        offered += 1;
                    }
                    Step::Begin if under_way.is_none() => {
                        suspicion.look_begins();
                        under_way = Some(offered);
                    }
                    Step::Missing if under_way.is_some() => {
                        suspicion.is_missing();
                        looks.extend(under_way.take());
                        if let [.., before, _] = looks[..] {
                            sure = before;
                        }
                    }
                    Step::Unsure if under_way.take().is_some() => {
                        suspicion.is_unsure();
                        looks.clear();
                    }
                    _ => {}
                }
                for sequence in 0..offered {
                    prop_assert_eq!(is_held(&mut suspicion, sequence), sequence >= sure);
                }
            }
        }
    }
}
