//! The corpus again, without the fuzzer: what real servers sent is read as what it is, and nothing makes anything panic.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::event::Key;

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

fn events(reads: Vec<Read>) -> Vec<Result<OutboxEvent, OutboxError>> {
    let event = |read| if let Read::Event(event) = read { Some(*event) } else { None };
    reads.into_iter().filter_map(event).collect()
}

/// How often the fuzzer's own finds are to be there at least: a corpus that is not found proves nothing.
const FILES_MIN: usize = 50;

fn replay(target: &str, one: impl Fn(&[u8])) {
    let files = fs::read_dir(corpus(target)).unwrap().map(|file| file.unwrap().path());
    let replayed = files.map(|file| one(&fs::read(file).unwrap())).count();
    assert!(replayed >= FILES_MIN, "{replayed} files");
}

#[test]
fn nothing_that_was_ever_found_makes_the_path_panic() {
    replay("messages", |bytes| drop(messages(bytes)));
    replay("rows", |bytes| drop(row(bytes)));
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
        ("real-types-binary", "BRECBREC"),
        ("real-types-text", "BReCBReC"),
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
    let event_id = created.event_id.to_string();
    assert_eq!(
        (created.id, &created.key, event_id.as_str()),
        (1, &Key::Integer(7), "01234567-89ab-cdef-0123-456789abcdef")
    );
    assert_eq!((&created.kind[..], created.payload.as_deref()), (&b"Created"[..], Some(&b"{\"ID\": 7}"[..])));
    assert_eq!((created.created_at, &created.traceparent), (CREATED_AT, &None));
    let payload = String::from_utf8(updated.payload.as_ref().unwrap().to_vec()).unwrap();
    assert_eq!((updated.created_at, payload.as_str()), (0, "{\"Title\": \"ящик\", \"Updated\": null}"));
    assert_eq!(updated.traceparent.as_ref().unwrap().len(), 55);
    assert_eq!((removed.id, &removed.payload, removed.traceparent.as_deref()), (3, &None, Some(&b""[..])));
    assert!(infinite.to_string().contains("infinite"), "{infinite}");
}

#[test]
fn a_captured_row_is_the_same_event_alone_as_in_its_stream() {
    let alone = (0..4).map(|number| row(&seed("rows", &format!("real-{number}-binary"))));
    let stream = events(messages(&seed("messages", "real-rows-binary")));
    assert_eq!(events(alone.collect()), stream);
}
