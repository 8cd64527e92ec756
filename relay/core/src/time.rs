//! RFC 3339 without an allocation or a format string to parse.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike};

/// 2000-01-01, where Postgres counts from, in microseconds since 1970-01-01.
pub const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// Microseconds since 1970-01-01 UTC for a time of the stream.
#[must_use]
pub fn from_postgres(stream_time: i64) -> i64 {
    stream_time.saturating_add(POSTGRES_EPOCH_US)
}

/// Appends `2026-11-24T03:35:28.000001Z` for microseconds since 1970-01-01 UTC.
///
/// An event's `created_at` is of the years 1 to 9999, which is what RFC 3339 has. Others are only shown, in dead letters: a
/// year of five digits, or one before 1 as astronomers count them (44 BC is -0043); what is beyond the calendar here, above
/// the year 262,000, as a number of seconds.
pub fn write_rfc3339(micros: i64, into: &mut Vec<u8>) {
    let Some(time) = DateTime::from_timestamp_micros(micros) else {
        into.extend_from_slice(format!("{} s since 1970", micros.div_euclid(1_000_000)).as_bytes());
        return;
    };
    if time.year() < 0 {
        into.push(b'-');
    }
    match time.year().unsigned_abs() {
        year @ ..=9_999 => {
            let mut four = [b'0'; 4];
            place(year, &mut four);
            into.extend_from_slice(&four);
        }
        year => into.extend_from_slice(itoa::Buffer::new().format(year).as_bytes()),
    }
    let mut rest = *b"-00-00T00:00:00.000000Z";
    place(time.month(), &mut rest[1..3]);
    place(time.day(), &mut rest[4..6]);
    place(time.hour(), &mut rest[7..9]);
    place(time.minute(), &mut rest[10..12]);
    place(time.second(), &mut rest[13..15]);
    place(time.nanosecond() / 1_000, &mut rest[16..22]);
    into.extend_from_slice(&rest);
}

/// Appends `2026-11-24` for a time of that day, microseconds since 1970-01-01 UTC.
pub fn write_date(micros: i64, into: &mut Vec<u8>) {
    let start = into.len();
    write_rfc3339(micros, into);
    let day = into[start..].iter().position(|byte| *byte == b'T').unwrap_or(into.len() - start);
    into.truncate(start + day);
}

/// Microseconds since 1970-01-01 UTC of a time of ISO 8601: with an offset, or without one in UTC, or a date.
#[must_use]
pub fn parse_iso_8601(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    Some(local.or_else(day)?.and_utc().timestamp_micros())
}

/// Writes a number over zeros.
#[inline]
fn place(mut number: u32, zeros: &mut [u8]) {
    for digit in zeros.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_the_calendar_library_writes(
            micros in prop_oneof![
                // The years 1 to 9999: what an event may have.
                -62_135_596_800_000_000i64..=253_402_300_799_999_999,
                0i64..4_102_444_800_000_000,
                Just(-62_135_596_800_000_000i64),
                Just(253_402_300_799_999_999i64),
                -1_000_000i64..1_000_000,
            ],
        ) {
            let mut written = Vec::new();
            write_rfc3339(micros, &mut written);
            prop_assert_eq!(written.len(), "2026-11-24T03:35:28.000001Z".len());
            let read = DateTime::parse_from_rfc3339(std::str::from_utf8(&written).unwrap_or_default());
            prop_assert_eq!(read.map(|time| time.timestamp_micros()), Ok(micros));
            let expected = DateTime::from_timestamp_micros(micros).unwrap_or_default();
            prop_assert_eq!(
                String::from_utf8_lossy(&written).into_owned(),
                expected.to_rfc3339_opts(SecondsFormat::Micros, true)
            );
        }
    }

    #[test]
    fn times_of_iso_8601_are_read_with_an_offset_and_without() {
        for text in ["2026-03-01T10:00:00.5Z", "2026-03-01T11:00:00.5+01:00", "2026-03-01 10:00:00.500000"] {
            assert_eq!(parse_iso_8601(text), Some(1_772_359_200_500_000), "{text}");
        }
        assert_eq!(parse_iso_8601("2026-03-01"), Some(1_772_323_200_000_000));
        for text in ["", "yesterday", "2026-13-01", "1772359200"] {
            assert_eq!(parse_iso_8601(text), None, "{text}");
        }
    }

    #[test]
    fn times_that_no_event_has_are_shown_all_the_same() {
        let shown = |micros| {
            let mut written = Vec::new();
            write_rfc3339(micros, &mut written);
            String::from_utf8_lossy(&written).into_owned()
        };
        assert_eq!(shown(253_402_300_800_000_000), "10000-01-01T00:00:00.000000Z");
        assert_eq!(shown(-63_517_824_000_000_000), "-0043-03-15T00:00:00.000000Z", "15 March 44 BC");
        assert_eq!(shown(i64::MAX), "9223372036854 s since 1970");
    }
}
