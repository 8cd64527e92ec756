use super::*;

/// A request as `version` writes it, with one batch of producer 7 that begins with sequence 3.
fn request(version: i16, acks: i16) -> Vec<u8> {
    let flexible = version >= FLEXIBLE;
    let mut out = Writer([&0_i16.to_be_bytes()[..], &version.to_be_bytes(), &42_i32.to_be_bytes()].concat());
    out.text(false, "client");
    out.tags(flexible);
    out.no_text(flexible);
    out.0.extend(acks.to_be_bytes());
    out.0.extend(30_000_i32.to_be_bytes());
    out.length(flexible, 1);
    if version >= BY_ID {
        out.0.extend([9; 16]);
    } else {
        out.text(flexible, "events");
    }
    out.length(flexible, 1);
    out.0.extend(2_i32.to_be_bytes());
    let batch =
        [&[0; PRODUCER_ID_AT][..], &7_i64.to_be_bytes(), &[0; 2], &3_i32.to_be_bytes(), &[0; 200]].concat();
    out.length(flexible, batch.len());
    out.0.extend(batch);
    for _ in 0..3 {
        out.tags(flexible);
    }
    out.0
}

#[test]
fn whose_request_it_is_is_read_in_every_version_that_kafka_takes() {
    for version in OLDEST..=BY_ID {
        let produce = Produce::parse(&request(version, -1)).expect("a Produce request");
        let topic = if version < BY_ID { Topic::Name("events".to_owned()) } else { Topic::Id([9; 16]) };
        let batch = Batch { partition: 2, producer: 7, sequence: 3 };
        assert_eq!(produce, Produce { version, correlation: 42, topics: vec![(topic, vec![batch])] });
    }
}

#[test]
fn what_is_not_a_produce_request_that_is_answered_is_none() {
    let mut other = request(9, -1);
    other[1] = 3;
    assert!(Produce::parse(&other).is_none(), "another API key");
    assert!(Produce::parse(&request(9, 0)).is_none(), "nobody waits for its answer");
    let whole = request(9, -1);
    for length in 0..whole.len() - 200 {
        assert!(Produce::parse(&whole[..length]).is_none(), "cut at {length}");
    }
}

#[test]
fn a_refusal_is_as_long_as_its_version_says() {
    let length = |version| Produce::parse(&request(version, -1)).expect("a request").refused(6).len();
    // Correlation id, one topic, one partition with code, offset and time; then what later versions add.
    assert_eq!(length(3), 4 + 4 + (2 + 6) + 4 + (4 + 2 + 8 + 8) + 4);
    assert_eq!(length(5), length(3) + 8);
    assert_eq!(length(8), length(5) + 4 + 2);
    // Three lengths shrink to a byte, two texts too, and four structures have no tagged fields.
    assert_eq!(length(9), length(8) - 3 * 3 - 2 + 4);
    assert_eq!(length(13), length(9) - 7 + 16);
}
