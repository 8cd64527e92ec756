//! Numbers as Avro has them; decimals and times of the day out of their text.

use prost::encoding::encode_varint;

use super::super::error::quoted;
use super::super::value::Reason;
use super::shape::{Decimal, Unit};

/// A number, zigzag and in as few bytes as it needs.
#[allow(clippy::cast_sign_loss)]
pub(super) fn long(number: i64, into: &mut Vec<u8>) {
    encode_varint(((number << 1) ^ (number >> 63)) as u64, into);
}

/// How many items the one block has; where there are none, there is no block. A zero ends the blocks.
pub(super) fn count(items: usize, into: &mut Vec<u8>) {
    if items > 0 {
        long(i64::try_from(items).unwrap_or(i64::MAX), into);
    }
}

/// Digits behind each other: the unscaled value of a decimal, and its sign.
struct Digits<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    /// A power of ten.
    exponent: i32,
}

impl<'a> Digits<'a> {
    /// As JSON and Postgres write numbers.
    fn parse(text: &'a str) -> Option<Self> {
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = !whole.is_empty() && are_digits(whole) && are_digits(fraction);
        let exponent = exponent.parse().ok().filter(|exponent| (-999..=999).contains(exponent));
        Some(Self { is_negative, whole, fraction, exponent: exponent.filter(|_| is_number)? })
    }

    /// The digit that is worth ten to the `power`.
    fn at(&self, power: i32) -> u8 {
        let power = power - self.exponent;
        let (text, index) = match usize::try_from(power) {
            Ok(power) => (self.whole, self.whole.len().checked_sub(power + 1)),
            Err(_) => (self.fraction, usize::try_from(-power - 1).ok()),
        };
        index.and_then(|index| text.as_bytes().get(index)).map_or(0, |digit| digit - b'0')
    }

    /// The highest power that may have a digit, and the lowest.
    fn powers(&self) -> (i32, i32) {
        let of = |text: &str| i32::try_from(text.len()).unwrap_or(i32::MAX / 2);
        (of(self.whole) - 1 + self.exponent, self.exponent - of(self.fraction))
    }
}

/// Appends the unscaled value of a decimal, big-endian and in two's complement; of a `fixed` in all its bytes, else in the
/// fewest. Digits that the scale has no room for must be zeros: nothing is rounded.
pub(super) fn decimal(text: &str, decimal: Decimal, into: &mut Vec<u8>) -> Result<(), Reason> {
    let Decimal { precision, scale, size } = decimal;
    let digits = Digits::parse(text).ok_or("expected a decimal number")?;
    let (highest, lowest) = digits.powers();
    let scale = i32::try_from(scale).unwrap_or(i32::MAX);
    if (lowest..-scale).any(|power| digits.at(power) != 0) {
        return Err(format!("{} has more than {scale} digits behind the point", quoted(text)).into());
    }
    let first = (-scale..=highest).rev().find(|power| digits.at(*power) != 0);
    let count = first.map_or(0, |first| usize::try_from(first + scale + 1).unwrap_or(usize::MAX));
    if count > precision {
        return Err(format!("{} has more than the {precision} digits of its precision", quoted(text)).into());
    }
    let start = into.len();
    into.push(0);
    for power in (-scale..=first.unwrap_or(-scale)).rev() {
        times_ten_plus(&mut into[start..], digits.at(power));
        if into[start] != 0 {
            // A byte in front for what comes next.
            into.insert(start, 0);
        }
    }
    if digits.is_negative {
        negate(&mut into[start..]);
    }
    fit(start, size, into)
}

/// A big-endian number times ten, plus a digit. It has room.
fn times_ten_plus(bytes: &mut [u8], digit: u8) {
    let mut carry = u16::from(digit);
    for byte in bytes.iter_mut().rev() {
        let [high, low] = (u16::from(*byte) * 10 + carry).to_be_bytes();
        *byte = low;
        carry = high.into();
    }
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        (*byte, carry) = (!*byte).overflowing_add(carry.into());
    }
}

/// To so many bytes, or as few as keep the sign.
fn fit(start: usize, size: Option<usize>, into: &mut Vec<u8>) -> Result<(), Reason> {
    let sign = if into[start] & 0x80 == 0 { 0 } else { 0xff };
    let needed = |bytes: &[u8]| bytes.len() == 1 || bytes[0] != sign || (bytes[1] ^ sign) & 0x80 != 0;
    let mut spare = 0;
    while !needed(&into[start + spare..]) {
        spare += 1;
    }
    into.drain(start..start + spare);
    let length = into.len() - start;
    let Some(size) = size else { return Ok(()) };
    let missing = size
        .checked_sub(length)
        .ok_or_else(|| format!("it needs {length} bytes, and the type has {size}"))?;
    into.splice(start..start, std::iter::repeat_n(sign, missing));
    Ok(())
}

/// `10:20:30.5`, as a number of such parts of a second; what is smaller is cut.
pub(super) fn time_of_day(text: &str, unit: Unit) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok().filter(|_| part.len() == 2));
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    let is_time = parts.next().is_none()
        && (0..24).contains(&hours)
        && (0..60).contains(&minutes)
        && (0..60).contains(&seconds);
    let fits = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_time || !fits {
        return None;
    }
    let nanos = (0..9).fold(0, |nanos, at| {
        nanos * 10 + fraction.as_bytes().get(at).map_or(0, |digit| i64::from(digit - b'0'))
    });
    let whole = (hours * 60 + minutes) * 60 + seconds;
    Some((whole * 1_000_000_000 + nanos) / nanos_of(unit))
}

/// How many nanoseconds one has.
pub(super) fn nanos_of(unit: Unit) -> i64 {
    match unit {
        Unit::Millis => 1_000_000,
        Unit::Micros => 1_000,
        Unit::Nanos => 1,
    }
}

/// A time in microseconds as a number of such parts of a second.
pub(super) fn timestamp(micros: i64, unit: Unit) -> Result<i64, Reason> {
    match unit {
        Unit::Millis => Ok(micros.div_euclid(1_000)),
        Unit::Micros => Ok(micros),
        Unit::Nanos => micros.checked_mul(1_000).ok_or_else(|| "a time that nanoseconds cannot hold".into()),
    }
}
