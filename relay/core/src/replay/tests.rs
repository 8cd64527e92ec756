//! The corpus again, without the fuzzer: what real servers sent is read as what it is, and nothing makes anything panic.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

use logistic_package_proto::package_event::PackageEvent;

use super::*;

/// 2026-01-02 03:04:05.000006 UTC, when the first event of the captured streams was made.
const CREATED_AT: i64 = 1_767_323_045_000_006;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/fuzz/corpus").join(target)
}

fn seed(target: &str, name: &str) -> Vec<u8> {
    fs::read(corpus(target).join(name)).unwrap()
}

/// A letter for each message: its kind in the protocol, or what is made of it.
fn letters(reads: &[Read]) -> String {
    let letter = |read: &Read| match read {
        Read::Begin(_) => 'B',
        Read::Commit(_) => 'C',
        Read::Relation(_) => 'R',
        Read::Row => 'r',
        Read::Event(event) if event.is_ok() => 'E',
        Read::Event(_) => 'e',
        Read::Type(_) => 'Y',
        Read::Ignored(kind) => char::from(*kind),
        Read::Unfit(_) => '-',
        Read::Error(_) => '!',
    };
    reads.iter().map(letter).collect()
}

fn events(reads: Vec<Read>) -> Vec<Result<Rendered, OutboxError>> {
    let event = |read| if let Read::Event(event) = read { Some(*event) } else { None };
    reads.into_iter().filter_map(event).collect()
}

/// How often the fuzzer's own finds are to be there at least: a corpus that is not found proves nothing.
const FILES_MIN: usize = 50;

fn replay(target: &str, files_min: usize, one: impl Fn(&[u8])) {
    let files = fs::read_dir(corpus(target)).unwrap().map(|file| file.unwrap().path());
    let replayed = files.map(|file| one(&fs::read(file).unwrap())).count();
    assert!(replayed >= files_min, "{replayed} files");
}

#[test]
fn nothing_that_was_ever_found_makes_the_path_panic() {
    replay("messages", FILES_MIN, |bytes| drop(messages(bytes)));
    replay("rows", FILES_MIN, |bytes| drop(row(bytes)));
    replay("templates", 8, |bytes| drop(template(bytes)));
}

#[test]
fn the_seeds_of_templates_give_records() {
    let seeds = ["raw", "path", "json", "array", "event"];
    for name in seeds {
        let given = template(&seed("templates", &format!("seed-{name}")));
        assert!(matches!(given, Some(Ok(_))), "{name}: {given:?}");
    }
}

#[test]
fn what_a_server_sent_is_read_message_by_message() {
    for (name, expected) in [
        ("real-rows-binary", "BYRECBEECBeC"),
        ("real-rows-text", "BYReCBeeCBeC"),
        ("real-changes-binary", "BRrCBUCBUCBRUCBDCBRYRTC"),
        ("real-changes-text", "BRrCBUCBUCBRUCBDCBRYRTC"),
        ("real-altered-binary", "BYRECBYRECBY-rCBYRrC"),
        ("real-altered-text", "BYReCBYReCBY-rCBYRrC"),
        ("real-types-binary", "B-rCB-rC"),
        ("real-types-text", "B-rCB-rC"),
        ("real-origin-binary", "MBORrMC"),
        ("real-origin-text", "MBORrMC"),
    ] {
        assert_eq!(letters(&messages(&seed("messages", name))), expected, "{name}");
    }
}

#[test]
fn a_servers_transactions_end_behind_their_commit() {
    let reads = messages(&seed("messages", "real-rows-binary"));
    let begins =
        reads.iter().filter_map(|read| if let Read::Begin(begin) = read { Some(begin) } else { None });
    let commits =
        reads.iter().filter_map(|read| if let Read::Commit(commit) = read { Some(commit) } else { None });
    let mut before = crate::lsn::Lsn::ZERO;
    for (begin, commit) in begins.zip(commits) {
        assert_eq!(begin.commit_lsn, commit.commit_lsn);
        assert!(begin.xid > 0 && begin.commit_time > 0, "{begin:?}");
        assert!(before <= commit.commit_lsn && commit.commit_lsn < commit.end_lsn, "{commit:?}");
        before = commit.end_lsn;
    }
}

#[test]
fn a_servers_rows_are_the_events_that_were_inserted() {
    let events = events(messages(&seed("messages", "real-rows-binary")));
    let [Ok(created), Ok(updated), Ok(removed), Err(infinite)] = &events[..] else { panic!("{events:?}") };
    let message = |rendered: &Rendered| PackageEvent::decode(rendered.value.as_deref().unwrap()).unwrap();
    let header = |rendered: &Rendered, name: &str| {
        let found =
            rendered.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.clone());
        found.map(|value| String::from_utf8(value).unwrap())
    };
    assert_eq!(header(created, "ce_id").as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
    let expected = PackageEvent {
        id: 1,
        package_id: 7,
        r#type: 0,
        created: Some(prost_types::Timestamp { seconds: CREATED_AT / 1_000_000, nanos: 6_000 }),
        payload: b"{\"ID\": 7}".to_vec(),
    };
    assert_eq!((message(created), header(created, "traceparent")), (expected, None));
    assert_eq!(header(updated, "ce_time").as_deref(), Some("1970-01-01T00:00:00.000000Z"));
    assert_eq!(
        String::from_utf8(message(updated).payload).unwrap(),
        "{\"Title\": \"ящик\", \"Updated\": null}"
    );
    assert_eq!(header(updated, "traceparent").unwrap().len(), 55);
    assert_eq!((message(removed).id, message(removed).payload), (3, Vec::new()));
    assert_eq!(header(removed, "traceparent").as_deref(), Some(""));
    assert!(infinite.to_string().contains("-1 is not in the range"), "{infinite}");
}

#[test]
fn a_captured_row_is_the_same_event_alone_as_in_its_stream() {
    let alone = (0..4).map(|number| row(&seed("rows", &format!("real-{number}-binary"))));
    let stream = events(messages(&seed("messages", "real-rows-binary")));
    assert_eq!(events(alone.collect()), stream);
}
