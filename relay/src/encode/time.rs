//! RFC 3339 without an allocation or a format string to parse.

use chrono::{DateTime, Datelike, Timelike};

/// Appends `2026-11-24T03:35:28.000001Z` for microseconds since 1970-01-01 UTC.
///
/// A time beyond the calendar (above the year 262,000) is written as the epoch: Postgres has such times, an event's
/// `created_at` does not.
pub(crate) fn write_rfc3339(micros: i64, into: &mut Vec<u8>) {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    let year = u32::try_from(time.year()).unwrap_or_default();
    digits(year, 4, into);
    for (separator, number) in [
        (b'-', time.month()),
        (b'-', time.day()),
        (b'T', time.hour()),
        (b':', time.minute()),
        (b':', time.second()),
    ] {
        into.push(separator);
        digits(number, 2, into);
    }
    into.push(b'.');
    digits(time.nanosecond() / 1_000, 6, into);
    into.push(b'Z');
}

/// Appends a number with leading zeros.
fn digits(number: u32, width: usize, into: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number).as_bytes();
    into.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    into.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_the_calendar_library_writes(micros in 0i64..4_102_444_800_000_000) {
            let mut written = Vec::new();
            write_rfc3339(micros, &mut written);
            let expected = DateTime::from_timestamp_micros(micros).unwrap_or_default();
            prop_assert_eq!(
                String::from_utf8_lossy(&written).into_owned(),
                expected.to_rfc3339_opts(SecondsFormat::Micros, true)
            );
        }
    }
}
