#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;

/// The messages as a walsender writes them.
mod wire {
    pub(super) fn begin(commit_lsn: u64, time: i64, xid: u32) -> Vec<u8> {
        [b"B".as_slice(), &commit_lsn.to_be_bytes(), &time.to_be_bytes(), &xid.to_be_bytes()].concat()
    }

    pub(super) fn commit(commit_lsn: u64, end_lsn: u64, time: i64) -> Vec<u8> {
        let fields = [commit_lsn.to_be_bytes(), end_lsn.to_be_bytes(), time.to_be_bytes()];
        [b"C\0".as_slice(), &fields.concat()].concat()
    }

    pub(super) fn relation(id: u32, namespace: &str, name: &str, columns: &[(&str, u32)]) -> Vec<u8> {
        let mut bytes = [b"R".as_slice(), &id.to_be_bytes()].concat();
        bytes.extend([namespace.as_bytes(), b"\0", name.as_bytes(), b"\0d"].concat());
        bytes.extend((columns.len() as u16).to_be_bytes());
        for (name, oid) in columns {
            bytes.extend([b"\0".as_slice(), name.as_bytes(), b"\0", &oid.to_be_bytes(), &[255; 4]].concat());
        }
        bytes
    }

    pub(super) fn insert(id: u32, values: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut bytes =
            [b"I".as_slice(), &id.to_be_bytes(), b"N", &(values.len() as u16).to_be_bytes()].concat();
        for value in values {
            match value {
                None => bytes.push(b'n'),
                Some(value) => {
                    bytes.push(b'b');
                    bytes.extend((value.len() as u32).to_be_bytes());
                    bytes.extend(value);
                }
            }
        }
        bytes
    }
}

fn logical(flags: u8, lsn: u64, prefix: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[b'M', flags], &lsn.to_be_bytes()[..], prefix, b"\0", &length, content].concat()
}

#[test]
fn a_logical_message_is_a_row_of_one_value() {
    let decode = |bytes: Vec<u8>| Decoder::default().decode(&bytes.into());
    for (flags, content) in [(1, b"{\"a\":1}".as_slice()), (0, b""), (1, b"\0\0")] {
        let decoded = decode(logical(flags, 0x10, b"outbox", content)).unwrap();
        let Message::Logical(message) = decoded else { panic!("{decoded:?}") };
        assert_eq!((message.is_transactional, message.lsn), (flags == 1, Lsn(0x10)));
        assert_eq!(message.prefix, b"outbox".as_slice());
        assert_eq!(message.content.iter().collect::<Vec<_>>(), [Datum::Binary(content)]);
        let mut places = Vec::new();
        message.content.detached().find(&mut places);
        assert_eq!(message.content.datum(&places[0]), Datum::Binary(content));
    }
    let whole = logical(1, 0x10, b"outbox", b"content");
    for length in 0..whole.len() {
        assert!(decode(whole[..length].to_vec()).is_err(), "{length}");
    }
    assert_eq!(decode([whole, vec![0]].concat()).unwrap_err(), DecodeError::Trailing(1));
}

#[test]
fn the_mark_of_a_content_is_no_kind_of_a_value() {
    let row = [b"I".as_slice(), &7_u32.to_be_bytes(), b"N", &1_u16.to_be_bytes(), &[0; 5]].concat();
    let refused = described(1).decode(&row.into()).unwrap_err();
    assert_eq!(refused, DecodeError::UnknownKind { what: "value", kind: 0 });
}

fn described(columns: usize) -> Decoder {
    let mut decoder = Decoder::default();
    let columns: Vec<_> = (0..columns).map(|_| ("c", 25)).collect();
    decoder.decode(&wire::relation(7, "public", "outbox", &columns).into()).unwrap();
    decoder
}

#[test]
fn begin_and_commit_give_the_transactions_bounds() {
    let mut decoder = Decoder::default();
    let Message::Begin(begin) = decoder.decode(&wire::begin(0x10, 5, 700).into()).unwrap() else { panic!() };
    assert_eq!(begin, Begin { commit_lsn: Lsn(0x10), commit_time: 5, xid: 700 });
    let Message::Commit(commit) = decoder.decode(&wire::commit(0x10, 0x40, 5).into()).unwrap() else {
        panic!()
    };
    assert_eq!(commit, Commit { commit_lsn: Lsn(0x10), end_lsn: Lsn(0x40) });
}

#[test]
fn a_relation_gives_its_columns_in_the_rows_order() {
    let bytes = wire::relation(7, "", "outbox", &[("id", 20), ("payload", 3802)]);
    let Message::Relation(relation) = Decoder::default().decode(&bytes.into()).unwrap() else { panic!() };
    assert_eq!((relation.namespace.as_str(), relation.name.as_str()), ("pg_catalog", "outbox"));
    assert_eq!(relation.columns[1], Column { name: "payload".into(), type_oid: 3802 });
}

#[test]
fn a_row_must_fit_the_table_that_was_described() {
    let row = Bytes::from(wire::insert(7, &[Some(b"x".to_vec())]));
    assert_eq!(Decoder::default().decode(&row).unwrap_err(), DecodeError::UnknownRelation(7));
    let error = described(2).decode(&row).unwrap_err();
    assert_eq!(error.to_string(), "a row of public.outbox has 1 columns, the table was described with 2");
}

#[test]
fn bytes_behind_a_message_are_an_error() {
    let mut bytes = wire::begin(1, 2, 3);
    bytes.push(0);
    assert_eq!(Decoder::default().decode(&bytes.into()).unwrap_err(), DecodeError::Trailing(1));
}

#[test]
fn messages_an_outbox_has_no_use_for_are_passed_over() {
    for kind in *b"UDTO" {
        assert!(
            matches!(Decoder::default().decode(&vec![kind].into()), Ok(Message::Ignored(seen)) if seen == kind)
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(
        kind in prop_oneof![Just(b'I'), Just(b'R'), Just(b'B'), Just(b'C'), any::<u8>()],
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let message = Bytes::from([vec![kind], bytes].concat());
        let _ = described(2).decode(&message);
    }

    #[test]
    fn a_row_is_read_back_value_by_value(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..12),
    ) {
        let bytes = Bytes::from(wire::insert(7, &values));
        let Message::Insert(insert) = described(values.len()).decode(&bytes).unwrap() else { panic!() };
        let read: Vec<_> = insert.row.iter().map(|datum| match datum {
            Datum::Binary(value) => Some(value.to_vec()),
            _ => None,
        }).collect();
        prop_assert_eq!(read, values);
    }

    #[test]
    fn a_row_cut_anywhere_is_an_error(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = wire::insert(7, &values);
        let cut = Bytes::copy_from_slice(&whole[..cut.index(whole.len())]);
        prop_assert!(described(values.len()).decode(&cut).is_err());
    }
}
