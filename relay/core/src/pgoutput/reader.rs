//! Checked reads from the front of a message.

use bytes::Bytes;

use super::DecodeError;
use crate::lsn::Lsn;

/// The part of a message that is not read yet. Integers are in network byte order.
pub(super) struct Reader<'a> {
    message: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a Bytes) -> Self {
        Self { message, rest: message }
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    pub(super) fn lsn(&mut self, what: &'static str) -> Result<Lsn, DecodeError> {
        self.array(what).map(u64::from_be_bytes).map(Lsn)
    }

    /// Text that a zero byte ends.
    pub(super) fn text(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(DecodeError::Truncated(what))?;
        let text = std::str::from_utf8(&self.rest[..end]).map_err(|_| DecodeError::NotText(what))?;
        self.rest = &self.rest[end + 1..];
        Ok(text.to_owned())
    }

    /// Bytes before a zero byte, as a view; the zero is what is read next.
    pub(super) fn until_zero(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(DecodeError::Truncated(what))?;
        let (bytes, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(self.message.slice_ref(bytes))
    }

    pub(super) fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// What is not read yet, as a view that outlives the reader.
    pub(super) fn view(&self) -> Bytes {
        self.message.slice_ref(self.rest)
    }

    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(*bytes)
    }
}
