//! Partitions of all topics in one numbering, small enough to travel with each record.

use walpost_core::publish::sink::Lane;
use walpost_core::window::progress::Sequence;

/// Bits of the opaque value for the lane: a million partitions; what is left counts records for five years at 100,000 a
/// second.
const LANE_BITS: u32 = 20;

/// So many partitions can be told apart.
pub(super) const LANES_MAX: usize = 1 << LANE_BITS;

/// Where records of a topic wait while it has no partitions, by the topic's number: behind all lanes of partitions, since no
/// record of it travels.
pub(super) fn waiting(topic: usize) -> Lane {
    Lane(u32::try_from(LANES_MAX + topic).unwrap_or(u32::MAX))
}

/// A record's number and lane as the pointer-sized value that travels with it: 64 bits wherever this runs.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn opaque(sequence: Sequence, lane: Lane) -> usize {
    (sequence << LANE_BITS | u64::from(lane.0)) as usize
}

/// The lane is what the mask leaves: 20 bits.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn from_opaque(opaque: usize) -> (Sequence, Lane) {
    let opaque = opaque as u64;
    (opaque >> LANE_BITS, Lane((opaque & ((1 << LANE_BITS) - 1)) as u32))
}

/// The lanes of a topic: one for each of its partitions, in their order.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LaneRange {
    first: u32,
    count: u32,
}

impl LaneRange {
    /// The lane of a partition that the topic has.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn of(self, partition: usize) -> Lane {
        Lane(self.first + partition as u32)
    }
}

/// Which partition of which topic a lane is.
#[derive(Debug, Default)]
pub(super) struct Lanes(Vec<(u32, u32)>);

impl Lanes {
    /// Lanes for so many partitions of a topic, which has `had` until now. Partitions are added rarely, so lanes that are
    /// left are not given to others. `None` when there are not so many.
    pub(super) fn reserve(&mut self, topic: usize, had: LaneRange, partitions: usize) -> Option<LaneRange> {
        let count = u32::try_from(partitions).ok()?;
        if count <= had.count {
            return Some(had);
        }
        if self.0.len() + partitions > LANES_MAX {
            return None;
        }
        let (topic, first) = (u32::try_from(topic).ok()?, u32::try_from(self.0.len()).ok()?);
        self.0.extend((0..count).map(|partition| (topic, partition)));
        Some(LaneRange { first, count })
    }

    /// The topic and the partition of a lane.
    pub(super) fn place(&self, lane: Lane) -> Option<(usize, usize)> {
        self.0.get(lane.0 as usize).map(|(topic, partition)| (*topic as usize, *partition as usize))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn number_and_lane_travel_together() {
        for (sequence, lane) in [(0, 0), (7, 3), (1 << 43, (1 << LANE_BITS) - 1)] {
            assert_eq!(from_opaque(opaque(sequence, Lane(lane))), (sequence, Lane(lane)));
        }
    }

    #[test]
    fn a_lane_tells_its_topic_and_partition_also_after_partitions_were_added() {
        let mut lanes = Lanes::default();
        let none = LaneRange::default();
        let (first, second) = (lanes.reserve(0, none, 3).unwrap(), lanes.reserve(7, none, 200_000).unwrap());
        let grown = lanes.reserve(0, first, 5).unwrap();
        for (topic, range, partitions) in [(0, first, 3), (7, second, 200_000), (0, grown, 5)] {
            for partition in 0..partitions {
                assert_eq!(lanes.place(range.of(partition)), Some((topic, partition)));
            }
        }
        assert_eq!(lanes.reserve(0, grown, 2).unwrap().of(1), grown.of(1), "fewer have lanes already");
        assert_eq!(lanes.place(Lane(u32::MAX)), None);
        assert!(
            waiting(0) != waiting(1) && (0..2).all(|topic| waiting(topic).0 as usize >= LANES_MAX),
            "no partition's"
        );
    }

    #[test]
    fn more_partitions_than_a_record_can_tell_apart_get_no_lanes() {
        let mut lanes = Lanes::default();
        assert!(lanes.reserve(0, LaneRange::default(), LANES_MAX - 1).is_some());
        assert!(lanes.reserve(1, LaneRange::default(), 2).is_none());
        assert!(lanes.reserve(1, LaneRange::default(), 1).is_some());
    }
}
