//! The time a client allows its call.

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

const HEADER: &str = "grpc-timeout";

/// "Timeout" of the gRPC protocol: at most 8 digits and a unit.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests>
const DIGITS_MAX: usize = 8;

/// How long the call may take, where its client says so.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    match value.to_str().ok().and_then(parse) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Status::invalid_argument("grpc-timeout: expected up to 8 digits and one of H M S m u n")),
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2H", Some(Duration::from_secs(7_200)))]
    #[case("1M", Some(Duration::from_secs(60)))]
    #[case("10S", Some(Duration::from_secs(10)))]
    #[case("250m", Some(Duration::from_millis(250)))]
    #[case("99999999u", Some(Duration::from_micros(99_999_999)))]
    #[case("0n", Some(Duration::ZERO))]
    #[case("", None)]
    #[case("S", None)]
    #[case("100", None)]
    #[case("123456789S", None)]
    #[case("-1S", None)]
    #[case("1 S", None)]
    #[case("1ß", None)]
    fn a_timeout_is_digits_and_a_unit(#[case] text: &str, #[case] expected: Option<Duration>) {
        assert_eq!(parse(text), expected);
    }
}
