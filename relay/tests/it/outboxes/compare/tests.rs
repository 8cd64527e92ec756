use std::time::Instant;

use harness::reader::Nulls;
use serde_json::{Value, json};

use super::*;

fn wanted(key: Value, value: Value, headers: Value) -> Record {
    let record = json!({"topic": "t", "key": key, "value": value, "headers": headers});
    serde_json::from_value(record).expect("a record")
}

fn plain(value: &str) -> Record {
    wanted(json!("k"), json!({"text": value}), json!({}))
}

fn got(value: &[u8], headers: &[(&str, &str)]) -> Received {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    Received {
        partition: 0,
        offset: 0,
        key: b"k".to_vec(),
        value: value.to_vec(),
        headers: headers.collect(),
        timestamp_ms: 5,
        arrived: Instant::now(),
        nulls: Nulls::default(),
    }
}

fn difference_of(expected: &[&Record], received: Vec<Received>) -> Option<String> {
    difference(expected, &[("t".to_owned(), received)])
}

#[test]
fn a_record_with_the_headers_of_the_log_is_as_expected() {
    let record = wanted(json!("k"), json!({"base64": "AP8="}), json!({"a": "1", "b": ""}));
    let received = got(b"\x00\xff", &[("wal-lsn", "0/1"), ("b", ""), ("wal-seq", "0"), ("a", "1")]);
    assert_eq!(difference_of(&[&record], vec![received]), None);
}

#[test]
fn the_order_within_a_topic_counts_and_that_between_topics_does_not() {
    let (one, two) = (plain("1"), plain("2"));
    let other = Record { topic: "u".to_owned(), ..plain("3") };
    let received = |values: [&str; 2]| {
        let of_t = values.map(|value| got(value.as_bytes(), &[])).to_vec();
        [("u".to_owned(), vec![got(b"3", &[])]), ("t".to_owned(), of_t)]
    };
    let expected = [&one, &other, &two];
    assert_eq!(difference(&expected, &received(["1", "2"])), None);
    let said = difference(&expected, &received(["2", "1"])).expect("the wrong order");
    assert!(said.contains("    - value: «1»\n    + value: «2»\n"), "{said}");
    assert!(
        said.contains("      key: «k»\n") && said.contains("u: 1 expected (-), 1 received (+)"),
        "{said}"
    );
}

#[test]
fn records_that_are_missing_or_too_many_are_shown() {
    let (one, two) = (plain("1"), plain("2"));
    let said = difference_of(&[&one, &two], vec![got(b"1", &[])]).expect("one is missing");
    assert!(said.contains("t: 2 expected (-), 1 received (+)\n  record 1: as expected"), "{said}");
    assert!(said.contains("  record 2:\n    - key: «k»\n    - value: «2»\n"), "{said}");
    let said = difference_of(&[], vec![got(b"1", &[])]).expect("one is too many");
    assert!(said.contains("    + timestamp_ms: 5\n    + value: «1»\n"), "{said}");
    assert_eq!(difference_of(&[], vec![]), None);
}

#[test]
fn null_is_not_empty_anywhere() {
    let null = |nulls| Received { nulls, key: Vec::new(), ..got(b"", &[("h", "")]) };
    let nulls = Nulls { key: true, value: true, headers: vec![0] };
    let record = wanted(Value::Null, Value::Null, json!({"h": null}));
    assert_eq!(difference_of(&[&record], vec![null(nulls)]), None);
    let said = difference_of(&[&record], vec![null(Nulls::default())]).expect("empty parts");
    for part in ["key", "value", "header h"] {
        assert!(said.contains(&format!("    - {part}: null\n    + {part}: «»\n")), "{said}");
    }
}

#[test]
fn json_is_compared_as_such_and_text_byte_by_byte() {
    let record = wanted(json!("k"), json!({"json": {"a": 1, "b": [null]}}), json!({}));
    assert_eq!(difference_of(&[&record], vec![got(b"{\"b\":[ null ],\"a\":1}", &[])]), None);
    for other in ["{\"a\":\"1\",\"b\":[null]}", "{", ""] {
        let said = difference_of(&[&record], vec![got(other.as_bytes(), &[])]).expect(other);
        assert!(said.contains("- value: JSON {\"a\":1,\"b\":[null]}"), "{said}");
    }
    assert!(difference_of(&[&plain("{\"a\": 1}")], vec![got(b"{\"a\":1}", &[])]).is_some());
}

#[test]
fn headers_are_a_whole_set() {
    let record = wanted(json!("k"), json!({"text": ""}), json!({"a": "1"}));
    for headers in [&[][..], &[("a", "2")], &[("a", "1"), ("b", "1")], &[("a", "1"), ("a", "1")]] {
        assert!(difference_of(&[&record], vec![got(b"", headers)]).is_some(), "{headers:?}");
    }
}

#[test]
fn a_time_counts_where_it_is_given() {
    let record = Record { timestamp_ms: Some(5), ..plain("1") };
    assert_eq!(difference_of(&[&record], vec![got(b"1", &[])]), None);
    let late = Record { timestamp_ms: Some(6), ..plain("1") };
    assert!(difference_of(&[&late], vec![got(b"1", &[])]).is_some());
}
