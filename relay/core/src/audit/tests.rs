//! The comparison against one that holds everything in memory and looks at each pair.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn compared(mut entries: Vec<Entry>) -> Vec<Finding> {
    // As they are kept in between.
    for entry in &mut entries {
        let mut bytes = [0; Entry::BYTES];
        entry.write(&mut bytes);
        assert_eq!(Entry::read(&bytes), *entry);
    }
    entries.sort();
    let (mut comparison, mut found) = (Comparison::default(), Vec::new());
    let mut tell = |finding| {
        found.push(finding);
        Ok::<_, Infallible>(())
    };
    for entry in entries {
        let Ok(()) = comparison.take(entry, &mut tell);
    }
    let Ok(()) = comparison.finish(&mut tell);
    found
}

fn row(id: u128, content: u64, number: i64) -> Entry {
    let row = RowAt { number, is_ordered: true, is_due: true, ..RowAt::default() };
    Entry { identity: id, body: content, headers: 0, side: Side::Row(row) }
}

fn record(id: u128, content: u64, offset: i64) -> Entry {
    let place = Some((u64::try_from(offset).unwrap(), 0));
    let record = RecordAt { offset, place, key: Some(7), is_judged: true, ..RecordAt::default() };
    Entry { identity: id, body: content, headers: 0, side: Side::Record(record) }
}

/// Counts by kind of finding.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    present: usize,
    absent: usize,
    altered: usize,
    twice: usize,
    in_no_row: usize,
}

fn counts(found: &[Finding]) -> Counts {
    let mut counts = Counts::default();
    for finding in found {
        match finding {
            Finding::Present => counts.present += 1,
            Finding::Absent(_) => counts.absent += 1,
            Finding::Altered(..) => counts.altered += 1,
            Finding::Twice(_) => counts.twice += 1,
            Finding::InNoRow(_) => counts.in_no_row += 1,
            Finding::Behind(_) | Finding::Replayed(_) | Finding::First(..) => {}
        }
    }
    counts
}

/// The same by looking at all of it: each row takes a record of its content; what is left of an id is paired.
fn expected(rows: &[(u128, u64)], records: &[(u128, u64)]) -> Counts {
    let mut counts = Counts::default();
    let mut left: BTreeMap<u128, (usize, Vec<u64>)> = BTreeMap::new();
    let mut free: Vec<_> = records.to_vec();
    for row in rows {
        match free.iter().position(|record| record == row) {
            Some(at) => {
                free.remove(at);
                counts.present += 1;
            }
            None => left.entry(row.0).or_default().0 += 1,
        }
    }
    for record in free {
        if rows.contains(&record) {
            counts.twice += 1;
        } else {
            left.entry(record.0).or_default().1.push(record.1);
        }
    }
    for (id, (rows_left, records_left)) in left {
        let pairs = rows_left.min(records_left.len());
        counts.altered += pairs;
        counts.absent += rows_left - pairs;
        let others = records_left.len() - pairs;
        if rows.iter().any(|(other, _)| *other == id) {
            counts.altered += others;
        } else {
            counts.in_no_row += others;
        }
    }
    counts
}

proptest! {
    #[test]
    fn every_row_and_every_record_is_accounted_for(
        rows in vec((0..6_u128, 0..3_u64), 0..12),
        records in vec((0..6_u128, 0..3_u64), 0..16),
    ) {
        let mut entries: Vec<_> =
            rows.iter().enumerate().map(|(nth, (id, content))| row(*id, *content, nth as i64)).collect();
        let of_records = records.iter().enumerate();
        entries.extend(of_records.map(|(nth, (id, content))| record(*id, *content, nth as i64)));
        let found = counts(&compared(entries));
        prop_assert_eq!(&found, &expected(&rows, &records));
        let altered_rows = rows.len() - found.present - found.absent;
        prop_assert!(found.altered >= altered_rows);
        prop_assert_eq!(found.present + found.twice + found.altered + found.in_no_row, records.len());
    }

    /// Whatever comes again, and wherever: what first appears in order is in order, and what does not is found.
    #[test]
    fn first_appearances_are_in_order_whatever_comes_again(
        count in 1..12_usize,
        repeats in vec((0..12_usize, 0..12_usize), 0..12),
        swapped in proptest::option::of(0..11_usize),
    ) {
        let mut stream: Vec<usize> = (0..count).collect();
        let is_swapped = swapped.is_some_and(|at| at + 1 < count);
        if let Some(at) = swapped.filter(|_| is_swapped) {
            stream.swap(at, at + 1);
        }
        // A repeat stands behind what it repeats.
        for (event, behind) in repeats {
            let event = event % count;
            let first = stream.iter().position(|other| *other == event).unwrap();
            let at = (first + 1 + behind).min(stream.len());
            stream.insert(at, event);
        }
        let rows = (0..count).map(|event| row(event as u128, 0, event as i64));
        let records = stream.iter().enumerate().map(|(offset, event)| {
            let mut entry = record(*event as u128, 0, offset as i64);
            let Side::Record(record) = &mut entry.side else { unreachable!() };
            record.place = Some((*event as u64, 0));
            entry
        });
        let found = compared(rows.chain(records).collect());
        let mut firsts: Vec<_> = found.iter().filter_map(|finding| match finding {
            Finding::First(record, number, has_row) => Some(Appearance {
                record: *record, number: *number, is_first: true, has_row: *has_row,
            }),
            _ => None,
        }).collect();
        firsts.sort();
        let mut order = Order::default();
        let inversions = firsts.iter().filter_map(|first| {
            let mut bytes = [0; Appearance::BYTES];
            first.write(&mut bytes);
            assert_eq!(Appearance::read(&bytes), *first);
            order.take(first)
        }).count();
        prop_assert_eq!(inversions, usize::from(is_swapped));
    }
}

#[test]
fn a_row_behind_the_slot_is_not_missing_and_one_that_came_late_need_not_be_there() {
    let behind = Entry { side: Side::Behind, ..row(1, 0, 0) };
    let found = compared(vec![row(1, 0, 5), behind, row(2, 0, 6)]);
    assert!(matches!(found.as_slice(), [Finding::Behind(first), Finding::Absent(second)]
        if first.number == 5 && second.number == 6));
    let late = |id| {
        let Side::Row(at) = row(id, 0, 9).side else { unreachable!() };
        Entry { side: Side::Late(at), ..row(id, 0, 9) }
    };
    let found = counts(&compared(vec![late(1), late(2), record(2, 0, 0), record(3, 0, 1)]));
    assert_eq!(found, Counts { in_no_row: 1, ..Counts::default() });
}

/// A transaction that is open leaves all that came since it began to be read once more.
#[test]
fn a_row_that_is_read_twice_is_one_row() {
    let late = |number, content| {
        let Side::Row(at) = row(1, content, number).side else { unreachable!() };
        Entry { side: Side::Late(at), ..row(1, content, number) }
    };
    let found = compared(vec![row(1, 0, 5), late(5, 0), record(1, 0, 0), record(1, 0, 1)]);
    assert_eq!(counts(&found), Counts { present: 1, twice: 1, ..Counts::default() });
    assert!(found.iter().any(|finding| matches!(finding, Finding::First(_, Some(5), true))), "{found:?}");
    // It was updated in between.
    let found = compared(vec![row(1, 0, 5), late(5, 1), record(1, 0, 0)]);
    assert_eq!(counts(&found), Counts { present: 1, ..Counts::default() });
    assert!(found.iter().any(|finding| matches!(finding, Finding::First(..))), "{found:?}");
    // Alike, and another.
    let found = compared(vec![row(1, 0, 5), late(5, 0), late(6, 0), record(1, 0, 0), record(1, 0, 1)]);
    assert_eq!(counts(&found), Counts { present: 1, ..Counts::default() });
}

/// Without an id: of two rows that are alike one has no record, and the other two.
#[test]
fn a_repeat_does_not_stand_for_the_lost_record_of_a_row_that_is_alike() {
    let of = |offset, place, source| {
        let mut entry = record(1, 0, offset);
        let Side::Record(record) = &mut entry.side else { unreachable!() };
        (record.place, record.source) = (Some((place, 3)), source);
        entry
    };
    let (lost, there) = (
        Counts { present: 1, absent: 1, twice: 1, ..Counts::default() },
        Counts { present: 2, ..Counts::default() },
    );
    for (sources, places, of_several, same_number, expected) in [
        ((0, 0), (7, 7), false, false, &lost),
        ((0, 0), (7, 8), false, false, &there),
        // Copied rows of two tables may have one place, and so may rows that share a number.
        ((0, 0), (7, 7), true, false, &there),
        ((1, 2), (7, 7), true, false, &there),
        ((1, 1), (7, 7), true, false, &lost),
        ((0, 0), (7, 7), false, true, &there),
    ] {
        let mut comparison = Comparison::new(of_several);
        let mut found = Vec::new();
        let mut tell = |finding| {
            found.push(finding);
            Ok::<_, Infallible>(())
        };
        let second = if same_number { 1 } else { 2 };
        for entry in [row(1, 0, 1), row(1, 0, second), of(0, places.0, sources.0), of(1, places.1, sources.1)]
        {
            let Ok(()) = comparison.take(entry, &mut tell);
        }
        let Ok(()) = comparison.finish(&mut tell);
        assert_eq!(&counts(&found), expected, "{sources:?} {places:?} {of_several} {same_number}");
    }
}

/// Its row may have been updated since, or it went to a topic of its own, and the topic is part of what is compared.
#[test]
fn a_replay_that_is_like_no_row_is_a_replay_and_nothing_else() {
    let mut elsewhere = record(1, 9, 0);
    let Side::Record(at) = &mut elsewhere.side else { unreachable!() };
    at.is_replay = true;
    let gone = Entry { identity: 2, ..elsewhere };
    let found = compared(vec![row(1, 0, 0), elsewhere, record(1, 0, 5), gone]);
    assert_eq!(counts(&found), Counts { present: 1, ..Counts::default() });
    assert_eq!(found.iter().filter(|finding| matches!(finding, Finding::Replayed(_))).count(), 2);
    // Nor does the order begin with it.
    assert!(
        found.iter().any(|finding| matches!(finding, Finding::First(at, ..) if at.offset == 5)),
        "{found:?}"
    );
    let found = counts(&compared(vec![row(1, 0, 0), elsewhere]));
    assert_eq!(found, Counts { absent: 1, ..Counts::default() }, "it is not in the row's own topic");
}

#[test]
fn a_replay_is_no_repeat_and_stands_in_for_what_is_missing() {
    let replayed = |id, offset| {
        let mut entry = record(id, 0, offset);
        let Side::Record(record) = &mut entry.side else { unreachable!() };
        record.is_replay = true;
        entry
    };
    let entries = vec![row(1, 0, 0), record(1, 0, 0), replayed(1, 1), row(2, 0, 1), replayed(2, 2)];
    let found = compared(entries);
    assert_eq!(counts(&found), Counts { present: 2, ..Counts::default() });
    assert_eq!(found.iter().filter(|finding| matches!(finding, Finding::Replayed(_))).count(), 2);
}

#[test]
fn what_is_alike_without_an_id_is_counted_and_not_held() {
    let rows = (0..5_000).map(|number| row(1, 0, number));
    let records = (0..4_000).map(|offset| record(1, 0, offset));
    let found = counts(&compared(rows.chain(records).collect()));
    assert_eq!(found, Counts { present: 4_000, absent: 1_000, ..Counts::default() });
}

#[test]
fn records_that_say_no_place_are_held_against_the_numbers_of_their_rows() {
    let at = |offset, number, place| Appearance {
        record: RecordAt { offset, key: Some(1), place, ..RecordAt::default() },
        number: Some(number),
        is_first: true,
        has_row: true,
    };
    let mut order = Order::default();
    assert_eq!(order.take(&at(0, 1, None)), None);
    assert_eq!(order.take(&at(1, 3, None)), None);
    assert_eq!(order.take(&at(2, 2, None)).map(|found| found.behind.offset), Some(1));
}

/// Ids are handed out before the commit, and places begin anew on another timeline: neither alone says anything.
#[test]
fn a_record_is_out_of_order_where_its_place_and_the_number_of_its_row_say_so() {
    let at = |offset, number, place| Appearance {
        record: RecordAt { offset, key: Some(1), place: Some((place, 0)), ..RecordAt::default() },
        number,
        is_first: true,
        has_row: true,
    };
    let found = |appearances: &[(Option<i64>, u64)]| {
        let mut order = Order::new(false);
        let taken = appearances.iter().enumerate();
        taken
            .filter_map(|(offset, (number, place))| order.take(&at(offset as i64, *number, *place)))
            .map(|found| (found.record.offset, found.behind.offset))
            .collect::<Vec<_>>()
    };
    // Committed in another order than that of the numbers.
    assert_eq!(found(&[(Some(9), 5), (Some(2), 6), (Some(3), 7)]), []);
    // Another timeline, twice: each begins before the end of the one before it.
    assert_eq!(
        found(&[(Some(1), 80), (Some(2), 90), (Some(3), 50), (Some(4), 60), (Some(5), 40), (Some(6), 95)]),
        []
    );
    // In the same timeline, in the next one, and a row of the first behind the next.
    assert_eq!(found(&[(Some(1), 70), (Some(3), 90), (Some(2), 80)]), [(2, 1)]);
    assert_eq!(found(&[(Some(1), 90), (Some(2), 50), (Some(4), 70), (Some(3), 60)]), [(3, 2)]);
    assert_eq!(found(&[(Some(2), 90), (Some(3), 50), (Some(1), 80)]), [(2, 0)]);
    // Of removed rows the place is all there is.
    assert_eq!(found(&[(None, 90), (None, 50)]), [(1, 0)]);
    assert_eq!(found(&[(Some(1), 90), (None, 50), (None, 60), (Some(2), 95)]), [(1, 0), (2, 0)]);
    assert_eq!(found(&[(None, 90), (Some(2), 50), (Some(3), 95)]), [(1, 0)]);
    // However many there are.
    let falling: Vec<_> = (0..1_000).map(|number| (Some(number), 1_000 - number as u64)).collect();
    assert_eq!(found(&falling), []);
}

/// Rows that were copied have the slot's position, and their own numbers.
#[test]
fn numbers_of_two_sources_are_not_compared() {
    let at = |offset, source, ordinal| Appearance {
        record: RecordAt { offset, key: Some(1), place: Some((5, ordinal)), source, ..RecordAt::default() },
        number: None,
        is_first: true,
        has_row: true,
    };
    for (source, others, expected) in [(1, 2, 0), (1, 1, 1), (0, 0, 0)] {
        let mut order = Order::new(true);
        let found = [at(0, source, 100), at(1, others, 1)].iter().filter_map(|at| order.take(at)).count();
        assert_eq!(found, expected, "{source} {others}");
    }
    let mut order = Order::new(false);
    let found = [at(0, 0, 100), at(1, 0, 1)].iter().filter_map(|at| order.take(at)).count();
    assert_eq!(found, 1);
}

fn seen<'a>(
    marks: &Fingerprints,
    value: Option<&'a [u8]>,
    headers: &'a [(&'a str, Option<&'a [u8]>)],
) -> Seen {
    marks.of(View { topic: "t", key: Some(b"k"), value, headers: headers.iter().copied() })
}

#[test]
fn the_id_identifies_and_the_content_is_compared_but_for_what_is_walposts_own() {
    let marks = Fingerprints::new(vec!["id".into()], true);
    let id: [(&str, Option<&[u8]>); 2] = [("ce_id", Some(b"1")), ("ce_source", Some(b"/s"))];
    let place: [(&str, Option<&[u8]>); 5] =
        [("wal-seq", Some(b"3")), id[1], ("wal-lsn", Some(b"0/10")), id[0], ("traceparent", Some(b"00-"))];
    let (from_row, from_topic) = (seen(&marks, Some(b"v"), &id), seen(&marks, Some(b"v"), &place));
    assert_eq!(from_topic.place, Some((16, 3)));
    assert_eq!(Seen { place: None, ..from_topic }, from_row);
    let altered = seen(&marks, Some(b"w"), &id);
    assert!(altered.identity == from_row.identity && altered.body != from_row.body);
    let tombstone = seen(&marks, None, &id);
    assert!(tombstone.body != seen(&marks, Some(b""), &id).body, "null is not empty");
    let other_header: [(&str, Option<&[u8]>); 3] = [id[0], id[1], ("h", None)];
    let with_header = seen(&marks, Some(b"v"), &other_header);
    assert!(with_header.body == from_row.body && with_header.headers != from_row.headers);

    let by_header: [(&str, Option<&[u8]>); 1] = [("id", Some(b"1"))];
    let (one, other) = (seen(&marks, Some(b"v"), &by_header), seen(&marks, Some(b"w"), &by_header));
    assert!(one.identity == other.identity && one.body != other.body && one.identity != from_row.identity);
    let (one, other) = (seen(&marks, Some(b"v"), &[]), seen(&marks, Some(b"w"), &[]));
    assert!(one.identity != other.identity, "without an id the content is all there is");
    let replay: [(&str, Option<&[u8]>); 1] = [("walpost-replay", Some(b"x"))];
    let replay = seen(&marks, Some(b"v"), &replay);
    assert_eq!(Seen { is_replay: false, ..replay }, one);
}

#[test]
fn where_content_says_the_place_ids_alone_are_compared() {
    let marks = Fingerprints::new(Vec::new(), false);
    let id: [(&str, Option<&[u8]>); 2] = [("ce_id", Some(b"1")), ("ce_source", Some(b"/s"))];
    assert_eq!(seen(&marks, Some(b"at 0/1"), &id), seen(&marks, Some(b"at 0/2"), &id));
}
