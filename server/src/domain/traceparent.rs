//! The trace a request belongs to, as W3C Trace Context writes it.

/// A valid `traceparent`, such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
///
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent(String);

/// Version, trace id, parent id and flags: hex digits in each.
const DIGITS: [usize; 4] = [2, 32, 16, 2];
/// The digits and the dashes between them.
const LENGTH: usize = 55;

impl Traceparent {
    /// Reads a header; `None` where it is not valid, which the standard says to ignore.
    ///
    /// A version after 00 may carry more fields; those that 00 defines are kept.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let known = header.get(..LENGTH)?;
        let fields: Vec<&str> = known.split('-').collect();
        let shaped = fields.iter().map(|field| field.len()).eq(DIGITS);
        let hex =
            fields.iter().all(|field| field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        if !shaped || !hex || is_zero(fields[1]) || is_zero(fields[2]) {
            return None;
        }
        let rest = &header[LENGTH..];
        let complete = match fields[0] {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        complete.then(|| Self(known.to_owned()))
    }

    /// As it goes into the outbox.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_zero(field: &str) -> bool {
    field.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_header_is_kept_as_it_is() {
        assert_eq!(Traceparent::parse(VALID).as_ref().map(Traceparent::as_str), Some(VALID));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("{}-more", VALID.replacen("00", "cc", 1));
        assert_eq!(Traceparent::parse(&later).as_ref().map(Traceparent::as_str), Some(&later[..LENGTH]));
    }

    #[rstest]
    #[case::empty("")]
    #[case::short("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0")]
    #[case::more_than_version_00_has("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x")]
    #[case::forbidden_version("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case::upper_case("00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case::zero_trace("00-00000000000000000000000000000000-00f067aa0ba902b7-01")]
    #[case::zero_parent("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")]
    #[case::dash_moved("00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01")]
    #[case::not_ascii("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bж-01")]
    fn an_invalid_header_is_ignored(#[case] header: &str) {
        assert_eq!(Traceparent::parse(header), None);
    }
}
