//! A position in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A log sequence number: a byte position in the write-ahead log
/// ([PostgreSQL, `pg_lsn`](https://www.postgresql.org/docs/current/datatype-pg-lsn.html)).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// "Nowhere": as a start it means the slot's own position.
    pub const ZERO: Self = Self(0);

    /// Bytes of log from `earlier` to here; 0 when `earlier` is not earlier.
    #[must_use]
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not an LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an LSN: expected two hexadecimal numbers, as in 0/16B3748")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
        text.split_once('/')
            .and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_agree_with_postgres() {
        assert_eq!(Lsn(0x1_6B37_4800).to_string(), "1/6B374800");
        assert_eq!("16/B374D848".parse::<Lsn>().unwrap(), Lsn(0x16_B374_D848));
        assert!("16B374D848".parse::<Lsn>().is_err());
        assert!("1/123456789".parse::<Lsn>().is_err());
    }
}
